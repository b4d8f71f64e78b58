"""What a worker process shows of itself: its metrics, whether it is alive, whether it is ready. All its engines are told here.

Counters move once a batch, a file or a commit. What is a state, such as rows that wait for a commit, is read from the engines
when somebody scrapes: it costs a batch nothing.
"""

import time
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import AbstractContextManager
from importlib.metadata import version
from typing import TYPE_CHECKING

from prometheus_client.metrics_core import Metric as Family

from schemas.batch import Messages, Reason
from schemas.processing import Processing
from streamer.metrics import names
from streamer.metrics.health import POLLING_LIMIT_S, TASK_LIMIT_S, Pulse, Verdict
from streamer.metrics.machine import gpu_memory, memory_limit
from streamer.metrics.meters import Meters
from streamer.metrics.names import Stage
from streamer.metrics.probe import WAIT_S, Probe
from streamer.observer import Lookout, Observer
from streamer.tally import Progress

if TYPE_CHECKING:
    from streamer.engine import Engine

REASONS = tuple(reason.name for reason in Reason if reason is not Reason.EMPTY)


class Station(Lookout):
    """The metrics and the health of a process that reads topics.

    Parameters
    ----------
    polling_limit, task_limit
        Seconds without a sign after which a thread is stuck.
    clock, wall
        Monotonic seconds, and seconds since 1970 UTC.

    Attributes
    ----------
    meters
        What /metrics shows.
    """

    def __init__(
        self,
        polling_limit: float = POLLING_LIMIT_S,
        task_limit: float = TASK_LIMIT_S,
        clock: Callable[[], float] = time.monotonic,
        wall: Callable[[], float] = time.time,
    ) -> None:
        self.clock, self.wall = clock, wall
        self.meters = _Scraped(names.WORKER)
        self._limits = polling_limit, task_limit
        self._seats: dict[str, Seat] = {}
        self._model = ""
        gauge = self.meters.gauge
        for metric, value in (
            (names.IN_FLIGHT, lambda: sum(engine.in_flight for engine in self._engines())),
            (names.PENDING_ROWS, lambda: sum(engine.sink.pending_rows for engine in self._engines())),
            (names.PENDING_BYTES, lambda: sum(engine.sink.pending_bytes for engine in self._engines())),
            (names.STALLED, lambda: any(engine.stall.on for engine in self._engines())),
            (names.ASSIGNED, lambda: sum(engine.reads for engine in self._engines())),
            (names.BUSY, lambda: max((seat.pulse.busy for seat in self._all()), default=0.0)),
            (names.ALIVE, lambda: self.alive().ok),
            (names.READY, lambda: self.ready().ok),
        ):
            gauge(metric).set_function(value)
        if (limit := memory_limit()) is not None:
            gauge(names.MEMORY_LIMIT).set(limit)
        for stage in Stage:
            self.meters.histogram(names.STAGE_SECONDS).labels(stage)  # all of them are there from the first scrape on

    def loaded(self, processing: Processing, kind: str) -> None:
        """The model is there."""
        self._model = processing.model
        self.meters.gauge(names.MODEL).labels(processing.model, processing.id, kind, version("slipher")).set(1)

    def observer(self, topic: str) -> "Seat":
        """Hears of the engine that reads `topic`."""
        self._seats[topic] = Seat(self, topic, self._model)
        return self._seats[topic]

    def forget(self, topic: str) -> None:
        """Its series go, so that topics of past nights do not heap up."""
        if (seat := self._seats.pop(topic, None)) is not None:
            seat.leave()

    def alive(self) -> Verdict:
        """Whether both threads of every engine come back from what they do."""
        for topic, seat in tuple(self._seats.items()):
            if stuck := seat.pulse.stuck(*self._limits):
                return Verdict(False, f"{topic}: {stuck}")
        return Verdict(True, "alive")

    def ready(self) -> Verdict:
        """Whether messages that come now would become rows. Takes not much longer than ``WAIT_S``, of however many topics."""
        if not self._model:
            return Verdict(False, "the model is not loaded yet")
        seats = tuple(self._seats.items())
        for _, seat in seats:  # all at once: they are waited for together
            seat.ask()
        until = time.monotonic() + WAIT_S
        for topic, seat in seats:
            if wrong := seat.wrong(max(0.0, until - time.monotonic())):
                return Verdict(False, f"{topic}: {wrong}")
        if not seats:
            return Verdict(True, "ready; no topic is there to be read")
        partitions = sum(engine.reads for engine in self._engines())
        if not partitions:
            return Verdict(True, "ready; the group gives this worker no partition: others read them all")
        return Verdict(True, f"ready; reads {partitions} partition{'s' if partitions > 1 else ''}")

    def _all(self) -> "tuple[Seat, ...]":
        return tuple(self._seats.values())

    def _engines(self) -> "list[Engine]":
        return [seat.engine for seat in self._all() if seat.engine is not None]


class Seat(Observer):
    """Hears of one engine, counts, and feels its pulse."""

    def __init__(self, station: Station, topic: str, model: str) -> None:
        meters = station.meters
        self._clock, self._wall = station.clock, station.wall
        self.pulse = Pulse(station.clock)
        self.engine: Engine | None = None
        self._probes: list[Probe] = []
        self._seen, self._read = Progress(), 0
        self._labels = [
            (meters.counter(names.MESSAGES), (topic,)),
            (meters.counter(names.BYTES), (topic,)),
            (meters.counter(names.SETTLED), (topic,)),
            (meters.counter(names.ROWS), (topic, model)),
            (meters.counter(names.REPEATED), (topic,)),
            (meters.counter(names.COMMITS), (topic,)),
            (meters.counter(names.EXPIRED), (topic,)),
        ]
        self._messages, self._bytes, self._settled, self._rows, self._repeated, self._commits, self._expired = (
            counter.labels(*values) for counter, values in self._labels
        )
        refused = meters.counter(names.REFUSED)
        self._refused = {reason: refused.labels(topic, reason) for reason in REASONS}
        self._labels += [(refused, (topic, reason)) for reason in REASONS]
        self._last_commit, self._topic = meters.gauge(names.LAST_COMMIT), topic
        seconds = meters.histogram(names.STAGE_SECONDS)
        self._stages = {str(stage): seconds.labels(stage) for stage in Stage}
        self._consumed = self._stages[Stage.CONSUME]
        self._sizes = meters.histogram(names.BATCH_MESSAGES)
        self._conflicts, self._fenced = meters.counter(names.CONFLICTS), meters.counter(names.FENCED)
        self._stalls, self._rebalances = meters.counter(names.STALLS), meters.counter(names.REBALANCES)

    def leave(self) -> None:
        """Nothing more comes."""
        for counter, values in self._labels:
            counter.remove(*values)
        if self._seen.commits:
            self._last_commit.remove(self._topic)

    def ask(self) -> None:
        """Put the questions to broker and table that ``wrong`` wants answered."""
        for probe in self._probes:
            probe.ask()

    def wrong(self, wait: float) -> str:
        """Why messages that come now would not become rows; empty where nothing is wrong. Waits `wait` seconds for an answer."""
        engine = self.engine
        if engine is None:
            return "reading has not begun yet"
        if engine.stall.on:
            return f"waiting, {engine.stall.why.rstrip('.')}"
        if not engine.source.member:
            return "the consumer group has not given out the partitions yet"
        if engine.reads < engine.given:
            return f"{engine.given - engine.reads} of {engine.given} partitions are not claimed yet"
        return next((wrong for probe in self._probes if (wrong := probe.wrong(wait))), "")

    # -- told by the engine --------------------------------------------------------------------------------------------

    def begins(self, engine: "Engine") -> None:
        log = engine.sink.ledger.root / "rows" / "_delta_log"
        self._probes = [
            Probe("the catalogue", lambda: "" if log.is_dir() else f"{log.parent} is not there", self._clock),
            Probe("the broker", lambda: "" if engine.confirm() else "no broker answers", self._clock),
        ]
        self.engine = engine

    def stepped(self) -> None:
        self.pulse.stepped()

    def polled(self, messages: Messages, seconds: float) -> None:
        size = len(messages.payloads)
        self._messages.inc(size)
        self._sizes.observe(size)
        if self.engine is not None:  # its source has measured them: a look at each would cost more than all the rest
            read, self._read = self._read, self.engine.source.bytes_read
            self._bytes.inc(self._read - read)
        if messages.gaps:
            self._expired.inc(sum(end - first for _, first, end in messages.gaps))
        self._consumed.observe(seconds)

    def rebalanced(self) -> None:
        self._rebalances.inc()

    def at(self, task: str) -> AbstractContextManager[None]:
        return self.pulse.at(task)

    def timed(self, stage: str, messages: Messages | None = None) -> AbstractContextManager[None]:
        return _Timing(self, stage)

    def landed(self, durable: Mapping[int, int], fenced: Collection[int]) -> None:
        if fenced:
            self._fenced.inc(len(fenced))

    def committed(self, progress: Progress) -> None:
        seen, self._seen = self._seen, progress
        self._settled.inc(progress.messages - seen.messages)
        self._rows.inc(progress.rows - seen.rows)
        self._repeated.inc(progress.repeated - seen.repeated)
        self._commits.inc(progress.commits - seen.commits)
        self._last_commit.labels(self._topic).set(self._wall())
        for reason, n in progress.reasons.items():
            if more := n - seen.reasons.get(reason, 0):
                self._refused[reason].inc(more)

    def conflict(self) -> None:
        self._conflicts.inc()

    def stalled(self) -> None:
        self._stalls.inc()


class _Timing:
    """One passage through a stage: its seconds, and the pulse. A class, for it costs half of a generator."""

    __slots__ = ("_began", "_seat", "_stage")

    def __init__(self, seat: Seat, stage: str) -> None:
        self._seat, self._stage = seat, stage

    def __enter__(self) -> None:
        seat = self._seat
        self._began = seat._clock()
        seat.pulse.enter(self._stage, self._began)

    def __exit__(self, *error: object) -> None:
        seat = self._seat
        now = seat._clock()
        seat.pulse.leave(now)
        seat._stages[self._stage].observe(now - self._began)


class _Scraped(Meters):
    """Looks at GPUs when somebody scrapes."""

    def collect(self) -> Iterator[Family]:
        for index, used, total in gpu_memory():
            self.gauge(names.GPU_MEMORY).labels(index).set(used)
            self.gauge(names.GPU_MEMORY_LIMIT).labels(index).set(total)
        return super().collect()
