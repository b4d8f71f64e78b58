"""Avro object container files as messages: `Obj` 1, a header that holds the schema, then blocks of records.

ZTF sends one in each message, the same header of 15 kB every time but for its last 16 bytes. So a header is parsed once and
then known by its bytes. Blocks of codec null are read where they lie.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from schemas.avro.buffers import Buffers, buffers
from schemas.avro.codecs import CODECS, CannotDecompress, TooLarge, decompressed
from schemas.avro.program import CONTINUE, Program, compile_schema
from schemas.avro.resolve import LacksField, Want
from schemas.avro.schema import SchemaError
from schemas.avro.single import locate
from schemas.batch import Int32, Int64, Reason, UInt8

MAGIC = b"Obj\x01"
SYNC_BYTES = 16
KEPT = 64  # headers; a stream has a handful
FEW = 2  # containers: fewer are read one by one
FREE_BYTES, RATIO = 1 << 16, 256  # a message may grow to so many bytes, + so many times its own: zeros grow 1000 times


class Container(Exception):
    """A message that is no container we can read.

    Attributes
    ----------
    reason, text, byte
        As in a refusal.
    """

    def __init__(self, reason: Reason, text: str, byte: int = -1) -> None:
        super().__init__(text)
        self.reason, self.text, self.byte = reason, text, byte


class Header(NamedTuple):
    """What stands before the first block, without the sync marker."""

    data: bytes
    schema: bytes  # JSON
    codec: str
    program: Program


class Records(NamedTuple):
    """n records of containers with one schema.

    Attributes
    ----------
    program
        Reads them.
    buffers, start, exact
        As `Program.run` takes them.
    message, row
        Which message each is from, and its number in there.
    """

    program: Program
    buffers: Buffers
    start: Int64
    exact: UInt8
    message: Int64
    row: Int32


class Containers:
    """Finds the records in containers.

    Parameters
    ----------
    wants
        The fields that are read of each record.
    max_bytes
        Bound on the decompressed bytes of one message.
    max_rows
        Bound on its records.
    """

    def __init__(self, wants: Sequence[Want], max_bytes: int, max_rows: int) -> None:
        self._wants, self._max_bytes, self._max_rows = tuple(wants), max_bytes, max_rows
        self._headers: list[Header] = []  # the last used first
        self._programs: dict[bytes, Program | Container] = {}  # by the schema's bytes

    def read(self, payloads: Sequence[bytes]) -> tuple[list[Records], list[tuple[int, Container]]]:
        """The records of `payloads`, together where the schema is the same, and which payloads have none and why."""
        found: dict[int, list[tuple[int, list[tuple[bytes, int, int, int]]]]] = {}
        known: dict[int, Header] = {}
        refused: list[tuple[int, Container]] = []
        quick, others = self._singles(payloads)
        for number in others:
            payload = payloads[number]
            try:
                header = self.header(payload)
                blocks = self._blocks(payload, header)
            except Container as why:
                refused.append((number, why))
                continue
            known[id(header)] = header
            found.setdefault(id(header), []).append((number, blocks))
        return quick + [_records(known[key].program, group) for key, group in found.items()], refused

    def _singles(self, payloads: Sequence[bytes]) -> tuple[list[Records], list[int]]:
        """The containers that look like the last ones, with one record each, and the numbers of the others."""
        header = self._headers[0] if self._headers else None
        if header is None or header.codec != "null" or len(payloads) < FEW or self._max_rows < 1:
            return [], list(range(len(payloads)))
        memory = buffers(payloads)
        first, end = np.empty(len(payloads), np.int64), np.empty(len(payloads), np.int64)
        known = buffers([header.data])
        locate(
            memory.address.view(np.int64), memory.length, int(known.address[0]), len(header.data), SYNC_BYTES,
            header.program.least, first, end,
        )  # fmt: skip
        message = np.flatnonzero(first >= 0)
        if not len(message):
            return [], list(range(len(payloads)))
        there = Buffers(memory.address[message], end[message], memory.owner)
        ones, row = np.ones(len(message), np.uint8), np.zeros(len(message), np.int32)
        records = Records(header.program, there, first[message], ones, message, row)
        return [records], np.flatnonzero(first < 0).tolist()

    def header(self, payload: bytes) -> Header:
        """The header of `payload`, parsed if its bytes were never seen; ``Container`` where it has none."""
        for number, header in enumerate(self._headers):
            if payload.startswith(header.data):
                if number:
                    self._headers.insert(0, self._headers.pop(number))
                return header
        end, meta = read_meta(payload)
        codec = meta.get("avro.codec", b"null").decode("ascii", "replace") or "null"
        if codec not in CODECS:
            known = ", ".join(CODECS)
            raise Container(Reason.BAD_FRAMING, f"the container is compressed by {codec!r}, not one of {known}")
        if "avro.schema" not in meta:
            raise Container(Reason.UNKNOWN_SCHEMA, "the container's header has no schema")
        header = Header(payload[:end], meta["avro.schema"], codec, self._program(meta["avro.schema"]))
        self._headers = [header, *self._headers[: KEPT - 1]]
        return header

    def _program(self, schema: bytes) -> Program:
        """The program for a schema; one that cannot be had is not tried twice."""
        found = self._programs.get(schema)
        if found is None:
            try:
                found = compile_schema(schema, self._wants)
            except LacksField as error:
                found = Container(Reason.LACKS_FIELD, str(error))
            except SchemaError as error:
                found = Container(Reason.UNKNOWN_SCHEMA, f"the container's schema cannot be used: {error}")
            if len(self._programs) >= KEPT:
                self._programs.clear()
            self._programs[schema] = found
        if isinstance(found, Container):
            raise Container(found.reason, found.text)
        return found

    def _blocks(self, payload: bytes, header: Header) -> list[tuple[bytes, int, int, int]]:
        """(memory, first byte, end, records) of each block."""
        at = len(header.data)
        sync = payload[at : at + SYNC_BYTES]
        if len(sync) < SYNC_BYTES:
            raise Container(Reason.CORRUPT, "the container is truncated in its header", len(payload))
        at += SYNC_BYTES
        blocks: list[tuple[bytes, int, int, int]] = []
        rows = nbytes = 0
        most = min(self._max_bytes, FREE_BYTES + RATIO * len(payload))
        while at < len(payload):
            begin = at
            count, at = number_at(payload, at)
            size, at = number_at(payload, at)
            if count < 0 or size < 0 or size > len(payload) - at - SYNC_BYTES:
                text = f"a block of {count} records in {size} bytes, more than the container has"
                raise Container(Reason.CORRUPT, text, begin)
            if payload[at + size : at + size + SYNC_BYTES] != sync:
                raise Container(Reason.CORRUPT, "a block does not end with the container's sync marker", at + size)
            block, first, end = payload, at, at + size
            if header.codec != "null":
                try:
                    block = decompressed(payload[at : at + size], header.codec, most - nbytes)
                except TooLarge as error:
                    raise Container(Reason.TOO_LARGE, str(error), begin) from error
                except CannotDecompress as error:
                    raise Container(Reason.CORRUPT, str(error), begin) from error
                first, end = 0, len(block)
            nbytes += end - first
            rows += count
            if rows > self._max_rows:
                raise Container(Reason.TOO_LARGE, f"more than {self._max_rows} records", begin)
            if count * header.program.least > end - first or (count == 0 and first < end):
                raise Container(Reason.CORRUPT, f"a block of {count} records in {end - first} bytes", begin)
            if count:
                blocks.append((block, first, end, count))
            at += size + SYNC_BYTES
        if not rows:
            raise Container(Reason.EMPTY, "a container without records")
        return blocks


def read_meta(payload: bytes) -> tuple[int, dict[str, bytes]]:
    """Where the header ends, before the sync marker, and its entries; ``Container`` where it is none."""
    if not payload.startswith(MAGIC):
        raise Container(
            Reason.BAD_FRAMING, f"starts with bytes {payload[:4].hex(' ')}, a container with 4f 62 6a 01", 0
        )
    at = len(MAGIC)
    meta: dict[str, bytes] = {}
    while True:
        count, at = number_at(payload, at)
        if count == 0:
            return at, meta
        if count < 0:
            _, at = number_at(payload, at)
            count = -count
        if count > len(payload):
            raise Container(Reason.CORRUPT, f"a header of {count} entries", at)
        for _ in range(count):
            key, at = _bytes_at(payload, at)
            value, at = _bytes_at(payload, at)
            meta[key.decode("utf-8", "replace")] = value


def number_at(payload: bytes, at: int) -> tuple[int, int]:
    """The Avro long at byte `at`, and the byte after it."""
    code = 0
    for k in range(10):
        if at >= len(payload):
            raise Container(Reason.CORRUPT, "the container is truncated", at)
        byte = payload[at]
        at += 1
        code |= (byte & 127) << (7 * k)
        if byte < 128 and code < 1 << 64:
            return (code >> 1) ^ -(code & 1), at
    raise Container(Reason.CORRUPT, "a number of more than 64 bits in the container", at)


def _bytes_at(payload: bytes, at: int) -> tuple[bytes, int]:
    size, at = number_at(payload, at)
    if size < 0 or size > len(payload) - at:
        raise Container(Reason.CORRUPT, f"an entry of {size} bytes in the container's header", at)
    return payload[at : at + size], at + size


def _records(program: Program, group: list[tuple[int, list[tuple[bytes, int, int, int]]]]) -> Records:
    """Each record as a part of its block: it begins where the one before ended; the last must end with the block."""
    messages = np.array([number for number, blocks in group for _ in blocks], np.int64)
    flat = [block for _, blocks in group for block in blocks]
    counts = np.array([block[3] for block in flat], np.int64)
    memory = buffers([block[0] for block in flat])
    ends = np.array([block[2] for block in flat], np.int64)
    which = np.repeat(np.arange(len(flat)), counts)
    first = np.cumsum(counts) - counts
    start = np.full(len(which), CONTINUE, np.int64)
    start[first] = [block[1] for block in flat]
    exact = np.zeros(len(which), np.uint8)
    exact[first + counts - 1] = 1
    message = messages[which]
    begins = np.flatnonzero(np.diff(message, prepend=-1))
    row = np.arange(len(which)) - np.repeat(begins, np.diff(begins, append=len(which)))
    return Records(
        program,
        Buffers(memory.address[which], ends[which], memory.owner),
        start,
        exact,
        message,
        row.astype(np.int32),
    )
