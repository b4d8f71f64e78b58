"""The observing night (dayobs) of an event, as the date that names it.

A night must never be cut in two. Rubin's dayobs is the date at UTC-12, the date of (UTC - 12 h): it changes at noon
UTC, 8 or 9 in the morning in Chile, long after the last exposure. A date in plain UTC or TAI changes at 8 or 9 in the
evening there, in the middle of the work. Each survey has its rule in ``ROLLOVERS``.
"""

from datetime import date, timedelta
from typing import Literal, NamedTuple

import numpy as np
import numpy.typing as npt

from schemas.batch import Float64, Int32, Int64

MJD_1970 = 40587.0  # MJD of 1970-01-01
DAYS_EARLY = 30.0  # an event may be this much older than its Kafka message
DAYS_LATE = 1.0  # and this much younger: clocks differ
CLOSES_HOURS = 12.0  # a night is closed so long after it ended: what Kafka receives later is late
UNKNOWN_NIGHT = 0  # 1970-01-01: neither an event time nor a Kafka time

_MS_PER_DAY = 86_400_000
_DAYS_PLAUSIBLE = 47_482  # 1970-01-01 to 2100-01-01: a time outside is no time of an alert

# TAI - UTC in seconds, from the MJD (UTC) on which each step took effect. Earlier than the first: its value.
_LEAP_STEPS = (
    (54832.0, 34.0),  # 2009-01-01
    (56109.0, 35.0),  # 2012-07-01
    (57204.0, 36.0),  # 2015-07-01
    (57754.0, 37.0),  # 2017-01-01, the last
)


class Rollover(NamedTuple):
    """When a survey's night changes its name.

    Attributes
    ----------
    scale
        The time scale of the event times of the survey's messages.
    hours
        The night is the date of (UTC - `hours`).
    """

    scale: Literal["utc", "tai"]
    hours: float


DEFAULT = Rollover("utc", 12.0)
ROLLOVERS: dict[str, Rollover] = {
    "lsst": Rollover("tai", 12.0),  # Cerro Pachon; event times are TAI; dayobs is the date at UTC-12
    "des": Rollover("utc", 12.0),  # Cerro Tololo, as its neighbour
    "elasticc": Rollover("tai", 12.0),  # simulated Rubin
    "sdss": Rollover("tai", 19.0),  # Apache Point, UTC-7: the date on which the night began, noon to noon
    "ps1": Rollover("utc", 22.0),  # Haleakala, UTC-10: the date on which the night began, noon to noon
    "ztf": Rollover("utc", 0.0),  # Palomar works from 1 to 14 h UTC: a night is one UTC date, and so are ZTF's topics
}


def rollover(survey: str) -> Rollover:
    """The rule of `survey`; that of Rubin's site in UTC where it has none of its own."""
    return ROLLOVERS.get(survey, DEFAULT)


def nights(mjd: Float64, kafka_ms: Int64, rule: Rollover) -> tuple[Int32, npt.NDArray[np.bool_]]:
    """The night of each event.

    An event time that is not finite, or outside [Kafka time - 30 d, Kafka time + 1 d], is bad: the event is filed under
    the night of its Kafka time. Without a Kafka time any event time from 1970 to 2100 is good; without either the night
    is ``UNKNOWN_NIGHT``.

    Parameters
    ----------
    mjd
        Event times, MJD in the scale of `rule`, days, float64[n].
    kafka_ms
        Times of the messages, ms since 1970 UTC, int64[n]; -1 = none.
    rule
        The survey's rule.

    Returns
    -------
    night_index
        Days from 1970-01-01 to the date that names the night, int32[n].
    bad_time
        True where the event time was of no use, bool[n].
    """
    event = utc_mjd(mjd, rule.scale) - MJD_1970  # days since 1970 UTC
    has_kafka = (kafka_ms >= 0) & (kafka_ms < _DAYS_PLAUSIBLE * _MS_PER_DAY)
    kafka = np.where(has_kafka, kafka_ms, 0) / _MS_PER_DAY
    earliest = np.where(has_kafka, kafka - DAYS_EARLY, 0.0)
    latest = np.where(has_kafka, kafka + DAYS_LATE, float(_DAYS_PLAUSIBLE))
    good = (event >= earliest) & (event <= latest)  # false for NaN
    shift = rule.hours / 24
    filed = np.where(good, event, kafka) - shift
    index = np.where(good | has_kafka, np.floor(filed), UNKNOWN_NIGHT)
    return index.astype(np.int32), ~good


def late(night_index: Int32, kafka_ms: Int64, bad_time: npt.NDArray[np.bool_], rule: Rollover) -> npt.NDArray[np.bool_]:
    """Which events Kafka received after their night was closed, bool[n]; those without a time, or of a bad one, are not late.

    Parameters
    ----------
    night_index, bad_time
        As ``nights`` gives them.
    kafka_ms
        Times of the messages, ms since 1970 UTC, int64[n]; -1 = none.
    rule
        The survey's rule.
    """
    return (kafka_ms >= closes_ms(night_index, rule)) & (kafka_ms >= 0) & ~bad_time


def closes_ms(night_index: Int32, rule: Rollover, hours: float = CLOSES_HOURS) -> Int64:
    """When nights close: `hours` after they end, ms since 1970 UTC, int64[n]."""
    ends = (night_index.astype(np.int64) + 1) * _MS_PER_DAY
    return ends + np.int64((rule.hours + hours) / 24 * _MS_PER_DAY)


def utc_mjd(mjd: Float64, scale: Literal["utc", "tai"]) -> Float64:
    """`mjd` in UTC; right since 2009, 1 s off for each leap second before."""
    if scale == "utc":
        return mjd
    seconds = np.array([step for _, step in _LEAP_STEPS])
    starts_tai = np.array([start for start, _ in _LEAP_STEPS]) + seconds / 86400
    index = np.searchsorted(starts_tai, mjd, side="right") - 1
    return np.asarray(mjd - seconds[np.maximum(index, 0)] / 86400)


def mjd_of(ms: int, scale: Literal["utc", "tai"]) -> float:
    """The time `ms` since 1970 UTC as an MJD in `scale`; for TAI, right from 2017 on."""
    return MJD_1970 + ms / _MS_PER_DAY + (_LEAP_STEPS[-1][1] / 86400 if scale == "tai" else 0.0)


def night_index(name: str) -> int:
    """Days from 1970-01-01 to the night `name`, YYYY-MM-DD. Raises ``ValueError`` where it is no date."""
    return (date.fromisoformat(name) - date(1970, 1, 1)).days


def night_name(index: int) -> str:
    """The night as it stands in the table: YYYY-MM-DD."""
    return (date(1970, 1, 1) + timedelta(days=int(index))).isoformat()
