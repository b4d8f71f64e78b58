"""One message of a topic, looked at without a trace: no consumer group is joined, no offset committed."""

from collections.abc import Mapping
from typing import Any, NamedTuple

from confluent_kafka import TIMESTAMP_NOT_AVAILABLE, Consumer, KafkaError, KafkaException, Message, TopicPartition

from schemas.errors import TroubleError, UserError
from streamer.source.connection import PATIENCE, LogEnds, identify

GROUP = "slipher-inspect"  # the client wants a name; one that only assigns, and stores no offset, is no member
_FIRST_STEP = 1  # offsets back from the end, then fourfold, until there is a message


class Peeked(NamedTuple):
    """A message where it stands.

    Attributes
    ----------
    payload
        Its value; None = a tombstone.
    partition, offset
        Where.
    timestamp_ms
        When the broker has it from, ms since 1970 UTC; -1 = unknown.
    begin, end
        The first offset of the partition, and the one after its last.
    """

    payload: bytes | None
    partition: int
    offset: int
    timestamp_ms: int
    begin: int
    end: int


def peek(
    topic: str, partition: int, offset: int | None, kafka: Mapping[str, Any], patience: float = PATIENCE
) -> Peeked:
    """The message at `offset`; None = the newest that is committed.

    Parameters
    ----------
    topic, partition, offset
        Where to look.
    kafka
        librdkafka settings, ``bootstrap.servers`` among them.
    patience
        Seconds that the broker may take for an answer.

    Raises
    ------
    TroubleError
        No broker answers.
    UserError
        There is no such topic, partition or message; the sentence says what there is.
    """
    found = identify(dict(kafka), topic, patience)
    if not 0 <= partition < found.partitions:
        raise UserError(f"The topic {topic} has the partitions 0 to {found.partitions - 1}, not {partition}.")
    ends = LogEnds(dict(kafka), found)
    begin, end = ends.earliest([partition])[partition], ends.latest([partition])[partition]
    where = f"Partition {partition} of {topic}"
    if begin >= end:
        raise UserError(f"{where} holds no message: it begins and ends at offset {end}.")
    if offset is not None and not begin <= offset < end:
        raise UserError(f"{where} has the offsets {begin} to {end - 1}, not {offset}.")
    reader = _Reader(topic, partition, kafka, patience)
    try:
        if offset is None:
            message = _newest(reader, begin, end)
            if message is None:
                raise UserError(f"{where} holds no message that can be read between its offsets {begin} and {end}.")
        else:
            message = reader.first(offset)
            if message is None or message.offset() != offset:
                after = f"; the next message is at {message.offset()}" if message else ""
                raise UserError(
                    f"{where} has no message at offset {offset}: a transaction's marker, aborted, or compacted away{after}."
                )
    finally:
        reader.close()
    kind, stamp = message.timestamp()
    at: Any = message.offset()
    value: Any = message.value()
    return Peeked(value, partition, at, -1 if kind == TIMESTAMP_NOT_AVAILABLE else stamp, begin, end)


def _newest(reader: "_Reader", begin: int, end: int) -> Message | None:
    """The last message below `end`: the offsets before it may be markers, so ever longer pieces are read."""
    step = _FIRST_STEP
    while True:
        first = max(begin, end - step)
        message = reader.last(first, end)
        if message is not None or first == begin:
            return message
        step *= 4


class _Reader:
    """Reads one partition from where it is told to; no message's offset is stored anywhere."""

    def __init__(self, topic: str, partition: int, kafka: Mapping[str, Any], patience: float) -> None:
        self._topic, self._partition, self._patience = topic, partition, patience
        fixed = {
            "enable.auto.commit": False,
            "enable.auto.offset.store": False,
            "enable.partition.eof": True,
            "isolation.level": "read_committed",
            "auto.offset.reset": "error",
        }
        given = {"group.id": GROUP, "log_level": 0, "fetch.message.max.bytes": 64 << 20, **kafka}
        try:
            self._consumer = Consumer({**given, **fixed})
        except KafkaException as error:
            raise UserError(f"Kafka does not take these settings: {error.args[0].str()}.") from None

    def first(self, offset: int) -> Message | None:
        """The first message from `offset` on; None = there is none up to the end."""
        self._consumer.assign([TopicPartition(self._topic, self._partition, offset)])
        return self._next()

    def last(self, first: int, end: int) -> Message | None:
        """The last message from `first` on, below `end`."""
        self._consumer.assign([TopicPartition(self._topic, self._partition, first)])
        newest = None
        while True:
            message = self._next()
            if message is None or _offset(message) >= end:
                return newest
            newest = message
            if _offset(message) == end - 1:
                return newest

    def close(self) -> None:
        """Go, without a word to the broker's groups."""
        self._consumer.close()

    def _next(self) -> Message | None:
        """The next message; None at the end of the partition."""
        message = self._consumer.poll(self._patience)
        if message is None:
            raise TroubleError(f"The broker gave no message of {self._topic} within {self._patience:g} s.")
        error = message.error()
        if error is None:
            return message
        if error.code() == KafkaError._PARTITION_EOF:
            return None
        raise TroubleError(f"The broker gave no message of {self._topic}: {error.str()}.")


def _offset(message: Message) -> int:
    offset: Any = message.offset()
    return int(offset)
