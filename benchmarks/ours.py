"""Our side of the pipeline benchmark: what ``slipher run --until-end`` does in a process, with stopwatches around its parts."""

import gc
import time
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import pyarrow as pa

import consumers.tree
import streamer.sink.ledger
from benchmarks.crew import Outcome
from benchmarks.stages import Stages
from consumers.rows import Provenance, RowBuilder
from consumers.tree import TreeWorker
from consumers.worker import Worker
from schemas.batch import Messages
from streamer.observer import Lookout
from streamer.run import build, now_ms, plan
from streamer.settings import RunSettings
from streamer.sink.ledger import REPEATED
from streamer.sink.staging import stage


class _FirstSight:
    """A Kafka consumer that remembers when the first message came out of it."""

    def __init__(self, consumer: Any) -> None:
        self._consumer = consumer
        self.at = 0.0

    def __getattr__(self, name: str) -> Any:
        return getattr(self._consumer, name)

    def consume(self, count: int, seconds: float) -> Any:
        found = self._consumer.consume(count, seconds)
        if not self.at and any(m.error() is None for m in found):
            self.at = time.perf_counter()
        return found


def prepare(settings: dict[str, Any], warm_up: list[bytes], lookout: Lookout = Lookout()) -> Callable[[], Outcome]:
    """An engine with warm kernels, ready to join its group.

    Parameters
    ----------
    settings
        Of ``streamer.settings.RunSettings``.
    warm_up
        A few messages of the kind to come; they are decoded, estimated and written, and forgotten.
    lookout
        Who is told what the engine does.
    """
    pa.set_cpu_count(1)  # as `slipher run` does
    gc.set_threshold(100_000, 20, 100)
    ended = 0.0

    def committed(_: object) -> None:
        nonlocal ended
        ended = time.perf_counter()

    engine = build(RunSettings(**settings), until_end=True, on_commit=committed, lookout=lookout)
    warm(engine.worker, warm_up)
    stages = Stages()
    sight = _watch(engine, stages)

    def go() -> Outcome:
        cpu = time.process_time()
        done = engine.run()
        return Outcome(done.rows, sight.at, ended, dict(stages.seconds), time.process_time() - cpu)

    return go


def warm(worker: Worker, payloads: list[bytes]) -> None:
    """Run all kernels once, those of the Parquet file too: what is compiled, or read from a cache, is not what we measure."""
    rows = worker.process(messages(payloads)).rows
    with TemporaryDirectory(prefix="slipher-benchmark-") as folder:
        Path(folder, "_delta_log").mkdir()  # of a table, as far as a writer of files looks
        stage(Path(folder), "warm", rows, {}, REPEATED)


def worker(settings: dict[str, Any]) -> TreeWorker:
    """A worker by itself, of what it needs no broker for."""
    made = plan(RunSettings(**settings))
    origin = Provenance(made.processing, "cluster", settings["topic"], "lAY7wVzqTXqkC3mGyLsUog", "benchmark")
    return TreeWorker(
        made.alerts.decoder(), made.estimator, RowBuilder(origin, made.alerts.night, now_ms, made.settings.pdf)
    )


def _watch(engine: Any, stages: Stages) -> _FirstSight:
    """Put a stopwatch around each part of `engine`."""
    source, worker, sink = engine.source, engine.worker, engine.sink
    source.consumer = sight = _FirstSight(source.consumer)
    source.poll = stages.timed("consume", source.poll)
    worker._decoder.decode = stages.timed("decode", worker._decoder.decode)
    worker._estimator.estimate = stages.timed("estimate", worker._estimator.estimate)
    sink.write = stages.timed("account", sink.write)
    sink.commit = stages.timed("account", sink.commit)
    sink.ledger._swap = stages.timed("commit", sink.ledger._swap)
    rows: Any = consumers.tree
    rows.build = stages.timed("rows", rows.build)
    ledger: Any = streamer.sink.ledger
    ledger.stage = stages.timed("parquet", ledger.stage)
    return sight


def messages(payloads: list[bytes]) -> Messages:
    """`payloads` as if they had come from one partition."""
    n = len(payloads)
    return Messages(
        list(payloads),
        np.zeros(n, np.int32),
        np.arange(n, dtype=np.int64),
        np.full(n, 1_767_225_600_000, np.int64),
        {0: n},
    )
