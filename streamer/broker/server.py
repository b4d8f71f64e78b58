"""A real Apache Kafka on 127.0.0.1 as a child process: started, waited for, stopped, and never left behind."""

import atexit
import os
import signal
import socket
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Self

from schemas.errors import TroubleError, UserError
from streamer.broker import archive
from streamer.broker.homes import TemporaryHome, temporary_home
from streamer.broker.jars import Progress
from streamer.broker.process import spawn
from streamer.broker.rehearsal import rehearse
from streamer.broker.runtime import Runtime, find_runtime
from streamer.broker.settings import (
    HOST,
    BrokerSettings,
    free_ports,
    log4j_properties,
    port_is_free,
    server_properties,
)
from streamer.broker.storage import format_data, is_formatted

_START_TIMEOUT_S = 60.0  # 1.5 s when warm and idle, 12 s after kill -9; the rest is for a busy machine
_STOP_TIMEOUT_S = 30.0  # 0.2-0.6 s; a broker with much to flush takes seconds
_REHEARSAL_STOP_TIMEOUT_S = 120.0  # Java writes the archive as it ends
_QUOTED_LINES = 15


def prepare(progress: Progress | None = None, say: Callable[[str], None] | None = None) -> Runtime:
    """Do what has to be done once on a machine: download the jars, format, hold the rehearsal that makes the archive.

    Parameters
    ----------
    progress
        Told of the download, see `streamer.broker.jars.fetch`.
    say
        Told in a few words what takes long, before it begins.
    """
    runtime = find_runtime(progress)
    if say and not archive.exists_for(runtime):
        say("Preparing Kafka for fast starts (once on this machine)")
    return archive.with_archive(runtime, _hold_rehearsal)


class Broker:
    """One Kafka node, broker and controller in one process.

    Parameters
    ----------
    settings
        Ports, ids, properties.
    home
        Where data, settings and ``broker.log`` stand; kept. By default a temporary directory, deleted by `stop`.
    owned
        An owned broker dies with this process, however that dies. One that is not owned survives it.
    runtime
        What `prepare` returned; by default `start` prepares.

    Notes
    -----
    ``with Broker() as broker:`` yields a broker that answers at ``broker.bootstrap``. It runs in a session of its own,
    so that Ctrl-C on the terminal reaches its clients and not the broker they still have to commit to.
    """

    def __init__(
        self,
        settings: BrokerSettings | None = None,
        home: Path | None = None,
        *,
        owned: bool = True,
        runtime: Runtime | None = None,
    ) -> None:
        self.settings = settings or BrokerSettings()
        spare, controller_spare = free_ports(2)
        self.port = self.settings.port or spare
        self.controller_port = self.settings.controller_port or controller_spare
        self._kept_home = home.absolute() if home else None
        self._temporary: TemporaryHome | None = None
        self._owned = owned
        self._runtime = runtime
        self._process: subprocess.Popen[bytes] | None = None
        self._started_by = os.getpid()
        self._log_start = 0

    @property
    def bootstrap(self) -> str:
        """What clients put into ``bootstrap.servers``."""
        return f"{HOST}:{self.port}"

    @property
    def home(self) -> Path:
        """Where data, settings and log stand."""
        if self._kept_home is not None:
            return self._kept_home
        if self._temporary is None:
            raise RuntimeError("a temporary broker has a home only between start() and stop()")
        return self._temporary.path

    @property
    def log(self) -> Path:
        """What the broker says."""
        return self.home / "broker.log"

    @property
    def pid(self) -> int:
        """The process id of a started broker."""
        if self._process is None:
            raise RuntimeError("the broker has not been started")
        return self._process.pid

    @property
    def running(self) -> bool:
        """Whether the process lives; it may not answer yet."""
        return self._process is not None and self._process.poll() is None

    def start(self) -> Self:
        """Start the process and return at once; `wait` waits until it answers. Data in a given home are used."""
        if not self.running:
            try:
                self._launch()
            except BaseException:
                self.stop()
                raise
        return self

    def wait(self, timeout: float = _START_TIMEOUT_S) -> Self:
        """Wait until the broker answers; stop it and raise if it does not.

        Raises
        ------
        TroubleError
            If it ended, or has not answered after `timeout` seconds; the message quotes its log.
        """
        try:
            self._wait_for_answer(time.monotonic() + timeout)
        except BaseException:
            self.stop()
            raise
        return self

    def stop(self, timeout: float = _STOP_TIMEOUT_S) -> None:
        """Ask the broker to end, kill it if it does not; delete a temporary home. Does nothing to a stopped broker."""
        self._end(signal.SIGTERM, timeout)
        atexit.unregister(self._stop_at_exit)
        if self._temporary is not None:
            self._temporary.remove()
            self._temporary = None

    def kill(self) -> None:
        """End the broker as a power cut would. Data are kept, a temporary home's too: `start` starts it again."""
        self._end(signal.SIGKILL, _STOP_TIMEOUT_S)

    def suspend(self) -> None:
        """Make it sleep, as a machine that swaps or a virtual machine that is moved does: it answers nobody and dies not."""
        if self._process is not None:
            self._process.send_signal(signal.SIGSTOP)

    def resume(self) -> None:
        """Wake it up."""
        if self._process is not None:
            self._process.send_signal(signal.SIGCONT)

    def __enter__(self) -> Self:
        return self.start().wait()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    @property
    def _last_signal(self) -> signal.Signals | None:
        if not self._owned:
            return None
        # Data that are kept deserve an orderly end; a temporary broker that hung in its own would stay for ever.
        return signal.SIGKILL if self._kept_home is None else signal.SIGTERM

    def _launch(self) -> None:
        self._runtime = self._runtime or prepare()
        self._check_ports()
        if self._kept_home is None and self._temporary is None:
            self._temporary = temporary_home()
        self.home.mkdir(parents=True, exist_ok=True)
        data, properties, log4j = (self.home / name for name in ("data", "server.properties", "log4j2.properties"))
        if "," in str(data):
            raise UserError(f"Kafka cannot keep data in a path with a comma: {data}")
        if not is_formatted(data):
            format_data(data, self.settings.node, self.settings.cluster, self._runtime)
        properties.write_text(server_properties(self.settings, self.port, self.controller_port, data))
        log4j.write_text(log4j_properties(self.settings.log_level))
        command = self._runtime.command("kafka.Kafka", str(properties), heap=self.settings.heap, log4j=log4j)
        with open(self.log, "ab") as out:
            self._log_start = out.tell()
            try:
                self._process = spawn(command, out, self.home, self._last_signal)
            except OSError as error:
                raise TroubleError(f"Java could not be started: {error}") from error
        if self._owned:
            atexit.register(self._stop_at_exit)

    def _stop_at_exit(self) -> None:
        if os.getpid() == self._started_by:  # a forked child that ends must not take its parent's broker along
            self.stop()

    def _check_ports(self) -> None:
        for port in (self.port, self.controller_port):
            if not port_is_free(port):
                raise UserError(
                    f"Port {port} of {HOST} is taken, perhaps by another Kafka: stop that program or take another port."
                )

    def _wait_for_answer(self, deadline: float) -> None:
        from confluent_kafka import KafkaException
        from confluent_kafka.admin import AdminClient

        # TCP first: a client that meets a closed port backs off, and would see the broker up to a second late.
        while not _accepts(self.port):
            self._check_alive(deadline)
            time.sleep(0.02)
        client = AdminClient({"bootstrap.servers": self.bootstrap, "log_level": 0})
        while True:
            self._check_alive(deadline)
            try:
                if client.list_topics(timeout=1.0).brokers:
                    return
            except KafkaException:
                continue

    def _check_alive(self, deadline: float) -> None:
        if not self.running:
            code = self._process.returncode if self._process else None
            raise TroubleError(f"Kafka ended with {code} before it answered at {self.bootstrap}.{self._last_words()}")
        if time.monotonic() > deadline:
            raise TroubleError(f"Kafka did not answer at {self.bootstrap} in time.{self._last_words()}")

    def _last_words(self) -> str:
        with open(self.log, "rb") as said:
            said.seek(self._log_start)
            lines = said.read().decode(errors="replace").strip().splitlines()[-_QUOTED_LINES:]
        where = f" Its log was {self.log}" if self._temporary else f" Its log is {self.log}"
        return f"{where} and ends with:\n" + "\n".join(lines) if lines else f"{where} and is empty."

    def _end(self, with_signal: signal.Signals, timeout: float) -> None:
        if self._process is None:
            return
        if self.running:
            self._process.send_signal(with_signal)
            self._process.send_signal(signal.SIGCONT)  # one that was suspended hears nothing but SIGKILL
            try:
                self._process.wait(timeout)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()
        self._process = None


def _accepts(port: int) -> bool:
    try:
        socket.create_connection((HOST, port), 0.2).close()
    except OSError:
        return False
    return True


def _hold_rehearsal(runtime: Runtime) -> None:
    broker = Broker(runtime=runtime)
    try:
        rehearse(broker.start().wait().bootstrap)
    finally:
        broker.stop(_REHEARSAL_STOP_TIMEOUT_S)
