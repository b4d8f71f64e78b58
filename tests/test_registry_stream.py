"""A topic whose schemas stand in a registry: new ids are read as they come, and a registry that is away is waited for."""

import io
import json
import signal
import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import fastavro
import pytest
from confluent_kafka import TopicPartition
from deltalake import DeltaTable

from schemas.surveys.native import avro_schema
from schemas.wire import confluent
from streamer import engine as engines
from streamer import stall
from streamer.broker.apicurio import SchemaRegistry
from streamer.broker.server import Broker
from streamer.registry import client
from streamer.source import kafka
from tests.registries import StandIn, missing, register, say
from tests.streaming import (
    alerts,
    assert_once,
    durable,
    engine,
    heard,
    identities,
    no_worker_outlives_its_test,  # noqa: F401
    send,
    spread,
    wait_until,
    worker,
)

pytestmark = pytest.mark.broker
Topic = Callable[..., str]
NATIVE = avro_schema("lsst")


@pytest.fixture(autouse=True)
def own_cache(broker: Broker, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Registries of tests give the same ids other meanings: nothing is kept beyond one. (Kafka is up before.)"""
    monkeypatch.setenv("SLIPHER_CACHE", str(tmp_path / "cache"))


def evolved() -> dict[str, Any]:
    """The next version: fields in another order, one more, one renamed by nobody, a float that became a double's int."""
    fields = [dict(field) for field in reversed(NATIVE["fields"])]
    state = next(f["type"] for f in NATIVE["fields"] if isinstance(f["type"], dict))
    first = next(f for f in fields if f["type"] == "slipher.BandState")
    last = next(f for f in fields if isinstance(f["type"], dict))
    first["type"], last["type"] = state, "slipher.BandState"
    next(f for f in fields if f["name"] == "ebv")["type"] = "double"  # not promoted to float: see below
    more = {"name": "broker_note", "type": ["null", "string"], "default": None}
    return {**NATIVE, "fields": [more, *fields]}


def under(schema_id: int, payloads: Sequence[bytes], schema: Any = NATIVE) -> list[bytes]:
    """Native messages with another id, written with `schema`."""
    out = []
    for payload in payloads:
        record = fastavro.schemaless_reader(io.BytesIO(payload[5:]), NATIVE, None)
        body = io.BytesIO()
        fastavro.schemaless_writer(body, schema, record)
        out.append(confluent.header(schema_id) + body.getvalue())
    return out


def test_new_ids_are_read_as_they_come(
    broker: Broker, schema_registry: SchemaRegistry, topic: Topic, tmp_path: Path
) -> None:
    """One topic, mixed ids, one of them registered while the worker runs; one that nobody knows is a refusal."""
    name, catalog, url = topic(2), tmp_path / "catalog", schema_registry.url
    _, values = alerts(400)
    known = register(url, f"{name}-value", NATIVE)
    mixed = [value for pair in zip(values[:100], under(known, values[100:200]), strict=True) for value in pair]
    mixed.insert(50, confluent.header(known + 5_000) + values[0][5:])
    send(broker.bootstrap, name, {0: mixed})
    running = worker(broker.bootstrap, name, catalog, "--registry", url)
    wait_until(lambda: durable(catalog) == 201, running)
    later = register(url, f"{name}-value", evolved())
    assert later != known
    send(broker.bootstrap, name, {0: under(later, values[200:300], evolved()), 1: under(known, values[300:])})
    wait_until(lambda: durable(catalog) == 401, running)
    running.send_signal(signal.SIGTERM)
    _, said = running.communicate(timeout=30)
    assert running.returncode == 0, said
    assert_once(catalog, identities({0: 301, 1: 100}) - {(0, 50, 0)}, {(0, 50, -1)})
    listed = DeltaTable(str(catalog / "exceptions")).to_pyarrow_table()
    assert listed["reason"].to_pylist() == ["UNKNOWN_SCHEMA"]
    assert listed["text"].to_pylist() == [f"no schema has the id {known + 5_000}"]

    # The same galaxies give the same rows, whatever their messages were written with.
    rows = DeltaTable(str(catalog / "rows")).to_pyarrow_table().sort_by([("kafka_partition", "ascending")])
    again = tmp_path / "again"
    plain = topic(1)
    send(broker.bootstrap, plain, {0: values})
    engine(broker.bootstrap, plain, again).run()
    twin = DeltaTable(str(again / "rows")).to_pyarrow_table()

    def by_object(table: Any) -> dict[str, tuple[Any, ...]]:
        return {row["object_id"]: (row["z_mode"], row["ebv"], row["flags"]) for row in table.to_pylist()}

    assert by_object(rows) == by_object(twin)


def test_a_start_without_the_registry(broker: Broker, topic: Topic, tmp_path: Path) -> None:
    """What was read once is known: the next start reads on though nothing answers."""
    name, catalog = topic(1), tmp_path / "catalog"
    _, values = alerts(60)
    with StandIn({7: {"schema": json.dumps(NATIVE)}}).running() as registry:
        send(broker.bootstrap, name, {0: under(7, values[:30])})
        engine(broker.bootstrap, name, catalog, registry=registry.url).run()
    send(broker.bootstrap, name, {0: under(7, values[30:])})
    engine(broker.bootstrap, name, catalog, registry=registry.url).run()
    assert_once(catalog, identities({0: 60}))


def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(client, "FIRST_PAUSE_S", 0.001)
    monkeypatch.setattr(stall, "FIRST_PAUSE_S", 0.01)
    monkeypatch.setattr(stall, "LONGEST_PAUSE_S", 0.05)


def test_a_registry_that_is_away_is_waited_for(
    broker: Broker, topic: Topic, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """For longer than the group lets a member be silent: no partition lost, nothing refused, nothing twice.

    What comes meanwhile is kept, then paused and thrown away, and read again.
    """
    quick(monkeypatch)
    monkeypatch.setattr(engines, "ALIVE_SECONDS", 0.05)
    monkeypatch.setattr(kafka, "STASH_MESSAGES", 5)
    monkeypatch.setattr(kafka, "BATCH_MESSAGES", 100)
    name, catalog = topic(2), tmp_path / "catalog"
    _, values = alerts(900)
    early, late = values[:100], under(7, values[100:500]) + values[500:]
    sent = spread(late, 2)
    send(broker.bootstrap, name, {0: early})
    send(broker.bootstrap, name, sent)
    paused = threading.Event()
    with StandIn({7: {"schema": json.dumps(NATIVE)}}).running() as registry:

        def away(handler: Any) -> None:
            if not paused.is_set():
                registry.instead.append(away)
            say(503, b"")(handler)

        registry.instead = [away]
        running = engine(broker.bootstrap, name, catalog, registry=registry.url, commit_seconds=0.05)
        running.source.consumer = Watched(running.source.consumer, paused)
        done = running.run()
    assert paused.is_set()
    assert (done.rows, done.refused) == (900, 0)
    assert_once(catalog, identities({0: 500, 1: 400}))
    assert "does not give schema 7: it answers 503" in caplog.text
    assert caplog.text.count("no message refused") == 1  # said once a minute, not with each try
    assert "going on after" in caplog.text
    assert caplog.text.count("assigned partitions") <= 1


class Watched:
    """A consumer that says when it was paused, and had time to be asked again."""

    def __init__(self, consumer: Any, paused: threading.Event) -> None:
        self._consumer, self._paused, self._times = consumer, paused, 0

    def pause(self, partitions: list[TopicPartition]) -> None:
        self._consumer.pause(partitions)
        self._times += 1
        if self._times == 20:
            self._paused.set()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._consumer, name)


def test_workers_that_wait_share_and_leave(broker: Broker, topic: Topic, tmp_path: Path) -> None:
    """While one waits for the registry another joins, gets its share, and both leave at once when told to; no offset is lost."""
    name, catalog = topic(2), tmp_path / "catalog"
    _, values = alerts(300)
    send(broker.bootstrap, name, spread(values[:100], 2))
    registry = ("--registry", "http://127.0.0.1:9", "--registry-setting", "timeout=2")
    first = worker(broker.bootstrap, name, catalog, *registry)
    wait_until(lambda: durable(catalog) == 100, first)
    send(broker.bootstrap, name, spread(under(7, values[100:200]), 2))
    heard(first, "http://127.0.0.1:9 does not give schema 7")
    second = worker(broker.bootstrap, name, catalog, *registry)
    heard(second, "claimed, positions")
    heard(second, "does not give schema 7")
    for leaving in (first, second):
        leaving.send_signal(signal.SIGTERM)
        _, said = leaving.communicate(timeout=10)
        assert leaving.returncode == 0, said
        assert "Traceback" not in said
    assert_once(catalog, identities({0: 50, 1: 50}))
    send(broker.bootstrap, name, spread(values[200:], 2))
    with StandIn({7: {"schema": json.dumps(NATIVE)}}).running() as back:
        engine(broker.bootstrap, name, catalog, registry=back.url).run()
    assert_once(catalog, identities({0: 150, 1: 150}))


def test_an_id_that_the_registry_does_not_have_is_refused(broker: Broker, topic: Topic, tmp_path: Path) -> None:
    name, catalog = topic(1), tmp_path / "catalog"
    _, values = alerts(20)
    send(broker.bootstrap, name, {0: [*values, *under(8, values[:1])]})
    with StandIn().running() as registry:
        registry.instead = [missing]
        engine(broker.bootstrap, name, catalog, registry=registry.url).run()
        assert registry.asked == ["/schemas/ids/8"]
    assert_once(catalog, identities({0: 20}), {(0, 20, -1)})
