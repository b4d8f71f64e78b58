"""Proof, from the tables alone, that every offset from start to position is there exactly once."""

from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.dataset as ds
from deltalake import DeltaTable

from streamer.sink.appids import AppIds
from streamer.sink.datasets import dataset, whole
from streamer.sink.operations import recorded
from streamer.sink.proof import Story, prove
from streamer.sink.store import place
from streamer.sink.torn import refuse_torn

WHOSE = ("processing_id", "topic_id")
ROWS_AT_ONCE = 5_000_000  # whose identities are in memory together, unless a single partition has more


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
    """Check every (processing, topic, partition) that was ever claimed in the catalogue at `root`, by whatever lane.

    It may be called beside writers: rows and positions are those of one version of R, what E lists and which regions began is
    read after them, and which regions are done before.

    Raises
    ------
    IntegrityError
        The last entry of a table's log is torn, as by a power cut.
    """
    root = place(root)
    refuse_torn(root, ["rows", "exceptions"])
    finished = recorded(root).filter(pc.field("state") == "done")
    table = DeltaTable(str(root / "rows"))
    in_rows = AppIds(table, root / "rows")
    in_rows.refresh()
    ids, rows = in_rows.versions, dataset(table, root / "rows")
    ledger = whole(
        DeltaTable(str(root / "exceptions")),
        root / "exceptions",
        columns=[*WHOSE, "kafka_partition", "offset_start", "offset_end", "kafka_row", "reason"],
    )
    operations = pa.concat_tables([finished, recorded(root).filter(pc.field("state") == "begun")])
    operations = operations.filter(pc.field("kind") != "retire")  # changes no row
    claimed = {tuple(app.split("/")[1:4]) for app in ids if app.startswith("slipher/") and app.endswith("/start")}
    claimed |= set(zip(*(_texts(operations, key) for key in (*WHOSE, "kafka_partition")), strict=True))
    lost: list[str] = []
    doubled: list[str] = []
    offsets = known_rows = 0
    total = rows.count_rows()
    for processing_id, topic_id in sorted({c[:2] for c in claimed}):
        ours = (pc.field("processing_id") == processing_id) & (pc.field("topic_id") == topic_id)
        entries, done = ledger.filter(ours), operations.filter(ours)
        partitions = sorted(int(c[2]) for c in claimed if c[:2] == (processing_id, topic_id))
        for partition, standing in _by_partition(rows, ours, partitions, total):
            here = pc.field("kafka_partition") == partition
            story = _story(ids, f"slipher/{processing_id}/{topic_id}/{partition}", done.filter(here))
            found = prove(story, standing, entries.filter(here))
            known_rows += len(standing)
            offsets += sum(b - a for a, b in story.required)
            where = f"processing {processing_id} topic {topic_id} partition {partition}"
            lost += [f"{where}: {text}" for text in found.lost]
            doubled += [f"{where}: {text}" for text in found.doubled]
    if total != known_rows:
        doubled.append(f"{total - known_rows} rows belong to no claim")
    return Report(lost, doubled, offsets, total, len(ledger))


def _by_partition(
    rows: ds.Dataset, ours: pc.Expression, partitions: list[int], total: int
) -> Iterator[tuple[int, pa.Table]]:
    """Each of `partitions` with the offsets and rows in message of its rows, read some partitions at a time."""
    counts = dict.fromkeys(partitions, 0)
    if total > ROWS_AT_ONCE:  # else all are read at once, whatever they have
        for batch in rows.to_batches(columns=["kafka_partition"], filter=ours):
            for partition, count in zip(*np.unique(batch["kafka_partition"], return_counts=True), strict=True):
                counts[int(partition)] = counts.get(int(partition), 0) + int(count)
    some: list[int] = []
    for k, partition in enumerate(partitions):
        some.append(partition)
        if k + 1 < len(partitions) and sum(counts[p] for p in [*some, partitions[k + 1]]) <= ROWS_AT_ONCE:
            continue
        those = ours & pc.field("kafka_partition").isin(some)
        mine = rows.to_table(columns=["kafka_partition", "kafka_offset", "kafka_row"], filter=those)
        for one in some:
            yield one, mine.filter(pc.field("kafka_partition") == one)
        some = []


def _story(ids: dict[str, int], prefix: str, operations: pa.Table) -> Story:
    start = ids.get(f"{prefix}/start")
    live = None if start is None else (start, ids.get(f"{prefix}/offset", start))
    found: dict[tuple[str, str], list[tuple[int, int]]] = {}
    columns = (operations[key].to_pylist() for key in ("kind", "state", "offset_start", "offset_end"))
    for kind, state, first, last in zip(*columns, strict=True):
        found.setdefault((kind, state), []).append((first, last))
    replays = found.get(("replay", "done"), []), found.get(("replay", "begun"), [])
    return Story(live, *replays, found.get(("retry", "begun"), []) + found.get(("retry", "done"), []))


def _texts(table: pa.Table, key: str) -> list[str]:
    return [str(value) for value in table[key].to_pylist()]
