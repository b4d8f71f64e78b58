"""JSON as messages: an object, an array of objects, or one object a line. The slow way, for small brokers and for people.

Fields are found by the paths that Avro has, `diaObject.hostgal_mag_i` inside nested objects or as one flat key. A row that
cannot be read costs no other row.
"""

import base64
import binascii
import json
from collections.abc import Sequence
from typing import Any

from schemas.avro import REQUIRED, Want
from schemas.batch import Reason
from schemas.wire.framing import Refused

_ABSENT = object()


def read(
    payload: bytes, wants: Sequence[Want], max_rows: int
) -> tuple[dict[str, list[Any]], list[int], list[tuple[int, Refused]]]:
    """The wanted fields of each row of `payload`.

    Returns
    -------
    columns
        Values of the rows that could be read, by path; None = null.
    read
        The numbers of those rows.
    refused
        The numbers of the others, each with why not.

    Raises
    ------
    Refused
        Where there are no rows at all.
    """
    rows = _rows(payload, max_rows)
    columns: dict[str, list[Any]] = {want.path: [] for want in wants}
    good: list[int] = []
    refused: list[tuple[int, Refused]] = []
    for number, (row, byte) in enumerate(rows):
        try:
            if isinstance(row, Refused):
                raise row
            if not isinstance(row, dict):
                raise Refused(Reason.CORRUPT, f"a {type(row).__name__}, not an object", byte)
            values = [_value(row, want, byte) for want in wants]
        except Refused as why:
            refused.append((number, why))
            continue
        for want, value in zip(wants, values, strict=True):
            columns[want.path].append(value)
        good.append(number)
    return columns, good, refused


def _rows(payload: bytes, max_rows: int) -> list[tuple[Any, int]]:
    """Each row, or why it is none, with the byte at which it begins."""
    try:
        whole = json.loads(payload)
    except (ValueError, RecursionError) as error:
        rows = _lines(payload)
        if len(rows) == 1:
            raise Refused(Reason.CORRUPT, f"no JSON: {error}", getattr(error, "pos", -1)) from error
    else:
        rows = [(row, 0) for row in whole] if isinstance(whole, list) else [(whole, 0)]
    if len(rows) > max_rows:
        raise Refused(Reason.TOO_LARGE, f"{len(rows)} rows, more than the bound of {max_rows}")
    if not rows:
        raise Refused(Reason.EMPTY, "JSON without rows")
    return rows


def _lines(payload: bytes) -> list[tuple[Any, int]]:
    rows: list[tuple[Any, int]] = []
    byte = 0
    for line in payload.split(b"\n"):
        if line.strip():
            try:
                rows.append((json.loads(line), byte))
            except (ValueError, RecursionError) as error:
                rows.append((Refused(Reason.CORRUPT, f"a line that is no JSON: {error}", byte), byte))
        byte += len(line) + 1
    return rows


def _value(row: dict[str, Any], want: Want, byte: int) -> Any:
    found = _ABSENT
    for path in (want.path, *want.aliases):
        found = _walk(row, path)
        if found is not _ABSENT:
            break
    if found is _ABSENT:
        if want.default is REQUIRED:
            raise Refused(Reason.LACKS_FIELD, f"the object lacks the field {want.path}", byte)
        return want.default
    if want.kind == "present":
        return int(found is not None)
    if found is None:
        return None
    value = _convert(found, want)
    if value is _ABSENT:
        raise Refused(Reason.CORRUPT, f"the field {want.path} is {json.dumps(found)[:40]}: want {want.kind}", byte)
    return value


def _walk(row: dict[str, Any], path: str) -> Any:
    """The value at `path`; None below a null; ``_ABSENT`` where the object has no such field."""
    if path in row:
        return row[path]
    value: Any = row
    for name in path.split("."):
        if value is None:
            return None
        if not isinstance(value, dict) or name not in value:
            return _ABSENT
        value = value[name]
    return value


def _convert(value: Any, want: Want) -> Any:
    """`value` as `want` has it, or ``_ABSENT`` where it is something else."""
    number = isinstance(value, (int, float)) and not isinstance(value, bool)
    if want.kind in ("f4", "f8") and number:
        return float(value) if abs(value) < 1e308 or isinstance(value, float) else _ABSENT
    if want.kind == "i8":
        if isinstance(value, str) and value.lstrip("-").isdecimal() and len(value) < 20:  # 64 bits do not fit a double
            value = int(value)
        if isinstance(value, int) and not isinstance(value, bool) and -(1 << 63) < value < 1 << 63:
            return value
    if want.kind == "bool" and isinstance(value, bool):
        return int(value)
    if want.kind == "string" and isinstance(value, str):
        return value
    if want.kind == "enum":
        if isinstance(value, str):
            return want.symbols.index(value) if value in want.symbols else -1
        if isinstance(value, int) and not isinstance(value, bool):
            return value if 0 <= value < len(want.symbols) else -1
    if want.kind == "bytes" and isinstance(value, str):
        try:
            return base64.b64decode(value, validate=True)
        except (binascii.Error, ValueError):
            return _ABSENT
    return _ABSENT
