"""One line for a person at two in the morning: is it keeping up, is anything stuck, is anything lost?"""

import math
from collections.abc import Sequence
from typing import NamedTuple

from streamer.lag.standing import Status
from streamer.lag.totals import Total
from streamer.lag.words import duration

GOOD, WARN, BAD, UNKNOWN = "good", "warn", "bad", "unknown"
STUCK = (Status.STALLED, Status.STOPPED, Status.REWOUND)


class Answer(NamedTuple):
    """How good something is (``GOOD``, ``WARN``, ``BAD``, ``UNKNOWN``), and a sentence."""

    level: str
    text: str


class Verdict(NamedTuple):
    """The line on top, and the answers to the three questions."""

    line: Answer
    keeping_up: Answer
    stuck: Answer
    lost: Answer


class Away(NamedTuple):
    """What does not answer, since when (seconds since 1970 UTC), and what it said."""

    who: str
    since: float
    why: str


def verdict(totals: Sequence[Total], away: Sequence[Away], expired: int | None, looked: bool, now: float) -> Verdict:
    """Judge a look.

    Parameters
    ----------
    totals
        The last ones that were seen.
    away
        What does not answer now.
    expired
        Offsets that retention took unread in the last day; None where the ledger was not read yet.
    looked
        Whether there was a look that succeeded.
    now
        Seconds since 1970 UTC.
    """
    keeping, stuck, lost = _keeping_up(totals), _stuck(totals), _lost(totals, expired)
    if away:
        first = away[0]
        whose = " and ".join(a.who for a in away)
        old = "What you see is from before." if looked else "Nothing has been seen yet."
        text = f"{whose} away for {duration(now - first.since)}. {old}"
        line = Answer(BAD, text[0].upper() + text[1:])
        return Verdict(line, *(Answer(UNKNOWN, a.text) for a in (keeping, stuck, lost)))
    if not looked:
        line = Answer(UNKNOWN, "The first look at broker and catalogue is under way.")
        return Verdict(line, keeping, stuck, lost)
    if not totals:
        line = Answer(UNKNOWN, "Nothing has been read into this catalogue yet.")
        return Verdict(line, keeping, stuck, lost)
    worst = max((lost, stuck, keeping), key=lambda answer: [GOOD, UNKNOWN, WARN, BAD].index(answer.level))
    return Verdict(worst if worst.level in (WARN, BAD) else keeping, keeping, stuck, lost)


def _keeping_up(totals: Sequence[Total]) -> Answer:
    known = [t.lag_seconds for t in totals if t.lag_seconds is not None]
    if not totals or not known:
        return Answer(UNKNOWN, "Not known yet.")
    behind = [t for t in totals if t.counts.get(Status.FALLING_BEHIND)]
    if behind:
        worst = max(behind, key=lambda t: t.lag_seconds or 0)
        return Answer(
            WARN, f"{_name(worst, totals)} falls behind: {duration(worst.lag_seconds or 0)} now, and growing."
        )
    late = [t for t in totals if t.status is not Status.OK]
    if late:
        worst = max(late, key=lambda t: (t.status.rank, t.lag_seconds or 0))
        level = WARN if worst.status is Status.WARNING else BAD
        why = f": {worst.why}" if worst.status is Status.WARNING else ""
        return Answer(level, _ended(f"{_name(worst, totals)} is {duration(worst.lag_seconds or 0)} behind{why}"))
    if not any(t.lag for t in totals):
        return Answer(GOOD, "Keeping up: all that was published is in the catalogue.")
    drains = [t.drain_seconds for t in totals if t.drain_seconds is not None and math.isfinite(t.drain_seconds)]
    end = f", caught up in {duration(max(drains))}" if drains and max(drains) > 10 else ""
    return Answer(GOOD, f"Keeping up: {duration(max(known))} behind{end}.")


def _stuck(totals: Sequence[Total]) -> Answer:
    if not totals:
        return Answer(UNKNOWN, "Not known yet.")
    stuck = [(t, sum(t.counts.get(status, 0) for status in STUCK)) for t in totals]
    stuck = [(t, n) for t, n in stuck if n]
    if not stuck:
        return Answer(GOOD, "Nothing is stuck.")
    total, n = max(stuck, key=lambda pair: pair[0].status.rank)
    more = f" {len(stuck) - 1} more." if len(stuck) > 1 else ""
    which = f"{n} of {total.partitions} partitions" if total.partitions > 1 else "its partition"
    why = total.why if total.status in STUCK else "no progress"
    return Answer(BAD, _ended(f"Stuck: {_name(total, totals)}, {which}: {why}") + more)


def _lost(totals: Sequence[Total], expired: int | None) -> Answer:
    if expired:
        return Answer(BAD, f"Lost: {expired:,} messages expired at the broker before they were read, in the last day.")
    risk = [t for t in totals if t.counts.get(Status.AT_RISK)]
    if risk:
        first = min(risk, key=lambda t: math.inf if t.loss_seconds is None else t.loss_seconds)
        when = f" in {duration(first.loss_seconds)}" if first.loss_seconds else ""
        return Answer(BAD, f"At risk: unread messages of {_name(first, totals)} expire{when}.")
    if not totals or expired is None:
        return Answer(UNKNOWN, "Not known yet.")
    soonest = min((t.loss_seconds for t in totals if t.loss_seconds is not None), default=math.inf)
    if math.isfinite(soonest):
        return Answer(GOOD, f"Nothing is lost. The first unread message would expire in {duration(soonest)}.")
    return Answer(GOOD, "Nothing is lost.")


def _ended(text: str) -> str:
    return text if text.endswith(".") else f"{text}."


def _name(total: Total, among: Sequence[Total]) -> str:
    """The topic, and the model where several read."""
    return f"{total.topic} by {total.model}" if len({t.model for t in among}) > 1 else total.topic
