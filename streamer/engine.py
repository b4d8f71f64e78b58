"""The engine: the only place that knows both source and sink. Nightly runs, replays and backfills are this loop.

Two threads. The caller's serves the source and nothing else, so that a long batch never costs the group membership. The
*table thread* does the rest in the order it was told: claims, batches, commits. Kernels, Parquet and fsync release the GIL,
so both run at once.

Every claim of a partition has a number, its *lease*. A batch is worked on only under the lease under which it was polled: the
partition may have gone and come back meanwhile, at another position.
"""

import itertools
import logging
import threading
import time
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future, wait
from typing import Any, NamedTuple

from consumers.worker import Worker
from schemas.errors import TroubleError
from streamer.in_order import InOrder
from streamer.logs import working_at
from streamer.observer import Observer
from streamer.settler import Limits, Settler
from streamer.sink.delta import DeltaSink
from streamer.source.contract import Callbacks, Source
from streamer.stall import Stall
from streamer.tally import Progress, Tally

log = logging.getLogger(__name__)

POLL_SECONDS = 0.1
ALIVE_SECONDS = 1.0  # a source that is not polled for so long is served otherwise: members that are silent are expelled
LEAVE_ALIVE_SECONDS = 0.2  # ... and while we leave: a member that does not answer holds up all others' rebalance
LAST_SECONDS = 0.5  # for the table thread to end what it does; it is safe to leave it in the middle
CLOSE_SECONDS = 2.0  # for the group to let us go
CLAIM_SECONDS = 5.0  # that the group waits for a claim; it is read on when the claim is there


class Claiming(NamedTuple):
    """A claim on its way: the positions to come, or None where the table is away; and the lease of each partition."""

    positions: Future[dict[int, int] | None]
    leases: dict[int, int]


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
    observer
        Told what goes on, once a batch and once a commit.
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
        observer: Observer = Observer(),
    ) -> None:
        self.source, self.worker, self.sink = source, worker, sink
        self.limits, self.until_end, self.clock = limits, until_end, clock
        self.confirm, self.observer = confirm, observer
        sink.ledger.observer = observer
        self._leases: dict[int, int] = {}  # of what is polled now
        self._do = Settler(worker, sink, first, confirm, limits, self._leases, on_commit, clock, observer)
        self._table = InOrder("table")
        self._flight: deque[Future[None]] = deque()
        self._claims: list[Claiming] = []
        self._numbers = itertools.count(1)
        self._wanted: dict[int, int] = {}  # the newest lease of each partition that the group gives us
        self._unclaimed: dict[int, float] = {}  # given by the group, not ours in the table: when to claim them
        self._last_served = clock()
        self._stop = threading.Event()
        self._stopped_at: float | None = None
        observer.begins(self)

    @property
    def stall(self) -> Stall:
        """Whether it waits for the world."""
        return self._do.stall

    @property
    def reads(self) -> int:
        """Partitions that are claimed and read."""
        return len(self._leases)

    @property
    def given(self) -> int:
        """Partitions that the group gives us."""
        return len(self._wanted)

    @property
    def in_flight(self) -> int:
        """Batches read and not yet written to the sink."""
        return max(sum(not future.done() for future in tuple(self._flight)), len(self._do.waiting))

    @property
    def tally(self) -> Tally:
        """What is durable, and what may become so."""
        return self._do.tally

    def stop(self) -> None:
        """Finish what was read, commit, leave. A second call discards it; both are safe."""
        if self._stop.is_set():
            self._do.abandon.set()
        elif self._stopped_at is None:
            self._stopped_at = self.clock()
        self._stop.set()

    def run(self) -> Progress:
        """Run until ``stop``; returns what became durable.

        Raises
        ------
        SlipherError
            What a person has to look at. Whatever was not durable will be read again.
        """
        try:
            with working_at(topic=self.sink.ledger.identity.topic, model=self.worker.processing.model):
                self.source.start(Callbacks(self._assigned, self._revoked, self._lost))
                try:
                    while not self._stop.is_set():
                        self._step()
                    self._finish()
                finally:
                    at_once = self._do.abandon.is_set()
                    self._do.abandon.set()
                    self._table.submit(self._do.disown)
                    self._table.end(LAST_SECONDS)
                    self.source.close(LAST_SECONDS if at_once else CLOSE_SECONDS)
            self._raise_failure()
            return self.tally.durable
        finally:
            self.worker.close()

    # -- the polling thread --------------------------------------------------------------------------------------------

    def _step(self) -> None:
        self.observer.stepped()
        self._raise_failure()
        while self._flight and self._flight[0].done():
            self._flight.popleft()
        self._hear()
        if len(self._flight) >= self.worker.depth or self._do.stall.on:
            self._hold()
            return
        asked = self.clock()
        messages = self.source.poll(POLL_SECONDS)
        self._last_served = self.clock()
        if messages is not None:
            self.observer.polled(messages, self._last_served - asked)
            leases = {p: self._leases.get(p, 0) for p in messages.ends}
            self.worker.begin(messages)
            self._flight.append(self._table.submit(self._do.guarded, self._do.settle, messages, leases))
        elif not self._flight:
            self._flight.append(self._table.submit(self._do.guarded, self._do.commit_if_due))
        self._hand_over()
        if self.until_end and self.source.at_end and self._all_durable():
            self._stop.set()

    def _hold(self) -> None:
        """Not polling leaves messages at the broker: back-pressure, and waiting for what a batch needs."""
        if self._flight:
            wait([self._flight[0]], POLL_SECONDS)
        elif self._do.stall.on and self._do.stall.due and not self._claims:
            self._ask(self._do.retry, self._due())
        else:
            self._stop.wait(POLL_SECONDS)
        self._serve(ALIVE_SECONDS)

    def _serve(self, seconds: float) -> None:
        """Stay a member, where nothing was polled for `seconds`."""
        if self.clock() - self._last_served > seconds:
            self.source.keep_alive()
            self._last_served = self.clock()
            self._hand_over()

    def _hear(self) -> None:
        """Read on where a claim is there; claim again what was lost to a fence or a failure, when its time has come."""
        for claim in [c for c in self._claims if c.positions.done()]:
            self._claims.remove(claim)
            if positions := self._taken(claim):
                self.source.resume(positions)
        while self._do.gone:
            partition, when = self._do.gone.popleft()
            if partition in self._wanted:
                self._unclaimed[partition] = when
        if not self._do.stall.on and (due := self._due()):
            self._ask(self._do.claim, due)

    def _due(self) -> list[int]:
        due = [p for p, when in self._unclaimed.items() if self.clock() >= when]
        if stubborn := self._do.stubborn(due):
            raise TroubleError(
                f"Partitions {stubborn} are written by another worker of the same model that is not in this consumer group. "
                f"Stop one of them, or give both the same --group."
            )
        return due

    def _ask(self, how: Callable[[dict[int, int]], dict[int, int] | None], partitions: list[int]) -> Claiming:
        """Have `partitions` claimed; what is polled of them until then is nobody's."""
        leases = {p: next(self._numbers) for p in partitions}
        for p in partitions:
            self._unclaimed.pop(p, None)
            self._leases.pop(p, None)
        self._wanted |= leases
        claim = Claiming(self._table.submit(self._do.guarded, how, leases), leases)
        self._claims.append(claim)
        return claim

    def _taken(self, claim: Claiming) -> dict[int, int]:
        """Positions of those partitions of a claim that is there which are still ours to read."""
        positions = claim.positions.result()
        mine = {p: lease for p, lease in claim.leases.items() if self._wanted.get(p) == lease}
        if positions is None:
            self._unclaimed |= dict.fromkeys(mine, self.clock())
            return {}
        self._leases |= mine
        return {p: positions[p] for p in mine}

    def _all_durable(self) -> bool:
        """Whether the sink has all that was polled, and the table all of that; what a fence took is its other owner's."""
        wait(self._flight, POLL_SECONDS)
        if (
            any(not future.done() for future in self._flight)
            or self._claims
            or self._do.stall.on
            or self._do.waiting
            or self._do.gone
        ):
            return False
        if self.sink.pending_offsets:  # the table thread rests: nothing is in flight
            self._flight.append(self._table.submit(self._do.guarded, self._do.commit))
            return False
        return True

    def _hand_over(self) -> None:
        if self._do.durable:
            durable, self._do.durable = self._do.durable, {}
            self.source.hint(durable)

    def _finish(self) -> None:
        """Settle what was read and commit, inside a deadline; others' rebalances go on meanwhile."""
        try:
            durable = self._wait(self._table.submit(self._do.guarded, self._do.commit), serve=True)
        except TimeoutError:
            durable = False
        if not durable or self._do.waiting:
            log.warning("not all that was read is durable: the rest is left for the next start, which reads it again")
        self._hand_over()

    def _wait(self, future: Future[Any], serve: bool = False) -> Any:
        """The result, unless a deadline passes, since now or since we were told to stop, or a second stop abandons it."""
        begun = self._stopped_at if self._stopped_at is not None else self.clock()
        while not self._do.abandon.is_set():
            self.observer.stepped()
            if wait([future], 0.05).done:
                self._raise_failure()
                return future.result()
            begun = min(begun, self._stopped_at or begun)
            if self.clock() - begun >= self.limits.flush:
                break
            if serve:
                self._serve(LEAVE_ALIVE_SECONDS)
        self._raise_failure()
        raise TimeoutError

    def _raise_failure(self) -> None:
        """What failed in the table thread ends the run."""
        if self._do.failure is not None:
            raise self._do.failure

    # -- callbacks, in the polling thread ------------------------------------------------------------------------------

    def _assigned(self, partitions: list[int]) -> dict[int, int]:
        log.info("assigned partitions %s", partitions, extra={"partitions": partitions})
        self.observer.rebalanced()
        if self._stop.is_set():
            return {}
        if self._do.stall.on:
            self._wanted |= dict.fromkeys(partitions, 0)
            self._unclaimed |= dict.fromkeys(partitions, self.clock())
            return {}
        claim, begun = self._ask(self._do.claim, partitions), self.clock()
        while not wait([claim.positions], 0.05).done:
            if self._stop.is_set() or self.clock() - begun > CLAIM_SECONDS:
                log.info("partitions %s are read once they are claimed", partitions, extra={"partitions": partitions})
                return {}
        self._claims.remove(claim)
        positions = self._taken(claim)
        log.info("claimed, positions %s", positions, extra={"positions": positions})
        return positions

    def _revoked(self, partitions: list[int]) -> None:
        log.info("revoked partitions %s", partitions, extra={"partitions": partitions})
        self.observer.rebalanced()
        try:
            if not self._do.abandon.is_set():  # else all is settled, or given up, already
                self._wait(self._table.submit(self._do.guarded, self._do.commit))
                self._hand_over()
        except TimeoutError:
            log.info(
                "partitions %s: what is not durable is left to their next owner",
                partitions,
                extra={"partitions": partitions},
            )
        finally:
            self._lost(partitions)

    def _lost(self, partitions: list[int]) -> None:
        for p in partitions:
            self._wanted.pop(p, None)
            self._leases.pop(p, None)
            self._unclaimed.pop(p, None)
        self._table.submit(self._do.forget, partitions)
        self._do.stall.hurry()  # what waits may have been theirs
