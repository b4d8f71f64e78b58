"""From looks to numbers: age, rates, time to drain, time to loss. Pure functions; nothing is negative, nothing is NaN."""

from typing import NamedTuple

from streamer.lag.broker import Retention
from streamer.lag.front import Front

INFINITE = float("inf")
FRESH = 15.0  # seconds: what is not older is on its way, three commits of a worker with the usual interval


class Passage(NamedTuple):
    """When a log was seen to grow past an offset, seconds since 1970 UTC; None where that was not seen.

    Attributes
    ----------
    before
        Last look at which the end was at most the offset.
    after
        First look at which it was beyond.
    between
        By a straight line between both.
    """

    before: float | None = None
    after: float | None = None
    between: float | None = None


class Leap(NamedTuple):
    """How the beginning of a log goes on: where it is, offsets a second (None: not known), the greatest leap between looks."""

    at: int
    speed: float | None
    greatest: int


def age(now: float, seen: Passage, front: Front | None, guess: float | None = None) -> float | None:
    """Seconds since a message came.

    Exact to the time between two looks, whatever the clock of who sent it says, where we saw the log grow past it; inside
    that it is the message's own time that tells, or a straight line. Of what was there before we looked first the message's
    own time is all there is: given by the broker (LogAppendTime) it is as good as the broker's clock; given by the producer
    it is wrong by as much as that clock, but never below the time that we have seen it waiting, and never negative.

    Parameters
    ----------
    now
        Seconds since 1970 UTC.
    seen
        When the log grew past its offset at our own looks.
    front
        What the broker gave at its offset; None where it was not asked.
    guess
        When it may have come, where nothing else is known.
    """
    shortest = 0.0 if seen.after is None else max(0.0, now - seen.after)
    longest = INFINITE if seen.before is None else max(shortest, now - seen.before)
    came = front.stamp if front is not None else None
    if came is None:
        came = seen.between
    if came is None:
        came = guess
    if came is None:
        return None
    return min(max(now - came, shortest), longest)


def drain(lag: int, old: float | None, produce: float | None, consume: float | None) -> float | None:
    """Seconds until the backlog is gone; inf where it does not shrink, None where that is not known yet.

    What is younger than `FRESH` is no backlog but on its way: of that, the time until it is durable at the rate of reading.
    """
    if lag == 0:
        return 0.0
    if old is not None and old < FRESH and consume:
        return lag / consume
    if produce is None or consume is None or (old is not None and old < FRESH):
        return None
    return lag / (consume - produce) if consume > produce else INFINITE


def loss(
    now: float,
    came: float | None,
    first: int,
    end: int,
    start: Leap | None,
    retention: Retention | None,
    size: float | None,
    produce: float | None,
) -> float | None:
    """Seconds until the message at `first` may expire: the earliest moment; inf where nothing expires, None where not known.

    Kafka deletes whole segments, once their youngest message is too old or what follows them is large enough: a message may
    live longer than this, by what its segment spans, never shorter.

    Parameters
    ----------
    now
        Seconds since 1970 UTC.
    came
        Time of the message, which is what Kafka compares.
    first, end
        Its offset, and where the log ends.
    start
        How the log's beginning goes on: all there is where the configuration may not be read.
    retention
        What the topic keeps; None = may not be read.
    size
        Mean bytes of a message in the log.
    produce
        Messages a second that come.
    """
    if retention is None:
        return None if start is None else _by_trend(first, start)
    found: list[float | None] = [INFINITE]
    if retention.seconds is not None:
        found.append(None if came is None else max(0.0, came + retention.seconds - now))
    if retention.size is not None:
        found.append(_by_size(retention.size, first, end, size, produce))
    known = [seconds for seconds in found if seconds is not None]
    soonest = min(known)
    return soonest if len(known) == len(found) or soonest == 0.0 else None


def _by_size(kept: int, first: int, end: int, size: float | None, produce: float | None) -> float | None:
    """The newest `kept` bytes are never deleted: how long until the message is no more among them."""
    if size is None:
        return None
    room = kept - (end - first) * size
    if room <= 0:
        return 0.0
    if produce is None:
        return None
    return room / (produce * size) if produce > 0 else INFINITE


def _by_trend(first: int, start: Leap) -> float | None:
    """The log's start goes in leaps: at its mean speed, and one leap of the greatest seen may come at once."""
    if not start.speed or start.greatest <= 0:
        return None
    return max(0, first - start.at - start.greatest) / start.speed
