"""A night under load: live traffic of every form while a test does its worst, then the proof that all of it is there once."""

import time
from pathlib import Path

import numpy as np
from confluent_kafka import KafkaException, TopicPartition
from confluent_kafka.admin import AdminClient, OffsetSpec

from benchmarks.soak_feed import Feed, Witness
from benchmarks.soak_judge import judge, produced
from benchmarks.soak_messages import Forms
from streamer.sink.appids import read_app_ids
from streamer.sink.verify import verify
from streamer.source.connection import COMMITTED
from tests.streaming import durable, engine, now_mjd, wait_until

RATE = 300.0  # messages a second: alerts in Avro and Arrow, tombstones, 1 % poison of every kind, transactions


class Night:
    """``with Night(bootstrap, topic, partitions, catalog) as night: ...; night.settle()``

    Nothing is taken from slipher to know what was produced: a consumer of its own reads what is committed.
    """

    def __init__(self, bootstrap: str, topic: str, partitions: int, catalog: Path, seed: int = 1, rate: float = RATE):
        self.bootstrap, self.topic, self.catalog = bootstrap, topic, catalog
        self.forms = Forms(now_mjd(), np.random.default_rng(seed))
        self.feed = Feed(bootstrap, topic, partitions, self.forms, rate, seed)
        self.witness = Witness(bootstrap, topic, partitions)
        self.admin = AdminClient({"bootstrap.servers": bootstrap, "log_level": 0})

    def __enter__(self) -> "Night":
        self.witness.start()
        self.feed.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.feed.stop()
        self.witness.stop()

    def goes_on(self, messages: int = 200, process: object = None, seconds: float = 60) -> None:
        """Wait until so many more offsets are durable than now."""
        before = durable(self.catalog)
        wait_until(lambda: durable(self.catalog) >= before + messages, process, seconds)  # type: ignore[arg-type]

    def ends(self) -> dict[int, int] | None:
        """One past the last offset of each partition; None while a transaction is open, or nobody answers."""
        asked = {TopicPartition(self.topic, p): OffsetSpec.latest() for p in range(self.feed.partitions)}
        try:
            committed = self.admin.list_offsets(asked, isolation_level=COMMITTED, request_timeout=10)
            everything = self.admin.list_offsets(asked, request_timeout=10)
            found = {w.partition: answer.result().offset for w, answer in committed.items()}
            return found if found == {w.partition: a.result().offset for w, a in everything.items()} else None
        except KafkaException:
            return None

    def settle(self, **more: object) -> None:
        """Send no more; let one honest worker finish; hold the tables against what was produced."""
        outcome = self.feed.stop()
        assert not self.feed.failed
        wait_until(lambda: self.ends() is not None, seconds=60)
        ends = self.ends()
        assert ends is not None
        engine(self.bootstrap, self.topic, self.catalog, **more).run()
        wait_until(lambda: self.witness.positions == ends, seconds=60)
        read = self.witness.stop()
        assert not self.witness.failed
        assert not produced(outcome, read)
        (processing_id,) = {app.split("/")[1] for app in read_app_ids(self.catalog / "rows") if app.endswith("/start")}
        verdict = judge(self.catalog, processing_id, read, self.forms.all, ends)
        assert (verdict.lost, verdict.doubled) == (0, 0), verdict.lines
        assert verdict.rows > 0
        assert verdict.exceptions > 0
        report = verify(self.catalog)
        assert report.ok, report.lines()
        assert report.offsets == sum(ends.values())


def pause(seconds: float) -> None:
    """A fault that lasts: time is what it is about, there is nothing to wait for."""
    time.sleep(seconds)
