"""Avro as producers write it: the numbers and texts of a record, and containers around records.

The specification: https://avro.apache.org/docs/1.12.0/specification/
"""

import hashlib
import json
import zlib
from collections.abc import Sequence
from typing import Any

import pyarrow as pa

from schemas.avro.codecs import CODECS
from schemas.avro.container import MAGIC, SYNC_BYTES


def zigzag(number: int) -> bytes:
    """An int or a long, of at most 64 bits."""
    code = (number << 1) ^ (number >> 63)
    out = bytearray()
    while code > 0x7F:
        out.append(code & 0x7F | 0x80)
        code >>= 7
    out.append(code)
    return bytes(out)


def sized(value: bytes) -> bytes:
    """Bytes, or the UTF-8 of a string: their length before them."""
    return zigzag(len(value)) + value


def containers(bodies: Sequence[bytes], schema: Any, codec: str = "null", records: int = 1) -> list[bytes]:
    """Object container files of `records` records each, in one block; the last may have fewer.

    All begin alike, so that a reader parses their header once: the sync marker is a hash of it instead of chance.

    Parameters
    ----------
    bodies
        Records as Avro.
    schema
        What they were written with.
    codec
        Of ``CODECS``.

    Raises
    ------
    ValueError
        No such codec, or `records` is not positive.
    """
    if codec not in CODECS:
        raise ValueError(f"no codec is called {codec!r}: there are {', '.join(CODECS)}")
    if records < 1:
        raise ValueError(f"{records} records a container: at least one is needed")
    meta = {"avro.schema": json.dumps(schema).encode(), "avro.codec": codec.encode()}
    entries = b"".join(sized(key.encode()) + sized(value) for key, value in meta.items())
    header = MAGIC + zigzag(len(meta)) + entries + b"\x00"
    sync = hashlib.blake2b(header, digest_size=SYNC_BYTES).digest()
    begin = header + sync
    files = []
    for first in range(0, len(bodies), records):
        some = bodies[first : first + records]
        files.append(b"".join((begin, zigzag(len(some)), sized(_compressed(b"".join(some), codec)), sync)))
    return files


def _compressed(data: bytes, codec: str) -> bytes:
    if codec == "deflate":
        deflater = zlib.compressobj(wbits=-15)
        return deflater.compress(data) + deflater.flush()
    if codec == "snappy":
        return bytes(pa.Codec("snappy").compress(data, asbytes=True)) + zlib.crc32(data).to_bytes(4, "big")
    if codec == "zstandard":
        return bytes(pa.Codec("zstd").compress(data, asbytes=True))
    return data
