"""From a producer's call to a durable row: Rubin's mean rate of alerts, then a visit's burst, one worker."""

import json
import threading
import time
from collections.abc import Callable
from itertools import cycle, islice
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from deltalake import DeltaTable

from benchmarks.crew import Outcome, Race, race
from benchmarks.ours import warm
from benchmarks.report import Result
from schemas.batch import Float64, Int64
from streamer.publish import make_topic, publish
from streamer.run import build
from streamer.settings import RunSettings

MEAN, BURST = 256.0, 2_000.0  # alerts a second
MEAN_SECONDS, BURST_SECONDS = 30.0, 39.0  # a visit of 39 s
MARGIN = 0.5  # seconds that the slowest hundredth may take beyond the interval of commits
PARTITIONS = 8
START_SECONDS = 120.0
POLL_SECONDS = 0.1


class Phase(NamedTuple):
    """Alerts at a steady rate."""

    name: str
    rate: float
    seconds: float

    @property
    def alerts(self) -> int:
        """How many."""
        return int(self.rate * self.seconds)


def phases(quick: bool) -> list[Phase]:
    """The mean rate, then the burst."""
    share = 0.2 if quick else 1.0
    return [Phase("mean", MEAN, MEAN_SECONDS * share), Phase("burst", BURST, BURST_SECONDS * share)]


def run(root: Path, brokers: str, bundle: Path, payloads: list[bytes], seconds: float, quick: bool) -> list[Result]:
    """Latencies of one worker that commits every `seconds`, in seconds, and what it takes of a core.

    Parameters
    ----------
    root
        An empty folder.
    brokers, bundle
        The broker and our model.
    payloads
        Alerts to send, again and again.
    """
    topic, plan = f"latency-{seconds:g}", phases(quick)
    kafka = {"bootstrap.servers": brokers}
    make_topic(topic, PARTITIONS, kafka)
    settings = {
        "brokers": brokers,
        "topic": topic,
        "model": bundle,
        "catalog": root / "catalog",
        "group": topic,
        "start": "earliest",
        "commit_seconds": seconds,
    }
    ready, record = root / "ready", root / "commits.json"
    expected = 1 + sum(phase.alerts for phase in plan)
    alerts = cycle(payloads)
    found: list[Race] = []
    failed: list[BaseException] = []

    def work() -> None:
        try:
            found.append(race(prepare, [(settings, payloads, expected, ready, record)]))
        except BaseException as error:
            failed.append(error)

    worker = threading.Thread(target=work)
    worker.start()
    begun: list[float] = []
    try:
        publish(islice(alerts, 1), topic, kafka)
        _wait(lambda: ready.exists() or bool(failed))  # in the group, with a first commit behind it
        for phase in plan:
            if not failed:
                begun.append(1e3 * time.time())
                publish(islice(alerts, phase.alerts), topic, kafka, phase.rate)
    finally:
        worker.join()
    if failed:
        raise failed[0]
    told = json.loads(record.read_text())
    rows = DeltaTable(str(root / "catalog" / "rows")).to_pyarrow_table(
        columns=["kafka_partition", "kafka_offset", "kafka_timestamp"]
    )
    sent = rows["kafka_timestamp"].cast("int64").to_numpy() / 1e3
    durable = durable_at(rows["kafka_partition"].to_numpy(), rows["kafka_offset"].to_numpy(), told["commits"])
    results = []
    for phase, first, last in zip(plan, begun, [*begun[1:], np.inf], strict=True):
        mine = (sent >= first) & (sent < last)
        if mine.sum() != phase.alerts:
            raise RuntimeError(f"{phase.alerts} alerts were sent in the {phase.name}, {mine.sum()} are in the table")
        waited = (durable[mine] - sent[mine]) / 1e3
        for q in (50, 99):
            case = f"latency, {phase.rate:,.0f}/s, a commit every {seconds:g} s: p{q}"
            bound = {"allowed": seconds + MARGIN} if q == 99 else {}
            results.append(Result(case, float(np.percentile(waited, q)), "s", bound, higher_is_better=False))
        busy = _share(told["cpu"], first, min(last, told["cpu"][-1][0]))
        case = f"latency, {phase.rate:,.0f}/s, a commit every {seconds:g} s: worker"
        results.append(Result(case, 100 * busy, "% of a core", higher_is_better=False))
    return results


def prepare(
    settings: dict[str, Any], warm_up: list[bytes], expected: int, ready: Path, record: Path
) -> Callable[[], Outcome]:
    """A worker that stops once `expected` rows are durable, and leaves in `record` when each offset was.

    Its commits are [ms since 1970, position of each partition]; its CPU is [ms since 1970, seconds so far].
    """
    commits: list[tuple[float, dict[int, int]]] = []
    cpu: list[tuple[float, float]] = []

    def committed(progress: Any) -> None:
        at = 1e3 * time.time()
        commits.append((at, {p: claim.position for p, claim in engine.sink.ledger.own.items()}))
        cpu.append((at, time.process_time()))
        ready.touch()
        if progress.rows >= expected:
            engine.stop()

    engine = build(RunSettings(**settings), on_commit=committed)
    warm(engine.worker, warm_up)

    def go() -> Outcome:
        began, before = time.perf_counter(), time.process_time()
        rows = engine.run().rows
        record.write_text(json.dumps({"commits": commits, "cpu": cpu}))
        return Outcome(rows, began, time.perf_counter(), {}, time.process_time() - before)

    return go


def durable_at(partition: Int64, offset: Int64, commits: list[tuple[float, dict[str, int]]]) -> Float64:
    """When each (partition, offset) became durable: the first commit whose position is beyond it; NaN where none is."""
    out = np.full(len(offset), np.nan)
    for p in np.unique(partition):
        mine = partition == p
        steps = [(at, positions[str(p)]) for at, positions in commits if str(p) in positions]
        times = np.array([at for at, _ in steps] + [np.nan])
        out[mine] = times[np.searchsorted([position for _, position in steps], offset[mine], side="right")]
    return out


def _share(cpu: list[tuple[float, float]], first: float, last: float) -> float:
    """Of a core, between two times."""
    at, spent = np.array(cpu).T
    return float((np.interp(last, at, spent) - np.interp(first, at, spent)) / (last - first) * 1e3)


def _wait(until: Callable[[], bool]) -> None:
    deadline = time.monotonic() + START_SECONDS
    while not until():
        if time.monotonic() > deadline:
            raise RuntimeError(f"the worker made no commit within {START_SECONDS:.0f} s")
        time.sleep(POLL_SECONDS)
