"""What the broker says of topics: which they are, and where their logs begin and end."""

from collections.abc import Mapping
from typing import Any, NamedTuple

from confluent_kafka import IsolationLevel, KafkaException, TopicPartition
from confluent_kafka.admin import AdminClient, OffsetSpec  # type: ignore[attr-defined]  # re-exported without __all__

from schemas.errors import TroubleError
from streamer.source.connection import identify

PATIENCE = 5.0  # seconds that a person waits for a broker before being told that it is not there


class Log(NamedTuple):
    """A topic at the broker: its id, and where each partition begins and ends, for readers of committed messages."""

    topic_id: str
    starts: dict[int, int]
    ends: dict[int, int]


class BrokerReading:
    """Asks a broker, through one client that is kept.

    Parameters
    ----------
    brokers, kafka
        The cluster, and further settings of the client.
    patience
        Seconds that it may take to answer.
    """

    def __init__(self, brokers: str, kafka: Mapping[str, str] | None = None, patience: float = PATIENCE) -> None:
        self._settings: dict[str, Any] = {**(kafka or {}), "bootstrap.servers": brokers, "log_level": 0}
        self._brokers, self._patience = brokers, patience
        self._admin: AdminClient | None = None

    def log(self, topic: str) -> Log:
        """Where `topic` begins and ends now.

        Raises
        ------
        TroubleError
            No broker answers.
        NoTopic
            There is no such topic.
        """
        identity = identify(self._settings, topic, self._patience)
        partitions = range(identity.partitions)
        starts = self._ask(topic, partitions, OffsetSpec.earliest())
        return Log(identity.topic_id, starts, self._ask(topic, partitions, OffsetSpec.latest()))

    def _ask(self, topic: str, partitions: range, what: OffsetSpec) -> dict[int, int]:
        self._admin = self._admin or AdminClient(self._settings)
        asked = {TopicPartition(topic, p): what for p in partitions}
        try:
            answers = self._admin.list_offsets(
                asked, isolation_level=IsolationLevel.READ_COMMITTED, request_timeout=self._patience
            )
            return {place.partition: answer.result(self._patience + 1).offset for place, answer in answers.items()}
        except (KafkaException, TimeoutError) as error:
            raise TroubleError(
                f"The broker at {self._brokers} does not say where {topic} begins and ends ({error})."
            ) from None
