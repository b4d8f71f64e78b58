"""How far the catalogue is behind the broker: end, durable and lag of each partition, for each model.

What is durable is read from the rows table, never from Kafka's committed offsets: those are a hint to other tools.
"""

import json
import re
from collections.abc import Mapping
from typing import Any, NamedTuple

from schemas.errors import TroubleError, UserError
from streamer.backfill.manifest import CLUSTER
from streamer.catalogue import Catalogue

# A topic id may hold slashes: librdkafka prints it in the standard base 64.
_APP = re.compile(r"slipher/(?P<processing>[^/]+)/(?P<topic>.+)/(?P<partition>\d+)/(?P<what>\w+)")
PATIENCE = 5.0  # seconds that a person waits for a broker before being told that it is not there


class Reader(NamedTuple):
    """A model that reads a topic into the catalogue."""

    model: str
    processing_id: str
    topic: str
    topic_id: str


class Lag(NamedTuple):
    """One partition as read by one model.

    Attributes
    ----------
    topic, partition, model
        Which.
    durable
        Offset from which the next reader goes on: all below is in the catalogue. None where it was never claimed.
    end
        Where the partition ends for readers of committed messages. None where the broker knows no such partition.
    lag
        Offsets between, at least 0; None where one of them is unknown.
    """

    topic: str
    partition: int
    model: str
    durable: int | None
    end: int | None
    lag: int | None


class Ends(NamedTuple):
    """A topic at the broker: its id, and where each partition ends."""

    topic_id: str
    ends: dict[int, int]


def lags(durable: Mapping[tuple[Reader, int], int], ends: Mapping[str, Mapping[int, int]]) -> list[Lag]:
    """Bring both sides together: a row for each partition that the broker has or a model has read, sorted.

    Parameters
    ----------
    durable
        Next offset by (reader, partition).
    ends
        End offsets by partition, by topic.
    """
    out = []
    for reader in sorted({reader for reader, _ in durable}):
        mine = {partition: offset for (who, partition), offset in durable.items() if who == reader}
        theirs = ends.get(reader.topic, {})
        for partition in sorted(mine.keys() | theirs.keys()):
            at, end = mine.get(partition), theirs.get(partition)
            # A reader may be ahead for a moment: the end was asked first.
            behind = max(end - at, 0) if at is not None and end is not None else None
            out.append(Lag(reader.topic, partition, reader.model, at, end, behind))
    return sorted(out, key=lambda row: (row.topic, row.model, row.partition))


def durable_offsets(catalogue: Catalogue, topic: str | None = None) -> dict[tuple[Reader, int], int]:
    """Next offset by (reader, partition), from the rows table's transactions: ``offset``, or ``start`` before the first commit.

    Only the newest binding of a topic's name counts: what a topic of that name was before has no lag any more.
    """
    from streamer.sink.appids import read_app_ids

    readers = _readers(catalogue, topic)
    out: dict[tuple[Reader, int], int] = {}
    ids = read_app_ids(catalogue.root / "rows")
    for what in ("start", "offset"):  # an offset takes the place of the start
        for app, version in ids.items():
            found = _APP.fullmatch(app)
            if found and found["what"] == what and (reader := readers.get((found["processing"], found["topic"]))):
                out[reader, int(found["partition"])] = version
    return out


def broker_ends(
    brokers: str, topics: list[str], kafka: Mapping[str, str] | None = None, patience: float = PATIENCE
) -> dict[str, Ends]:
    """Ids and end offsets of `topics`; the ends are those of readers of committed messages.

    Raises
    ------
    TroubleError
        No broker answers within `patience` seconds.
    UserError
        A topic does not exist.
    """
    from confluent_kafka import IsolationLevel, KafkaException, TopicPartition
    from confluent_kafka.admin import AdminClient, OffsetSpec  # type: ignore[attr-defined]

    from streamer.source.connection import identify

    settings: dict[str, Any] = {**(kafka or {}), "bootstrap.servers": brokers, "log_level": 0}
    out = {}
    for topic in topics:
        identity = identify(settings, topic, patience)
        asked = {TopicPartition(topic, p): OffsetSpec.latest() for p in range(identity.partitions)}
        admin = AdminClient(settings)
        try:
            answers = admin.list_offsets(asked, isolation_level=IsolationLevel.READ_COMMITTED, request_timeout=patience)
            ends = {place.partition: answer.result(patience + 1).offset for place, answer in answers.items()}
        except (KafkaException, TimeoutError) as error:
            raise TroubleError(f"The broker at {brokers} does not say where {topic} ends ({error}).") from None
        out[topic] = Ends(identity.topic_id, ends)
    return out


def measure(
    catalogue: Catalogue,
    brokers: str,
    topic: str | None = None,
    kafka: Mapping[str, str] | None = None,
    patience: float = PATIENCE,
) -> list[Lag]:
    """The lag of every model on every topic it reads, or on one.

    Raises
    ------
    TroubleError
        No broker answers.
    UserError
        Nothing was ever read into this catalogue, or not from `topic`; or a topic was recreated at the broker.
    """
    durable = durable_offsets(catalogue, topic)
    if not durable:
        raise UserError(f"{catalogue.root} has read nothing{f' from the topic {topic}' if topic else ''} yet.")
    there = broker_ends(brokers, sorted({reader.topic for reader, _ in durable}), kafka, patience)
    for reader in {reader for reader, _ in durable}:
        if there[reader.topic].topic_id != reader.topic_id:
            raise UserError(
                f"The topic {reader.topic} at {brokers} is not the one that {catalogue.root} has read: its id is "
                f"{there[reader.topic].topic_id}, not {reader.topic_id}. It was recreated, or this is another cluster."
            )
    return lags(durable, {name: ends.ends for name, ends in there.items()})


def as_json(rows: list[Lag]) -> str:
    """A JSON list of objects, one per partition and model."""
    return json.dumps([row._asdict() for row in rows], indent=1)


def _readers(catalogue: Catalogue, topic: str | None) -> dict[tuple[str, str], Reader]:
    """Readers by (processing id, topic id): the newest binding of each (processing, cluster, topic)."""
    models = catalogue.models()
    names = dict(zip(models["processing_id"].to_pylist(), models["model"].to_pylist(), strict=True))
    newest: dict[tuple[str, str, str], dict[str, Any]] = {}
    for row in catalogue.topics().to_pylist():  # oldest first
        if topic in (None, row["topic"]) and row["cluster_id"] != CLUSTER:  # no broker knows of files at rest
            newest[row["processing_id"], row["cluster_id"], row["topic"]] = row
    readers = {}
    for row in newest.values():
        who = row["processing_id"]
        readers[who, row["topic_id"]] = Reader(names.get(who, who), who, row["topic"], row["topic_id"])
    return readers
