"""Lag: from the tables and the broker, never from the group's committed offsets."""

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from deltalake import CommitProperties, Transaction, write_deltalake

from schemas.catalogue import ROWS, TOPICS
from schemas.errors import TroubleError, UserError
from streamer.catalogue import open_catalogue
from streamer.lag.readers import durable_offsets
from streamer.lag.standing import Status
from streamer.lag.watch import Watch
from tests.catalogue_builder import CLUSTER, EPOCH, MODELS_HERE, TOPIC, build


def test_durable_is_the_offset_and_before_the_first_commit_the_start(tmp_path: Path) -> None:
    build(tmp_path, rows_a_night=20)
    found = durable_offsets(open_catalogue(tmp_path))
    assert {(reader.model, partition): at for (reader, partition), at in found.items()} == {
        ("forest-lsst-01234567", 0): 60,
        ("forest-lsst-01234567", 1): 0,
        ("image-lsst-fedcba98", 0): 60,
        ("image-lsst-fedcba98", 1): 0,
    }
    assert all(reader.topic == TOPIC for reader, _ in found)
    assert durable_offsets(open_catalogue(tmp_path), "another") == {}


def test_only_the_newest_meaning_of_a_topic_has_a_lag(tmp_path: Path) -> None:
    build(tmp_path, rows_a_night=20)
    bind(tmp_path, TOPIC, "recreated/id", 5)
    found = durable_offsets(open_catalogue(tmp_path))
    assert {
        (reader.topic_id, partition): at for (reader, partition), at in found.items() if "forest" in reader.model
    } == {("recreated/id", 0): 5}


def test_a_broker_that_is_away_is_said_to_be_away_within_seconds(tmp_path: Path) -> None:
    build(tmp_path, rows_a_night=20)
    begun = time.monotonic()
    with pytest.raises(TroubleError, match=r"No broker answers at 127\.0\.0\.1:1"):
        Watch(open_catalogue(tmp_path), "127.0.0.1:1", patience=0.5).look()
    assert time.monotonic() - begun < 5


def test_a_catalogue_that_read_nothing_has_no_lag(tmp_path: Path) -> None:
    build(tmp_path, rows_a_night=20)
    with pytest.raises(UserError, match="has read nothing from the topic nix"):
        Watch(open_catalogue(tmp_path), "127.0.0.1:1", topic="nix").look()


@pytest.mark.broker
def test_the_lag_of_a_real_topic(tmp_path: Path, broker: Any, topic: Callable[..., str]) -> None:
    from confluent_kafka import Producer

    from streamer.source.connection import identify

    build(tmp_path, nights=())
    name = topic(partitions=2)
    producer = Producer({"bootstrap.servers": broker.bootstrap})
    for k in range(7):
        producer.produce(name, b"x", partition=k % 2)
    producer.flush(10)
    bind(tmp_path, name, identify({"bootstrap.servers": broker.bootstrap}, name).topic_id, 1)
    rows = Watch(open_catalogue(tmp_path), broker.bootstrap, topic=name).look()
    assert [(row.partition, row.start, row.durable, row.end, row.lag) for row in rows] == [
        (0, 0, 1, 4, 3),
        (1, 0, None, 3, 3),
    ]

    other = topic(partitions=1)
    bind(tmp_path, other, "what-it-was-before", 1)
    bind(tmp_path, "no-such-topic", "id", 1)
    for gone in (other, "no-such-topic"):
        (row,) = Watch(open_catalogue(tmp_path), broker.bootstrap, topic=gone).look()
        assert (row.durable, row.end, row.lag, row.status) == (1, None, None, Status.REWOUND)


def bind(path: Path, topic: str, topic_id: str, offset: int) -> None:
    """Let the forest model have read partition 0 of `topic` up to `offset`."""
    import datetime as dt

    import pyarrow as pa

    processing_id = MODELS_HERE[0][1]
    row = dict(zip(TOPICS.names, (processing_id, CLUSTER, topic, topic_id, EPOCH + dt.timedelta(days=1)), strict=True))
    write_deltalake(str(path / "topics"), pa.Table.from_pylist([row], TOPICS), mode="append")
    commit = CommitProperties(app_transactions=[Transaction(f"slipher/{processing_id}/{topic_id}/0/offset", offset)])
    write_deltalake(str(path / "rows"), ROWS.empty_table(), mode="append", commit_properties=commit)
