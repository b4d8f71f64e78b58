"""Partitions together: how a topic stands as a model reads it. What no partition knows, the whole does not know either."""

from collections import Counter
from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

from streamer.lag.standing import Standing, Status


class Total(NamedTuple):
    """All partitions of a topic, as one model reads them.

    Attributes
    ----------
    topic, model
        Which.
    partitions
        How many.
    lag, lag_bytes
        Together.
    lag_seconds
        Age of the oldest message of all that is not durable.
    produce_rate, consume_rate
        Messages a second, together.
    drain_seconds
        Until the slowest is caught up; inf where one is not draining.
    loss_seconds
        Until the first message may expire unread.
    status, why
        The worst, and its sentence.
    worst
        The partition that it is about.
    counts
        Partitions by status.
    """

    topic: str
    model: str
    partitions: int
    lag: int | None
    lag_bytes: int | None
    lag_seconds: float | None
    produce_rate: float | None
    consume_rate: float | None
    drain_seconds: float | None
    loss_seconds: float | None
    status: Status
    why: str
    worst: int
    counts: dict[Status, int]


def totals(standings: Iterable[Standing]) -> list[Total]:
    """One for each topic and model, sorted by these."""
    groups: dict[tuple[str, str], list[Standing]] = {}
    for standing in standings:
        groups.setdefault((standing.topic, standing.model), []).append(standing)
    return [_total(group) for _, group in sorted(groups.items())]


def severity(standing: Standing) -> tuple[int, float, int]:
    """The worse, the greater: status, then age of the oldest message, then messages."""
    return standing.status.rank, standing.lag_seconds or 0.0, standing.lag or 0


def _total(group: list[Standing]) -> Total:
    worst = max(group, key=severity)
    return Total(
        topic=worst.topic,
        model=worst.model,
        partitions=len(group),
        lag=_known(sum, (s.lag for s in group)),
        lag_bytes=_known(sum, (s.lag_bytes for s in group)),
        lag_seconds=_known(max, (s.lag_seconds for s in group)),
        produce_rate=_known(sum, (s.produce_rate for s in group)),
        consume_rate=_known(sum, (s.consume_rate for s in group)),
        drain_seconds=_known(max, (s.drain_seconds for s in group)),
        loss_seconds=_known(min, (s.loss_seconds for s in group)),
        status=worst.status,
        why=worst.why,
        worst=worst.partition,
        counts=dict(Counter(s.status for s in group)),
    )


def _known(together: Callable[[list[Any]], Any], values: Iterable[Any]) -> Any:
    known = [value for value in values if value is not None]
    return together(known) if known else None
