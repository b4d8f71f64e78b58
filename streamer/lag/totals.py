"""Many standings in few words: a total for each topic and model, and one sentence for a person on shift."""

import itertools
from collections.abc import Sequence
from typing import NamedTuple

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
    status
        The worst.
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


def totals(rows: Sequence[Standing]) -> list[Total]:
    """One for each topic and model, in their order."""
    key = lambda row: (row.topic, row.model)  # noqa: E731
    return [
        _total(topic, model, list(group)) for (topic, model), group in itertools.groupby(sorted(rows, key=key), key)
    ]


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
        return "Nothing is read: the topics of this catalogue are gone from the broker."
    status = worst(rows)
    behind = _sum([row.lag for row in rows]) or 0
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


def _total(topic: str, model: str, rows: list[Standing]) -> Total:
    def known(name: str) -> list[float]:
        return [value for row in rows if (value := getattr(row, name)) is not None]

    drains = [row.drain_seconds for row in rows if row.lag]
    sure = [drain for drain in drains if drain is not None]
    drain = INFINITE if INFINITE in sure else None if len(sure) < len(drains) else max(sure, default=0.0)
    return Total(
        topic=topic,
        model=model,
        partitions=len(rows),
        lag=_sum([row.lag for row in rows]),
        lag_bytes=_sum([row.lag_bytes for row in rows]),
        lag_seconds=max(known("lag_seconds"), default=None),
        produce_rate=sum(known("produce_rate")) if known("produce_rate") else None,
        consume_rate=sum(known("consume_rate")) if known("consume_rate") else None,
        drain_seconds=drain if known("lag") else None,
        loss_seconds=min(known("loss_seconds"), default=None),
        status=worst(rows),
    )


def _sum(values: Sequence[int | None]) -> int | None:
    known = [value for value in values if value is not None]
    return sum(known) if known else None
