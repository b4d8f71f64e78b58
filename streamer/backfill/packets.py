"""Files of packets: Avro containers of any number of records, or one message of any framing, gzipped or not."""

import zlib
from collections.abc import Sequence
from typing import Any

from schemas.avro.blocks import Block, Records, Stored, blocks, read_head
from schemas.avro.container import MAGIC, Container
from schemas.avro.write import containers
from schemas.batch import Reason
from schemas.reading import MAX_MESSAGE_BYTES
from streamer.backfill.at_rest import Fault, FileAtRest, Item, Items, Stretch

GZIP = b"\x1f\x8b"
STRETCH_BYTES = 256 << 20  # of a large file: a shard


class Packets:
    """Reads files of packets.

    Parameters
    ----------
    bare
        The schema of packets without any framing; None = every packet says what it is.
    """

    def __init__(self, bare: Any = None) -> None:
        self._bare = bare

    def items(self, data: Stored, begin: int, end: int, skip: int, name: str = "") -> Items:
        """The messages of `data` between the bytes `begin` and `end`, but for the first `skip`."""
        if data[0 : len(MAGIC)] != MAGIC:
            if not skip:
                yield self._single(data, name)
            return
        try:
            head = read_head(data)
        except Container as why:
            if not skip:
                yield Item(None, Fault(why.reason, why.text, why.byte), name)
            return
        records = Records(head)
        for block in blocks(data, head, max(begin, head.end), end):
            if block.records <= skip:
                skip -= block.records
                yield None
                continue
            yield from self._block(data, head.end, records, block, name)[skip:]
            skip = 0

    def _block(self, data: Stored, head: int, records: Records, block: Block, name: str) -> Sequence[Item]:
        alone = block.begin == head and block.after == len(data) and block.records == 1 and not block.fault
        if alone and len(data) <= MAX_MESSAGE_BYTES:  # a file that is a message already
            return [Item(data[0 : len(data)], None, name)]
        found, text, byte = records.split(data, block)
        items = [Item(payload, None, name) for payload in found[: block.records]]
        return items + [Item(None, Fault(Reason.CORRUPT, text, byte), name)] * (block.records - len(items))

    def _single(self, data: Stored, name: str) -> Item:
        if len(data) > MAX_MESSAGE_BYTES:
            text = f"{len(data)} bytes of no format known here, more than a message may have ({MAX_MESSAGE_BYTES})"
            return Item(None, Fault(Reason.TOO_LARGE, text), name)
        payload = data[0 : len(data)]
        if payload.startswith(GZIP):
            try:
                payload = _gunzipped(payload)
            except (zlib.error, ValueError) as error:
                return Item(None, Fault(Reason.CORRUPT, f"it cannot be gunzipped: {error}"), name)
        if self._bare is not None and payload and not payload.startswith(MAGIC):
            payload = containers([payload], self._bare)[0]
        return Item(payload, None, name)


def cut(file: FileAtRest) -> list[Stretch]:
    """The stretches of a file, of whole blocks, each of about ``STRETCH_BYTES``."""
    size = len(file)
    if file[0 : len(MAGIC)] != MAGIC:
        return [Stretch(0, size, 1)]
    try:
        head = read_head(file)
    except Container:
        return [Stretch(0, size, 1)]
    stretches: list[Stretch] = []
    begin, messages = head.end, 0
    for block in blocks(file, head, head.end, size):
        messages += block.records
        if block.after - begin >= STRETCH_BYTES or block.after >= size:
            stretches.append(Stretch(begin, block.after, messages))
            begin, messages = block.after, 0
    return stretches or [Stretch(head.end, size, 0)]


def count(data: Stored) -> int:
    """The messages of a file that is in memory."""
    if data[0 : len(MAGIC)] != MAGIC:
        return 1
    try:
        head = read_head(data)
    except Container:
        return 1
    return sum(block.records for block in blocks(data, head, head.end, len(data)))


def _gunzipped(data: bytes) -> bytes:
    """All members of a gzip file, no more than a message may have."""
    out = b""
    while data:
        inflater = zlib.decompressobj(31)
        out += inflater.decompress(data, MAX_MESSAGE_BYTES + 1 - len(out))
        if len(out) > MAX_MESSAGE_BYTES:
            raise ValueError(f"more than {MAX_MESSAGE_BYTES} bytes")
        if not inflater.eof:
            raise ValueError("it is truncated")
        data = inflater.unused_data.lstrip(b"\x00")
    return out
