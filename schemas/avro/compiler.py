"""A writer's schema and the fields that are wanted of it, compiled to a program for the kernel."""

from typing import Any, NamedTuple

import numpy as np

from schemas.avro import instructions as op
from schemas.avro.resolve import NULL, REQUIRED, SUITS, Resolved, Sink, Trie, Want
from schemas.avro.schema import Node, SchemaError

MOST_OPERATIONS = 1 << 18
SIZES = {"f4": 4, "f8": 8, "i8": 8, "bool": 1, "enum": 1, "present": 1, "string": 16, "bytes": 16}
_VARINTS = {"int": op.LONG, "long": op.LONG, "bytes": op.BYTES, "string": op.BYTES, "enum": op.ENUM}
_READ = {
    ("float", "f4"): op.FLOAT_F4,
    ("float", "f8"): op.FLOAT_F8,
    ("double", "f4"): op.DOUBLE_F4,
    ("double", "f8"): op.DOUBLE_F8,
    ("int", "f4"): op.LONG_F4,
    ("int", "f8"): op.LONG_F8,
    ("int", "i8"): op.LONG_I8,
    ("long", "f4"): op.LONG_F4,
    ("long", "f8"): op.LONG_F8,
    ("long", "i8"): op.LONG_I8,
    ("boolean", "bool"): op.BOOLEAN_I1,
    ("enum", "enum"): op.ENUM_I1,
    ("bytes", "string"): op.BYTES_SPAN,
    ("string", "string"): op.BYTES_SPAN,
    ("bytes", "bytes"): op.BYTES_SPAN,
    ("string", "bytes"): op.BYTES_SPAN,
    ("fixed", "bytes"): op.FIXED_SPAN,
}
_Names = tuple[str, ...]
_Shape = tuple[int, ...]


class Code(NamedTuple):
    """A compiled program.

    ``ops`` and ``table`` are the kernel's but for addresses, which each run fills in: ``sinks`` has (operation, sink),
    ``closes`` (operation, dimension). ``paths`` names what each operation reads, the fields of a run one by one.
    """

    ops: list[list[int]]
    table: list[int]
    sinks: list[tuple[int, Sink]]
    closes: list[tuple[int, int]]
    paths: list[list[str]]


def bits(want: Want, value: Any) -> int:
    """`value` in the column of `want`, as the integer that is stored; None is its null. Of text and bytes the length."""
    kind = want.kind
    if kind in ("string", "bytes"):
        return -1 if value is None else len(text_bytes(value))
    if kind == "enum" and isinstance(value, str):
        return want.symbols.index(value) if value in want.symbols else -1
    value = NULL[kind] if value is None else value
    if kind == "f4":
        return int(np.float32(value).view(np.int32))
    if kind == "f8":
        return int(np.float64(value).view(np.int64))
    return int(value)


def text_bytes(value: str | bytes) -> bytes:
    """The bytes of a default."""
    return value.encode() if isinstance(value, str) else value


def compile_tree(root: Node, resolved: Resolved) -> Code:
    """The program that reads the wanted fields from records of `root`.

    Raises
    ------
    SchemaError
        The program would be larger than any schema of good will needs.
    """
    compiler = _Compiler(resolved)
    compiler.emit(root, resolved.trie, (), ())
    compiler.close(0)
    compiler.op(op.HALT, ())
    while compiler.calls:
        at, node = compiler.calls.pop()
        if node not in compiler.routines:
            compiler.routines[node] = compiler.here()
            compiler.fields(node, Trie(), (), (node.name,))
            compiler.op(op.RETURN, (node.name,))
        compiler.ops[at][1] = compiler.routines[node] * op.SIZE
    return Code(compiler.ops, compiler.table, compiler.sinks, compiler.closes, compiler.paths)


class _Compiler:
    def __init__(self, resolved: Resolved) -> None:
        self.resolved = resolved
        self.ops: list[list[int]] = []
        self.paths: list[list[str]] = []
        self.table: list[int] = []
        self.sinks: list[tuple[int, Sink]] = []
        self.closes: list[tuple[int, int]] = []
        self.routines: dict[Node, int] = {}  # records that are skipped, by where their code begins
        self.calls: list[tuple[int, Node]] = []
        self.label = 0  # code before it may be jumped to: operations are merged only after it

    # -- code ----------------------------------------------------------------------------------------------------------

    def here(self) -> int:
        self.label = len(self.ops)
        return self.label

    def aim(self, at: int) -> None:
        """Operation `at` jumps to here."""
        self.ops[at][1] = self.here() * op.SIZE

    def op(self, operation: int, names: _Names, a: int = 0, b: int = 0, dimension: int = 0, null: int = 0) -> int:
        if len(self.ops) >= MOST_OPERATIONS:
            raise SchemaError(f"the program has more than {MOST_OPERATIONS} operations")
        self.ops.append([operation, a, b, 0, dimension * op.DIMENSION_SIZE, null, 0, 0])
        self.paths.append([".".join(names)])
        return len(self.ops) - 1

    def sink(self, at: int, sink: Sink) -> None:
        """Operation `at` writes to `sink`."""
        self.sinks.append((at, sink))
        self.ops[at][4] = sink.dimension * op.DIMENSION_SIZE

    def fill(self, sink: Sink, value: Any, names: _Names) -> None:
        """A value that does not come from the message: null, a default, or that something is present."""
        at = self.op(op.FILL, names, bits(sink.want, value), -1)
        self.sink(at, sink)
        self.ops[at][6] = SIZES[sink.want.kind]

    def skip(self, width: int, null: int, flag: bool, names: _Names) -> None:
        """A field of fixed width that nobody wants: merged with those just before it, where nothing jumps between."""
        if not width and not null:
            return
        entry, most = width << 3 | flag << 2 | null, width + (null > 0)
        last = self.ops[-1] if len(self.ops) > self.label else [op.HALT]
        if last[0] == op.SKIP and not entry & 7:
            last[1] += width
            return
        if last[0] == op.SKIP:
            before = last[1]
            last[:] = [op.RUN, 8 * len(self.table), 1, before, 0, 0, 0, 0]
            self.table.append(before << 3)
        if last[0] == op.RUN:
            last[2] += 1
            last[3] += most
            self.paths[-1].append(".".join(names))
        elif entry & 7:
            self.ops[self.op(op.RUN, names, 8 * len(self.table), 1)][3] = most
        else:
            self.op(op.SKIP, names, width)
            return
        self.table.append(entry)

    # -- types ---------------------------------------------------------------------------------------------------------

    def emit(self, node: Node, trie: Trie, shape: _Shape, names: _Names, null: int = 0) -> None:
        """Code for a value of `node`, reached by `names` through arrays of `shape`; `null` as in the kernel."""
        if node.kind == "union":
            self.union(node, trie, shape, names)
            return
        if trie.present is not None and trie.present.shape == shape:
            self.fill(trie.present, int(node.kind != "null"), names)
        if node.kind == "array":
            self.array(node, trie, shape, names)
            return
        if trie.below and node.kind != "record":
            self.lack(trie.below, shape, names, node.kind == "null")
        if node.kind == "record":
            self.record(node, trie, shape, names)
        elif node.kind == "null":
            if trie.value is not None and trie.value.shape == shape:
                self.fill(trie.value, None, names)
        elif trie.value is not None:
            self.value(node, trie.value, shape, names, null)
        elif node.kind == "map":
            self.items(node, Trie(), shape, names, None)
        elif node.kind in _VARINTS:
            size = len(node.symbols) if node.kind == "enum" else int(node.kind == "int")
            self.op(_VARINTS[node.kind], names, 0, size, null=null)
        else:
            self.skip(_width(node), null, node.kind == "boolean", names)

    def record(self, node: Node, trie: Trie, shape: _Shape, names: _Names) -> None:
        if trie.value is not None:
            self.op(op.FAIL, names, op.TYPE)
        if trie.below:
            self.fields(node, trie, shape, names)
        elif (width := node.width()) is not None:
            self.skip(width, 0, False, names)
        elif node.uses > 1:
            self.calls.append((self.op(op.CALL, names), node))
        else:
            self.fields(node, trie, shape, names)

    def fields(self, node: Node, trie: Trie, shape: _Shape, names: _Names) -> None:
        nothing, left = Trie(), dict(trie.below)
        for name, inner in node.fields:
            self.emit(inner, left.pop(name, nothing), shape, (*names, name))
        self.lack(left, shape, names, False)

    def lack(self, below: dict[str, Trie], shape: _Shape, names: _Names, null: bool) -> None:
        """Fill the columns of paths that do not exist here: all under a null, or those a record has no field for."""
        for trie in below.values():
            for sink in trie.sinks():
                if sink.shape == shape:
                    default = None if sink.want.default is REQUIRED or null else sink.want.default
                    self.fill(sink, None if isinstance(default, list) else default, names)

    def union(self, node: Node, trie: Trie, shape: _Shape, names: _Names) -> None:
        kinds = [branch.kind for branch in node.branches]
        if len(kinds) == 2 and kinds.count("null") == 1:
            place = kinds.index("null")
            inner = node.branches[1 - place]
            if inner.kind not in ("record", "array", "map") and not trie.below and trie.present is None:
                self.emit(inner, trie, shape, names, place + 1)
                return
            option = self.op(op.OPTION, names, b=place)
            self.emit(inner, trie, shape, names)
            if any(sink.shape == shape for sink in trie.sinks()):
                end = self.op(op.JUMP, names)
                self.aim(option)
                self.emit(node.branches[place], trie, shape, names)
                self.aim(end)
            else:
                self.aim(option)
            return
        base = len(self.table)
        self.table += [0] * len(kinds)
        self.op(op.UNION, names, 8 * base, len(kinds))
        ends = []
        for number, branch in enumerate(node.branches):
            self.table[base + number] = self.here() * op.SIZE
            self.emit(branch, trie, shape, names)
            ends.append(self.op(op.JUMP, names))
        for end in ends:
            self.aim(end)

    def array(self, node: Node, trie: Trie, shape: _Shape, names: _Names) -> None:
        longer = (*shape, len(names))
        inside = Trie(trie.value, None, trie.below)
        outside = {name: below for name, below in trie.below.items() if any(s.shape == shape for s in below.sinks())}
        if (trie.value is not None and trie.value.shape == shape) or outside.keys() & _fields(node):
            self.op(op.FAIL, names, op.TYPE)  # many values where one is wanted
        self.lack(outside, shape, names, False)
        if any(sink.shape[: len(longer)] == longer for sink in inside.sinks()):
            self.items(node, inside, longer, names, self.resolved.dimensions.index((names, longer)))
        else:
            self.items(node, Trie(), shape, names, None)

    def items(self, node: Node, trie: Trie, shape: _Shape, names: _Names, dimension: int | None) -> None:
        """The blocks of an array or a map; `dimension` is None where nothing in it is wanted."""
        inner = node.branches[0]
        width = inner.width() if node.kind == "array" else None
        if dimension is None and width is not None:
            self.op(op.BLOCKS, names, 0, width, dimension=-1)
            return
        begin = self.op(
            op.ARRAY, names, 0, inner.least() + (node.kind == "map"), -1 if dimension is None else dimension
        )
        if node.kind == "map":
            self.op(op.BYTES, names)
        self.emit(inner, trie, shape, names)
        if dimension is not None:
            self.close(dimension)
        self.op(op.NEXT, names, begin * op.SIZE, dimension=-1 if dimension is None else dimension)
        self.aim(begin)

    def close(self, dimension: int) -> None:
        """Note how many items the arrays in an item of `dimension` have."""
        for number, parent in enumerate(self.resolved.parents):
            if parent == dimension:
                at = self.op(
                    op.CLOSE, self.resolved.dimensions[number][0], number * op.DIMENSION_SIZE, dimension=dimension
                )
                self.closes.append((at, number))

    def value(self, node: Node, sink: Sink, shape: _Shape, names: _Names, null: int) -> None:
        """A value that is wanted; one that gives no such thing fails its message, but not where it is null."""
        kind = sink.want.kind
        if sink.shape != shape or node.kind not in SUITS[kind]:
            option = self.op(op.OPTION, names, b=null - 1) if null else None
            self.op(op.FAIL, names, op.TYPE)
            if option is not None:
                self.aim(option)
                if sink.shape == shape:
                    self.fill(sink, None, names)
            return
        at = self.op(_READ[node.kind, kind], names, _width(node), int(node.kind == "int"))
        if null:
            self.ops[at][5] = 4 * SIZES[kind] + null
        if node.kind == "enum":
            self.ops[at][1:3] = 8 * len(self.table), len(node.symbols)
            symbols = sink.want.symbols
            self.table += [symbols.index(symbol) if symbol in symbols else -1 for symbol in node.symbols]
        self.sink(at, sink)
        self.ops[at][6] = bits(sink.want, None)


def _width(node: Node) -> int:
    """Bytes of a value of a plain type."""
    return 1 if node.kind == "boolean" else node.width() or 0


def _fields(node: Node) -> set[str]:
    """The names of the fields of an array's items."""
    if node.kind in ("array", "union"):
        return {name for branch in node.branches for name in _fields(branch)}
    return {name for name, _ in node.fields}
