"""What goes wrong in a night: bad messages cost nobody a row, bad settings get a sentence, a broker away is waited for."""

import os
import re
import signal
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from confluent_kafka import Producer, TopicPartition
from confluent_kafka.admin import AdminClient
from confluent_kafka.cimpl import NewTopic
from deltalake import DeltaTable

from schemas.batch import BandState
from schemas.encoder import encode_arrow, encode_avro
from schemas.errors import IntegrityError, TroubleError, UserError
from schemas.flags import Flag
from streamer.broker.server import Broker
from tests.small_sky import sky
from tests.streaming import (
    alerts,
    assert_once,
    durable,
    engine,
    finish,
    heard,
    identities,
    no_worker_outlives_its_test,  # noqa: F401
    now_mjd,
    send,
    settings,
    small_model,
    spread,
    wait_until,
    worker,
)

pytestmark = pytest.mark.broker
Topic = Callable[..., str]


def test_bad_messages_are_listed_and_cost_nobody_a_row(broker: Broker, topic: Topic, tmp_path: Path) -> None:
    name, catalog = topic(1), tmp_path / "catalog"
    galaxies, good = alerts(8)
    lost = encode_avro(replace(galaxies, ra=np.full(8, np.nan)), "lsst")[0]
    messages = [
        good[0],
        b"garbage",
        good[1],
        good[2][:-7],
        b"\x00\x00\x00\x00\x07" + good[3][5:],
        good[4],
        lost,
        None,
        good[5] + b"!",
        encode_arrow(replace(galaxies, dec=np.where(np.arange(8) == 3, 91.0, galaxies.dec)), "lsst", rows=8)[0],
        b"",
        good[6],
    ]
    send(broker.bootstrap, name, {0: messages})
    finish(broker, name, catalog)
    rows = {(0, o, 0) for o in (0, 2, 5, 11)} | {(0, 9, r) for r in range(8) if r != 3}
    assert_once(catalog, rows, {(0, o, -1) for o in (1, 3, 4, 6, 7, 8, 10)} | {(0, 9, 3)})
    table = DeltaTable(str(catalog / "exceptions")).to_pyarrow_table().sort_by("offset_start")
    assert table["reason"].to_pylist() == [
        "BAD_FRAMING",
        "CORRUPT",
        "UNKNOWN_SCHEMA",
        "BAD_POSITION",
        "EMPTY",
        "CORRUPT",
        "BAD_POSITION",
        "EMPTY",
    ]
    assert table["payload"].to_pylist() == [messages[o] for o in (1, 3, 4, 6, 7, 8, 9, 10)]
    assert all(len(text) > 5 for text in table["text"].to_pylist())


def test_a_galaxy_without_photometry_has_a_flag_and_no_redshift(broker: Broker, topic: Topic, tmp_path: Path) -> None:
    name, catalog = topic(1), tmp_path / "catalog"
    galaxies, _ = sky(3, mjd=now_mjd())
    dark = replace(
        galaxies,
        band_state=np.full((3, 6), BandState.NOT_OBSERVED, np.uint8),
        ebv=np.full(3, np.nan, np.float32),
        mjd=np.array([now_mjd(), np.nan, 1e9]),
    )
    send(broker.bootstrap, name, {0: encode_avro(dark, "lsst")})
    finish(broker, name, catalog)
    rows = DeltaTable(str(catalog / "rows")).to_pyarrow_table().sort_by("kafka_offset")
    for column in ("z_mode", "z_mean", "z_median", "z_best", "z_sigma", "odds_0p03", "pdf", "ebv"):
        assert rows[column].null_count == 3, column
    flags = rows["flags"].to_pylist()
    assert all(f & Flag.NO_PHOTOMETRY and f & Flag.BAND_NOT_OBSERVED for f in flags)
    assert [bool(f & Flag.BAD_EVENT_TIME) for f in flags] == [False, True, True]
    assert len(set(rows["night"].to_pylist())) == 1
    assert rows["band_mask"].to_pylist() == [0, 0, 0]


def test_a_topic_that_does_not_exist(broker: Broker, topic: Topic, tmp_path: Path) -> None:
    name = topic(1)
    with pytest.raises(UserError, match=rf"has no topic {name}x. Did you mean .*{name}"):
        engine(broker.bootstrap, name + "x", tmp_path / "catalog")


def test_a_first_run_must_say_where_it_begins(broker: Broker, topic: Topic, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="say where it begins, --start earliest"):
        engine(broker.bootstrap, topic(1), tmp_path / "catalog", start="")
    with pytest.raises(UserError, match="--start tomorrow: say earliest"):
        engine(broker.bootstrap, topic(1), tmp_path / "catalog", start="tomorrow")
    assert not (tmp_path / "catalog").exists()


def test_a_broker_that_is_away_at_the_start(tmp_path: Path) -> None:
    with pytest.raises(TroubleError, match=r"No broker answers at 127.0.0.1:9 .*slipher broker start"):
        engine("127.0.0.1:9", "alerts", tmp_path / "catalog", patience=1.0)
    assert not (tmp_path / "catalog").exists()


def test_the_sentence_and_the_exit_code(tmp_path: Path) -> None:
    """As a person sees it: no traceback, exit 75 for the world, 2 for a mistake."""
    away = worker("127.0.0.1:9", "alerts", tmp_path / "catalog", "--patience", "1")
    _, said = away.communicate(timeout=30)
    assert away.returncode == 75
    assert "No broker answers" in said
    assert "Traceback" not in said
    wrong = worker("127.0.0.1:9", "alerts", tmp_path / "catalog", "--kafka", "enable.auto.commit=true")
    _, said = wrong.communicate(timeout=30)
    assert wrong.returncode == 2
    assert "enable.auto.commit is slipher's own" in said
    assert "Traceback" not in said


def test_a_catalogue_that_cannot_be_written(broker: Broker, topic: Topic, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match=r"catalogue .* cannot be written"):
        engine(broker.bootstrap, topic(1), tmp_path / "file" / "catalog")
    if os.getuid() != 0:  # to root, no directory is read-only
        (tmp_path / "locked").mkdir(mode=0o500)
        with pytest.raises(UserError, match="cannot be written"):
            engine(broker.bootstrap, topic(1), tmp_path / "locked")


def test_a_bundle_for_other_bands(broker: Broker, topic: Topic, tmp_path: Path) -> None:
    """A model of another survey refuses every message, so the run stops instead of dumping the night."""
    name, catalog = topic(1), tmp_path / "catalog"
    _, values = alerts(1_500)
    send(broker.bootstrap, name, {0: values})
    with pytest.raises(IntegrityError, match=r"of the last 1,500 messages were refused.*sdss.*Is this the right topic"):
        engine(broker.bootstrap, name, catalog, model=small_model("sdss")).run()
    assert durable(catalog) == 0


def test_a_bundle_that_is_none(tmp_path: Path) -> None:
    (tmp_path / "model").write_bytes(b"not a model")
    with pytest.raises(UserError, match=re.escape(str(tmp_path / "model"))):
        engine("127.0.0.1:9", "alerts", tmp_path / "catalog", model=tmp_path / "model")


def test_a_recreated_topic_stops_its_readers(broker: Broker, topic: Topic, tmp_path: Path) -> None:
    name, catalog = topic(1), tmp_path / "catalog"
    _, values = alerts(20)
    send(broker.bootstrap, name, {0: values})
    finish(broker, name, catalog)
    admin = AdminClient({"bootstrap.servers": broker.bootstrap})
    admin.delete_topics([name])[name].result(20)
    wait_until(lambda: name not in admin.list_topics(timeout=5).topics)
    admin.create_topics([NewTopic(name, 1, 1)])[name].result(20)
    wait_until(lambda: name in admin.list_topics(timeout=5).topics)
    send(broker.bootstrap, name, {0: values[:5]})
    with pytest.raises(IntegrityError, match="was recreated") as stop:
        finish(broker, name, catalog)
    assert stop.value.exit_code == 3
    assert_once(catalog, identities({0: 20}))


def test_interrupted_at_any_moment(broker: Broker, topic: Topic, tmp_path: Path) -> None:
    """Ctrl-C once, and twice in a row, at moments that the clock chooses: nothing lost, nothing doubled, no traceback."""
    name, catalog = topic(2), tmp_path / "catalog"
    _, values = alerts(3_000)
    send(broker.bootstrap, name, spread(values, 2))
    for moment, signals in (("reads", 1), ("assigned", 2), ("claimed", 1), ("durable", 2)):
        running = worker(broker.bootstrap, name, catalog, "--commit-rows", "300")
        heard(running, moment)
        for _ in range(signals):
            running.send_signal(signal.SIGINT)
        _, said = running.communicate(timeout=30)
        assert running.returncode in (0, 130), said
        assert "Traceback" not in said
        send(broker.bootstrap, name, spread(values[:200], 2))
    finish(broker, name, catalog)
    assert_once(catalog, identities({0: 1_900, 1: 1_900}))


def test_settings_name_what_is_missing() -> None:
    with pytest.raises(UserError, match="--topic: field required"):
        settings("127.0.0.1:9", None, Path("x"))  # type: ignore[arg-type]


def test_a_topic_recreated_under_a_running_worker(broker: Broker, topic: Topic, tmp_path: Path) -> None:
    """The new topic's messages are not taken for the old one's: the worker stops with exit 3, and says why."""
    name, catalog = topic(1), tmp_path / "catalog"
    _, values = alerts(300)
    send(broker.bootstrap, name, {0: values[:100]})
    running = worker(broker.bootstrap, name, catalog)
    heard(running, "durable: 100 rows")
    admin = AdminClient({"bootstrap.servers": broker.bootstrap})
    admin.delete_topics([name])[name].result(20)
    wait_until(lambda: name not in admin.list_topics(timeout=5).topics)
    admin.create_topics([NewTopic(name, 1, 1)])[name].result(20)
    wait_until(lambda: name in admin.list_topics(timeout=5).topics)
    send(broker.bootstrap, name, {0: values})
    _, said = running.communicate(timeout=60)
    assert running.returncode == 3, said
    assert "was recreated" in said or "was deleted" in said or "is gone" in said
    assert_once(catalog, identities({0: 100}))


def test_a_time_that_is_none(broker: Broker, topic: Topic, tmp_path: Path) -> None:
    """A producer that sends microseconds as milliseconds costs nobody a night."""
    name, catalog = topic(1, message_timestamp_after_max_ms=2**62), tmp_path / "catalog"
    _, values = alerts(3)
    producer = Producer({"bootstrap.servers": broker.bootstrap})
    for value, time_ms in zip([*values, b"garbage"], (10**15, 2**61, int(time.time() * 1000), 10**15), strict=True):
        producer.produce(name, value, partition=0, timestamp=time_ms)
    assert producer.flush(20) == 0
    finish(broker, name, catalog)
    assert_once(catalog, identities({0: 3}), {(0, 3, -1)})
    rows = DeltaTable(str(catalog / "rows")).to_pyarrow_table().sort_by("kafka_offset")
    assert [t is None for t in rows["kafka_timestamp"].to_pylist()] == [True, True, False]


def test_one_bad_row_is_no_refused_message(broker: Broker, topic: Topic, tmp_path: Path) -> None:
    """1,200 Arrow messages, each with one row off the sky, and 1,200 tombstones: no reason to stop."""
    name, catalog = topic(1), tmp_path / "catalog"
    galaxies, _ = alerts(2_400)
    dec = np.where(np.arange(2_400) % 2, galaxies.dec, 95.0)
    messages = encode_arrow(replace(galaxies, dec=dec), "lsst", rows=2)
    send(broker.bootstrap, name, {0: [*messages, *[None] * 1_200]})
    done = engine(broker.bootstrap, name, catalog).run()
    assert (done.rows, done.messages, done.refused) == (1_200, 2_400, 0)


def test_until_end_ends_while_more_arrives(broker: Broker, topic: Topic, tmp_path: Path) -> None:
    """Everything there was when it began is durable, however fast the topic grows."""
    name, catalog = topic(1), tmp_path / "catalog"
    _, values = alerts(200)
    send(broker.bootstrap, name, {0: values})
    growing = threading.Event()

    def grow() -> None:
        while not growing.wait(0.02):
            send(broker.bootstrap, name, {0: values[:3]})

    producer = threading.Thread(target=grow)
    producer.start()
    try:
        done = engine(broker.bootstrap, name, catalog).run()
    finally:
        growing.set()
        producer.join()
    assert done.rows >= 200


def test_a_partition_lost_and_back_inside_one_poll(
    broker: Broker, topic: Topic, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What was fetched before is stale: it is read again, and never taken for a jump over offsets without message.

    The group's callbacks arrive inside the second consume call of the second poll, as after a suspension, while the first
    poll's batch is not durable yet.
    """
    monkeypatch.setattr("streamer.source.kafka.BATCH_MESSAGES", 2_000)
    monkeypatch.setattr("streamer.source.receiver.CONSUME_MESSAGES", 500)
    name, catalog = topic(1), tmp_path / "catalog"
    _, values = alerts(9_000)
    send(broker.bootstrap, name, {0: values})
    running = engine(broker.bootstrap, name, catalog)
    source, calls = running.source, 0
    honest = source._receiver.consume

    def consume(wanted: int, seconds: float) -> list:
        nonlocal calls
        got = honest(wanted, seconds)
        calls += bool(got)
        if calls == 6:
            calls += 1
            where = [TopicPartition(name, 0)]
            source._on_lost(source.consumer, where)
            source._on_assign(source.consumer, where)
        return got

    source._receiver.consume = consume
    done = running.run()
    assert calls > 6
    assert done.rows == 9_000
    assert_once(catalog, identities({0: 9_000}))
