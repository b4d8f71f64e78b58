"""The naive twin of the Avro kernel: a reader that follows the specification to the letter, one value at a time."""

import struct
from typing import Any

from schemas.avro import Status

MOST_FRAMES = 256
FREE_ITEMS = 256
_PLAIN = {"boolean": 1, "float": 4, "double": 8}


class Trouble(Exception):
    """A record that cannot be read: why, and the byte at which the value in trouble begins."""

    def __init__(self, status: Status, byte: int) -> None:
        super().__init__(status, byte)
        self.status, self.byte = status, byte


class Strict:
    """Reads one record.

    Parameters
    ----------
    names
        The named types.
    data
        The message.
    unread
        Paths of arrays and maps that nobody wants anything of: their blocks are skipped by size, where they say one. None = all.
    """

    def __init__(self, names: dict[str, Any], data: bytes, unread: set[str] | None) -> None:
        self.names, self.data, self.unread = names, data, unread
        self.at = 0
        self.strange_text = False  # a string was no UTF-8, which does not matter here
        self.in_size = False  # the trouble is with the size of a block
        self.frames = 0
        self.free = max(len(data), FREE_ITEMS)

    def record(self, schema: Any) -> Any:
        """The record from the first byte to the last."""
        value = self.value(schema, "")
        if self.at != len(self.data):
            raise Trouble(Status.TRAILING, self.at)
        return value

    def varint(self, begin: int) -> int:
        code = 0
        for k in range(10):
            byte = self.bytes(1, begin)[0]
            code |= (byte & 0x7F) << (7 * k)
            if byte < 0x80:
                if code >= 1 << 64:
                    break
                return (code >> 1) ^ -(code & 1)
        raise Trouble(Status.VARINT, begin)

    def bytes(self, size: int, begin: int) -> bytes:
        if size > len(self.data) - self.at:
            raise Trouble(Status.TRUNCATED, begin)
        self.at += size
        return self.data[self.at - size : self.at]

    def value(self, schema: Any, path: str, branch_at: int | None = None) -> Any:
        """A value; `branch_at` is where the branch of its union began, if that has one other branch, null."""
        begin = self.at
        if isinstance(schema, str) and schema in self.names:
            return self.value(self.names[schema], path, branch_at)
        if isinstance(schema, list):
            branch = self.varint(begin)
            if not 0 <= branch < len(schema):
                raise Trouble(Status.BRANCH, begin)
            option = len(schema) == 2 and "null" in schema
            return self.value(schema[branch], path, begin if option else None)
        kind = schema if isinstance(schema, str) else schema["type"]
        if isinstance(kind, str) and kind not in ("record", "array", "map"):
            begin = begin if branch_at is None else branch_at
        if kind == "record":
            return {f["name"]: self.value(f["type"], f"{path}.{f['name']}".lstrip(".")) for f in schema["fields"]}
        if kind in ("array", "map"):
            return self.blocks(schema, path)
        if kind in ("int", "long", "enum", "bytes", "string"):
            number = self.varint(begin)
            if kind == "int" and not -(2**31) <= number < 2**31:
                raise Trouble(Status.INT, begin)
            if kind == "enum":
                if not 0 <= number < len(schema["symbols"]):
                    raise Trouble(Status.SYMBOL, begin)
                return schema["symbols"][number]
            if kind in ("int", "long"):
                return number
            if number < 0:
                raise Trouble(Status.LENGTH, begin)
            data = self.bytes(number, begin)
            self.strange_text |= kind == "string" and _strange(data)
            return data
        if kind == "null":
            return None
        width = schema["size"] if kind == "fixed" else _PLAIN[kind]
        data = self.bytes(width, begin)
        if kind == "boolean":
            if data[0] > 1:
                raise Trouble(Status.BOOLEAN, begin)
            return bool(data[0])
        return data if kind == "fixed" else struct.unpack("<f" if kind == "float" else "<d", data)[0]

    def blocks(self, schema: Any, path: str) -> list[Any]:
        inner = schema["items"] if schema["type"] == "array" else schema["values"]
        least = least_bytes(inner, self.names) + (schema["type"] == "map")
        items: list[Any] = []
        while True:
            begin = self.at
            count = self.varint(begin)
            if count == 0:
                return items
            bound = None
            if count == -(2**63):
                raise Trouble(Status.COUNT, begin)
            if count < 0:
                count = -count
                self.in_size = True
                size = self.varint(begin)
                if size < 0:
                    raise Trouble(Status.LENGTH, begin)
                if size > len(self.data) - self.at:
                    raise Trouble(Status.TRUNCATED, begin)
                if count * least > size or (least == 0 and size):
                    raise Trouble(Status.BLOCK, begin)
                bound = self.at + size
                self.in_size = False
            elif count * least > len(self.data) - self.at:
                raise Trouble(Status.COUNT, begin)
            if least == 0:
                if count > self.free:
                    raise Trouble(Status.EMPTY, begin)
                self.free -= count
            if bound is not None and self.unread is not None and path in self.unread:
                self.at = bound
                continue
            self.frames += 1
            if self.frames > MOST_FRAMES:
                raise Trouble(Status.DEPTH, begin)
            for _ in range(count):
                key = self.value("string", path) if schema["type"] == "map" else None
                value = self.value(inner, path)
                items.append(value if key is None else (key, value))
            self.frames -= 1
            if bound is not None and bound != self.at:
                raise Trouble(Status.BLOCK, self.at)


def least_bytes(schema: Any, names: dict[str, Any], open_names: tuple[str, ...] = ()) -> int:
    """The fewest bytes of a value."""
    if isinstance(schema, str) and schema in names:
        return 1 << 31 if schema in open_names else least_bytes(names[schema], names, (*open_names, schema))
    if isinstance(schema, list):
        return 1 + min(least_bytes(branch, names, open_names) for branch in schema)
    kind = schema if isinstance(schema, str) else schema["type"]
    if kind == "record":
        inside = (*open_names, schema["name"])
        return sum(least_bytes(field["type"], names, inside) for field in schema["fields"])
    return {"null": 0, "float": 4, "double": 8, "fixed": 0 if isinstance(schema, str) else schema.get("size", 0)}.get(
        kind, 1
    )


def _strange(data: bytes) -> bool:
    try:
        data.decode()
    except UnicodeDecodeError:
        return True
    return False
