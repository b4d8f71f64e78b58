"""Reads a topic from Apache Kafka in batches of columns."""

import logging
import threading
import time
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import numpy as np
from confluent_kafka import Consumer, KafkaError, KafkaException, Message, TopicPartition

from schemas.batch import Messages
from schemas.errors import IntegrityError, TroubleError
from streamer.source.columns import columns
from streamer.source.connection import LogEnds
from streamer.source.contract import Callbacks
from streamer.source.judgement import judge, say_expired
from streamer.source.receiver import Receiver, no_error

log = logging.getLogger(__name__)

BATCH_MESSAGES = 40_000  # of one poll: rows cost a twentieth less than by 20,000, and this is a second's work at most
BATCH_BYTES = (
    8 << 20
)  # of one poll, 120 packets of 65 kB: they cost 40 % less CPU than 32 at a time, and twice as many gain little
STASH_MESSAGES = 60  # kept while nobody polls; they come one a second, so what is waited for longer is paused
SPARE_SECONDS = 10.0  # a member that the group has given nothing for so long is not needed
AGAIN_SECONDS = 2.0  # after a broker did not say where logs end
NEVER = 1 << 62


class KafkaSource:
    """A ``Source`` over one topic, as a member of a consumer group.

    Parameters
    ----------
    settings
        From ``consumer_settings``.
    topic
        The topic to read.
    ends
        Where its logs begin and end.
    clock
        Monotonic seconds.

    Raises
    ------
    UserError
        A setting that the client does not know.
    """

    def __init__(
        self, settings: dict[str, Any], topic: str, ends: LogEnds, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self.topic, self.ends, self._clock = topic, ends, clock
        self._settings = settings
        self._cooperative = settings.get("partition.assignment.strategy", "cooperative-sticky") == "cooperative-sticky"
        self._next: dict[int, int] = {}  # the offset after the last one delivered, of each partition assigned
        self._given: dict[int, int] = {}  # where the last batch that was returned ended, of each partition assigned
        self._targets: dict[int, int] = {}  # where each log ended when the partition was assigned
        self._later: dict[int, int] = {}  # positions of partitions that wait for a broker to say where their logs end
        self._later_at = 0.0
        self._idle: set[int] = set()  # the group gave them to us, nobody said yet where to read them
        self._closing = False
        self._given_up: set[int] = set()  # during the call at hand: what was fetched of them before is stale
        self._gaps: list[tuple[int, int, int]] = []
        self._stash: list[Message] = []  # consumed to keep the membership, not yet returned
        self._paused: set[int] = set()
        self._joined = NEVER * 1.0
        self.member = False  # until the group answers: with partitions, or with none
        self._receiver = Receiver(settings, topic)
        self.consumer = self._receiver.consumer

    @property
    def bytes_read(self) -> int:
        """Of all payloads so far."""
        return self._receiver.bytes_read

    def start(self, callbacks: Callbacks) -> None:
        """Join the group."""
        self._callbacks = callbacks
        self.consumer.subscribe(
            [self.topic], on_assign=self._on_assign, on_revoke=self._on_revoke, on_lost=self._on_lost
        )

    def poll(self, seconds: float) -> Messages | None:
        """The next batch: what is there within `seconds`, up to `BATCH_MESSAGES` messages or about `BATCH_BYTES`."""
        if self._paused:
            self._unpause()
        self._resume_later()
        found, self._stash = self._stash, []
        room = float(BATCH_BYTES)
        while len(found) < BATCH_MESSAGES and room > 0:
            wanted = min(BATCH_MESSAGES - len(found), self._receiver.fitting(room))
            got = self._receiver.consume(wanted, seconds)
            found += got
            room -= self._receiver.measure(got)
            if self._given_up:
                found = self._without_stale(found)
                break
            if len(got) < wanted:  # the queue is empty: what waits longer waits for nothing
                break
        messages, moved = self._sort_out(found)
        gaps, self._gaps = tuple(self._gaps), []
        if not messages and not moved and not gaps:
            return None
        return self._columns(messages, moved, gaps)

    def keep_alive(self) -> None:
        """Serve the group while a long batch runs: callbacks, and the time of the last poll. What comes is kept for ``poll``."""
        if len(self._stash) >= STASH_MESSAGES:
            self._paused.update(self._next)
            self.consumer.pause([TopicPartition(self.topic, p) for p in self._next])
        self._stash += (got := self._receiver.consume(1, 0))
        self._receiver.measure(got)
        if self._given_up:
            self._stash = self._without_stale(self._stash)

    @property
    def at_end(self) -> bool:
        """True where each partition was read to where its log ended when it was assigned; or none is assigned for a while."""
        if self._idle:
            return False
        if not self._next:
            return self._clock() - self._joined > SPARE_SECONDS
        return all(offset >= self._targets.get(p, NEVER) for p, offset in self._next.items())

    def hint(self, durable: dict[int, int]) -> None:
        """Commit offsets to Kafka, asynchronously, for lag tools."""
        offsets = [TopicPartition(self.topic, p, o) for p, o in durable.items() if p in self._next]
        if offsets and not self._closing:
            try:
                self.consumer.commit(offsets=offsets, asynchronous=True)
            except KafkaException as error:
                log.info("offsets not handed to Kafka (the table holds them): %s", error.args[0].str())

    def resume(self, positions: dict[int, int]) -> None:
        """Read assigned partitions on, or at last, from `positions`, forgetting what was fetched and what was put off."""
        positions = {p: o for p, o in positions.items() if p in self._next or p in self._idle}
        self._stash = [m for m in self._stash if m.partition() not in positions]
        self._gaps = [g for g in self._gaps if g[0] not in positions]
        self._later = {p: o for p, o in self._later.items() if p not in positions}
        try:
            starts = self._within(positions)
        except TroubleError as trouble:
            self._rest(positions)
            self._put_off(positions, trouble)
            return
        self._given.update(positions)
        self._seek(starts)

    def close(self, seconds: float) -> None:
        """Leave the group, within `seconds`; what it still has to say falls on deaf ears.

        It may take as long as the slowest member. A broker answers the requests of one connection in their order, and it
        answers a member's JoinGroup only once all have joined: behind it stand our LeaveGroup, for which the client waits 5 s,
        and a commit of offsets, for which it waits without end (measured: 30 s where another member did not poll for 30 s;
        under KIP-848 nothing waits). All is durable or given up by now, so we go without a word then, as a killed worker
        does: the group notices by its session timeout.
        """
        self._closing = True
        closing = threading.Thread(target=self.consumer.close, name="closing", daemon=True)
        closing.start()
        closing.join(seconds)
        if closing.is_alive():
            log.warning("the group does not answer within %.1f s: leaving without its answer", seconds)

    def _rest(self, partitions: Iterable[int]) -> None:
        """Fetch nothing of `partitions` until it is known where to read on: it would not begin where the table stands."""
        resting = [p for p in partitions if p in self._next]
        for p in resting:
            del self._next[p], self._given[p]
        self._idle.update(resting)
        if self._cooperative:
            self.consumer.incremental_unassign([TopicPartition(self.topic, p) for p in resting])
        else:
            self._assign(self._next)

    def _put_off(self, positions: dict[int, int], trouble: TroubleError) -> None:
        log.warning("%s Waiting.", trouble)
        self._later |= positions
        self._later_at = self._clock() + AGAIN_SECONDS

    def _resume_later(self) -> None:
        if self._later and self._clock() >= self._later_at:
            later, self._later = self._later, {}
            self.resume({p: self._next.get(p, offset) for p, offset in later.items()})  # it may have been read on

    # -- messages ------------------------------------------------------------------------------------------------------

    def _unpause(self) -> None:
        """Read on from what was returned last: pausing threw fetched messages away, so nothing of the stash is trusted."""
        self.consumer.resume([TopicPartition(self.topic, p) for p in self._paused])  # also those that left meanwhile
        self._paused, self._stash = set(), []
        self._seek(dict(self._next))

    def _without_stale(self, found: list[Message]) -> list[Message]:
        """`found` less what was fetched of partitions that were given up meanwhile; those that came back are read again.

        A batch spans several consume calls, and a partition may be lost and assigned again, at another position, inside
        one of them. What was fetched before would then look like a jump over offsets without message.
        """
        gone, self._given_up = self._given_up, set()
        self._seek({p: self._next[p] for p in gone if p in self._next})
        return [m for m in found if m.partition() not in gone]

    def _sort_out(self, found: list[Message]) -> tuple[list[Message], dict[int, int]]:
        """Split what was consumed into messages of ours and positions that end-of-partition events moved."""
        if self._in_order(found):
            return found, {}
        messages: list[Message] = []
        moved: dict[int, int] = {}
        for message in found:
            error, partition, offset = message.error(), int(message.partition() or 0), int(message.offset() or 0)
            due = self._next.get(partition, NEVER)
            if error is None:
                if offset >= due:
                    self._next[partition] = offset + 1
                    messages.append(message)
            elif error.code() == KafkaError._PARTITION_EOF:
                if offset > due:  # markers stand between the last message and the end
                    self._next[partition] = moved[partition] = offset
            elif error.code() == KafkaError._AUTO_OFFSET_RESET:
                self._expired(partition)
            else:
                judge(error, self.topic, self._settings["group.id"])
        return messages, moved

    def _in_order(self, found: list[Message]) -> bool:
        """Whether `found` is what is due, message for message; if so we stand behind it. No step of it is one of Python's."""
        if not no_error(found):
            return False
        partition = np.fromiter(map(Message.partition, found), np.int32, len(found))
        offset = np.fromiter(map(Message.offset, found), np.int64, len(found))
        stretches = {int(p): offset[partition == p] for p in np.unique(partition)}
        if not all(o[0] >= self._next.get(p, NEVER) and np.all(o[1:] > o[:-1]) for p, o in stretches.items()):
            return False
        self._next.update({p: int(o[-1]) + 1 for p, o in stretches.items()})
        return True

    def _columns(self, found: list[Message], moved: dict[int, int], gaps: tuple[tuple[int, int, int], ...]) -> Messages:
        if found:
            self._receiver.answered()
        made = columns(found, {}, {}, gaps)
        touched = {*np.unique(made.partition).tolist(), *moved, *(p for p, _, _ in gaps)} & set(self._next)
        starts = {p: self._given[p] for p in touched}
        ends = {p: self._next[p] for p in touched}
        self._given |= ends
        return made._replace(starts=starts, ends=ends)

    def _expired(self, partition: int) -> None:
        """Our position is outside the log: below its start retention took offsets, beyond its end something is wrong."""
        position = self._next.get(partition)
        if position is None:
            return
        try:
            self._seek(self._within({partition: position}))
        except TroubleError as trouble:
            self._put_off({partition: position}, trouble)

    def _within(self, positions: dict[int, int]) -> dict[int, int]:
        """Where to read on; a gap is remembered for the next batch. The topic is the one we know, or this raises."""
        if not self.ends.confirm():
            raise TroubleError(f"No broker says where {self.topic} begins and ends.")
        low, high = self.ends.earliest(list(positions)), self.ends.latest(list(positions))
        for p, position in positions.items():
            if position > high[p]:
                raise IntegrityError(
                    f"{self.topic} partition {p} ends at offset {high[p]}, but offsets below {position} are in the table: "
                    f"the topic lost messages or is another one. Nothing was written; a person has to look."
                )
            if position < low[p]:
                say_expired(self.topic, p, position, low[p])
                self._gaps.append((p, position, low[p]))
            self._targets[p] = high[p]
        return {p: max(position, low[p]) for p, position in positions.items()}

    # -- partitions ----------------------------------------------------------------------------------------------------

    def _on_assign(self, consumer: Consumer, assigned: list[TopicPartition]) -> None:
        # If this raised, the library would assign anyway, at default offsets, and drop the batch at hand: assign nothing.
        starts: dict[int, int] = {}
        self.member = True
        try:
            if assigned and not self._closing:
                starts = self._placed([t.partition for t in assigned])
        except BaseException as error:
            self._receiver.failed = error
            starts = {}
        self._assign(starts)
        self.hint(starts)

    def _placed(self, assigned: list[int]) -> dict[int, int]:
        """Where to read on those partitions for which that is known by now."""
        self._idle.update(assigned)
        self._joined = self._clock()
        positions = self._callbacks.assigned(assigned)
        try:
            starts = self._within(positions) if positions else {}
        except TroubleError as trouble:
            self._put_off(positions, trouble)
            return {}
        self._given.update(positions)
        self._next.update(starts)
        self._idle.difference_update(starts)
        return starts

    def _on_revoke(self, consumer: Consumer, revoked: list[TopicPartition]) -> None:
        self._give_up(revoked, self._callbacks.revoked)

    def _on_lost(self, consumer: Consumer, lost: list[TopicPartition]) -> None:
        self.member = False  # until the group gives again
        self._give_up(lost, self._callbacks.lost)

    def _give_up(self, gone: list[TopicPartition], callback: Callable[[list[int]], None]) -> None:
        partitions = [t.partition for t in gone]
        try:
            if not self._closing:
                callback(partitions)
        except BaseException as error:
            self._receiver.failed = error
        read = [t for t in gone if t.partition in self._next]
        for p in partitions:
            self._next.pop(p, None)
            self._given.pop(p, None)
            self._later.pop(p, None)
        self._idle.difference_update(partitions)
        self._given_up.update(partitions)
        self._gaps = [g for g in self._gaps if g[0] not in partitions]
        if self._cooperative:
            self.consumer.incremental_unassign(read)
        else:
            self.consumer.unassign()

    def _assign(self, starts: Mapping[int, int]) -> None:
        parts = [TopicPartition(self.topic, p, o) for p, o in starts.items()]
        if self._cooperative:
            self.consumer.incremental_assign(parts)
        else:
            self.consumer.assign(parts)

    def _seek(self, starts: dict[int, int]) -> None:
        """seek() fails after an offset reset error; taking the partition out and in again does not."""
        if not starts:
            return
        read = [TopicPartition(self.topic, p) for p in starts if p in self._next]
        self._next.update(starts)
        self._idle.difference_update(starts)
        if self._cooperative:
            if read:
                self.consumer.incremental_unassign(read)
            self.consumer.incremental_assign([TopicPartition(self.topic, p, o) for p, o in starts.items()])
        else:
            self._assign(self._next)
