"""Programs: compiled once for each writer's schema, run over batches of records."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from schemas.avro import instructions as op
from schemas.avro import kernel
from schemas.avro.buffers import Buffers
from schemas.avro.columns import Column, Ragged, Spans
from schemas.avro.compiler import SIZES, bits, compile_tree, text_bytes
from schemas.avro.resolve import REQUIRED, Sink, Want, resolve
from schemas.avro.schema import Node, SchemaError, parse
from schemas.avro.status import SENTENCES, Status
from schemas.avro.stretches import stretched
from schemas.batch import Int64, UInt8

DTYPES: dict[str, np.dtype[Any]] = {
    "f4": np.dtype(np.float32),
    "f8": np.dtype(np.float64),
    "i8": np.dtype(np.int64),
    "bool": np.dtype(np.int8),
    "enum": np.dtype(np.int8),
    "present": np.dtype(np.uint8),
    "string": np.dtype(np.int64),
    "bytes": np.dtype(np.int64),
}
PAGE = 4096  # columns a multiple of it apart would fight for the same lines of the cache
ITEMS_A_RECORD = 4  # room for items that the first try has
CONTINUE = op.CONTINUE


class Decoded(NamedTuple):
    """What n records hold.

    Attributes
    ----------
    columns
        By path: an array [n], `Spans` for text and bytes, `Ragged` for the items of an array. Null is NaN, ``NULL_INTEGER``,
        length -1, -1 of "bool" and "enum", 0 of "present". A record that is not good has nulls and empty arrays.
    status
        `Status`, uint8[n].
    byte
        Where the record ends, or where in its buffer the trouble stands, int64[n].
    where
        Which operation met the trouble, int64[n]: for `Program.sentence`.
    """

    columns: dict[str, Column]
    status: UInt8
    byte: Int64
    where: Int64


class Program:
    """Reads the wanted fields of records of one writer's schema. Never changes, so any number of threads may use it.

    Attributes
    ----------
    wants
        The fields.
    absent
        The wanted paths that the writer's schema lacks, with what stands for them.
    least
        The fewest bytes of a record.
    """

    def __init__(self, root: Node, wants: Sequence[Want]) -> None:
        self.wants = tuple(wants)
        self._resolved = resolve(root, self.wants)
        self.absent = {path: want.default for path, want in self._resolved.absent.items()}
        self.least = root.least()
        code = compile_tree(root, self._resolved)
        fast = stretched(code.ops, code.table)
        self._code = np.array(fast.ops, np.int64)
        self._table = np.array([*fast.table, 0], np.int64)
        self._paths = [[""]] * len(fast.ops)
        for old, path in enumerate(code.paths):
            self._paths[_place(fast.ops, fast.moved, old)] = path
        self._columns = list(dict.fromkeys(self._resolved.sinks.values()))
        self._numbers = {sink: number for number, sink in enumerate(self._columns)}
        self._sinks = [(_place(fast.ops, fast.moved, at), self._numbers[sink]) for at, sink in code.sinks]
        self._closes = [(_place(fast.ops, fast.moved, at), dimension) for at, dimension in code.closes]
        of = dict(code.sinks)
        self._aims = [(place, self._numbers[of[at]], half) for place, at, half in fast.addresses]

    def run(self, buffers: Buffers, start: int | Int64, exact: UInt8 | None = None) -> Decoded:
        """Read one record of each buffer.

        Parameters
        ----------
        buffers
            n of them.
        start
            Byte at which the record begins, of all or of each, int64[n]; ``CONTINUE`` = where the one before ended.
        exact
            Whether the record must end with its buffer, uint8[n]; by default all must.
        """
        n = len(buffers.length)
        starts = np.full(n, start, np.int64) if isinstance(start, int) else np.ascontiguousarray(start, np.int64)
        if len(starts) != n or starts.min(initial=0) < CONTINUE:
            raise ValueError(f"{n} records have {len(starts)} starts, the least {starts.min(initial=0)}")
        exact = np.ones(n, np.uint8) if exact is None else np.ascontiguousarray(exact, np.uint8)
        address = np.ascontiguousarray(buffers.address, np.uint64).view(np.int64)
        length = np.ascontiguousarray(buffers.length, np.int64)
        status, byte, where = np.empty(n, np.uint8), np.empty(n, np.int64), np.empty(n, np.int64)
        store = _Store(self._resolved.parents, self._columns, n)
        first = 0
        while True:
            code, table = self._aimed(store)
            first = kernel.run(
                first, address, length, starts, exact, code.ctypes.data, table.ctypes.data,
                store.dimensions.ctypes.data, status, byte, where,
            )  # fmt: skip
            if first == n:
                break
            store.grow()
        bad = np.flatnonzero(status)
        if len(bad):
            store.clear(bad)
        columns = {want.path: self._column(want, store, n) for want in self.wants}
        return Decoded(columns, status, byte, where)

    def sentence(self, status: int, where: int, byte: int, length: int) -> str:
        """What is wrong with a record of a buffer of `length` bytes, naming the field at which it was met."""
        if status == Status.TRAILING:
            return f"the record ends at byte {byte} of {length}: {length - byte} bytes too many"
        text = SENTENCES[Status(status)]
        if status == Status.TRUNCATED:
            text = f"{text} of {length}"
        paths = self._paths[where & 0xFFFFFFFF]
        path = paths[min(where >> 32, len(paths) - 1)]
        return f"{text}, at the field {path}" if path and status != Status.AFTER else text

    def _aimed(self, store: "_Store") -> tuple[Int64, Int64]:
        """The program and its table with the addresses that this run writes to."""
        code, table = self._code.copy(), self._table.copy()
        addresses = [store.addresses(number) for number in range(len(self._columns))]
        for at, number in self._sinks:
            code[at, 3], code[at, 7] = addresses[number]
        for place, number, half in self._aims:
            table[place] = addresses[number][half]
        for at, dimension in self._closes:
            code[at, 3] = store.offsets[dimension].ctypes.data
        return code, table

    def _column(self, want: Want, store: "_Store", n: int) -> Column:
        sink = self._resolved.sinks.get(want.path)
        if sink is not None:
            return store.column(self._numbers[sink], want)
        if isinstance(want.default, list):
            empty = np.empty(0, DTYPES[want.kind])
            values = Spans(empty, empty.copy()) if want.kind in ("string", "bytes") else empty
            return Ragged(np.zeros(n + 1, np.int64), values)
        filled = bits(want, want.default)
        if want.kind in ("string", "bytes"):
            return Spans(np.full(n, -1, np.int64), np.full(n, filled, np.int64), _default(want))
        return _constant(n, filled, want.kind)


class _Store:
    """The columns of one run, and how many items its arrays have and have room for."""

    def __init__(self, parents: list[int], sinks: list[Sink], n: int) -> None:
        self.n, self.parents, self.sinks = n, parents, sinks
        arrays = len(parents)
        self.dimensions = np.zeros((arrays, 5), np.int64)
        self.dimensions[:, 4] = [p * op.DIMENSION_SIZE for p in parents]
        self.dimensions[0, 4] = arrays * op.DIMENSION_SIZE
        self.dimensions[:, 1] = ITEMS_A_RECORD * n + 16
        self.dimensions[0, 1] = n
        self._places: dict[int, list[int]] = {}
        self.columns = self._room(range(len(sinks)))
        self.offsets = [np.zeros(self._items(p) + 1, np.int64) for p in parents]
        self._point()

    def addresses(self, number: int) -> tuple[int, int]:
        """Of a column; of text and bytes the offsets and the lengths."""
        places = self._places[number]
        return places[0], places[-1]

    def grow(self) -> None:
        """Give each array that asks for it more room. It has no more items than its messages have bytes."""
        for d in range(1, len(self.parents)):
            need = int(self.dimensions[d, 2])
            if need <= self.dimensions[d, 1]:
                continue
            self.dimensions[d, 1] = max(need, 2 * int(self.dimensions[d, 1]))
            numbers = [number for number, sink in enumerate(self.sinks) if sink.dimension == d]
            for number, new in zip(numbers, self._room(numbers).values(), strict=True):
                for part, old in zip(new, self.columns[number], strict=True):
                    part[: len(old)] = old
                self.columns[number] = new
            for child, parent in enumerate(self.parents):
                if parent == d:
                    wider = np.zeros(self._items(d) + 1, np.int64)
                    wider[: len(self.offsets[child])] = self.offsets[child]
                    self.offsets[child] = wider
        self._point()

    def clear(self, rows: npt.NDArray[np.int64]) -> None:
        """Nulls in `rows`."""
        for number, sink in enumerate(self.sinks):
            if sink.dimension == 0:
                *offsets, values = self.columns[number]
                values[rows] = _constant(1, bits(sink.want, None), sink.want.kind)[0]
                for part in offsets:
                    part[rows] = -1

    def column(self, number: int, want: Want) -> Column:
        """What was read, for `want`."""
        sink = self.sinks[number]
        count = self.n if sink.dimension == 0 else int(self.dimensions[sink.dimension, 0])
        parts = self.columns[number]
        if sink.dimension:
            parts = [part[:count] for part in parts]
        column: Column = Spans(parts[0], parts[1], _default(want)) if len(parts) == 2 else parts[0]
        d = sink.dimension
        while d:
            above = self.parents[d]
            rows = self.n if above == 0 else int(self.dimensions[above, 0])
            column = Ragged(self.offsets[d][: rows + 1], column)
            d = above
        return column

    def _items(self, dimension: int) -> int:
        return int(self.dimensions[dimension, 1]) if dimension >= 0 else 0

    def _point(self) -> None:
        self.dimensions[:, 3] = [offsets.ctypes.data for offsets in self.offsets]

    def _room(self, numbers: Sequence[int]) -> dict[int, list[npt.NDArray[Any]]]:
        """Columns in one block, each at another place of its page."""
        places: list[tuple[int, int, Any, int]] = []
        at = 0
        for order, number in enumerate(numbers):
            sink = self.sinks[number]
            dtype = DTYPES[sink.want.kind]
            count = self._items(sink.dimension)
            for half in range(1 + (SIZES[sink.want.kind] == 16)):
                at += (64 * (2 * order + half) - at) % PAGE
                places.append((number, at, dtype, count))
                at += count * dtype.itemsize
        block = np.empty(at, np.uint8)
        first = block.ctypes.data
        columns: dict[int, list[npt.NDArray[Any]]] = {number: [] for number in numbers}
        self._places |= {number: [] for number in numbers}
        for number, at, dtype, count in places:
            columns[number].append(block[at : at + count * dtype.itemsize].view(dtype))
            self._places[number].append(first + at)
        return columns


def compile_schema(schema: Any, wants: Sequence[Want]) -> Program:
    """The program that reads `wants` from records written with `schema`, JSON text or what JSON text gives.

    Raises
    ------
    SchemaError
        Where `schema` is no Avro schema.
    LacksField
        Where it lacks a field without default, or has it as something else.
    """
    try:
        return Program(parse(schema), wants)
    except RecursionError as error:
        raise SchemaError("types are nested too deep") from error


def _place(ops: list[list[int]], moved: list[int], old: int) -> int:
    """Where an operation is that was number `old` before there were stretches."""
    return moved[old] + (ops[moved[old]][0] == op.STRETCH)


def _constant(n: int, value: int, kind: str) -> npt.NDArray[Any]:
    same = {4: np.int32, 8: np.int64, 16: np.int64, 1: np.int8}[SIZES[kind]]
    return np.full(n, value, same).view(DTYPES[kind])


def _default(want: Want) -> bytes:
    return b"" if want.default in (REQUIRED, None) or isinstance(want.default, list) else text_bytes(want.default)
