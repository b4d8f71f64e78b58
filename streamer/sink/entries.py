"""Entries of the exceptions ledger, and who writes them."""

from typing import NamedTuple

import pyarrow as pa

from schemas.catalogue import EXCEPTIONS


class Identity(NamedTuple):
    """Who writes and of what: stands in every exception, and in the names of the application ids."""

    processing_id: str
    cluster_id: str
    topic: str
    topic_id: str
    version: str


class Exceptional(NamedTuple):
    """One entry of the exceptions ledger: offsets [start, end) of a partition, or one row of one offset."""

    partition: int
    start: int
    end: int
    row: int  # REST, or the row of offset `start`
    reason: str
    text: str = ""
    byte: int = -1
    payload: bytes | None = None
    payload_size: int = 0
    timestamp_ms: int = -1


def table_of(entries: list[Exceptional], who: Identity, now_ms: int) -> pa.Table:
    """`entries` in the schema of the exceptions table, listed by `who` at `now_ms`, ms since 1970 UTC."""
    n, now = len(entries), now_ms * 1000
    times = [e.timestamp_ms * 1000 if e.timestamp_ms >= 0 else None for e in entries]
    columns = [
        [who.processing_id] * n,
        [who.cluster_id] * n,
        [who.topic] * n,
        [who.topic_id] * n,
        [e.partition for e in entries],
        [e.start for e in entries],
        [e.end for e in entries],
        [e.row for e in entries],
        [e.reason for e in entries],
        [e.text for e in entries],
        [e.byte for e in entries],
        [e.payload for e in entries],
        [e.payload_size for e in entries],
        times,
        [now] * n,
        [who.version] * n,
    ]
    return pa.table([pa.array(c, f.type) for c, f in zip(columns, EXCEPTIONS, strict=True)], schema=EXCEPTIONS)
