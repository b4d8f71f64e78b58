"""Which framing a payload has, and how a reader of the wire says that it cannot read one."""

from typing import Literal

from schemas.batch import Reason

FRAMINGS = ("auto", "confluent-avro", "arrow")

CONFLUENT_MAGIC = b"\x00"
ARROW_MAGIC = b"\xff\xff\xff\xff"  # the continuation marker before every message of an Arrow IPC stream


class Refused(Exception):
    """A payload that gives no row: raised by the readers of the wire, caught by the decoder, never seen outside it."""

    def __init__(self, reason: Reason, text: str, byte: int = -1) -> None:
        super().__init__(text)
        self.reason = reason
        self.text = text
        self.byte = byte


def detect(payload: bytes) -> Literal["confluent-avro", "arrow"]:
    """The framing that the first bytes show; ``Refused`` where they show none."""
    if payload.startswith(CONFLUENT_MAGIC):
        return "confluent-avro"
    if payload.startswith(ARROW_MAGIC):
        return "arrow"
    raise Refused(
        Reason.BAD_FRAMING,
        f"starts with bytes {payload[:4].hex(' ')}: neither Confluent Avro (00) nor an Arrow IPC stream (ff ff ff ff)",
        0,
    )
