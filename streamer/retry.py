"""Retry: open dead letters through a model once more, after whatever was wrong has been mended.

The messages come from the exceptions ledger, not from Kafka: it keeps them whole up to a bound, for ever. What gives rows now
is written in the replay lane of the processing at hand (streamer.sink.claim), so a retry may be killed, run twice, or meet
live workers and replays. What is refused again stays listed as it is.

The processing may be the one that refused the letter: a schema that nobody could resolve and now is known. Its rows go to
exactly the offsets and rows that it lists. Or it is another one, a mended decoder or a new model: its rows stand for
themselves, where it has no live reading that covers the offset.
"""

import uuid
from collections.abc import Callable, Iterator
from importlib.metadata import version
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from consumers.rows import Provenance
from consumers.worker import Output
from schemas.batch import Messages, Refusals
from schemas.catalogue import REST
from schemas.errors import TroubleError
from streamer import dead_letters
from streamer.catalogue import Catalogue, open_catalogue
from streamer.run import Method
from streamer.sink.catalogue import ensure, register
from streamer.sink.claim import Region
from streamer.sink.delta import DeltaSink
from streamer.sink.entries import Identity
from streamer.sink.operations import Operation, record
from streamer.sink.settled import Settled
from streamer.sink.tables import Fenced
from streamer.workers import worker

BATCH_MESSAGES = 5_000  # of one topic, in one commit
BATCH_BYTES = 32 << 20

Place = tuple[str, int, int]  # topic id, partition, offset


class Retried(NamedTuple):
    """What came of the letters that were tried.

    Attributes
    ----------
    letters
        How many there were, all of them open.
    answered
        Those that have a row now.
    rows
        Rows written.
    refused
        Those that were refused again.
    cut, gone
        Those that could not be tried: the ledger keeps only the beginning of their message, or nothing.
    left
        Those that would give a row, which this processing may not write: a live worker is to read the offset, or the row was
        withdrawn. In a dry run, all that would give one.
    """

    letters: int
    answered: int
    rows: int
    refused: int
    cut: int
    gone: int
    left: int


class _Message(NamedTuple):
    partition: int
    offset: int
    timestamp_ms: int
    payload: bytes


def retry(
    made: Method,
    choose: Callable[[pa.Table], pa.Table],
    now_ms: Callable[[], int],
    dry_run: bool = False,
    on_batch: Callable[[int, int], None] = lambda done, of: None,
    point: Callable[[int], None] = lambda step: None,
) -> Retried:
    """Try open dead letters of a catalogue.

    Parameters
    ----------
    made
        Model and decoder; and the catalogue, in its settings.
    choose
        Given the open letters, which of them.
    now_ms
        The clock: ms since 1970 UTC.
    dry_run
        Write nothing.
    on_batch
        Called after each batch: messages done, of how many.
    point
        As of ``Ledger``; tests make it kill or stop.

    Raises
    ------
    TroubleError
        Another retry or replay of this processing took over, or the world is in the way: run it again, nothing is lost.
    """
    root, what = made.settings.catalog, made.processing
    catalogue = open_catalogue(root)
    everything = dead_letters.letters(catalogue)
    chosen = choose(dead_letters.chosen(everything, state=dead_letters.OPEN))
    asked = chosen.to_pylist()
    known = _Known(catalogue, everything, what.id, asked)
    if asked and not dry_run:
        ensure(root)
        grid = [float(z) for z in made.estimator.grid]
        register(root, what, list(made.estimator.bands), grid, made.estimator.card, now_ms())
    given: dict[Place, set[int] | None] = {}  # rows of each message that was tried; None = it is cut
    of, written = len({_place(letter) for letter in asked}), 0
    for identity, batch in _batches(catalogue, asked, given, what.id):
        origin = Provenance(what, identity.cluster_id, identity.topic, identity.topic_id, identity.version)
        work = worker(made.settings, made.estimator, made.alerts, origin, now_ms)
        messages = _messages(batch)
        try:
            output = work.process(messages)
        finally:
            work.close()
        for offset, partition, row in _identities(output.rows):
            rows_of = given[identity.topic_id, partition, offset]
            assert rows_of is not None
            rows_of.add(row)
        if not dry_run:
            written += _write(root, identity, what.model, messages, output, known, now_ms, point)
        on_batch(len(given), of)
    closed = [False] * len(asked)
    if asked and not dry_run:
        closed = [
            state == dead_letters.CLOSED for state in dead_letters.states(open_catalogue(root), chosen).to_pylist()
        ]
    return _summary(asked, given, closed, written)


def _summary(
    asked: list[dict[str, Any]], given: dict[Place, set[int] | None], closed: list[bool], written: int
) -> Retried:
    counts = dict.fromkeys(("answered", "refused", "cut", "gone", "left"), 0)
    for letter, answered in zip(asked, closed, strict=True):
        place, rows = _place(letter), given.get(_place(letter))
        if answered:
            counts["answered"] += 1
        elif rows is None:
            counts["cut" if place in given else "gone"] += 1
        else:
            counts["left" if _answers(rows, letter["kafka_row"]) else "refused"] += 1
    return Retried(letters=len(asked), rows=written, **counts)


def _answers(rows: set[int], asked: int) -> bool:
    """Whether a message that gives `rows` answers a letter about row `asked` of it, or about all of it."""
    return asked in rows or (asked == REST and bool(rows))


# -- reading ---------------------------------------------------------------------------------------------------------------


def _batches(
    catalogue: Catalogue, asked: list[dict[str, Any]], given: dict[Place, set[int] | None], processing_id: str
) -> Iterator[tuple[Identity, list[_Message]]]:
    """The messages behind `asked`, each once, topic by topic; enters in `given` what is tried and what is cut."""
    letters = {dead_letters.message_of(letter): letter for letter in asked}
    held: dict[Identity, list[_Message]] = {}
    size: dict[Identity, int] = {}
    for key, payload in dead_letters.payloads(catalogue, letters):
        letter = letters[key]
        if _place(letter) in given:  # refused by two processings
            continue
        if dead_letters.is_cut(payload, letter["payload_size"]):
            given[_place(letter)] = None
            continue
        given[_place(letter)] = set()
        who = Identity(processing_id, letter["cluster_id"], letter["topic"], letter["topic_id"], version("slipher"))
        sent = letter["kafka_timestamp"]
        ms = round(sent.timestamp() * 1000) if sent is not None else -1
        message = _Message(letter["kafka_partition"], letter["offset_start"], ms, payload)
        held.setdefault(who, []).append(message)
        size[who] = size.get(who, 0) + len(payload)
        if len(held[who]) >= BATCH_MESSAGES or size[who] >= BATCH_BYTES:
            yield who, held.pop(who)
            size[who] = 0
    yield from held.items()


def _messages(batch: list[_Message]) -> Messages:
    """As a source would bring them; what it vouches for is said when it is known."""
    batch = sorted(batch)
    return Messages(
        [m.payload for m in batch],
        np.array([m.partition for m in batch], np.int32),
        np.array([m.offset for m in batch], np.int64),
        np.array([m.timestamp_ms for m in batch], np.int64),
        {},
    )


class _Known:
    """What the tables say of this processing at the offsets of dead letters, when the retry begins."""

    def __init__(
        self, catalogue: Catalogue, letters: pa.Table, processing_id: str, asked: list[dict[str, Any]]
    ) -> None:
        self.asked: dict[Place, set[int]] = {}
        for letter in asked:
            self.asked.setdefault(_place(letter), set()).add(letter["kafka_row"])
        self.listed: dict[Place, set[int]] = {}
        mine = letters.filter(pc.equal(letters["processing_id"], processing_id))
        for letter in mine.select([*dead_letters.MESSAGE, "kafka_row"]).to_pylist():
            self.listed.setdefault(_place(letter), set()).add(letter["kafka_row"])
        self.standing: set[Place] = set()
        if self.listed:
            columns = ["topic_id", "kafka_partition", "kafka_offset"]
            where = (pc.field("processing_id") == processing_id) & pc.field("kafka_offset").isin(
                sorted({offset for _, _, offset in self.listed})
            )
            rows = catalogue.dataset("rows").to_table(columns=columns, filter=where)
            self.standing = set(zip(*(rows[name].to_pylist() for name in columns), strict=True))

    def reopened(self, place: Place, rows: set[int]) -> set[int]:
        """Which of the rows that a message gives now may be written, REST for all; empty where it has none."""
        if not any(_answers(rows, row) for row in self.asked[place]):
            return set()  # other rows of the message are nobody's letters
        listed = self.listed.get(place, set())
        if REST in listed or place not in self.standing:
            return {REST} | (listed & rows)
        return listed & rows


# -- writing ---------------------------------------------------------------------------------------------------------------


def _write(
    root: Path,
    identity: Identity,
    model: str,
    messages: Messages,
    output: Output,
    known: _Known,
    now_ms: Callable[[], int],
    point: Callable[[int], None],
) -> int:
    """One claim, one commit; returns how many rows it wrote."""
    given: dict[Place, set[int]] = {}
    for offset, partition, row in _identities(output.rows):
        given.setdefault((identity.topic_id, partition, offset), set()).add(row)
    reopened = {place: some for place, rows in given.items() if (some := known.reopened(place, rows))}
    if not reopened:
        return 0
    offsets: dict[int, list[int]] = {}
    for _, partition, offset in sorted(reopened):
        offsets.setdefault(partition, []).append(offset)
    regions = {
        p: Region(some[0], some[-1] + 1, frozenset((o, row) for o in some for row in reopened[identity.topic_id, p, o]))
        for p, some in offsets.items()
    }
    operation = Operation(uuid.uuid4().hex, "retry", model, identity)
    ranges = [(p, *span) for p, some in offsets.items() for span in _spans(some)]
    record(root, operation, "begun", ranges, {"messages": len(reopened)}, now_ms())
    sink = DeltaSink(root, identity, now_ms, point, regions)
    try:
        starts = sink.claim(sorted(regions), lambda partitions, known: {})
    except Fenced as fence:
        raise _taken_over(fence.partitions) from None
    ends = {p: region.end for p, region in regions.items()}
    chosen, rows, refusals = _only(messages, output, reopened, known, identity.topic_id)
    sink.write(chosen._replace(starts=starts, ends=ends), Output(rows, refusals))
    written = sink.pending_rows
    _, fenced = sink.commit()
    if fenced:
        raise _taken_over(fenced)
    record(root, operation, "done", ranges, {"messages": len(reopened), "rows": written}, now_ms())
    return written


def _only(
    messages: Messages, output: Output, reopened: dict[Place, set[int]], known: _Known, topic_id: str
) -> tuple[Messages, pa.Table, Refusals]:
    """Messages that are reopened, their rows, and what is refused of them that this processing does not list yet."""
    places = list(zip(messages.partition.tolist(), messages.offset.tolist(), strict=True))
    keep = np.array([(topic_id, *place) in reopened for place in places], bool)
    index = np.cumsum(keep) - 1
    some = Messages(
        [payload for payload, kept in zip(messages.payloads, keep, strict=True) if kept],
        messages.partition[keep],
        messages.offset[keep],
        messages.timestamp_ms[keep],
        {},
    )
    mine = [
        bool({REST, row} & reopened.get((topic_id, partition, offset), set()))
        for offset, partition, row in _identities(output.rows)
    ]
    refusals = output.refusals
    new = [
        bool(keep[k]) and not {REST, row} & known.listed.get((topic_id, *places[k]), set())
        for k, row in zip(refusals.message.tolist(), refusals.row.tolist(), strict=True)
    ]
    at = np.flatnonzero(new)
    texts = [refusals.text[k] for k in at]
    listed = Refusals(index[refusals.message[at]], refusals.row[at], refusals.reason[at], texts, refusals.byte[at])
    return some, output.rows.filter(pa.array(mine, pa.bool_())), listed


def _identities(rows: pa.Table) -> Iterator[tuple[int, int, int]]:
    """(offset, partition, row) of each."""
    return zip(*(rows[name].to_pylist() for name in ("kafka_offset", "kafka_partition", "kafka_row")), strict=True)


def _spans(offsets: list[int]) -> list[tuple[int, int]]:
    settled = Settled()
    settled.add_offsets(np.array(offsets, np.int64))
    return settled.ranges


def _place(letter: dict[str, Any]) -> Place:
    return letter["topic_id"], letter["kafka_partition"], letter["offset_start"]


def _taken_over(partitions: set[int]) -> TroubleError:
    return TroubleError(
        f"Another retry or replay by this model took over partitions {sorted(partitions)}. Nothing is lost or doubled: "
        f"run this again when it has ended."
    )
