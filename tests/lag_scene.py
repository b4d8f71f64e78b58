"""What the tests of lag share: a real topic, a catalogue whose positions are set by hand, a clock that stands still."""

import datetime as dt
import json
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Self

import pyarrow as pa
from confluent_kafka import Producer
from confluent_kafka.admin import AdminClient
from deltalake import CommitProperties, DeltaTable, Transaction, write_deltalake

from schemas.catalogue import TOPICS
from streamer.catalogue import open_catalogue
from streamer.lag.broker import BrokerReading
from streamer.lag.standing import Standing
from streamer.lag.watch import Watch
from streamer.sink.appids import app_id
from streamer.source.connection import identify
from tests.catalogue_builder import CLUSTER, EPOCH, MODELS_HERE, build
from tests.streaming import wait_until

FOREST, IMAGE = (processing_id for _, processing_id in MODELS_HERE)


class Scene:
    """A topic that models read into a catalogue."""

    def __init__(self, bootstrap: str, topic: str, path: Path, models: tuple[str, ...] = (FOREST,)) -> None:
        self.bootstrap, self.topic, self.path = bootstrap, topic, path
        self.now = float(int(time.time()))  # whole seconds: Kafka keeps milliseconds
        self.admin = AdminClient({"bootstrap.servers": bootstrap, "log_level": 0})
        self.connect()
        if not (path / "rows").exists():
            build(path, nights=())
        self.topic_id = identify({"bootstrap.servers": bootstrap}, topic).topic_id
        bind(path, topic, self.topic_id, models)
        self.watch = self.new_watch()

    def new_watch(self, **more: Any) -> Watch:
        given = {"topic": self.topic, "clock": lambda: self.now, "reading": 20.0} | more
        return Watch(open_catalogue(self.path), self.bootstrap, **given)

    def connect(self) -> None:
        """A producer that knows the topic as it is now."""
        self.producer = Producer({"bootstrap.servers": self.bootstrap, "acks": "all", "log_level": 0})

    def wait(self, seconds: float) -> Self:
        """Move the clock."""
        self.now += seconds
        return self

    def send(
        self, n: int, partition: int = 0, ago: float = 0.0, skew: float = 0.0, size: int = 100, key: str = ""
    ) -> Self:
        """`n` messages, sent `ago` seconds ago by a producer whose clock is `skew` seconds ahead of ours."""
        stamp = int((self.now - ago + skew) * 1e3)
        for _ in range(n):
            self.producer.produce(self.topic, b"x" * size, key or None, partition, timestamp=stamp)
        assert self.producer.flush(20) == 0
        return self

    def transaction(self, n: int, end: str = "commit", partition: int = 0) -> Self:
        """`n` messages in a transaction; its marker, where it comes to an end, takes one offset more."""
        name = f"{self.topic}-{time.monotonic_ns()}"
        settings = {"bootstrap.servers": self.bootstrap, "transactional.id": name, "log_level": 0}
        self.transactional = Producer(settings)
        self.transactional.init_transactions(20)
        self.transactional.begin_transaction()
        for _ in range(n):
            self.transactional.produce(self.topic, b"x", partition=partition, timestamp=int(self.now * 1e3))
        assert self.transactional.flush(20) == 0
        before = self.end(partition)
        if end == "commit":
            self.transactional.commit_transaction(20)
        elif end == "abort":
            self.transactional.abort_transaction(20)
        wait_until(lambda: end == "leave open" or self.end(partition) > before)  # the marker comes after the answer
        return self

    def end(self, partition: int = 0) -> int:
        """Where a partition ends for readers of committed messages."""
        place = self.topic, partition
        return BrokerReading(self.bootstrap).offsets({place: -1})[place]

    def durable(self, offsets: Mapping[int, int], processing_id: str = FOREST, what: str = "offset") -> Self:
        """One commit of the rows table, made now, that moves partitions of a model."""
        ids = {app_id(processing_id, self.topic_id, p, what): offset for p, offset in offsets.items()}
        commit(self.path, ids, self.now)
        return self

    def look(self) -> list[Standing]:
        """All partitions and models."""
        return self.watch.look()

    def one(self) -> Standing:
        """Of a topic of one partition and one reader."""
        (row,) = self.watch.look()
        return row


def bind(
    path: Path,
    topic: str,
    topic_id: str,
    models: tuple[str, ...] = (FOREST,),
    days: int = 1,
    cluster: str = CLUSTER,
) -> None:
    """Let `topic` mean this to the models."""
    when = EPOCH + dt.timedelta(days=days)
    rows = [dict(zip(TOPICS.names, (who, cluster, topic, topic_id, when), strict=True)) for who in models]
    write_deltalake(str(path / "topics"), pa.Table.from_pylist(rows, TOPICS), mode="append")


def commit(path: Path, ids: Mapping[str, int], at: float) -> None:
    """A commit without rows, as if it had been made at the time `at`."""
    table = DeltaTable(str(path / "rows"))
    transactions = [Transaction(app, version) for app, version in ids.items()]
    properties = CommitProperties(app_transactions=transactions)
    by = ["night", "model"]
    table.create_write_transaction([], "append", table.schema(), partition_by=by, commit_properties=properties)
    table.update_incremental()
    entry = path / "rows" / "_delta_log" / f"{table.version():020d}.json"
    lines = [json.loads(line) for line in entry.read_text().splitlines()]
    for line in lines:
        if "commitInfo" in line:
            line["commitInfo"]["timestamp"] = int(at * 1e3)
    entry.write_text("".join(json.dumps(line, separators=(",", ":")) + "\n" for line in lines))
