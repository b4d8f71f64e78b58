"""Settings of the Kafka client as a consumer: ours, and what a person may change."""

from collections.abc import Mapping
from typing import Any

from schemas.errors import UserError

# Ours, and why: they carry the guarantees, so a person may not change them.
GUARDED: dict[str, Any] = {
    "enable.auto.commit": False,  # the table decides what is durable
    "enable.auto.offset.store": False,
    "auto.offset.reset": "error",  # never jump silently over what retention took
    "enable.partition.eof": True,  # lets the durable offset pass trailing transaction markers
    "isolation.level": "read_committed",  # aborted alerts are not alerts
}
DEFAULTS: dict[str, Any] = {
    "partition.assignment.strategy": "cooperative-sticky",
    "queued.max.messages.kbytes": 65_536,
    "queued.min.messages": 100_000,
    "fetch.max.bytes": 8
    << 20,  # one answer may overshoot both, and eight-byte messages take 40 times their size in memory
    "fetch.wait.max.ms": 100,
    "fetch.queue.backoff.ms": 10,  # its default of a second stalls a fast consumer whose queue was full
    "log_level": 3,
}


ELSEWHERE = {"bootstrap.servers": "brokers", "metadata.broker.list": "brokers", "group.id": "group"}


def refuse_ours(extra: Mapping[str, Any]) -> None:
    """Refuse what would break a guarantee, or has a setting of its own.

    Raises
    ------
    UserError
        `extra` has such a key; the sentence says why.
    """
    for key, value in extra.items():
        if key in GUARDED and str(value).lower() != str(GUARDED[key]).lower():
            raise UserError(
                f"The Kafka setting {key} is slipher's own (it must be {GUARDED[key]}): exactly-once rests on it."
            )
        if key in ELSEWHERE:
            raise UserError(f"The Kafka setting {key} is a setting of its own: {ELSEWHERE[key]}.")


def poll_interval(settings: dict[str, Any]) -> float:
    """Seconds after which a member that does not poll is expelled."""
    return int(settings.get("max.poll.interval.ms", 300_000)) / 1000


def consumer_settings(brokers: str, group: str, extra: dict[str, Any]) -> dict[str, Any]:
    """Settings of the consumer; ``UserError`` where `extra` would break a guarantee."""
    refuse_ours(extra)
    settings = {**DEFAULTS, **extra, **GUARDED, "bootstrap.servers": brokers, "group.id": group}
    if settings.get("group.protocol") == "consumer":  # KIP-848: the broker assigns, always incrementally
        settings.pop("partition.assignment.strategy")
    return settings
