"""Arrow IPC streams as messages: one message is one complete stream, a schema and one or more batches, to its end mark.

A truncated stream, or one with bytes after its end, gives no row at all: the reader checks every offset and every
string before anybody looks at a value.
"""

import re
from collections.abc import Mapping
from typing import Any, Literal

import pyarrow as pa
import pyarrow.compute as pc

from schemas.batch import Reason
from schemas.wire.framing import ARROW_MAGIC, Refused

Compression = Literal["lz4", "zstd"]

END_OF_STREAM = b"\xff\xff\xff\xff\x00\x00\x00\x00"
_IMPLAUSIBLE_BYTES = 1 << 32  # no buffer of a message is this large: a length field is garbage, memory is not short


def read(
    payload: bytes,
    wanted: pa.Schema,
    optional: Mapping[str, Any],
    max_rows: int,
    expected: Mapping[str, str],
) -> list[pa.RecordBatch]:
    """The `wanted` columns of the stream in `payload`, of at most `max_rows` rows.

    Parameters
    ----------
    payload
        The message.
    wanted
        The columns to fill, found by name. Others are ignored; wider types of the same kind are cast.
    optional
        The columns a stream may lack, with what then stands for them.
    max_rows
        Bound on the rows of one message.
    expected
        Metadata of the schema that, where a stream has it, must have this value.

    Raises
    ------
    Refused
        With ``BAD_FRAMING``, ``EMPTY``, ``TOO_LARGE``, ``LACKS_FIELD``, ``UNKNOWN_SCHEMA`` or ``CORRUPT``.
    """
    if not payload.startswith(ARROW_MAGIC):
        raise Refused(
            Reason.BAD_FRAMING, f"starts with bytes {payload[:4].hex(' ')}: no Arrow IPC stream (ff ff ff ff)", 0
        )
    source = pa.BufferReader(payload)
    batches: list[pa.RecordBatch] = []
    rows = 0
    try:
        with pa.ipc.open_stream(source) as stream:
            for batch in stream:
                rows += batch.num_rows
                if rows > max_rows:
                    raise Refused(Reason.TOO_LARGE, f"the stream has more than {max_rows} rows", source.tell())
                batch.validate(full=True)
                batches.append(batch)
            schema = stream.schema
    except (pa.ArrowException, OSError, ValueError, MemoryError) as error:
        if isinstance(error, MemoryError) and not _garbage_length(error):
            raise
        raise Refused(
            Reason.CORRUPT, f"the Arrow stream cannot be read: {_first_line(error)}", source.tell()
        ) from error
    end = source.tell()
    if end != len(payload):
        raise Refused(
            Reason.CORRUPT, f"the stream ends at byte {end} of {len(payload)}: {len(payload) - end} bytes too many", end
        )
    if not payload.endswith(END_OF_STREAM):
        raise Refused(Reason.CORRUPT, "the stream is truncated: it has no end mark", end)
    if rows == 0:
        raise Refused(Reason.EMPTY, "an Arrow stream without rows", end)
    for key, value in expected.items():
        theirs = (schema.metadata or {}).get(key.encode(), value.encode())
        if theirs != value.encode():
            raise Refused(
                Reason.UNKNOWN_SCHEMA, f"the stream says {key} = {theirs.decode(errors='replace')}, not {value}"
            )
    return [_project(batch, schema, wanted, optional) for batch in batches if batch.num_rows]


def write(batch: pa.RecordBatch, compression: Compression | None) -> bytes:
    """One message: a complete stream that holds `batch`."""
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, batch.schema, options=pa.ipc.IpcWriteOptions(compression=compression)) as stream:
        stream.write_batch(batch)
    return bytes(sink.getvalue().to_pybytes())


def metadata(payload: bytes, key: str) -> str | None:
    """The schema's metadata under `key`; None where there is none, or no schema."""
    try:
        with pa.ipc.open_stream(pa.BufferReader(payload)) as stream:
            value = (stream.schema.metadata or {}).get(key.encode())
            return None if value is None else value.decode(errors="replace")
    except (pa.ArrowException, OSError, ValueError, MemoryError):
        return None


def _project(
    batch: pa.RecordBatch, schema: pa.Schema, wanted: pa.Schema, optional: Mapping[str, Any]
) -> pa.RecordBatch:
    arrays: list[pa.Array] = []
    for field in wanted:
        index = schema.get_field_index(field.name)
        if index >= 0:
            arrays.append(_cast(batch.column(index), field))
        elif schema.get_all_field_indices(field.name):
            raise Refused(Reason.LACKS_FIELD, f"the stream has more than one column {field.name}")
        elif field.name not in optional:
            raise Refused(Reason.LACKS_FIELD, f"the stream lacks the column {field.name}")
        else:
            default = optional[field.name]
            arrays.append(
                pa.nulls(batch.num_rows, field.type)
                if default is None
                else pa.repeat(pa.scalar(default, field.type), batch.num_rows)
            )
    return pa.record_batch(arrays, schema=wanted)


def _cast(column: pa.Array, field: pa.Field) -> pa.Array:
    if column.type == field.type:
        return column
    if not _same_kind(column.type, field.type):
        raise Refused(Reason.LACKS_FIELD, f"the column {field.name} is {column.type}, not {field.type}")
    try:
        if field.type == pa.uint8():  # a state that does not fit costs its row, not the message
            wide = column.cast(pa.int64())
            column = pc.if_else(pc.and_(pc.greater_equal(wide, 0), pc.less(wide, 255)), wide, 255)
        return column.cast(field.type)
    except pa.ArrowNotImplementedError as error:
        raise Refused(Reason.LACKS_FIELD, f"the column {field.name} is {column.type}, not {field.type}") from error
    except pa.ArrowException as error:
        raise Refused(
            Reason.CORRUPT, f"the column {field.name} does not fit {field.type}: {_first_line(error)}"
        ) from error


def _same_kind(have: pa.DataType, want: pa.DataType) -> bool:
    kinds = pa.types
    if kinds.is_null(have):
        return True
    if kinds.is_dictionary(have):
        return _same_kind(have.value_type, want)
    if kinds.is_string(want):
        return bool(kinds.is_string(have) or kinds.is_large_string(have) or kinds.is_string_view(have))
    if kinds.is_floating(want):
        return bool(kinds.is_floating(have) or kinds.is_integer(have))
    if kinds.is_integer(want):
        return bool(kinds.is_integer(have))
    return bool(kinds.is_binary(have) or kinds.is_large_binary(have) or kinds.is_binary_view(have))


def _garbage_length(error: MemoryError) -> bool:
    size = re.search(r"size (\d+)", str(error))
    return size is not None and int(size[1]) > _IMPLAUSIBLE_BYTES


def _first_line(error: BaseException) -> str:
    return str(error).split("\n", 1)[0][:200]
