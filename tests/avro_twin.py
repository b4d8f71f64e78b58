"""Avro the slow way: schemas and values drawn by hypothesis, beside the encoder and the paths of ``benchmarks.avro_values``."""

from typing import Any

from hypothesis import strategies as st

from benchmarks.avro_values import DEEP, Blocks, Branch, at, encode, named, plain, unwanted, wants, zigzag

__all__ = ["Blocks", "Branch", "at", "encode", "named", "plain", "schemas", "unwanted", "values", "wants", "zigzag"]
PRIMITIVES = ("null", "boolean", "int", "long", "float", "double", "bytes", "string")
INTEGERS = {"int": st.integers(-(2**31), 2**31 - 1), "long": st.integers(-(2**63) + 1, 2**63 - 1)}


@st.composite
def schemas(draw: st.DrawFn, depth: int = 3) -> dict[str, Any]:
    """A record of anything, `depth` types deep, with named types referred to again, and by themselves."""
    names: list[str] = []
    made: list[str] = []
    open_records: list[str] = []

    def name(prefix: str) -> str:
        names.append(prefix)
        return f"{prefix}{len(names)}"

    def kind(left: int) -> Any:
        simple = [*PRIMITIVES, "enum", "fixed", "timestamp"]
        choice = draw(
            st.sampled_from(simple + (["record", "array", "map", "null-or", "union", "again", "self"] if left else []))
        )
        if choice in PRIMITIVES:
            return choice
        if choice == "timestamp":
            return {"type": "long", "logicalType": "timestamp-micros"}
        if choice == "enum":
            made.append(name("E"))
            return {"type": "enum", "name": made[-1], "symbols": ["A", "B", "C"][: draw(st.integers(1, 3))]}
        if choice == "fixed":
            made.append(name("F"))
            return {"type": "fixed", "name": made[-1], "size": draw(st.integers(0, 9))}
        if choice == "record":
            return record(left - 1)
        if choice == "array":
            return {"type": "array", "items": kind(left - 1)}
        if choice == "map":
            return {"type": "map", "values": kind(left - 1)}
        if choice == "again" and made:
            return draw(st.sampled_from(made))
        if choice == "null-or":
            inner = kind(left - 1)
            if inner == "null" or isinstance(inner, list):
                return inner
            return draw(st.sampled_from([["null", inner], [inner, "null"]]))
        if choice == "self" and open_records:
            inner = draw(st.sampled_from(open_records))
            return draw(st.sampled_from([["null", inner], {"type": "array", "items": inner}]))
        branches = st.sampled_from([*PRIMITIVES, *made])
        return draw(st.lists(branches, min_size=1, max_size=5, unique=True))

    def record(left: int) -> dict[str, Any]:
        full = name("R")
        count = draw(st.integers(0, 5))
        open_records.append(full)
        fields = [{"name": f"f{i}", "type": kind(left)} for i in range(count)]
        made.append(open_records.pop())
        return {"type": "record", "name": full, "fields": fields}

    return record(depth)


def values(schema: Any, names: dict[str, Any]) -> st.SearchStrategy[Any]:
    """Values of `schema`: records as dicts, unions as `Branch`, arrays and maps as `Blocks`."""

    @st.composite
    def drawn(draw: st.DrawFn) -> Any:
        def value(schema: Any, depth: int) -> Any:
            depth += 1
            if isinstance(schema, str) and schema in names:
                return value(names[schema], depth)
            if isinstance(schema, list):
                number = draw(st.integers(0, len(schema) - 1))
                if depth > DEEP and "null" in schema:
                    number = schema.index("null")
                return Branch(number, value(schema[number], depth))
            kind = schema if isinstance(schema, str) else schema["type"]
            if kind == "record":
                return {field["name"]: value(field["type"], depth) for field in schema["fields"]}
            if kind in ("array", "map"):
                inner = schema["items"] if kind == "array" else schema["values"]
                sizes = draw(st.lists(st.integers(1, 3), max_size=0 if depth > DEEP else 2))
                key = st.text(max_size=3)
                items = [
                    [(draw(key), value(inner, depth)) if kind == "map" else value(inner, depth) for _ in range(k)]
                    for k in sizes
                ]
                return Blocks(items, [draw(st.booleans()) for _ in sizes])
            if kind == "enum":
                return draw(st.integers(0, len(schema["symbols"]) - 1))
            if kind == "fixed":
                return draw(st.binary(min_size=schema["size"], max_size=schema["size"]))
            return draw(_primitive(kind))

        return value(schema, 0)

    return drawn()


def _primitive(kind: str) -> st.SearchStrategy[Any]:
    if kind in INTEGERS:
        return INTEGERS[kind]
    return {
        "null": st.none(),
        "boolean": st.booleans(),
        "float": st.floats(width=32),
        "double": st.floats(),
        "bytes": st.binary(max_size=5),
        "string": st.text(max_size=5),
    }[kind]
