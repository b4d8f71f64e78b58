"""The engine: the only place that knows both source and sink. Nightly runs, replays and backfills are this loop.

Two threads. The caller's polls the source and nothing else, so that a long batch never costs the group membership. The
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

from consumers.worker import Output, Worker
from schemas.batch import Messages
from schemas.errors import IntegrityError, TroubleError
from streamer.sink.delta import DeltaSink
from streamer.sink.ledger import Fenced
from streamer.source.contract import Callbacks, Source

log = logging.getLogger(__name__)

DEPTH = 2  # batches polled but not yet processed: one at work, one waiting
POLL_SECONDS = 0.1
FLUSH_SECONDS = 10.0  # to settle what was read before a partition goes, or the process ends; then it is discarded
RECLAIM_SECONDS = 30.0  # after a fence, while the group still says that a partition is ours
CLAIM_TRIES = 20
REFUSED_RATIO = 0.5  # of the last REFUSED_WINDOW messages: beyond it the deployment is wrong, not the messages
REFUSED_WINDOW = 20_000


class Limits(NamedTuple):
    """When to commit."""

    rows: int = 100_000
    seconds: float = 5.0


class Progress(NamedTuple):
    """What is durable so far, of this process."""

    rows: int
    messages: int
    refused: int
    commits: int


class Engine:
    """Moves batches from `source` through `worker` into `sink` until told to stop.

    Parameters
    ----------
    source, worker, sink
        The three contracts.
    first
        Where partitions begin that nobody has claimed before: (partitions, known) -> offsets.
    limits
        When to commit.
    until_end
        Stop once every partition was read to its end.
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
        limits: Limits = Limits(),
        until_end: bool = False,
        on_commit: Callable[[Progress], None] = lambda progress: None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.source, self.worker, self.sink, self.first = source, worker, sink, first
        self.limits, self.until_end, self.on_commit, self.clock = limits, until_end, on_commit, clock
        self.progress = Progress(0, 0, 0, 0)
        self._table = ThreadPoolExecutor(1, thread_name_prefix="table")
        self._flight: deque[Future[None]] = deque()
        self._durable: dict[int, int] = {}  # not yet handed to Kafka as a hint
        self._leases: dict[
            int, int
        ] = {}  # how often each partition was claimed: a batch polled under an older lease is dropped
        self._fenced_at: dict[int, float] = {}
        self._last_commit = clock()
        self._window: deque[tuple[int, int]] = deque()
        self._counts = [0, 0, 0]  # rows, messages, refused since the last commit
        self._stop = threading.Event()
        self._abandon = threading.Event()

    def stop(self) -> None:
        """Finish what was read, commit, leave. A second call discards it and leaves at once; both are safe."""
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
        return self.progress

    # -- the polling thread --------------------------------------------------------------------------------------------

    def _step(self) -> None:
        while self._flight and self._flight[0].done():
            self._flight.popleft().result()
        if len(self._flight) >= DEPTH:
            wait([self._flight[0]], POLL_SECONDS)  # back-pressure: not polling leaves messages at the broker
            return
        messages = self.source.poll(POLL_SECONDS)
        if messages is not None:
            leases = {p: self._leases.get(p, 0) for p in messages.ends}
            self._flight.append(self._table.submit(self._settle, messages, leases))
        elif not self._flight:
            if self.until_end and self.source.at_end:
                self._stop.set()
            self._flight.append(self._table.submit(self._commit_if_due))
        self._hand_over()
        self._reclaim()

    def _hand_over(self) -> None:
        durable, self._durable = self._durable, {}
        if durable:
            self.source.hint(durable)

    def _reclaim(self) -> None:
        """A fenced partition that the group still gives us after a while: its other owner is not of this group, or gone."""
        due = [p for p, at in self._fenced_at.items() if self.clock() - at > RECLAIM_SECONDS]
        if due:
            raise TroubleError(
                f"Partitions {due} are written by another worker of the same model that is not in this consumer group. "
                f"Stop one of them, or give both the same --group."
            )

    def _finish(self) -> None:
        """Settle what was read and commit, inside a deadline."""
        try:
            self._wait(self._table.submit(self._commit))
        except TimeoutError:
            log.warning("not durable within %.0f s: left for the next start, which reads it again", FLUSH_SECONDS)
        while self._flight and self._flight[0].done():
            self._flight.popleft().result()
        self._hand_over()

    def _wait(self, future: Future[Any]) -> Any:
        """The result, unless the deadline passes or a second stop abandons it."""
        deadline = self.clock() + FLUSH_SECONDS
        while not self._abandon.is_set() and self.clock() < deadline:
            if wait([future], 0.05).done:
                return future.result()
        raise TimeoutError

    # -- callbacks, in the polling thread ------------------------------------------------------------------------------

    def _assigned(self, partitions: list[int]) -> dict[int, int]:
        log.info("assigned partitions %s", partitions)
        for p in partitions:
            self._leases[p] = self._leases.get(p, 0) + 1
        positions: dict[int, int] = self._table.submit(self._claim, partitions).result()
        log.info("claimed, positions %s", positions)
        return positions

    def _revoked(self, partitions: list[int]) -> None:
        log.info("revoked partitions %s", partitions)
        try:
            self._wait(self._table.submit(self._commit))
        except TimeoutError:
            log.info("partitions %s: not durable in time, left to their next owner", partitions)
        self._lost(partitions)

    def _lost(self, partitions: list[int]) -> None:
        for p in partitions:
            self._leases[p] = self._leases.get(p, 0) + 1
            self._fenced_at.pop(p, None)
        self._table.submit(self.sink.discard, partitions)

    # -- the table thread ----------------------------------------------------------------------------------------------

    def _claim(self, partitions: list[int]) -> dict[int, int]:
        for _ in range(CLAIM_TRIES):
            try:
                return self.sink.claim(partitions, self.first)
            except Fenced as fence:
                log.info("partitions %s are being claimed by another worker; trying again", sorted(fence.partitions))
        raise TroubleError(
            f"Partitions {partitions} could not be claimed in {CLAIM_TRIES} tries: too many workers claim them."
        )

    def _settle(self, messages: Messages, leases: dict[int, int]) -> None:
        if self._abandon.is_set():
            return
        try:
            self._work(messages, leases)
        except BaseException:
            self._abandon.set()  # what is queued behind must not be written without this batch
            raise

    def _work(self, messages: Messages, leases: dict[int, int]) -> None:
        current = {p for p, lease in leases.items() if lease == self._leases.get(p) and p in self.sink.owned}
        messages = only(messages, current)
        if messages.ends:
            output = self.worker.process(messages)
            self.sink.write(messages, output)
            self._count(messages, output)
        self._commit_if_due()

    def _commit_if_due(self) -> None:
        waited = self.clock() - self._last_commit
        if self.sink.pending_rows >= self.limits.rows or (self.sink.pending_offsets and waited >= self.limits.seconds):
            self._commit()

    def _commit(self) -> None:
        if self._abandon.is_set() or not self.sink.pending_offsets:
            return
        durable, fenced = self.sink.commit()
        self._last_commit = self.clock()
        self._durable |= durable
        for p in fenced:
            log.warning("partition %d has another owner: what was read of it is left to that one", p)
            self._fenced_at[p] = self.clock()
        rows, seen, refused = self._counts
        self._counts = [0, 0, 0]
        was = self.progress
        self.progress = Progress(was.rows + rows, was.messages + seen, was.refused + refused, was.commits + 1)
        self.on_commit(self.progress)

    def _count(self, messages: Messages, output: Output) -> None:
        """Count, and stop a deployment that refuses most of what it reads instead of dumping a night."""
        seen, refused = len(messages.payloads), len({*output.refusals.message.tolist()})
        for k, number in enumerate((len(output.rows), seen, refused)):
            self._counts[k] += number
        self._window.append((seen, refused))
        while sum(s for s, _ in self._window) - self._window[0][0] >= REFUSED_WINDOW:
            self._window.popleft()
        all_seen, all_refused = (sum(column) for column in zip(*self._window, strict=True))
        if all_seen >= 1_000 and all_refused > REFUSED_RATIO * all_seen:
            text = output.refusals.text[0] if output.refusals.text else ""
            raise IntegrityError(
                f"{all_refused:,} of the last {all_seen:,} messages were refused, the last with: {text} "
                f"Is this the right topic for this model? What was not durable is not settled; mend it and start again."
            )

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
