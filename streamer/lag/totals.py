"""Many standings in few words: a total for each topic and model, and one sentence for a person on shift."""

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from typing import Any, NamedTuple

from streamer.lag.measures import FRESH, INFINITE
from streamer.lag.standing import Standing, Status
from streamer.lag.words import count, duration

URGENT = Status.STALLED.rank  # from here on a person has to act


class Total(NamedTuple):
    """All partitions of a topic as read by one model. None = not known of any partition, or of one that matters.

    Attributes
    ----------
    topic, model
        Which.
    partitions
        How many.
    lag, lag_bytes, produce_rate, consume_rate
        Sums of what is known.
    lag_seconds, drain_seconds
        The greatest: all is read when the last partition is.
    loss_seconds
        The smallest.
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


def totals(rows: Iterable[Standing]) -> list[Total]:
    """One for each topic and model, sorted by these."""
    groups: dict[tuple[str, str], list[Standing]] = {}
    for row in rows:
        groups.setdefault((row.topic, row.model), []).append(row)
    return [_total(group) for _, group in sorted(groups.items())]


def severity(row: Standing) -> tuple[int, float, int]:
    """The worse, the greater: status, then age of the oldest message, then messages."""
    return row.status.rank, row.lag_seconds or 0.0, row.lag or 0


def worst(rows: Sequence[Standing]) -> Status:
    """The status that a person worries most about."""
    return max((row.status for row in rows), key=lambda status: status.rank, default=Status.OK)


def exit_code(rows: Sequence[Standing]) -> int:
    """0: ok. 1: a warning, or falling behind. 4: stalled, stopped, rewound or at risk of loss: a person has to act.

    2 and 75 are those of every command: a mistake of who called it, a broker or table that does not answer.
    """
    rank = worst(rows).rank
    return 4 if rank >= URGENT else 1 if rank else 0


def verdict(rows: Sequence[Standing]) -> str:
    """One sentence: how it goes, or what is worst, where, and what is known of its end."""
    if not rows:
        return "Nothing is read: the topics of this catalogue are gone from the broker, or who read them is retired."
    status = worst(rows)
    behind = sum(row.lag or 0 for row in rows)
    oldest = max((row.lag_seconds for row in rows if row.lag_seconds is not None), default=0.0)
    if status is Status.OK:
        if not behind:
            return f"Caught up: {count(len(rows), 'partition')}, nothing unread."
        how = "All is read as it comes" if oldest < FRESH else "All is read"
        return f"{how}: {count(behind, 'message')} on the way, the oldest {duration(oldest)} old."
    bad = [row for row in rows if row.status is status]
    first = max(bad, key=lambda row: row.lag or 0)
    of = [row for row in rows if (row.topic, row.model) == (first.topic, first.model)]
    mine = [row for row in bad if (row.topic, row.model) == (first.topic, first.model)]
    which = f"partition {first.partition}" if len(mine) == 1 else f"{len(mine)} of {len(of)} partitions"
    which = "all" if len(mine) == len(of) and len(of) > 1 else which
    others = len({(row.topic, row.model) for row in bad}) - 1
    more = f" (and {count(others, 'other reader')})" if others else ""
    example = f" (partition {first.partition})" if len(mine) > 1 else ""
    return (
        f"{str(status).capitalize()}: {which} of {first.topic} as read by {first.model}{more}. "
        f"{first.why[0].upper()}{first.why[1:]}{example}."
    )


def _total(rows: list[Standing]) -> Total:
    most = max(rows, key=severity)
    drains = [row.drain_seconds for row in rows if row.lag]
    sure = [drain for drain in drains if drain is not None]
    drain = INFINITE if INFINITE in sure else None if len(sure) < len(drains) else max(sure, default=0.0)
    lag = _known(sum, (row.lag for row in rows))
    return Total(
        topic=most.topic,
        model=most.model,
        partitions=len(rows),
        lag=lag,
        lag_bytes=_known(sum, (row.lag_bytes for row in rows)),
        lag_seconds=_known(max, (row.lag_seconds for row in rows)),
        produce_rate=_known(sum, (row.produce_rate for row in rows)),
        consume_rate=_known(sum, (row.consume_rate for row in rows)),
        drain_seconds=None if lag is None else drain,
        loss_seconds=_known(min, (row.loss_seconds for row in rows)),
        status=most.status,
        why=most.why,
        worst=most.partition,
        counts=dict(Counter(row.status for row in rows)),
    )


def _known(together: Callable[[list[Any]], Any], values: Iterable[Any]) -> Any:
    known = [value for value in values if value is not None]
    return together(known) if known else None
