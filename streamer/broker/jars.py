"""What comes from Maven Central: listed in a lock with size and SHA-256, downloaded once, verified before it gets its name.

``python -m streamer.broker.jars lock KAFKA LOG4J`` writes the lock anew (maintainers; needs jgo and the network).
"""

import hashlib
import http.client
import json
import os
import sys
import tempfile
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Sequence
from concurrent.futures import FIRST_EXCEPTION, ThreadPoolExecutor, wait
from pathlib import Path
from typing import Any, NamedTuple

from schemas.errors import TroubleError, UserError
from streamer.broker.cache import cache_dir, locked, write_atomically

Progress = Callable[[int, int], None]  # bytes done, bytes in all

LOCK = Path(__file__).with_name("kafka.lock.json")

_THREADS = 8
_TRIES = 4
_FIRST_BACKOFF_S = 0.5  # then doubled: a hiccup of 3 s is survived, and a laptop without a network hears of it soon
_TIMEOUT_S = 30.0
_STALE_S = 3600.0  # a .part file older than this belongs to nobody
_JAR_MTIME = 315_532_800  # 1980-01-01: Java's start-up archive trusts a jar only while its mtime stays the same
_FINAL_STATUS = frozenset({400, 401, 403, 404, 405, 410})  # asking again would not change the answer


class Jar(NamedTuple):
    """One locked file, a jar unless its coordinate says otherwise."""

    coordinate: str  # group:artifact:version, or group:artifact:packaging:classifier:version
    size: int  # bytes
    sha256: str  # hexadecimal

    @property
    def url_path(self) -> str:
        """Where a Maven repository keeps it, relative to the repository's address."""
        group, artifact, *_, version = self.coordinate.split(":")
        return f"{group.replace('.', '/')}/{artifact}/{version}/{self._name()}"

    @property
    def file_name(self) -> str:
        """Its name in the cache; the hash in it keeps jars of two locks apart."""
        return self._name(f"-{self.sha256[:12]}")

    def _name(self, mark: str = "") -> str:
        _, artifact, *kind, version = self.coordinate.split(":")
        packaging, classifier = kind if kind else ("jar", "")
        return f"{artifact}-{version}{'-' * bool(classifier)}{classifier}{mark}.{packaging}"


class Lock(NamedTuple):
    """The jars of one Kafka version, and a digest that names exactly this set."""

    kafka: str
    jars: tuple[Jar, ...]
    digest: str


def read_lock(path: Path = LOCK) -> Lock:
    """Read the lock file of Kafka."""
    text = path.read_bytes()
    return Lock(json.loads(text)["kafka"], locked_files(path), hashlib.sha256(text).hexdigest()[:16])


def locked_files(path: Path) -> tuple[Jar, ...]:
    """What a lock file lists."""
    entries = json.loads(path.read_bytes())["jars"]
    return tuple(Jar(entry["coordinate"], entry["size"], entry["sha256"]) for entry in entries)


def fetch(
    jars: Sequence[Jar] | None = None,
    folder: Path | None = None,
    base_url: str | None = None,
    progress: Progress | None = None,
    what: str = "Kafka's jars",
    instead: str = "With `--brokers HOST:PORT` a Kafka of your own is used, and nothing is downloaded.",
) -> list[Path]:
    """Make sure that all jars lie in the folder; download those that do not.

    Several processes may call this at once: one downloads, the others wait and find everything there. It may be
    interrupted at any point: a jar has its name only once its size and hash are right.

    Parameters
    ----------
    jars
        What to fetch; the lock's jars by default.
    folder
        Where to keep them; ``<cache>/jars`` by default.
    base_url
        A Maven repository; ``$SLIPHER_MAVEN_URL`` or Maven Central by default.
    progress
        Called with (bytes done, bytes in all) while something is downloaded, from any thread, one call at a time.
    what, instead
        For the error: what this is, and how to do without.

    Returns
    -------
    list of Path
        One path a jar, in the order of `jars`.

    Raises
    ------
    TroubleError
        If a jar cannot be had, after retries.
    """
    jars = read_lock().jars if jars is None else jars
    folder = cache_dir() / "jars" if folder is None else folder
    paths = [folder / jar.file_name for jar in jars]
    if _missing(jars, folder):
        with locked(folder / ".lock"):
            _sweep(folder)
            if missing := _missing(jars, folder):  # else another process was at it while we waited
                _download(missing, folder, base_url or _repository(), progress, what, instead)
    return paths


def class_path(progress: Progress | None = None) -> str:
    """The class path of a Kafka broker, its jars downloaded if need be."""
    return os.pathsep.join(str(path) for path in fetch(progress=progress))


def _missing(jars: Sequence[Jar], folder: Path) -> list[Jar]:
    def there(jar: Jar) -> bool:
        try:
            return (folder / jar.file_name).stat().st_size == jar.size
        except FileNotFoundError:
            return False

    return [jar for jar in jars if not there(jar)]


def _sweep(folder: Path) -> None:
    """Remove what an interrupted download left behind, but not what a running one is writing."""
    for part in folder.glob("*.part"):
        try:
            if time.time() - part.stat().st_mtime > _STALE_S:
                part.unlink()
        except FileNotFoundError:
            continue


def _repository() -> str:
    if own := os.environ.get("SLIPHER_MAVEN_URL"):
        return own
    try:
        from jgo.constants import MAVEN_CENTRAL_URL
    except ImportError as error:
        raise UserError(
            "The embedded Kafka needs jgo, which is not installed: `pip install 'slipher[broker]'`; "
            "or give the address of a Maven repository in SLIPHER_MAVEN_URL."
        ) from error
    return str(MAVEN_CENTRAL_URL)


class _Meter:
    """Adds up the bytes of all threads; a jar that starts over takes its bytes back."""

    def __init__(self, jars: Sequence[Jar], progress: Progress | None) -> None:
        self._total = sum(jar.size for jar in jars)
        self._done: dict[Jar, int] = {}
        self._progress = progress
        self._lock = threading.Lock()

    def update(self, jar: Jar, done: int) -> None:
        if self._progress is not None:
            with self._lock:
                self._done[jar] = done
                self._progress(sum(self._done.values()), self._total)


def _download(
    jars: Sequence[Jar], folder: Path, base_url: str, progress: Progress | None, what: str, instead: str
) -> None:
    meter, given_up = _Meter(jars, progress), threading.Event()
    pool = ThreadPoolExecutor(_THREADS, thread_name_prefix="jars")
    try:
        futures = [pool.submit(_download_one, jar, folder, base_url, meter, given_up) for jar in jars]
        wait(futures, return_when=FIRST_EXCEPTION)
        failures = [future.exception() for future in futures if future.done()]
    finally:
        given_up.set()  # a thread in its back-off or between two chunks stops: also after Ctrl-C in `wait`
        pool.shutdown(wait=True, cancel_futures=True)
    for failure in failures:
        why = failure.reason if isinstance(failure, urllib.error.URLError) else failure
        if isinstance(failure, _Bad | OSError | http.client.HTTPException):
            megabytes = sum(jar.size for jar in jars) / 1e6
            raise TroubleError(
                f"{what} ({len(jars)} files, {megabytes:.1f} MB) could not be downloaded into {folder}: {why}."
                " Check the network, or set SLIPHER_MAVEN_URL to a mirror of Maven Central, and try again: what has "
                f"arrived is kept. {instead}"
            ) from failure
        if failure is not None:
            raise failure


class _Bad(Exception):
    """The bytes that came are not the locked ones."""


def _download_one(jar: Jar, folder: Path, base_url: str, meter: _Meter, given_up: threading.Event) -> None:
    for attempt in range(_TRIES):
        if given_up.is_set():
            return
        try:
            _try_once(jar, folder, f"{base_url.rstrip('/')}/{jar.url_path}", meter, given_up)
            return
        except urllib.error.HTTPError as error:
            error.close()
            if attempt == _TRIES - 1 or error.code in _FINAL_STATUS:
                raise _Bad(f"{jar.coordinate}: the server answered {error.code} {error.reason}") from error
        except (_Bad, OSError, http.client.HTTPException):
            if attempt == _TRIES - 1:
                raise
        given_up.wait(_FIRST_BACKOFF_S * 2**attempt)


def _try_once(jar: Jar, folder: Path, url: str, meter: _Meter, given_up: threading.Event) -> None:
    handle, name = tempfile.mkstemp(dir=folder, suffix=".part")
    digest, done = hashlib.sha256(), 0
    try:
        with os.fdopen(handle, "wb") as out, urllib.request.urlopen(url, timeout=_TIMEOUT_S) as response:
            while done <= jar.size and (chunk := response.read(1 << 16)):
                if given_up.is_set():
                    return
                out.write(chunk)
                digest.update(chunk)
                done += len(chunk)
                meter.update(jar, min(done, jar.size))
            out.flush()
            os.fsync(out.fileno())  # a name must not outlive a power cut that its bytes did not
        if done != jar.size:
            raise _Bad(f"{jar.coordinate}: {done} bytes came, the lock says {jar.size}")
        if digest.hexdigest() != jar.sha256:
            raise _Bad(f"{jar.coordinate}: its SHA-256 is not the locked one")
        os.utime(name, (_JAR_MTIME, _JAR_MTIME))
        os.chmod(name, 0o444)
        os.replace(name, folder / jar.file_name)
    finally:
        Path(name).unlink(missing_ok=True)


def write_lock(kafka: str, log4j: str, path: Path = LOCK) -> None:
    """Resolve the jars of a Kafka broker and its logging, and write the lock.

    Parameters
    ----------
    kafka, log4j
        Versions of ``kafka_2.13`` and ``log4j-slf4j-impl``.
    path
        The lock file to write.
    """
    from dataclasses import replace

    from jgo.maven import MavenContext
    from jgo.parse import Endpoint

    context = MavenContext(timeout=60)
    found: dict[tuple[str, str], Any] = {}
    # Each root is resolved alone: together, a parent POM of log4j pins kafka-clients to 3.9.1. The first root wins.
    for root in (f"org.apache.kafka:kafka_2.13:{kafka}", f"org.apache.logging.log4j:log4j-slf4j-impl:{log4j}"):
        wanted = [context.create_dependency(replace(c, scope="compile")) for c in Endpoint.parse(root).coordinates]
        roots, further = context.resolver.resolve(wanted)
        for dependency in [*roots, *(d for d in further if d.scope in ("compile", "runtime"))]:
            artifact = dependency.artifact
            found.setdefault((artifact.groupId, artifact.artifactId), artifact)

    entries = []
    for artifact in sorted(found.values(), key=str):
        content = Path(artifact.resolve()).read_bytes()
        coordinate = f"{artifact.groupId}:{artifact.artifactId}:{artifact.version}"
        jar = Jar(coordinate, len(content), hashlib.sha256(content).hexdigest())
        # jgo only warns of a bad checksum and trusts a truncated file, so ask the repository for its own.
        with urllib.request.urlopen(f"{_repository()}/{jar.url_path}.sha1", timeout=_TIMEOUT_S) as response:
            published = response.read().decode().split()[0]
        if hashlib.sha1(content).hexdigest() != published:
            raise UserError(
                f"{coordinate}: jgo's copy differs from the repository's; delete it from jgo's cache and repeat."
            )
        entries.append(json.dumps(jar._asdict()))
    jars = ",\n".join(f"    {entry}" for entry in entries)
    write_atomically(path, f'{{\n  "kafka": "{kafka}",\n  "log4j": "{log4j}",\n  "jars": [\n{jars}\n  ]\n}}\n')


if __name__ == "__main__":
    if len(sys.argv) != 4 or sys.argv[1] != "lock":
        sys.exit("usage: python -m streamer.broker.jars lock KAFKA LOG4J")
    write_lock(sys.argv[2], sys.argv[3])
