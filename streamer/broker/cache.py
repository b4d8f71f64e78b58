"""The folder in which slipher keeps what it downloaded or computed once, and the lock under which it is filled."""

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


def cache_dir() -> Path:
    """The cache folder: ``$SLIPHER_CACHE``, ``$XDG_CACHE_HOME/slipher`` or ``~/.cache/slipher``. It may be missing."""
    if own := os.environ.get("SLIPHER_CACHE"):
        return Path(own).expanduser().absolute()
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(base).absolute() / "slipher"


@contextmanager
def locked(path: Path, *, wait: bool = True) -> Iterator[bool]:
    """Hold an exclusive lock between processes; it is released when the holder dies, however it dies.

    Parameters
    ----------
    path
        The lock file. It is created, and stays: removing a lock file under another process's feet is a race.
    wait
        Wait for the lock. Without it, the block runs at once and is told whether it holds the lock.

    Yields
    ------
    bool
        Whether the lock is held. On a file system that cannot lock (some network homes) it is True: everything written
        under this lock is also renamed into place in one step, so that the worst is work done twice.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with open(path, "ab") as handle:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
        except BlockingIOError:
            yield False
            return
        except OSError:
            pass
        yield True


def write_atomically(path: Path, text: str) -> None:
    """Write a small file so that a reader sees the old text or the new, never a part."""
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f".{path.name}.{os.getpid()}.part")
    part.write_text(text, encoding="utf-8")
    os.replace(part, path)
