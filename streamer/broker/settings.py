"""How a broker of one machine is set up, and the two files in which Kafka reads it."""

import base64
import random
import socket
import uuid
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from schemas.errors import TroubleError

HOST = "127.0.0.1"

# Below the range from which Linux (32768-) and macOS (49152-) take the ports of outgoing connections: between our
# looking and Kafka's binding nobody's connection can take one.
_PORTS = range(20_000, 32_000)

SHORT_SESSIONS: Mapping[str, object] = {
    "broker.session.timeout.ms": 1000,  # after kill -9 the next start waits this long for its own old session: not 9 s
    "broker.heartbeat.interval.ms": 200,
    "group.consumer.session.timeout.ms": 3000,
    "group.consumer.heartbeat.interval.ms": 300,
    "log.initial.task.delay.ms": 500,  # records that are to be trimmed are trimmed now, so offsets can go out of range
    "log.retention.check.interval.ms": 500,
    "log.segment.delete.delay.ms": 100,
    "log.cleaner.backoff.ms": 500,
    "transaction.abort.timed.out.transaction.cleanup.interval.ms": 500,
}
"""Properties for tests: a member, a broker or a record that is gone is gone within seconds."""


@dataclass(frozen=True)
class BrokerSettings:
    """How to set up a broker.

    Attributes
    ----------
    port
        The port of clients; a free one by default.
    controller_port
        The port of controllers; a free one by default.
    node
        The node's id.
    voters
        ``controller.quorum.voters``; this node alone by default.
    cluster
        The cluster's id (22 characters); a random one by default. Data that are there already keep theirs.
    heap
        Java's heap, as in ``-Xmx``.
    log_level
        What the broker's log tells: ERROR, WARN, INFO or DEBUG.
    properties
        Kafka broker properties that add to ours or replace them.
    """

    port: int | None = None
    controller_port: int | None = None
    node: int = 1
    voters: str | None = None
    cluster: str | None = None
    heap: str = "256m"
    log_level: str = "WARN"
    properties: Mapping[str, object] = field(default_factory=dict)


def server_properties(settings: BrokerSettings, port: int, controller_port: int, data: Path) -> str:
    """The text of Kafka's ``server.properties``: broker and controller in one process."""
    properties: dict[str, object] = {
        "process.roles": "broker,controller",
        "node.id": settings.node,
        "controller.quorum.voters": settings.voters or f"{settings.node}@{HOST}:{controller_port}",
        "listeners": f"PLAINTEXT://{HOST}:{port},CONTROLLER://{HOST}:{controller_port}",
        "advertised.listeners": f"PLAINTEXT://{HOST}:{port}",
        "listener.security.protocol.map": "PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT",
        "inter.broker.listener.name": "PLAINTEXT",
        "controller.listener.names": "CONTROLLER",
        "log.dirs": data,
        # A topic that is misspelt must fail, as it does in any observatory's cluster.
        "auto.create.topics.enable": "false",
        # Alerts carry the night's time, which may be years ago; retention by time would delete them as they arrive.
        "log.retention.ms": -1,
        # One machine: internal topics of one partition, no replicas, few threads.
        "offsets.topic.num.partitions": 1,
        "offsets.topic.replication.factor": 1,
        "transaction.state.log.num.partitions": 1,
        "transaction.state.log.replication.factor": 1,
        "transaction.state.log.min.isr": 1,
        "share.coordinator.state.topic.num.partitions": 1,
        "share.coordinator.state.topic.replication.factor": 1,
        "share.coordinator.state.topic.min.isr": 1,
        "num.network.threads": 2,
        "num.io.threads": 2,
        "log.cleaner.dedupe.buffer.size": 10 << 20,
        # A group starts at once and may ask for short sessions; KIP-848 members learn of a rebalance in 1 s, not 5.
        "group.initial.rebalance.delay.ms": 0,
        "group.min.session.timeout.ms": 1000,
        "group.consumer.min.session.timeout.ms": 1000,
        "group.consumer.min.heartbeat.interval.ms": 100,
        "group.consumer.heartbeat.interval.ms": 1000,
        **settings.properties,
    }
    return "".join(f"{name}={_escaped(value)}\n" for name, value in properties.items())


def log4j_properties(level: str) -> str:
    """The text of ``log4j2.properties``: everything to standard output, which the broker's owner sends to a file."""
    return (
        "status = error\n"
        f"rootLogger.level = {level}\n"
        "rootLogger.appenderRef.0.ref = out\n"
        "appender.0.type = Console\n"
        "appender.0.name = out\n"
        "appender.0.layout.type = PatternLayout\n"
        "appender.0.layout.pattern = [%d] %p %m (%c)%n\n"
    )


def free_ports(count: int) -> list[int]:
    """Ports on which nobody listens, all different."""
    found = [port for port in random.sample(_PORTS, 64) if port_is_free(port)]
    if len(found) < count:
        raise TroubleError(f"No free port between {_PORTS.start} and {_PORTS.stop} on {HOST}.")
    return found[:count]


def port_is_free(port: int) -> bool:
    """Whether a server could listen on the port now."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # as Java does: old connections do not count
        try:
            probe.bind((HOST, port))
        except OSError:
            return False
    return True


def random_id() -> str:
    """A random id in Kafka's form: 16 bytes in URL-safe base64, not starting with a dash."""
    while (text := base64.urlsafe_b64encode(uuid.uuid4().bytes).rstrip(b"=").decode()).startswith("-"):
        pass
    return text


def _escaped(value: object) -> str:
    """A value as Java's property files want it: Latin-1 at most, so anything beyond ASCII by its code."""
    text = str(value).replace("\\", "\\\\")
    units = text.encode("utf-16-be")
    return "".join(
        chr(unit) if unit < 128 else f"\\u{unit:04x}"
        for unit in (int.from_bytes(units[i : i + 2], "big") for i in range(0, len(units), 2))
    )
