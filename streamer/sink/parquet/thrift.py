"""Thrift's compact protocol, in which Parquet writes its metadata: structures read whole, changed, and written again.

A structure is a dict from the number of a field to (type, value), in which a list is (type of its elements, elements). What a
field means is no matter here, so the metadata of a later Parquet passes through untouched.
"""

import struct
from typing import Any

Struct = dict[int, tuple[int, Any]]

TRUE, FALSE, BYTE, I16, I32, I64, DOUBLE, BINARY, LIST, SET, MAP, STRUCT = range(1, 13)
SHORT = 15  # lists of fewer elements, and steps to the next field of no more, have their number in the byte of the type


def read(data: bytes) -> Struct:
    """The structure that `data` begins with.

    Raises
    ------
    ValueError
        A type that Parquet's metadata does not have.
    """
    return _read_struct(data, 0)[0]


def write(fields: Struct) -> bytes:
    """`fields` as bytes; what `read` gave becomes what it was read from."""
    out = bytearray()
    _write_struct(out, fields)
    return bytes(out)


def _read_varint(data: bytes, at: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        byte = data[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, at
        shift += 7


def _read_struct(data: bytes, at: int) -> tuple[Struct, int]:
    fields: Struct = {}
    number = 0
    while True:
        step, kind = data[at] >> 4, data[at] & 15
        at += 1
        if not kind:
            return fields, at
        if step:
            number += step
        else:
            raw, at = _read_varint(data, at)
            number = _signed(raw)
        if kind in (TRUE, FALSE):
            fields[number] = kind, None
        else:
            value, at = _read(data, at, kind)
            fields[number] = kind, value


def _read(data: bytes, at: int, kind: int) -> tuple[Any, int]:
    if kind in (I16, I32, I64):
        raw, at = _read_varint(data, at)
        return _signed(raw), at
    if kind == BINARY:
        size, at = _read_varint(data, at)
        return bytes(data[at : at + size]), at + size
    if kind == STRUCT:
        return _read_struct(data, at)
    if kind == LIST:
        size, element = data[at] >> 4, data[at] & 15
        at += 1
        if size == SHORT:
            size, at = _read_varint(data, at)
        values = []
        for _ in range(size):
            value, at = _read(data, at, element)
            values.append(value)
        return (element, values), at
    if kind in (TRUE, FALSE, BYTE):  # a truth in a list is a byte
        return data[at], at + 1
    if kind == DOUBLE:
        return struct.unpack_from("<d", data, at)[0], at + 8
    raise ValueError(f"thrift type {kind} at byte {at}")


def _write_varint(out: bytearray, value: int) -> None:
    while value >= 0x80:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)


def _write_struct(out: bytearray, fields: Struct) -> None:
    before = 0
    for number, (kind, value) in sorted(fields.items()):
        step = number - before
        if 0 < step <= SHORT:
            out.append(step << 4 | kind)
        else:
            out.append(kind)
            _write_varint(out, _zigzag(number))
        before = number
        if kind not in (TRUE, FALSE):
            _write(out, kind, value)
    out.append(0)


def _write(out: bytearray, kind: int, value: Any) -> None:
    if kind in (I16, I32, I64):
        _write_varint(out, _zigzag(value))
    elif kind == BINARY:
        _write_varint(out, len(value))
        out += value
    elif kind == STRUCT:
        _write_struct(out, value)
    elif kind == LIST:
        element, values = value
        out.append(min(len(values), SHORT) << 4 | element)
        if len(values) >= SHORT:
            _write_varint(out, len(values))
        for each in values:
            _write(out, element, each)
    elif kind in (TRUE, FALSE, BYTE):
        out.append(value)
    elif kind == DOUBLE:
        out += struct.pack("<d", value)
    else:
        raise ValueError(f"thrift type {kind}")


def _signed(raw: int) -> int:
    return raw >> 1 ^ -(raw & 1)


def _zigzag(value: int) -> int:
    return value << 1 if value >= 0 else -value * 2 - 1
