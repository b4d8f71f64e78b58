"""The night of an event, by hand: a Chilean night stays whole, TAI is not UTC, garbage is filed by Kafka time."""

from datetime import UTC, datetime

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from consumers.rows import Provenance, build
from schemas.batch import Estimates, Messages
from schemas.flags import Flag
from schemas.night import (
    UNKNOWN_NIGHT,
    Rollover,
    closes_ms,
    late,
    mjd_of,
    night_index,
    night_name,
    nights,
    rollover,
    utc_mjd,
)
from schemas.processing import Processing
from tests.small_sky import sky

UTC12 = Rollover("utc", 12.0)
TAI12 = Rollover("tai", 12.0)


def ms(text: str) -> int:
    return int(datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp() * 1000)


def mjd(text: str) -> float:
    return ms(text) / 86_400_000 + 40587


def night(when: float, kafka: int, rule: Rollover) -> tuple[str, bool]:
    index, bad = nights(np.array([when]), np.array([kafka], np.int64), rule)
    assert index.dtype == np.int32
    return night_name(int(index[0])), bool(bad[0])


def test_mjd_of_a_date_known_by_heart() -> None:
    assert mjd("2000-01-01T12:00:00") == 51544.5  # J2000.0


@pytest.mark.parametrize(
    "hour",
    [
        "2026-03-14T22:30:00",  # dusk on the 14th in Chile
        "2026-03-14T23:59:59",
        "2026-03-15T00:00:01",  # midnight UTC: 9 in the evening in Chile
        "2026-03-15T03:00:00",  # midnight in Chile
        "2026-03-15T10:30:00",  # dawn
        "2026-03-15T11:59:00",
    ],
)
def test_a_chilean_night_is_not_cut_in_two(hour: str) -> None:
    assert night(mjd(hour), ms(hour), UTC12) == ("2026-03-14", False)


def test_the_night_changes_at_noon_utc() -> None:
    assert night(mjd("2026-03-15T12:00:00"), ms("2026-03-15T12:00:00"), UTC12) == ("2026-03-15", False)


def test_tai_runs_37_seconds_ahead_of_utc() -> None:
    kafka = ms("2026-03-15T12:05:00")
    assert night(mjd("2026-03-15T12:00:36"), kafka, TAI12) == ("2026-03-14", False)  # 11:59:59 UTC
    assert night(mjd("2026-03-15T12:00:38"), kafka, TAI12) == ("2026-03-15", False)  # 12:00:01 UTC
    assert night(mjd("2026-03-15T12:00:36"), kafka, UTC12) == ("2026-03-15", False)


@pytest.mark.parametrize(
    ("tai", "seconds"),
    [
        ("2010-06-01T00:00:00", 34),
        ("2012-07-01T00:00:34", 34),  # the leap second itself, just before 0 h UTC
        ("2012-07-01T00:00:35.001", 35),
        ("2016-06-01T00:00:00", 36),
        ("2017-01-01T00:00:37.001", 37),
        ("2030-01-01T00:00:00", 37),
    ],
)
def test_leap_seconds(tai: str, seconds: int) -> None:
    difference = (mjd(tai) - utc_mjd(np.array([mjd(tai)]), "tai")[0]) * 86400
    assert difference == pytest.approx(seconds, abs=1e-4)


def test_now_as_an_event_time() -> None:
    now = ms("2026-03-15T12:00:00")
    assert mjd_of(now, "utc") == mjd("2026-03-15T12:00:00")
    assert utc_mjd(np.array([mjd_of(now, "tai")]), "tai")[0] == pytest.approx(mjd_of(now, "utc"), abs=1e-10)


def test_garbage_times_are_filed_by_kafka_time() -> None:
    kafka = ms("2026-03-15T03:00:00")
    for garbage in (np.nan, np.inf, -np.inf, 0.0, -1.0, 1e300, 2461114.6, mjd("2026-03-15T03:00:00") + 1.01):
        assert night(garbage, kafka, UTC12) == ("2026-03-14", True)
    assert night(mjd("2026-02-13T02:59:00"), kafka, UTC12) == ("2026-03-14", True)  # 30 d and a minute old
    assert night(mjd("2026-02-13T03:01:00"), kafka, UTC12) == ("2026-02-12", False)


def test_without_a_kafka_time_the_event_time_decides() -> None:
    assert night(mjd("2026-03-15T03:00:00"), -1, UTC12) == ("2026-03-14", False)
    assert night(mjd("1998-03-15T03:00:00"), -1, UTC12) == ("1998-03-14", False)


@pytest.mark.parametrize("garbage", [np.nan, np.inf, 1e300, -5.0])
def test_without_any_time_the_night_is_unknown(garbage: float) -> None:
    assert night(garbage, -1, UTC12) == (night_name(UNKNOWN_NIGHT), True)


@given(st.floats(), st.integers(-(2**63), 2**63 - 1), st.sampled_from([UTC12, TAI12, Rollover("utc", 0.0)]))
def test_no_time_crashes(when: float, kafka: int, rule: Rollover) -> None:
    name, _ = night(when, kafka, rule)
    assert "1969-12-31" <= name <= "2100-01-02"


def test_columns_at_once_are_what_rows_one_by_one_are() -> None:
    rng = np.random.default_rng(5)
    kafka = ms("2026-03-15T03:00:00") + rng.integers(0, 10**9, 200)
    when = kafka / 86_400_000 + 40587 + rng.uniform(-40, 3, 200)
    when[::17] = np.nan
    index, bad = nights(when, kafka, TAI12)
    pairs = zip(when.tolist(), kafka.tolist(), strict=True)
    assert [(night_name(i), b) for i, b in zip(index.tolist(), bad.tolist(), strict=True)] == [
        night(w, k, TAI12) for w, k in pairs
    ]
    assert bad.any()
    assert not bad.all()


def test_each_survey_has_its_rule() -> None:
    assert rollover("lsst") == TAI12
    assert rollover("ztf") == Rollover("utc", 0.0)
    assert rollover("a new survey") == UTC12


@pytest.mark.parametrize(
    ("survey", "dusk", "dawn", "name"),
    [
        ("lsst", "2026-06-20T22:00:00", "2026-06-21T11:30:00", "2026-06-20"),
        ("sdss", "2026-12-21T00:30:00", "2026-12-21T13:40:00", "2026-12-20"),
        ("ps1", "2026-12-21T04:30:00", "2026-12-21T16:30:00", "2026-12-20"),
        ("ztf", "2026-12-21T01:10:00", "2026-12-21T14:20:00", "2026-12-21"),
    ],
)
def test_the_longest_night_of_each_site_is_one_night(survey: str, dusk: str, dawn: str, name: str) -> None:
    for when in (dusk, dawn):
        assert night(mjd(when), ms(when), rollover(survey)) == (name, False)


def test_late_is_what_kafka_receives_after_the_night_was_closed() -> None:
    """The night of the 14th ends on the 15th at noon UTC and is closed at midnight."""
    when = np.full(5, mjd("2026-03-15T03:00:00"))
    kafka = [
        ms("2026-03-15T03:01:00"),
        ms("2026-03-15T23:59:59"),
        ms("2026-03-16T00:00:00"),
        ms("2026-04-30T00:00:00"),
        -1,
    ]
    stamps = np.array(kafka, np.int64)
    index, bad = nights(when, stamps, UTC12)
    assert late(index, stamps, bad, UTC12).tolist() == [
        False,
        False,
        True,
        False,
        False,
    ]  # the fourth is filed by Kafka time
    assert bad.tolist() == [False, False, False, True, False]
    assert closes_ms(index[:1], UTC12, 0.0).tolist() == [ms("2026-03-15T12:00:00")]


def test_the_name_of_a_night_is_read_back() -> None:
    assert [night_name(night_index(name)) for name in ("1970-01-01", "2026-03-14")] == ["1970-01-01", "2026-03-14"]
    with pytest.raises(ValueError):
        night_index("tonight")


def test_a_late_row_carries_its_flag() -> None:
    """Two rows of one night, one received in time, one a day later: filed alike, told apart by a flag."""
    galaxies, _ = sky(2, mjd=mjd("2026-03-15T03:00:00"))
    stamps = np.array([ms("2026-03-15T03:01:00"), ms("2026-03-16T03:01:00")], np.int64)
    messages = Messages([b""] * 2, np.zeros(2, np.int32), np.arange(2), stamps, {0: 2})
    numbers = {name: np.ones(2, np.float32) for name in Estimates._fields}
    bits = {"flags": np.zeros(2, np.uint32), "band_mask": np.ones(2, np.uint32), "pdf": np.ones((2, 3), np.float32)}
    who = Processing("0123456789abcdef", "forest-lsst-01234567", "forest", "lsst", "", "", {})
    rows = build(messages, galaxies, Estimates(**(numbers | bits)), Provenance(who, "c", "t", "i", "v"), UTC12, 0)
    assert rows["night"].to_pylist() == ["2026-03-14"] * 2
    assert [bool(flags & Flag.LATE) for flags in rows["flags"].to_pylist()] == [False, True]
