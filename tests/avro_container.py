"""Object container files written the slow way: any codec, any blocks, and every way to break them."""

import json
import zlib
from collections.abc import Sequence
from typing import Any

import pyarrow as pa

from tests.avro_twin import zigzag

SYNC = bytes(range(16))


def header(schema: Any, codec: str | None = "null", sync: bytes = SYNC, **more: bytes) -> bytes:
    """Magic, metadata and sync marker."""
    meta = {"avro.schema": json.dumps(schema).encode(), **more}
    if codec is not None:
        meta["avro.codec"] = codec.encode()
    entries = b"".join(_text(key.encode()) + _text(value) for key, value in meta.items())
    return b"Obj\x01" + zigzag(len(meta)) + entries + b"\x00" + sync


def block(records: Sequence[bytes], codec: str = "null", sync: bytes = SYNC, count: int | None = None) -> bytes:
    """Records as one block."""
    data = compressed(b"".join(records), codec)
    return zigzag(len(records) if count is None else count) + zigzag(len(data)) + data + sync


def compressed(data: bytes, codec: str) -> bytes:
    if codec == "deflate":
        deflater = zlib.compressobj(wbits=-15)
        return deflater.compress(data) + deflater.flush()
    if codec == "snappy":
        return bytes(pa.Codec("snappy").compress(data, asbytes=True)) + zlib.crc32(data).to_bytes(4, "big")
    if codec == "zstandard":
        return bytes(pa.Codec("zstd").compress(data, asbytes=True))
    return data


def _text(data: bytes) -> bytes:
    return zigzag(len(data)) + data
