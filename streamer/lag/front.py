"""The front of a backlog: the first message at or after the durable offset, as the broker gave it when it was asked."""

from collections.abc import Callable, Sequence
from typing import NamedTuple, Self

from confluent_kafka import TIMESTAMP_LOG_APPEND_TIME, TIMESTAMP_NOT_AVAILABLE

from streamer.lag.stand import Key, Place, Stand

EACH_LOOK = 100  # first messages asked for at a look: a thirtieth of what 1,000 partitions and three models could want


class Front(NamedTuple):
    """What stands at or after an offset, for readers of committed messages.

    Offsets from `asked` up to `first` hold nothing for them: transaction markers, aborted messages, what compaction took.

    Attributes
    ----------
    asked
        The offset that was asked for.
    first
        Offset of the first message from there on; where `found` is False, the end that was reached without one.
    found
        Whether there is a message.
    stamp
        Its time, seconds since 1970 UTC; None where it carries none.
    by_broker
        Whether the broker gave it that time on arrival (LogAppendTime), and not the producer.
    size
        Bytes of its payload and key.
    """

    asked: int
    first: int
    found: bool
    stamp: float | None = None
    by_broker: bool = False
    size: int = 0

    @classmethod
    def of(cls, asked: int, offset: int, kind: int, stamp_ms: int, size: int) -> Self:
        """Of a message, with the kind and value of its time as the client has them."""
        stamp = None if kind == TIMESTAMP_NOT_AVAILABLE else stamp_ms / 1e3
        return cls(asked, offset, True, stamp, kind == TIMESTAMP_LOG_APPEND_TIME, size)

    @classmethod
    def nothing(cls, asked: int, end: int) -> Self:
        """Of a log that ended without a message."""
        return cls(asked, end, False)

    def tells(self, offset: int, end: int) -> bool:
        """Whether it is known by this what stands at or after `offset`, in a log that ends at `end` now."""
        return self.asked <= offset <= self.first and (self.found or self.first >= end)


class Fronts:
    """First messages of backlogs, asked for where nothing else tells how old they are, or whether there is one at all.

    Parameters
    ----------
    ask
        Asks the broker: fronts of (partition, offset), as many as it gives in time.
    """

    def __init__(self, ask: Callable[[Sequence[tuple[Place, int]]], list[Front | None]]) -> None:
        self._ask = ask
        self._held: dict[Key, Front] = {}
        self._stood: dict[Key, int | None] | None = None  # durable offsets at the last look
        self._sizes: dict[str, float] = {}
        self._asked: dict[Key, int] = {}  # in which turn each was asked for
        self._turn = 0

    def refresh(self, stands: Sequence[Stand], preceded: Sequence[bool]) -> None:
        """Ask for what is needed: at the first look all, later at most `EACH_LOOK`, in turn.

        Parameters
        ----------
        stands
            Where all partitions are.
        preceded
            Of each, whether we saw the log end before the next offset, so that we know when its message came.
        """
        unknown, doubtful = [], []
        for stand, is_timed in zip(stands, preceded, strict=True):
            if stand.next >= stand.end or self.of(stand) is not None:
                continue
            if not is_timed:
                unknown.append(stand)
            elif (
                self._stood and self._stood.get(stand.key) == stand.durable
            ):  # does it wait, or do only markers follow?
                doubtful.append(stand)
        chosen = [*unknown, *doubtful]
        if self._stood is not None and len(chosen) > EACH_LOOK:
            chosen.sort(key=lambda stand: self._asked.get(stand.key, 0))  # who was asked for longest ago
            chosen = chosen[:EACH_LOOK]
        self._turn += 1
        self._asked |= {stand.key: self._turn for stand in chosen}
        answers = self._ask([(stand.place, self._from(stand)) for stand in chosen])
        for stand, front in zip(chosen, answers, strict=True):
            if front is not None:
                held = self._held.get(stand.key)
                since = held.asked if held is not None and _leads_to(held, stand) else stand.next
                self._held[stand.key] = front._replace(asked=min(front.asked, since))
                self._learn(stand.place[0], front)
        self._stood = {stand.key: stand.durable for stand in stands}
        if max(len(self._held), len(self._asked)) > len(
            self._stood
        ):  # some are of partitions that are not looked at any more
            topics = {key[0].topic for key in self._stood}
            self._held = {key: front for key, front in self._held.items() if key in self._stood}
            self._asked = {key: turn for key, turn in self._asked.items() if key in self._stood}
            self._sizes = {topic: size for topic, size in self._sizes.items() if topic in topics}

    def of(self, stand: Stand) -> Front | None:
        """What is known to stand at or after the next offset; None where that is not known."""
        front = self._held.get(stand.key)
        return front if front is not None and front.tells(stand.next, stand.end) else None

    def older(self, stand: Stand) -> Front | None:
        """The message that was at the front when it was asked for last; None where none was found."""
        front = self._held.get(stand.key)
        return front if front is not None and front.found and front.first <= stand.next else None

    def nothing_lost(self, stand: Stand) -> bool:
        """Whether it is known that between the durable offset and the log's beginning no message ever stood."""
        front = self._held.get(stand.key)
        return front is not None and front.asked <= (stand.durable or 0) and stand.start <= front.first

    def size(self, topic: str) -> float | None:
        """Mean bytes of the messages of `topic` that were seen, payload and key; None where none was."""
        return self._sizes.get(topic)

    def _from(self, stand: Stand) -> int:
        """Where to look for the first message: beyond what is known to hold none."""
        front = self._held.get(stand.key)
        return front.first if front is not None and _leads_to(front, stand) else stand.next

    def _learn(self, topic: str, front: Front) -> None:
        if front.found:
            mean = self._sizes.get(topic, float(front.size))
            self._sizes[topic] = mean + 0.1 * (front.size - mean)


def _leads_to(front: Front, stand: Stand) -> bool:
    """Whether it tells that from the next offset on nothing stood, to where the log ended when it was asked for."""
    return not front.found and front.asked <= stand.next <= front.first
