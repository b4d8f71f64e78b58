"""The column chunk of a list of float32 that is of one length, or null, in every row.

pyarrow spends more than half of its time on levels, which say for each value whether a list begins there. For
lists of one length they are a fixed pattern of bytes, and what is left is BYTE_STREAM_SPLIT and zstd.
"""

import struct
import zlib
from collections.abc import Iterator
from itertools import pairwise
from typing import BinaryIO, NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa
from numba import njit

from schemas.batch import Float32
from streamer.sink.parquet import thrift
from streamer.sink.parquet.thrift import I32, STRUCT

PAGE_BYTES = (
    1 << 20
)  # as pyarrow has it. Of each byte stream two blocks of zstd, whose codes are then those of one stream
PLAIN, RLE, BYTE_STREAM_SPLIT = 0, 3, 9  # Parquet's numbers of encodings

Validity = npt.NDArray[np.bool_]


class Part(NamedTuple):
    """Rows of such a column that lie in memory one after the other."""

    values: Float32  # of the lists that are not null, [m, length]
    valid: Validity  # [n], m of them True


class Written(NamedTuple):
    """What stands in the file now."""

    offset: int  # of the first page
    values: int  # of the levels: a null list counts as one
    size: int  # bytes of pages with their headers
    unpacked: int  # the same before zstd


def vectors(column: pa.ChunkedArray) -> list[Part] | None:
    """The parts of `column`, a view of its memory; None where it is not of the kind that can be written here."""
    kind = column.type
    if not pa.types.is_list(kind) or kind.value_type != pa.float32():
        return None
    parts: list[Part] = []
    lengths: set[int] = set()
    for chunk in column.chunks:
        if not len(chunk):
            continue
        valid = chunk.is_valid().to_numpy(zero_copy_only=False)
        offsets = chunk.offsets.to_numpy()
        sizes = np.diff(offsets)
        values = chunk.values.slice(offsets[0], offsets[-1] - offsets[0])
        if values.null_count or sizes[~valid].any():  # a null list may hide values; no writer of ours leaves any
            return None
        if valid.any():
            lengths |= {int(sizes[valid].min()), int(sizes[valid].max())}
        parts.append(Part(values.to_numpy(), valid))
    if len(lengths) != 1 or 0 in lengths:
        return None
    (length,) = lengths
    return [Part(part.values.reshape(-1, length), part.valid) for part in parts]


def cut(parts: list[Part], rows: int) -> tuple[list[Part], list[Part]]:
    """The first `rows` rows of `parts`, and the rest."""
    head: list[Part] = []
    tail = list(parts)
    while rows:
        values, valid = tail.pop(0)
        if len(valid) > rows:
            held = int(valid[:rows].sum())
            tail.insert(0, Part(values[held:], valid[rows:]))
            values, valid = values[:held], valid[:rows]
        head.append(Part(values, valid))
        rows -= len(valid)
    return head, tail


def write_chunk(file: BinaryIO, parts: list[Part], field: pa.Field, level: int) -> Written:
    """Append the pages of `parts` to `file`.

    Parameters
    ----------
    file
        At the byte where the chunk is to begin.
    parts
        Its rows.
    field
        The column's: what may be null decides how levels are numbered.
    level
        Of zstd.
    """
    full = int(field.nullable) + 1 + int(field.type.value_field.nullable)  # definition level of a value that is there
    codec = pa.Codec("zstd", compression_level=level)
    offset, entries, unpacked = file.tell(), 0, 0
    for part in parts:
        for page in _pages(part):
            length = page.values.shape[1]
            levels = _with_size(_repetition(page.valid, length)) + _with_size(_definition(page.valid, length, full))
            content = np.empty(len(levels) + page.values.nbytes, np.uint8)
            content[: len(levels)] = np.frombuffer(levels, np.uint8)
            split(page.values.reshape(-1).view(np.uint32), content[len(levels) :])
            packed = codec.compress(content)
            count = page.values.size + int((~page.valid).sum())
            header = _header(count, len(content), packed)
            file.write(header)
            file.write(packed)
            entries += count
            unpacked += len(header) + len(content)
    return Written(offset, entries, file.tell() - offset, unpacked)


@njit(nogil=True, cache=True)
def split(values: npt.NDArray[np.uint32], out: npt.NDArray[np.uint8]) -> None:
    """BYTE_STREAM_SPLIT: the lowest bytes of all values, then the second, the third, the highest."""
    n = len(values)
    first, second, third, fourth = out[:n], out[n : 2 * n], out[2 * n : 3 * n], out[3 * n :]
    for i in range(n):
        bits = values[i]
        first[i] = bits & np.uint32(0xFF)
        second[i] = (bits >> np.uint32(8)) & np.uint32(0xFF)
        third[i] = (bits >> np.uint32(16)) & np.uint32(0xFF)
        fourth[i] = bits >> np.uint32(24)


def _pages(part: Part) -> Iterator[Part]:
    rows = max(1, PAGE_BYTES // max(1, 4 * part.values.shape[1]))
    held = 0
    for first in range(0, len(part.valid), rows):
        valid = part.valid[first : first + rows]
        yield Part(part.values[held : held + int(valid.sum())], valid)
        held += int(valid.sum())


def _repetition(valid: Validity, length: int) -> bytes:
    """Level 0 where a row begins, 1 for the other values of its list."""
    alone = _run(1, 0)
    row = alone + _run(length - 1, 1) if length > 1 else alone
    return row * len(valid) if valid.all() else b"".join(row if there else alone for there in valid)


def _definition(valid: Validity, length: int, full: int) -> bytes:
    """Level `full` for each value of a list, 0 for a null list."""
    edges = np.flatnonzero(np.diff(valid)) + 1
    bounds = [0, *edges.tolist(), len(valid)]
    return b"".join(
        _run((end - begin) * length, full) if valid[begin] else _run(end - begin, 0) for begin, end in pairwise(bounds)
    )


def _run(count: int, value: int) -> bytes:
    """`count` times the same level, below 256, in Parquet's hybrid of runs and packed bits."""
    out, count = bytearray(), count << 1
    while count >= 0x80:
        out.append(count & 0x7F | 0x80)
        count >>= 7
    return bytes(out) + bytes([count, value])


def _with_size(levels: bytes) -> bytes:
    return len(levels).to_bytes(4, "little") + levels


def _header(count: int, unpacked: int, packed: pa.Buffer) -> bytes:
    """A PageHeader of a DATA_PAGE (0) of the first version."""
    page = {1: (I32, count), 2: (I32, BYTE_STREAM_SPLIT), 3: (I32, RLE), 4: (I32, RLE)}
    (checksum,) = struct.unpack("<i", zlib.crc32(packed).to_bytes(4, "little"))
    return thrift.write({1: (I32, 0), 2: (I32, unpacked), 3: (I32, packed.size), 4: (I32, checksum), 5: (STRUCT, page)})
