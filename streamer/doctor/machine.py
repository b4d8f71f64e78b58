"""This machine: processor, compiled kernels, memory, open files, its clock, a GPU."""

import ctypes
import importlib.util
import os
import resource
import sys
from pathlib import Path

from streamer.doctor.finding import Finding, note, ok, skipped, wrong

WORKER_BYTES = 1.0e9  # at the most, of one worker: docs/benchmarks.md
FILES = 256  # a worker holds some fifty: connections, tables, logs
_UNSYNCHRONISED = 5  # what adjtimex returns then
_CGROUP = (Path("/sys/fs/cgroup/memory.max"), Path("/sys/fs/cgroup/memory/memory.limit_in_bytes"))


def look(workers: int) -> list[Finding]:
    """Look at this machine, on which `workers` workers shall run."""
    return [processor(workers), kernels(), memory(workers), open_files(), own_clock(), gpu()]


def processor(workers: int, cpuinfo: Path = Path("/proc/cpuinfo")) -> Finding:
    """Cores and vector instructions."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    try:
        line = next(line for line in cpuinfo.read_text().splitlines() if line.startswith(("flags", "Features")))
        flags = set(line.partition(":")[2].split())
    except (OSError, StopIteration):
        flags = set()
    if "avx512f" in flags:
        vectors = "AVX-512"
    elif "avx2" in flags:
        vectors = "AVX2"
    else:
        vectors = "vectors of this processor are not known" if not flags else "no AVX2"
    text = f"{cores} cores, {vectors}"
    if workers > cores:
        return note("processor", f"{text}, for {workers} workers", "More workers than cores do not help: --workers.")
    if flags and "avx2" not in flags and "asimd" not in flags:
        return note("processor", text, "A run goes, some times slower than the figures of docs/benchmarks.md.")
    return ok("processor", text)


def kernels() -> Finding:
    """Whether compiled kernels are there, or can be kept."""
    import models

    house = Path(next(iter(models.__path__)))
    given = os.environ.get("NUMBA_CACHE_DIR")
    folder = Path(given) if given else house / "forest" / "__pycache__"
    if any(folder.rglob("*.nbi")):
        return ok("kernels", f"compiled ones are in {folder if given else house}")
    place = next(some for some in (folder, *folder.absolute().parents) if some.exists())
    user = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    user = next(some for some in (user, *user.absolute().parents) if some.exists())
    if os.access(place, os.W_OK) or (not given and os.access(user, os.W_OK)):
        return ok("kernels", "none are compiled yet: the first batch takes some seconds longer")
    mend = "Set NUMBA_CACHE_DIR to a folder that can be written, or that holds them."
    return note("kernels", f"they cannot be kept in {folder}: each start compiles them anew", mend)


def memory(workers: int, limits: tuple[Path, ...] = _CGROUP, meminfo: Path = Path("/proc/meminfo")) -> Finding:
    """What this process and its like may use: the container's limit, or what the machine has left."""
    found = []
    for path in limits:
        try:
            if (text := path.read_text().strip()) != "max":
                found.append((int(text), "the container's limit"))
        except (OSError, ValueError):
            continue
    try:
        line = next(line for line in meminfo.read_text().splitlines() if line.startswith("MemAvailable"))
        found.append((int(line.split()[1]) * 1024, "what the machine has left"))
    except (OSError, StopIteration):
        pass
    if not found:
        return skipped("memory", "this system does not say")
    size, which = min(found)
    text = f"{size / 1e9:.1f} GB, {which}; a worker takes up to {WORKER_BYTES / 1e9:.0f} GB"
    if size < workers * WORKER_BYTES / 2:
        return wrong(
            "memory", text, "Raise the limit, or run fewer --workers: a worker that is killed for memory starts anew."
        )
    if size < workers * WORKER_BYTES:
        return note("memory", text, "It may be tight at a backlog.")
    return ok("memory", text)


def open_files(limit: int | None = None) -> Finding:
    """The limit of open files."""
    soft = resource.getrlimit(resource.RLIMIT_NOFILE)[0] if limit is None else limit
    if soft == resource.RLIM_INFINITY:
        return ok("open files", "no limit")
    if soft < FILES:
        return wrong("open files", f"at most {soft}", f"Raise it to {FILES} at least: `ulimit -n {4 * FILES}`.")
    return ok("open files", f"at most {soft:,}")


def own_clock(answer: int | None = None) -> Finding:
    """Whether the kernel holds its clock for synchronised."""
    if answer is None:
        if not sys.platform.startswith("linux"):
            return skipped("own clock", "only Linux says whether it is synchronised")
        try:
            answer = ctypes.CDLL(None).adjtimex(ctypes.create_string_buffer(512))  # all zeros: only asks
        except (OSError, AttributeError):
            answer = -1
    if answer < 0:
        return skipped("own clock", "the kernel may not be asked here")
    if answer == _UNSYNCHRONISED:
        return note(
            "own clock", "not synchronised, says the kernel", "Start an NTP client (chrony, systemd-timesyncd)."
        )
    return ok("own clock", "synchronised, says the kernel")


def gpu() -> Finding:
    """A GPU, where torch is there to use it: only image networks do."""
    if importlib.util.find_spec("torch") is None:
        return skipped("GPU", "torch is not installed; only image networks want it")
    import torch

    if not torch.cuda.is_available():
        return note("GPU", f"none that torch {torch.__version__} can use", "Image networks run on the processor.")
    about = torch.cuda.get_device_properties(0)
    return ok("GPU", f"{about.name}, {about.total_memory / 1e9:.0f} GB, torch {torch.__version__}")
