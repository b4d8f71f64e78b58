"""Which GPU each of several processes sees: torch is not asked, for it costs seconds and 300 MB where it is not needed."""

import logging
import os
import shutil
import subprocess
from itertools import takewhile

from streamer.settings import ProcessingSettings

log = logging.getLogger(__name__)

ASK_SECONDS = 20.0  # of nvidia-smi, where a driver has to wake up first


def gpus() -> list[str]:
    """Names of the GPUs that a process here may use, as ``CUDA_VISIBLE_DEVICES`` has them."""
    if (visible := os.environ.get("CUDA_VISIBLE_DEVICES")) is not None:
        names = [part.strip() for part in visible.split(",")]
        return list(
            takewhile(lambda name: name and not name.startswith("-"), names)
        )  # as CUDA reads it: -1 hides the rest
    program = shutil.which("nvidia-smi")
    if program is None:
        return []
    try:
        told = subprocess.run([program, "-L"], capture_output=True, text=True, timeout=ASK_SECONDS, check=True).stdout
    except (OSError, subprocess.SubprocessError):
        return []
    return [str(k) for k in range(sum(line.startswith("GPU ") for line in told.splitlines()))]


def gpu_of_each(settings: ProcessingSettings, count: int) -> list[str]:
    """The GPU of each of `count` workers, in turn; none where the model wants none, or there is none."""
    there = gpus() if settings.device in ("auto", "cuda") else []
    if not there:
        return []
    from models.bundle import read
    from streamer.workers import kind_of_worker

    if kind_of_worker(settings, read(settings.model).card["kind"]) == "tree":
        return []
    if count > len(there):
        log.warning("%d workers share %d GPUs: one process a GPU is enough for it", count, len(there))
    return [there[k % len(there)] for k in range(count)]
