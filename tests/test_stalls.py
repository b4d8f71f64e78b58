"""The world is in the way: a full disk, a table that is away, no memory. It is waited for, and nothing is lost or doubled."""

import errno
import subprocess
import threading
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from confluent_kafka.admin import AdminClient
from confluent_kafka.cimpl import NewTopic
from deltalake.exceptions import DeltaError
from hypothesis import given
from hypothesis import strategies as st

import streamer.sink.ledger as ledger
from schemas.batch import Messages
from schemas.errors import TroubleError
from streamer.batches import halves
from streamer.broker.server import Broker
from streamer.broker.settings import SHORT_SESSIONS, BrokerSettings
from streamer.run import build
from streamer.source.kafka import KafkaSource
from streamer.stall import PATIENCE_S, Stall
from tests.streaming import (
    SESSION,
    alerts,
    assert_once,
    durable,
    engine,
    finish,
    identities,
    running,
    send,
    settings,
    spread,
    wait_until,
)

pytestmark = pytest.mark.broker
Topic = Callable[..., str]
PROTOCOLS = {
    "eager": SESSION | {"partition.assignment.strategy": "range"},
    "cooperative": SESSION,
    "kip-848": {"group.protocol": "consumer", "topic.metadata.refresh.interval.ms": "300"},
}


def said(caplog: pytest.LogCaptureFixture, text: str) -> bool:
    return any(text in record.getMessage() for record in list(caplog.records))


def failing(times: int, error: BaseException, honest: Callable[..., object]) -> Callable[..., object]:
    """`honest`, but the first `times` calls raise `error`."""
    left = iter(range(times))

    def call(*args: object, **more: object) -> object:
        if next(left, None) is not None:
            raise error
        return honest(*args, **more)

    return call


def test_a_disk_that_was_full(
    broker: Broker, topic: Topic, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """ENOSPC, injected where rows and refusals are staged."""
    name, catalog = topic(2), tmp_path / "catalog"
    _, values = alerts(60)
    send(broker.bootstrap, name, {0: values[:30], 1: [*values[30:], b"garbage"]})
    full = OSError(28, "No space left on device")
    monkeypatch.setattr(ledger, "stage", failing(3, full, ledger.stage))
    assert engine(broker.bootstrap, name, catalog, commit_rows=20).run().rows == 60
    assert said(caplog, "No space left on device")
    assert said(caplog, "going on after")
    assert_once(catalog, identities({0: 30, 1: 30}), {(1, 30, -1)})


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_a_claim_while_the_table_is_away(
    broker: Broker, topic: Topic, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, protocol: str
) -> None:
    """The group gave us partitions, the table does not answer: they are held, and read once they are claimed."""
    name, catalog = topic(3), tmp_path / "catalog"
    _, values = alerts(60)
    send(broker.bootstrap, name, spread(values, 3))
    made = engine(broker.bootstrap, name, catalog, kafka=PROTOCOLS[protocol], group=f"{name}-{protocol}")
    away = FileNotFoundError(2, "No such file or directory")
    monkeypatch.setattr(made.sink.ledger, "claim", failing(2, away, made.sink.ledger.claim))
    assert made.run().rows == 60
    assert_once(catalog, identities(dict.fromkeys(range(3), 20)))


def test_a_broker_that_does_not_say_where_logs_end(
    broker: Broker, topic: Topic, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It went away between giving us partitions and answering: it is asked again."""
    name, catalog = topic(2), tmp_path / "catalog"
    _, values = alerts(40)
    send(broker.bootstrap, name, spread(values, 2))
    made = engine(broker.bootstrap, name, catalog)
    assert isinstance(made.source, KafkaSource)
    monkeypatch.setattr("streamer.source.kafka.AGAIN_SECONDS", 0.1)
    monkeypatch.setattr(made.source.ends, "latest", failing(2, TroubleError("No answer."), made.source.ends.latest))
    assert made.run().rows == 40
    assert_once(catalog, identities(dict.fromkeys(range(2), 20)))


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_a_full_disk_and_a_broker_that_does_not_say_where_logs_end(
    broker: Broker, topic: Topic, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, protocol: str
) -> None:
    """Both at once: until the broker answers, nothing is read on from where it was fetched before the commit failed."""
    name, catalog = topic(2), tmp_path / "catalog"
    _, values = alerts(200)
    send(broker.bootstrap, name, spread(values, 2))
    made = engine(
        broker.bootstrap, name, catalog, kafka=PROTOCOLS[protocol], group=f"{name}-{protocol}", commit_rows=20
    )
    assert isinstance(made.source, KafkaSource)
    monkeypatch.setattr("streamer.source.kafka.BATCH_MESSAGES", 10)  # most is still at the broker when the commit fails
    monkeypatch.setattr("streamer.source.kafka.AGAIN_SECONDS", 0.3)
    full = OSError(28, "No space left on device")
    monkeypatch.setattr(ledger, "stage", failing(1, full, ledger.stage))
    ask = made.source.ends.earliest
    answers = iter([True, True, False, False])  # the first claim asks, and the first reading

    def earliest(partitions: list[int]) -> dict[int, int]:
        if next(answers, True):
            return ask(partitions)
        raise TroubleError("No answer.")

    monkeypatch.setattr(made.source.ends, "earliest", earliest)
    assert made.run().rows == 200
    assert_once(catalog, identities(dict.fromkeys(range(2), 100)))


def test_told_to_stop_while_no_broker_answers(tmp_path: Path) -> None:
    catalog = tmp_path / "catalog"
    _, values = alerts(40)
    with Broker(BrokerSettings(properties=SHORT_SESSIONS), home=tmp_path / "kafka") as own:
        admin = AdminClient({"bootstrap.servers": own.bootstrap, "log_level": 0})
        admin.create_topics([NewTopic("alerts", 1, 1)])["alerts"].result(20)
        send(own.bootstrap, "alerts", {0: values})
        made = build(settings(own.bootstrap, "alerts", catalog, commit_seconds=3_600.0))
        with running(made) as thread:
            wait_until(lambda: made.sink.pending_rows == 40)
            own.kill()
            began = time.monotonic()
            made.stop()
            thread.join(20)
            assert time.monotonic() - began < 10
        own.start().wait()
        finish(own, "alerts", catalog)
    assert_once(catalog, identities({0: 40}))


def test_a_table_that_was_moved_away(
    broker: Broker, topic: Topic, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """The catalogue's directory goes, as with an unmounted disk, and comes back; nothing is written in its place meanwhile."""
    name, catalog = topic(2), tmp_path / "catalog"
    _, values = alerts(60)
    send(broker.bootstrap, name, spread(values[:20], 2))
    with running(build(settings(broker.bootstrap, name, catalog, commit_seconds=0.1))):
        wait_until(lambda: durable(catalog) == 20)
        catalog.rename(tmp_path / "away")
        send(broker.bootstrap, name, spread(values[20:], 2))
        wait_until(lambda: said(caplog, "waiting; no partition is given up"))
        assert not catalog.exists()
        (tmp_path / "away").rename(catalog)
        wait_until(lambda: durable(catalog) == 60)
    assert_once(catalog, identities({0: 30, 1: 30}))


def test_a_disk_that_is_full(broker: Broker, topic: Topic, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """A real file system without room, where this machine lets us mount one; its injected twin runs everywhere."""
    place = tmp_path / "small"
    place.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=2m", "tmpfs", str(place)], capture_output=True, text=True
    )
    if mounted.returncode:
        pytest.skip(f"no file system can be mounted here: {mounted.stderr.strip()}")
    try:
        name, catalog = topic(2), place / "catalog"
        _, values = alerts(400)
        send(broker.bootstrap, name, spread(values[:100], 2))
        with running(build(settings(broker.bootstrap, name, catalog, commit_seconds=0.1))):
            wait_until(lambda: durable(catalog) == 100)
            ballast = place / "ballast"
            with pytest.raises(OSError, match="No space left"):
                ballast.write_bytes(bytes(4 << 20))
            send(broker.bootstrap, name, spread(values[100:], 2))
            wait_until(lambda: said(caplog, "waiting; no partition is given up"))
            ballast.unlink()
            wait_until(lambda: durable(catalog) == 400)
        assert_once(catalog, identities({0: 200, 1: 200}))
    finally:
        subprocess.run(["umount", "-l", str(place)], check=True)


def test_no_memory_for_a_batch(
    broker: Broker, topic: Topic, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """It is halved until it fits; a single message that does not fit now is waited for."""
    name, catalog = topic(2), tmp_path / "catalog"
    _, values = alerts(200)
    send(broker.bootstrap, name, spread(values, 2))
    made = engine(broker.bootstrap, name, catalog)
    honest, sizes = made.worker.process, []

    def process(messages: Messages) -> object:
        sizes.append(len(messages.payloads))
        if len(messages.payloads) > 30 or sizes.count(1) == 1:
            raise MemoryError
        return honest(messages)

    monkeypatch.setattr(made.worker, "process", process)
    assert made.run().rows == 200
    assert max(sizes) > 30
    assert_once(catalog, identities({0: 100, 1: 100}))


@pytest.mark.parametrize("number", [errno.EROFS, errno.EACCES, errno.ENOTDIR])
def test_what_only_a_person_mends_is_not_waited_for_without_end(number: int) -> None:
    """By its number, however it is told: five minutes of the same, and nothing committed between."""
    now = 0.0
    stall = Stall(lambda: now)
    told = [OSError(number, "no"), TroubleError(f"no (os error {number})"), DeltaError(f"no (os error {number})")]
    for trouble in [*told, OSError(errno.ENOSPC, "full"), *told]:  # between them another one: the time begins again
        stall.failed(trouble)
        now += 90
    stall.over()  # a claim went well, and then it is the same again
    stall.failed(told[0])
    now += 90
    with pytest.raises(TroubleError, match=r"It was so 6 minutes ago, nothing could be committed since"):
        stall.failed(told[0])
    stall.landed()
    stall.failed(told[0])
    now += 200
    stall.failed(told[1])
    stall.over()
    now += PATIENCE_S  # nothing was to be committed, and nothing failed: it is no longer what stands
    stall.failed(told[0])


@pytest.mark.parametrize(
    "number", [errno.ENOSPC, errno.EIO, errno.ENOENT, errno.ESTALE, errno.EDQUOT, errno.ECONNREFUSED]
)
def test_what_may_pass_is_waited_for_without_end(number: int) -> None:
    now = 0.0
    stall = Stall(lambda: now)
    for day in range(60):
        now = day * 86_400.0
        stall.failed(OSError(number, "no") if day % 2 else TroubleError(f"no (os error {number})"))
    assert stall.on


def test_an_object_store_that_refuses_us_is_for_a_person_too() -> None:
    now = 0.0
    stall = Stall(lambda: now)
    refused = DeltaError(
        "Generic S3 error: The operation lacked the necessary privileges to complete for path a: 403 Forbidden"
    )
    stall.failed(refused)
    now = PATIENCE_S
    with pytest.raises(TroubleError, match="necessary privileges"):
        stall.failed(refused)


def test_a_file_in_the_place_of_the_table(
    broker: Broker, topic: Topic, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Nobody waits for what only a person mends; once it is mended, everything is there once."""
    name, catalog = topic(2), tmp_path / "catalog"
    _, values = alerts(60)
    send(broker.bootstrap, name, spread(values[:20], 2))
    made = build(settings(broker.bootstrap, name, catalog, commit_seconds=0.1))
    monkeypatch.setattr("streamer.stall.PATIENCE_S", 0.5)

    def broken() -> None:
        with running(made) as thread:
            wait_until(lambda: durable(catalog) == 20)
            (catalog / "rows").rename(catalog / "moved")
            (catalog / "rows").touch()
            send(broker.bootstrap, name, spread(values[20:], 2))
            thread.join(30)
            assert not thread.is_alive()

    with pytest.raises(TroubleError, match=r"Not a directory \(os error 20\)\..* mend it and start again"):
        broken()
    assert said(caplog, "waiting; no partition is given up")
    (catalog / "rows").unlink()
    (catalog / "moved").rename(catalog / "rows")
    finish(broker, name, catalog)
    assert_once(catalog, identities({0: 30, 1: 30}))


def test_told_to_stop_in_a_stall(broker: Broker, topic: Topic, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What was read is left to the next start, soon."""
    name, catalog = topic(1), tmp_path / "catalog"
    _, values = alerts(40)
    send(broker.bootstrap, name, {0: values})
    made = build(settings(broker.bootstrap, name, catalog, commit_seconds=0.1))
    with monkeypatch.context() as full:
        full.setattr(ledger, "stage", failing(10_000, OSError(28, "No space left on device"), ledger.stage))
        with running(made) as thread:
            wait_until(lambda: made._do.stall.on)
            began = time.monotonic()
            made.stop()
            thread.join(20)
            assert time.monotonic() - began < 10
    finish(broker, name, catalog)
    assert_once(catalog, identities({0: 40}))


@pytest.mark.parametrize(("where", "stops"), [("claim", 1), ("commit", 1), ("commit", 2)])
def test_told_to_stop_while_the_disk_hangs(
    broker: Broker, topic: Topic, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, where: str, stops: int
) -> None:
    """What never comes back holds nobody longer than the deadline; a second word ends the wait at once."""
    name, catalog = topic(1), tmp_path / "catalog"
    _, values = alerts(40)
    send(broker.bootstrap, name, {0: values})
    made = build(settings(broker.bootstrap, name, catalog, commit_seconds=0.1))
    hangs, released = threading.Event(), threading.Event()

    def hang(*args: object) -> None:
        hangs.set()
        released.wait(30)
        raise OSError(5, "Input/output error")

    with monkeypatch.context() as hung:
        if where == "claim":
            hung.setattr(made.sink.ledger, "claim", hang)
        else:
            hung.setattr(ledger, "stage", hang)
        with running(made) as thread:
            assert hangs.wait(20)
            began = time.monotonic()
            for _ in range(stops):
                made.stop()
            thread.join(20)
            assert time.monotonic() - began < (10 if stops == 1 else 4)
        released.set()
    finish(broker, name, catalog)
    assert_once(catalog, identities({0: 40}))


@given(
    st.lists(st.tuples(st.integers(0, 3), st.integers(1, 4)), max_size=30),
    st.dictionaries(st.integers(0, 5), st.integers(0, 3), max_size=3),
)
def test_halves_are_the_whole(read: list[tuple[int, int]], empty: dict[int, int]) -> None:
    """Messages in order, each partition's span split where the second half begins, gaps with the first that has them."""
    at = dict.fromkeys(range(6), 10)
    starts, partition, offset = {}, [], []
    for p, jump in read:
        starts.setdefault(p, at[p])
        at[p] += jump
        partition.append(p)
        offset.append(at[p] - 1)
    for p, more in empty.items():
        starts.setdefault(p, at[p])
        at[p] += more
    ends = {p: at[p] for p in starts}
    n = len(partition)
    gaps = tuple((p, starts[p] - 1, starts[p]) for p in starts)
    payloads: list[bytes | None] = [str(k).encode() for k in range(n)]
    whole = Messages(
        payloads, np.array(partition, np.int32), np.array(offset, np.int64), np.zeros(n, np.int64), ends, gaps, starts
    )
    first, second = halves(whole)
    assert first.payloads + second.payloads == whole.payloads
    assert sorted(first.gaps + second.gaps) == sorted(whole.gaps)
    for p in starts:
        spans = [(h.starts[p], h.ends[p]) for h in (first, second) if p in h.ends]
        assert spans[0][0] == starts[p]
        assert spans[-1][1] == ends[p]
        assert len(spans) == 1 or spans[0][1] == spans[1][0]
    for half in (first, second):
        assert half.ends.keys() == half.starts.keys()
        for p, o in zip(half.partition.tolist(), half.offset.tolist(), strict=True):
            assert half.starts[p] <= o < half.ends[p]
