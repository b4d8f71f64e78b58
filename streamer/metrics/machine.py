"""What the machine grants this process: memory by its cgroup, memory of GPUs."""

import sys
from collections.abc import Iterator
from pathlib import Path

CGROUPS = Path("/sys/fs/cgroup")
OWN = Path("/proc/self/cgroup")
NO_LIMIT = 1 << 60  # version 1 says so with a number as large


def memory_limit(cgroups: Path = CGROUPS, own: Path = OWN) -> int | None:
    """Bytes that this process and those in its group may use; the least of all groups above it. None = no limit."""
    found = []
    try:
        lines = own.read_text().splitlines()
    except OSError:
        return None
    for line in lines:
        _, controllers, path = line.split(":", 2)
        if controllers not in ("", "memory"):
            continue
        root = cgroups / "memory" if controllers else cgroups
        name = "memory.limit_in_bytes" if controllers else "memory.max"
        at = root / path.lstrip("/")
        for folder in (at, *at.parents):
            if folder == root.parent:
                break
            try:
                found.append(int((folder / name).read_text()))
            except (OSError, ValueError):  # not there (in a container the path is the host's), or "max"
                continue
    limits = [limit for limit in found if limit < NO_LIMIT]
    return min(limits, default=None)


def gpu_memory() -> Iterator[tuple[str, int, int]]:
    """(index, bytes in use by anybody, bytes there are) of each GPU on which this process has tensors.

    Nothing is loaded for it, and no GPU is touched that is not in use already.
    """
    torch = sys.modules.get("torch")
    if torch is None or not torch.cuda.is_initialized():
        return
    for index in range(torch.cuda.device_count()):
        if torch.cuda.memory_reserved(index):
            free, total = torch.cuda.mem_get_info(index)
            yield str(index), total - free, total
