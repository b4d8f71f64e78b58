"""The sink: collects what workers bring, and commits it through the ledger."""

import logging
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Protocol

import pyarrow as pa
import pyarrow.compute as pc

from consumers.worker import Output
from schemas.batch import Messages
from schemas.catalogue import ROWS
from streamer.sink.account import assert_settled, exceptions_of, without_settled
from streamer.sink.claim import Region
from streamer.sink.entries import Exceptional, Identity
from streamer.sink.ledger import Ledger, Piece

log = logging.getLogger(__name__)

ENTRY_BYTES = 512  # that an entry of the exceptions takes in memory beside its payload


class Sink(Protocol):
    """Where rows and offsets become durable together. All calls come from one thread.

    The caller may not assume that what it wrote is durable before ``commit`` says so, nor that it still owns a partition:
    ``commit`` says which are fenced.
    """

    def claim(self, partitions: list[int], first: Callable[[list[int], bool], dict[int, int]]) -> dict[int, int]:
        """Own `partitions`; returns the next offset of each."""
        ...

    def write(self, messages: Messages, output: Output) -> None:
        """Take in what a worker made of `messages`, of owned partitions, in offset order."""
        ...

    def commit(self) -> tuple[dict[int, int], set[int]]:
        """Make it durable; returns (durable next offsets, fenced partitions)."""
        ...

    def discard(self, partitions: list[int]) -> None:
        """Forget what is not durable of `partitions`, and stop owning them."""
        ...


class DeltaSink:
    """A ``Sink`` over the Delta tables of a catalogue; parameters as of ``Ledger``."""

    def __init__(
        self,
        root: Path,
        identity: Identity,
        now_ms: Callable[[], int],
        point: Callable[[int], None] = lambda step: None,
        regions: Mapping[int, Region] | None = None,
    ) -> None:
        self.ledger = Ledger(root, identity, now_ms, point, regions)
        self._end: dict[int, int] = {}
        self._listed: dict[int, list[Exceptional]] = {}
        self._rows: list[pa.Table] = []
        self.pending_rows = 0
        self.pending_offsets = 0
        self.pending_bytes = 0  # of exceptions, about

    @property
    def owned(self) -> set[int]:
        """Partitions claimed and not yet discarded."""
        return set(self.ledger.own)

    def claim(self, partitions: list[int], first: Callable[[list[int], bool], dict[int, int]]) -> dict[int, int]:
        """Own `partitions`, forgetting what was not durable of them."""
        self.discard(partitions)
        positions = self.ledger.claim(partitions, first)
        for p, position in positions.items():
            self._end[p], self._listed[p] = position, []
        return positions

    def write(self, messages: Messages, output: Output) -> None:
        """Take in the output of a batch; rows of partitions not owned are dropped, they will be read again by their owner."""
        rows = output.rows
        touched = set(messages.ends) | {p for p, _, _ in messages.gaps}
        strangers = touched - self.owned
        if strangers and len(rows):
            rows = rows.filter(pc.invert(pc.is_in(rows["kafka_partition"], pa.array(sorted(strangers), pa.int32()))))
        for p in sorted(touched & self.owned):
            settled = self.ledger.own[p].settled
            end, listed = exceptions_of(p, self._end[p], messages, output, settled)
            rows = without_settled(rows, p, settled)
            self._listed[p].extend(listed)
            self.pending_bytes += sum(ENTRY_BYTES + len(e.payload or b"") for e in listed)
            self.pending_offsets += end - self._end[p]
            self._end[p] = end
        if len(rows):
            self._rows.append(rows)
            self.pending_rows += len(rows)

    def commit(self) -> tuple[dict[int, int], set[int]]:
        """Assert that every offset is accounted for, then make rows, exceptions and offsets durable.

        Whatever is raised: partitions that brought something are owned no longer, and only a claim says what became durable.
        """
        pieces = {
            p: Piece(self._end[p], self._listed[p]) for p in self.owned if self._end[p] > self.ledger.own[p].position
        }
        rows = pa.concat_tables(self._rows) if self._rows else ROWS.empty_table()
        self._forget()
        try:
            self._assert_settled(pieces, rows)
            durable, fenced = self.ledger.commit(pieces, rows)
        except BaseException:
            self.discard(list(pieces))
            raise
        for p in fenced:
            self._drop(p)
        for p in self.owned:
            self._end[p], self._listed[p] = self.ledger.own[p].position, []
        return durable, fenced

    def discard(self, partitions: list[int]) -> None:
        """Forget and disown. Always safe: the next owner reads again from the durable offset."""
        gone = {p for p in partitions if p in self._end}
        if gone and self._rows:
            keep = pa.array(sorted(gone), pa.int32())
            self._rows = [r.filter(pc.invert(pc.is_in(r["kafka_partition"], keep))) for r in self._rows]
            self.pending_rows = sum(len(r) for r in self._rows)
        self.ledger.discard(partitions)
        for p in gone:
            self._drop(p)

    def _assert_settled(self, pieces: dict[int, Piece], rows: pa.Table) -> None:
        partition = rows["kafka_partition"].to_numpy()
        offset = rows["kafka_offset"].to_numpy()
        for p, piece in pieces.items():
            claim = self.ledger.own[p]
            mine = offset[partition == p]
            assert_settled(p, claim.position, piece.end, mine, piece.exceptions, claim.settled)

    def _forget(self) -> None:
        self._rows, self.pending_rows, self.pending_offsets, self.pending_bytes = [], 0, 0, 0

    def _drop(self, partition: int) -> None:
        self._end.pop(partition, None)
        self._listed.pop(partition, None)
