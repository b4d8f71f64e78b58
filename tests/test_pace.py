"""How fast a replay may go, by a clock that is told what time it is."""

import pytest

from streamer.replay.pace import FULL, LOOK_SECONDS, MARGIN, WINDOW, LiveLag, Pace, Place


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


@pytest.mark.parametrize("rows_a_message", [1, 20])
@pytest.mark.parametrize("rate", [50.0, 3_000.0])
def test_rows_come_at_the_rate_that_was_asked_for(rate: float, rows_a_message: int) -> None:
    """Over a minute, whatever a message holds: within a stretch of what was asked, from below and from above."""
    clock = Clock()
    pace = Pace(rate, clock=clock)
    rows = 0
    for _ in range(6_000):
        if room := pace.room():
            rows += room * rows_a_message
            pace.spent(room, room * rows_a_message)
        clock.now += 0.01
    assert rows == pytest.approx(60 * rate, rel=0.1, abs=2 * rows_a_message + 0.5 * rate)


def test_without_a_rate_only_others_hold_it_back() -> None:
    busy = [False]
    pace = Pace(None, lambda: busy[0])
    pace.spent(10_000, 10_000)
    assert pace.room() == FULL
    busy[0] = True
    assert pace.room() == 0


def test_it_waits_while_a_live_reader_falls_behind_and_until_it_is_back() -> None:
    clock, place = Clock(), [Place(0, 0)]
    lag = LiveLag(lambda: {"a": place[0]}, clock)

    def pass_by(seconds: float, speed: float, arrive: float) -> list[bool]:
        said = []
        for _ in range(int(seconds / LOOK_SECONDS)):
            clock.now += LOOK_SECONDS
            read = min(speed * LOOK_SECONDS, place[0].lag + arrive * LOOK_SECONDS)
            place[0] = Place(place[0].durable + int(read), place[0].lag + int(arrive * LOOK_SECONDS - read))
            said.append(lag())
        return said

    assert not any(pass_by(60, 1_000, 1_000))  # it keeps up
    assert pass_by(60, 600, 1_000)[-1]  # it does not
    assert lag.behind == ["a"]
    high = place[0].lag
    catching_up = pass_by(200, 3_000, 1_000)
    assert catching_up[0]  # it gains, and is not there yet
    assert place[0].lag < high
    assert not catching_up[-1]
    assert lag.behind == []


def test_a_lag_that_rises_and_falls_with_commits_is_none() -> None:
    clock, at = Clock(), [0]

    def place() -> dict[str, Place]:
        at[0] += 1
        durable = at[0] // 3 * 3 * 2_000  # commits every 6 s of what comes at 1,000 a second
        return {"a": Place(durable, at[0] * 2_000 - durable)}

    lag = LiveLag(place, clock)
    for _ in range(60):
        clock.now += LOOK_SECONDS
        assert not lag()


def test_a_reader_that_is_gone_holds_nobody_back() -> None:
    """Its lag grows for ever; nobody reads there any more."""
    clock, lags = Clock(), iter(range(0, 10_000_000, 10 * MARGIN))
    lag = LiveLag(lambda: {"dead": Place(7, next(lags))}, clock)
    for _ in range(int(4 * WINDOW / LOOK_SECONDS)):
        clock.now += LOOK_SECONDS
        assert not lag()


def test_it_looks_only_now_and_then() -> None:
    clock, looks = Clock(), []
    lag = LiveLag(lambda: looks.append(clock.now) or {}, clock)
    for _ in range(100):
        lag()
        clock.now += LOOK_SECONDS / 10
    assert len(looks) == 10
