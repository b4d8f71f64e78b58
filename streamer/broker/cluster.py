"""Several Apache Kafka nodes on this machine that replicate each other: for what only happens where a leader can be lost."""

import time
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Self

from schemas.errors import TroubleError
from streamer.broker.server import Broker, prepare
from streamer.broker.settings import HOST, BrokerSettings, free_ports, random_id

if TYPE_CHECKING:
    from confluent_kafka.admin._metadata import PartitionMetadata

_HEAP = "192m"
_START_TIMEOUT_S = 90.0  # 7 s on an idle machine; three Javas at once are slower on a busy one
_POLL_S = 0.05


class Cluster:
    """`nodes` brokers of one cluster; topics have as many replicas by default, and take writes while one is missing.

    Parameters
    ----------
    nodes
        How many; 3 bear the loss of one.
    settings
        What all have in common; ports, ids and voters are chosen here.
    home
        A folder per node stands in it. By default each has a temporary one.

    Notes
    -----
    ``with Cluster() as cluster:`` yields one that answers at ``cluster.bootstrap``, with all its nodes.
    """

    def __init__(self, nodes: int = 3, settings: BrokerSettings | None = None, home: Path | None = None) -> None:
        common = settings or BrokerSettings(heap=_HEAP)
        ports = free_ports(2 * nodes)
        ids = range(1, nodes + 1)
        controllers = dict(zip(ids, ports[nodes:], strict=True))
        voters = ",".join(f"{node}@{HOST}:{port}" for node, port in controllers.items())
        cluster, properties = common.cluster or random_id(), {**replicated(nodes), **common.properties}
        self.nodes: dict[int, Broker] = {}
        for node, port in zip(ids, ports[:nodes], strict=True):
            own = replace(
                common,
                node=node,
                port=port,
                controller_port=controllers[node],
                voters=voters,
                cluster=cluster,
                properties=properties,
            )
            self.nodes[node] = Broker(own, home / f"node-{node}" if home else None)

    @property
    def bootstrap(self) -> str:
        """What clients put into ``bootstrap.servers``: all nodes, so that any may be away."""
        return ",".join(broker.bootstrap for broker in self.nodes.values())

    def start(self) -> Self:
        """Start all nodes at once: one alone has no quorum and never answers."""
        prepare()
        for broker in self.nodes.values():
            broker.start()
        return self

    def wait(self, timeout: float = _START_TIMEOUT_S) -> Self:
        """Wait until every node answers and knows of all others.

        Raises
        ------
        TroubleError
            One ended, or they did not find each other in time.
        """
        from confluent_kafka import KafkaException
        from confluent_kafka.admin import AdminClient

        deadline = time.monotonic() + timeout
        for broker in self.nodes.values():
            broker.wait(max(1.0, deadline - time.monotonic()))
        client = AdminClient({"bootstrap.servers": self.bootstrap, "log_level": 0})
        while True:
            try:
                if len(client.list_topics(timeout=2.0).brokers) == len(self.nodes):
                    return self
            except KafkaException:
                pass
            if time.monotonic() > deadline:
                raise TroubleError(f"The {len(self.nodes)} nodes at {self.bootstrap} did not find each other in time.")
            time.sleep(_POLL_S)

    def leader(self, topic: str, partition: int) -> int:
        """The node that leads a partition now; -1 where none does. Nodes that are away are not asked."""
        return self._seen(topic)[partition].leader

    def in_sync(self, topic: str) -> bool:
        """Whether every partition of `topic` has all its replicas in sync."""
        return all(len(p.isrs) == len(p.replicas) for p in self._seen(topic).values())

    def stop(self) -> None:
        """Stop all nodes: the last ones have no quorum any more, so they are not waited for long."""
        for broker in self.nodes.values():
            broker.stop(3.0)

    def __enter__(self) -> Self:
        try:
            return self.start().wait()
        except BaseException:
            self.stop()
            raise

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def _seen(self, topic: str) -> Mapping[int, "PartitionMetadata"]:
        from confluent_kafka.admin import AdminClient

        client = AdminClient({"bootstrap.servers": self.bootstrap, "log_level": 0})
        return client.list_topics(topic, timeout=10.0).topics[topic].partitions


def replicated(nodes: int) -> dict[str, object]:
    """Kafka properties under which every topic, Kafka's own too, has a replica on each of `nodes`, and bears the loss of one."""
    enough = max(1, nodes - 1)
    return {
        "default.replication.factor": nodes,
        "min.insync.replicas": enough,
        "offsets.topic.replication.factor": nodes,
        "transaction.state.log.replication.factor": nodes,
        "transaction.state.log.min.isr": enough,
        "share.coordinator.state.topic.replication.factor": nodes,
        "share.coordinator.state.topic.min.isr": enough,
    }
