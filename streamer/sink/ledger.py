"""The commit protocol: rows and exceptions land once, whoever crashes, sleeps or comes back from the dead.

Two Delta tables: R, the ``rows``, and E, the ``exceptions``. A worker owns partitions by *epoch*, a number that only rises.
Application ids (streamer.sink.appids), per processing, topic and partition:

    R: offset (every offset below it is settled), epoch, start (where the first claim began)
    E: epoch, seq (number of commits of exceptions under this id)

A commit is a compare-and-swap: delta-rs refuses it when a transaction of one of its ids landed after the version of the
handle it goes through, and never compares the numbers. So "refresh, compare with memory, commit, all through one handle"
is the whole fence.

Claim                                                                   invariant kept
 1. refresh both; new epoch = max(E, R) + 1; commit it in E             no older owner adds exceptions from here
 2. commit it in R, unless R's is higher already: then give up          no older owner adds rows from here
 3. refresh both; both epochs must be ours                              one owner, also where claims cross
 4. read the position from R, seq and the entries ahead of it from E    what E lists is settled for ever
Commit
 5. stage the files, fsync
 6. exceptions first: refresh E, compare epochs, commit seq + 1.        E never loses an entry that R's offset relies on
    Ignore the answer, refresh and look: seq + 1 under our epoch = landed
 7. rows likewise with the new offsets: offset = end under our epoch    rows and offset move together
 8. only then is anybody told
 9. any other exception drops ownership: only a claim mends memory      memory is never ahead of the tables
10. a writer never unlinks what it staged                               it may have landed before the fence
"""

import logging
import time
import uuid
from collections.abc import Callable, Iterable
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

import pyarrow as pa
import pyarrow.compute as pc
from deltalake import CommitProperties, DeltaTable, Transaction
from deltalake.exceptions import CommitFailedError, DeltaError
from deltalake.transaction import AddAction

from schemas.catalogue import ROW_PARTITIONS
from schemas.errors import IntegrityError, TroubleError
from streamer.sink.appids import AppIds, app_id
from streamer.sink.entries import Exceptional, Identity, table_of
from streamer.sink.settled import Settled
from streamer.sink.staging import fsync, stage

log = logging.getLogger(__name__)

SWAP_TRIES = (
    200  # a conflict costs milliseconds and the winner is another worker's success; an error that stays is no conflict
)
REPEATED = [
    "survey",
    "cluster_id",
    "topic",
    "topic_id",
    "processing_id",
    "slipher_version",
    "kafka_partition",
    "reason",
]


class Fenced(Exception):
    """These partitions have another owner; their part of the batch is not ours to write."""

    def __init__(self, partitions: Iterable[int]) -> None:
        self.partitions = set(partitions)
        super().__init__(sorted(self.partitions))


class Claim:
    """One partition as its owner remembers it."""

    def __init__(self, epoch: int, seq: int, position: int, settled: Settled) -> None:
        self.epoch, self.seq, self.position, self.settled = epoch, seq, position, settled


class Piece(NamedTuple):
    """What one partition brings to a commit: everything in [claim.position, end) is in its rows or exceptions."""

    end: int
    exceptions: list[Exceptional]


class Ledger:
    """Claims partitions and commits what they bring.

    Parameters
    ----------
    root
        Directory of the catalogue.
    identity
        Processing and topic.
    now_ms
        The clock: ms since 1970 UTC.
    point
        Called with the number of each step; tests make it kill, stop or lie.
    """

    def __init__(
        self,
        root: Path,
        identity: Identity,
        now_ms: Callable[[], int],
        point: Callable[[int], None] = lambda step: None,
    ) -> None:
        self.root, self.identity, self.now_ms, self.point = root, identity, now_ms, point
        self.rows, self.exceptions = DeltaTable(str(root / "rows")), DeltaTable(str(root / "exceptions"))
        self.in_rows, self.in_exceptions = (
            AppIds(self.rows, root / "rows"),
            AppIds(self.exceptions, root / "exceptions"),
        )
        self.own: dict[int, Claim] = {}
        self._last_error: Exception | None = None

    # -- the claim -----------------------------------------------------------------------------------------------------

    def claim(self, partitions: list[int], first: Callable[[list[int], bool], dict[int, int]]) -> dict[int, int]:
        """Own `partitions`; returns their positions.

        `first(partitions, known)` says where partitions begin that have no start yet; `known` is True where others of the
        topic have. Where none has, it answers for all partitions of the topic, so that a partition without a start is
        always one that was added later. Raises ``Fenced`` when a rival's claim overtakes this one.
        """
        self.discard(partitions)
        for _ in range(SWAP_TRIES):  # step 1
            self.in_exceptions.refresh()
            self.in_rows.refresh()
            self.point(1)
            mine = {
                p: max(self._get(self.in_exceptions, p, "epoch"), self._get(self.in_rows, p, "epoch")) + 1
                for p in partitions
            }
            if self._swap(self.exceptions, [], {self._app(p, "epoch"): e for p, e in mine.items()}):
                break
        else:
            raise self._stuck("exceptions")
        starts = self._starts(partitions, first)
        self.point(2)
        for _ in range(SWAP_TRIES):  # step 2
            self.in_rows.refresh()
            self.point(3)
            late = [p for p in partitions if self._get(self.in_rows, p, "epoch") > mine[p]]
            if late:
                raise Fenced(late)
            if all(self._get(self.in_rows, p, "epoch") == mine[p] for p in partitions):
                break  # landed, whatever the answer was
            new = {
                self._app(p, "start"): at for p, at in starts.items() if self.in_rows.get(self._app(p, "start")) is None
            }
            self._swap(self.rows, [], {self._app(p, "epoch"): e for p, e in mine.items()} | new)
        else:
            raise self._stuck("rows")
        self.point(4)
        self.in_exceptions.refresh()  # step 3
        self.in_rows.refresh()
        lost = [
            p
            for p in partitions
            if self._get(self.in_exceptions, p, "epoch") != mine[p] or self._get(self.in_rows, p, "epoch") != mine[p]
        ]
        if lost:
            raise Fenced(lost)
        self.point(5)
        positions = {p: self.position(p) for p in partitions}  # step 4
        settled = self._listed(positions)
        for p in partitions:
            self.own[p] = Claim(mine[p], self._get(self.in_exceptions, p, "seq"), positions[p], settled[p])
        return positions

    def position(self, partition: int) -> int:
        """Every offset below it is settled."""
        offset = self.in_rows.get(self._app(partition, "offset"))
        return offset if offset is not None else self._get(self.in_rows, partition, "start")

    def discard(self, partitions: Iterable[int]) -> None:
        """Stop owning `partitions`. Always safe."""
        for p in list(partitions):
            self.own.pop(p, None)

    def _starts(self, partitions: list[int], first: Callable[[list[int], bool], dict[int, int]]) -> dict[int, int]:
        unseen = [p for p in partitions if self.in_rows.get(self._app(p, "start")) is None]
        prefix = f"slipher/{self.identity.processing_id}/{self.identity.topic_id}/"
        known = any(app.startswith(prefix) and app.endswith("/start") for app in self.in_rows.versions)
        return first(unseen, known) if unseen else {}

    def _listed(self, positions: dict[int, int]) -> dict[int, Settled]:
        out = {p: Settled() for p in positions}
        columns = ["kafka_partition", "offset_start", "offset_end", "kafka_row"]
        table = self.exceptions.to_pyarrow_table(
            columns=columns,
            filters=[
                ("processing_id", "=", self.identity.processing_id),
                ("topic_id", "=", self.identity.topic_id),
                ("kafka_partition", "in", list(positions)),
                ("offset_end", ">", min(positions.values())),
            ],
        )
        for p, start, end, row in zip(*(table[c].to_pylist() for c in columns), strict=True):
            if end > positions[p]:
                out[p].add(max(start, positions[p]), end, row)
        return out

    # -- the commit ----------------------------------------------------------------------------------------------------

    def commit(self, pieces: dict[int, Piece], rows: pa.Table) -> tuple[dict[int, int], set[int]]:
        """Settle `pieces`, whose rows stand in `rows`; returns (durable ends, fenced partitions, no longer owned).

        An exception other than a fence drops ownership of all of `pieces`: memory may be behind the tables.
        """
        pieces, fenced = dict(pieces), set[int]()

        def drop(partitions: Iterable[int]) -> None:
            for p in list(partitions):
                pieces.pop(p, None)
                self.own.pop(p, None)
                fenced.add(p)

        try:
            while listed := {p: piece.exceptions for p, piece in pieces.items() if piece.exceptions}:
                try:
                    drop(self._commit_exceptions(listed))
                    break
                except Fenced as fence:
                    drop(fence.partitions)
            self.point(12)
            while pieces:
                try:
                    self._commit_rows(pieces, _without(rows, fenced))
                    break
                except Fenced as fence:
                    drop(fence.partitions)
        except BaseException:  # step 9
            self.discard(pieces)
            raise
        return {p: piece.end for p, piece in pieces.items()}, fenced

    def _commit_exceptions(self, listed: dict[int, list[Exceptional]]) -> list[int]:
        """Step 6; returns partitions that were fenced after it landed: their rows are not ours to write."""
        partitions = list(listed)
        self.point(6)
        table = table_of([e for p in partitions for e in listed[p]], self.identity, self.now_ms())
        add = stage(self.root / "exceptions", self._name(partitions[0]), table, {}, REPEATED)
        ids = {self._app(p, "epoch"): self.own[p].epoch for p in partitions}
        ids |= {self._app(p, "seq"): self.own[p].seq + 1 for p in partitions}
        self.point(7)
        before = self.exceptions.version()
        for _ in range(SWAP_TRIES):
            self.in_exceptions.refresh()
            self.point(8)
            lost = [p for p in partitions if self._get(self.in_exceptions, p, "epoch") != self.own[p].epoch]
            left = [p for p in partitions if p not in lost]
            seen = {self._get(self.in_exceptions, p, "seq") - self.own[p].seq for p in left}
            if seen == {1}:
                break
            if seen - {0}:
                raise IntegrityError(
                    f"{self.root}/exceptions: seq moved by {seen} under an unchanged epoch, partitions {left}."
                )
            if lost:
                raise Fenced(lost)
            self.point(9)
            self._swap(self.exceptions, [add], ids)
            self.point(10)
        else:
            raise self._stuck("exceptions")
        self._fsync_log("exceptions", before, self.exceptions.version())
        for p in left:
            self.own[p].seq += 1
            for e in listed[p]:  # a batch discarded and read again must skip them
                self.own[p].settled.add(e.start, e.end, e.row)
        self.point(11)
        return lost

    def _commit_rows(self, pieces: dict[int, Piece], rows: pa.Table) -> None:
        """Step 7."""
        partitions = [p for p in pieces if pieces[p].end > self.own[p].position]
        if not partitions:
            return
        self.point(13)
        adds = self._stage_rows(rows, self._name(partitions[0]))
        ids = {self._app(p, "offset"): pieces[p].end for p in partitions}
        ids |= {self._app(p, "epoch"): self.own[p].epoch for p in partitions}
        self.point(14)
        before = self.rows.version()
        for _ in range(SWAP_TRIES):
            self.in_rows.refresh()
            self.point(15)
            lost = [p for p in partitions if self._get(self.in_rows, p, "epoch") != self.own[p].epoch]
            left = [p for p in partitions if p not in lost]
            at = {p: self.position(p) for p in left}
            landed = [p for p in left if at[p] == pieces[p].end]
            if left and len(landed) == len(left):
                break
            if landed or any(at[p] != self.own[p].position for p in left):
                raise IntegrityError(f"{self.root}/rows: offsets moved under an unchanged epoch: {at}.")
            if lost:
                raise Fenced(lost)
            self.point(16)
            self._swap(self.rows, adds, ids)
            self.point(17)
        else:
            raise self._stuck("rows")
        self._fsync_log("rows", before, self.rows.version())
        for p in left:
            self.own[p].position = pieces[p].end
            self.own[p].settled.forget_below(pieces[p].end)
        self.point(18)
        if lost:
            raise Fenced(lost)

    # -- small parts ---------------------------------------------------------------------------------------------------

    def _swap(self, table: DeltaTable, adds: list[AddAction], ids: dict[str, int]) -> bool:
        """One commit through `table`, whose version must be that of the comparison. True where it surely landed."""
        by = list(ROW_PARTITIONS) if table is self.rows else []
        transactions = [Transaction(app, version) for app, version in ids.items()]
        try:
            table.create_write_transaction(
                adds,
                "append",
                table.schema(),
                partition_by=by,
                commit_properties=CommitProperties(app_transactions=transactions),
            )
            return True
        except (CommitFailedError, DeltaError, OSError) as error:
            log.debug("commit not confirmed, looking again: %s", error)
            self._last_error = error
            time.sleep(0.002)  # gives the winner's log entry time to be readable; correctness does not rest on it
            return False

    def _stuck(self, name: str) -> TroubleError:
        text = f"{self.root / name} accepts no commit after {SWAP_TRIES} tries: {self._last_error}."
        return TroubleError(f"{text} Nothing is lost: start again when it can be written.")

    def _fsync_log(self, name: str, before: int, after: int) -> None:
        """Make the log entries of (before, after] survive a power cut, others' too: a truncated one breaks the table."""
        folder = self.root / name / "_delta_log"
        for version in range(before + 1, after + 1):
            with suppress(FileNotFoundError):  # cleaned up: a checkpoint holds it
                fsync(folder / f"{version:020d}.json")
        fsync(folder)

    def _stage_rows(self, rows: pa.Table, name: str) -> list[AddAction]:
        """One file per (night, model)."""
        adds = []
        pairs = _distinct(rows)
        for night, model in pairs:
            part = rows  # the usual case, and PDFs are dear to copy
            if len(pairs) > 1:
                part = rows.filter(pc.and_(pc.equal(rows["night"], night), pc.equal(rows["model"], model)))
            adds.append(
                stage(
                    self.root / "rows",
                    name,
                    part.drop_columns(list(ROW_PARTITIONS)),
                    {"night": night, "model": model},
                    REPEATED,
                )
            )
        return adds

    def _app(self, partition: int, what: str) -> str:
        return app_id(self.identity.processing_id, self.identity.topic_id, partition, what)

    def _get(self, ids: AppIds, partition: int, what: str) -> int:
        return ids.get(self._app(partition, what)) or 0

    def _name(self, partition: int) -> str:
        who = self.identity
        return f"{who.processing_id}-{who.topic_id}-p{partition}-e{self.own[partition].epoch}-{uuid.uuid4().hex}"


def _without(rows: pa.Table, partitions: set[int]) -> pa.Table:
    if not partitions:
        return rows
    return rows.filter(pc.invert(pc.is_in(rows["kafka_partition"], pa.array(sorted(partitions), pa.int32()))))


def _distinct(rows: pa.Table) -> list[tuple[str, str]]:
    keys = rows.select(list(ROW_PARTITIONS)).group_by(list(ROW_PARTITIONS)).aggregate([])
    return sorted(zip(keys["night"].to_pylist(), keys["model"].to_pylist(), strict=True))
