"""An Avro schema as a tree: names resolved, logical types as the types below them, recursion as a node that meets itself.

The specification: https://avro.apache.org/docs/1.12.0/specification/
"""

import json
from dataclasses import dataclass, field
from typing import Any

PRIMITIVES = frozenset({"null", "boolean", "int", "long", "float", "double", "bytes", "string"})
MAX_DEPTH = 200  # of nested types, written out; recursion has no depth here
ENOUGH = 1 << 31  # bytes: no message has more


class SchemaError(ValueError):
    """What was given is no Avro schema; the sentence says where."""


@dataclass(eq=False, repr=False)  # a few nodes may be a tree of 2^100: nobody prints it
class Node:
    """One type.

    Attributes
    ----------
    kind
        A primitive's name, or record, enum, fixed, array, map, union.
    name
        Full name of a record, an enum or a fixed.
    fields
        Of a record: (name, type) in the order on the wire.
    branches
        Of a union; for an array or a map its one item type.
    symbols
        Of an enum.
    size
        Of a fixed, bytes.
    uses
        How often the schema names it.
    """

    kind: str
    name: str = ""
    fields: list[tuple[str, "Node"]] = field(default_factory=list)
    branches: list["Node"] = field(default_factory=list)
    symbols: tuple[str, ...] = ()
    size: int = 0
    uses: int = 1
    _least: int = ENOUGH
    _width: int | None = None
    _known: bool = False

    def least(self) -> int:
        """The fewest bytes that a value takes, at most ``ENOUGH``: as many has a record that is always inside itself."""
        if self.kind == "record":
            return self._least
        if self.kind == "union":
            return 1 + min(node.least() for node in self.branches)
        return {"null": 0, "float": 4, "double": 8, "fixed": self.size}.get(self.kind, 1)

    def count(self) -> bool:
        """Learn the least of a record from those of its fields; whether that was news."""
        before, self._least = self._least, min(sum(node.least() for _, node in self.fields), ENOUGH)
        return before != self._least

    def width(self) -> int | None:
        """The bytes of a value where every value has as many and any bytes will do; else None."""
        if not self._known:
            self._known = True  # a record inside itself has no width
            if self.kind == "record":
                widths = [node.width() for _, node in self.fields]
                known = [width for width in widths if width is not None]
                self._width = min(sum(known), ENOUGH) if len(known) == len(widths) else None
            else:
                self._width = {"null": 0, "float": 4, "double": 8, "fixed": self.size}.get(self.kind)
        return self._width

    def _count(self) -> int:
        if self.kind == "record":
            return sum(node.least() for _, node in self.fields)
        if self.kind == "union":
            return 1 + min((node.least() for node in self.branches), default=0)
        return {"null": 0, "float": 4, "double": 8, "fixed": self.size}.get(self.kind, 1)


def parse(schema: Any) -> Node:
    """The tree of `schema`, JSON text or what JSON text gives.

    Raises
    ------
    SchemaError
        Where it is no schema.
    """
    if isinstance(schema, (str, bytes)):
        text = schema.decode("utf-8", "replace") if isinstance(schema, bytes) else schema
        if text not in PRIMITIVES:
            try:
                schema = json.loads(text)
            except (ValueError, RecursionError) as error:
                raise SchemaError(f"the schema is no JSON: {error}") from error
    parser = _Parser()
    root = parser.node(schema, "", 0)
    records = [node for node in reversed(parser.named.values()) if node.kind == "record"]
    while sum(node.count() for node in records):  # inner records come first here: few rounds, even with recursion
        pass
    return root


class _Parser:
    def __init__(self) -> None:
        self.named: dict[str, Node] = {}

    def node(self, schema: Any, space: str, depth: int) -> Node:
        if depth > MAX_DEPTH:
            raise SchemaError(f"types are nested more than {MAX_DEPTH} deep")
        if isinstance(schema, str):
            return self.reference(schema, space)
        if isinstance(schema, list):
            return self.union(schema, space, depth)
        if not isinstance(schema, dict) or "type" not in schema:
            raise SchemaError(f"{_short(schema)} is no type")
        kind = schema["type"]
        if isinstance(kind, (dict, list)):
            return self.node(kind, space, depth + 1)
        if kind in ("record", "error"):
            return self.record(schema, space, depth)
        if kind == "enum":
            symbols = schema.get("symbols")
            if not isinstance(symbols, list) or not all(isinstance(s, str) for s in symbols):
                raise SchemaError(f"the enum {schema.get('name')!r} has no list of symbols")
            return self.define(schema, space, Node("enum", symbols=tuple(symbols)))[0]
        if kind == "fixed":
            size = schema.get("size")
            if not isinstance(size, int) or isinstance(size, bool) or not 0 <= size < 1 << 31:
                raise SchemaError(f"the fixed {schema.get('name')!r} has the size {size!r}")
            return self.define(schema, space, Node("fixed", size=size))[0]
        if kind in ("array", "map"):
            items = "items" if kind == "array" else "values"
            if items not in schema:
                raise SchemaError(f"an {kind} without {items}")
            return Node(kind, branches=[self.node(schema[items], space, depth + 1)])
        if not isinstance(kind, str):
            raise SchemaError(f"{_short(kind)} is no type")
        return self.reference(kind, space)

    def reference(self, name: str, space: str) -> Node:
        if name in PRIMITIVES:
            return Node(name)
        full = name if "." in name or not space else f"{space}.{name}"
        found = self.named.get(full) or self.named.get(name)
        if found is None:
            raise SchemaError(f"nothing is called {name!r}")
        found.uses += 1
        return found

    def union(self, schema: list[Any], space: str, depth: int) -> Node:
        branches = [self.node(branch, space, depth + 1) for branch in schema]
        if not branches or any(branch.kind == "union" for branch in branches):
            raise SchemaError(f"{_short(schema)} is no union: it is empty, or holds another")
        return Node("union", branches=branches)

    def record(self, schema: dict[str, Any], space: str, depth: int) -> Node:
        node, inner = self.define(schema, space, Node("record"))
        fields = schema.get("fields")
        if not isinstance(fields, list):
            raise SchemaError(f"the record {node.name!r} has no list of fields")
        for entry in fields:
            if not isinstance(entry, dict) or not isinstance(entry.get("name"), str) or "type" not in entry:
                raise SchemaError(f"the record {node.name!r} has a field without a name or a type")
            node.fields.append((entry["name"], self.node(entry["type"], inner, depth + 1)))
        return node  # two fields may have one name, against the rules (WINTER's packets do): the first is meant

    def define(self, schema: dict[str, Any], space: str, node: Node) -> tuple[Node, str]:
        name = schema.get("name")
        if not isinstance(name, str) or not name:
            raise SchemaError(f"a {node.kind} without a name")
        if "." in name:
            space, _, name = name.rpartition(".")
        else:
            space = schema.get("namespace", space) or ""
        node.name = f"{space}.{name}" if space else name
        if node.name in self.named:
            raise SchemaError(f"two types are called {node.name!r}")
        self.named[node.name] = node
        return node, space


def _short(schema: Any) -> str:
    text = json.dumps(schema, default=str)
    return text if len(text) < 60 else text[:57] + "..."
