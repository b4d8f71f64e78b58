"""The Confluent wire format: byte 0x00, the schema's id in four big-endian bytes, then schemaless Avro.

Ids come from a registry, or, without one, from the schema itself: its fingerprint id. Two programs that hold the same
schema then agree on its id with no server between them.
"""

import struct
from collections.abc import Iterable, Mapping
from typing import Any, Protocol

from fastavro.schema import fingerprint, to_parsing_canonical_form

from schemas.batch import Reason
from schemas.wire.framing import HEADER_BYTES, Refused

_HEADER = struct.Struct(">bI")


class SchemaSource(Protocol):
    """Where writer schemas come from."""

    def get(self, schema_id: int) -> dict[str, Any] | None:
        """The schema of `schema_id`, the same for ever; None where there is surely none.

        A source that cannot say (a registry that is away) raises ``TroubleError``: what waits on the world is never a
        reason to refuse a message.
        """


class KnownSchemas:
    """The schemas in hand, each under its fingerprint id, and those of `by_id` under ids that a person gave them."""

    def __init__(self, schemas: Iterable[dict[str, Any]], by_id: Mapping[int, dict[str, Any]] | None = None) -> None:
        self._by_id = {fingerprint_id(schema): schema for schema in schemas} | dict(by_id or {})

    def get(self, schema_id: int) -> dict[str, Any] | None:
        """The schema of `schema_id`, or None."""
        return self._by_id.get(schema_id)


def fingerprint_id(schema: dict[str, Any]) -> int:
    """The id of `schema` without a registry: low 31 bits of the CRC-64-AVRO fingerprint of its canonical form.

    31 bits, because registries and clients keep ids as signed 32-bit integers.
    """
    digest = fingerprint(to_parsing_canonical_form(schema), "CRC-64-AVRO")
    return int.from_bytes(bytes.fromhex(digest), "little") & 0x7FFFFFFF  # the digest is written lowest byte first


def header(schema_id: int) -> bytes:
    """The five bytes before the body."""
    return _HEADER.pack(0, schema_id)


def framed(bodies: Iterable[bytes], schema_id: int) -> list[bytes]:
    """Messages: each body behind the header of `schema_id`."""
    begin = header(schema_id)
    return [begin + body for body in bodies]


def schema_id(payload: bytes) -> int:
    """The schema id of a framed payload; ``Refused`` where there is no header."""
    if len(payload) < HEADER_BYTES:
        raise Refused(Reason.BAD_FRAMING, f"{len(payload)} bytes are too few for a Confluent header of 5", len(payload))
    magic, number = _HEADER.unpack_from(payload)
    if magic != 0:
        raise Refused(Reason.BAD_FRAMING, f"starts with byte {payload[0]:02x}, a Confluent header starts with 00", 0)
    return int(number)
