"""What it costs a worker to say what it does: the operations of one batch by themselves, and whole pipelines with and without.

The first is exact and small, so the second can only show that nothing else comes with it: CPU of the process, both in turn.
"""

import time
from collections import defaultdict
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from tempfile import TemporaryDirectory
from types import SimpleNamespace
from typing import Any

import numpy as np
from opentelemetry.sdk.trace import SpanProcessor
from prometheus_client import generate_latest
from rich.console import Console

from benchmarks import feed as feeds
from benchmarks import ours
from benchmarks.crew import race
from benchmarks.pipeline import JOIN_MS
from benchmarks.report import Result, compared
from schemas.batch import Messages
from streamer.broker.server import Broker
from streamer.broker.settings import BrokerSettings
from streamer.metrics.names import Stage
from streamer.metrics.station import Station
from streamer.observer import Lookout, Observer
from streamer.source.kafka import BATCH_MESSAGES
from streamer.tally import Progress
from streamer.traces import Traces

SIZES = (1, 1_000, BATCH_MESSAGES)
BYTES = 250  # of a message, as of a native alert in Avro
ROWS = {True: 100_000, False: 400_000}  # of a pipeline, quick and not
REPEATS = {True: 3, False: 7}
ON, OFF = "with metrics, scraped every second", "without"


def run(quick: bool) -> list[Result]:
    """Operations, a scrape, and pipelines."""
    results = [of_a_batch(size, 50 if quick else 400) for size in SIZES]
    results.append(_scrape(50 if quick else 300))
    return results + _pipelines(quick)


def told(observer: Observer, batch: Messages, progress: Progress) -> None:
    """All that an engine tells of one batch that is committed by itself: more than of one in practice."""
    observer.stepped()
    observer.polled(batch, 0.1)
    with observer.at("settle"):
        with observer.timed(Stage.PROCESS, batch):
            for stage in (Stage.DECODE, Stage.ESTIMATE, Stage.ROWS):
                with observer.timed(stage):
                    pass
        with observer.timed(Stage.SETTLE):
            for stage in (Stage.PARQUET, Stage.COMMIT):
                with observer.timed(stage):
                    pass
            observer.landed({0: 1}, ())
        observer.committed(progress)


def of_a_batch(size: int, rounds: int) -> Result:
    """Microseconds of CPU for one batch of `size` messages: metrics, beside traces (made, not sent), and nobody who listens."""
    listeners: dict[str, Lookout] = {"slipher": Station(), "traces": Traces(SpanProcessor()), "off": Lookout()}
    payloads: list[bytes | None] = [bytes(BYTES)] * size
    at = np.zeros(size, np.int64)
    spent: dict[str, list[float]] = defaultdict(list)
    for who, lookout in listeners.items():
        lookout.loaded(SimpleNamespace(id="0" * 16, model="forest-lsst-00000000"), "forest")  # type: ignore[arg-type]
        for _ in range(7):
            observer = lookout.observer("alerts")
            observer.begins(_engine())
            began = time.thread_time()
            for k in range(rounds):
                batch = Messages(payloads, at.astype(np.int32), at, at, {0: k + 1}, (), {0: k})
                told(observer, batch, Progress(k * size, k * size, k, k, 0, {"CORRUPT": k}))
            spent[who].append(1e6 * (time.thread_time() - began) / rounds)
    result = compared(f"one batch of {size:,} and its commit", "us of CPU", spent)
    result.higher_is_better = False
    return result


def _engine() -> Any:
    """As much of one as an observer looks at."""
    sink = SimpleNamespace(ledger=SimpleNamespace(root=Path()))
    return SimpleNamespace(sink=sink, source=SimpleNamespace(bytes_read=0))


def _scrape(rounds: int) -> Result:
    station = Station()
    station.loaded(SimpleNamespace(id="0" * 16, model="forest-lsst-00000000"), "forest")  # type: ignore[arg-type]
    station.observer("alerts")
    spent = []
    for _ in range(5):
        began = time.thread_time()
        for _ in range(rounds):
            generate_latest(station.meters)
        spent.append(1e6 * (time.thread_time() - began) / rounds)
    result = compared("one scrape", "us of CPU", {"slipher": spent})
    result.higher_is_better = False
    return result


def _pipelines(quick: bool) -> list[Result]:
    """CPU of whole pipelines by object: the same topic read by one worker, with and without, in turn."""
    console = Console(stderr=True)
    rows = ROWS[quick]
    spent: dict[str, list[float]] = defaultdict(list)
    with ExitStack() as stack:
        root = Path(stack.enter_context(TemporaryDirectory(prefix="slipher-benchmark-")))
        broker = stack.enter_context(Broker(BrokerSettings(properties=JOIN_MS)))
        feeds.train(root / "dc2.slipher", root / "dc2.joblib", lambda what, _: None)
        topic = feeds.feed(feeds.night(rows), "avro", rows, broker.bootstrap)
        for repeat in range(REPEATS[quick]):
            for who, prepare in _in_turn({"slipher": metered, OFF: ours.prepare}, repeat):
                catalog = root / f"catalog-{repeat}-{who.split()[0]}"
                settings = {
                    "brokers": broker.bootstrap,
                    "topic": topic.topic,
                    "model": root / "dc2.slipher",
                    "catalog": catalog,
                    "group": catalog.name,
                    "start": "earliest",
                }
                found = race(prepare, [(settings, topic.warm_up)])
                spent[who].append(found.stages["all of the process"])
                console.print(f"{repeat + 1}: {ON if who == 'slipher' else OFF}: {spent[who][-1]:.3f} us an object")
    result = compared(f"a pipeline of {rows:,} alerts in Avro, {ON}", "us/object", spent)
    result.higher_is_better = False
    result.ratios = {who: 1 / ratio for who, ratio in result.ratios.items()}
    return [result]


def _in_turn(both: dict[str, Any], repeat: int) -> list[tuple[str, Any]]:
    return list(both.items())[:: 1 if repeat % 2 else -1]


def metered(settings: dict[str, Any], warm_up: list[bytes]) -> Callable[[], Any]:
    """As ``ours.prepare``, with all of what ``--metrics-port`` adds, and somebody who scrapes every second."""
    import threading
    import urllib.request

    from streamer.metrics.server import Server

    station = Station()
    server = Server("127.0.0.1", 0, station.meters, station.alive, station.ready)
    go = ours.prepare(settings, warm_up, station)
    over = threading.Event()

    def scrape() -> None:
        while not over.wait(1.0):
            urllib.request.urlopen(f"http://127.0.0.1:{server.port}/metrics", timeout=10).read()

    def watched() -> Any:
        threading.Thread(target=scrape, daemon=True).start()
        try:
            return go()
        finally:
            over.set()
            server.close()

    return watched
