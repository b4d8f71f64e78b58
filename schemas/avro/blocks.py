"""Container files at rest: their blocks, one after the other, and the records of a block, each as a container of its own.

``container`` reads a message, which is good or bad as a whole. A file holds the alerts of a night: a block that cannot be read
costs its own records and no others. After one that says nonsense the next sync marker is looked for, as the format was made for.
"""

import json
from collections.abc import Iterator
from functools import lru_cache
from itertools import pairwise
from typing import Any, NamedTuple, Protocol

import numpy as np

from schemas.avro.buffers import buffers
from schemas.avro.codecs import CODECS, CannotDecompress, TooLarge, decompressed
from schemas.avro.container import FREE_BYTES, RATIO, SYNC_BYTES, Container, number_at, read_meta
from schemas.avro.program import CONTINUE, Program, compile_schema
from schemas.avro.schema import SchemaError
from schemas.avro.status import Status
from schemas.avro.write import containers
from schemas.batch import Reason

MOST_HEADER = 16 << 20  # bytes: the longest schema known has 100 kB
MOST_BLOCK = 1 << 30  # bytes of a block once it is decompressed
_FEW = 1 << 16  # bytes that hold most headers
_NUMBERS = 20  # bytes of two numbers, at most


class Stored(Protocol):
    """Bytes in memory, or a file that looks like them."""

    def __len__(self) -> int:
        """How many."""
        ...

    def __getitem__(self, where: slice, /) -> bytes:
        """Some of them."""
        ...

    def find(self, what: bytes, start: int, /) -> int:
        """Where `what` begins next, -1 = nowhere."""
        ...


class Head(NamedTuple):
    """What stands before the first block.

    Attributes
    ----------
    schema
        JSON.
    codec
        Of ``CODECS``, or one that we do not read.
    sync
        The marker that ends each block.
    end
        Where the first block begins, bytes.
    """

    schema: bytes
    codec: str
    sync: bytes
    end: int


class Block(NamedTuple):
    """A block, or a stretch of the file that is none.

    Attributes
    ----------
    begin, first, end, after
        Bytes: where it begins, where its records do, where they end, where the next block begins.
    records
        How many records it says to have; 1 where nobody knows: what stands there is then one thing that cannot be read.
    fault
        Why its records cannot be read; "" = they can.
    torn
        The file ends within it: the first records may be whole.
    """

    begin: int
    first: int
    end: int
    after: int
    records: int
    fault: str = ""
    torn: bool = False


def read_head(data: Stored) -> Head:
    """The header of the container `data`; ``Container`` where it has none."""
    few = data[0:_FEW]
    try:
        end, meta = read_meta(few)
    except Container as why:
        if why.reason != Reason.CORRUPT or len(few) == len(data):
            raise
        few = data[0:MOST_HEADER]
        end, meta = read_meta(few)
    if "avro.schema" not in meta:
        raise Container(Reason.UNKNOWN_SCHEMA, "the container's header has no schema")
    sync = data[end : end + SYNC_BYTES]
    if len(sync) < SYNC_BYTES:
        raise Container(Reason.CORRUPT, "the container is truncated in its header", len(data))
    codec = meta.get("avro.codec", b"null").decode("ascii", "replace") or "null"
    return Head(meta["avro.schema"], codec, sync, end + SYNC_BYTES)


def blocks(data: Stored, head: Head, begin: int, end: int) -> Iterator[Block]:
    """The blocks of `data` from byte `begin`, where one begins, to `end`."""
    at = begin
    size = len(data)
    while at < end:
        try:
            numbers = data[at : at + _NUMBERS]
            count, k = number_at(numbers, 0)
            nbytes, k = number_at(numbers, k)
        except Container:
            count, nbytes, k = -1, -1, 0
        first = at + k
        if count < 0 or nbytes < 0 or count > FREE_BYTES + RATIO * nbytes:
            block = _lost(data, head, at)
        elif first + nbytes + SYNC_BYTES > size:
            found = data.find(head.sync, first)
            if found >= 0:  # the length is wrong, not the file too short
                block = _lost(data, head, at)
            else:
                text = f"the file ends at byte {size}, within the block of {count} records at byte {at}"
                block = Block(at, first, min(first + nbytes, size), size, max(count, 1), text, count > 0)
        elif data[first + nbytes : first + nbytes + SYNC_BYTES] != head.sync:
            block = _lost(data, head, at)
        else:
            block = Block(at, first, first + nbytes, first + nbytes + SYNC_BYTES, count)
        yield block
        at = block.after


def _lost(data: Stored, head: Head, at: int) -> Block:
    """From `at` to the next sync marker nothing can be told apart."""
    found = data.find(head.sync, at)
    after = len(data) if found < 0 else found + SYNC_BYTES
    text = f"bytes {at} to {after - 1} are no block that ends with the file's sync marker: its records cannot be told apart"
    return Block(at, at, after, after, 1, text)


class Records:
    """Takes blocks apart.

    Parameters
    ----------
    head
        Of the file.
    """

    def __init__(self, head: Head) -> None:
        self._head = head

    def split(self, data: Stored, block: Block) -> tuple[list[bytes], str, int]:
        """The records of `block` that can be had, each a container that brings its schema; why not all, and at which byte.

        As many as ``block.records`` where the reason is "".
        """
        program, schema, fault = _compiled(self._head.schema)
        if self._head.codec not in CODECS:
            fault = f"the container is compressed by {self._head.codec!r}, not one of {', '.join(CODECS)}"
        if program is None or fault or (block.fault and not block.torn):
            return [], fault or block.fault, block.begin
        body = data[block.first : block.end]
        if self._head.codec != "null":
            if block.torn:
                return [], block.fault, block.begin
            try:
                body = decompressed(body, self._head.codec, min(MOST_BLOCK, FREE_BYTES + RATIO * len(body)))
            except (CannotDecompress, TooLarge) as error:
                return [], f"the block at byte {block.begin}: {error}", block.begin
        good, text = _bodies(program, body, block.records)
        text = text and f"the block at byte {block.begin}: {text}"
        if len(good) < block.records:
            text = block.fault or text
        return containers(good, schema), text, block.begin


@lru_cache(maxsize=64)
def _compiled(schema: bytes) -> tuple[Program | None, Any, str]:
    """The program that steps over a record, the schema as values, and why there is none; once for all files that are alike."""
    try:
        return compile_schema(schema, []), json.loads(schema), ""
    except (SchemaError, ValueError) as error:
        return None, None, f"the container's schema cannot be used: {error}"


def _bodies(program: Program, body: bytes, count: int) -> tuple[list[bytes], str]:
    """The first records of `body` that are whole, and what is wrong with the next."""
    memory = buffers([body]).take(np.zeros(count, np.int64))
    start = np.full(count, CONTINUE, np.int64)
    exact = np.zeros(count, np.uint8)
    start[:1], exact[-1:] = 0, 1
    decoded = program.run(memory, start, exact)
    bad = np.flatnonzero(decoded.status != Status.GOOD)
    whole = int(bad[0]) if len(bad) else count
    edges = [0, *decoded.byte[:whole].tolist()]
    good = [body[a:b] for a, b in pairwise(edges)]
    if whole == count:
        return good, ""
    status, where = int(decoded.status[whole]), int(decoded.where[whole])
    return good, program.sentence(status, where, int(decoded.byte[whole]), len(body))
