"""The engine: the only place that knows both source and sink. Nightly runs, replays and backfills are this loop.

Two threads. The caller's serves the source and nothing else, so that a long batch never costs the group membership. The
*table thread* does the rest in the order it was told: claims, batches, commits. Kernels, Parquet and fsync release the GIL,
so both run at once.
"""

import logging
import threading
import time
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor, TimeoutError, wait
from typing import Any, NamedTuple

import pyarrow as pa
import pyarrow.compute as pc

from consumers.worker import Worker
from schemas.batch import Messages
from schemas.errors import TroubleError
from streamer.sink.delta import DeltaSink
from streamer.sink.tables import Fenced
from streamer.source.contract import Callbacks, Source
from streamer.stall import Stall
from streamer.tally import Progress, Tally

log = logging.getLogger(__name__)

DEPTH = 2  # batches polled but not yet processed: one at work, one waiting
POLL_SECONDS = 0.1
ALIVE_SECONDS = 1.0  # a source that is not polled for so long is served otherwise: members that are silent are expelled
FLUSH_SECONDS = 10.0  # to settle what was read before a partition goes, or the process ends; then it is discarded
RECLAIM_SECONDS = 30.0  # after a fence, while the group still says that a partition is ours
FENCES = 3  # of one partition without a commit between: its other owner is alive, and not of our group
CLAIM_TRIES = 20
PENDING_BYTES = 64 << 20  # of refused payloads: a commit is due


class Limits(NamedTuple):
    """When to commit, and when to stop instead."""

    rows: int = 100_000
    seconds: float = 5.0
    refused: float = 0.5  # of the messages; beyond it the deployment is wrong, not the messages
    in_a_row: int = 10_000  # refused messages of one partition; 0 = any number


class Engine:
    """Moves batches from `source` through `worker` into `sink` until told to stop.

    Parameters
    ----------
    source, worker, sink
        The three contracts.
    first
        Where partitions begin that have no start: (partitions, known) -> offsets; see ``Ledger.claim``.
    confirm
        Asked before each commit whether the topic still is the one we read: False = nobody says, so wait; raises where it
        is not.
    limits
        When to commit, and when to stop instead.
    until_end
        Stop once everything is durable that was there when partitions were assigned.
    on_commit
        Called after each commit, from the table thread.
    clock
        Monotonic seconds.
    """

    def __init__(
        self,
        source: Source,
        worker: Worker,
        sink: DeltaSink,
        first: Callable[[list[int], bool], dict[int, int]],
        confirm: Callable[[], bool] = lambda: True,
        limits: Limits = Limits(),
        until_end: bool = False,
        on_commit: Callable[[Progress], None] = lambda progress: None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.source, self.worker, self.sink, self.first, self.confirm = source, worker, sink, first, confirm
        self.limits, self.until_end, self.on_commit, self.clock = limits, until_end, on_commit, clock
        self.tally = Tally(limits.refused, limits.in_a_row)
        self._table = ThreadPoolExecutor(1, thread_name_prefix="table")
        self._flight: deque[Future[None]] = deque()
        self._waiting: deque[tuple[Messages, dict[int, int]]] = deque()  # batches and their leases, in the table thread
        self._stall = Stall(clock)
        self._durable: dict[int, int] = {}  # not yet handed to Kafka as a hint
        self._leases: dict[
            int, int
        ] = {}  # how often each partition came or went: a batch polled under an older one is dropped
        self._assigned_now: set[int] = set()
        self._fenced_at: dict[int, float] = {}
        self._fences: dict[int, int] = {}
        self._last_commit = self._last_served = clock()
        self._stop = threading.Event()
        self._abandon = threading.Event()

    def stop(self) -> None:
        """Finish what was read, commit, leave. A second call discards it; both are safe."""
        if self._stop.is_set():
            self._abandon.set()
        self._stop.set()

    def run(self) -> Progress:
        """Run until ``stop``; returns what became durable.

        Raises
        ------
        SlipherError
            What a person has to look at. Whatever was not durable will be read again.
        """
        self.source.start(Callbacks(self._assigned, self._revoked, self._lost))
        try:
            while not self._stop.is_set():
                self._step()
            self._finish()
        finally:
            self._abandon.set()
            self._table.submit(self._disown).result()
            self.source.close()
            self._table.shutdown()
        for future in self._flight:  # all have ended; one that failed must not end well
            future.result()
        return self.tally.durable

    # -- the polling thread --------------------------------------------------------------------------------------------

    def _step(self) -> None:
        while self._flight and self._flight[0].done():
            self._flight.popleft().result()
        if len(self._flight) >= DEPTH or self._stall.on:
            self._hold()
            return
        messages = self.source.poll(POLL_SECONDS)
        self._last_served = self.clock()
        if messages is not None:
            leases = {p: self._leases.get(p, 0) for p in messages.ends}
            self._flight.append(self._table.submit(self._settle, messages, leases))
        elif not self._flight:
            self._flight.append(self._table.submit(self._guarded, self._commit_if_due))
        self._hand_over()
        self._reclaim()
        if self.until_end and self.source.at_end and self._worked_off():
            self._stop.set()

    def _hold(self) -> None:
        """Not polling leaves messages at the broker: back-pressure, and waiting for what a batch needs."""
        if self._flight:
            wait([self._flight[0]], POLL_SECONDS)
        elif self._stall.due:
            self._flight.append(self._table.submit(self._guarded, self._work_off))
        else:
            self._stop.wait(POLL_SECONDS)
        if self.clock() - self._last_served > ALIVE_SECONDS:
            self.source.keep_alive()
            self._last_served = self.clock()
            self._hand_over()

    def _worked_off(self) -> bool:
        """Whether the sink has all that was polled, once the table thread has tried."""
        while not self._abandon.is_set() and wait(self._flight, POLL_SECONDS).not_done:
            pass
        return not self._waiting

    def _hand_over(self) -> None:
        durable, self._durable = self._durable, {}
        if durable:
            self.source.hint(durable)

    def _reclaim(self) -> None:
        """A fenced partition that the group still gives us: its other owner is a ghost that is gone, or not of this group."""
        due = [p for p, at in list(self._fenced_at.items()) if self.clock() - at > RECLAIM_SECONDS]
        for p in due:
            self._fenced_at.pop(p, None)
        due = [p for p in due if p in self._assigned_now]
        stubborn = [p for p in due if self._fences.get(p, 0) >= FENCES]
        if stubborn:
            raise TroubleError(
                f"Partitions {stubborn} are written by another worker of the same model that is not in this consumer group. "
                f"Stop one of them, or give both the same --group."
            )
        if due:
            self.source.resume(self._assigned(due))

    def _finish(self) -> None:
        """Settle what was read and commit, inside a deadline; without one where nobody asked us to leave."""
        try:
            self._wait(self._table.submit(self._guarded, self._commit), None if self.until_end else FLUSH_SECONDS)
        except TimeoutError:
            log.warning("not durable within %.0f s: left for the next start, which reads it again", FLUSH_SECONDS)
        while self._flight and self._flight[0].done():
            self._flight.popleft().result()
        self._hand_over()

    def _wait(self, future: Future[Any], seconds: float | None) -> Any:
        """The result, unless the deadline passes or a second stop abandons it."""
        deadline = self.clock() + seconds if seconds is not None else None
        while not self._abandon.is_set() and (deadline is None or self.clock() < deadline):
            if wait([future], 0.05).done:
                return future.result()
        raise TimeoutError

    # -- callbacks, in the polling thread ------------------------------------------------------------------------------

    def _assigned(self, partitions: list[int]) -> dict[int, int]:
        log.info("assigned partitions %s", partitions)
        self._turn(partitions)
        self._assigned_now.update(partitions)
        positions: dict[int, int] = self._table.submit(self._claim, partitions).result()
        log.info("claimed, positions %s", positions)
        return positions

    def _revoked(self, partitions: list[int]) -> None:
        log.info("revoked partitions %s", partitions)
        try:
            if not self._abandon.is_set():  # else all is settled, or given up, already
                self._wait(self._table.submit(self._guarded, self._commit), FLUSH_SECONDS)
                self._hand_over()
        except TimeoutError:
            log.info("partitions %s: what is not durable is left to their next owner", partitions)
        finally:
            self._lost(partitions)

    def _lost(self, partitions: list[int]) -> None:
        self._turn(partitions)
        self._assigned_now.difference_update(partitions)
        for p in partitions:
            self._fenced_at.pop(p, None)
        self._table.submit(self._forget, partitions)
        self._stall.hurry()  # what waits may have been theirs

    def _turn(self, partitions: list[int]) -> None:
        for p in partitions:
            self._leases[p] = self._leases.get(p, 0) + 1

    # -- the table thread ----------------------------------------------------------------------------------------------

    def _claim(self, partitions: list[int]) -> dict[int, int]:
        self.tally.forget(partitions)
        for _ in range(CLAIM_TRIES):
            try:
                return self.sink.claim(partitions, self.first)
            except Fenced as fence:
                log.info("partitions %s are being claimed by another worker; trying again", sorted(fence.partitions))
        raise TroubleError(
            f"Partitions {partitions} could not be claimed in {CLAIM_TRIES} tries: too many workers claim them."
        )

    def _forget(self, partitions: list[int]) -> None:
        self.sink.discard(partitions)
        self.tally.forget(partitions)

    def _guarded(self, what: Callable[[], None]) -> None:
        """Whatever fails in this thread ends the run: what is queued behind must not be written without it."""
        if self._abandon.is_set():
            return
        try:
            what()
        except BaseException:
            self._abandon.set()
            raise

    def _settle(self, messages: Messages, leases: dict[int, int]) -> None:
        self._waiting.append((messages, leases))
        self._guarded(self._work_off)

    def _work_off(self) -> None:
        """Work on what waits, in order. Where the world is in the way, the rest goes on waiting and this thread is free."""
        while self._waiting:
            messages = self._still_ours(*self._waiting[0])
            if messages.ends:
                try:
                    output = self.worker.process(messages)
                except TroubleError as trouble:
                    self._stall.failed(trouble)
                    break
                self.sink.write(messages, output)
                self.tally.count(messages, output)
            self._waiting.popleft()
        else:
            self._stall.over()
        self._commit_if_due()

    def _still_ours(self, messages: Messages, leases: dict[int, int]) -> Messages:
        return only(
            messages, {p for p, lease in leases.items() if lease == self._leases.get(p) and p in self.sink.owned}
        )

    def _commit_if_due(self) -> None:
        due = self.clock() - self._last_commit >= self.limits.seconds and self.sink.pending_offsets
        if due or self.sink.pending_rows >= self.limits.rows or self.sink.pending_bytes >= PENDING_BYTES:
            self._commit()

    def _commit(self) -> None:
        if not self.sink.pending_offsets:
            return
        self._last_commit = self.clock()
        if not self.confirm():
            log.warning("no broker says whether the topic is still the same; the commit waits")
            return
        durable, fenced = self.sink.commit()
        self._durable |= durable
        for p in durable:
            self._fences.pop(p, None)
        for p in fenced:
            log.warning("partition %d has another owner: what was read of it is left to that one", p)
            self._fenced_at[p] = self.clock()
            self._fences[p] = self._fences.get(p, 0) + 1
        self.tally.forget(fenced)
        self.tally.landed(durable)
        self.on_commit(self.tally.durable)

    def _disown(self) -> None:
        self.sink.discard(list(self.sink.owned))


def only(messages: Messages, partitions: set[int]) -> Messages:
    """`messages` of `partitions`."""
    if set(messages.ends) <= partitions:
        return messages
    keep = pc.is_in(pa.array(messages.partition), pa.array(sorted(partitions), pa.int32())).to_numpy(
        zero_copy_only=False
    )
    return Messages(
        [p for p, k in zip(messages.payloads, keep, strict=True) if k],
        messages.partition[keep],
        messages.offset[keep],
        messages.timestamp_ms[keep],
        {p: end for p, end in messages.ends.items() if p in partitions},
        tuple(g for g in messages.gaps if g[0] in partitions),
        {p: start for p, start in messages.starts.items() if p in partitions},
    )
