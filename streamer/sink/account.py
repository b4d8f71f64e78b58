"""Accounting of offsets: what a batch settles, and the assertion that it settles everything."""

import itertools

import numpy as np
import pyarrow as pa

from consumers.worker import Output
from schemas.batch import Int64, Messages, Reason
from schemas.catalogue import PAYLOAD_BOUND, REST
from schemas.errors import IntegrityError
from streamer.sink.entries import Exceptional
from streamer.sink.settled import Settled

NOTHING = "the log holds no message for us at these offsets"


def exceptions_of(
    partition: int, position: int, messages: Messages, output: Output, settled: Settled
) -> tuple[int, list[Exceptional]]:
    """What must be listed so that rows and list together settle [position, end) of `partition`.

    Returns
    -------
    end
        One past the last offset that this batch settles.
    listed
        Refused messages and rows, offsets without message, offsets that retention took; less what `settled` lists already.
    """
    mine = np.flatnonzero(messages.partition == partition)
    offsets = messages.offset[mine]
    begun = messages.starts.get(partition)
    if begun != position:  # else a batch dropped on the way would be taken for offsets that hold no message
        raise IntegrityError(
            f"partition {partition}: a batch begins at offset {begun} where {position} is due; nothing was committed."
        )
    if len(offsets) and (offsets[0] < position or (np.diff(offsets) <= 0).any()):
        raise IntegrityError(
            f"partition {partition}: offset {offsets.min()} came again after {position - 1}; nothing was committed."
        )
    end = max(messages.ends.get(partition, position), position)
    listed: list[Exceptional] = []

    def fill(first: int, last: int, reason: Reason, text: str) -> None:
        listed.extend(Exceptional(partition, a, b, REST, reason.name, text) for a, b in settled.holes(first, last))

    gaps = sorted((first, last) for where, first, last in messages.gaps if where == partition)
    for at, until in _jumps(position, offsets, end):
        for low, high in gaps:
            first, last = max(low, at), min(high, until)
            if first < last:
                fill(at, first, Reason.NO_MESSAGE, NOTHING)
                fill(first, last, Reason.RETENTION_GAP, f"offsets {first} to {last - 1} expired before they were read")
                at = last
        fill(at, until, Reason.NO_MESSAGE, NOTHING)

    refusals = output.refusals
    refused = np.flatnonzero(messages.partition[refusals.message] == partition)
    known = settled.whole(messages.offset[refusals.message[refused]])
    carried = set[
        int
    ]()  # messages whose payload stands with an entry: many bad rows of one must not list it many times
    for k in refused[~known]:
        index = int(refusals.message[k])
        offset, row = int(messages.offset[index]), int(refusals.row[k])
        if (offset, row) in settled.rows:
            continue
        payload = messages.payloads[index]
        kept = payload[:PAYLOAD_BOUND] if payload is not None and index not in carried else None
        carried.add(index)
        listed.append(
            Exceptional(
                partition,
                offset,
                offset + 1,
                row,
                Reason(refusals.reason[k]).name,
                refusals.text[k],
                int(refusals.byte[k]),
                kept,
                len(payload) if payload is not None else 0,
                int(messages.timestamp_ms[index]),
            )
        )
    return end, listed


def without_settled(rows: pa.Table, partition: int, settled: Settled) -> pa.Table:
    """`rows` less those of `partition` that the exceptions ledger has settled, even if they would decode now."""
    if not settled:
        return rows
    offset = rows["kafka_offset"].to_numpy()
    mine = rows["kafka_partition"].to_numpy() == partition
    gone = mine & settled.whole(offset)
    single = np.fromiter((o for o, _ in settled.rows), np.int64, len(settled.rows))
    for k in np.flatnonzero(mine & np.isin(offset, single)):
        gone[k] |= (int(offset[k]), rows["kafka_row"][int(k)].as_py()) in settled.rows
    return rows.filter(pa.array(~gone)) if gone.any() else rows


def assert_settled(
    partition: int, start: int, end: int, row_offsets: Int64, listed: list[Exceptional], settled: Settled
) -> None:
    """Every offset of [start, end) is in rows or is listed.

    Raises
    ------
    IntegrityError
        Naming the partition and the first offset unaccounted for, or listed twice: a fault that must never be committed.
    """
    ranges = sorted([(e.start, e.end) for e in listed if e.row == REST] + settled.ranges)
    for (_, before), (after, _) in itertools.pairwise(ranges):
        if after < before:
            raise IntegrityError(f"partition {partition}, offset {after}: listed twice; nothing was committed.")
    singles = np.array([e.start for e in listed if e.row != REST] + [o for o, _ in settled.rows], np.int64)
    offsets = _distinct(np.concatenate([row_offsets, singles]) if len(singles) else row_offsets)
    if len(offsets) and (offsets[0] < start or offsets[-1] >= end):
        offsets = offsets[(offsets >= start) & (offsets < end)] if settled else offsets
        if len(offsets) and (offsets[0] < start or offsets[-1] >= end):
            raise IntegrityError(
                f"partition {partition}: rows of offsets {offsets[0]} to {offsets[-1]} in a batch of [{start}, {end})."
            )
    at = start
    for first, last in sorted((max(a, start), min(b, end)) for a, b in ranges if b > start and a < end):
        at = _covered(partition, at, first, offsets)
        at = max(at, last)
    _covered(partition, at, end, offsets)


def _distinct(offsets: Int64) -> Int64:
    """As `np.unique`, which takes twenty times as long for what is in order already."""
    if (offsets[1:] < offsets[:-1]).any():
        return np.unique(offsets)
    return offsets[np.append(True, offsets[1:] != offsets[:-1])] if len(offsets) else offsets


def _covered(partition: int, at: int, until: int, offsets: Int64) -> int:
    """Check that `offsets` holds every one of [at, until)."""
    if until <= at:
        return at
    low, high = np.searchsorted(offsets, [at, until])
    if high - low != until - at:
        held = offsets[low:high]
        expected = np.arange(at, at + len(held))
        wrong = np.flatnonzero(held != expected)
        first = at + int(wrong[0]) if len(wrong) else at + len(held)
        raise IntegrityError(
            f"partition {partition}, offset {first}: neither a row nor listed as an exception; nothing was committed."
        )
    return until


def _jumps(at: int, offsets: Int64, end: int) -> list[tuple[int, int]]:
    """Stretches of [at, end) that `offsets`, rising, do not hold."""
    edges = np.concatenate([[at - 1], offsets, [end]])
    wide = np.flatnonzero(np.diff(edges) > 1)
    return [(int(edges[k]) + 1, int(edges[k + 1])) for k in wide]
