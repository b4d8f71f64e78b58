"""The soak's processes: started, struck, reaped, and each end judged by what was done to it."""

import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

from streamer.broker.process import spawn

LEAVE_SECONDS = 60.0  # for one that was told to end; ten are promised, on a machine that does nothing else
TROUBLE = 75
LEFT = {0, 130, -signal.SIGTERM}  # the signal ends a process that has not begun, or is at its very end
QUOTED = 1_500  # characters of a log


class Hand:
    """One process, and what was done to it."""

    def __init__(self, name: str, process: subprocess.Popen[bytes], log: Path) -> None:
        self.name, self.process, self.log = name, process, log
        self.born = time.monotonic()
        self.may_die = False  # SIGKILL was sent, or waits at a step
        self.leaving: float | None = None  # since when
        self.asleep = False

    @property
    def pid(self) -> int:
        """The process id."""
        return self.process.pid

    @property
    def awake(self) -> bool:
        """Whether it is there to be struck, and nothing was done to it yet."""
        return self.process.poll() is None and not (self.asleep or self.may_die or self.leaving)

    def kill(self) -> None:
        """SIGKILL."""
        self.may_die = True
        self.process.send_signal(signal.SIGKILL)

    def sleep(self) -> None:
        """SIGSTOP."""
        self.asleep = True
        self.process.send_signal(signal.SIGSTOP)

    def wake(self) -> None:
        """SIGCONT."""
        self.asleep = False
        self.process.send_signal(signal.SIGCONT)

    def leave(self) -> None:
        """SIGTERM; a second one means: at once."""
        self.leaving = self.leaving or time.monotonic()
        self.process.send_signal(signal.SIGTERM)

    def fault(self, code: int) -> str:
        """What is wrong with its having ended with `code`; nothing: it may."""
        said = self.log.read_text(errors="replace")
        if "Traceback" in said:
            return f"{self.name} ended with a traceback:\n{said[-QUOTED:]}"
        allowed = {TROUBLE} | ({-signal.SIGKILL} if self.may_die else set()) | (LEFT if self.leaving else set())
        if code in allowed or (code == 0 and not self.name.startswith("worker-")):
            return ""
        return f"{self.name} ended with {code}:\n{said[-QUOTED:]}"


class Crew:
    """Processes of slipher commands under fault points.

    Parameters
    ----------
    folder
        Of their logs.
    control
        Of the fault points; see ``benchmarks.soak_worker``.
    environment
        What theirs has beside ours.
    """

    def __init__(self, folder: Path, control: Path, environment: dict[str, str]) -> None:
        self.folder, self.control = folder, control
        self.hands: list[Hand] = []
        self.faults: list[str] = []
        self.ends: dict[str, int] = {}  # how often each exit code was met, by kind of process
        self._count = 0
        words = [f"{key}={value}" for key, value in environment.items()]
        self._before = [str(shutil.which("env")), *words, sys.executable, "-m", "benchmarks.soak_worker", str(control)]

    def start(self, kind: str, arguments: list[str]) -> Hand:
        """A new process of ``slipher ARGUMENTS``."""
        self._count += 1
        name = f"{kind}-{self._count}"
        log = self.folder / f"{name}.log"
        with open(log, "wb") as out:
            process = spawn([*self._before, *arguments], out, Path.cwd(), signal.SIGKILL)
        hand = Hand(name, process, log)
        self.hands.append(hand)
        return hand

    def of(self, kind: str) -> list[Hand]:
        """Those that live."""
        return [h for h in self.hands if h.name.startswith(kind) and h.process.poll() is None]

    def reap(self) -> list[tuple[Hand, int]]:
        """Those that ended since, judged; one that was told to leave and does not is a fault too."""
        ended = []
        for hand in list(self.hands):
            code = hand.process.poll()
            if code is None:
                if hand.leaving and not hand.asleep and time.monotonic() - hand.leaving > LEAVE_SECONDS:
                    self.faults.append(
                        f"{hand.name} did not end within {LEAVE_SECONDS:.0f} s of SIGTERM:\n{self._tail(hand)}"
                    )
                    hand.kill()
                continue
            self.hands.remove(hand)
            (self.control / f"at-{hand.pid}").unlink(missing_ok=True)
            if fault := hand.fault(code):
                self.faults.append(fault)
            key = f"{hand.name.rpartition('-')[0]} ended with {code}"
            self.ends[key] = self.ends.get(key, 0) + 1
            ended.append((hand, code))
        return ended

    def end(self) -> None:
        """Tell all to leave, wait for it, judge."""
        for hand in self.hands:
            hand.wake()
            hand.leave()
        while self.hands:
            self.reap()
            time.sleep(0.05)

    def kill(self) -> None:
        """End all, whatever they do."""
        for hand in self.hands:
            if hand.process.poll() is None:
                hand.kill()
                hand.process.wait()

    def _tail(self, hand: Hand) -> str:
        return hand.log.read_text(errors="replace")[-QUOTED:]


def order(control: Path, hand: Hand, what: str, step: int) -> Path:
    """Have `hand` die (KILL) or fall asleep (STOP) on coming to `step`; the file is gone once it has."""
    path = control / f"at-{hand.pid}"
    part = path.with_suffix(".part")
    part.write_text(f"{what} {step}")
    os.replace(part, path)
    return path
