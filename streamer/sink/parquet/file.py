"""A Parquet file: pyarrow writes it with the column of vectors all null, then that column's chunks are exchanged for ours.

So schema, dictionaries, statistics and everything else are pyarrow's, and what is ours is a column's pages and where the footer
says that they lie. Of pyarrow's empty chunk some 50 bytes a row group stay in the file, which nothing points to.
"""

from pathlib import Path
from typing import Any, BinaryIO

import pyarrow as pa
import pyarrow.parquet as pq

from streamer.sink.parquet import thrift
from streamer.sink.parquet.thrift import I32, I64, LIST, STRUCT, Struct
from streamer.sink.parquet.vectors import BYTE_STREAM_SPLIT, RLE, Part, Written, cut, vectors, write_chunk

MAGIC = b"PAR1"
ROW_GROUP = 100_000  # rows
LEVEL = 1  # of zstd: 3 takes a quarter longer to save 1 %

# The fields of Parquet's structures that we touch.
ROW_GROUPS = 4  # of FileMetaData
COLUMNS, TOTAL_BYTES, ROWS, TOTAL_PACKED = 1, 2, 3, 6  # of RowGroup
METADATA = 3  # of ColumnChunk
TYPE, ENCODINGS, PATH, CODEC, VALUES, UNPACKED, PACKED, DATA_PAGE = 1, 2, 3, 4, 5, 6, 7, 9  # of ColumnMetaData


def write(path: Path, table: pa.Table, options: dict[str, Any], vector: str = "") -> None:
    """Write `table` to `path`.

    Parameters
    ----------
    path
        A new file.
    table
        What to write.
    options
        How, for pyarrow's writer; compressed by zstd.
    vector
        A column of lists of float32. Where all are of one length it is written twice as fast as by pyarrow, and reads
        back the same; else, or where there is no such column, pyarrow writes all.
    """
    parts = vectors(table[vector]) if vector in table.column_names else None

    if parts is None:
        with path.open("xb") as file:
            pq.write_table(table, file, row_group_size=ROW_GROUP, **options)
        return
    index = table.schema.get_field_index(vector)
    field = table.schema.field(index).with_nullable(True)  # as the file has it: it is null there at first
    rest = pa.BufferOutputStream()
    empty = table.set_column(index, field, pa.nulls(len(table), field.type))
    encodings = options.get("column_encoding") or {}
    others = {leaf: kind for leaf, kind in encodings.items() if leaf.split(".")[0] != vector}
    pq.write_table(empty, rest, row_group_size=ROW_GROUP, **options | {"column_encoding": others or None})
    with path.open("xb") as file:
        _exchange(file, rest.getvalue(), field, parts)


def _exchange(file: BinaryIO, whole: pa.Buffer, field: pa.Field, parts: list[Part]) -> None:
    """Write `whole`, a file of pyarrow's, to `file`, with chunks of `parts` for those of the column `field`."""
    size = int.from_bytes(whole[-8:-4].to_pybytes(), "little")
    footer = thrift.read(whole[-8 - size : -8].to_pybytes())
    file.write(whole[: -8 - size])
    for group in _elements(footer, ROW_GROUPS):
        mine, parts = cut(parts, group[ROWS][1])
        (chunk,) = (c for c in _elements(group, COLUMNS) if c[METADATA][1][PATH][1][1][0] == field.name.encode())
        before = chunk[METADATA][1]
        written = write_chunk(file, mine, field, LEVEL)
        chunk[METADATA] = STRUCT, _described(before, written)
        for total, part, now in ((TOTAL_BYTES, UNPACKED, written.unpacked), (TOTAL_PACKED, PACKED, written.size)):
            group[total] = I64, group[total][1] - before[part][1] + now
    packed = thrift.write(footer)
    file.write(packed + len(packed).to_bytes(4, "little") + MAGIC)


def _described(before: Struct, written: Written) -> Struct:
    """The ColumnMetaData of what we wrote; type, path and codec as `before`."""
    return {number: before[number] for number in (TYPE, PATH, CODEC)} | {
        ENCODINGS: (LIST, (I32, [RLE, BYTE_STREAM_SPLIT])),
        VALUES: (I64, written.values),
        UNPACKED: (I64, written.unpacked),
        PACKED: (I64, written.size),
        DATA_PAGE: (I64, written.offset),
    }


def _elements(fields: Struct, number: int) -> list[Struct]:
    elements: list[Struct] = fields[number][1][1]
    return elements
