"""Lag's parts by themselves: rules, measures, windows, and what must hold of every number whatever comes."""

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from streamer.lag import measures
from streamer.lag.broker import Retention, retention
from streamer.lag.front import EACH_LOOK, Front, Fronts
from streamer.lag.measures import INFINITE, Leap, Passage
from streamer.lag.readers import Reader
from streamer.lag.rules import RULES, Glance, judge
from streamer.lag.sheet import Sheet
from streamer.lag.stand import Stand
from streamer.lag.standing import Status
from streamer.lag.window import MOST, History
from streamer.lag.words import count, duration, rate

HOUR = 3600.0
DAY = 24 * HOUR
WEEK = 7 * DAY


def waiting(**given: Any) -> Glance:
    """100 messages wait, the oldest for 10 s; it is read as fast as it comes."""
    plain: dict[str, Any] = {"start": 0, "durable": 900, "end": 1000, "lag": 100, "lag_seconds": 10.0, "quiet": 3.0}
    plain |= {"produce_rate": 10.0, "consume_rate": 10.0, "drain_seconds": 10.0, "loss_seconds": INFINITE}
    return Glance(**(plain | {"silent": 3.0, "retention": WEEK} | given))


CAUGHT_UP = {"durable": 1000, "lag": 0, "lag_seconds": 0.0, "drain_seconds": 0.0}
NEVER = {"drain_seconds": INFINITE}
OLD = {"lag_seconds": 60.0}
# rule, status, what it holds for, a part of its sentence, and what just misses it
RULE_CASES = [
    (1, Status.REWOUND, {"there": False}, "no such topic", {}),
    (1, Status.REWOUND, {"same": False}, "recreated", {}),
    (2, Status.WARNING, {"end": None}, "does not say", {}),
    (3, Status.REWOUND, CAUGHT_UP | {"durable": 1002}, "2 offsets before", CAUGHT_UP),
    (4, Status.REWOUND, {"fell": True}, "went back", {}),
    (5, Status.AT_RISK, {"start": 901}, "1 offset expired unread", {"start": 900}),
    (6, Status.AT_RISK, {"loss_seconds": 3599}, "may expire in 60 min", {"loss_seconds": 3601}),
    (6, Status.AT_RISK, {"loss_seconds": 149, "retention": 600}, "in 2 min", {"loss_seconds": 151, "retention": 600}),
    (7, Status.AT_RISK, NEVER | {"loss_seconds": 3 * DAY}, "does not shrink", NEVER | {"loss_seconds": 4 * DAY}),
    (
        7,
        Status.AT_RISK,
        {"loss_seconds": 2 * HOUR, "drain_seconds": 3 * HOUR},
        "takes 3 h",
        {"loss_seconds": 2 * HOUR},
    ),
    (8, Status.OK, CAUGHT_UP, "caught up", {}),
    (9, Status.STOPPED, OLD | {"quiet": 60, "silent": 60}, "written for 60 s", {"quiet": 60, "silent": 60}),
    (10, Status.STALLED, OLD | {"quiet": 60}, "not moved for 60 s", OLD | {"quiet": 59}),
    (10, Status.STALLED, OLD | {"quiet": 60, "durable": None}, "has begun", {"quiet": 60, "durable": None}),
    (11, Status.FALLING_BEHIND, OLD | NEVER | {"grew": True}, "10/s are written", OLD | NEVER),
    (12, Status.WARNING, {"lag_seconds": 300}, "caught up in 10 s", {"lag_seconds": 299}),
    (13, Status.OK, {}, "waits for 10 s", CAUGHT_UP),
]


@pytest.mark.parametrize(("number", "status", "holds", "tells", "misses"), RULE_CASES)
def test_each_rule_holds_for_its_case_and_not_just_beside_it(
    number: int, status: Status, holds: dict[str, Any], tells: str, misses: dict[str, Any]
) -> None:
    verdict = judge(waiting(**holds))
    assert (verdict.rule, verdict.status) == (number, status)
    assert tells in verdict.why
    assert judge(waiting(**misses)).rule != number


def test_every_rule_is_numbered_in_its_sentence_and_has_a_case() -> None:
    assert {case[0] for case in RULE_CASES} == set(range(1, len(RULES) + 1))
    for number, (_, rule) in enumerate(RULES, 1):
        assert (rule.__doc__ or "").startswith(f"{number}. ")


def test_what_is_not_known_is_no_alarm() -> None:
    """A first look at a busy topic that nobody could time: no rule may claim that somebody should get up."""
    nothing = Glance(start=0, durable=900, end=1000, lag=100)
    assert judge(nothing).status is Status.OK


NUMBERS = st.floats(0, 1e9)
MAYBE = st.none() | NUMBERS
ENDS = st.lists(st.tuples(st.floats(0, 100), st.integers(0, 100)), max_size=20)


def steps_of(steps: list[tuple[float, int]]) -> Sheet:
    """One row that rises by these."""
    at = np.cumsum([s[0] for s in steps]) if steps else np.zeros(0)
    value = np.cumsum([s[1] for s in steps]).astype(np.int64) if steps else np.zeros(0, np.int64)
    return Sheet.of(at, value[None])


def passage(sheet: Sheet, offset: int) -> Passage:
    """Of the only row."""
    return Passage(*(None if np.isnan(when[0]) else float(when[0]) for when in sheet.passed(np.array([offset]))))


def leap(sheet: Sheet) -> Leap:
    """Of the only row."""
    at, speed, greatest = (numbers[0] for numbers in sheet.leaps())
    return Leap(int(at), None if np.isnan(speed) else float(speed), int(greatest))


@settings(max_examples=60)
@given(ENDS, st.integers(0, 3000), st.none() | st.floats(-1e6, 1e6), MAYBE, st.floats(0, 1e4))
def test_an_age_is_a_number_and_within_what_was_seen(
    steps: list[tuple[float, int]], first: int, stamp: float | None, guess: float | None, later: float
) -> None:
    ends = steps_of(steps)
    now = (float(ends.at[0, -1]) if steps else 0.0) + later
    front = None if stamp is None else Front(first, first, True, stamp)
    before, after, between = seen = passage(ends, first)
    age = measures.age(now, seen, front, guess)
    if age is None:
        assert (stamp, guess, between) == (None, None, None)
        return
    assert 0 <= age < INFINITE
    if before is not None and (after is None or after <= now):
        assert age <= now - before + 1e-6
    if after is not None:
        assert age >= now - after - 1e-6


@settings(max_examples=60)
@given(st.integers(0, 10**12), MAYBE, MAYBE, MAYBE)
def test_a_time_to_drain_is_never_negative_and_never_nan(
    lag: int, old: float | None, produce: float | None, consume: float | None
) -> None:
    found = measures.drain(lag, old, produce, consume)
    if found is None:
        assert lag > 0
    else:
        assert found >= 0  # which NaN is not
        assert found > 0 or lag == 0
    if lag == 0:
        assert found == 0


RETENTIONS = st.none() | st.builds(Retention, MAYBE, st.none() | st.integers(0, 10**12))


@settings(max_examples=60)
@given(
    NUMBERS, MAYBE, st.integers(0, 1000), st.integers(0, 1000), ENDS, RETENTIONS, st.none() | st.floats(1, 1e7), MAYBE
)
def test_a_time_to_loss_is_never_negative_and_never_nan(
    now: float, came: float | None, first: int, behind: int, steps: list[tuple[float, int]],
    kept: Retention | None, size: float | None, produce: float | None,
) -> None:  # fmt: skip
    found = measures.loss(now, came, first, first + behind, leap(steps_of(steps)), kept, size, produce)
    assert found is None or found >= 0  # which NaN is not
    if kept == Retention(None, None):
        assert found == INFINITE


@settings(max_examples=60)
@given(
    st.builds(
        Glance,
        there=st.booleans(), same=st.booleans(), start=st.none() | st.integers(0, 100), durable=st.none() | st.integers(0, 100),
        end=st.none() | st.integers(0, 100), lag=st.none() | st.integers(0, 100), lag_seconds=MAYBE, produce_rate=MAYBE,
        consume_rate=MAYBE, drain_seconds=MAYBE | st.just(INFINITE), loss_seconds=MAYBE | st.just(INFINITE), retention=MAYBE,
        fell=st.booleans(), grew=st.booleans(), quiet=MAYBE, silent=MAYBE,
    )
)  # fmt: skip
def test_there_is_always_a_verdict_in_words(glance: Glance) -> None:
    verdict = judge(glance)
    assert verdict.why
    assert "None" not in verdict.why
    assert "nan" not in verdict.why


def test_on_its_way_is_no_backlog() -> None:
    """100 messages of which the oldest is 3 s old, read as fast as they come: durable in a second, not never."""
    assert measures.drain(100, 3.0, 100.0, 100.0) == 1.0
    assert measures.drain(100, 20.0, 100.0, 100.0) == INFINITE
    assert measures.drain(100, 20.0, 90.0, 100.0) == 10.0
    assert measures.drain(100, 3.0, 100.0, 0.0) is None  # the first after a silence


@pytest.mark.parametrize(
    ("configuration", "kept"),
    [
        ({"cleanup.policy": "delete", "retention.ms": "604800000", "retention.bytes": "-1"}, Retention(WEEK, None)),
        ({"cleanup.policy": "delete", "retention.ms": "-1", "retention.bytes": "1000"}, Retention(None, 1000)),
        ({"cleanup.policy": "delete", "retention.ms": "0", "retention.bytes": "0"}, Retention(0.0, 0)),
        ({"cleanup.policy": "compact", "retention.ms": "604800000", "retention.bytes": "-1"}, Retention(None, None)),
        ({"cleanup.policy": "compact,delete", "retention.ms": "1000"}, Retention(1.0, None)),
        ({}, Retention(None, None)),
    ],
)
def test_what_a_topic_keeps(configuration: dict[str, str], kept: Retention) -> None:
    assert retention(configuration) == kept


def test_where_the_configuration_may_not_be_read_the_logs_start_tells() -> None:
    """The start goes on by 100 every 10 s: message 1,000 is 500 ahead of it, and one leap may come at once."""
    moves = leap(steps_of([(0.0, 0)] + 5 * [(10.0, 100)]))
    assert measures.loss(50, 0, 1000, 2000, moves, None, None, 10) == pytest.approx(40)
    still = leap(steps_of([(10.0, 0)] * 6))
    assert measures.loss(50, 0, 1000, 2000, still, None, None, 10) is None  # nothing expired yet: nobody knows
    assert measures.loss(50, 0, 1000, 2000, leap(steps_of([(0.0, 0)])), None, None, 10) is None


def test_a_limit_of_which_half_is_unknown_is_not_known_unless_it_is_reached() -> None:
    assert measures.loss(0, -10, 0, 10, None, Retention(60, 1000), None, 1) is None
    assert measures.loss(0, -60, 0, 10, None, Retention(60, 1000), None, 1) == 0
    assert measures.loss(0, -10, 0, 10, None, Retention(60, 1000), 50, 1) == 10
    assert measures.loss(0, -10, 0, 10, None, Retention(60, 1000), 50, 0.1) == 50


def test_a_history_thins_what_is_old_and_keeps_what_is_new() -> None:
    history = History()
    for k in range(10 * MOST):
        history.add(float(k), {"a": k, "b": 2 * k} if k % 3 else {"a": k})
    held = history.of("a")
    assert len(held.at) <= MOST
    assert (np.diff(held.at) > 0).all()
    assert np.array_equal(held.at, held.value)
    assert held.at[-1] == 10 * MOST - 1
    assert held.at[0] == 0.0
    assert np.array_equal(held.at[-100:], np.arange(10 * MOST - 100, 10 * MOST))
    assert np.array_equal(history.of("b").value, 2 * history.of("b").at)
    assert len(history.of("nobody").at) == 0


def test_a_history_of_topics_of_a_night_keeps_one_day_of_them() -> None:
    history = History()
    for k in range(40 * 24):
        night = k // 24
        history.add(3600.0 * k, {"always": k} | {(night, p): k for p in range(30)})
    assert len(history) <= 1 + 30 * 6  # a day, and what came while 64 looks filled it
    assert len(history._values) < 30 * 15
    assert history.of("always").value[-1] == 40 * 24 - 1
    assert (np.diff(history.of("always").value) > 0).all()
    assert history.of((39, 29)).value.tolist() == list(range(39 * 24, 40 * 24))
    assert len(history.of((3, 0)).at) == 0


def test_a_key_that_was_forgotten_begins_anew() -> None:
    history = History()
    history.add(0.0, {"a": 1, "b": 2})
    history.forget("a")
    history.add(1.0, {"c": 3, "b": 2})
    history.add(2.0, {"a": 4})
    assert [history.of(key).value.tolist() for key in "abc"] == [[4], [2, 2], [3]]


@settings(max_examples=60)
@given(st.lists(st.dictionaries(st.sampled_from("abcdefgh"), st.integers(0, 100)), max_size=40))
def test_a_history_is_what_was_put_into_it(looks: list[dict[str, int]]) -> None:
    history = History(64)
    for at, look in enumerate(looks):
        history.add(float(at), look)
    for key in "abcdefgh":
        expected = [(float(at), look[key]) for at, look in enumerate(looks) if key in look]
        found = history.of(key)
        assert list(zip(found.at.tolist(), found.value.tolist(), strict=True)) == expected


def test_a_clock_that_is_set_back_stands_still() -> None:
    history = History()
    for at, value in ((100.0, 1), (50.0, 2), (120.0, 3)):
        history.add(at, {"a": value})
    assert history.of("a").at.tolist() == [100, 100, 120]
    assert Sheet.of(*history.looks("a")).passed(np.array([1])).between.tolist() == [100]


class Broker:
    """Answers what it is asked, and counts it: every log is empty up to its end but for a message at 50."""

    def __init__(self) -> None:
        self.asked: list[tuple[tuple[str, int], int]] = []

    def fronts(self, asked: Any) -> list[Front | None]:
        self.asked += asked
        return [Front(at, 50, True, 1.0, False, 80) if at <= 50 else Front(at, 99, False) for _, at in asked]


READER = Reader("forest", "p", "t", "id", "cluster")


def test_a_front_is_asked_for_once_and_at_most_so_many_a_look() -> None:
    broker = Broker()
    fronts = Fronts(broker.fronts)
    stands = [Stand((READER, p), 0, 10, 99) for p in range(EACH_LOOK + 50)]
    fronts.refresh(stands[:20], [False] * 20)
    fronts.refresh(stands[:20], [False] * 20)
    assert len(broker.asked) == 20
    assert all(front is not None and front.first == 50 for front in map(fronts.of, stands[:20]))
    fronts.refresh(stands, [False] * len(stands))
    assert len(broker.asked) == 20 + EACH_LOOK
    assert fronts.size("t") == 80


def test_where_not_all_can_be_asked_for_it_goes_in_turn() -> None:
    """Of 250 partitions each comes up, though the broker never answers in time."""
    asked: list[tuple[str, int]] = []

    def ask(wanted: Any) -> list[None]:
        asked.extend(place for place, _ in wanted)
        return [None] * len(wanted)

    fronts = Fronts(ask)
    stands = [Stand((READER, p), 0, 0, 99) for p in range(250)]
    for _ in range(4):
        fronts.refresh(stands, [False] * 250)
    assert len(asked) == 250 + 3 * EACH_LOOK
    assert len(set(asked[250:])) == 250


def test_what_stands_still_is_asked_for_and_what_moves_is_not() -> None:
    broker = Broker()
    fronts = Fronts(broker.fronts)
    for durable in (10, 20, 30):
        fronts.refresh([Stand((READER, 0), 0, durable, 99)], [True])
    assert broker.asked == []
    fronts.refresh([Stand((READER, 0), 0, 30, 99)], [True])
    assert broker.asked == [(("t", 0), 30)]


def test_only_what_is_new_is_searched_for_a_message() -> None:
    broker = Broker()
    fronts = Fronts(broker.fronts)
    stand = Stand((READER, 0), 0, 60, 99)
    fronts.refresh([stand], [False])
    assert fronts.of(stand) == Front(60, 99, False)
    longer = stand._replace(end=120)
    assert fronts.of(longer) is None
    fronts.refresh([longer], [False])
    assert broker.asked == [(("t", 0), 60), (("t", 0), 99)]


def test_what_held_no_message_is_not_lost_when_it_expires() -> None:
    fronts = Fronts(Broker().fronts)
    before = Stand((READER, 0), 0, 60, 99)
    fronts.refresh([before], [False])
    assert fronts.nothing_lost(before._replace(start=99))
    assert not fronts.nothing_lost(before._replace(start=100, end=100))
    assert not fronts.nothing_lost(before._replace(durable=59, start=99))
    fronts.refresh([before._replace(start=99, end=120)], [False])  # only the new part is searched
    assert fronts.nothing_lost(before._replace(start=99, end=120))
    found = Stand((READER, 1), 0, 40, 99)  # a message at 50
    fronts.refresh([found], [False])
    assert fronts.nothing_lost(found._replace(start=50))
    assert not fronts.nothing_lost(found._replace(start=51))


def test_fronts_of_partitions_that_are_no_more_are_let_go() -> None:
    fronts = Fronts(Broker().fronts)
    for night in range(50):
        reader = READER._replace(topic=f"night-{night}", topic_id=f"id-{night}")
        fronts.refresh([Stand((reader, p), 0, 10, 99) for p in range(4)], [False] * 4)
    assert len(fronts._held) == 4
    assert len(fronts._sizes) == 1


@pytest.mark.parametrize(
    ("seconds", "said"),
    [
        (0, "0 s"),
        (0.04, "0.0 s"),
        (8.24, "8.2 s"),
        (60, "60 s"),
        (150, "2 min"),
        (119.6, "120 s"),
        (7199, "2 h"),
        (7260, "2 h 1 min"),
        (9000, "2 h 30 min"),
        (86_400, "24 h"),
        (172_800, "2 d"),
        (4e5, "4 d 15 h"),
        (INFINITE, "for ever"),
    ],
)
def test_durations_in_words(seconds: float, said: str) -> None:
    assert duration(seconds) == said


def test_rates_and_counts_in_words() -> None:
    assert (rate(12.34), rate(4500.2), rate(3.0), rate(0.0)) == ("12.3/s", "4,500/s", "3/s", "0/s")
    assert (count(1, "offset"), count(1200, "offset")) == ("1 offset", "1,200 offsets")
