"""The proof for one partition: what must be settled is, once; and what stands, stands where something may."""

from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from schemas.batch import Int64
from schemas.catalogue import REST
from streamer.sink.settled import Settled

SAID = 50  # sentences about one partition and kind; more help nobody
WITHDRAWN = "WITHDRAWN"  # reason of rows that a person took back

Ranges = list[tuple[int, int]]


class Story(NamedTuple):
    """What the numbers in the logs and the operations table say of one partition: ranges [start, end) of offsets.

    Attributes
    ----------
    live
        From the first claim's start to the position; None where no live worker ever claimed.
    done, begun
        Replays that ended, and those of which nobody knows how far they came.
    retried
        Refused offsets that a retry may have filled.
    """

    live: tuple[int, int] | None
    done: Ranges
    begun: Ranges
    retried: Ranges

    @property
    def required(self) -> Ranges:
        """Where every offset must be settled."""
        return _union([*([self.live] if self.live else []), *self.done]).ranges


class Found(NamedTuple):
    """Sentences: what is lost, and what is doubled or stands where nothing may."""

    lost: list[str]
    doubled: list[str]


def prove(story: Story, rows: pa.Table, entries: pa.Table) -> Found:
    """Check one partition of one processing.

    Parameters
    ----------
    story
        What is to hold.
    rows
        kafka_offset and kafka_row of its rows.
    entries
        offset_start, offset_end, kafka_row and reason of its exceptions.
    """
    offset, row = rows["kafka_offset"].to_numpy(), rows["kafka_row"].to_numpy().astype(np.int64)
    taken = np.array([reason == WITHDRAWN for reason in entries["reason"].to_pylist()], bool)
    whole = entries["kafka_row"].to_numpy() == REST
    first, last = entries["offset_start"].to_numpy(), entries["offset_end"].to_numpy()
    which = entries["kafka_row"].to_numpy().astype(np.int64)
    retried = _union(story.retried)

    doubled = _more_than_once(offset, row, "stands more than once")
    free = whole & ~taken
    doubled += _overlaps(list(zip(first[free].tolist(), last[free].tolist(), strict=True)))
    singly = ~whole & ~taken
    doubled += _more_than_once(first[singly], which[singly], "is listed more than once")

    # A row and an entry for it: right where a retry wrote the row, and half a withdrawal where the entry takes it back.
    again = retried.whole(offset)
    refused = _union(list(zip(first[free].tolist(), last[free].tolist(), strict=True))).whole(offset)
    refused |= _among(offset, row, first[singly], which[singly])
    doubled += [
        f"offset {offset[k]} row {row[k]} stands, and is listed" for k in np.flatnonzero(refused & ~again)[:SAID]
    ]
    gone = whole & taken
    back = _union(list(zip(first[gone].tolist(), last[gone].tolist(), strict=True))).whole(offset)
    back |= _among(offset, row, first[~whole & taken], which[~whole & taken])
    if back.any():
        at = offset[back]
        doubled.append(
            f"{back.sum()} rows of offsets {at.min()} to {at.max()} are withdrawn and still stand: "
            f"an unfinished withdrawal, run it again"
        )

    required = story.required
    allowed = _union([*required, *story.begun, *story.retried]).whole(offset)
    where = " and ".join(f"[{a}, {b})" for a, b in _union([*required, *story.begun]).ranges[:3]) or "any range"
    strays = np.flatnonzero(~allowed)[:SAID]
    doubled += [f"offset {offset[k]} row {row[k]} lies outside {where}" for k in strays]

    listed = _union(list(zip(first[whole].tolist(), last[whole].tolist(), strict=True)))
    covered = np.unique(np.concatenate([offset, first[~whole]]))
    holes = [hole for a, b in required for hole in listed.holes(a, b)]
    lost = [text for a, b in holes for text in _missing(a, b, covered)]
    return Found(lost[:SAID], doubled)


def _union(ranges: Ranges) -> Settled:
    out = Settled()
    for start, end in ranges:
        out.add(start, end, REST)
    return out


def _more_than_once(offset: Int64, row: Int64, what: str) -> list[str]:
    order = np.lexsort((row, offset))
    ranked = np.stack([offset[order], row[order]], 1)
    again = np.flatnonzero((np.diff(ranked, axis=0) == 0).all(axis=1))
    return [f"offset {o} row {r} {what}" for o, r in ranked[again][:SAID].tolist()]


def _overlaps(ranges: Ranges) -> list[str]:
    out, reach = [], -1
    for start, end in sorted(ranges):
        if start < reach:
            out.append(f"offsets {start} to {min(reach, end) - 1} are listed more than once")
        reach = max(reach, end)
    return out[:SAID]


def _among(offset: Int64, row: Int64, listed_offset: Int64, listed_row: Int64) -> npt.NDArray[np.bool_]:
    """For each (offset, row): is it one of those listed?"""
    out = np.zeros(len(offset), bool)
    if len(listed_offset):
        listed = set(zip(listed_offset.tolist(), listed_row.tolist(), strict=True))
        for k in np.flatnonzero(np.isin(offset, listed_offset)):
            out[k] = (int(offset[k]), int(row[k])) in listed
    return out


def _missing(at: int, until: int, covered: Int64) -> list[str]:
    held = covered[np.searchsorted(covered, at) : np.searchsorted(covered, until)]
    edges = np.concatenate([[at - 1], held, [until]])
    wide = np.flatnonzero(np.diff(edges) > 1)
    return [f"offsets {int(edges[k]) + 1} to {int(edges[k + 1]) - 1} are neither rows nor listed" for k in wide[:SAID]]
