"""Judges a catalogue by what was produced: set equality of identities, nothing else."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow.compute as pc
from deltalake import DeltaTable

from benchmarks.soak_feed import Outcome, Read
from benchmarks.soak_messages import Form
from schemas.catalogue import REST

Keys = npt.NDArray[np.int64]  # partition, offset and row of an identity in one number
_ROW_BITS, _OFFSET_BITS = 12, 40
Range = tuple[int, int, int]  # partition, first offset, end


class Verdict(NamedTuple):
    """What is wrong, in numbers and in sentences.

    Attributes
    ----------
    lost
        Identities that were produced, and are neither rows nor listed as they should be.
    doubled
        Identities that stand more than once, or that nobody produced.
    rows, exceptions
        What the tables hold of a processing.
    lines
        The first few of each.
    """

    lost: int
    doubled: int
    rows: int
    exceptions: int
    lines: list[str]

    def __add__(self, other: "Verdict") -> "Verdict":  # type: ignore[override]
        """Both together."""
        return Verdict(
            self.lost + other.lost,
            self.doubled + other.doubled,
            self.rows + other.rows,
            self.exceptions + other.exceptions,
            self.lines + other.lines,
        )


def keys(partition: npt.ArrayLike, offset: npt.ArrayLike, row: npt.ArrayLike) -> Keys:
    """Identities as numbers; `row` is -1 for a whole message."""
    part, at = np.asarray(partition, np.int64), np.asarray(offset, np.int64)
    return (part << (_ROW_BITS + _OFFSET_BITS)) | (at << _ROW_BITS) | (np.asarray(row, np.int64) + 1)


def due(read: Mapping[int, Read], forms: Sequence[Form]) -> tuple[Keys, Keys]:
    """(rows, listed) that the messages must become."""
    counts = np.array([f.rows for f in forms])
    bad = np.array([f.bad for f in forms])
    rows, listed = [], []
    for p, seen in read.items():
        count = counts[seen.form]
        first = np.repeat(np.cumsum(count) - count, count)
        row = np.arange(count.sum()) - first
        wrong = np.repeat(bad[seen.form], count) == row
        rows.append(keys(p, np.repeat(seen.offset, count), row)[~wrong])
        listed.append(keys(p, np.repeat(seen.offset, count), row)[wrong])
        listed.append(keys(p, seen.offset[count == 0], REST))
    return np.concatenate(rows), np.concatenate(listed)


def judge(
    catalog: Path,
    processing_id: str,
    read: Mapping[int, Read],
    forms: Sequence[Form],
    ends: Mapping[int, int],
    deleted: Sequence[Range] = (),
) -> Verdict:
    """Compare what the tables hold of `processing_id` with what was `read` below `ends`.

    Offsets in `deleted` may have expired unread: where the ledger says that they did, they need be nothing else.
    """
    held = DeltaTable(str(catalog / "rows")).to_pyarrow_dataset()
    mine = held.to_table(
        columns=["kafka_partition", "kafka_offset", "kafka_row"], filter=pc.field("processing_id") == processing_id
    )
    rows = keys(mine["kafka_partition"], mine["kafka_offset"], mine["kafka_row"])
    ledger = DeltaTable(str(catalog / "exceptions")).to_pyarrow_table()
    ledger = ledger.filter(pc.equal(ledger["processing_id"], processing_id))
    reason = np.array(ledger["reason"].to_pylist(), object)
    listed = _entries(ledger, ~np.isin(reason, ["NO_MESSAGE", "RETENTION_GAP"]))
    nothing = _entries(ledger, reason == "NO_MESSAGE")
    expired = _entries(ledger, reason == "RETENTION_GAP")

    lines: list[str] = []
    lost = doubled = 0

    def tell(what: str, wrong: Keys) -> int:
        lines.extend(f"{what}: {_named(key)}" for key in wrong[:5].tolist())
        return len(wrong)

    gone = np.concatenate([np.empty(0, np.int64), *(_whole(*one) for one in deleted)])
    doubled += tell("said to have expired, but was not deleted", np.setdiff1d(expired, gone))
    all_rows, all_listed = due(read, forms)
    want_rows, want_listed = _less(all_rows, expired), _less(all_listed, expired)
    # A row may have been listed before the rest of its message expired.
    may_be_listed = np.union1d(want_listed, all_listed[_row(all_listed) >= 0])
    held_offsets = np.concatenate([keys(p, seen.offset, REST) for p, seen in read.items()])
    everything = np.concatenate([_whole(p, 0, end) for p, end in ends.items()])
    want_nothing = np.setdiff1d(np.setdiff1d(everything, held_offsets), expired)
    for name, have, want, allowed in (
        ("row", rows, want_rows, want_rows),
        ("refusal", listed, want_listed, may_be_listed),
        ("no message", nothing, want_nothing, want_nothing),
    ):
        lost += tell(f"{name} lost", np.setdiff1d(want, have))
        unique, times = np.unique(have, return_counts=True)
        doubled += tell(f"{name} doubled", unique[times > 1])
        doubled += tell(f"{name} of nothing that was produced", np.setdiff1d(unique, allowed))
    twice = np.unique(expired, return_counts=True)[1] > 1
    doubled += int(twice.sum())
    return Verdict(lost, doubled, len(rows), len(ledger), lines)


def produced(outcome: Outcome, read: Mapping[int, Read]) -> list[str]:
    """Whether Kafka itself kept its word: what it acknowledged can be read, what was aborted cannot."""
    numbers = np.concatenate([seen.number for seen in read.values()]) if read else np.empty(0, np.uint64)
    wrong = []
    if len(numbers) != len(np.unique(numbers)):
        wrong.append(f"Kafka holds {len(numbers) - len(np.unique(numbers))} messages twice")
    if len(gone := np.setdiff1d(outcome.acknowledged, numbers)):
        wrong.append(f"Kafka lost {len(gone)} messages that it had acknowledged, number {gone[0]} first")
    if len(back := np.intersect1d(outcome.aborted, numbers)):
        wrong.append(f"Kafka shows {len(back)} messages of aborted transactions")
    return wrong


def _entries(ledger: "object", which: npt.NDArray[np.bool_]) -> Keys:
    """Identities of the entries chosen, ranges spelt out."""
    import pyarrow as pa

    assert isinstance(ledger, pa.Table)
    some = ledger.filter(pa.array(which, pa.bool_()))
    start, end = some["offset_start"].to_numpy(), some["offset_end"].to_numpy()
    count = end - start
    offset = np.repeat(start, count) + np.arange(count.sum()) - np.repeat(np.cumsum(count) - count, count)
    return keys(
        np.repeat(some["kafka_partition"].to_numpy(), count), offset, np.repeat(some["kafka_row"].to_numpy(), count)
    )


def _whole(partition: int, first: int, end: int) -> Keys:
    return keys(partition, np.arange(first, end), REST)


def _less(have: Keys, expired: Keys) -> Keys:
    """`have` without what is of an expired offset."""
    return have[~np.isin(have >> _ROW_BITS, expired >> _ROW_BITS)]


def _row(have: Keys) -> Keys:
    return (have & ((1 << _ROW_BITS) - 1)) - 1


def _named(key: int) -> str:
    row = int(_row(np.array(key)))
    at = f"partition {key >> (_ROW_BITS + _OFFSET_BITS)} offset {(key >> _ROW_BITS) & ((1 << _OFFSET_BITS) - 1)}"
    return f"{at}, whole" if row < 0 else f"{at} row {row}"
