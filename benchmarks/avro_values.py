"""Avro the slow way, one value at a time: an encoder of every legal form, and paths into values."""

import struct
from typing import Any, NamedTuple

from schemas.avro import Want

DEEP = 7  # types: from there on values are null or empty, where they can be


class Branch(NamedTuple):
    """A value of a union, and which branch it is."""

    number: int
    value: Any


class Blocks(NamedTuple):
    """Items of an array or a map, as the blocks they are written in; `sized` blocks say how many bytes they have."""

    blocks: list[list[Any]]
    sized: list[bool]

    @property
    def items(self) -> list[Any]:
        return [item for block in self.blocks for item in block]


def named(schema: Any, found: dict[str, Any] | None = None) -> dict[str, Any]:
    """The named types of `schema`, by name."""
    found = {} if found is None else found
    if isinstance(schema, list):
        for branch in schema:
            named(branch, found)
    elif isinstance(schema, dict):
        if "name" in schema and schema["type"] in ("record", "enum", "fixed"):
            found[schema["name"]] = schema
        for field in schema.get("fields", ()):
            named(field["type"], found)
        for below in ("items", "values"):
            named(schema.get(below), found)
    return found


def zigzag(number: int) -> bytes:
    """A long as Avro writes it."""
    code = (number << 1) ^ (number >> 63)
    out = bytearray()
    while code > 0x7F:
        out.append(code & 0x7F | 0x80)
        code >>= 7
    return bytes([*out, code])


def encode(schema: Any, value: Any, names: dict[str, Any]) -> bytes:
    """`value` in the binary form of `schema`."""
    if isinstance(schema, str) and schema in names:
        return encode(names[schema], value, names)
    if isinstance(schema, list):
        return zigzag(value.number) + encode(schema[value.number], value.value, names)
    kind = schema if isinstance(schema, str) else schema["type"]
    if kind == "record":
        return b"".join(encode(field["type"], value[field["name"]], names) for field in schema["fields"])
    if kind in ("array", "map"):
        return _blocks(schema, value, names)
    if kind in ("int", "long", "enum"):
        return zigzag(value)
    if kind in ("bytes", "string"):
        data = value.encode() if isinstance(value, str) else value
        return zigzag(len(data)) + data
    if kind == "fixed":
        return bytes(value)
    return {
        "null": lambda: b"",
        "boolean": lambda: bytes([value]),
        "float": lambda: struct.pack("<f", value),
        "double": lambda: struct.pack("<d", value),
    }[kind]()


def _blocks(schema: Any, value: Blocks, names: dict[str, Any]) -> bytes:
    out = b""
    for block, sized in zip(value.blocks, value.sized, strict=True):
        if schema["type"] == "map":
            body = b"".join(encode("string", k, names) + encode(schema["values"], v, names) for k, v in block)
        else:
            body = b"".join(encode(schema["items"], item, names) for item in block)
        out += zigzag(-len(block)) + zigzag(len(body)) if sized else zigzag(len(block))
        out += body
    return out + b"\x00"


def plain(value: Any, schema: Any, names: dict[str, Any]) -> Any:
    """`value` as an Avro library returns it."""
    if isinstance(schema, str) and schema in names:
        return plain(value, names[schema], names)
    if isinstance(schema, list):
        return plain(value.value, schema[value.number], names)
    kind = schema if isinstance(schema, str) else schema["type"]
    if kind == "record":
        return {field["name"]: plain(value[field["name"]], field["type"], names) for field in schema["fields"]}
    if kind == "array":
        return [plain(item, schema["items"], names) for item in value.items]
    if kind == "map":
        return {k: plain(v, schema["values"], names) for k, v in value.items}
    return schema["symbols"][value] if kind == "enum" else value


WANTED = {
    "boolean": "bool",
    "int": "i8",
    "long": "i8",
    "float": "f4",
    "double": "f8",
    "bytes": "bytes",
    "string": "string",
    "fixed": "bytes",
    "enum": "enum",
}


def wants(schema: Any, names: dict[str, Any], path: str = "") -> list[Want]:
    """Every leaf that can be wanted, through records, nulls and arrays; ambiguous unions are left alone."""
    if path.count(".") == DEEP:
        return []
    if isinstance(schema, str) and schema in names:
        return wants(names[schema], names, path)
    if isinstance(schema, list):
        if len(schema) != 2 or "null" not in schema:
            return []
        return wants(schema[1 - schema.index("null")], names, path)
    kind = schema if isinstance(schema, str) else schema["type"]
    if kind == "record":
        return [w for f in schema["fields"] for w in wants(f["type"], names, f"{path}.{f['name']}".lstrip("."))]
    if kind == "array":
        return wants(schema["items"], names, path)
    if kind not in WANTED:
        return []
    return [Want(path, WANTED[kind], symbols=symbols(schema))]  # type: ignore[arg-type]


def symbols(schema: Any) -> tuple[str, ...]:
    """Some of an enum's symbols, in another order."""
    return (
        tuple(s for s in reversed(schema["symbols"]) if s != "B")
        if isinstance(schema, dict) and "symbols" in schema
        else ()
    )


def at(value: Any, path: tuple[str, ...], schema: Any, names: dict[str, Any]) -> Any:
    """What stands at `path`: a value, None, or a list of the items of the array that is passed."""
    if isinstance(schema, str) and schema in names:
        return at(value, path, names[schema], names)
    if isinstance(schema, list):
        inner = schema[value.number]
        return None if inner == "null" and not _through_array(schema, path, names) else (
            [] if inner == "null" else at(value.value, path, inner, names)
        )  # fmt: skip
    kind = schema if isinstance(schema, str) else schema["type"]
    if kind == "record":
        field = next(f for f in schema["fields"] if f["name"] == path[0])
        return at(value[path[0]], path[1:], field["type"], names)
    if kind == "array":
        return [at(item, path, schema["items"], names) for item in value.items]
    if kind == "enum":
        symbol, known = schema["symbols"][value], symbols(schema)
        return known.index(symbol) if symbol in known else -1
    return value


def _through_array(schema: Any, path: tuple[str, ...], names: dict[str, Any]) -> bool:
    """Whether an array lies between `schema` and the end of `path`."""
    if isinstance(schema, str) and schema in names:
        return _through_array(names[schema], path, names)
    if isinstance(schema, list):
        return any(_through_array(branch, path, names) for branch in schema if branch != "null")
    if isinstance(schema, dict):
        if schema["type"] == "array":
            return True
        if schema["type"] == "record" and path:
            field = next(f for f in schema["fields"] if f["name"] == path[0])
            return _through_array(field["type"], path[1:], names)
    return False


def unwanted(schema: Any, names: dict[str, Any], paths: list[str], path: str = "", depth: int = 0) -> set[str]:
    """The paths of the arrays and maps that none of `paths` goes into."""
    if isinstance(schema, str) and schema in names:
        return unwanted(names[schema], names, paths, path, depth + 1) if depth < 2 * DEEP else {path}
    if isinstance(schema, list):
        return {found for branch in schema for found in unwanted(branch, names, paths, path, depth)}
    if not isinstance(schema, dict):
        return set()
    if schema["type"] == "record":
        fields = [(f["type"], f"{path}.{f['name']}".lstrip(".")) for f in schema["fields"]]
        return {found for kind, below in fields for found in unwanted(kind, names, paths, below, depth)}
    if schema["type"] == "map":
        return {path} | unwanted(schema["values"], names, [], path, depth)
    if schema["type"] == "array":
        inside = unwanted(schema["items"], names, paths, path, depth)
        return inside if any(f"{wanted}.".startswith(f"{path}.") for wanted in paths) else inside | {path}
    return set()
