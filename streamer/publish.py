"""A producer for tables and demonstrations: payloads to a topic, each acknowledged by the broker and counted."""

import time
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Literal, NamedTuple

import numpy as np
from confluent_kafka import KafkaError, KafkaException, Message, Producer
from confluent_kafka.admin import AdminClient
from confluent_kafka.cimpl import NewTopic

from schemas.batch import Float64, Int64
from schemas.errors import TroubleError, UserError
from schemas.night import mjd_of
from schemas.table_alerts import When
from streamer.source.connection import PATIENCE, identify

SETTINGS: Mapping[str, Any] = {
    "acks": "all",
    "enable.idempotence": True,  # a retry never doubles a message
    "linger.ms": 20,  # batches large enough to compress
    "batch.size": 1 << 20,
    "compression.type": "lz4",
    "message.max.bytes": 64 << 20,  # the broker's own bound decides
    "queue.buffering.max.kbytes": 128 << 10,  # the default of 1 GiB is a laptop's memory
    "delivery.timeout.ms": 60_000,
    "log_level": 0,
}
_SERVE_EVERY = 500  # messages between two looks at what was delivered
_LONGEST_WAIT = 0.1  # seconds without a look


class Published(NamedTuple):
    """What the broker acknowledged.

    Attributes
    ----------
    counts
        Messages of this call, by partition.
    ends
        The offset after the last of them, by partition.
    nbytes
        Bytes of their payloads.
    seconds
        From the first message to the last acknowledgement.
    """

    counts: dict[int, int]
    ends: dict[int, int]
    nbytes: int
    seconds: float

    @property
    def messages(self) -> int:
        """Messages in all partitions."""
        return sum(self.counts.values())


class PublishInterrupted(KeyboardInterrupt):
    """Ctrl-C: what had been sent until then was flushed, and is counted here."""

    def __init__(self, published: Published) -> None:
        super().__init__("interrupted")
        self.published = published


class Pace:
    """Holds a loop to a rate, by its start: a slow moment is made up for.

    Parameters
    ----------
    rate
        Messages per second; None = no limit.
    clock
        Seconds, rising.
    wait
        Waits at most the seconds given, may come back early.
    """

    def __init__(self, rate: float | None, clock: Callable[[], float], wait: Callable[[float], object]) -> None:
        self._rate, self._clock, self._wait = rate, clock, wait
        self._start = clock()

    def until(self, sent: int) -> None:
        """Return when message number `sent`, from 0, is due."""
        if self._rate is None:
            return
        due = self._start + sent / self._rate
        while (left := due - self._clock()) > 0:
            self._wait(min(left, _LONGEST_WAIT))


def due_times(
    rate: float | None, scale: Literal["utc", "tai"], now_ms: Callable[[], int] = lambda: time.time_ns() // 1_000_000
) -> When:
    """Event times for a stream of alerts that happen as they are sent: when each message is due, if all goes well.

    Parameters
    ----------
    rate
        Messages per second, as ``publish`` is given it: the first is due when it is made. None: all are due when they are made.
    scale
        Of the survey's event times.
    now_ms
        The clock: ms since 1970 UTC.
    """
    began: list[int] = []

    def when(number: Int64) -> Float64:
        now = now_ms()
        began[:] = began or [now]
        if rate is None:
            return np.full(len(number), mjd_of(now, scale))
        return mjd_of(began[0], scale) + number / (rate * 86_400)

    return when


def publish(
    payloads: Iterable[bytes],
    topic: str,
    kafka: Mapping[str, Any],
    rate: float | None = None,
    on_progress: Callable[[int], None] = lambda sent: None,
    clock: Callable[[], float] = time.monotonic,
) -> Published:
    """Send `payloads` to `topic`, to its partitions in turn, and wait until the broker has them all.

    Parameters
    ----------
    payloads
        Message values, taken one at a time.
    topic
        A topic that exists.
    kafka
        librdkafka settings, ``bootstrap.servers`` among them; they go before ours.
    rate
        Messages per second at most.
    on_progress
        Called now and then, and at the end, with the messages sent so far.
    clock
        Seconds, rising.

    Raises
    ------
    TroubleError
        The broker is away, or did not take a message: nothing more is sent then. What it took before stays in the topic.
    UserError
        There is no such topic.
    PublishInterrupted
        On Ctrl-C, after a flush.
    """
    partitions = identify(dict(kafka), topic).partitions
    receipts = _Receipts()
    producer = Producer({**SETTINGS, **kafka, "on_delivery": receipts.take})
    start = clock()
    pace = Pace(rate, clock, producer.poll)
    sent = 0
    try:
        for payload in payloads:
            pace.until(sent)
            _send(producer, topic, payload, sent % partitions, receipts)
            sent += 1
            if sent % _SERVE_EVERY == 0:
                producer.poll(0)
                on_progress(sent)
            if receipts.failures:
                break
        while producer.flush(_LONGEST_WAIT):  # ends: a message is delivered, or fails after delivery.timeout.ms
            pass
    except KeyboardInterrupt:
        producer.flush(PATIENCE)
        raise PublishInterrupted(receipts.published(clock() - start)) from None
    except BaseException:  # the payloads' own trouble
        producer.flush(PATIENCE)
        raise
    on_progress(sent)
    if receipts.failures:
        raise TroubleError(receipts.sentence(topic, sent))
    return receipts.published(clock() - start)


def make_topic(topic: str, partitions: int, kafka: Mapping[str, Any]) -> bool:
    """Make `topic` where it is missing; True if it was.

    Raises
    ------
    TroubleError
        No broker answers.
    UserError
        The broker does not want such a topic, or the one there has another number of partitions.
    """
    admin = AdminClient({**kafka, "log_level": 0})
    try:
        there = admin.list_topics(timeout=PATIENCE).topics.get(topic)
        if there is None:
            wanted = NewTopic(topic, partitions, -1)  # -1: as many replicas as the broker's default says
            admin.create_topics([wanted], operation_timeout=PATIENCE)[topic].result(2 * PATIENCE)
            _await_leaders(admin, topic, partitions)
            return True
    except KafkaException as error:
        trouble: KafkaError = error.args[0]
        if trouble.code() == KafkaError.TOPIC_ALREADY_EXISTS:  # somebody else was quicker
            return False
        if trouble.code() in (KafkaError._TRANSPORT, KafkaError._ALL_BROKERS_DOWN, KafkaError._TIMED_OUT):
            raise TroubleError(
                f"No broker answers at {kafka['bootstrap.servers']} ({trouble.str()}). Is it up?"
            ) from None
        raise UserError(f"The broker did not make the topic {topic}: {trouble.str()}.") from None
    if len(there.partitions) != partitions:
        raise UserError(
            f"The topic {topic} exists with {len(there.partitions)} partitions, not {partitions}: "
            "leave --partitions out, or take another name."
        )
    return False


def _await_leaders(admin: AdminClient, topic: str, partitions: int) -> None:
    """A topic is made before clients are told who leads its partitions."""
    deadline = time.monotonic() + PATIENCE
    while time.monotonic() < deadline:
        seen = admin.list_topics(timeout=PATIENCE).topics.get(topic)
        if seen and len(seen.partitions) == partitions and all(p.leader >= 0 for p in seen.partitions.values()):
            return
        time.sleep(0.02)
    raise TroubleError(f"The topic {topic} was made, but after {PATIENCE:.0f} s its partitions have no leaders.")


class _Receipts:
    """What the broker said of each message."""

    def __init__(self) -> None:
        self._counts: Counter[int] = Counter()
        self._ends: dict[int, int] = {}
        self._nbytes = 0
        self.failures = 0
        self._first = ""

    def take(self, error: KafkaError | None, message: Message) -> None:
        if error is not None:
            self.fail(error)
            return
        partition: Any = message.partition()  # both are known of a delivered message
        offset: Any = message.offset()
        self._counts[partition] += 1
        self._nbytes += len(message)
        if offset >= self._ends.get(partition, 0):
            self._ends[partition] = offset + 1

    def fail(self, error: KafkaError) -> None:
        self.failures += 1
        self._first = self._first or error.str()

    def published(self, seconds: float) -> Published:
        return Published(dict(sorted(self._counts.items())), dict(sorted(self._ends.items())), self._nbytes, seconds)

    def sentence(self, topic: str, sent: int) -> str:
        taken = sum(self._counts.values())
        said = (
            f"The broker took {taken:,} of {sent:,} messages for {topic} and refused {self.failures:,}: {self._first}."
        )
        return f"{said} Publishing again would send those {taken:,} a second time." if taken else said


def _send(producer: Producer, topic: str, payload: bytes, partition: int, receipts: _Receipts) -> None:
    """Queue one message; a full queue waits for the broker."""
    while True:
        try:
            producer.produce(topic, payload, partition=partition)
            return
        except BufferError:
            producer.poll(_LONGEST_WAIT)
            if receipts.failures:
                return
        except KafkaException as error:  # refused before it was sent: too large, or the producer is broken
            receipts.fail(error.args[0])
            return
