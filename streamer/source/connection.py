"""What a broker is asked before anything is read: is it there, who is it, which topic is this, where does reading begin."""

import difflib
import re
from datetime import UTC, datetime
from typing import Any, NamedTuple

from confluent_kafka import IsolationLevel, KafkaError, KafkaException, TopicCollection, TopicPartition
from confluent_kafka.admin import AdminClient, OffsetSpec  # type: ignore[attr-defined]  # re-exported without __all__

from schemas.errors import IntegrityError, TroubleError, UserError

PATIENCE = 10.0  # seconds to the first answer of a broker that is up; 1 to 2 are normal


COMMITTED = IsolationLevel.READ_COMMITTED
GONE = (KafkaError.UNKNOWN_TOPIC_OR_PART, KafkaError._UNKNOWN_TOPIC, KafkaError.UNKNOWN_TOPIC_ID)
REFUSED = (
    KafkaError.TOPIC_AUTHORIZATION_FAILED,
    KafkaError.CLUSTER_AUTHORIZATION_FAILED,
    KafkaError.SASL_AUTHENTICATION_FAILED,
    KafkaError._AUTHENTICATION,
)


class NoTopic(UserError):
    """The broker has no topic of that name."""


class TopicGone(IntegrityError):
    """The topic that is read was deleted: for one that is named trouble, for one of many that come and go their end."""


class TopicIdentity(NamedTuple):
    """A topic as the cluster knows it."""

    cluster_id: str
    topic: str
    topic_id: str
    partitions: int


def identify(settings: dict[str, Any], topic: str, patience: float = PATIENCE) -> TopicIdentity:
    """Ask the broker what `topic` is.

    Raises
    ------
    TroubleError
        No broker answers within `patience` seconds.
    NoTopic
        There is no such topic; the sentence names the nearest.
    """
    brokers = settings["bootstrap.servers"]
    admin = _admin(settings)
    try:
        metadata = admin.list_topics(timeout=patience)
        cluster = admin.describe_cluster(request_timeout=patience).result()
        if topic not in metadata.topics:
            near = difflib.get_close_matches(topic, metadata.topics, n=3)
            there = f"Did you mean {' or '.join(near)}?" if near else f"It has {len(metadata.topics)} topics."
            raise NoTopic(f"The broker at {brokers} has no topic {topic}. {there}")
        described = admin.describe_topics(TopicCollection([topic]), request_timeout=patience)[topic].result()
    except KafkaException as error:
        if error.args[0].code() in REFUSED:
            raise UserError(f"The broker at {brokers} refuses us: {error.args[0].str()}.") from None
        raise TroubleError(
            f"No broker answers at {brokers} ({error.args[0].str()}). Is it up? `slipher broker start` starts one here."
        ) from None
    return TopicIdentity(cluster.cluster_id, topic, as_kafka_writes(described.topic_id), len(described.partitions))


class TopicNames:
    """Asks which topics there are.

    Parameters
    ----------
    settings
        Of the connection.
    """

    def __init__(self, settings: dict[str, Any]) -> None:
        self._admin, self._brokers = _admin(settings), settings["bootstrap.servers"]

    def fitting(self, pattern: re.Pattern[str], patience: float = PATIENCE) -> list[str]:
        """Names of the topics that `pattern` fits from their first letter on, and that have a leader in every partition.

        Raises
        ------
        TroubleError
            No broker answers within `patience` seconds.
        """
        try:
            topics = self._admin.list_topics(timeout=patience).topics
        except KafkaException as error:
            raise TroubleError(f"No broker answers at {self._brokers} ({error.args[0].str()}).") from None
        return sorted(
            name
            for name, topic in topics.items()
            if pattern.match(name)
            and not name.startswith("__")  # Kafka's own
            and topic.error is None
            and topic.partitions
            and all(partition.leader >= 0 for partition in topic.partitions.values())
        )


def _admin(settings: dict[str, Any]) -> AdminClient:
    try:
        return AdminClient({**settings, "log_level": 0})
    except KafkaException as error:
        raise UserError(f"Kafka does not take these settings: {error.args[0].str()}.") from None


def as_kafka_writes(topic_id: Any) -> str:
    """A topic id in Kafka's own, URL-safe base64: the client's has ``/``, which no file name can hold."""
    return str(topic_id).rstrip("=").translate(str.maketrans("+/", "-_"))


class Start(NamedTuple):
    """Where the very first reading of a topic begins, as a person said it."""

    kind: str  # earliest, latest, time, after
    value: str = ""


def parse_start(text: str) -> Start:
    """Parse ``earliest``, ``latest``, an ISO time, or ``after:MODEL``.

    Raises
    ------
    UserError
        It is none of these.
    """
    if text in ("earliest", "latest"):
        return Start(text)
    if text.startswith("after:") and len(text) > len("after:"):
        return Start("after", text.removeprefix("after:"))
    try:
        when = datetime.fromisoformat(re.sub(r"Z$", "+00:00", text))
    except ValueError:
        raise UserError(
            f"--start {text}: say earliest, latest, a time such as 2026-01-31T21:00Z, or after:MODEL."
        ) from None
    when = when if when.tzinfo else when.replace(tzinfo=UTC)
    return Start("time", str(int(when.timestamp() * 1000)))


class LogEnds:
    """Asks where logs begin and end, through a client of its own: a consumer answers one thread only, and not while it polls.

    Parameters
    ----------
    settings
        Of the connection.
    topic
        Whose partitions are meant, and which topic of this name.
    patience
        Seconds that a broker may take to answer.
    """

    def __init__(self, settings: dict[str, Any], topic: TopicIdentity, patience: float = PATIENCE) -> None:
        self._admin, self._patience = _admin(settings), patience
        self._topic, self._topic_id = topic.topic, topic.topic_id

    def confirm(self) -> bool:
        """True where the topic still is the one we know, False where no broker says.

        Raises
        ------
        IntegrityError
            It was deleted, or recreated: its offsets began again, and would be taken for the old ones.
        """
        try:
            asked = TopicCollection([self._topic])
            found = self._admin.describe_topics(asked, request_timeout=self._patience)[self._topic].result()
        except KafkaException as error:
            if error.args[0].code() in GONE:
                raise TopicGone(
                    f"The topic {self._topic} was deleted. What is durable stays; nothing more is read."
                ) from None
            return False
        now = as_kafka_writes(found.topic_id)
        if now != self._topic_id:
            raise IntegrityError(
                f"The topic {self._topic} was recreated: its id was {self._topic_id} and is {now}. What was durable stays, "
                f"nothing of the new one is read until a person decides (`slipher catalog rebind`)."
            )
        return True

    def earliest(self, partitions: list[int]) -> dict[int, int]:
        """First offset still in the log."""
        return self._known(self._ask(partitions, OffsetSpec.earliest()))

    def latest(self, partitions: list[int]) -> dict[int, int]:
        """One past the last offset that can be read: below open transactions."""
        return self._known(self._ask(partitions, OffsetSpec.latest()))

    def at(self, partitions: list[int], start: Start) -> dict[int, int]:
        """Offsets at which `start` (earliest, latest or time) begins; the end where no message is that late."""
        if start.kind == "earliest":
            return self.earliest(partitions)
        ends = self.latest(partitions)
        if start.kind == "latest":
            return ends
        found = self._ask(partitions, OffsetSpec.for_timestamp(int(start.value)))
        return {p: offset if offset >= 0 else ends[p] for p, offset in found.items()}

    def _known(self, offsets: dict[int, int]) -> dict[int, int]:
        """`offsets`, none of which is librdkafka's "none" (-1001): it stands there, without error, of a broker just back."""
        silent = [p for p, offset in offsets.items() if offset < 0]
        if silent:
            raise TroubleError(
                f"The broker does not say yet where {self._topic} begins and ends (partitions {silent})."
            )
        return offsets

    def _ask(self, partitions: list[int], what: OffsetSpec) -> dict[int, int]:
        asked = {TopicPartition(self._topic, p): what for p in partitions}
        if not asked:
            return {}
        try:
            answers = self._admin.list_offsets(asked, isolation_level=COMMITTED, request_timeout=self._patience)
            return {where.partition: answer.result().offset for where, answer in answers.items()}
        except KafkaException as error:
            if error.args[0].code() in GONE:
                raise TopicGone(
                    f"The topic {self._topic} is gone. What is durable stays; a person has to look."
                ) from None
            raise TroubleError(
                f"The broker does not say where {self._topic} begins and ends ({error.args[0].str()})."
            ) from None
