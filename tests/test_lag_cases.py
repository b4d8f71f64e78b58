"""Lag against a real broker: each case a scene, and the numbers that it must give."""

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from confluent_kafka import TopicPartition
from confluent_kafka.admin import NewPartitions  # type: ignore[attr-defined]  # re-exported without __all__

from streamer.broker.server import Broker
from streamer.catalogue import open_catalogue
from streamer.lag.broker import BrokerReading
from streamer.lag.measures import INFINITE
from streamer.lag.standing import Standing
from streamer.lag.watch import Watch
from streamer.sink.appids import app_id
from tests.catalogue_builder import build
from tests.lag_scene import FOREST, IMAGE, Scene, bind, commit
from tests.streaming import wait_until

Topic = Callable[..., str]


ANY: Any = ...  # not what the case is about


class Says(NamedTuple):
    """What a standing must say."""

    lag: Any = ANY
    lag_seconds: Any = ANY
    produce_rate: Any = ANY
    consume_rate: Any = ANY
    drain_seconds: Any = ANY
    loss_seconds: Any = ANY
    rule: Any = ANY


class Case(NamedTuple):
    """`play` acts on a scene and returns standings, of which each must say what stands here in its place."""

    play: Callable[[Scene], list[Standing]]
    says: list[Says]
    partitions: int = 1
    models: tuple[str, ...] = (FOREST,)
    config: dict[str, Any] = {}  # noqa: RUF012  # never written


def idle(scene: Scene) -> list[Standing]:
    return scene.send(5, ago=3600).durable({0: 5}).wait(1800).look()


def never_a_message(scene: Scene) -> list[Standing]:
    return scene.durable({0: 0}, what="start").look()


def fresh(scene: Scene) -> list[Standing]:
    """3 messages arrive 5 s after everything was durable."""
    scene.send(5, ago=60).durable({0: 5}).look()
    return scene.wait(5).send(3, ago=1).look()


def growing(scene: Scene) -> list[Standing]:
    """10 messages a second come, 5 are read."""
    scene.durable({0: 0}, what="start").look()
    for k in range(1, 5):
        rows = scene.wait(30).send(300).durable({0: 150 * k}).look()
    return rows


def draining(scene: Scene) -> list[Standing]:
    """A backlog of ten minutes: 1 message a second comes, 11 are read."""
    scene.send(1000, ago=600).durable({0: 0}, what="start").look()
    for k in range(1, 4):
        rows = scene.wait(30).send(30).durable({0: 330 * k}).look()
    return rows


def drained(scene: Scene) -> list[Standing]:
    draining(scene)
    return scene.wait(30).durable({0: 1090}).look()


def paused(scene: Scene) -> list[Standing]:
    """All that there was is durable; what came two minutes ago nobody reads."""
    scene.send(5).durable({0: 5}).look()
    scene.wait(10).send(4).look()
    return scene.wait(120).look()


def stalled(scene: Scene) -> list[Standing]:
    """Partition 1 goes on, partition 0 does not."""
    scene.send(5).send(5, 1).durable({0: 2, 1: 5}).look()
    scene.wait(100).send(4, 1).durable({1: 9}).look()
    return scene.wait(10).look()


def stopped_long_ago(scene: Scene) -> list[Standing]:
    """One look, hours after the last commit."""
    return scene.send(9, ago=60).durable({0: 5}).wait(7200).look()


def one_look(scene: Scene) -> list[Standing]:
    """No window of its own: the table's commits and the messages' times tell the rates."""
    for k in range(1, 11):
        scene.send(60).durable({0: 20 * k}).wait(30)
    return scene.look()


def beyond_the_end(scene: Scene) -> list[Standing]:
    return scene.send(40).durable({0: 50}).look()


def went_back(scene: Scene) -> list[Standing]:
    scene.send(40).durable({0: 30}).look()
    return scene.wait(10).durable({0: 20}).look()


def put_back(scene: Scene) -> list[Standing]:
    """The table of before the last three commits, while we look; then a worker goes on from there."""
    scene.send(40).durable({0: 10})
    kept = scene.path.parent / f"{scene.path.name}-kept"
    shutil.copytree(scene.path / "rows", kept)
    for offset in (20, 25, 30):
        scene.durable({0: offset})
    scene.look()
    shutil.rmtree(scene.path / "rows")
    kept.rename(scene.path / "rows")
    rows = scene.wait(10).look()
    return [*rows, *scene.wait(10).durable({0: 15}).look()]


def recreated(scene: Scene) -> list[Standing]:
    scene.send(4).durable({0: 4}).look()
    scene.admin.delete_topics([scene.topic])[scene.topic].result(20)
    wait_until(lambda: scene.topic not in scene.admin.list_topics(timeout=5).topics)
    gone = scene.one()
    make(scene, scene.topic)
    again = scene.one()
    scene.connect()
    scene.send(7)
    after_rebind(scene)
    return [gone, again, scene.one()]


def partition_added(scene: Scene) -> list[Standing]:
    """The new partition is read whole, so all that it holds is lag, though no worker has claimed it."""
    scene.send(5).durable({0: 5}).look()
    scene.admin.create_partitions([NewPartitions(scene.topic, 2)])[scene.topic].result(20)
    wait_until(lambda: len(scene.admin.list_topics(scene.topic, timeout=5).topics[scene.topic].partitions) == 2)
    scene.watch.look()
    scene.connect()
    scene.wait(10).send(3, 1).look()
    return scene.wait(90).send(1).durable({0: 6}).look()


def retention_eaten(scene: Scene) -> list[Standing]:
    """Offsets 10 to 59 went before they were read: they are lost, not late."""
    scene.send(100, ago=30).durable({0: 10}).look()
    scene.admin.delete_records([TopicPartition(scene.topic, 0, 60)])[TopicPartition(scene.topic, 0, 60)].result(20)
    return scene.wait(5).look()


def expires_soon(scene: Scene) -> list[Standing]:
    return scene.send(10, ago=7 * 86_400 - 1200).durable({0: 5}).look()


def expires_unread(scene: Scene) -> list[Standing]:
    """Four of seven days are gone, and nothing is read."""
    scene.send(10, ago=4 * 86_400).durable({0: 5}).look()
    return scene.wait(30).look()


def expires_by_size(scene: Scene) -> list[Standing]:
    """170 bytes a record, of which the newest 100,000 bytes are kept; 2 messages a second come, none is read."""
    scene.send(100, ago=100).durable({0: 0}, what="start").look()
    for _ in range(3):
        rows = scene.wait(30).send(60).look()
    return rows


def markers(scene: Scene) -> list[Standing]:
    """5 messages and the marker of their transaction: offset 5 holds no message."""
    return scene.transaction(5).durable({0: 5}).look()


def markers_expired(scene: Scene) -> list[Standing]:
    """The marker at offset 5 is deleted with all before it: no message was lost. Then there are new ones."""
    scene.transaction(5).durable({0: 5}).look()
    scene.admin.delete_records([TopicPartition(scene.topic, 0, 6)])[TopicPartition(scene.topic, 0, 6)].result(20)
    return [*scene.wait(10).look(), *scene.wait(10).send(2).look(), *scene.wait(10).look()]


def markers_and_more(scene: Scene) -> list[Standing]:
    markers(scene)
    return scene.wait(10).send(2).look()


def aborted(scene: Scene) -> list[Standing]:
    """What was aborted is no lag, wherever it stands."""
    return scene.send(2).transaction(3, "abort").durable({0: 2}).look()


def in_flight(scene: Scene) -> list[Standing]:
    """What is in an open transaction cannot be read yet."""
    return scene.send(2).transaction(3, "leave open").durable({0: 2}).look()


def compacted(scene: Scene) -> list[Standing]:
    """Of 29 messages with one key compaction leaves the last; the one of the segment that is written is not touched."""
    scene.send(29, ago=50, key="same").send(1, ago=40, key="same")
    broker = BrokerReading(scene.bootstrap)
    wait_until(lambda: [front.first for front in broker.fronts([((scene.topic, 0), 0)], 1) if front] == [28])
    return scene.durable({0: 10}).look()


def skew(seconds: float) -> Callable[[Scene], list[Standing]]:
    """Messages of a producer whose clock is wrong, that came 40 s ago while we looked."""

    def play(scene: Scene) -> list[Standing]:
        scene.send(5, skew=seconds).durable({0: 5}).look()
        scene.wait(10).send(4, skew=seconds).look()
        return scene.wait(40).look()

    return play


def skewed_before_we_looked(seconds: float) -> Callable[[Scene], list[Standing]]:
    """A first look has nothing but the message's own time; a second knows that it waits since the first."""

    def play(scene: Scene) -> list[Standing]:
        first = scene.send(5, ago=10, skew=seconds).durable({0: 2}).look()
        return [*first, *scene.wait(20).look()]

    return play


def two_models(scene: Scene) -> list[Standing]:
    return scene.send(50, ago=20).durable({0: 50}).durable({0: 10}, IMAGE).look()


DAY = 86_400
WEEK = {"retention_ms": 7 * DAY * 1000}
SMALL = {"retention_bytes": 100_000}
COMPACT = {"cleanup_policy": "compact", "segment_ms": 100, "min_cleanable_dirty_ratio": 0.01}
CASES = {  #                                                lag  seconds  prod. cons. drain     loss      rule
    "idle": Case(idle, [Says(0, 0, ANY, ANY, 0, INFINITE, 8)]),
    "empty": Case(never_a_message, [Says(0, 0, ANY, ANY, 0, INFINITE, 8)]),
    "fresh": Case(fresh, [Says(3, 1, ANY, ANY, ANY, INFINITE, 13)]),
    "growing": Case(growing, [Says(600, 60, 10, 5, INFINITE, INFINITE, 11)]),
    "draining": Case(draining, [Says(100, 690, 1, 11, 10, INFINITE, 12)]),
    "drained": Case(drained, [Says(0, 0, ANY, ANY, 0, INFINITE, 8)]),
    "paused": Case(paused, [Says(4, 120, 4 / 130, 0, INFINITE, INFINITE, 9)]),
    "stalled": Case(stalled, [Says(3, 110, 0, 0, INFINITE, INFINITE, 10), Says(0, rule=8)], 2),
    "stopped long ago": Case(stopped_long_ago, [Says(4, 7260, 0, 0, INFINITE, INFINITE, 9)]),
    "one look": Case(one_look, [Says(400, 210, 2, 0.6, INFINITE, INFINITE, 11)]),
    "beyond the end": Case(beyond_the_end, [Says(0, 0, rule=3)]),
    "went back": Case(went_back, [Says(20, rule=4)]),
    "put back": Case(put_back, [Says(30, rule=4), Says(25, rule=4)]),
    "recreated": Case(recreated, [Says(None, None, None, None, None, None, 1)] * 2 + [Says(7, 0, rule=13)]),
    "partition added": Case(partition_added, [Says(0, 0, rule=8), Says(3, 90, ANY, 0, INFINITE, rule=10)]),
    "retention eaten": Case(retention_eaten, [Says(40, 35, loss_seconds=0, rule=5)]),
    "expires soon": Case(expires_soon, [Says(5, 7 * DAY - 1200, loss_seconds=1200, rule=6)], config=WEEK),
    "expires unread": Case(expires_unread, [Says(5, 4 * DAY + 30, 0, 0, INFINITE, 3 * DAY - 30, 7)], config=WEEK),
    "expires by size": Case(expires_by_size, [Says(280, 190, 2, 0, INFINITE, 52_400 / 340, 6)], config=SMALL),
    "markers": Case(markers, [Says(0, 0, ANY, ANY, 0, INFINITE, 8)]),
    "markers expired": Case(markers_expired, [Says(0, 0, rule=8)] + [Says(2, loss_seconds=INFINITE, rule=13)] * 2),
    "markers and more": Case(markers_and_more, [Says(2, 0, rule=13)]),
    "aborted": Case(aborted, [Says(0, 0, rule=8)]),
    "in flight": Case(in_flight, [Says(0, 0, rule=8)]),
    "compacted": Case(compacted, [Says(2, 50, loss_seconds=INFINITE, rule=13)], config=COMPACT),
    "clock ahead": Case(skew(1800), [Says(4, 40)]),
    "clock behind": Case(skew(-1800), [Says(4, 50)]),
    "clock ahead at first": Case(skewed_before_we_looked(1800), [Says(3, 0), Says(3, 20)]),
    "clock behind at first": Case(skewed_before_we_looked(-1800), [Says(3, 1810), Says(3, 1830)]),
    "two models": Case(two_models, [Says(0, 0, rule=8), Says(40, 20, rule=13)], 1, (FOREST, IMAGE)),
}


@pytest.mark.broker
@pytest.mark.parametrize("name", CASES)
def test_each_case_gives_its_numbers(name: str, broker: Broker, topic: Topic, tmp_path: Path) -> None:
    case = CASES[name]
    scene = Scene(broker.bootstrap, topic(case.partitions, **case.config), tmp_path, case.models)
    rows = case.play(scene)
    assert len(rows) == len(case.says)
    for row, says in zip(rows, case.says, strict=True):
        expected = {field: value for field, value in says._asdict().items() if value is not ANY}
        for field, value in expected.items():
            found = getattr(row, field)
            assert found is None if value is None else found == pytest.approx(value, rel=1e-6, abs=1e-6), (field, row)
        assert row.why


@pytest.mark.broker
def test_the_time_of_the_broker_tells_where_the_topic_is_set_up_so(
    broker: Broker, topic: Topic, tmp_path: Path
) -> None:
    scene = Scene(broker.bootstrap, topic(message_timestamp_type="LogAppendTime"), tmp_path)
    row = scene.send(5, skew=1800).durable({0: 2}).wait(40).one()
    assert row.lag_seconds is not None
    assert 20 < row.lag_seconds <= 40  # the broker's clock is the real one, and the scene's began before it


@pytest.mark.broker
def test_a_topic_of_a_night_may_go_once_it_is_read(broker: Broker, topic: Topic, tmp_path: Path) -> None:
    """Partition 0 was read to its end, of partition 1 two messages were not. After a day nothing is kept of either."""
    scene = Scene(broker.bootstrap, topic(2), tmp_path)
    scene.watch = scene.new_watch(topic=None)
    asked: list[set[str]] = []
    ask = scene.watch._broker.logs
    scene.watch._broker.logs = lambda topics: (asked.append(set(topics)), ask(topics))[1]  # type: ignore[method-assign]

    def mine() -> list[tuple[int, int]]:
        return [(row.partition, row.rule) for row in scene.look() if row.topic == scene.topic]

    scene.send(5).send(5, 1).durable({0: 5, 1: 3})
    assert mine() == [(0, 8), (1, 13)]
    scene.admin.delete_topics([scene.topic])[scene.topic].result(20)
    wait_until(lambda: scene.topic not in scene.admin.list_topics(timeout=5).topics)
    scene.wait(8 * 3600)
    assert mine() == [(1, 1)]
    scene.wait(DAY)
    assert mine() == []
    assert not scene.watch._unread.keys() | scene.watch._there.keys() | scene.watch._looks._alive.keys()
    table = scene.watch._table
    assert not [reader for reader in table.alive if reader.topic == scene.topic]
    assert not [key for key in (*table.written, *filter(None, table._keys.values())) if key[0].topic == scene.topic]
    assert scene.topic in asked[-1]
    scene.wait(30)
    assert mine() == []
    assert scene.topic not in asked[-1]  # not at each look
    scene.wait(600)
    assert mine() == []
    assert scene.topic in asked[-1]
    scene.durable({0: 6})  # somebody reads it anew
    assert mine() == [(0, 1), (1, 1)]


@pytest.mark.broker
def test_a_catalogue_that_moved_to_another_cluster(broker: Broker, topic: Topic, tmp_path: Path) -> None:
    """Only what is read of the cluster that is asked counts; also after a failback, when the other one was bound last."""
    from streamer.source.connection import identify

    scene = Scene(broker.bootstrap, topic(1), tmp_path / "wrong")
    assert scene.send(4).durable({0: 4}).one().rule == 8  # the id of the cluster tells nothing where all are of another
    here = identify({"bootstrap.servers": broker.bootstrap}, scene.topic)
    for name, ours, theirs in (("moved", 2, 1), ("back again", 1, 2)):
        path = tmp_path / name
        build(path, nights=())
        bind(path, scene.topic, "of-the-other-cluster", days=theirs)
        bind(path, scene.topic, here.topic_id, days=ours, cluster=here.cluster_id)
        commit(path, {app_id(FOREST, "of-the-other-cluster", 0, "offset"): 900}, scene.now)
        commit(path, {app_id(FOREST, here.topic_id, 0, "offset"): 4}, scene.now)
        rows = Watch(open_catalogue(path), broker.bootstrap, topic=scene.topic, clock=lambda: scene.now).look()
        assert [(row.durable, row.end, row.rule) for row in rows] == [(4, 4, 8)], name


def make(scene: Scene, topic: str) -> None:
    """The topic again, once the broker has let go of the old one."""
    from confluent_kafka import KafkaException
    from confluent_kafka.cimpl import NewTopic

    def made() -> bool:
        try:
            scene.admin.create_topics([NewTopic(topic, 1, 1)])[topic].result(20)
        except KafkaException:
            return False
        return True

    def led() -> bool:
        seen = scene.admin.list_topics(topic, timeout=5).topics[topic]
        return seen.error is None and all(p.leader >= 0 for p in seen.partitions.values())

    wait_until(made)
    wait_until(led)


def after_rebind(scene: Scene) -> None:
    """A person accepts the new topic, and a worker begins with it."""
    from streamer.source.connection import identify

    scene.topic_id = identify({"bootstrap.servers": scene.bootstrap}, scene.topic).topic_id
    bind(scene.path, scene.topic, scene.topic_id, days=2)
    scene.durable({0: 0}, what="start")
