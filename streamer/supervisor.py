"""Keeps N workers of one command alive on one machine: ``slipher run --workers N``.

A worker that dies is started again, a little later each time; one that says that a person has to look (exit code 2 or 3) ends
them all, and so does one that dies again and again. What a worker says is passed on with its number before it.
"""

import logging
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from schemas.errors import IntegrityError, UserError
from streamer.broker.process import spawn

log = logging.getLogger(__name__)

FIRST_PAUSE_S = 1.0  # before a worker that died is started again; doubled with each death
LONGEST_PAUSE_S = 30.0
HEALTHY_S = 60.0  # who lived so long has recovered: its earlier deaths are forgotten
DEATHS = 5  # in a row, of one worker: it will not recover by itself
KILL_S = 20.0  # after the first signal; workers leave within 10 s
FOR_A_PERSON = (UserError.exit_code, IntegrityError.exit_code)


class Post:
    """One worker's place: its process, how often it died of late, and when it is to be started again."""

    def __init__(self, number: int, command: Sequence[str]) -> None:
        self.number, self.command = number, list(command)
        self.process: subprocess.Popen[bytes] | None = None
        self.reader: threading.Thread | None = None
        self.since = self.due = 0.0
        self.deaths = 0
        self.code: int | None = None  # of the worker that is not started again
        self.words = ""  # its last


class Supervisor:
    """Runs workers until all are done, or told to stop.

    Parameters
    ----------
    commands
        One a worker, with the full path of the program.
    until_end
        Whether a worker that ends well is done; else it is started again, since nobody told it to end.
    hear
        Called with each line that a worker says, and its number; from several threads.
    first_pause
        Seconds before a worker that died is started again, the first time.
    clock
        Monotonic seconds.

    Attributes
    ----------
    again
        Called with the number of a worker that died and is started again.
    """

    def __init__(
        self,
        commands: Sequence[Sequence[str]],
        until_end: bool = False,
        hear: Callable[[int, str], None] = lambda number, line: None,
        first_pause: float = FIRST_PAUSE_S,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.again: Callable[[int], None] = lambda number: None
        self._posts = [Post(number, command) for number, command in enumerate(commands, 1)]
        self._until_end, self._hear, self._first_pause, self._clock = until_end, hear, first_pause, clock
        self._signals = self._passed_on = 0
        self._stopped_at = 0.0
        self._code = 0

    def stop(self) -> None:
        """Pass a SIGTERM on to every worker: the first lets it finish and commit, a second discards at once."""
        self._signals += 1

    def run(self) -> int:
        """Run until every worker has ended; returns the exit code: 0, or that of the worker that ended them all.

        A worker that a signal killed counts as 128 plus its number, as in a shell.
        """
        try:
            while not self._step():
                time.sleep(0.05)
        finally:
            for post in self._posts:
                if post.process is not None and post.process.poll() is None:
                    post.process.kill()
        return self._code

    @property
    def running(self) -> int:
        """Workers that run now."""
        return sum(post.process is not None for post in self._posts)

    def _step(self) -> bool:
        """Look at every worker once; True when all is over."""
        for post in self._posts:
            if post.process is None:
                if post.code is None and self._signals == 0 and self._clock() >= post.due:
                    self._start(post)
            elif (code := post.process.poll()) is not None:
                self._ended(post, code if code >= 0 else 128 - code)
        self._pass_on()
        alive = any(post.process is not None for post in self._posts)
        return not alive and (self._signals > 0 or all(post.code is not None for post in self._posts))

    def _start(self, post: Post) -> None:
        if post.deaths:
            self.again(post.number)
        read, write = os.pipe()
        with os.fdopen(write, "wb") as out:
            post.process = spawn(post.command, out, Path.cwd(), signal.SIGTERM)
        post.since = self._clock()
        post.reader = threading.Thread(target=self._listen, args=(post, read), daemon=True)
        post.reader.start()
        log.info("worker %d started, process %d", post.number, post.process.pid, extra={"worker": post.number})

    def _listen(self, post: Post, read: int) -> None:
        with os.fdopen(read, "r", errors="replace") as lines:
            for line in lines:
                post.words = line.strip() or post.words
                self._hear(post.number, line.rstrip("\n"))

    def _ended(self, post: Post, code: int) -> None:
        assert post.reader is not None
        post.reader.join(1.0)  # its last words
        post.process = None
        fields = {"worker": post.number, "exit_code": code}
        if self._signals:
            log.info("worker %d has left (%s)", post.number, meaning(code), extra=fields)
            if code not in (0, 128 + signal.SIGTERM) and self._code == 0:
                self._code = code
            return
        if code == 0 and self._until_end:
            post.code = code
            return
        post.deaths = 1 if self._clock() - post.since > HEALTHY_S else post.deaths + 1
        words = post.words or "none"
        log.warning("worker %d ended: %s. Its last words: %s", post.number, meaning(code), words, extra=fields)
        if code in FOR_A_PERSON or post.deaths >= DEATHS:
            why = "A person has to look" if code in FOR_A_PERSON else f"It died {post.deaths} times in a row"
            log.error("%s: all workers are told to stop", why)
            post.code = self._code = code or 1
            self.stop()
            return
        pause = min(self._first_pause * 2 ** (post.deaths - 1), LONGEST_PAUSE_S)
        post.due = self._clock() + pause
        log.warning(
            "worker %d is started again in %.0f s (%d of %d deaths)",
            post.number,
            pause,
            post.deaths,
            DEATHS,
            extra={"worker": post.number, "seconds": pause},
        )

    def _pass_on(self) -> None:
        if self._passed_on < min(self._signals, 2):
            self._passed_on += 1
            self._stopped_at = self._stopped_at or self._clock()
            for post in self._posts:
                if post.process is not None:
                    post.process.terminate()
        elif self._signals and self._clock() - self._stopped_at > KILL_S:
            for post in self._posts:
                if post.process is not None:
                    log.warning(
                        "worker %d does not leave within %.0f s: killed, nothing is lost",
                        post.number,
                        KILL_S,
                        extra={"worker": post.number},
                    )
                    post.process.kill()
            self._stopped_at = self._clock()


def meaning(code: int) -> str:
    """An exit code in words."""
    if code > 128:
        try:
            return f"killed by {signal.Signals(code - 128).name}"
        except ValueError:
            pass
    return f"exit code {code}"


def worker_commands(
    arguments: Sequence[str],
    count: int,
    instance: str | None,
    metrics_port: int | None = None,
    gpus: Sequence[str] = (),
) -> list[list[str]]:
    """`count` commands of single workers, out of the words after ``slipher`` of the command that asks for them all.

    Parameters
    ----------
    arguments
        The words, ``run --workers 4 ...``.
    count
        How many.
    instance
        The ``group.instance.id`` of the command, where it has one: each worker's is this with its number.
    metrics_port
        That of the first worker, where they serve metrics; the others' follow.
    gpus
        Of each worker the GPU that it sees, as ``CUDA_VISIBLE_DEVICES`` has it; none = they are left as they are.
    """
    alone = [sys.executable, "-m", "streamer", *arguments, "--workers", "1"]  # of two, the last holds
    out = []
    for number in range(1, count + 1):
        command = list(alone)
        if instance is not None:
            command += ["--kafka", f"group.instance.id={instance}-{number}"]
        if metrics_port is not None:
            command += ["--metrics-port", str(metrics_port + number - 1)]
        if gpus:
            command = [shutil.which("env") or "/usr/bin/env", f"CUDA_VISIBLE_DEVICES={gpus[number - 1]}", *command]
        out.append(command)
    return out
