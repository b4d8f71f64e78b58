"""Which framing a payload has, and how a reader of the wire says that it cannot read one."""

from enum import IntEnum

import numba
import numpy as np

from schemas.avro import Buffers
from schemas.avro.memory import load_u8
from schemas.batch import Int64, Reason, UInt8


class Framing(IntEnum):
    """What the first bytes of a payload say."""

    EMPTY = 0  # a tombstone, or no bytes
    TOO_LARGE = 1
    UNKNOWN = 2
    CONFLUENT = 3  # 00, four bytes of schema id, Avro
    CONTAINER = 4  # "Obj" 01: an Avro object container file
    ARROW = 5  # ff ff ff ff: the continuation marker before every message of an Arrow IPC stream
    JSON = 6  # "{" or "[", after white space
    AVRO = 7  # no header at all: never guessed


FRAMINGS = {
    "auto": Framing.UNKNOWN,
    "confluent-avro": Framing.CONFLUENT,
    "container": Framing.CONTAINER,
    "arrow": Framing.ARROW,
    "json": Framing.JSON,
    "avro": Framing.AVRO,
}

HEADER_BYTES = 5  # of Confluent's wire format
ARROW_MAGIC = b"\xff\xff\xff\xff"


class Refused(Exception):
    """A payload that gives no row: raised by the readers of the wire, caught by the decoder, never seen outside it."""

    def __init__(self, reason: Reason, text: str, byte: int = -1) -> None:
        super().__init__(text)
        self.reason = reason
        self.text = text
        self.byte = byte


def classify(buffers: Buffers, how: str, max_bytes: int) -> tuple[UInt8, Int64]:
    """The framing of each of n payloads, uint8[n], and of Confluent-framed ones the schema id, int64[n].

    Parameters
    ----------
    buffers
        The payloads; null ones are empty.
    how
        Of ``FRAMINGS``: what is configured wins, "auto" looks at the first bytes.
    max_bytes
        Larger ones are ``TOO_LARGE``.
    """
    kinds = np.empty(len(buffers.length), np.uint8)
    ids = np.full(len(buffers.length), -1, np.int64)
    _classify(buffers.address, buffers.length, int(FRAMINGS[how]), max_bytes, kinds, ids)
    return kinds, ids


@numba.njit(nogil=True, cache=True)
def _classify(address, length, given, max_bytes, kinds, ids):  # type: ignore[no-untyped-def]
    for i in range(len(length)):
        n = length[i]
        a = address[i]
        if n == 0:
            kinds[i] = 0
            continue
        if n > max_bytes:
            kinds[i] = 1
            continue
        first = load_u8(a)
        kind = given
        if given == 2:
            if first == 0:
                kind = 3
            elif n >= 4 and first == 0x4F and load_u8(a + np.uint64(1)) == 0x62 and load_u8(a + np.uint64(2)) == 0x6A:
                kind = 4 if load_u8(a + np.uint64(3)) == 1 else 2
            elif n >= 4 and first == 0xFF:
                kind = 5
                for k in range(1, 4):
                    if load_u8(a + np.uint64(k)) != 0xFF:
                        kind = 2
            else:
                k = 0
                while k < n - 1 and k < 64 and load_u8(a + np.uint64(k)) in (0x20, 0x09, 0x0A, 0x0D):
                    k += 1
                first = load_u8(a + np.uint64(k))
                if first == 0x7B or first == 0x5B:
                    kind = 6
        if kind == 3:
            if n < 5 or first != 0:
                kind = 2
            else:
                number = np.int64(0)
                for k in range(1, 5):
                    number = (number << 8) | np.int64(load_u8(a + np.uint64(k)))
                ids[i] = number
        kinds[i] = kind


def refusal(kind: Framing, payload: bytes | None, how: str, max_bytes: int) -> Refused:
    """Why a payload of `kind` EMPTY, TOO_LARGE or UNKNOWN gives no row."""
    if kind == Framing.EMPTY:
        return Refused(Reason.EMPTY, "a tombstone" if payload is None else "a message of no bytes")
    payload = payload or b""
    if kind == Framing.TOO_LARGE:
        return Refused(Reason.TOO_LARGE, f"{len(payload)} bytes, more than the bound of {max_bytes}")
    begin = payload[:4].hex(" ")
    if (how == "confluent-avro" or payload[0] == 0) and len(payload) < HEADER_BYTES:
        text = f"{len(payload)} bytes are too few for a Confluent header of 5"
        return Refused(Reason.BAD_FRAMING, text, len(payload))
    if how == "confluent-avro":
        return Refused(Reason.BAD_FRAMING, f"starts with byte {payload[0]:02x}, a Confluent header starts with 00", 0)
    text = (
        f"starts with bytes {begin}: neither Confluent Avro (00), an Avro container (4f 62 6a 01), "
        "an Arrow IPC stream (ff ff ff ff) nor JSON"
    )
    return Refused(Reason.BAD_FRAMING, text, 0)
