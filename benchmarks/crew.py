"""Processes that prepare, wait for each other, and begin together."""

import multiprocessing
import traceback
from collections.abc import Callable, Sequence
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, NamedTuple

START_SECONDS = 180.0
RUN_SECONDS = 600.0


class Outcome(NamedTuple):
    """What one process did; times are of the one monotonic clock of the machine, in seconds."""

    rows: int
    begun: float  # the first message was polled
    ended: float  # the last commit was durable
    stages: dict[str, float]  # seconds of CPU
    cpu: float  # seconds of CPU of all its threads, from the start signal on
    peak: int = 0  # bytes of memory at most


Prepare = Callable[..., Callable[[], Outcome]]


class Race(NamedTuple):
    """What several processes did together."""

    rows: int
    seconds: float  # from the first message polled by any to the last commit of any
    stages: dict[str, float]  # microseconds of CPU per row
    peak: int = 0  # bytes of memory of the largest process

    @property
    def rate(self) -> float:
        """Rows per second."""
        return self.rows / self.seconds


def race(prepare: Prepare, arguments: Sequence[tuple[Any, ...]]) -> Race:
    """Call ``prepare(*arguments[k])`` in a process each; once all are ready, call what they returned, together.

    Raises
    ------
    RuntimeError
        A process failed, or did not answer in time.
    """
    context = multiprocessing.get_context("spawn")
    pipes: list[Connection] = []
    processes = []
    try:
        for given in arguments:
            mine, theirs = context.Pipe()
            process = context.Process(target=_child, args=(theirs, prepare, given), daemon=True)
            process.start()
            theirs.close()
            pipes.append(mine)
            processes.append(process)
        for pipe in pipes:
            _answer(pipe, START_SECONDS)
        for pipe in pipes:
            pipe.send(None)
        outcomes: list[Outcome] = [_answer(pipe, RUN_SECONDS) for pipe in pipes]
        for process in processes:
            process.join(START_SECONDS)
    finally:
        for process in processes:
            if process.is_alive():
                process.kill()
            process.join()
    return together(outcomes)


def together(outcomes: Sequence[Outcome]) -> Race:
    """One account of what several processes did; a process that got no message has no beginning."""
    rows = sum(o.rows for o in outcomes)
    busy = [o for o in outcomes if o.rows]
    if not busy:
        raise RuntimeError("no process wrote a row")
    stages = {s: sum(o.stages.get(s, 0.0) for o in outcomes) for o in outcomes for s in o.stages}
    stages["all of the process"] = sum(o.cpu for o in outcomes)
    return Race(
        rows,
        max(o.ended for o in busy) - min(o.begun for o in busy),
        {stage: 1e6 * seconds / rows for stage, seconds in stages.items()},
        max(o.peak for o in busy),
    )


def _child(pipe: Connection, prepare: Prepare, arguments: tuple[Any, ...]) -> None:
    try:
        go = prepare(*arguments)
        pipe.send((True, None))
        pipe.recv()
        done = go()
        pipe.send((True, done._replace(peak=_peak())))
    except BaseException:
        pipe.send((False, traceback.format_exc()))


def _peak() -> int:
    """Bytes of memory that this process had at most; 0 where nobody says. What getrusage says may be its parent's."""
    status = Path("/proc/self/status")
    lines = status.read_text().splitlines() if status.exists() else []
    return next((1024 * int(line.split()[1]) for line in lines if line.startswith("VmHWM:")), 0)


def _answer(pipe: Connection, seconds: float) -> Any:
    if not pipe.poll(seconds):
        raise RuntimeError(f"a process of the benchmark did not answer within {seconds:.0f} s")
    try:
        good, what = pipe.recv()
    except EOFError:
        raise RuntimeError("a process of the benchmark died without a word") from None
    if not good:
        raise RuntimeError(f"a process of the benchmark failed:\n{what}")
    return what
