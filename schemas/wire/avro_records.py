"""Schemaless Avro records to columns: one reader for each writer's schema, projected by name onto the columns wanted.

Enums are read as the integers they are on the wire and looked up in a table, so that a symbol we do not know costs one
row and an index out of range cannot pass for another symbol.
"""

from collections.abc import Callable, Mapping, Sequence
from io import BytesIO
from operator import itemgetter
from typing import Any

import numpy as np
import pyarrow as pa
from fastavro import parse_schema, schemaless_reader

from schemas.batch import BandState, Reason
from schemas.wire.framing import Refused

UNKNOWN_STATE = 255  # in a state column: null, or a value that is no BandState

_NUMBERS = frozenset({"int", "long", "float", "double"})
_SUITABLE: dict[pa.DataType, frozenset[str]] = {
    pa.string(): frozenset({"string"}),
    pa.float64(): _NUMBERS,
    pa.float32(): _NUMBERS,
    pa.int32(): frozenset({"int", "long"}),
    pa.uint8(): frozenset({"enum"}),
    pa.large_binary(): frozenset({"bytes"}),
}


class RecordReader:
    """Reads records of one writer's schema.

    Parameters
    ----------
    writer
        The writer's schema as its registry gave it.
    wanted
        The columns to fill: strings, floats, int32, large_binary; uint8 is a band state.
    optional
        The columns a writer may lack, with what then stands for them.

    Raises
    ------
    Refused
        ``LACKS_FIELD`` where the writer lacks a column that is not optional, or has it in a type of another kind;
        ``UNKNOWN_SCHEMA`` where `writer` is no schema of a record.
    """

    def __init__(self, writer: dict[str, Any], wanted: pa.Schema, optional: Mapping[str, Any]) -> None:
        names: dict[str, Any] = {}
        try:
            parsed: Any = parse_schema(writer, named_schemas=names, _write_hint=False)
            types = {field["name"]: field["type"] for field in parsed["fields"]}
            self._schema: Any = parse_schema(_plain(parsed, names))
        except Exception as error:  # a registry may hold anything
            raise Refused(Reason.UNKNOWN_SCHEMA, f"the writer's schema cannot be used: {error}") from error
        self._wanted = wanted
        self._optional = optional
        self._states: dict[str, np.ndarray] = {}
        self._present: list[str] = []
        for field in wanted:
            if field.name in types:
                self._check(field, types[field.name], names)
                self._present.append(field.name)
            elif field.name not in optional:
                raise Refused(Reason.LACKS_FIELD, f"the writer's schema lacks the field {field.name}")
        self._pick: Callable[[dict[str, Any]], tuple[Any, ...]] = itemgetter(*self._present)

    def _check(self, field: pa.Field, writer_type: Any, names: Mapping[str, Any]) -> None:
        branches = writer_type if isinstance(writer_type, list) else [writer_type]
        full = [names.get(b, b) if isinstance(b, str) else b for b in branches]
        kinds = {b["type"] if isinstance(b, dict) else b for b in full}
        if not kinds - {"null"} or kinds - {"null"} - _SUITABLE[field.type]:
            raise Refused(
                Reason.LACKS_FIELD,
                f"the writer's field {field.name} is {' or '.join(sorted(map(str, kinds)))}, not {field.type}",
            )
        if field.type == pa.uint8():
            if len(full) > 1:
                raise Refused(
                    Reason.LACKS_FIELD, f"the writer's field {field.name} is a union: a band state has no null"
                )
            self._states[field.name] = np.array(
                [BandState.__members__.get(symbol, UNKNOWN_STATE) for symbol in full[0]["symbols"]], np.uint8
            )

    def read(
        self, payloads: Sequence[bytes], start: int
    ) -> tuple[pa.RecordBatch, list[int], list[tuple[int, Refused]]]:
        """Read one record from byte `start` of each payload to its very end.

        Returns
        -------
        batch
            The wanted columns of the payloads that could be read, in their order.
        read
            The indices of those payloads.
        refused
            The indices of the others, each with why not.
        """
        schema, pick = self._schema, self._pick
        rows: list[tuple[Any, ...]] = []
        read: list[int] = []
        refused: list[tuple[int, Refused]] = []
        for index, payload in enumerate(payloads):
            stream = BytesIO(payload)
            stream.seek(start)
            try:
                record: Any = schemaless_reader(stream, schema, None)
                row = pick(record)
            except MemoryError:  # lengths are bounded by the payload: memory is short indeed
                raise
            except Exception as error:  # whatever garbage makes of a decoder
                refused.append((index, _corrupt(error, stream.tell(), len(payload))))
                continue
            end = stream.tell()
            if end != len(payload):
                text = f"the record ends at byte {end} of {len(payload)}: {len(payload) - end} bytes too many"
                refused.append((index, Refused(Reason.CORRUPT, text, end)))
                continue
            rows.append(row)
            read.append(index)
        return self._columns(rows, read, refused)

    def _columns(
        self, rows: list[tuple[Any, ...]], read: list[int], refused: list[tuple[int, Refused]]
    ) -> tuple[pa.RecordBatch, list[int], list[tuple[int, Refused]]]:
        by_name = dict(zip(self._present, zip(*rows, strict=True) if rows else [()] * len(self._present), strict=True))
        good = np.ones(len(rows), bool)
        arrays: list[pa.Array] = []
        for field in self._wanted:
            values = by_name.get(field.name)
            if values is None:
                arrays.append(_constant(self._optional[field.name], len(rows), field.type))
            elif field.name in self._states:
                arrays.append(pa.array(_lookup(self._states[field.name], values)))
            elif field.type == pa.int32():
                wide = np.array([0 if v is None else v for v in values], np.int64)  # the decoder lets 64 bits through
                narrow = wide.astype(np.int32)
                good &= wide == narrow
                arrays.append(pa.array(narrow))
            elif pa.types.is_floating(field.type):
                with np.errstate(over="ignore"):  # a double too large for a float is infinite
                    arrays.append(pa.array(np.array(values, field.type.to_pandas_dtype())))  # None becomes NaN
            else:
                arrays.append(pa.array(values, field.type))
        batch = pa.record_batch(arrays, schema=self._wanted)
        if good.all():
            return batch, read, refused
        refused += [
            (read[i], Refused(Reason.CORRUPT, "an int of the record has more than 32 bits"))
            for i in np.flatnonzero(~good).tolist()
        ]
        return batch.filter(pa.array(good)), [r for r, ok in zip(read, good.tolist(), strict=True) if ok], refused


def _lookup(table: np.ndarray, values: Sequence[int]) -> np.ndarray:
    index = np.array(values, np.int64)
    known = (index >= 0) & (index < len(table))
    return np.where(known, table[np.where(known, index, 0)], np.uint8(UNKNOWN_STATE))


def _constant(value: Any, n: int, kind: pa.DataType) -> pa.Array:
    return pa.nulls(n, kind) if value is None else pa.repeat(pa.scalar(value, kind), n)


def _corrupt(error: Exception, byte: int, size: int) -> Refused:
    if isinstance(error, (EOFError, IndexError)) and byte >= size:
        return Refused(Reason.CORRUPT, f"the record is truncated: it goes on after the last of {size} bytes", byte)
    return Refused(Reason.CORRUPT, f"the record does not follow its schema near byte {byte}: {error}", byte)


def _plain(schema: Any, names: Mapping[str, Any]) -> Any:
    """`schema` with every enum as the int it is on the wire, without defaults, docs and logical types."""
    if isinstance(schema, str):
        named = names.get(schema)
        return "int" if named is not None and named["type"] == "enum" else schema
    if isinstance(schema, list):
        return [_plain(branch, names) for branch in schema]
    if schema["type"] == "enum":
        return "int"
    if schema["type"] in ("record", "error"):
        fields = [{"name": f["name"], "type": _plain(f["type"], names)} for f in schema["fields"]]
        return {"type": "record", "name": schema["name"], "fields": fields}
    if schema["type"] == "array":
        return {"type": "array", "items": _plain(schema["items"], names)}
    if schema["type"] == "map":
        return {"type": "map", "values": _plain(schema["values"], names)}
    if schema["type"] == "fixed":
        return {"type": "fixed", "name": schema["name"], "size": schema["size"]}
    return _plain(schema["type"], names)
