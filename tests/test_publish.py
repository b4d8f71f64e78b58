"""The producer: everything handed to it is acknowledged and counted, or the trouble is a sentence."""

import re
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from confluent_kafka import Consumer, TopicPartition

from schemas import elasticc_alerts, photometry_table, table_alerts
from schemas.bands import BAND_SETS
from schemas.batch import BandState
from schemas.encoder import encode_arrow, encode_avro
from schemas.errors import TroubleError, UserError
from schemas.native_decoder import NativeDecoder
from schemas.night import mjd_of
from schemas.packet_decoder import PacketDecoder
from schemas.surveys import elasticc
from schemas.wire.confluent import KnownSchemas, schema_id
from streamer.broker.apicurio import SchemaRegistry
from streamer.broker.server import Broker
from streamer.publish import Pace, PublishInterrupted, due_times, make_topic, publish
from streamer.registry.client import registry
from streamer.registry.connection import Connection
from streamer.registry.register import register
from tests.made_galaxies import assert_same, galaxies, messages
from tests.registries import StandIn, say, strict

MakeTopic = Callable[..., str]


def kafka(broker: Broker) -> dict[str, str]:
    return {"bootstrap.servers": broker.bootstrap}


def values(broker: Broker, topic: str, ends: dict[int, int]) -> dict[int, list[bytes]]:
    """Everything below `ends`, by partition."""
    consumer = Consumer({**kafka(broker), "group.id": "reader", "auto.offset.reset": "error", "log_level": 0})
    consumer.assign([TopicPartition(topic, p, 0) for p in ends])
    found: dict[int, list[bytes]] = {p: [] for p in ends}
    for message in consumer.consume(sum(ends.values()), 20):
        assert message.error() is None
        found[message.partition()].append(message.value())  # type: ignore[index, arg-type]
    consumer.close()
    return found


def table(path: Path, n: int, *, positions: bool = True) -> Path:
    g = galaxies(n)
    columns: dict[str, object] = {"object_id": g.object_id, "ebv": g.ebv}
    for b, band in enumerate(g.bands):
        columns |= {f"flux_{band}": g.flux[:, b], f"flux_err_{band}": g.flux_err[:, b]}
    if positions:
        columns |= {"ra": g.ra, "dec": g.dec}
    pq.write_table(pa.table(columns), path)
    return path


def test_a_pace_makes_up_for_a_slow_moment() -> None:
    now = [100.0]
    waits: list[float] = []

    def wait(seconds: float) -> None:
        waits.append(seconds)
        now[0] += seconds

    pace = Pace(10.0, lambda: now[0], wait)
    pace.until(0)
    assert waits == []
    pace.until(3)
    assert now[0] == pytest.approx(100.3)
    assert max(waits) <= 0.1  # it looks after deliveries while it waits
    now[0] += 5
    waits.clear()
    pace.until(50)
    assert waits == []
    Pace(None, lambda: now[0], wait).until(10**9)
    assert waits == []


@pytest.mark.broker
def test_what_is_published_is_what_is_read(broker: Broker, topic: MakeTopic) -> None:
    name = topic(partitions=3)
    given = galaxies(4_000)
    payloads = encode_avro(given, "lsst")
    seen: list[int] = []
    done = publish(payloads, name, kafka(broker), on_progress=seen.append)
    assert done.counts == done.ends == {0: 1334, 1: 1333, 2: 1333}
    assert done.messages == seen[-1] == 4_000
    assert done.nbytes == sum(map(len, payloads))
    read = values(broker, name, done.ends)
    assert [read[i % 3][i // 3] for i in range(4_000)] == payloads
    again = publish(encode_arrow(given, "lsst"), name, kafka(broker))
    assert again.counts == {0: 1, 1: 1}
    assert again.ends == {0: 1335, 1: 1334}


@pytest.mark.broker
def test_a_full_queue_waits(broker: Broker, topic: MakeTopic) -> None:
    settings = kafka(broker) | {"queue.buffering.max.messages": "50"}
    assert publish((b"x" * 100 for _ in range(2_000)), topic(), settings).messages == 2_000


@pytest.mark.broker
def test_what_the_broker_refuses_is_said(broker: Broker, topic: MakeTopic) -> None:
    name = topic(partitions=2, max_message_bytes=2000)  # a batch of one partition is refused whole
    noise = np.random.default_rng(1).bytes(5000)
    with pytest.raises(TroubleError, match=r"took 1 of 2 messages for .* and refused 1: .*too large"):
        publish([b"small", noise], name, kafka(broker))
    with pytest.raises(UserError, match="no topic"):
        publish([b"x"], "no-such-topic", kafka(broker))


@pytest.mark.broker
def test_an_interrupt_flushes(broker: Broker, topic: MakeTopic) -> None:
    def payloads() -> Iterator[bytes]:
        yield from [b"one", b"two", b"three"]
        raise KeyboardInterrupt

    name = topic()
    with pytest.raises(PublishInterrupted) as stopped:
        publish(payloads(), name, kafka(broker))
    assert stopped.value.published.ends == {0: 3}
    assert values(broker, name, {0: 3}) == {0: [b"one", b"two", b"three"]}


@pytest.mark.broker
def test_a_topic_is_made_once(broker: Broker) -> None:
    assert make_topic("made-once", 2, kafka(broker))
    assert publish([b"x", b"y"], "made-once", kafka(broker)).ends == {0: 1, 1: 1}
    assert not make_topic("made-once", 2, kafka(broker))
    with pytest.raises(UserError, match="exists with 2 partitions, not 3"):
        make_topic("made-once", 3, kafka(broker))
    with pytest.raises(UserError, match="did not make"):
        make_topic("a name with blanks", 1, kafka(broker))


@pytest.mark.parametrize("form", ["avro", "arrow"])
def test_a_table_as_messages(tmp_path: Path, form: table_alerts.Form) -> None:
    read = photometry_table.read(table(tmp_path / "t.parquet", 25), BAND_SETS["lsst"])
    mjd = np.linspace(61000, 61001, 25)
    payloads = list(table_alerts.payloads(read, BAND_SETS["lsst"], mjd, form, rows=10))
    assert len(payloads) == (25 if form == "avro" else 3)
    found, refusals = NativeDecoder("lsst").decode(messages(payloads))
    assert refusals.text == []
    assert_same(found, table_alerts.galaxies(read, BAND_SETS["lsst"], mjd))
    assert found.alert_id.to_pylist() == [str(k) for k in range(25)]


def test_positions_are_invented_only_when_asked(tmp_path: Path) -> None:
    read = photometry_table.read(table(tmp_path / "t.parquet", 50, positions=False), BAND_SETS["lsst"])
    with pytest.raises(UserError, match="50 of 50 galaxies have no position"):
        table_alerts.placed(read, None)
    placed = table_alerts.placed(read, np.random.default_rng(1))
    assert not table_alerts.without_position(placed).any()
    half = vars(read) | {"ra": placed.ra, "dec": np.where(np.arange(50) % 2, placed.dec, np.nan)}
    again = table_alerts.placed(photometry_table.PhotometryTable(**half), np.random.default_rng(2))
    np.testing.assert_array_equal(again.dec[1::2], placed.dec[1::2])


def run(monkeypatch: pytest.MonkeyPatch, *words: str) -> None:
    """`slipher publish WORDS`."""
    from streamer.cli.main import build

    monkeypatch.setattr("sys.argv", ["slipher", "publish", *words])
    build()(["publish", *words], standalone_mode=False)


@pytest.mark.broker
def test_the_command(
    broker: Broker, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    words = [
        str(table(tmp_path / "t.parquet", 300, positions=False)),
        "--topic",
        "commanded",
        "--brokers",
        broker.bootstrap,
        "--partitions",
        "2",
        "--limit",
        "250",
    ]
    with pytest.raises(UserError, match="--synthetic-sky"):
        run(monkeypatch, *words)
    run(monkeypatch, *words, "--synthetic-sky", "--format", "arrow", "--rows", "100")
    said = capsys.readouterr()
    assert "250 galaxies without a position get an invented one" in said.err
    assert "250 galaxies of 250 in 3 messages" in said.out
    read = values(broker, "commanded", {0: 2, 1: 1})
    found, refusals = NativeDecoder("lsst").decode(messages([*read[0], *read[1]]))
    assert refusals.text == []
    assert len(found) == 250


def test_an_alert_happens_when_it_is_due() -> None:
    """At 2 messages a second, by the start however late they are made; without a rate when they are made."""
    clock = iter([1_800_000_000_000, 1_800_000_070_000])
    when = due_times(2.0, "utc", lambda: next(clock))
    began = mjd_of(1_800_000_000_000, "utc")
    np.testing.assert_allclose((when(np.arange(3)) - began) * 86_400, [0, 0.5, 1.0], atol=1e-5)
    np.testing.assert_allclose((when(np.arange(172_800, 172_802)) - began) * 86_400, [86_400, 86_400.5], atol=1e-5)
    clock = iter([1_800_000_000_000, 1_800_000_070_000])
    when = due_times(None, "tai", lambda: next(clock))
    np.testing.assert_allclose((when(np.arange(3)) - began) * 86_400, 37.0, atol=1e-5)
    np.testing.assert_allclose((when(np.arange(3, 4)) - began) * 86_400, 107.0, atol=1e-5)


@pytest.mark.broker
def test_elasticc_packets_through_kafka(
    broker: Broker,
    topic: MakeTopic,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """What is published is decoded back with the same fluxes, to the rounding of a float32 magnitude; what is lost is said."""
    name, path = topic(partitions=2), table(tmp_path / "t.parquet", 400)
    words = [str(path), "--topic", name, "--brokers", broker.bootstrap, "--format", "elasticc"]
    run(monkeypatch, *words)
    run(monkeypatch, *words, "--framing", "container", "--rows", "100", "--compression", "deflate")
    said = " ".join(capsys.readouterr().err.split())
    assert re.search(r"1[0-9][0-9] of 2,400 bands have no magnitude", said)
    assert "400 object ids are no numbers" in said
    read = values(broker, name, {0: 202, 1: 202})
    single = [read[k % 2][k // 2] for k in range(400)]
    known = KnownSchemas([elasticc_alerts.AVRO_SCHEMA])
    found, refusals = PacketDecoder(elasticc.PACKET, known).decode(
        messages([*single, *(read[k % 2][200 + k // 2] for k in range(4))])
    )
    assert refusals.text == []
    given = photometry_table.read(path, BAND_SETS["lsst"])
    for half in (slice(0, 400), slice(400, 800)):
        seen = found.band_state[half] == BandState.MEASURED
        np.testing.assert_array_equal(seen, given.flux > 0)
        np.testing.assert_allclose(found.flux[half][seen], given.flux[seen], rtol=2e-6)
        np.testing.assert_allclose(found.flux_err[half][seen], given.flux_err[seen], rtol=2e-6)
        np.testing.assert_allclose(found.ra[half], given.ra, atol=2e-5)
        assert found.object_id[half].to_pylist() == [str(elasticc_alerts.number(name)) for name in given.object_id]


@pytest.mark.broker
def test_ids_of_a_registry(
    broker: Broker,
    schema_registry: SchemaRegistry,
    topic: MakeTopic,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    name, path, url = topic(), str(table(tmp_path / "t.parquet", 20)), schema_registry.url
    words = [path, "--topic", name, "--brokers", broker.bootstrap, "--registry", url]
    words += ["--registry-setting", "timeout=60"]  # a registry that is new, on a busy machine
    run(monkeypatch, *words)
    run(monkeypatch, *words)  # the same schema, the same id
    payloads = values(broker, name, {0: 40})[0]
    [number] = {schema_id(payload) for payload in payloads}
    assert f"id {number} at {url}, subject {name}-value" in " ".join(capsys.readouterr().err.split())
    found, refusals = NativeDecoder("lsst", registry(url, {}, tmp_path / "kept")).decode(messages(payloads))
    assert refusals.text == []
    assert len(found) == 40
    strict(url, f"{name}-value")
    with pytest.raises(UserError, match=rf"does not take the schema under {name}-value: .*Take another topic"):
        run(monkeypatch, *words, "--format", "elasticc")
    run(monkeypatch, *words, "--format", "arrow")
    assert "The registry is not used" in capsys.readouterr().err


def test_a_registry_that_does_not_register() -> None:
    schema = {"type": "string"}
    posts = {
        500: (TroubleError, "answers 500"),
        409: (UserError, "does not take .* incompatible"),
        403: (TroubleError, "Check user and password"),
        404: (TroubleError, "not as a registry does"),
        200: (TroubleError, "without saying its id"),
    }
    with StandIn().running() as away:
        for status, (error, text) in posts.items():
            away.instead = [say(status, b'{"message": "incompatible"}')] * 9
            with pytest.raises(error, match=text):
                register(Connection(away.url, {}), "s-value", schema)
        away.instead = [say(503, b""), say(200, b'{"id": 12}')]
        assert register(Connection(away.url, {}), "a/b-value", schema) == 12
        assert away.asked[-2:] == ["/subjects/a%2Fb-value/versions"] * 2


def test_options_that_do_not_go_together(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    words = [str(table(tmp_path / "t.parquet", 2)), "--topic", "t", "--brokers", "127.0.0.1:1"]
    for more, text in (
        (["--rows", "5"], "--rows is for"),
        (["--compression", "lz4"], "--compression is for"),
        (["--format", "arrow", "--framing", "avro"], "that is for Avro"),
        (["--format", "arrow", "--compression", "snappy"], "compressed by 'snappy'"),
        (["--framing", "container", "--compression", "lz4"], "compressed by 'lz4'"),
        (["--format", "elasticc", "--survey", "des"], "bands ugrizy"),
    ):
        with pytest.raises(UserError, match=text):
            run(monkeypatch, *words, *more)
