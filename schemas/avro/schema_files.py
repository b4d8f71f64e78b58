"""Schemas from files, as surveys publish them: one file, or one that names records which lie beside it."""

import json
from pathlib import Path
from typing import Any

from schemas.avro.schema import SchemaError, parse
from schemas.errors import UserError


def read_schema(path: Path) -> Any:
    """The schema in `path`; a type it does not define is looked for beside it, in a file called as the type (as Rubin's are).

    Raises
    ------
    UserError
        There is no such file, or no schema in it.
    """
    try:
        schema = json.loads(path.read_bytes())
    except OSError as error:
        raise UserError(f"The schema {path} cannot be read ({error.strerror}).") from None
    except (ValueError, RecursionError) as error:
        raise UserError(f"The schema {path} is no JSON: {error}.") from None
    try:
        parse(schema)
    except SchemaError as error:
        return _with_neighbours(path, error)
    return schema


def _with_neighbours(path: Path, trouble: SchemaError) -> Any:
    from fastavro.schema import load_schema

    try:
        schema = load_schema(str(path))
        parse(schema)
    except Exception:  # the library has a dozen kinds; what it minds is what we minded first
        raise UserError(f"The schema {path} cannot be used: {trouble}, here or in a file beside it.") from None
    return schema
