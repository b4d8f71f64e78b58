"""From looks to numbers: age, rates, time to drain, time to loss. Pure functions; nothing is negative, nothing is NaN."""

from streamer.lag.broker import Retention
from streamer.lag.front import Front
from streamer.lag.window import Series

INFINITE = float("inf")
FRESH = 15.0  # seconds: what is not older is on its way, three commits of a worker with the usual interval


def age(now: float, first: int, ends: Series, front: Front | None, guess: float | None = None) -> float | None:
    """Seconds since the message at the offset `first` came.

    Exact to the time between two looks, whatever the clock of who sent it says, where we saw the log grow past `first`; inside
    that it is the message's own time that tells, or a straight line. Of what was there before we looked first the message's
    own time is all there is: given by the broker (LogAppendTime) it is as good as the broker's clock; given by the producer
    it is wrong by as much as that clock, but never below the time that we have seen it waiting, and never negative.

    Parameters
    ----------
    now
        Seconds since 1970 UTC.
    first
        Offset of the oldest message that is not durable.
    ends
        Where the log ended at our own looks.
    front
        What the broker gave at `first`; None where it was not asked.
    guess
        When it may have come, where nothing else is known.
    """
    before, after = ends.passed(first)
    shortest = 0.0 if after is None else max(0.0, now - after)
    longest = INFINITE if before is None else max(shortest, now - before)
    came = front.stamp if front is not None else None
    if came is None:
        came = ends.between(first)
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
    starts: Series,
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
    starts
        Where the log began at our looks: its trend is all there is where the configuration may not be read.
    retention
        What the topic keeps; None = may not be read.
    size
        Mean bytes of a message in the log.
    produce
        Messages a second that come.
    """
    if retention is None:
        return _by_trend(first, starts)
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


def _by_trend(first: int, starts: Series) -> float | None:
    """The log's start goes in leaps: at its mean speed, and one leap of the greatest seen may come at once."""
    if len(starts.at) < 2:
        return None
    ahead, gone = first - int(starts.value[-1]), int(starts.value[-1] - starts.value[0])
    speed = starts.rate()
    if not speed or gone <= 0:
        return None
    leap = int((starts.value[1:] - starts.value[:-1]).max())
    return max(0, ahead - leap) / speed
