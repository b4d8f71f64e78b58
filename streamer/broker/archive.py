"""Java's start-up archive: Kafka's classes, loaded and linked ahead of time. It halves the time of a broker's start.

Java writes it at the end of one run (the rehearsal) and maps it in later ones. It fits one build of Java and one class
path, whose digest names it; Java itself checks both again, and starts slowly rather than wrongly if they do not fit.
"""

import hashlib
import logging
import os
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from streamer.broker.cache import cache_dir, locked
from streamer.broker.runtime import Runtime

log = logging.getLogger(__name__)

_AOT_SINCE = 25  # a cache in one step (JEP 514); before, the dynamic class archive of JEP 350, which holds less
_UNUSED_S = 60 * 86400.0


def with_archive(runtime: Runtime, rehearse: Callable[[Runtime], None]) -> Runtime:
    """The runtime with its archive, which is made first if it is not there.

    Parameters
    ----------
    runtime
        A runtime without start-up flags.
    rehearse
        Starts a broker with the given runtime, uses it, and stops it in peace. It may raise: a broker without an
        archive is slower, not worse.

    Returns
    -------
    Runtime
        Without an archive if another process is making it at this moment, or if it cannot be made here.
    """
    path = _path_of(runtime)
    try:
        if not path.exists():
            with locked(path.with_suffix(".lock"), wait=False) as ours:
                if ours and not path.exists():
                    _make(path, runtime, rehearse)
    except OSError as error:
        log.warning("No start-up archive for Kafka can be kept in %s: %s", path.parent, error)
    if path.exists() and path.stat().st_size > 0:
        with suppress(OSError):  # a cache that was filled for us, in an image, may not be ours to write
            os.utime(path)  # in use: see _forget_unused
        return runtime.starting_with(*_reading(runtime, path))
    return runtime


def exists_for(runtime: Runtime) -> bool:
    """Whether a rehearsal has been held for this runtime."""
    return _path_of(runtime).exists()


def _make(path: Path, runtime: Runtime, rehearse: Callable[[Runtime], None]) -> None:
    for stale in path.parent.glob(f".{path.stem}.*"):  # we hold the lock: nobody else writes these
        stale.unlink(missing_ok=True)
    _forget_unused(path.parent)
    part = path.with_name(f".{path.stem}.{os.getpid()}.part")
    try:
        rehearse(runtime.starting_with(*_writing(runtime, part)))
    except Exception as error:
        log.warning("No start-up archive for Kafka, so it starts in 3 s instead of 1.5: %s", error)
        part.unlink(missing_ok=True)
        return
    if not part.exists():
        # The rehearsal went well and this Java wrote nothing: it cannot. An empty archive says so: nobody tries again.
        log.warning("%s writes no start-up archive, so Kafka starts in 3 s instead of 1.5", runtime.java.path)
        part.touch()
    os.replace(part, path)


def _forget_unused(folder: Path) -> None:
    """Remove the archives of environments that are gone: 70 MB each."""
    for archive in folder.glob("*.archive"):
        if time.time() - archive.stat().st_mtime > _UNUSED_S:
            archive.unlink(missing_ok=True)


def _path_of(runtime: Runtime) -> Path:
    digest = hashlib.sha256(f"{runtime.java.build}\n{runtime.java.path}\n{runtime.class_path}".encode()).hexdigest()
    return cache_dir() / "kafka" / f"java{runtime.java.major}-{digest[:16]}.archive"


def _writing(runtime: Runtime, path: Path) -> tuple[str, ...]:
    if runtime.java.major >= _AOT_SINCE:
        return (f"-XX:AOTCacheOutput={path}",)
    return (f"-XX:ArchiveClassesAtExit={path}",)


def _reading(runtime: Runtime, path: Path) -> tuple[str, ...]:
    if runtime.java.major >= _AOT_SINCE:
        return (f"-XX:AOTCache={path}", "-Xlog:aot*=off", "-Xlog:cds*=off")
    return (f"-XX:SharedArchiveFile={path}", "-Xlog:cds*=off")
