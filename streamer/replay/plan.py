"""Puts a replay together: which offsets, what of them is there already, and an engine that fills the rest."""

import logging
import uuid
from collections.abc import Callable, Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any, NamedTuple

from consumers.rows import Provenance
from consumers.worker import Output, Worker
from schemas.batch import Messages
from schemas.errors import SlipherError, TroubleError, UserError
from streamer.catalogue import open_catalogue
from streamer.engine import Engine
from streamer.lag.readers import durable_offsets
from streamer.observer import Lookout
from streamer.replay.bounds import Asked, Bounds, Found, find
from streamer.replay.pace import LiveLag, Pace, Place
from streamer.run import Plan, now_ms, plan
from streamer.settings import RunSettings
from streamer.settler import Limits
from streamer.sink.catalogue import bind, ensure, register
from streamer.sink.claim import Region
from streamer.sink.delta import DeltaSink
from streamer.sink.entries import Identity
from streamer.sink.operations import Operation, State, record
from streamer.source.bounded import BoundedSource, Ranges
from streamer.source.connection import LogEnds, TopicIdentity, identify
from streamer.tally import Progress
from streamer.workers import worker

log = logging.getLogger(__name__)


class Summary(NamedTuple):
    """What came of a replay.

    Attributes
    ----------
    progress
        Rows, messages and refusals that became durable.
    offsets, before
        Offsets in the bounds, and those that were settled before.
    gaps
        Offsets that retention took: (partition, start, end), end not included; the exceptions ledger lists them.
    whole
        All of the bounds is settled now.
    """

    progress: Progress
    offsets: int
    before: int
    gaps: list[tuple[int, int, int]]
    whole: bool


class TakenOver(SlipherError):
    """Another replay, or a first live reading, claimed what is replayed. Exit 75: run it again for what is left."""

    exit_code = (
        TroubleError.exit_code
    )  # not of its kind: trouble is waited for, and two replays would fence each other for ever


class ReplaySink(DeltaSink):
    """A sink in the replay lane: it knows what is left of the bounds, and ends where another replay takes over.

    Attributes
    ----------
    on_claim
        Called after each claim, from the table thread.
    ends
        Where each partition that was claimed ends.
    holes
        What nobody had settled of it at its last claim.
    before
        Offsets of all that were settled at the first.
    """

    def __init__(
        self,
        root: Path,
        identity: Identity,
        clock_ms: Callable[[], int],
        point: Callable[[int], None],
        regions: Mapping[int, Region],
    ) -> None:
        super().__init__(root, identity, clock_ms, point, regions)
        self.on_claim: Callable[[], None] = lambda: None
        self.ends: dict[int, int] = {}
        self.holes: dict[int, Ranges] = {}
        self.before = 0
        self._reached: dict[int, int] = {}

    def claim(self, partitions: list[int], first: Callable[[list[int], bool], dict[int, int]]) -> dict[int, int]:
        """Own `partitions`, and see which of their offsets nobody has settled."""
        positions = super().claim(partitions, first)
        for p in partitions:
            claim = self.ledger.own[p]
            end = claim.end or 0
            holes = claim.settled.holes(claim.position, end)
            if p not in self.ends:
                self.before += end - claim.position - sum(b - a for a, b in holes)
            self.ends[p], self.holes[p], self._reached[p] = end, holes, claim.position
        self.on_claim()
        return positions

    def commit(self) -> tuple[dict[int, int], set[int]]:
        """Make it durable.

        Raises
        ------
        TakenOver
            A partition has another owner.
        """
        durable, fenced = super().commit()
        self._reached |= durable
        if fenced:
            raise TakenOver(
                f"Partitions {sorted(fenced)} were taken over: by another replay of the same model, or by a first live reading "
                f"of them. Nothing is lost or doubled; run it again for what is left."
            )
        return durable, fenced

    @property
    def left(self) -> int:
        """Offsets that are not settled, as far as they are claimed."""
        return sum(max(0, b - max(a, self._reached[p])) for p, holes in self.holes.items() for a, b in holes)


class PacedWorker:
    """A ``Worker`` whose rows are counted."""

    def __init__(self, worker: Worker, pace: Pace) -> None:
        self._worker, self._pace, self.processing = worker, pace, worker.processing
        self.depth, self.begin, self.close = worker.depth, worker.begin, worker.close

    def process(self, messages: Messages) -> Output:
        """As the worker does."""
        output = self._worker.process(messages)
        self._pace.spent(len(messages.payloads), len(output.rows))
        return output


class Replay:
    """One replay, ready to run.

    Parameters
    ----------
    made
        Model, decoder and settings.
    topic, ends
        What is read.
    found
        Its bounds.
    asked
        What a person said.
    max_rate
        Rows a second; None = no limit.
    on_progress
        Called after the claim and after each commit with what is durable of this run, and the offsets left.
    point
        As of ``Ledger``.
    lookout
        Gives the engine its observer.
    """

    def __init__(
        self,
        made: Plan,
        topic: TopicIdentity,
        ends: LogEnds,
        found: Found,
        asked: Asked,
        max_rate: float | None = None,
        on_progress: Callable[[Progress, int], None] = lambda progress, left: None,
        point: Callable[[int], None] = lambda step: None,
        lookout: Lookout = Lookout(),
    ) -> None:
        settings, what = made.settings, made.processing
        self.model, self.found, self.asked, self.catalog = what.model, found, asked, settings.catalog
        self.identity = Identity(what.id, topic.cluster_id, topic.topic, topic.topic_id, version("slipher"))
        self.operation = Operation(uuid.uuid4().hex, "replay", what.model, self.identity, asked.night)
        self.on_progress = on_progress
        origin = Provenance(what, topic.cluster_id, topic.topic, topic.topic_id, version("slipher"))
        self.live = LiveLag(lambda: live_places(settings.catalog, topic, ends, what.id))
        pace = Pace(max_rate, self.live)
        observer = lookout.observer(topic.topic)
        work = worker(settings, made.estimator, made.alerts, origin, now_ms, observer.timed)
        regions = {p: Region(*bounds) for p, bounds in found.bounds.items()}
        self.sink = ReplaySink(settings.catalog, self.identity, now_ms, point, regions)
        self.sink.on_claim = lambda: self._said(Progress())
        self.source = BoundedSource(
            made.consumer, topic.topic, sorted(regions), lambda: self.sink.holes, ends, pace.room
        )
        limits = Limits(
            settings.commit_rows, settings.commit_seconds, settings.refused_limit, settings.refused_in_a_row
        )
        self.engine = Engine(
            self.source,
            PacedWorker(work, pace),
            self.sink,
            lambda partitions, known: {},
            ends.confirm,
            limits,
            until_end=True,
            on_commit=self._said,
            observer=observer,
        )

    def stop(self) -> None:
        """Commit what was read and leave; a second call leaves at once. Run again, it goes on."""
        self.engine.stop()

    def run(self) -> Summary:
        """Record the replay, fill what is missing, record that it is done.

        Raises
        ------
        SlipherError
            What a person has to look at. Run again, it goes on where it stood.
        """
        said = {key: value for key, value in self.asked._asdict().items() if value}
        self._record("begun", self.found.bounds, said)
        progress = self.engine.run()
        bounds, ends = self.found.bounds, self.sink.ends
        whole = ends.keys() == bounds.keys() and self.sink.left == 0
        done = {p: (start, ends.get(p, start)) for p, (start, _) in bounds.items() if ends.get(p, start) > start}
        gaps = sorted(self.source.gaps)
        if whole:
            self._record("done", done, said | {"rows": progress.rows, "refused": progress.refused, "gaps": gaps})
        return Summary(progress, sum(b - a for a, b in done.values()), self.sink.before, gaps, whole)

    def _record(self, state: State, bounds: Bounds, text: dict[str, Any]) -> None:
        ranges = [(p, start, end) for p, (start, end) in sorted(bounds.items())]
        if ranges:
            record(self.catalog, self.operation, state, ranges, text, now_ms())

    def _said(self, progress: Progress) -> None:
        """In the table thread, after a claim or a commit."""
        self.on_progress(progress, self.sink.left)


def build(
    settings: RunSettings,
    asked: Asked,
    max_rate: float | None = None,
    on_progress: Callable[[Progress, int], None] = lambda progress, left: None,
    point: Callable[[int], None] = lambda step: None,
    lookout: Lookout = Lookout(),
) -> Replay:
    """A replay of one topic, its bounds fixed now.

    Raises
    ------
    SlipherError
        Bundle, catalogue, broker or topic are not what they should be, or nothing is in the bounds; nothing was written.
    """
    asked = asked.checked()
    made = plan(settings)
    what = made.processing
    lookout.loaded(what, made.estimator.kind)
    topic = identify(made.connection, settings.topic, settings.patience)
    ensure(settings.catalog)
    ends = LogEnds(made.connection, topic)
    found = find(asked, settings.catalog, topic, ends, made.alerts.night)
    if not found.bounds:
        raise UserError(f"{topic.topic} holds nothing of what is to be replayed.")
    bind(settings.catalog, what.id, topic.cluster_id, topic.topic, topic.topic_id, now_ms())
    grid = [float(z) for z in made.estimator.grid]
    register(settings.catalog, what, list(made.estimator.bands), grid, made.estimator.card, now_ms())
    return Replay(made, topic, ends, found, asked, max_rate, on_progress, point, lookout)


def live_places(root: Path, topic: TopicIdentity, ends: LogEnds, mine: str) -> dict[str, Place]:
    """How far each processing that reads `topic` live is, by model; none where no broker says where the topic ends."""
    durable = {
        (reader, p): offset
        for (reader, p), offset in durable_offsets(open_catalogue(root), topic.topic).items()
        if reader.topic_id == topic.topic_id
    }
    if not durable:
        return {}
    try:
        latest = ends.latest(sorted({p for _, p in durable}))
    except TroubleError:
        return {}
    out: dict[str, Place] = {}
    for (reader, p), offset in durable.items():
        at = out.get(reader.model, Place(0, 0))
        out[reader.model] = Place(at.durable + offset, at.lag + max(0, latest[p] - offset))
    return out
