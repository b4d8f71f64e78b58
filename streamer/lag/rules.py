"""The verdict on a partition: numbered rules over a window of looks, asked in their order. The first that holds says it.

Each is a pure function of a `Glance` and gives a sentence for a person, or None where it does not hold. docs/lag.md has the
list with what to do.
"""

from collections.abc import Callable
from typing import NamedTuple

from streamer.lag.measures import FRESH, INFINITE
from streamer.lag.standing import Status
from streamer.lag.words import count, duration, rate

QUIET = 60.0  # seconds without a commit, a dozen of the usual intervals, while messages wait as long: somebody should be reading
LATE = 300.0  # seconds after which an alert is late, though it will come
HORIZON = 3600.0  # seconds in which a person can still do something about loss


class Glance(NamedTuple):
    """All that a rule may look at: one partition as read by one model, now and over the window. None = not known.

    Attributes
    ----------
    there
        Whether the broker has a topic of that name.
    same
        Whether it is the topic that was read, and not a later one of the same name.
    start, durable, end
        As in `Standing`.
    lag, lag_seconds, produce_rate, consume_rate, drain_seconds, loss_seconds
        As in `Standing`.
    retention
        Seconds that the topic keeps a message.
    fell
        Whether the durable offset went back within the window.
    grew
        Whether the backlog is longer than at the window's beginning.
    quiet
        Seconds since the durable offset moved.
    silent
        Seconds since the model wrote anything of this topic.
    """

    there: bool = True
    same: bool = True
    start: int | None = None
    durable: int | None = None
    end: int | None = None
    lag: int | None = None
    lag_seconds: float | None = None
    produce_rate: float | None = None
    consume_rate: float | None = None
    drain_seconds: float | None = None
    loss_seconds: float | None = None
    retention: float | None = None
    fell: bool = False
    grew: bool = False
    quiet: float | None = None
    silent: float | None = None

    @property
    def waits(self) -> float:
        """Seconds that the oldest message has waited; where that is not known, since when nothing moved."""
        return self.lag_seconds if self.lag_seconds is not None else (self.quiet or 0.0)


class Verdict(NamedTuple):
    """What the rules say: the status, the number of the rule that gave it, its sentence."""

    status: Status
    rule: int
    why: str


def another_topic(glance: Glance) -> str | None:
    """1. A topic that is not the one that was read has offsets that mean something else: nothing of it may be read."""
    if not glance.there:
        return "the broker has no such topic any more; what was durable stays"
    return (
        None if glance.same else "the topic was recreated: its offsets began again, and a person has to decide (rebind)"
    )


def not_at_the_broker(glance: Glance) -> str | None:
    """2. A partition of which the broker does not say where it ends has no leader, or is not there."""
    return "the broker does not say where this partition ends" if glance.end is None else None


def ends_too_early(glance: Glance) -> str | None:
    """3. A log that ends before what is durable has lost messages that we have: an unclean election, or another cluster."""
    if glance.durable is None or glance.end is None or glance.durable <= glance.end:
        return None
    return (
        f"the log ends {count(glance.durable - glance.end, 'offset')} before what is durable: the broker lost messages"
    )


def went_back(glance: Glance) -> str | None:
    """4. A durable offset that went back is an older table: what it reads now it has read before."""
    return "the durable offset went back: the table was put back to an older one" if glance.fell else None


def expired_unread(glance: Glance) -> str | None:
    """5. A log that begins after what is durable has let messages expire that nobody read."""
    if glance.durable is None or glance.start is None or glance.start <= glance.durable:
        return None
    return f"{count(glance.start - glance.durable, 'offset')} expired unread"


def expires_soon(glance: Glance) -> str | None:
    """6. The oldest message may expire so soon that a person has to act now."""
    left = glance.loss_seconds
    if not glance.lag or left is None:
        return None
    horizon = HORIZON if glance.retention is None else min(HORIZON, glance.retention / 4)
    return f"the oldest unread message may expire in {duration(left)}" if left < horizon else None


def drains_too_late(glance: Glance) -> str | None:
    """7. Half of the time that messages are kept is gone, and the backlog will not be read in what is left of it."""
    left, needed = glance.loss_seconds, glance.drain_seconds
    if not glance.lag or left is None or needed is None or left >= needed:
        return None
    if left > (glance.retention / 2 if glance.retention is not None else 24 * HORIZON):
        return None
    ends = "it does not shrink" if needed == INFINITE else f"it takes {duration(needed)} to read"
    return f"the oldest unread message may expire in {duration(left)}, and {ends}"


def caught_up(glance: Glance) -> str | None:
    """8. Nothing is to be read."""
    return "caught up" if glance.lag == 0 else None


def nobody_writes(glance: Glance) -> str | None:
    """9. Messages wait and the model has written nothing of this topic for long: no worker is up, or all of them wait."""
    if glance.waits < QUIET or glance.silent is None or glance.silent < QUIET:
        return None
    return f"nothing was written for {duration(glance.silent)}: no worker is up, or all of them wait for something"


def does_not_move(glance: Glance) -> str | None:
    """10. Messages wait and this partition does not move, while the model writes others: it has no owner, or its owner hangs."""
    if glance.waits < QUIET or glance.quiet is None or glance.quiet < QUIET:
        return None
    if glance.durable is None:
        return f"no worker has begun with it, and messages wait for {duration(glance.waits)}"
    return f"not moved for {duration(glance.quiet)}, while others are read: has it an owner?"


def falls_behind(glance: Glance) -> str | None:
    """11. It is read, but more is written, and the backlog is longer than it was."""
    if glance.waits < QUIET or glance.drain_seconds != INFINITE or not glance.grew:
        return None
    written, read = glance.produce_rate or 0.0, glance.consume_rate or 0.0
    return f"{rate(written)} are written and {rate(read)} read: more workers, or a faster model"


def late(glance: Glance) -> str | None:
    """12. It is late, though it is read."""
    if glance.waits < LATE:
        return None
    left = glance.drain_seconds
    ends = "" if left is None else "; it does not shrink" if left == INFINITE else f"; caught up in {duration(left)}"
    return f"{duration(glance.waits)} late{ends}"


def as_it_comes(glance: Glance) -> str | None:
    """13. It is read as it comes."""
    if glance.lag_seconds is None:
        return "it is read"
    if glance.lag_seconds < FRESH:
        return f"read as it comes: the oldest waits for {duration(glance.lag_seconds)}"
    return f"{duration(glance.lag_seconds)} behind"


RULES: tuple[tuple[Status, Callable[[Glance], str | None]], ...] = (
    (Status.REWOUND, another_topic),
    (Status.WARNING, not_at_the_broker),
    (Status.REWOUND, ends_too_early),
    (Status.REWOUND, went_back),
    (Status.AT_RISK, expired_unread),
    (Status.AT_RISK, expires_soon),
    (Status.AT_RISK, drains_too_late),
    (Status.OK, caught_up),
    (Status.STOPPED, nobody_writes),
    (Status.STALLED, does_not_move),
    (Status.FALLING_BEHIND, falls_behind),
    (Status.WARNING, late),
    (Status.OK, as_it_comes),
)


def judge(glance: Glance) -> Verdict:
    """The first rule that holds; the last always does."""
    for number, (status, rule) in enumerate(RULES, 1):
        why = rule(glance)
        if why is not None:
            return Verdict(status, number, why)
    raise AssertionError("the last rule holds always")
