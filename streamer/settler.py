"""Settles batches: claims partitions, has the worker work, commits. All of it in one thread, in the order it was told.

What fails because the world is in the way (a disk, a registry, memory) is waited for and tried again; whatever else fails ends
the run.
"""

import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from consumers.worker import Output, Worker
from schemas.batch import Messages
from schemas.errors import TroubleError
from streamer.batches import halves, only
from streamer.metrics.names import Stage
from streamer.observer import Observer
from streamer.sink.delta import DeltaSink
from streamer.sink.tables import Fenced
from streamer.stall import TROUBLE, Stall
from streamer.tally import Progress, Tally

log = logging.getLogger(__name__)

RECLAIM_SECONDS = 30.0  # after a fence, while the group still says that a partition is ours
FENCES = 3  # of one partition without a commit between: its other owner is alive, and not of our group
CLAIM_TRIES = 20
PENDING_BYTES = 64 << 20  # of exceptions, such as refused payloads: a commit is due


class Limits(NamedTuple):
    """When to commit, and when to stop instead."""

    rows: int = 100_000
    seconds: float = 5.0
    refused: float = 0.5  # of the messages; beyond it the deployment is wrong, not the messages
    in_a_row: int = 10_000  # refused messages of one partition; 0 = any number
    flush: float = (
        6.0  # seconds to settle what was read before a partition goes, or the process ends; then it is discarded
    )


class Settler:
    """What the table thread does. A method returns when it is done, and is never called before the one told before it returned.

    Parameters
    ----------
    worker, sink, first, confirm, limits, on_commit, clock, observer
        As the engine has them.
    leases
        Of each partition, the lease under which it is polled now; the polling thread writes it.

    Attributes
    ----------
    stall
        Whether something is waited for.
    gone
        (partition, when to claim it again): what is no longer owned though nobody said that it should not be.
    durable
        Offsets not yet handed to Kafka as a hint.
    waiting
        Batches not yet settled, with the leases under which they were polled.
    abandon
        Set, nothing more is begun.
    failure
        What ended the run.
    """

    def __init__(
        self,
        worker: Worker,
        sink: DeltaSink,
        first: Callable[[list[int], bool], dict[int, int]],
        confirm: Callable[[], bool],
        limits: Limits,
        leases: Mapping[int, int],
        on_commit: Callable[[Progress], None],
        clock: Callable[[], float] = time.monotonic,
        observer: Observer = Observer(),
    ) -> None:
        self.worker, self.sink, self._first, self._confirm = worker, sink, first, confirm
        self._limits, self._leases, self._on_commit, self._clock = limits, leases, on_commit, clock
        self.tally, self.stall = Tally(limits.refused, limits.in_a_row), Stall(clock, observer.stalled)
        self._observer = observer
        self.gone: deque[tuple[int, float]] = deque()
        self.durable: dict[int, int] = {}
        self.waiting: deque[tuple[Messages, dict[int, int]]] = deque()
        self.abandon = threading.Event()
        self.failure: BaseException | None = None
        self._held: dict[int, int] = {}  # leases under which partitions are claimed
        self._fences: dict[int, int] = {}
        self._last_commit = clock()

    def guarded(self, what: Callable[..., Any], *args: Any) -> Any:
        """Whatever fails in this thread ends the run: what is queued behind must not be written without it."""
        if self.abandon.is_set():
            return None
        try:
            with self._observer.at(what.__name__):
                return what(*args)
        except BaseException as error:
            self.failure = error
            self.abandon.set()
            raise

    def stubborn(self, partitions: list[int]) -> list[int]:
        """Those of `partitions` that others took again and again."""
        return [p for p in partitions if self._fences.get(p, 0) >= FENCES]

    def claim(self, leases: dict[int, int]) -> dict[int, int] | None:
        """Own the partitions under their leases; positions, or None where the table is away."""
        partitions = list(leases)
        self.tally.forget(partitions)
        try:
            positions = self._claim_until_ours(partitions)
        except TROUBLE as trouble:
            self.sink.discard(partitions)
            self.stall.failed(trouble)
            return None
        self._held |= leases
        return positions

    def _claim_until_ours(self, partitions: list[int]) -> dict[int, int]:
        for _ in range(CLAIM_TRIES):
            try:
                return self.sink.claim(partitions, self._first)
            except Fenced as fence:
                who = sorted(fence.partitions)
                log.info(
                    "partitions %s are being claimed by another worker; trying again", who, extra={"partitions": who}
                )
        raise TroubleError(
            f"Partitions {partitions} could not be claimed in {CLAIM_TRIES} tries: too many workers claim them."
        )

    def retry(self, leases: dict[int, int]) -> dict[int, int] | None:
        """What a stall waits for: the claims that failed, and the batches that wait."""
        positions = self.claim(leases) if leases else {}
        if positions is not None:
            self._work_off()
        return positions

    def forget(self, partitions: list[int]) -> None:
        """Discard what is not durable of `partitions`, and own them no longer."""
        for p in partitions:
            self._held.pop(p, None)
        self.sink.discard(partitions)
        self.tally.forget(partitions)

    def settle(self, messages: Messages, leases: dict[int, int]) -> None:
        """Work on a batch, after those that wait; in a stall it waits with them."""
        self.waiting.append((messages, leases))
        if not self.stall.on:
            self._work_off()

    def _work_off(self) -> None:
        """Work on what waits, in order. Where the world is in the way, the rest goes on waiting and this thread is free."""
        while self.waiting:
            messages, leases = self.waiting[0]
            mine = only(
                messages, {p for p, lease in leases.items() if lease == self._leases.get(p) == self._held.get(p)}
            )
            try:
                if mine.ends:
                    with self._observer.timed(Stage.PROCESS, mine):
                        output = self.worker.process(mine)
            except MemoryError as trouble:
                if len(mine.payloads) < 2:
                    self.stall.failed(trouble)
                    return
                self.waiting.popleft()
                self.waiting.extendleft((half, leases) for half in reversed(halves(mine)))
                continue
            except TROUBLE as trouble:
                self.stall.failed(trouble)
                return
            self.waiting.popleft()
            if mine.ends and not self._written(mine, output):
                return
        if self.commit_if_due():
            self.stall.over()

    def _written(self, messages: Messages, output: Output) -> bool:
        try:
            self.sink.write(messages, output)
        except TROUBLE as trouble:  # no memory for it
            self._let_go(set(messages.ends), trouble)
            return False
        self.tally.count(messages, output)
        return True

    def commit_if_due(self) -> bool:
        """Commit by rows, bytes or seconds; False where that failed."""
        due = self._clock() - self._last_commit >= self._limits.seconds and self.sink.pending_offsets
        if due or self.sink.pending_rows >= self._limits.rows or self.sink.pending_bytes >= PENDING_BYTES:
            return self.commit()
        return True

    def commit(self) -> bool:
        """False where it failed: then what it held is read again once it can be claimed."""
        if not self.sink.pending_offsets:
            return True
        self._last_commit = self._clock()
        owned = self.sink.owned
        try:
            if not self._confirm():
                log.warning("no broker says whether the topic is still the same; the commit waits")
                return True
            with self._observer.timed(Stage.SETTLE):
                durable, fenced = self.sink.commit()
                self._observer.landed(durable, fenced)
        except TROUBLE as trouble:
            self._let_go(owned - self.sink.owned, trouble)
            return False
        self.durable |= durable
        self.stall.landed()
        for p in durable:
            self._fences.pop(p, None)
        for p in fenced:
            log.warning(
                "partition %d has another owner: what was read of it is left to that one", p, extra={"partition": p}
            )
            self._held.pop(p, None)
            self._fences[p] = self._fences.get(p, 0) + 1
            self.gone.append((p, self._clock() + RECLAIM_SECONDS))
        self.tally.forget(fenced)
        self.tally.landed(durable)
        self._observer.committed(self.tally.durable)
        self._on_commit(self.tally.durable)
        return True

    def _let_go(self, partitions: set[int], trouble: BaseException) -> None:
        """Only a claim says where the table stands after a failure."""
        self.forget(sorted(partitions))
        self.gone.extend((p, self._clock()) for p in sorted(partitions))
        self.stall.failed(trouble)

    def disown(self) -> None:
        """Forget everything: we leave."""
        self.forget(sorted(self.sink.owned))
        self.waiting.clear()
