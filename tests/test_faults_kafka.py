"""What a Kafka does in a bad night: it dies, sleeps, loses a leader. Under live traffic: nothing lost, nothing doubled."""

import signal
from pathlib import Path

import pytest
from confluent_kafka.admin import AdminClient
from confluent_kafka.cimpl import NewTopic

from streamer.broker.cluster import Cluster
from streamer.broker.server import Broker
from streamer.broker.settings import SHORT_SESSIONS, BrokerSettings
from tests.nights import Night, pause
from tests.streaming import (
    finished,
    heard,
    no_worker_outlives_its_test,  # noqa: F401
    wait_until,
    worker,
)

pytestmark = [pytest.mark.broker, pytest.mark.timeout(300)]
ASLEEP_SECONDS = 12.0  # longer than every session, and than a worker waits for an answer, twice


def test_the_only_broker_dies_and_sleeps(tmp_path: Path) -> None:
    """kill -9 of Kafka under a worker, then SIGSTOP for longer than a session: it waits, says so, and goes on."""
    catalog = tmp_path / "catalog"
    with Broker(BrokerSettings(properties=SHORT_SESSIONS), home=tmp_path / "kafka") as own:
        make_topic(own.bootstrap, 2, 1)
        with Night(own.bootstrap, "alerts", 2, catalog) as night:
            running = worker(own.bootstrap, "alerts", catalog)
            heard(running, "durable")
            own.kill()
            heard(running, "no broker answers")
            own.start().wait()
            night.goes_on(300, running)
            own.suspend()
            pause(ASLEEP_SECONDS)
            own.resume()
            night.goes_on(300, running)
            running.send_signal(signal.SIGTERM)
            finished(running)
            night.settle()


def test_leaders_are_lost_one_after_the_other(tmp_path: Path) -> None:
    """Three brokers, three replicas: the leader of a partition dies and comes back, then the next one."""
    catalog = tmp_path / "catalog"
    with Cluster(settings=BrokerSettings(heap="192m", properties=SHORT_SESSIONS), home=tmp_path / "kafka") as cluster:
        make_topic(cluster.bootstrap, 3, 3)
        with Night(cluster.bootstrap, "alerts", 3, catalog) as night:
            running = worker(cluster.bootstrap, "alerts", catalog)
            heard(running, "durable")
            for partition in (0, 1):
                led = cluster.leader("alerts", partition)
                cluster.nodes[led].kill()
                wait_until(lambda led=led, p=partition: cluster.leader("alerts", p) not in (-1, led), running)
                night.goes_on(300, running)
                cluster.nodes[led].start().wait()
                wait_until(lambda: cluster.in_sync("alerts"), running, 60)
            running.send_signal(signal.SIGTERM)
            finished(running)
            night.settle()


def make_topic(bootstrap: str, partitions: int, replicas: int) -> None:
    """``alerts``, with a leader in each partition."""
    admin = AdminClient({"bootstrap.servers": bootstrap, "log_level": 0})
    admin.create_topics([NewTopic("alerts", partitions, replicas)])["alerts"].result(20)

    def led() -> bool:
        seen = admin.list_topics("alerts", timeout=5).topics["alerts"]
        return len(seen.partitions) == partitions and all(p.leader >= 0 for p in seen.partitions.values())

    wait_until(led)
