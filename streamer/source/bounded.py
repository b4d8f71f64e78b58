"""Reads ranges of offsets that are fixed from the start, without a consumer group."""

import logging
import time
from collections import deque
from collections.abc import Callable, Mapping
from typing import Any

from confluent_kafka import KafkaError, Message, TopicPartition

from schemas.batch import Messages
from streamer.source.columns import columns
from streamer.source.connection import LogEnds
from streamer.source.contract import Callbacks
from streamer.source.judgement import judge, say_expired
from streamer.source.receiver import Receiver

log = logging.getLogger(__name__)

Ranges = list[tuple[int, int]]

BATCH_MESSAGES = 20_000  # of one poll
BATCH_BYTES = 2 << 20  # of one poll
BRIDGE = 5_000  # offsets between two ranges that are read and dropped: a jump costs the broker more
# Nobody else is of this group, nothing is committed to it, and the broker is never asked about it: the client wants a name.
GROUP = "slipher-replay"
OF_MEMBERS = ("group.protocol", "group.instance.id", "partition.assignment.strategy")


class BoundedSource:
    """A ``Source`` over ranges of offsets. It reads what nobody has settled yet, and ends.

    Parameters
    ----------
    settings
        From ``consumer_settings``.
    topic
        The topic to read.
    partitions
        Those that are read.
    ranges
        Called once the partitions are claimed: for each, the ranges [start, end) to read, rising; all below where the log
        ended when they were chosen.
    ends
        Where the logs begin.
    room
        Called before each poll: how many messages may be read now; 0 = wait.
    clock
        Monotonic seconds.

    Raises
    ------
    UserError
        A setting that the client does not know.
    """

    def __init__(
        self,
        settings: Mapping[str, Any],
        topic: str,
        partitions: list[int],
        ranges: Callable[[], Mapping[int, Ranges]],
        ends: LogEnds,
        room: Callable[[], int] = lambda: BATCH_MESSAGES,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.topic, self.partitions, self._ranges, self.ends, self._room = topic, partitions, ranges, ends, room
        self._clock = clock
        self.gaps: set[tuple[int, int, int]] = set()  # all that retention took: (partition, start, end)
        self._wanted: dict[int, deque[tuple[int, int]]] = {}  # exactly what is to be delivered
        self._stretches: dict[int, deque[tuple[int, int]]] = {}  # what is fetched; the first is at work
        self._next: dict[int, int] = {}  # the offset after the last one read
        self._given: dict[int, int] = {}  # where the last batch that was returned ended
        self._new_gaps: list[tuple[int, int, int]] = []
        self._begun = False
        self._closed = set(partitions)  # not yet claimed
        self._fetched: set[int] = set()  # that the client fetches now
        alone = {key: value for key, value in settings.items() if key not in OF_MEMBERS}
        self._receiver = Receiver({**alone, "group.id": GROUP}, topic)
        self.consumer = self._receiver.consumer

    @property
    def bytes_read(self) -> int:
        """Of all payloads so far."""
        return self._receiver.bytes_read

    def start(self, callbacks: Callbacks) -> None:
        """Remember whom to tell; partitions are claimed in the first ``poll``."""
        self._callbacks = callbacks

    def poll(self, seconds: float) -> Messages | None:
        """The next batch, or None: there was nothing within `seconds`, or none may be read now."""
        if not self._begun:
            self._begin()
        moved: dict[int, int] = {}
        messages: list[Message] = []
        if self._stretches:
            allowed = self._room()
            if allowed <= 0:
                time.sleep(seconds)
                return None
            messages, moved = self._sort_out(self._fetch(min(allowed, BATCH_MESSAGES), seconds))
        gaps, self._new_gaps = tuple(self._new_gaps), []
        if not messages and not moved and not gaps:
            return None
        return self._columns(messages, moved, gaps)

    @property
    def at_end(self) -> bool:
        """True where every range was read."""
        return self._begun and not self._closed and not self._stretches and not self._new_gaps

    @property
    def member(self) -> bool:
        """There is no group to wait for."""
        return True

    def hint(self, durable: dict[int, int]) -> None:
        """There is no group to tell."""

    def keep_alive(self) -> None:
        """There is no group to stay in."""

    def resume(self, positions: dict[int, int]) -> None:
        """Read what is not settled of partitions that were claimed, late or again."""
        self._new_gaps = [gap for gap in self._new_gaps if gap[0] not in positions]
        self._open(positions)

    def close(self, seconds: float) -> None:
        """Leave at once."""
        self.consumer.close()

    # -- ranges --------------------------------------------------------------------------------------------------------

    def _begin(self) -> None:
        positions = self._callbacks.assigned(self.partitions)
        self._begun = True
        self._open(positions)

    def _open(self, positions: dict[int, int]) -> None:
        self.ends.confirm()
        ranges = self._ranges()
        for p, position in positions.items():
            self._given[p] = self._next[p] = position
            self._wanted[p] = deque(ranges[p])
            self._stretches[p] = _bridged(ranges[p])
        self._seek(list(positions))
        self._closed -= set(positions)

    def _seek(self, partitions: list[int]) -> None:
        """Fetch each partition from where its stretch at work begins, or no longer."""
        low = self.ends.earliest(partitions)
        for p in partitions:
            while self._stretches[p]:
                start, end = self._stretches[p][0]
                at = max(start, self._next[p])
                if at < low[p]:
                    until = min(end, low[p])
                    say_expired(self.topic, p, at, until)
                    self._new_gaps.append((p, at, until))
                    self.gaps |= {(p, max(a, at), min(b, until)) for a, b in self._wanted[p] if a < until and b > at}
                    at = until
                self._next[p] = at
                if at < end:
                    break
                self._stretches[p].popleft()
        gone = [TopicPartition(self.topic, p) for p in partitions if p in self._fetched]
        if gone:
            self.consumer.incremental_unassign(gone)  # seek() fails after a reset error
        parts = [TopicPartition(self.topic, p, self._next[p]) for p in partitions if self._stretches[p]]
        if parts:
            self.consumer.incremental_assign(parts)
        self._fetched = self._fetched - set(partitions) | {part.partition for part in parts}
        for p in partitions:
            if not self._stretches[p]:
                del self._stretches[p]

    # -- messages ------------------------------------------------------------------------------------------------------

    def _fetch(self, wanted: int, seconds: float) -> list[Message]:
        found: list[Message] = []
        room = float(BATCH_BYTES)
        while len(found) < wanted and room > 0:
            ask = min(wanted - len(found), self._receiver.fitting(room))
            got = self._receiver.consume(ask, seconds)
            found += got
            room -= self._receiver.measure(got)
            if len(got) < ask:  # the queue is empty
                break
        return found

    def _sort_out(self, found: list[Message]) -> tuple[list[Message], dict[int, int]]:
        """Messages that are wanted, and how far each partition has come; stretches that are read make room for the next."""
        messages: list[Message] = []
        moved: dict[int, int] = {}
        ended: list[int] = []
        for message in found:
            error, p, offset = message.error(), int(message.partition() or 0), int(message.offset() or 0)
            if p not in self._stretches or not self._stretches[p]:
                continue
            if error is None:
                reached = offset + 1
            elif error.code() == KafkaError._PARTITION_EOF:
                reached = offset  # markers stand between the last message and the end
            elif error.code() == KafkaError._AUTO_OFFSET_RESET:
                ended.append(p)  # retention overtook us: seek again
                continue
            else:
                judge(error, self.topic, GROUP)
                continue
            start, end = self._stretches[p][0]
            if reached <= max(start, self._next[p]):
                continue
            if error is None and self._is_wanted(p, offset):
                messages.append(message)
            self._next[p] = moved[p] = min(reached, end)
            if reached >= end:
                self._stretches[p].popleft()
                ended.append(p)
                # What was fetched beyond belongs to the next stretch where it reaches that far: nothing is left out between.
        if ended:
            self._seek(list(dict.fromkeys(ended)))
        return messages, moved

    def _is_wanted(self, partition: int, offset: int) -> bool:
        """Offsets of a partition are asked in rising order."""
        ranges = self._wanted[partition]
        while ranges and ranges[0][1] <= offset:
            ranges.popleft()
        return bool(ranges) and ranges[0][0] <= offset

    def _columns(self, found: list[Message], moved: dict[int, int], gaps: tuple[tuple[int, int, int], ...]) -> Messages:
        if found:
            self._receiver.answered()
        touched = {*moved, *(p for p, _, _ in gaps)}
        starts = {p: self._given[p] for p in touched}
        ends = {p: max(moved.get(p, 0), *(b for q, _, b in gaps if q == p), starts[p]) for p in touched}
        self._given |= ends
        return columns(found, starts, ends, gaps)


def _bridged(ranges: Ranges) -> deque[tuple[int, int]]:
    """`ranges`, those that lie close made one."""
    out: deque[tuple[int, int]] = deque()
    for start, end in ranges:
        if out and start - out[-1][1] <= BRIDGE:
            out[-1] = (out[-1][0], end)
        else:
            out.append((start, end))
    return out
