"""Runs a backfill: in this process, or divided among several, each with its own shards."""

import logging
import multiprocessing
import signal
import threading
from collections.abc import Callable, Mapping, Sequence
from multiprocessing.connection import Connection, wait
from typing import Any, NamedTuple

from schemas.errors import IntegrityError, SlipherError, TroubleError, UserError
from streamer.backfill.plan import Backfill, engine
from streamer.backfill.worker import Overtaken
from streamer.engine import Engine
from streamer.gpus import gpu_of_each
from streamer.tally import Progress

log = logging.getLogger(__name__)

_ERRORS = {error.exit_code: error for error in (UserError, IntegrityError, Overtaken)}
OnProgress = Callable[[Progress], None]


class Done(NamedTuple):
    """What came of it.

    Attributes
    ----------
    progress
        What became durable now.
    stopped
        Shards whose files changed, and the sentence on each.
    """

    progress: Progress
    stopped: dict[int, str]


class Failed(NamedTuple):
    """What ended a worker: a sentence and the exit code of its kind."""

    code: int
    text: str


class Crew:
    """The workers of a backfill that is written down.

    Parameters
    ----------
    planned
        What is to be done.
    on_progress
        Called after commits with what became durable since the start, from any thread.
    """

    def __init__(self, planned: Backfill, on_progress: OnProgress = lambda progress: None) -> None:
        self._planned, self._on_progress = planned, on_progress
        self._shares = shares(planned.archive.manifest.ends, planned.positions, planned.settings.workers)
        self._engine: Any = None
        self._processes: list[Any] = []
        self._stopped = False

    def stop(self) -> None:
        """Finish what was read, commit, leave. A second call discards it; both are safe."""
        self._stopped = True
        if self._engine is not None:
            self._engine.stop()
        for process in self._processes:
            if process.is_alive():
                process.terminate()

    def run(self) -> Done:
        """Until all is durable, or somebody stops it.

        Raises
        ------
        SlipherError
            What a person has to look at. What was not durable is read again by the next start.
        """
        if len(self._shares) <= 1:
            return self._alone(self._shares[0] if self._shares else [])
        return self._together()

    def _alone(self, shards: Sequence[int]) -> Done:
        if not shards or self._stopped:
            return Done(Progress(), {})
        self._engine, source = engine(self._planned, shards, self._on_progress)
        if self._stopped:
            self._engine.stop()
        return Done(self._engine.run(), source.stopped)

    def _together(self) -> Done:
        context = multiprocessing.get_context("spawn")  # a fork would copy the locks of other threads
        pipes: dict[Any, int] = {}
        gpus = gpu_of_each(self._planned.settings, len(self._shares))
        for number, shards in enumerate(self._shares):
            ours, theirs = context.Pipe()
            gpu = gpus[number] if gpus else None
            process = context.Process(
                target=_work, args=(self._planned, shards, theirs, gpu), name=f"backfill-{number}"
            )
            process.start()
            theirs.close()
            self._processes.append(process)
            pipes[ours] = number
        if self._stopped:
            self.stop()
        progress = dict.fromkeys(pipes.values(), Progress())
        stopped: dict[int, str] = {}
        errors: list[Failed] = []
        while pipes:
            for pipe in wait(list(pipes)):
                number = pipes[pipe]
                try:
                    said: Any = pipe.recv()  # type: ignore[union-attr,call-arg]
                except (EOFError, ConnectionError):
                    pipes.pop(pipe)
                    self._processes[number].join()
                    continue
                if isinstance(said, Progress):
                    progress[number] = said
                    self._on_progress(sum(progress.values(), Progress()))
                elif isinstance(said, Done):
                    progress[number], stopped = said.progress, stopped | said.stopped
                else:
                    errors.append(said)
                    log.error("worker %d: %s", number, said.text)
        dead = [k for k, process in enumerate(self._processes) if process.exitcode]
        if errors:
            code, text = min(errors)
            raise _ERRORS.get(code, SlipherError)(text)
        if dead:
            raise TroubleError(
                f"{len(dead)} of {len(self._processes)} workers died (exit {self._processes[dead[0]].exitcode}). Nothing is "
                "lost: run it again, it goes on where they stood."
            )
        return Done(sum(progress.values(), Progress()), stopped)


def shares(ends: Mapping[int, int], positions: Mapping[int, int], workers: int) -> list[list[int]]:
    """Shards that are not durable, divided so that everybody has about as many messages: the largest go first."""
    left = {p: end - positions[p] for p, end in ends.items() if end > positions[p]}
    out: list[list[int]] = [[] for _ in range(min(workers, len(left)))]
    loads = [0] * len(out)
    for p in sorted(left, key=lambda p: (-left[p], p)):
        least = loads.index(min(loads))
        out[least].append(p)
        loads[least] += left[p]
    return [sorted(share) for share in out]


def _work(planned: Backfill, shards: Sequence[int], pipe: Connection, gpu: str | None) -> None:
    """One worker process, which sees one GPU. It leaves when its parent is gone: another backfill may be running soon."""
    import gc
    import os

    import pyarrow as pa

    from streamer.logs import secrets_of, set_up

    if gpu is not None:
        os.environ["CUDA_VISIBLE_DEVICES"] = gpu
    settings = planned.settings
    set_up(logging.WARNING, settings.log_format, secrets_of(settings.registry_setting))
    pa.set_cpu_count(1)  # one process a core: more threads in it would only contend
    gc.set_threshold(100_000, 20, 100)
    asked = threading.Event()
    signal.signal(signal.SIGINT, lambda number, frame: None)  # a terminal tells all of us; the parent decides
    signal.signal(signal.SIGTERM, lambda number, frame: asked.set())
    running: Engine

    def tell(progress: Progress) -> None:
        try:
            pipe.send(progress)
        except OSError:  # the parent is gone
            running.stop()

    try:
        running, source = engine(planned, shards, tell)
        signal.signal(signal.SIGTERM, lambda number, frame: running.stop())
        if asked.is_set():
            running.stop()
        pipe.send(Done(running.run(), source.stopped))
    except SlipherError as error:
        pipe.send(Failed(error.exit_code, str(error)))
    except BaseException as error:
        pipe.send(Failed(1, f"{type(error).__name__}: {error}"))
        raise
    finally:
        pipe.close()
