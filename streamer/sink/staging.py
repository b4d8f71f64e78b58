"""Parquet files written beside the log, ready to be named by a commit: row statistics, encodings, fsync."""

import json
import math
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
from deltalake.transaction import AddAction

from schemas.catalogue import ROWS
from streamer.sink.parquet.file import LEVEL, write
from streamer.sink.store import is_local

VECTOR = "pdf"
# Measured floating point numbers have random low bytes and smooth high ones: BYTE_STREAM_SPLIT lets zstd see them apart (of all
# columns but the PDFs a tenth of the bytes less, and a tenth of the time). Compact PDFs are all of one length: their lengths,
# put together, cost nothing.
ENCODINGS = {field.name: {field.name: "BYTE_STREAM_SPLIT"} for field in ROWS if pa.types.is_floating(field.type)} | {
    VECTOR: {"pdf.list.element": "BYTE_STREAM_SPLIT"},
    "pdf_u8": {"pdf_u8": "DELTA_LENGTH_BYTE_ARRAY"},
}
WITHOUT_STATISTICS = (VECTOR, "pdf_u8")
TEXT_BOUND = 64  # characters of a text in the statistics


def fsync(path: Path) -> None:
    """Make a file, or a folder's entries, survive a crash of the machine."""
    if not is_local(path):  # durable once the store has answered
        return
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def stage(root: Path, name: str, table: pa.Table, values: dict[str, str], repeated: Sequence[str]) -> AddAction:
    """Write `table` under `root`, fsynced, and return the action that would add it.

    Parameters
    ----------
    root
        The Delta table's directory.
    name
        File name without suffix. It carries the writer's partition and epoch, so that a sweep can tell which staged files
        no commit can name any more.
    table
        Rows, without the partition columns.
    values
        Partition columns and values, in the order of the folders.
    repeated
        Columns of few distinct values, dictionary-encoded.
    """
    path = placed(root, name, values)
    write(path, table, parquet_options(table.column_names, repeated), VECTOR)
    return landed(root, path, values, statistics(table))


def placed(root: Path, name: str, values: dict[str, str]) -> Path:
    """Where the file `name` of these partition values stands; its folder is there."""
    if not (
        root / "_delta_log"
    ).is_dir():  # unmounted or moved away: what is made here would hide it when it comes back
        raise FileNotFoundError(f"{root} is not there")
    folder = root.joinpath(*(f"{key}={value}" for key, value in values.items()))
    folder.mkdir(parents=True, exist_ok=True)
    return folder / f"{name}.parquet"


def parquet_options(columns: Sequence[str], repeated: Sequence[str]) -> dict[str, Any]:
    """How a file of `columns` is written, for pyarrow's writers; `repeated` as in ``stage``."""
    encodings = {leaf: kind for name in columns for leaf, kind in ENCODINGS.get(name, {}).items()}
    return {
        "compression": "zstd",
        "compression_level": LEVEL,
        "use_dictionary": list(repeated),
        "column_encoding": encodings or None,
        "write_statistics": [c for c in columns if c not in WITHOUT_STATISTICS],
        "write_page_checksum": True,  # so that a damaged page is found, not read
        "store_schema": False,
    }


def landed(
    root: Path, path: Path, values: dict[str, str], stats: dict[str, Any], data_change: bool = True
) -> AddAction:
    """Make the written file at `path` survive a crash of the machine; the action that would add it.

    `data_change` is False where its rows stand in the table already.
    """
    fsync(path)
    for made in path.parents:
        fsync(made)
        if made == root:
            break
    about = path.stat()
    relative = path.relative_to(root).as_posix()
    return AddAction(relative, about.st_size, dict(values), int(about.st_mtime * 1000), data_change, json.dumps(stats))


def statistics(table: pa.Table) -> dict[str, Any]:
    """Minimum, maximum and null count of every column that can have them.

    All or none: a reader compares a filter with a missing minimum as with null and silently drops the file. Columns left
    out (lists, binary, all null or NaN) match no comparison, so dropping them is right.
    """
    low: dict[str, Any] = {}
    high: dict[str, Any] = {}
    nulls: dict[str, int] = {}
    for field, column in zip(table.schema, table.columns, strict=True):
        if pa.types.is_nested(field.type):
            continue
        nulls[field.name] = column.null_count
        if pa.types.is_binary(field.type) or column.null_count == len(column):
            continue
        ends = pc.min_max(column)
        if pa.types.is_floating(field.type) and not all(map(math.isfinite, ends.as_py().values())):
            column = pc.drop_null(pc.if_else(pc.is_finite(column), column, None))  # dear, and the rows have none
            if not len(column):
                continue
            ends = pc.min_max(column)
        low[field.name], high[field.name] = _plain(ends["min"]), _plain(ends["max"])
        if (
            isinstance(high[field.name], str) and len(high[field.name]) > TEXT_BOUND
        ):  # still bounds, and the log stays small
            high[field.name] = high[field.name][:TEXT_BOUND] + "\U0010ffff"
        if isinstance(low[field.name], str):
            low[field.name] = low[field.name][:TEXT_BOUND]
    return {"numRecords": len(table), "minValues": low, "maxValues": high, "nullCount": nulls}


def joined(one: dict[str, Any], other: dict[str, Any]) -> dict[str, Any]:
    """The statistics of two tables as those of one."""
    out: dict[str, Any] = {"numRecords": one["numRecords"] + other["numRecords"]}
    for key, choose in (("minValues", min), ("maxValues", max), ("nullCount", sum)):
        out[key] = {
            name: choose([part[key][name] for part in (one, other) if name in part[key]])
            for name in one[key] | other[key]
        }
    return out


def _plain(value: pa.Scalar) -> Any:
    if pa.types.is_timestamp(value.type):  # the log keeps milliseconds; our times have no more
        return value.as_py().strftime("%Y-%m-%dT%H:%M:%S.") + f"{value.as_py().microsecond // 1000:03d}Z"
    return value.as_py()
