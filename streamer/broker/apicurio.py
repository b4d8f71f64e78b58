"""A real schema registry on 127.0.0.1, for tests and demos: Apicurio as a child process, empty, gone when it is stopped.

It speaks Confluent's API, which is what slipher and most producers speak. A registry that keeps anything is run by whoever
runs the Kafka.
"""

import os
import shutil
import signal
import subprocess
import tarfile
import tempfile
import time
import urllib.error
import urllib.request
from pathlib import Path
from types import TracebackType
from typing import Self

from schemas.errors import TroubleError, UserError
from streamer.broker.cache import cache_dir, locked
from streamer.broker.homes import TemporaryHome, temporary_home
from streamer.broker.jars import Progress, fetch, locked_files
from streamer.broker.java import find_java
from streamer.broker.process import spawn
from streamer.broker.settings import HOST, free_ports

LOCK = Path(__file__).with_name("apicurio.lock.json")
OLDEST_JAVA = 21

_FLAGS = ("-Xmx384m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1")
_START_TIMEOUT_S = 60.0  # 4 s; the rest is for a busy machine
_STOP_TIMEOUT_S = 10.0
_POLL_S = 0.05


def unpacked(progress: Progress | None = None) -> Path:
    """The folder of Apicurio, downloaded (159 MB) and unpacked the first time.

    Raises
    ------
    TroubleError
        If it cannot be had.
    """
    (archive,) = locked_files(LOCK)
    folder = cache_dir() / "apicurio" / archive.sha256[:16]
    if not folder.exists():
        with locked(folder.with_suffix(".lock")):
            if not folder.exists():
                _unpack(folder, progress)
    return folder


class SchemaRegistry:
    """An Apicurio in a process of its own, with nothing in it; it dies with this process.

    Notes
    -----
    ``with SchemaRegistry() as registry:`` yields one that answers at ``registry.url``.
    """

    def __init__(self) -> None:
        self.port, self._management_port = free_ports(2)
        self._process: subprocess.Popen[bytes] | None = None
        self._home: TemporaryHome | None = None

    @property
    def url(self) -> str:
        """The address of Confluent's API, for clients."""
        return f"http://{HOST}:{self.port}/apis/ccompat/v7"

    def __enter__(self) -> Self:
        try:
            self._launch(unpacked())
            self._wait_for_answer(time.monotonic() + _START_TIMEOUT_S)
        except BaseException:
            self.stop()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def stop(self) -> None:
        """End it, and delete what it had."""
        if self._process is not None:
            self._process.terminate()
            try:
                self._process.wait(_STOP_TIMEOUT_S)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()
            self._process = None
        if self._home is not None:
            self._home.remove()
            self._home = None

    def _launch(self, folder: Path) -> None:
        java = find_java()
        if java.major < OLDEST_JAVA:
            raise UserError(f"Apicurio needs Java {OLDEST_JAVA} or newer, and {java.path} is Java {java.major}.")
        self._home = temporary_home()
        settings = {
            "quarkus.http.host": HOST,
            "quarkus.http.port": self.port,
            "quarkus.management.host": HOST,  # else it listens to the world
            "quarkus.management.port": self._management_port,
            "quarkus.log.level": "WARN",
        }
        properties = [f"-D{key}={value}" for key, value in settings.items()]
        command = [str(java.path), *_FLAGS, *properties, "-jar", str(folder / "quarkus-run.jar")]
        with open(self._home.path / "registry.log", "ab") as out:
            try:
                self._process = spawn(command, out, self._home.path, signal.SIGKILL)
            except OSError as error:
                raise TroubleError(f"Java could not be started: {error}") from error

    def _wait_for_answer(self, deadline: float) -> None:
        while True:
            try:
                urllib.request.urlopen(f"{self.url}/subjects", timeout=1.0).close()
            except (OSError, urllib.error.URLError):
                if self._process is None or self._process.poll() is not None or time.monotonic() > deadline:
                    raise TroubleError(f"Apicurio does not answer at {self.url}.{self._last_words()}") from None
                time.sleep(_POLL_S)
            else:
                return

    def _last_words(self) -> str:
        said = (self._home.path / "registry.log").read_text(errors="replace") if self._home else ""
        return " Its log ends with:\n" + "\n".join(said.strip().splitlines()[-15:])


def _unpack(folder: Path, progress: Progress | None) -> None:
    instead = "With `--registry URL` a registry of your own is used, and nothing is downloaded."
    (path,) = fetch(locked_files(LOCK), progress=progress, what="Apicurio Registry", instead=instead)
    part = Path(tempfile.mkdtemp(prefix=".unpack-", dir=folder.parent))
    try:
        with tarfile.open(path) as archive:
            archive.extractall(part, filter="data")
        part.chmod(0o755)
        os.rename(part, folder)
    finally:
        shutil.rmtree(part, ignore_errors=True)
    path.unlink(missing_ok=True)  # 159 MB that nobody opens again
