"""What the broker says of topics: which they are, where their logs begin and end, how long they keep messages."""

import time
from collections.abc import Collection, Mapping, Sequence
from typing import Any, NamedTuple

from confluent_kafka import Consumer, KafkaError, KafkaException, TopicCollection, TopicPartition
from confluent_kafka.admin import (  # type: ignore[attr-defined]  # re-exported without __all__
    AdminClient,
    ConfigResource,
    ResourceType,
)

from schemas.errors import TroubleError, UserError
from streamer.lag.front import Front
from streamer.lag.stand import Place
from streamer.source.connection import GONE, REFUSED, as_kafka_writes

PATIENCE = 5.0  # seconds that a person waits for a broker before being told that it is not there
AT_ONCE = 32  # messages taken from the client at a time while one of each partition is wanted
CONFIGURED = 600.0  # seconds for which what a topic is configured to keep is believed
GROUP = "slipher-lag"  # no group is ever joined and nothing is committed, but a consumer must have a name

MOVED = (
    KafkaError.NOT_LEADER_FOR_PARTITION,
    KafkaError.LEADER_NOT_AVAILABLE,
    KafkaError.FENCED_LEADER_EPOCH,
    KafkaError.UNKNOWN_LEADER_EPOCH,
    *GONE,
)
_EARLIEST, _LATEST = -2, -1  # Kafka's own names for both ends of a log, in the place of a time


class Retention(NamedTuple):
    """What a topic keeps: seconds after a message's time, bytes of a partition; None = no such limit."""

    seconds: float | None
    size: int | None


KEPT = Retention(None, None)  # nothing expires


class Refused(UserError):
    """The broker is there and does not let us ask: a person has to change rights or credentials."""


class Log(NamedTuple):
    """A topic at the broker.

    Attributes
    ----------
    topic_id
        Which topic of that name.
    starts, ends
        Where each partition begins and ends, for readers of committed messages. Those that have no leader are not in it.
    retention
        None where its configuration may not be read.
    """

    topic_id: str
    starts: dict[int, int]
    ends: dict[int, int]
    retention: Retention | None


class BrokerReading:
    """Asks a broker, in few calls, through two clients that are kept. All calls from one thread at a time.

    Parameters
    ----------
    brokers, kafka
        The cluster, and further settings of the clients.
    patience
        Seconds that it may take to answer.

    Raises
    ------
    UserError
        A setting that the client does not know.
    """

    def __init__(self, brokers: str, kafka: Mapping[str, str] | None = None, patience: float = PATIENCE) -> None:
        self._brokers, self._patience = brokers, patience
        settings: dict[str, Any] = {**(kafka or {}), "bootstrap.servers": brokers, "log_level": 0}
        ours: dict[str, Any] = {
            "isolation.level": "read_committed",  # aborted alerts are not alerts
            "enable.partition.eof": True,  # tells that only markers are left
            "enable.auto.commit": False,
            "enable.auto.offset.store": False,
            "auto.offset.reset": "earliest",
            "queued.min.messages": 1,  # one message of each partition is wanted
            "fetch.queue.backoff.ms": 10,  # its default of a second would pass before the next place is read
            "fetch.message.max.bytes": 256 << 10,
            "fetch.max.bytes": 8 << 20,
            "queued.max.messages.kbytes": 16 << 10,
            "fetch.wait.max.ms": 50,
        }
        try:
            self._admin = AdminClient(settings)
            self._consumer = Consumer({"group.id": GROUP, **settings, **ours})
        except KafkaException as error:
            raise UserError(f"Kafka does not take these settings: {error.args[0].str()}.") from None
        self._kept: dict[str, tuple[float, Retention | None]] = {}

    def cluster_id(self) -> str:
        """Which cluster it is.

        Raises
        ------
        TroubleError
            No broker answers.
        Refused
            It does not let us ask.
        """
        try:
            about = self._admin.describe_cluster(request_timeout=self._patience).result(self._patience + 1)
        except (KafkaException, TimeoutError) as error:
            raise self._silent(error) from None
        return str(about.cluster_id)

    def logs(self, topics: Collection[str]) -> dict[str, Log | None]:
        """`topics` as they are now; None where there is none of that name. Ends are asked last: they are never too small.

        Raises
        ------
        TroubleError
            No broker answers.
        Refused
            It does not let us ask.
        """
        there = self._described(sorted(topics))
        known = [(topic, p) for topic, about in there.items() if about for p in about[1]]
        kept = {topic: self._retention(topic) for topic, about in there.items() if about}
        starts = self.offsets(dict.fromkeys(known, _EARLIEST))
        ends = self.offsets(dict.fromkeys(known, _LATEST))
        out: dict[str, Log | None] = {}
        for topic, about in there.items():
            if about is None:
                out[topic] = None
                continue
            mine = [p for p in about[1] if (topic, p) in starts and (topic, p) in ends]
            first, last = {p: starts[topic, p] for p in mine}, {p: ends[topic, p] for p in mine}
            out[topic] = Log(about[0], first, last, kept[topic])
        return out

    def offsets(self, asked: Mapping[Place, int]) -> dict[Place, int]:
        """First offset at or after a time (ms since 1970 UTC), by partition; the end where no message is that late.

        Partitions that have no leader are left out.
        """
        out, failed = self._offsets(asked)
        if (
            failed
        ):  # a partition was added, or has another leader: the client asks about that every five minutes by itself
            try:
                for topic in {topic for topic, _ in failed}:
                    self._consumer.list_topics(topic, self._patience)
            except KafkaException as error:
                raise self._silent(error) from None
            out |= self._offsets({place: asked[place] for place in failed})[0]
        if late := {place: _LATEST for place, offset in out.items() if offset < 0 and asked[place] >= 0}:
            out |= self._offsets(late)[0]
        return {place: offset for place, offset in out.items() if offset >= 0}

    def _offsets(self, asked: Mapping[Place, int]) -> tuple[dict[Place, int], list[Place]]:
        """Answers, and the partitions of which there is none."""
        if not asked:
            return {}, []
        places = [TopicPartition(topic, p, at) for (topic, p), at in asked.items()]
        try:
            found = self._consumer.offsets_for_times(places, self._patience)
        except KafkaException as error:  # of all of them
            if error.args[0].code() in MOVED:
                return {}, list(asked)
            raise self._silent(error) from None
        told = {(t.topic, t.partition): t.offset for t in found if t.error is None}
        return told, [place for place in asked if place not in told]

    def fronts(self, asked: Sequence[tuple[Place, int]], seconds: float) -> list[Front | None]:
        """The first message at or after an offset, for each (partition, offset) asked; None where `seconds` did not suffice.

        A partition is read from one place at a time: those asked for twice come in a later round.
        """
        deadline = time.monotonic() + seconds
        found: dict[tuple[Place, int], Front] = {}
        left = list(dict.fromkeys(asked))
        while left and time.monotonic() < deadline:
            now = dict(reversed(left))  # of each partition, the first that is left
            got = self._round(now, deadline)
            found |= got
            left = [want for want in left if now[want[0]] != want[1]]
        return [found.get(want) for want in asked]

    def close(self) -> None:
        """Let go of the connections."""
        self._consumer.close()

    def _round(self, asked: Mapping[Place, int], deadline: float) -> dict[tuple[Place, int], Front]:
        """Of each partition one message is wanted, and the client fetches hundreds: who has answered is told to pause, which
        throws the others away before they become objects here."""
        out: dict[tuple[Place, int], Front] = {}
        try:
            self._consumer.assign([TopicPartition(topic, p, offset) for (topic, p), offset in asked.items()])
            while len(out) < len(asked) and (left := deadline - time.monotonic()) > 0:
                answered = set()
                for message in self._consumer.consume(AT_ONCE, min(left, 0.05)):
                    place = str(message.topic()), int(message.partition() or 0)
                    if place not in asked or (place, asked[place]) in out:
                        continue
                    error, at, wanted = message.error(), int(message.offset() or 0), asked[place]
                    answered.add(place)
                    if error is None:
                        kind, stamp = message.timestamp()
                        size = len(message.value() or b"") + len(message.key() or b"")
                        out[place, wanted] = Front.of(wanted, at, kind, stamp, size)
                    elif error.code() == KafkaError._PARTITION_EOF:
                        out[place, wanted] = Front.nothing(wanted, max(at, wanted))
                if answered:
                    self._consumer.pause([TopicPartition(*place) for place in answered])
            self._consumer.resume([TopicPartition(*place) for place in asked])
            self._consumer.unassign()
        except KafkaException as error:
            raise self._silent(error) from None
        return out

    def _described(self, topics: list[str]) -> dict[str, tuple[str, list[int]] | None]:
        """Id and partitions of each topic; None where there is no such topic."""
        out: dict[str, tuple[str, list[int]] | None] = {}
        if not topics:
            return out
        answers = self._admin.describe_topics(TopicCollection(topics), request_timeout=self._patience)
        for topic, answer in answers.items():
            try:
                about = answer.result(self._patience + 1)
            except (KafkaException, TimeoutError) as error:
                if isinstance(error, KafkaException) and error.args[0].code() in GONE:
                    out[topic] = None
                    continue
                raise self._silent(error) from None
            out[topic] = as_kafka_writes(about.topic_id), [p.id for p in about.partitions]
        return out

    def _retention(self, topic: str) -> Retention | None:
        """What `topic` keeps; None where we may not ask."""
        at, known = self._kept.get(topic, (-CONFIGURED, None))
        if time.monotonic() - at < CONFIGURED:
            return known
        asked = ConfigResource(ResourceType.TOPIC, topic)
        try:
            (answer,) = self._admin.describe_configs([asked], request_timeout=self._patience).values()
            held = {name: entry.value for name, entry in answer.result(self._patience + 1).items()}
            known = retention(held)
        except (KafkaException, TimeoutError):
            known = None
        self._kept[topic] = time.monotonic(), known
        return known

    def _silent(self, error: KafkaException | TimeoutError) -> TroubleError | Refused:
        if isinstance(error, KafkaException):
            if error.args[0].code() in REFUSED:
                return Refused(f"The broker at {self._brokers} refuses us: {error.args[0].str()}.")
            said = error.args[0].str()
        else:
            said = "no answer"
        return TroubleError(
            f"No broker answers at {self._brokers} ({said}). Is it up? `slipher broker start` starts one here."
        )


def retention(configuration: Mapping[str, str | None]) -> Retention:
    """What a topic of this configuration keeps. A log that is only compacted keeps the newest of each key for ever."""
    if "delete" not in (configuration.get("cleanup.policy") or "delete"):
        return KEPT
    time_ms = int(configuration.get("retention.ms") or -1)
    size = int(configuration.get("retention.bytes") or -1)
    return Retention(time_ms / 1e3 if time_ms >= 0 else None, size if size >= 0 else None)
