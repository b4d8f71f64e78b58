"""Proof, from the tables alone, that every offset from start to position is there exactly once."""

from pathlib import Path
from typing import NamedTuple

import pyarrow as pa
import pyarrow.compute as pc
from deltalake import DeltaTable

from streamer.sink.appids import AppIds
from streamer.sink.datasets import dataset
from streamer.sink.operations import recorded
from streamer.sink.proof import Story, prove
from streamer.sink.store import place
from streamer.sink.torn import refuse_torn

WHOSE = ("processing_id", "topic_id")


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
    ledger = DeltaTable(str(root / "exceptions")).to_pyarrow_table(
        columns=[*WHOSE, "kafka_partition", "offset_start", "offset_end", "kafka_row", "reason"]
    )
    operations = pa.concat_tables([finished, recorded(root).filter(pc.field("state") == "begun")])
    claimed = {tuple(app.split("/")[1:4]) for app in ids if app.startswith("slipher/") and app.endswith("/start")}
    claimed |= set(zip(*(_texts(operations, key) for key in (*WHOSE, "kafka_partition")), strict=True))
    lost: list[str] = []
    doubled: list[str] = []
    offsets = known_rows = 0
    for processing_id, topic_id in sorted({c[:2] for c in claimed}):
        ours = (pc.field("processing_id") == processing_id) & (pc.field("topic_id") == topic_id)
        mine = rows.to_table(columns=["kafka_partition", "kafka_offset", "kafka_row"], filter=ours)
        entries, done = ledger.filter(ours), operations.filter(ours)
        for partition in sorted(int(c[2]) for c in claimed if c[:2] == (processing_id, topic_id)):
            here = pc.field("kafka_partition") == partition
            story = _story(ids, f"slipher/{processing_id}/{topic_id}/{partition}", done.filter(here))
            standing = mine.filter(here)
            found = prove(story, standing, entries.filter(here))
            known_rows += len(standing)
            offsets += sum(b - a for a, b in story.required)
            where = f"processing {processing_id} topic {topic_id} partition {partition}"
            lost += [f"{where}: {text}" for text in found.lost]
            doubled += [f"{where}: {text}" for text in found.doubled]
    total = rows.count_rows()
    if total != known_rows:
        doubled.append(f"{total - known_rows} rows belong to no claim")
    return Report(lost, doubled, offsets, total, len(ledger))


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
