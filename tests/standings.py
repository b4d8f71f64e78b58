"""Standings as a look would give them, with what a test is about in place of what it is not."""

from typing import Any

from streamer.lag.standing import Standing, Status


def standing(partition: int = 0, **given: Any) -> Standing:
    """A partition of the topic that is caught up, but for `given`."""
    plain: dict[str, Any] = {
        "topic": "alerts",
        "topic_id": "id",
        "partition": partition,
        "model": "forest-lsst-01234567",
        "processing_id": "0123456789abcdef",
        "start": 0,
        "durable": 100,
        "end": 100,
        "lag": 0,
        "lag_bytes": 0,
        "lag_seconds": 0.0,
        "produce_rate": 10.0,
        "consume_rate": 10.0,
        "drain_seconds": 0.0,
        "loss_seconds": float("inf"),
        "status": Status.OK,
        "rule": 1,
        "why": "caught up",
    }
    return Standing(**(plain | given))


UNKNOWN = dict.fromkeys(
    ("lag", "lag_bytes", "lag_seconds", "produce_rate", "consume_rate", "drain_seconds", "loss_seconds")
)
