"""The operations table: what was done by hand beside the nightly reading. ``verify`` reads there what else must add up.

The commit protocol does not rest on it: what keeps a replay from doubling rows are its numbers in the tables' logs.
"""

import json
from pathlib import Path
from typing import Any, Literal, NamedTuple

import pyarrow as pa
from deltalake import DeltaTable, write_deltalake
from deltalake.exceptions import CommitFailedError, DeltaError

from schemas.catalogue import OPERATIONS
from schemas.errors import TroubleError
from streamer.sink.datasets import whole
from streamer.sink.entries import Identity
from streamer.sink.staging import fsync

Kind = Literal["replay", "retry", "withdraw", "retire"]
State = Literal["begun", "done"]


class Operation(NamedTuple):
    """One operation, whatever its ranges.

    Attributes
    ----------
    id
        Names it: hexadecimal, as of ``uuid.uuid4``.
    kind
        What it does.
    model
        Readable name of the processing whose rows are meant.
    identity
        Processing and topic.
    night
        The night that was named, or None.
    """

    id: str
    kind: Kind
    model: str
    identity: Identity
    night: str | None = None


def record(
    root: Path,
    operation: Operation,
    state: State,
    ranges: list[tuple[int, int, int]],
    text: dict[str, Any],
    now_ms: int,
) -> None:
    """Append a row for each (partition, offset_start, offset_end) of `ranges`; durable when this returns.

    Raises
    ------
    TroubleError
        The table cannot be written.
    """
    who = operation.identity
    row = {
        "operation_id": operation.id,
        "kind": operation.kind,
        "state": state,
        "processing_id": who.processing_id,
        "model": operation.model,
        "topic": who.topic,
        "topic_id": who.topic_id,
        "night": operation.night,
        "text": json.dumps(text, sort_keys=True),
        "time": now_ms * 1000,
        "slipher_version": who.version,
    }
    places = ("kafka_partition", "offset_start", "offset_end")
    rows = pa.Table.from_pylist([row | dict(zip(places, place, strict=True)) for place in ranges], OPERATIONS)
    folder = root / "operations"
    try:
        before = DeltaTable(str(folder)).version()
        write_deltalake(str(folder), rows, mode="append")
        table = DeltaTable(str(folder))
        for action in pa.table(table.get_add_actions())["path"].to_pylist() if before < table.version() else ():
            fsync(folder / action)
        for version in range(before + 1, table.version() + 1):
            fsync(folder / "_delta_log" / f"{version:020d}.json")
        fsync(folder / "_delta_log")
        fsync(folder)
    except (CommitFailedError, DeltaError, OSError) as error:
        raise TroubleError(
            f"{folder} cannot be written: {error}. Nothing is lost: run this again when it can."
        ) from error


def recorded(root: Path) -> pa.Table:
    """All of the table; a catalogue of an older version, which has none, has none recorded."""
    if not DeltaTable.is_deltatable(str(root / "operations")):
        return OPERATIONS.empty_table()
    return whole(DeltaTable(str(root / "operations")), root / "operations")
