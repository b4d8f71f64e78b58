"""How one partition stands, as read by one model, at one moment."""

from enum import StrEnum
from typing import Any, NamedTuple


class Status(StrEnum):
    """How it goes, in the order in which a person worries.

    OK is read as it comes. WARNING: late, or something a person may want to know. FALLING_BEHIND: more is written than read.
    STALLED: its worker lives and this partition does not move. STOPPED: nobody reads it. REWOUND: its offsets went back, or
    are those of another topic. AT_RISK: messages expire, or expired, before they are read.
    """

    OK = "ok"
    WARNING = "warning"
    FALLING_BEHIND = "falling behind"
    STALLED = "stalled"
    STOPPED = "stopped"
    REWOUND = "rewound"
    AT_RISK = "at risk of loss"

    @property
    def rank(self) -> int:
        """Place in the list, from 0 = ok: what the gauge ``slipher_lag_status`` shows."""
        return _RANKS[self]


_RANKS = {status: rank for rank, status in enumerate(Status)}


class Standing(NamedTuple):
    """One partition as read by one model, at one moment. What is not known is None; nothing is negative, nothing is NaN.

    Attributes
    ----------
    topic, topic_id, partition, model, processing_id
        Which.
    start
        First offset that the broker still has.
    durable
        Offset from which the next reader goes on: all below is in the catalogue. None where it was never claimed.
    end
        Where the partition ends for readers of committed messages. None where the broker knows no such partition.
    lag
        Offsets that are to be read: from the first that holds a message, as far as that is known, to the end. 0 where only
        transaction markers are left.
    lag_bytes
        Payload bytes of those, where sizes are known.
    lag_seconds
        Age of the oldest message that is not durable, seconds; 0 when caught up.
    produce_rate, consume_rate
        Messages a second over the window: written to the partition, and made durable. None = no window yet.
    drain_seconds
        Until the backlog is gone at these rates: 0 when caught up, inf when it does not shrink, None when not known yet.
    loss_seconds
        Until the oldest message that is not durable may expire: inf where nothing can be lost, None when not known, 0 when
        messages expired unread.
    status, rule, why
        The verdict, the number of the rule that gave it (docs/lag.md), and its sentence for a person.
    """

    topic: str
    topic_id: str
    partition: int
    model: str
    processing_id: str
    start: int | None
    durable: int | None
    end: int | None
    lag: int | None
    lag_bytes: int | None
    lag_seconds: float | None
    produce_rate: float | None
    consume_rate: float | None
    drain_seconds: float | None
    loss_seconds: float | None
    status: Status
    rule: int
    why: str

    def as_json(self) -> dict[str, Any]:
        """For programs. JSON knows no infinity: those are null, and ``draining`` and ``expires`` tell them from not known.

        ``draining`` is false where `drain_seconds` is infinite, null where it is not known, else true. ``expires`` is the same
        for `loss_seconds`.
        """
        infinite = float("inf")
        said = self._asdict() | {"status": str(self.status), "status_rank": self.status.rank}
        for name, flag in (("drain_seconds", "draining"), ("loss_seconds", "expires")):
            value = said[name]
            said[flag] = None if value is None else value != infinite
            said[name] = None if value == infinite else value
        return said
