"""Catalogue rows without a model: what the sink's tests move about."""

from pathlib import Path

import numpy as np
import pyarrow as pa

from consumers.worker import Output
from schemas.batch import Messages, Reason, Refusals
from schemas.catalogue import ROWS
from streamer.sink.delta import DeltaSink
from streamer.sink.entries import Identity

IDENTITY = Identity("0123456789abcdef", "cluster", "alerts", "AAAAAAAAAAAAAAAAAAAAAA", "test")
NOW = 1_780_000_000_000


def now_ms() -> int:
    return NOW


def no_first(partitions: list[int], known: bool) -> dict[int, int]:
    return dict.fromkeys(partitions, 0)


def rows_of(identities: list[tuple[int, int, int]], nights: int = 1, identity: Identity = IDENTITY) -> pa.Table:
    """Rows of (partition, offset, row), spread over `nights`."""
    n = len(identities)
    columns: dict[str, object] = {
        "night": [f"2026-05-{1 + o % nights:02d}" for _, o, _ in identities],
        "model": ["forest-lsst-01234567"] * n,
        "object_id": [f"{p}-{o}-{r}" for p, o, r in identities],
        "kafka_partition": [p for p, _, _ in identities],
        "kafka_offset": [o for _, o, _ in identities],
        "kafka_row": [r for _, _, r in identities],
        "processing_id": [identity.processing_id] * n,
        "topic_id": [identity.topic_id] * n,
    }

    def filler(kind: pa.DataType) -> object:
        if pa.types.is_string(kind):
            return "x"
        if pa.types.is_list(kind):
            return [0.5, 1.5]
        if pa.types.is_binary(kind):
            return None
        return 1

    return pa.table([pa.array(columns.get(f.name, [filler(f.type)] * n), f.type) for f in ROWS], schema=ROWS)


def story(partition: int, offset: int) -> tuple[int, tuple[int, ...]] | str | None:
    """What stands at an offset, the same for every reader: None (a marker), "refused", "empty", or (rows, refused rows)."""
    dice = np.random.default_rng([partition, offset]).integers(0, 100)
    if dice < 12:
        return None
    if dice < 20:
        return "refused"
    if dice < 25:
        return "empty"
    if dice < 40:
        return 3, (1,)
    return 1 + int(dice) % 3, ()


def batch(starts: dict[int, int], ends: dict[int, int]) -> tuple[Messages, Output]:
    """Messages and output of the story, for each partition from its start to its end."""
    places = [(p, o) for p in starts for o in range(starts[p], ends[p]) if story(p, o) is not None]
    rows, refused = [], []
    for index, (p, o) in enumerate(places):
        told = story(p, o)
        if told == "refused":
            refused.append((index, -1, Reason.CORRUPT))
        elif told == "empty":
            refused.append((index, -1, Reason.EMPTY))
        else:
            assert isinstance(told, tuple)
            refused += [(index, r, Reason.BAD_POSITION) for r in told[1]]
            rows += [(p, o, r) for r in range(told[0]) if r not in told[1]]
    messages = Messages(
        [b"payload"] * len(places),
        np.array([p for p, _ in places], np.int32),
        np.array([o for _, o in places], np.int64),
        np.full(len(places), NOW, np.int64),
        dict(ends),
        (),
        dict(starts),
    )
    refusals = Refusals(
        np.array([i for i, _, _ in refused], np.int64),
        np.array([r for _, r, _ in refused], np.int32),
        np.array([k for _, _, k in refused], np.uint8),
        ["why"] * len(refused),
        np.full(len(refused), -1, np.int64),
    )
    return messages, Output(rows_of(rows, nights=3), refusals)


def expected(partitions: list[int], end: int) -> tuple[set[tuple[int, int, int]], set[tuple[int, int, int]]]:
    """(rows, listed) identities of the story below `end`; what is listed whole has row -1."""
    rows, listed = set(), set()
    for p in partitions:
        for o in range(end):
            told = story(p, o)
            if told is None or isinstance(told, str):
                listed.add((p, o, -1))
            else:
                rows |= {(p, o, r) for r in range(told[0]) if r not in told[1]}
                listed |= {(p, o, r) for r in told[1]}
    return rows, listed


def advance(sink: DeltaSink, end: int, step: int, positions: dict[int, int]) -> dict[int, int]:
    """Write and commit from `positions` to `end` in steps; returns what is durable."""
    at = dict(positions)
    while any(o < end for o in at.values()):
        to = {p: min(end, o + step) for p, o in at.items()}
        sink.write(*batch(at, to))
        _, fenced = sink.commit()
        for p in fenced:
            to.pop(p)
        at = to
    return at


def stored(root: Path) -> tuple[list[tuple[int, int, int]], list[tuple[int, int, int]]]:
    """(rows, listed) identities that the tables hold, sorted, ranges spelt out."""
    from deltalake import DeltaTable

    keys = ["kafka_partition", "kafka_offset", "kafka_row"]
    table = DeltaTable(str(root / "rows")).to_pyarrow_table(columns=keys)
    rows = sorted(zip(*(table[k].to_pylist() for k in keys), strict=True))
    keys = ["kafka_partition", "offset_start", "offset_end", "kafka_row"]
    table = DeltaTable(str(root / "exceptions")).to_pyarrow_table(columns=keys)
    listed = [(p, o, r) for p, a, b, r in zip(*(table[k].to_pylist() for k in keys), strict=True) for o in range(a, b)]
    return rows, sorted(listed)
