"""What the monitor makes of looks: totals, history, a verdict in words, gauges; and what it does when nobody answers."""

import math
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from confluent_kafka import KafkaError, KafkaException
from hypothesis import given, settings
from hypothesis import strategies as st
from prometheus_client.parser import text_string_to_metric_families

from schemas.errors import TroubleError, UserError
from streamer.lag.broker import BrokerReading
from streamer.lag.standing import Standing, Status
from streamer.lag.totals import totals
from streamer.lag.watch import NothingRead
from streamer.metrics import names
from streamer.monitor import sampler as sampling
from streamer.monitor import words
from streamer.monitor.gauges import Gauges
from streamer.monitor.history import History, Ring
from streamer.monitor.sampler import BROKER, TABLE, Sampler, Seen
from streamer.monitor.verdict import BAD, GOOD, UNKNOWN, WARN, Away, verdict
from streamer.source.connection import REFUSED
from tests import standings
from tests.standings import standing

INFINITE = float("inf")


def test_totals_add_what_is_known_and_take_the_worst() -> None:
    late = standing(
        2, lag=50, lag_seconds=9.0, drain_seconds=INFINITE, loss_seconds=60.0, status=Status.STALLED, why="no progress"
    )
    (total,) = totals([standing(0, lag=5, lag_seconds=1.0), standing(1, **standings.UNKNOWN), late])
    assert (total.partitions, total.lag, total.lag_seconds, total.produce_rate) == (3, 55, 9.0, 20.0)
    assert (total.drain_seconds, total.loss_seconds) == (INFINITE, 60.0)
    assert (total.status, total.worst, total.why) == (Status.STALLED, 2, "no progress")
    assert total.counts == {Status.OK: 2, Status.STALLED: 1}
    (nothing,) = totals([standing(0, **standings.UNKNOWN)])
    assert (nothing.lag, nothing.lag_seconds, nothing.drain_seconds) == (None, None, None)
    assert [
        (t.topic, t.model) for t in totals([standing(topic="b"), standing(topic="a"), standing(topic="a", model="z")])
    ] == [
        ("a", "forest-lsst-01234567"),
        ("a", "z"),
        ("b", "forest-lsst-01234567"),
    ]


@settings(max_examples=40)
@given(st.lists(st.dictionaries(st.integers(0, 5), st.one_of(st.none(), st.integers(0, 99)), max_size=4), max_size=40))
def test_a_ring_holds_what_a_list_of_the_last_looks_holds(looks: list[dict[int, int | None]]) -> None:
    ring = Ring(fields=1, points=7)
    for time, look in enumerate(looks):
        ring.add(float(time), {key: (value,) for key, value in look.items()})
    times, values = ring.read(list(range(6)))
    last = list(enumerate(looks))[-7:]
    assert times.tolist() == [float(time) for time, _ in last]
    for key in range(6):
        naive = [math.nan if (v := look.get(key)) is None else float(v) for _, look in last]
        np.testing.assert_array_equal(values[key, 0], naive)


def test_a_ring_is_bounded_in_series_points_and_answers() -> None:
    ring = Ring(fields=2, points=1000, most=3)
    for time in range(1500):
        ring.add(float(time), {f"{time // 1000}-{k}": (time, None) for k in range(5)})
    times, values = ring.read(["1-0", "1-4", "0-0"])
    assert len(times) <= 360
    assert times[0] >= 500
    assert not np.isnan(values[2, 0]).all()  # still within the ring
    assert np.isnan(values[1]).all()  # the fifth of three
    slow = Ring(fields=1, points=10, every=60.0)
    for time in range(0, 300, 5):
        slow.add(float(time), {"a": (time,)})
    assert slow.read(["a"])[0].tolist() == [0.0, 60.0, 120.0, 180.0, 240.0]


@pytest.mark.parametrize("every", [0.0, 60.0])
def test_a_clock_that_is_set_back_stops_no_history(every: float) -> None:
    ring = Ring(fields=1, points=10, every=every)
    for time in (1000.0, 1060.0, 4660.0, 1090.0, 1150.0):  # ahead for an hour, then right again
        ring.add(time, {"a": (time,)})
    times, values = ring.read(["a"])
    assert times.tolist() == values[0, 0].tolist() == [1000.0, 1060.0, 1090.0, 1150.0]


def test_a_series_that_is_gone_gives_its_place_to_a_new_one() -> None:
    ring = Ring(fields=1, points=4, most=2)
    for time in range(4):
        ring.add(float(time), {"old": (1,), "stays": (2,)})
    for time in range(4, 12):
        ring.add(float(time), {"stays": (2,), "new": (3,)})
    assert ring.read(["new"])[1][0, 0].tolist()[-1] == 3


def test_history_of_totals_and_partitions() -> None:
    history = History()
    for time in (1000.0, 1005.0):
        seen = [standing(0, lag=int(time), lag_seconds=1.0), standing(1)]
        history.add(time, seen, totals(seen))
    lines = history.totals([("alerts", "forest-lsst-01234567")], "hour")
    assert lines.times.tolist() == [1000.0, 1005.0]
    assert lines.values[0].tolist() == [[1000.0, 1005.0], [1.0, 1.0], [20.0, 20.0], [20.0, 20.0]]
    parts = history.partitions([("alerts", "forest-lsst-01234567", 1), ("no", "such", 0)], "hour")
    assert parts.values[0].tolist() == [[0.0, 0.0], [0.0, 0.0]]
    assert np.isnan(parts.values[1]).all()
    assert history.totals([("alerts", "forest-lsst-01234567")], "day").times.tolist() == [1000.0]


@pytest.mark.parametrize(
    ("seen", "expired", "level", "line", "stuck", "lost"),
    [
        ([standing()], 0, GOOD, "Keeping up: all that was published is in the catalogue.", GOOD, GOOD),
        ([standing(lag=9, lag_seconds=2.5, drain_seconds=3.0)], 0, GOOD, "Keeping up: 2.5 s behind.", GOOD, GOOD),
        (
            [standing(lag=9, lag_seconds=90.0, drain_seconds=600.0, loss_seconds=7200.0)],
            0,
            GOOD,
            "Keeping up: 90 s behind, caught up in 10 min.",
            GOOD,
            GOOD,
        ),
        (
            [standing(lag=9, lag_seconds=90.0, status=Status.FALLING_BEHIND)],
            0,
            WARN,
            "alerts falls behind: 90 s now, and growing.",
            GOOD,
            GOOD,
        ),
        (
            [standing(lag=9, lag_seconds=90.0, status=Status.WARNING, why="later than a minute")],
            0,
            WARN,
            "alerts is 90 s behind: later than a minute.",
            GOOD,
            GOOD,
        ),
        (
            [standing(), standing(1, lag=9, status=Status.STALLED, why="nothing moved for 4 min")],
            0,
            BAD,
            "Stuck: alerts, 1 of 2 partitions: nothing moved for 4 min.",
            BAD,
            GOOD,
        ),
        (
            [standing(lag=9, loss_seconds=900.0, status=Status.AT_RISK, why="it expires")],
            0,
            BAD,
            "At risk: unread messages of alerts expire in 15 min.",
            GOOD,
            BAD,
        ),
        ([standing()], 50, BAD, "Lost: 50 messages expired at the broker before they were read, in the last day.", GOOD, BAD),
        ([standing()], None, GOOD, "Keeping up: all that was published is in the catalogue.", GOOD, UNKNOWN),
        ([standing(**standings.UNKNOWN)], 0, UNKNOWN, "Not known yet.", GOOD, GOOD),
        ([], 0, UNKNOWN, "Nothing has been read into this catalogue yet.", UNKNOWN, UNKNOWN),
    ],
)  # fmt: skip
def test_the_verdict_in_words(
    seen: list[Standing], expired: int | None, level: str, line: str, stuck: str, lost: str
) -> None:
    said = verdict(totals(seen), [], expired, True, 0.0)
    assert said.line == (level, line)
    assert (said.stuck.level, said.lost.level) == (stuck, lost)


def test_the_verdict_when_nobody_answers_or_nobody_looked() -> None:
    away = [Away(BROKER, 100.0, "No broker answers")]
    said = verdict(totals([standing()]), away, 0, True, 280.0)
    assert said.line == (BAD, "The broker is away for 3 min. What you see is from before.")
    assert {said.keeping_up.level, said.stuck.level, said.lost.level} == {UNKNOWN}
    assert "Nothing has been seen yet" in verdict([], away, None, False, 100.0).line.text
    assert verdict([], [], None, False, 0.0).line.level == UNKNOWN


class World:
    """A broker that answers, or not."""

    def __init__(self) -> None:
        self.answer: Any = [standing()]
        self.now = 1000.0

    def look(self) -> list[Standing]:
        self.now += 5
        if isinstance(self.answer, Exception):
            raise self.answer
        return list(self.answer)

    def clock(self) -> float:
        return self.now


def test_a_broker_that_goes_leaves_what_was_seen_and_since_when(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    world = World()
    sampler = Sampler(world.look, tmp_path, 5.0, world.clock)
    told: list[Seen] = []
    sampler.tell(told.append)
    monkeypatch.setattr(sampler, "_table_answers", lambda: True)
    assert (sampler.step().number, sampler.seen.away) == (1, ())
    world.answer = TroubleError("No broker answers at kafka:9092.")
    gone = sampler.step()
    since = world.now - 5
    assert gone.away == (Away(BROKER, since, "No broker answers at kafka:9092."),)
    assert gone.standings == (standing(),)
    assert sampler.step().away[0].since == since
    monkeypatch.setattr(sampler, "_table_answers", lambda: False)
    assert sampler.step().away[0].who == TABLE
    world.answer = [standing(1)]
    assert sampler.step().away == ()
    world.answer = NothingRead("it has read nothing yet")
    assert (sampler.step().standings, sampler.seen.away) == ((), ())
    assert [seen.number for seen in told] == [1, 2, 3, 4, 5, 6]


@pytest.mark.parametrize("code", REFUSED)
def test_a_broker_that_refuses_us_is_not_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: int) -> None:
    """An access list that was changed must not silence every alert about lag."""
    world = World()
    sampler = Sampler(world.look, tmp_path, 5.0, world.clock)
    monkeypatch.setattr(sampler, "_table_answers", lambda: True)
    sampler.step()
    seen_at = sampler.seen.at
    broker = BrokerReading("127.0.0.1:9")
    world.answer = broker._silent(KafkaException(KafkaError(code)))
    broker.close()
    seen = sampler.step()
    assert "refuses us" in seen.away[0].why
    assert (seen.is_away(BROKER), seen.is_away(TABLE)) == (True, False)
    assert (seen.at, seen.standings) == (seen_at, (standing(),))
    held = exposed(seen)
    assert (held["slipher_broker_up"][0].value, held["slipher_table_up"][0].value) == (0, 1)


def test_a_catalogue_that_a_person_must_mend_is_not_up(tmp_path: Path) -> None:
    world = World()
    world.answer = UserError("This catalogue is of a later version.")
    seen = Sampler(world.look, tmp_path / "none", 5.0, world.clock).step()
    assert (seen.is_away(BROKER), seen.is_away(TABLE), seen.at) == (False, True, None)


def test_a_catalogue_that_is_not_there_is_what_is_away(tmp_path: Path) -> None:
    world = World()
    world.answer = TroubleError("?")
    assert Sampler(world.look, tmp_path / "none", 5.0, world.clock).step().away[0].who == TABLE


def test_a_look_that_hangs_is_not_alive(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    begun, end = threading.Event(), threading.Event()

    def look() -> list[Standing]:
        begun.set()
        end.wait(20)
        return []

    sampler = Sampler(look, tmp_path, 0.01)
    assert sampler.trouble() is None
    sampler.start()
    assert begun.wait(10)
    assert sampler.trouble() is None
    monkeypatch.setattr(sampling, "STUCK_SECONDS", 0.0)
    assert "has lasted" in str(sampler.trouble())
    sampler.stop()
    end.set()


def exposed(seen: Seen) -> dict[str, list[Any]]:
    text = Gauges(lambda: seen).exposition().decode()
    return {family.name: family.samples for family in text_string_to_metric_families(text)}


def test_gauges_are_those_of_the_list_and_know_what_was_seen() -> None:
    late = standing(3, lag=50, lag_seconds=None, drain_seconds=INFINITE, status=Status.AT_RISK)
    seen = Seen(7, 1000.0, 0.25, (standing(), late), tuple(totals([standing(), late])))
    held = exposed(seen)
    assert {name for name in held if name.startswith("slipher_")} == {metric.name for metric in names.MONITOR}
    for metric in names.MONITOR:
        assert all(set(sample.labels) == set(metric.labels) for sample in held[metric.name])
    by_partition = {sample.labels["partition"]: sample.value for sample in held["slipher_lag_messages"]}
    assert by_partition == {"0": 0, "3": 50}
    assert [sample.labels["partition"] for sample in held["slipher_lag_seconds"]] == [
        "0"
    ]  # what is not known is absent
    assert held["slipher_topic_drain_seconds"][0].value == INFINITE
    assert {sample.labels["partition"]: sample.value for sample in held["slipher_lag_status"]} == {"0": 0, "3": 6}
    assert (held["slipher_broker_up"][0].value, held["slipher_table_up"][0].value) == (1, 1)


def test_a_label_may_be_anything() -> None:
    strange = 'a"b\\n\nc{}=,é'
    held = exposed(Seen(1, 1.0, 0.1, (standing(topic=strange),), tuple(totals([standing(topic=strange)]))))
    assert (
        held["slipher_lag_messages"][0].labels["topic"]
        == held["slipher_topic_lag_messages"][0].labels["topic"]
        == strange
    )


def test_while_the_broker_is_away_nobody_knows_the_lag() -> None:
    seen = Seen(7, 1000.0, 0.25, (standing(),), tuple(totals([standing()])), (Away(BROKER, 900.0, "?"),))
    held = exposed(seen)
    assert not any(name.startswith(("slipher_lag", "slipher_topic")) for name in held)
    assert (held["slipher_broker_up"][0].value, held["slipher_table_up"][0].value) == (0, 1)
    assert held["slipher_monitor_last_look_timestamp_seconds"][0].value == 1000.0


def test_what_the_page_is_told_is_json_even_of_the_infinite() -> None:
    seen = Seen(1, 5.0, 0.1, (standing(lag=1, drain_seconds=INFINITE, status=Status.STALLED, lag_seconds=1 / 3),))
    seen = seen._replace(totals=tuple(totals(seen.standings)))
    said = words.state(seen, verdict(seen.totals, (), 0, True, 5.0), 5.0, 1, 5.0)
    words.dumps(said)
    assert said["worst"][0]["drain_seconds"] == said["totals"][0]["drain_seconds"] == "never"
    assert said["worst"][0]["lag_seconds"] == 0.333
    with pytest.raises(ValueError, match="JSON"):
        words.dumps({"x": float("nan")})
