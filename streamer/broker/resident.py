"""The broker of ``slipher broker start``: it survives the shell, and is found again by the state it left.

State, data and log stand in one folder. Whether the broker runs is never read from the state alone: the process of that id
must be our Kafka, for ids are used again after a crash or a reboot.
"""

import json
import os
import shutil
import signal
import subprocess
import time
from pathlib import Path
from typing import NamedTuple

from schemas.errors import TroubleError
from streamer.broker.cache import locked, write_atomically
from streamer.broker.runtime import Runtime
from streamer.broker.server import Broker
from streamer.broker.settings import BrokerSettings

PORT = 9092

_STOP_TIMEOUT_S = 30.0
_POLL_S = 0.05


class Resident(NamedTuple):
    """A resident broker that runs."""

    bootstrap: str
    pid: int
    started_ms: int  # UTC
    temporary: bool
    home: Path

    @property
    def log(self) -> Path:
        """What it says."""
        return self.home / "broker.log"

    @property
    def data_bytes(self) -> int:
        """What its data take on the disk."""
        return disk_usage(self.home / "data")


def state_dir() -> Path:
    """``$SLIPHER_BROKER_HOME``, ``$XDG_STATE_HOME/slipher/broker`` or ``~/.local/state/slipher/broker``."""
    if own := os.environ.get("SLIPHER_BROKER_HOME"):
        return Path(own).expanduser().absolute()
    base = os.environ.get("XDG_STATE_HOME") or Path.home() / ".local" / "state"
    return Path(base).absolute() / "slipher" / "broker"


def kept_home() -> Path:
    """Where the data of a broker that is not temporary stand, whether it runs or not."""
    return state_dir() / "kept"


def running() -> Resident | None:
    """The resident broker, if it runs."""
    try:
        state = json.loads(_state_file().read_text(encoding="utf-8"))
        found = Resident(state["bootstrap"], state["pid"], state["started_ms"], state["temporary"], Path(state["home"]))
    except (FileNotFoundError, ValueError, KeyError):
        return None
    return found if _is_ours(found) else None


def running_bootstrap() -> str | None:
    """Where the resident broker listens, if it runs."""
    found = running()
    return found.bootstrap if found else None


def start(
    settings: BrokerSettings | None = None, *, temporary: bool = False, runtime: Runtime | None = None
) -> tuple[Resident, bool]:
    """Start the resident broker and wait until it answers; do nothing if it runs already.

    Parameters
    ----------
    settings
        Its settings; port 9092 by default.
    temporary
        Start on empty data that are deleted when it is stopped. Data that are kept are not touched.
    runtime
        What `streamer.broker.server.prepare` returned.

    Returns
    -------
    Resident
        The broker that runs now.
    bool
        Whether this call started it. If not, it may have other settings than those asked for.
    """
    with locked(state_dir() / "lock"):
        if (already := running()) is not None:
            return already, False
        home = _temporary_home() if temporary else kept_home()
        shutil.rmtree(_temporary_home(), ignore_errors=True)  # a reboot may have left one
        broker = Broker(settings or BrokerSettings(port=PORT), home, owned=False, runtime=runtime).start()
        resident = Resident(broker.bootstrap, broker.pid, time.time_ns() // 1_000_000, temporary, home)
        try:
            # Before the wait: if we are killed during it, `stop` still finds the process.
            write_atomically(_state_file(), json.dumps(resident._asdict(), default=str) + "\n")
            broker.wait()
        except BaseException:
            broker.stop()
            _state_file().unlink(missing_ok=True)
            raise
        return resident, True


def stop(*, wipe: bool = False) -> Resident | None:
    """Stop the resident broker.

    Parameters
    ----------
    wipe
        Delete the kept data as well, also if no broker runs.

    Returns
    -------
    Resident or None
        The broker that was stopped, None if none ran.
    """
    with locked(state_dir() / "lock"):
        found = running()
        if found is not None:
            _end(found)
        _state_file().unlink(missing_ok=True)
        shutil.rmtree(_temporary_home(), ignore_errors=True)
        if wipe:
            shutil.rmtree(kept_home(), ignore_errors=True)
        return found


def disk_usage(folder: Path) -> int:
    """Bytes that the files in a folder take. Kafka's index files are sparse: their lengths would add up to far more."""
    total = 0
    for directory, _, names in os.walk(folder):
        for name in names:
            try:
                total += os.lstat(os.path.join(directory, name)).st_blocks * 512
            except FileNotFoundError:  # a segment deleted meanwhile
                continue
    return total


def _state_file() -> Path:
    return state_dir() / "broker.json"


def _temporary_home() -> Path:
    return state_dir() / "temporary"


def _is_ours(resident: Resident) -> bool:
    command = _command_of(resident.pid)
    return "kafka.Kafka" in command and str(resident.home / "server.properties") in command


def _command_of(pid: int) -> str:
    """The command line of a process; empty if there is none, or if it has ended and waits for its parent to look."""
    if Path("/proc/self").exists():
        try:
            return Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode(errors="surrogateescape")
        except OSError:
            return ""
    return subprocess.run(["ps", "-ww", "-o", "command=", "-p", str(pid)], capture_output=True, text=True).stdout


def _end(resident: Resident) -> None:
    for last_resort in (signal.SIGTERM, signal.SIGKILL):
        try:
            os.kill(resident.pid, last_resort)
        except ProcessLookupError:
            return
        deadline = time.monotonic() + _STOP_TIMEOUT_S
        while time.monotonic() < deadline:
            if not _is_ours(resident):
                return
            time.sleep(_POLL_S)
    raise TroubleError(f"The broker (process {resident.pid}) does not end, not even when killed; is its disk hanging?")
