"""What stands around the fields of a message: framing, schema, and how many records there are. Never raises for a bad message."""

import json
import re
from typing import Any, NamedTuple

import pyarrow as pa

from schemas.avro import Container, SchemaError, buffers, parse
from schemas.avro.container import SYNC_BYTES, number_at, read_meta
from schemas.wire import confluent, framing
from schemas.wire.framing import FRAMINGS, Framing, Refused

KNOWN_FILES: dict[bytes, str] = {  # what people take for a message
    b"ARROW1": "an Arrow file (Feather): a message is an Arrow IPC stream",
    b"PAR1": "a Parquet file: `slipher publish` makes messages of its rows",
    b"\x1f\x8b": "gzip: unpack it first",
    b"PK\x03\x04": "a zip archive: unpack it first",
    b"BZh": "bzip2: unpack it first",
    b"SIMPLE  =": "a FITS file: messages carry such as cutouts",
    b"\x89HDF": "an HDF5 file: `slipher publish` makes messages of its rows",
    b"<": "HTML or XML: perhaps the answer of a web server instead of the file",
}
_VERSION = re.compile(r"\bv(\d+)_(\d+(?:_\d+)*)\b")


class Anatomy(NamedTuple):
    """The parts of one message.

    Attributes
    ----------
    framing
        Of ``FRAMINGS``; "" where there is none that we know.
    guess
        What a message without a framing looks like, "" = like nothing.
    schema_id
        Of Confluent's header; None = there is none.
    schema
        Avro's, as JSON; None where the framing has none, or it cannot be had.
    name, version
        Of the schema, "" where it has none.
    fields
        Names on top.
    codec
        Of a container, "" elsewhere.
    records, blocks
        In a container, an Arrow stream or JSON, as far as they can be counted.
    note
        Why it could not be looked at further, "" = it could.
    """

    framing: str
    guess: str = ""
    schema_id: int | None = None
    schema: Any = None
    name: str = ""
    version: str = ""
    fields: tuple[str, ...] = ()
    codec: str = ""
    records: int | None = None
    blocks: int | None = None
    note: str = ""


def anatomy(payload: bytes | None, how: str, schemas: confluent.SchemaSource, bare: Any, max_bytes: int) -> Anatomy:
    """The parts of `payload`.

    Parameters
    ----------
    payload
        The message; None = a tombstone.
    how, bare
        As in ``Reading``.
    schemas
        Where the schemas of Confluent-framed Avro come from.
    max_bytes
        A larger message is not looked at.

    Raises
    ------
    TroubleError
        `schemas` cannot say what it knows.
    """
    kinds, ids = framing.classify(buffers([payload]), how, max_bytes)
    kind = Framing(int(kinds[0]))
    name = next((name for name, value in FRAMINGS.items() if value == kind and name != "auto"), "")
    if payload is None or not name:
        return Anatomy("", _looks_like(payload or b""))
    try:
        if kind == Framing.CONFLUENT:
            return _confluent(payload, int(ids[0]), schemas)
        if kind == Framing.CONTAINER:
            return _container(payload)
        if kind == Framing.ARROW:
            return _arrow(payload)
        if kind == Framing.JSON:
            return _json(payload)
        return _of_schema(Anatomy(name, records=1), bare)
    except (Refused, Container) as why:
        return Anatomy(name, note=why.text)


def _confluent(payload: bytes, number: int, schemas: confluent.SchemaSource) -> Anatomy:
    found = Anatomy("confluent-avro", schema_id=number, records=1)
    try:
        schema = schemas.get(number)
    except Refused as why:
        return found._replace(note=why.text)
    if schema is None:
        return found._replace(note=f"nobody here knows a schema {number}")
    return _of_schema(found, schema)


def _of_schema(found: Anatomy, schema: Any) -> Anatomy:
    """With what an Avro schema says of itself."""
    try:
        root = parse(schema)
    except (SchemaError, RecursionError) as error:
        return found._replace(schema=schema, note=f"the schema cannot be used: {error}")
    said = schema.get("version", "") if isinstance(schema, dict) else ""
    in_name = _VERSION.search(root.name)
    version = str(said) or (in_name[0].removeprefix("v").replace("_", ".") if in_name else "")
    return found._replace(schema=schema, name=root.name, version=version, fields=tuple(name for name, _ in root.fields))


def _container(payload: bytes) -> Anatomy:
    end, meta = read_meta(payload)
    found = Anatomy("container", codec=meta.get("avro.codec", b"null").decode("ascii", "replace") or "null")
    records, blocks = _blocks(payload, end + SYNC_BYTES)
    found = found._replace(records=records, blocks=blocks)
    try:
        schema = json.loads(meta.get("avro.schema", b""))
    except (ValueError, RecursionError) as error:
        return found._replace(note=f"the container's schema is no JSON: {error}")
    return _of_schema(found, schema)


def _blocks(payload: bytes, at: int) -> tuple[int, int]:
    """Records and blocks that a container says it has, up to where it breaks off."""
    records = blocks = 0
    try:
        while at < len(payload):
            count, at = number_at(payload, at)
            size, at = number_at(payload, at)
            if count < 0 or size < 0 or at + size > len(payload):
                break
            records, blocks, at = records + count, blocks + 1, at + size + SYNC_BYTES
    except Container:
        pass
    return records, blocks


def _arrow(payload: bytes) -> Anatomy:
    found = Anatomy("arrow")
    records = blocks = 0
    try:
        with pa.ipc.open_stream(pa.BufferReader(payload)) as stream:
            schema = stream.schema
            said = {key.decode("utf-8", "replace"): value for key, value in (schema.metadata or {}).items()}
            found = found._replace(
                name=said.get("slipher.message", b"").decode("utf-8", "replace"),
                version=said.get("slipher.version", b"").decode("utf-8", "replace"),
                fields=tuple(schema.names),
            )
            for batch in stream:
                records, blocks = records + batch.num_rows, blocks + 1
    except Exception as error:  # of any kind: Arrow is given garbage here
        found = found._replace(note=f"the Arrow stream breaks off: {str(error).splitlines()[0][:200]}")
    return found._replace(records=records, blocks=blocks)


def _json(payload: bytes) -> Anatomy:
    found = Anatomy("json")
    try:
        row, records = first_object(payload)
    except ValueError as error:
        return found._replace(note=str(error))
    version = row.get("schemavsn", row.get("version", ""))
    guess = "an Avro schema: a message goes with it, --schema FILE" if {"type", "fields"} <= row.keys() else ""
    return found._replace(
        guess=guess, records=records, fields=tuple(row), version=version if isinstance(version, str) else ""
    )


def first_object(payload: bytes) -> tuple[dict[str, Any], int]:
    """The first JSON object of a message, and how many rows there are; ``ValueError`` where there is none."""
    try:
        whole = json.loads(payload)
        rows = whole if isinstance(whole, list) else [whole]
    except RecursionError:
        raise ValueError("JSON nested too deep") from None
    except ValueError as error:
        rows = [line for line in payload.split(b"\n") if line.strip()]
        if len(rows) == 1:
            raise ValueError(f"no JSON: {error}") from None
    for row in rows:
        try:
            row = json.loads(row) if isinstance(row, bytes) else row
        except (ValueError, RecursionError):
            continue
        if isinstance(row, dict):
            return row, len(rows)
    raise ValueError("JSON without an object")


def _looks_like(payload: bytes) -> str:
    return next((words for magic, words in KNOWN_FILES.items() if payload.startswith(magic)), "")
