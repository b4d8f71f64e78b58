"""The commit protocol: rows and exceptions land once, whoever crashes, sleeps or comes back from the dead.

Two Delta tables: R, the ``rows``, and E, the ``exceptions``. A worker owns partitions by *epoch*, a number that only rises.
Application ids (streamer.sink.appids), per processing, topic and partition:

    R: offset (every offset below it is settled), epoch, start (where the first claim began)
    E: epoch, seq (number of commits of exceptions under this id)

A commit is a compare-and-swap: delta-rs refuses it when a transaction of one of its ids landed after the version of the
handle it goes through, and never compares the numbers. So "refresh, compare with memory, commit, all through one handle"
is the whole fence.

Claim (claim.py)                                                        invariant kept
 1. refresh both; new epoch = max(E, R) + 1; commit it in E             no older owner adds exceptions from here
 2. commit it in R, unless R's is higher already: then give up          no older owner adds rows from here
 3. refresh both; both epochs must be ours                              one owner, also where claims cross
 4. read the position from R, seq and the entries ahead of it from E    what E lists is settled for ever
Commit (here)
 5. stage the files, fsync
 6. exceptions first: refresh E, compare epochs, commit seq + 1.        E never loses an entry that R's offset relies on
    Ignore the answer, refresh and look: seq + 1 under our epoch = landed
 7. rows likewise with the new offsets: offset = end under our epoch    rows and offset move together
 8. only then is anybody told
 9. any other exception drops ownership: only a claim mends memory      memory is never ahead of the tables
10. a writer never unlinks what it staged                               it may have landed before the fence

Replays and retries go the same way in a lane of their own, with numbers of their own: ``replay-epoch`` and so on. How the
lanes keep apart is part of the claim.
"""

from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import NamedTuple

import pyarrow as pa
import pyarrow.compute as pc
from deltalake.transaction import AddAction

from schemas.catalogue import ROW_PARTITIONS
from schemas.errors import IntegrityError
from streamer.metrics.names import Stage
from streamer.sink.claim import Claims, Region
from streamer.sink.entries import Exceptional, Identity, table_of
from streamer.sink.staging import stage
from streamer.sink.tables import LIVE, REPLAY, SWAP_TRIES, Fenced

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


class Piece(NamedTuple):
    """What one partition brings to a commit: everything in [claim.position, end) is in its rows or exceptions."""

    end: int
    exceptions: list[Exceptional]


class Ledger(Claims):
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
    regions
        What a replay or a retry may write, by partition; None = a live worker.
    """

    def __init__(
        self,
        root: Path,
        identity: Identity,
        now_ms: Callable[[], int],
        point: Callable[[int], None] = lambda step: None,
        regions: Mapping[int, Region] | None = None,
    ) -> None:
        super().__init__(root, identity, LIVE if regions is None else REPLAY, now_ms, point)
        self.regions = regions

    def commit(self, pieces: dict[int, Piece], rows: pa.Table) -> tuple[dict[int, int], set[int]]:
        """Settle `pieces`, whose rows stand in `rows`; returns (durable ends, fenced partitions, no longer owned).

        An exception other than a fence drops ownership of all of `pieces`: memory may be behind the tables.
        """
        pieces, fenced = dict(pieces), set[int]()
        for p, piece in pieces.items():
            end = self.own[p].end
            if end is not None and piece.end > end:
                raise IntegrityError(
                    f"partition {p}: offset {piece.end - 1} is beyond what is replayed, which ends at {end}."
                )

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
        with self.observer.timed(Stage.PARQUET):
            add = stage(self.root / "exceptions", self._name(partitions[0]), table, {}, REPEATED)
        ids = {self._app(p, "epoch"): self.own[p].epoch for p in partitions}
        ids |= {self._app(p, "seq"): self.own[p].seq + 1 for p in partitions}
        self.point(7)
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
        self._fsync_log("exceptions", self.exceptions.version())
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
        self._fsync_log("rows", self.rows.version())
        for p in left:
            self.own[p].position = pieces[p].end
            self.own[p].settled.forget_below(pieces[p].end)
        self.point(18)
        if lost:
            raise Fenced(lost)

    def _stage_rows(self, rows: pa.Table, name: str) -> list[AddAction]:
        """One file per (night, model)."""
        adds = []
        pairs = _distinct(rows)
        for night, model in pairs:
            part = rows  # the usual case, and PDFs are dear to copy
            if len(pairs) > 1:
                part = rows.filter(pc.and_(pc.equal(rows["night"], night), pc.equal(rows["model"], model)))
            part, values = part.drop_columns(list(ROW_PARTITIONS)), {"night": night, "model": model}
            with self.observer.timed(Stage.PARQUET):
                adds.append(stage(self.root / "rows", name, part, values, REPEATED))
        return adds


def _without(rows: pa.Table, partitions: set[int]) -> pa.Table:
    if not partitions:
        return rows
    return rows.filter(pc.invert(pc.is_in(rows["kafka_partition"], pa.array(sorted(partitions), pa.int32()))))


def _distinct(rows: pa.Table) -> list[tuple[str, str]]:
    keys = rows.select(list(ROW_PARTITIONS)).group_by(list(ROW_PARTITIONS)).aggregate([])
    return sorted(zip(keys["night"].to_pylist(), keys["model"].to_pylist(), strict=True))
