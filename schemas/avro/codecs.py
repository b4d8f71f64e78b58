"""Blocks of a container out of their compression, never larger than a bound."""

import zlib

import pyarrow as pa

CODECS = ("null", "deflate", "snappy", "zstandard")
CRC_BYTES = 4  # of the CRC-32 of what was compressed, big-endian, that Avro puts behind a snappy block


class CannotDecompress(ValueError):
    """A block is not what its codec makes."""


class TooLarge(ValueError):
    """A block is larger than the bound once it is decompressed."""


def decompressed(block: bytes, codec: str, most: int) -> bytes:
    """What is in `block`, at most `most` bytes.

    Raises
    ------
    CannotDecompress, TooLarge
        Where that cannot be had.
    """
    try:
        if codec == "deflate":
            data = _inflated(block, most)
        elif codec == "snappy":
            data = _unsnapped(block, most)
        else:
            data = _unzstandard(block, most)
    except (zlib.error, pa.ArrowException, OSError) as error:
        raise CannotDecompress(f"a block is no {codec}: {error}") from error
    if len(data) > most:
        raise TooLarge(f"more than {most} bytes once it is decompressed")
    return data


def _inflated(block: bytes, most: int) -> bytes:
    inflater = zlib.decompressobj(-15)
    data = inflater.decompress(block, max(most, 0) + 1)
    if len(data) <= most and not inflater.eof:
        raise CannotDecompress("a deflated block is truncated")
    return data  # some writers leave a part of zlib's checksum behind it


def _unsnapped(block: bytes, most: int) -> bytes:
    """Snappy says its length first, as a varint."""
    size = shift = 0
    for code in block[:5]:
        size |= (code & 127) << shift
        shift += 7
        if code < 128:
            break
    if len(block) <= CRC_BYTES or code >= 128:
        raise CannotDecompress("a snappy block is truncated")
    if size > most:
        raise TooLarge(f"a snappy block of {size} bytes, more than {most}")
    data: bytes = pa.Codec("snappy").decompress(block[:-CRC_BYTES], size, asbytes=True)
    if zlib.crc32(data) != int.from_bytes(block[-CRC_BYTES:], "big"):
        raise CannotDecompress("the checksum of a snappy block is wrong")
    return data


def _unzstandard(block: bytes, most: int) -> bytes:
    with pa.CompressedInputStream(pa.BufferReader(block), "zstd") as stream:
        data: bytes = stream.read(max(most, 0) + 1)
        return data
