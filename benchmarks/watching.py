"""What it costs to watch: 1,000 partitions read by three models, a look each five seconds; and how soon `slipher lag` answers.

The watch is a process of its own; this one sends messages and writes the table's commits between its looks, as workers would:
a commit carries the numbers of the partitions that it moves, and no rows, which a watch does not read.
"""

import multiprocessing
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from benchmarks.report import Result, middle

PARTITIONS, MODELS, WORKERS = 1_000, 3, 4  # workers of each model: each moves its share of the partitions in one commit
SMALL = 45  # partitions of an alert stream of Rubin's
EVERY = 5.0
MESSAGES = 4  # to each partition between two looks
BACKLOG = 400  # that stand in each partition before anybody looks
ALLOWED_CORE, ALLOWED_MEMORY, ALLOWED_SECONDS = 5.0, 150.0, 2.0
TOPIC = "watched"
STATES = (  # of a stream: messages that are not durable at first, and whether they are read
    ("read as it comes", 0, True),
    ("a backlog is read", BACKLOG, True),
    ("nobody reads", BACKLOG, False),
)


def run(quick: bool) -> list[Result]:
    """A share of a core and memory in three states of the stream, then the command."""
    from streamer.broker.server import Broker

    looks = 4 if quick else 24
    results: list[Result] = []
    with tempfile.TemporaryDirectory(prefix="slipher-watching-") as folder, Broker() as broker:
        for name, behind, moves in STATES:
            stream = Stream(
                Path(folder) / name.replace(" ", "-"), broker.bootstrap, f"{TOPIC}-{name.replace(' ', '-')}"
            )
            stream.send(BACKLOG)
            stream.commit(BACKLOG - behind)
            results += _watched(name, stream, looks, moves)
        results += _asked(f"slipher lag, {PARTITIONS:,} partitions x {MODELS} models", stream, quick)
        small = Stream(Path(folder) / "small", broker.bootstrap, f"{TOPIC}-small", SMALL, 2)
        small.send(BACKLOG)
        small.commit(BACKLOG // 2)
        results += _asked(f"slipher lag, {SMALL} partitions x 2 models", small, quick)
    return results


def failed(results: list[Result]) -> bool:
    """Whether something costs more than it may."""
    return any(result.ours > result.peers.get("allowed", result.ours) for result in results)


class Stream:
    """A topic with messages, and a catalogue that models have read it into."""

    def __init__(
        self, root: Path, brokers: str, topic: str, partitions: int = PARTITIONS, models: int = MODELS
    ) -> None:
        from confluent_kafka import Producer

        from schemas.catalogue import TOPICS
        from streamer.publish import make_topic
        from streamer.sink.catalogue import ensure
        from streamer.source.connection import identify

        self.root, self.brokers, self.topic, self.partitions = root, brokers, topic, partitions
        self.models = [f"{k:016x}" for k in range(models)]
        self.producer = Producer(
            {"bootstrap.servers": brokers, "queue.buffering.max.messages": 2_000_000, "linger.ms": 50}
        )
        make_topic(topic, partitions, {"bootstrap.servers": brokers})
        here = identify({"bootstrap.servers": brokers}, topic)
        self.topic_id, self.sent, self.read = here.topic_id, 0, 0
        ensure(root)
        now = datetime.now(UTC)
        rows = [
            dict(zip(TOPICS.names, (who, here.cluster_id, topic, here.topic_id, now), strict=True))
            for who in self.models
        ]
        _append(root / "topics", rows)

    def send(self, n: int) -> None:
        """`n` messages to each partition."""
        for p in range(self.partitions):
            for _ in range(n):
                self.producer.produce(self.topic, b"x" * 100, partition=p)
            self.producer.poll(0)
        if self.producer.flush(300):
            raise RuntimeError("the broker did not take the messages")
        self.sent += n

    def commit(self, n: int) -> None:
        """Every worker of every model commits once: `n` messages more of each of its partitions are durable."""
        from deltalake import CommitProperties, DeltaTable, Transaction

        from streamer.sink.appids import app_id

        self.read += n
        for who in self.models:
            for worker in range(WORKERS):
                ids = [
                    Transaction(app_id(who, self.topic_id, p, what), number)
                    for p in range(worker, self.partitions, WORKERS)
                    for what, number in (("offset", self.read), ("epoch", 1))
                ]
                table = DeltaTable(str(self.root / "rows"))
                properties = CommitProperties(app_transactions=ids)
                by = ["night", "model"]
                table.create_write_transaction(
                    [], "append", table.schema(), partition_by=by, commit_properties=properties
                )


def _append(folder: Path, rows: list[dict[str, Any]]) -> None:
    import pyarrow as pa
    from deltalake import write_deltalake

    from schemas.catalogue import TOPICS

    write_deltalake(str(folder), pa.Table.from_pylist(rows, TOPICS), mode="append")


def _watched(name: str, stream: Stream, looks: int, moves: bool) -> list[Result]:
    here, there = multiprocessing.Pipe()
    watcher = multiprocessing.get_context("spawn").Process(
        target=_watch, args=(there, str(stream.root), stream.brokers, looks), daemon=True
    )
    watcher.start()
    there.close()
    try:
        for _ in _ticks(here):
            stream.send(MESSAGES)
            if moves:
                stream.commit(MESSAGES if stream.read + MESSAGES >= stream.sent - MESSAGES else 2 * MESSAGES)
        found = here.recv()
    finally:
        watcher.join(10)
        watcher.kill()
    seconds, spread = middle(found["cpu"])
    share, memory = {"allowed": ALLOWED_CORE}, {"allowed": ALLOWED_MEMORY}
    return [
        Result(f"{name}: a look each {EVERY:g} s", 100 * found["share"], "% of a core", share, higher_is_better=False),
        Result(f"{name}: CPU of a look", 1e3 * seconds, "ms", spread=spread, higher_is_better=False),
        Result(f"{name}: memory above imports", found["memory"], "MB", memory, higher_is_better=False),
    ]


def _ticks(here: Connection) -> Iterator[None]:
    """One for each look that the watcher is about to wait for."""
    while here.recv() == "looked":
        yield


def _watch(there: Connection, root: str, brokers: str, looks: int) -> None:
    """Look, say so, wait; in the end tell what it cost, the waiting too. The first look is not counted: it is made once."""
    from streamer.catalogue import open_catalogue
    from streamer.lag.watch import Watch

    before = _resident()
    watch = Watch(open_catalogue(root), brokers)
    rows = watch.look()
    each: list[float] = []
    begun, spent = time.perf_counter(), time.process_time()
    for _ in range(looks):
        there.send("looked")
        time.sleep(max(0.0, begun + EVERY * (len(each) + 1) - time.perf_counter()))
        at = time.process_time()
        rows = watch.look()
        each.append(time.process_time() - at)
    share = (time.process_time() - spent) / (time.perf_counter() - begun)
    there.send("ended")
    there.send({"share": share, "cpu": each, "memory": _resident() - before, "rows": len(rows)})


def _asked(case: str, stream: Stream, quick: bool) -> list[Result]:
    """Wall-clock seconds of the command, from nothing to its last line."""
    command = [sys.executable, "-m", "streamer", "lag", "--catalog", str(stream.root), "--brokers", stream.brokers]
    taken = []
    for _ in range(2 if quick else 5):
        begun = time.perf_counter()
        subprocess.run(command, check=True, capture_output=True, env=os.environ | {"COLUMNS": "130"})
        taken.append(time.perf_counter() - begun)
    seconds, spread = middle(taken)
    return [Result(case, seconds, "s", {"allowed": ALLOWED_SECONDS}, spread, higher_is_better=False)]


def _resident() -> float:
    """MB that this process holds."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("VmRSS"):
            return int(line.split()[1]) / 1e3
    raise RuntimeError("this system does not say how much memory a process holds")
