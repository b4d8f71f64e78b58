"""Proof, from the tables alone, that every offset from start to position is there exactly once."""

import itertools
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from deltalake import DeltaTable

from schemas.batch import Int64
from schemas.catalogue import REST
from streamer.sink.appids import read_app_ids


class Report(NamedTuple):
    """What a verification found.

    Attributes
    ----------
    lost
        Sentences, one per stretch of offsets that is neither rows nor listed.
    doubled
        Sentences, one per identity that stands more than once, or where none may stand.
    offsets, rows, exceptions
        How many were looked at.
    """

    lost: list[str]
    doubled: list[str]
    offsets: int
    rows: int
    exceptions: int

    @property
    def ok(self) -> bool:
        """Nothing lost, nothing doubled."""
        return not self.lost and not self.doubled

    def lines(self) -> list[str]:
        """The report in sentences."""
        head = f"{self.offsets:,} offsets: {self.rows:,} rows, {self.exceptions:,} entries in the exceptions ledger."
        verdict = (
            "Every offset is accounted for exactly once."
            if self.ok
            else f"{len(self.lost)} lost, {len(self.doubled)} doubled."
        )
        return [head, *self.lost[:50], *self.doubled[:50], verdict]


def verify(root: str | Path) -> Report:
    """Check every (processing, topic, partition) that ever claimed in the catalogue at `root`."""
    root = Path(root)
    ids = read_app_ids(root / "rows")
    rows = DeltaTable(str(root / "rows")).to_pyarrow_dataset()
    ledger = DeltaTable(str(root / "exceptions")).to_pyarrow_table(
        columns=["processing_id", "topic_id", "kafka_partition", "offset_start", "offset_end", "kafka_row"]
    )
    lost: list[str] = []
    doubled: list[str] = []
    offsets = 0
    claimed = sorted(
        {tuple(app.split("/")[1:4]) for app in ids if app.startswith("slipher/") and app.endswith("/start")}
    )
    seen_rows = 0
    for processing_id, topic_id in sorted({c[:2] for c in claimed}):
        mine = rows.to_table(
            columns=["kafka_partition", "kafka_offset", "kafka_row"],
            filter=(pc.field("processing_id") == processing_id) & (pc.field("topic_id") == topic_id),
        )
        entries = ledger.filter(
            pc.and_(pc.equal(ledger["processing_id"], processing_id), pc.equal(ledger["topic_id"], topic_id))
        )
        seen_rows += len(mine)
        for partition in sorted(int(c[2]) for c in claimed if c[:2] == (processing_id, topic_id)):
            prefix = f"slipher/{processing_id}/{topic_id}/{partition}"
            start = ids[f"{prefix}/start"]
            end = ids.get(f"{prefix}/offset", start)
            offsets += end - start
            where = f"processing {processing_id} topic {topic_id} partition {partition}"
            missing, twice = _check(start, end, _of(mine, partition), _of(entries, partition))
            lost += [f"{where}: {text}" for text in missing]
            doubled += [f"{where}: {text}" for text in twice]
    total = rows.count_rows()
    if total != seen_rows:
        doubled.append(f"{total - seen_rows} rows belong to no claim")
    return Report(lost, doubled, offsets, total, len(ledger))


def _of(table: pa.Table, partition: int) -> pa.Table:
    return table.filter(pc.equal(table["kafka_partition"], partition))


def _check(start: int, end: int, rows: pa.Table, entries: pa.Table) -> tuple[list[str], list[str]]:
    """One partition: (lost, doubled) sentences."""
    lost: list[str] = []
    doubled: list[str] = []
    offset, row = rows["kafka_offset"].to_numpy(), rows["kafka_row"].to_numpy().astype(np.int64)
    first, last = entries["offset_start"].to_numpy(), entries["offset_end"].to_numpy()
    which = entries["kafka_row"].to_numpy()
    whole = which == REST
    single_offset, single_row = first[~whole], which[~whole].astype(np.int64)

    identities = np.stack([np.concatenate([offset, single_offset]), np.concatenate([row, single_row])], 1)
    if len(identities):
        order = np.lexsort((identities[:, 1], identities[:, 0]))
        ranked = identities[order]
        again = np.flatnonzero((np.diff(ranked, axis=0) == 0).all(axis=1))
        doubled += [f"offset {o} row {r} stands more than once" for o, r in ranked[again][:50].tolist()]
    strays = np.flatnonzero((offset < start) | (offset >= end))[:50]
    doubled += [f"offset {offset[k]} row {row[k]} lies outside [{start}, {end})" for k in strays]

    ranges = sorted(zip(first[whole].tolist(), last[whole].tolist(), strict=True))
    for (_, before), (after, _) in itertools.pairwise(ranges):
        if after < before:
            doubled.append(f"offsets {after} to {before - 1} are listed more than once")
    covered: Int64 = np.unique(identities[:, 0]) if len(identities) else np.empty(0, np.int64)
    at = start
    for a, b in [*ranges, (end, end)]:
        lost += _missing(at, min(a, end), covered)
        at = max(at, b)
    for a, b in ranges:
        low, high = np.searchsorted(np.sort(offset), [a, b])
        if high > low:
            doubled.append(f"offsets {a} to {b - 1} are listed, and {high - low} rows stand there")
    return lost, doubled


def _missing(at: int, until: int, covered: Int64) -> list[str]:
    if until <= at:
        return []
    held = covered[np.searchsorted(covered, at) : np.searchsorted(covered, until)]
    edges = np.concatenate([[at - 1], held, [until]])
    wide = np.flatnonzero(np.diff(edges) > 1)
    return [f"offsets {int(edges[k]) + 1} to {int(edges[k + 1]) - 1} are neither rows nor listed" for k in wide[:50]]
