"""Workers join and leave, as every kind of group has it; what a group cannot be is said. Real Kafka, workers in threads."""

import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from confluent_kafka import Consumer, ConsumerGroupState, TopicPartition
from confluent_kafka.admin import AdminClient, NewPartitions

from consumers.worker import Output
from schemas.batch import Messages
from schemas.errors import IntegrityError, UserError
from streamer.broker.server import Broker
from streamer.engine import Engine
from streamer.run import build
from tests.streaming import (
    SESSION,
    alerts,
    assert_once,
    durable,
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
REFRESH = {"topic.metadata.refresh.interval.ms": "300"}
GROUPS = {
    "range": SESSION | {"partition.assignment.strategy": "range"},
    "roundrobin": SESSION | {"partition.assignment.strategy": "roundrobin"},
    "cooperative-sticky": SESSION,
    "kip-848": REFRESH | {"group.protocol": "consumer"},
}


def member(broker: Broker, name: str, catalog: Path, kafka: dict[str, str]) -> Engine:
    more = {"kafka": kafka, "group": f"group-{name}", "commit_seconds": 0.1}
    return build(settings(broker.bootstrap, name, catalog, **more))


def reads(one: Engine) -> set[int]:
    """Partitions that it reads now."""
    return set(one._leases)


@pytest.mark.parametrize("kind", GROUPS)
def test_workers_join_and_leave(broker: Broker, topic: Topic, tmp_path: Path, kind: str) -> None:
    """From one to three and back to one while messages come: all land once, and each has a share while it is there."""
    name, catalog = topic(4), tmp_path / "catalog"
    _, values = alerts(500)

    def wave(number: int) -> None:
        send(broker.bootstrap, name, spread(values[100 * number : 100 * (number + 1)], 4))

    first, second, third = (member(broker, name, catalog, GROUPS[kind]) for _ in range(3))
    wave(0)
    with running(first) as one:
        wait_until(lambda: durable(catalog) == 100, seconds=90)  # kernels may have to be compiled
        with running(second), running(third):
            wave(1)
            wait_until(lambda: all(reads(each) for each in (first, second, third)))
            wave(2)
            first.stop()
            wave(3)
            one.join(20)
            wait_until(lambda: reads(second) | reads(third) == set(range(4)))
            third.stop()
            wait_until(lambda: reads(second) == set(range(4)))
            wave(4)
            wait_until(lambda: durable(catalog) == 500)
    assert_once(catalog, identities(dict.fromkeys(range(4), 125)))


def test_a_group_moves_to_the_new_protocol_while_it_reads(broker: Broker, topic: Topic, tmp_path: Path) -> None:
    """From cooperative-sticky to KIP-848, member by member: the broker lets both stand beside each other."""
    name, catalog = topic(4), tmp_path / "catalog"
    _, values = alerts(300)
    old, new = (member(broker, name, catalog, GROUPS[kind]) for kind in ("cooperative-sticky", "kip-848"))
    send(broker.bootstrap, name, spread(values[:100], 4))
    with running(old) as thread:
        wait_until(lambda: durable(catalog) == 100)
        with running(new):
            wait_until(lambda: len(reads(old)) == len(reads(new)) == 2)
            send(broker.bootstrap, name, spread(values[100:200], 4))
            wait_until(lambda: durable(catalog) == 200)
            old.stop()
            thread.join(20)
            wait_until(lambda: reads(new) == set(range(4)))
            send(broker.bootstrap, name, spread(values[200:], 4))
            wait_until(lambda: durable(catalog) == 300)
    assert_once(catalog, identities(dict.fromkeys(range(4), 75)))


@pytest.mark.parametrize("protocol", ["classic", "consumer"])
def test_a_static_member_comes_back_to_its_partitions(
    broker: Broker, topic: Topic, tmp_path: Path, protocol: str
) -> None:
    """It restarts inside its session: nobody else's partitions change hands."""
    name, catalog = topic(4), tmp_path / "catalog"
    _, values = alerts(300)
    kafka = (SESSION | {"session.timeout.ms": "6000"}) if protocol == "classic" else GROUPS["kip-848"]
    members = [member(broker, name, catalog, kafka | {"group.instance.id": host}) for host in ("here", "there", "here")]
    here, there, again = members
    send(broker.bootstrap, name, spread(values[:100], 4))
    with running(there):
        with running(here) as thread:
            wait_until(lambda: len(reads(here)) == len(reads(there)) == 2)
            mine, leases = reads(here), dict(there._leases)
            wait_until(lambda: durable(catalog) == 100)
            here.stop()
            thread.join(20)
        send(broker.bootstrap, name, spread(values[100:200], 4))
        with running(again):
            wait_until(lambda: reads(again) == mine)
            assert there._leases == leases
            send(broker.bootstrap, name, spread(values[200:], 4))
            wait_until(lambda: durable(catalog) == 300)
    assert_once(catalog, identities(dict.fromkeys(range(4), 75)))


@pytest.mark.parametrize("kind", ["range", "cooperative-sticky"])
@pytest.mark.parametrize("where", ["assigned", "revoked"])
def test_a_callback_that_raises(
    broker: Broker, topic: Topic, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str, where: str
) -> None:
    """The worker ends with that error and leaves; nothing of its batch is half there, and another one goes on."""
    name, catalog = topic(2), tmp_path / "catalog"
    _, values = alerts(60)
    send(broker.bootstrap, name, spread(values, 2))
    bad, good = (member(broker, name, catalog, GROUPS[kind]) for _ in range(2))

    def fail(*args: object) -> None:
        raise IntegrityError("the table is not what it was")

    if where == "assigned":
        monkeypatch.setattr(bad.sink, "claim", fail)
        with pytest.raises(IntegrityError, match="not what it was"):
            bad.run()
        with running(good):
            wait_until(lambda: durable(catalog) == 60)
    else:

        def handed_over() -> None:
            with running(bad):
                wait_until(lambda: durable(catalog) == 60)
                monkeypatch.setattr(bad._do, "commit", fail)
                monkeypatch.setattr(bad._do, "commit_if_due", lambda: True)
                with running(good):
                    send(broker.bootstrap, name, spread(values, 2))
                    wait_until(lambda: durable(catalog) == 120)

        with pytest.raises(IntegrityError, match="not what it was"):
            handed_over()
    assert_once(catalog, identities(dict.fromkeys(range(2), 30 if where == "assigned" else 60)))


def test_a_change_of_assignor_is_refused(broker: Broker, topic: Topic, tmp_path: Path) -> None:
    """While others are there, a group has one; the newcomer is told, and disturbs nobody."""
    name, catalog = topic(2), tmp_path / "catalog"
    _, values = alerts(40)
    first, other = (member(broker, name, catalog, GROUPS[kind]) for kind in ("cooperative-sticky", "range"))
    with running(first):
        wait_until(lambda: reads(first) == {0, 1})
        leases = dict(first._leases)
        with pytest.raises(UserError, match=f"group-{name} .*partition.assignment.strategy.*Stop them all"):
            other.run()
        send(broker.bootstrap, name, spread(values, 2))
        wait_until(lambda: durable(catalog) == 40)
        assert first._leases == leases
    assert_once(catalog, identities(dict.fromkeys(range(2), 20)))


def test_a_partition_added_to_a_topic_that_is_read(broker: Broker, topic: Topic, tmp_path: Path) -> None:
    """It is read from its beginning, though the run began at the end of the topic, and though its messages came first."""
    name, catalog = topic(1), tmp_path / "catalog"
    _, values = alerts(60)
    send(broker.bootstrap, name, {0: values[:20]})
    one = build(settings(broker.bootstrap, name, catalog, start="latest", commit_seconds=0.1))
    admin = AdminClient({"bootstrap.servers": broker.bootstrap, "log_level": 0})
    with running(one):
        wait_until(lambda: reads(one) == {0})
        admin.create_partitions([NewPartitions(name, 3)])[name].result(20)
        wait_until(lambda: len(admin.list_topics(name, timeout=5).topics[name].partitions) == 3)
        send(broker.bootstrap, name, {0: values[20:30], 1: values[30:40], 2: values[40:]})
        wait_until(lambda: durable(catalog) == 20 + 10 + 10 + 20)
    expected = {0: range(20, 30), 1: range(10), 2: range(20)}
    assert_once(catalog, {(p, o, 0) for p, offsets in expected.items() for o in offsets})


def test_leaving_while_another_member_holds_up_the_group(broker: Broker, topic: Topic, tmp_path: Path) -> None:
    """A member that beats its heart and does not poll delays a rebalance by minutes; who leaves does not wait for it."""
    name, catalog = topic(4), tmp_path / "catalog"
    _, values = alerts(40)
    kafka = SESSION | {"session.timeout.ms": "6000"}
    one, newcomer = member(broker, name, catalog, kafka), member(broker, name, catalog, kafka)
    idle = Consumer(
        {
            "bootstrap.servers": broker.bootstrap,
            "group.id": f"group-{name}",
            "enable.auto.commit": False,
            "log_level": 0,
        }
        | kafka
        | {"partition.assignment.strategy": "cooperative-sticky"}
    )
    held: set[int] = set()

    def given(consumer: Consumer, partitions: list[TopicPartition]) -> None:
        held.update(t.partition for t in partitions)
        consumer.incremental_assign(partitions)

    def taken(consumer: Consumer, partitions: list[TopicPartition]) -> None:
        held.difference_update(t.partition for t in partitions)
        consumer.incremental_unassign(partitions)

    idle.subscribe([name], on_assign=given, on_revoke=taken)
    asleep, over = threading.Event(), threading.Event()

    def poll() -> None:
        while not over.wait(0.01):
            if not asleep.is_set():
                idle.consume(1, 0.05)

    admin = AdminClient({"bootstrap.servers": broker.bootstrap, "log_level": 0})

    def state() -> ConsumerGroupState:
        return admin.describe_consumer_groups([f"group-{name}"])[f"group-{name}"].result(20).state

    thread = threading.Thread(target=poll)
    thread.start()
    try:
        with running(one) as leaving:
            wait_until(lambda: len(reads(one)) == len(held) == 2)
            asleep.set()
            with running(newcomer):
                wait_until(lambda: state() == ConsumerGroupState.PREPARING_REBALANCING)
                send(broker.bootstrap, name, spread(values, 4))
                wait_until(lambda: durable(catalog) == 20)  # what it reads goes on; its hint waits behind its JoinGroup
                began = time.monotonic()
                one.stop()
                leaving.join(20)
                assert time.monotonic() - began < 10
    finally:
        over.set()
        thread.join()
        idle.close()
    finish(broker, name, catalog)
    assert_once(catalog, identities(dict.fromkeys(range(4), 10)))


def test_a_slow_model_keeps_its_partitions(
    broker: Broker, topic: Topic, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Batches that take longer than max.poll.interval.ms slow reading down, and never cost the membership."""
    name, catalog = topic(2), tmp_path / "catalog"
    _, values = alerts(60)
    one = member(broker, name, catalog, SESSION | {"max.poll.interval.ms": "1500"})
    honest = one.worker.process

    def slow(messages: Messages) -> Output:
        never.wait(2.0)
        return honest(messages)

    never = threading.Event()
    monkeypatch.setattr(one.worker, "process", slow)
    with running(one):
        wait_until(lambda: reads(one) == {0, 1})
        leases = dict(one._leases)
        for wave in range(2):
            send(broker.bootstrap, name, spread(values[30 * wave : 30 * (wave + 1)], 2))
            wait_until(lambda wave=wave: durable(catalog) == 30 * (wave + 1))
        assert one._leases == leases
    assert_once(catalog, identities(dict.fromkeys(range(2), 30)))
