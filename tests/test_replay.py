"""Nights of the past again, on a real broker: another model beside the first, holes filled, nothing twice."""

import signal
import subprocess
import sys
import time
from collections.abc import Callable
from functools import cache
from pathlib import Path

import pytest
from confluent_kafka import Producer, TopicPartition
from confluent_kafka.admin import AdminClient
from deltalake import DeltaTable

from models import bundle as bundles
from schemas.errors import UserError
from streamer.broker.server import Broker
from streamer.replay.bounds import Asked, parse_offsets
from streamer.replay.plan import Replay, Summary, TakenOver, build
from streamer.sink.appids import read_app_ids
from streamer.sink.operations import recorded
from streamer.sink.verify import verify
from streamer.tally import Progress
from tests.streaming import (
    SESSION,
    _workers,
    alerts,
    assert_once,
    durable,
    engine,
    finish,
    no_worker_outlives_its_test,  # noqa: F401
    send,
    settings,
    small_model,
    spread,
    wait_until,
    worker,
)

pytestmark = pytest.mark.broker
Topic = Callable[..., str]
Place = tuple[int, int]  # partition, offset


@cache
def other_model() -> Path:
    """The small model, a little sharper: another processing."""
    first = bundles.read(small_model())
    path = small_model().with_name("other.slipher")
    bundles.write(bundles.seal({**first.card, "alpha": first.card["alpha"] + 0.25}, first.tensors), path)
    return path


def asked(
    broker: Broker,
    name: str,
    catalog: Path,
    what: Asked,
    model: Path | None = None,
    point: Callable[[int], None] = lambda step: None,
    **more: object,
) -> Replay:
    given = settings(broker.bootstrap, name, catalog, model=model or other_model(), start="", **more)
    return build(given, what, point=point)


def replay(broker: Broker, name: str, catalog: Path, what: Asked, model: Path | None = None, **more: object) -> Summary:
    return asked(broker, name, catalog, what, model, **more).run()


def command(broker: Broker, name: str, catalog: Path, *more: str, kill_at: str = "") -> subprocess.Popen[str]:
    """``slipher replay`` as a process."""
    words = ["tests.faulty_replay", kill_at] if kill_at else ["streamer", "replay"]
    words = [
        sys.executable,
        "-m",
        *words,
        str(catalog),
        "--brokers",
        broker.bootstrap,
        "--topic",
        name,
        "--model",
        str(other_model()),
    ]
    words += [word for key, value in SESSION.items() for word in ("--kafka", f"{key}={value}")]
    process = subprocess.Popen([*words, *more], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    _workers.append(process)
    return process


def places(catalog: Path) -> dict[str, list[Place]]:
    """(partition, offset) of the rows of each model, sorted."""
    keys = ["model", "kafka_partition", "kafka_offset"]
    table = DeltaTable(str(catalog / "rows")).to_pyarrow_table(columns=keys)
    out: dict[str, list[Place]] = {}
    for model, p, o in zip(*(table[k].to_pylist() for k in keys), strict=True):
        out.setdefault(model, []).append((p, o))
    return {model: sorted(found) for model, found in out.items()}


def night_of(catalog: Path) -> str:
    (night,) = set(DeltaTable(str(catalog / "rows")).to_pyarrow_table(columns=["night"])["night"].to_pylist())
    return night


def replayed(catalog: Path) -> int:
    """Offsets that a replay made durable."""
    if not any((catalog / "rows" / "_delta_log").glob("*.json")):
        return 0
    return sum(v for app, v in read_app_ids(catalog / "rows").items() if app.endswith("/replay-offset"))


def test_another_model_stands_beside_the_first(broker: Broker, topic: Topic, tmp_path: Path) -> None:
    """All of a night, twice: the second time adds nothing; and the old rows are as they were."""
    name, catalog = topic(2), tmp_path / "catalog"
    _, values = alerts(120)
    send(broker.bootstrap, name, spread(values, 2))
    finish(broker, name, catalog)
    old = places(catalog)
    night = night_of(catalog)
    done = replay(broker, name, catalog, Asked(night=night))
    assert (done.progress.rows, done.offsets, done.before, done.gaps, done.whole) == (120, 120, 0, [], True)
    both = places(catalog)
    assert len(both) == 2
    (first,) = old
    (second,) = both.keys() - old.keys()
    assert both[first] == both[second] == old[first]
    again = replay(broker, name, catalog, Asked(night=night))
    assert (again.progress.rows, again.before) == (0, 120)
    assert places(catalog) == both
    report = verify(catalog)
    assert report.ok, report.lines()
    assert report.offsets == 240
    noted = recorded(catalog)
    assert sorted(set(zip(noted["kind"].to_pylist(), noted["state"].to_pylist(), strict=True))) == [
        ("replay", "begun"),
        ("replay", "done"),
    ]
    assert set(noted["night"].to_pylist()) == {night}


def test_the_same_model_fills_only_what_lies_before_its_start(broker: Broker, topic: Topic, tmp_path: Path) -> None:
    name, catalog = topic(1), tmp_path / "catalog"
    _, values = alerts(80)
    send(broker.bootstrap, name, {0: values[:30]})
    engine(broker.bootstrap, name, catalog, start="latest").run()
    send(broker.bootstrap, name, {0: values[30:]})
    finish(broker, name, catalog)
    done = replay(broker, name, catalog, Asked(offsets=("0:10-69",)), small_model())
    assert (done.progress.rows, done.offsets) == (20, 20)
    assert_once(catalog, {(0, o, 0) for o in range(10, 80)})
    assert replay(broker, name, catalog, Asked(offsets=("0:0-79",)), small_model()).progress.rows == 10
    assert_once(catalog, {(0, o, 0) for o in range(80)})
    nothing = replay(broker, name, catalog, Asked(offsets=("0:40-79",)), small_model())
    assert (nothing.progress.rows, nothing.offsets, nothing.whole) == (0, 0, True)


def test_a_live_worker_begins_where_a_replay_was(broker: Broker, topic: Topic, tmp_path: Path) -> None:
    """A replay came first; then the same model reads live from the beginning and fills what it left."""
    name, catalog = topic(1), tmp_path / "catalog"
    _, values = alerts(90)
    send(broker.bootstrap, name, {0: values})
    for bounds in ("0:20-39", "0:50-69"):
        assert replay(broker, name, catalog, Asked(offsets=(bounds,)), small_model()).progress.rows == 20
    finish(broker, name, catalog)
    assert_once(catalog, {(0, o, 0) for o in range(90)})


@pytest.mark.parametrize("kill_at", ["9:1", "16:1"])
def test_killed_in_the_middle_and_run_again(broker: Broker, topic: Topic, tmp_path: Path, kill_at: str) -> None:
    """Offsets without rows are listed first: killed between the two tables, the next run agrees with what is listed."""
    name, catalog = topic(1), tmp_path / "catalog"
    _, values = alerts(60)
    send(broker.bootstrap, name, {0: [None if k % 7 == 3 else value for k, value in enumerate(values)]})
    doomed = command(broker, name, catalog, "--offsets", "0:0-59", "--commit-rows", "20", kill_at=kill_at)
    assert doomed.wait(60) == -signal.SIGKILL, doomed.communicate()[1]
    done = replay(broker, name, catalog, Asked(offsets=("0:0-59",)))
    assert done.whole
    empty = {k for k in range(60) if k % 7 == 3}
    assert_once(catalog, {(0, o, 0) for o in range(60) if o not in empty}, {(0, o, -1) for o in empty})


def test_two_replays_of_one_night_at_once(broker: Broker, topic: Topic, tmp_path: Path) -> None:
    """One of them ends the other, or both find their part; nothing is there twice, and a third adds what is left."""
    name, catalog = topic(2), tmp_path / "catalog"
    _, values = alerts(400)
    send(broker.bootstrap, name, spread(values, 2))
    more = ("--from", "2020-01-01", "--commit-rows", "10", "--quiet")
    both = [command(broker, name, catalog, *more) for _ in range(2)]
    said = [process.communicate(timeout=90) for process in both]
    for process, (_, trouble) in zip(both, said, strict=True):
        assert process.returncode in (0, 75), trouble
        assert process.returncode == 0 or "were taken over" in trouble
    replay(broker, name, catalog, Asked(since="2020-01-01"))
    assert_once(catalog, {(p, o, 0) for p in range(2) for o in range(200)})


def test_beside_a_live_worker(broker: Broker, topic: Topic, tmp_path: Path) -> None:
    """A worker reads on while another model runs through the past; both have all that is theirs."""
    name, catalog = topic(1), tmp_path / "catalog"
    _, values = alerts(200)
    send(broker.bootstrap, name, {0: values[:100]})
    finish(broker, name, catalog)
    reader = worker(broker.bootstrap, name, catalog)
    past = command(broker, name, catalog, "--offsets", "0:0-99", "--commit-rows", "10", "--max-rate", "200")
    for k in range(100, 200, 20):
        send(broker.bootstrap, name, {0: values[k : k + 20]})
        wait_until(lambda k=k: durable(catalog) >= k + 20, reader)
    out, trouble = past.communicate(timeout=60)
    assert past.returncode == 0, trouble
    assert "100 rows added, of 100 messages" in out
    reader.terminate()
    assert reader.wait(20) == 0
    assert sorted(len(found) for found in places(catalog).values()) == [100, 200]
    report = verify(catalog)
    assert report.ok, report.lines()


def test_stopped_by_hand_it_goes_on(broker: Broker, topic: Topic, tmp_path: Path) -> None:
    name, catalog = topic(1), tmp_path / "catalog"
    _, values = alerts(300)
    send(broker.bootstrap, name, {0: values})
    slow = command(broker, name, catalog, "--offsets", "0:0-299", "--max-rate", "40", "--commit-seconds", "0.2")
    wait_until(lambda: replayed(catalog) > 0, slow, 60)
    slow.send_signal(signal.SIGINT)
    out, trouble = slow.communicate(timeout=30)
    assert slow.returncode == 0, trouble
    assert "Stopped before the end: the same command goes on." in out
    there = replayed(catalog)
    assert 0 < there < 300
    done = replay(broker, name, catalog, Asked(offsets=("0:0-299",)))
    assert (done.progress.rows, done.before) == (300 - there, there)
    assert_once(catalog, {(0, o, 0) for o in range(300)})


def test_what_retention_took_is_listed_exactly(broker: Broker, topic: Topic, tmp_path: Path) -> None:
    """The night's offsets are known from the first model's rows, though a part of them is gone from the log."""
    name, catalog = topic(2), tmp_path / "catalog"
    _, values = alerts(160)
    send(broker.bootstrap, name, spread(values, 2))
    finish(broker, name, catalog)
    admin = AdminClient({"bootstrap.servers": broker.bootstrap})
    for future in admin.delete_records([TopicPartition(name, 0, 30), TopicPartition(name, 1, 80)]).values():
        future.result(20)
    done = replay(broker, name, catalog, Asked(night=night_of(catalog)))
    assert done.gaps == [(0, 0, 30), (1, 0, 80)]
    assert done.progress.rows == 50
    table = DeltaTable(str(catalog / "exceptions")).to_pyarrow_table()
    listed = table.select(["kafka_partition", "offset_start", "offset_end", "reason"]).to_pylist()
    assert sorted(tuple(entry.values()) for entry in listed) == [
        (0, 0, 30, "RETENTION_GAP"),
        (1, 0, 80, "RETENTION_GAP"),
    ]
    assert verify(catalog).ok
    again = replay(broker, name, catalog, Asked(night=night_of(catalog)))
    assert (again.progress.rows, again.gaps) == (0, [])


def test_retention_overtakes_a_replay(
    broker: Broker, topic: Topic, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Twice while it runs, and in the middle of holes: what it had not read yet is listed to the offset, the rest is rows."""
    monkeypatch.setattr("streamer.source.bounded.BATCH_MESSAGES", 10)
    name, catalog, n = topic(2), tmp_path / "catalog", 260
    _, values = alerts(2 * n)
    producer = Producer({"bootstrap.servers": broker.bootstrap, "batch.num.messages": 5})
    for k, value in enumerate(values):
        producer.produce(name, value, partition=k % 2)
    assert producer.flush(30) == 0
    for before in (("0:100-109", "1:250-259"), ("0:150-154",)):
        replay(broker, name, catalog, Asked(offsets=before))
    shy = {"fetch.message.max.bytes": "3000", "queued.max.messages.kbytes": "4", "queued.min.messages": "5"}
    running = asked(broker, name, catalog, Asked(offsets=("0:0-259", "1:0-259")), commit_rows=40, kafka=SESSION | shy)
    admin = AdminClient({"bootstrap.servers": broker.bootstrap})
    taken = iter([{0: 120, 1: 90}, {0: 230}])

    def overtake(progress: Progress, left: int) -> None:
        gone = next(taken, {}) if progress.rows else {}
        if gone:
            futures = admin.delete_records([TopicPartition(name, p, o) for p, o in gone.items()])
            for future in futures.values():
                future.result(20)

    running.on_progress = overtake
    done = running.run()
    assert next(taken, None) is None
    assert done.whole
    table = DeltaTable(str(catalog / "exceptions")).to_pyarrow_table()
    assert set(table["reason"].to_pylist()) == {"RETENTION_GAP"}
    keys = ["kafka_partition", "offset_start", "offset_end"]
    listed = {(p, o) for p, a, b in zip(*(table[k].to_pylist() for k in keys), strict=True) for o in range(a, b)}
    assert {(p, o) for p, a, b in done.gaps for o in range(a, b)} == listed
    [found] = places(catalog).values()
    assert len(set(found)) == len(found)
    assert not listed & set(found)
    assert listed | set(found) == {(p, o) for p in range(2) for o in range(n)}
    assert {(0, o) for o in [*range(100, 110), *range(150, 155), *range(230, n)]} <= set(found)
    assert {(0, 99), (0, 110), (0, 119), (0, 229), (1, 89)} <= listed  # it was overtaken
    assert (0, 0) in found
    assert verify(catalog).ok
    assert replay(broker, name, catalog, Asked(offsets=("0:0-259", "1:0-259"))).progress.messages == 0


def test_from_and_to(broker: Broker, topic: Topic, tmp_path: Path) -> None:
    """By Kafka's clock, the end not included; a night that no row knows is taken with a margin of hours."""
    name, catalog = topic(1), tmp_path / "catalog"
    _, values = alerts(48)
    begin = int(time.time() // 86_400 - 3) * 86_400_000 + 43_200_000  # noon three days ago, an hour a message
    producer = Producer({"bootstrap.servers": broker.bootstrap})
    for hour, value in enumerate(values):
        producer.produce(name, value, partition=0, timestamp=begin + hour * 3_600_000)
    assert producer.flush(30) == 0

    def at(hour: int) -> str:
        return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(begin / 1000 + hour * 3_600))

    night = asked(broker, name, catalog, Asked(night=at(0)[:10]))
    assert night.found.bounds == {0: (0, 30)}  # noon to noon, and six hours more on either side
    assert replay(broker, name, catalog, Asked(since=at(10), until=at(15))).progress.rows == 5
    assert [o for found in places(catalog).values() for _, o in found] == [10, 11, 12, 13, 14]
    assert replay(broker, name, catalog, Asked(until=at(3))).progress.rows == 3
    assert replay(broker, name, catalog, Asked(since=at(40))).progress.rows == 8
    assert asked(broker, name, catalog, Asked(night=at(0)[:10])).found.bounds == {0: (0, 15)}  # rows say it exactly
    assert verify(catalog).ok


def test_holes_alone_are_read(broker: Broker, topic: Topic, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Far apart, with aborted messages and markers among them, each hole is sought and filled to its end."""
    monkeypatch.setattr("streamer.source.bounded.BRIDGE", 5)
    name, catalog = topic(1), tmp_path / "catalog"
    _, values = alerts(120)
    producer = Producer({"bootstrap.servers": broker.bootstrap, "transactional.id": f"{name}-replay"})
    producer.init_transactions(20)
    for start, commits in ((0, True), (30, False), (60, True), (90, False)):  # a marker after each 30
        producer.begin_transaction()
        for value in values[start : start + 30]:
            producer.produce(name, value, partition=0)
        producer.flush()
        producer.commit_transaction(20) if commits else producer.abort_transaction(20)
    for bounds in ("0:5-9", "0:12-19", "0:40-70", "0:100-110"):
        replay(broker, name, catalog, Asked(offsets=(bounds,)))
    done = replay(broker, name, catalog, Asked(offsets=("0:0-123",)))
    assert done.before == 5 + 8 + 31 + 11
    good = {*range(30), *range(62, 92)}
    assert_once(catalog, {(0, o, 0) for o in good}, {(0, o, -1) for o in range(124) if o not in good})


def test_who_takes_a_replay_over_ends_it(broker: Broker, topic: Topic, tmp_path: Path) -> None:
    name, catalog = topic(1), tmp_path / "catalog"
    _, values = alerts(100)
    send(broker.bootstrap, name, {0: values})
    first = asked(broker, name, catalog, Asked(offsets=("0:0-99",)), commit_rows=1_000)
    rest: list[Summary] = []

    def meanwhile(*_: object) -> None:
        first.on_progress = lambda progress, left: None
        rest.append(replay(broker, name, catalog, Asked(offsets=("0:0-99",))))

    first.on_progress = meanwhile  # after its claim
    with pytest.raises(TakenOver, match=r"Partitions \[0\] were taken over"):
        first.run()
    assert rest[0].progress.rows == 100
    assert_once(catalog, {(0, o, 0) for o in range(100)})


def test_what_cannot_be_replayed_is_said(broker: Broker, topic: Topic, tmp_path: Path) -> None:
    name, catalog = topic(1), tmp_path / "catalog"
    send(broker.bootstrap, name, {0: alerts(10)[1]})
    for what, sentence in (
        (Asked(), "Say one of --night"),
        (Asked(night="2026-01-01", since="2026-01-01"), "Say one of --night"),
        (Asked(night="tonight"), "--night tonight: say the date"),
        (Asked(since="after:dark"), "--from after:dark: say a time"),
        (Asked(offsets=("0:0-10",)), "does not reach 10: its last offset is 9"),
        (Asked(offsets=("3:0-1",)), "no 3"),
        (Asked(night="2001-01-01"), "holds nothing of what is to be replayed"),
    ):
        with pytest.raises(UserError, match=sentence):
            asked(broker, name, catalog, what)


@pytest.mark.parametrize("text", ["0", "0:5", "0:9-5", "a:1-2", "0:1-2-3"])
def test_offsets_that_are_none(text: str) -> None:
    with pytest.raises(UserError, match=f"--offsets {text}:"):
        parse_offsets((text,))
    assert parse_offsets(("0:5-5", "3:0-9")) == {0: (5, 6), 3: (0, 10)}
    with pytest.raises(UserError, match="partition 0 twice"):
        parse_offsets(("0:5-5", "0:7-9"))
