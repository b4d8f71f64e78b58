"""What benchmarks print, and the arithmetic in it. No benchmark runs here."""

import json
import time
from pathlib import Path

import numpy as np
import pytest
from deltalake import DeltaTable
from numba import njit
from rich.console import Console

from benchmarks import cost, forest_data, latency, metering, once, rates
from benchmarks.crew import Outcome, together
from benchmarks.first_estimate import kernels
from benchmarks.forest_growth import BANDS, at_random, resident, traced, whole_bands
from benchmarks.report import Result, as_json, compared, middle
from benchmarks.stages import Stages
from streamer.sink.verify import verify
from tests import made_rows


def test_json_is_one_object_of_the_agreed_shape() -> None:
    results = [
        Result("arrow, 2 processes", 90_000.0, "rows/s", {"slow": 20_000.0, "fast": 30_000.0}, 0.05),
        Result("stage: decode (arrow)", 0.2, "us/object", higher_is_better=False),
    ]
    told = json.loads(as_json("pipeline", results))
    assert set(told) == {"benchmark", "machine", "results"}
    assert told["benchmark"] == "pipeline"
    assert {"cpu", "cores", "python", "system"} <= set(told["machine"])
    assert told["machine"]["cores"] >= 1
    beside, alone = told["results"]
    assert {"case", "ours", "unit", "peers", "ratio"} <= set(beside)
    assert set(beside) == set(alone)
    assert beside["peers"] == {"slow": 20_000.0, "fast": 30_000.0}
    assert beside["ratio"] == pytest.approx(3.0)
    assert alone["peers"] == {}
    assert alone["ratio"] is None


def test_ratio_is_against_the_best_peer_and_above_one_where_we_are_better() -> None:
    peers = {"a": 50.0, "b": 200.0}
    assert Result("rate", 100.0, "rows/s", peers).ratio == pytest.approx(0.5)
    assert Result("cost", 100.0, "us/object", peers, higher_is_better=False).ratio == pytest.approx(0.5)
    assert Result("cost", 10.0, "us/object", peers, higher_is_better=False).ratio == pytest.approx(5.0)


def test_ratios_are_those_within_a_repeat() -> None:
    found = compared("case", "messages/s", {"slipher": [100.0, 50.0, 80.0], "slow": [10.0, 5.0, 4.0]})
    assert (found.ours, found.peers) == (80.0, {"slow": 5.0})
    assert found.ratios == {"slow": pytest.approx(10.0)}  # 10, 10 and 20: a slow moment is both's
    assert found.ratio_spreads == {"slow": pytest.approx(0.5)}


def test_middle_is_median_and_half_the_range() -> None:
    assert middle([8.0, 10.0, 13.0]) == (10.0, pytest.approx(0.25))
    assert middle([7.0]) == (7.0, 0.0)


def test_a_race_lasts_from_the_first_message_of_any_to_the_last_commit_of_any() -> None:
    race = together(
        [
            Outcome(3_000, 10.5, 12.0, {"decode": 0.3}, 1.0),
            Outcome(1_000, 10.0, 11.0, {"decode": 0.1, "commit": 0.2}, 0.5),
            Outcome(0, 0.0, 0.0, {}, 0.1),  # it came late and found nothing to read
        ]
    )
    assert race.seconds == pytest.approx(2.0)
    assert race.rate == pytest.approx(2_000.0)
    assert race.stages == pytest.approx({"decode": 100.0, "commit": 50.0, "all of the process": 400.0})


def test_an_alert_is_durable_with_the_first_commit_whose_position_is_beyond_it() -> None:
    commits = [(100.0, {"0": 2}), (200.0, {"0": 2, "1": 1}), (300.0, {"0": 5, "1": 1})]
    partition, offset = np.array([0, 0, 0, 1, 1, 0]), np.array([0, 1, 2, 0, 1, 5])
    found = latency.durable_at(partition, offset, commits)
    np.testing.assert_array_equal(found, [100, 100, 300, 200, np.nan, np.nan])


def test_exactly_once_and_blind_appends_write_the_same_rows(tmp_path: Path) -> None:
    messages, output = made_rows.batch({0: 0}, {0: 60})
    output = output._replace(rows=output.rows.set_column(0, "night", [["2026-05-01"] * len(output.rows)]))
    rate, cpu = once.run(tmp_path, messages, output, rounds=2)
    assert set(rate.ratios) == set(cpu.ratios) == {"blind appends"}
    assert not cpu.higher_is_better
    written = DeltaTable(str(tmp_path / "blind")).to_pyarrow_table()
    assert len(written) == 3 * len(output.rows)
    report = verify(tmp_path / "once")
    assert report.ok, report.lines()
    assert report.rows == len(written)


def test_a_race_without_rows_is_an_error() -> None:
    with pytest.raises(RuntimeError, match="no process wrote a row"):
        together([Outcome(0, 0.0, 0.0, {}, 0.1)])


def test_a_stage_does_not_count_what_another_stage_inside_it_does() -> None:
    def burn(seconds: float) -> None:
        until = time.thread_time() + seconds
        while time.thread_time() < until:
            pass

    stages = Stages()
    inner = stages.timed("inner", burn)

    def work() -> None:
        inner(0.02)
        burn(0.01)
        inner(0.02)

    stages.timed("outer", work)()
    assert stages.seconds["inner"] == pytest.approx(0.04, rel=0.2)
    assert stages.seconds["outer"] == pytest.approx(0.01, rel=0.5)


def test_a_kernel_that_is_compiled_is_counted() -> None:
    @njit
    def kernel(x):
        return x + 1

    before = kernels()
    kernel(1)
    kernel(2)
    assert kernels() == {"read": before["read"], "compiled": before["compiled"] + 1}


def test_holes_are_those_that_surveys_leave() -> None:
    x, _ = forest_data.galaxies(3000, 1)
    assert np.isnan(at_random(x)).mean() == pytest.approx(0.1, abs=0.01)
    gone = np.isnan(whole_bands(x))
    assert gone.any(1).mean() == pytest.approx(1 / 3, abs=0.03)
    assert set(gone[:, :BANDS].sum(1)) == {0, 1, 2}
    np.testing.assert_array_equal(gone[:, BANDS : 2 * BANDS - 1], gone[:, : BANDS - 1] | gone[:, 1:BANDS])
    assert not gone[:, -1].any()  # the size is not of a band


def test_memory_is_what_is_held_beside_the_answer() -> None:
    def work() -> np.ndarray:
        beside = np.ones(4_000_000)
        return beside[:1000].copy()

    assert traced(work) == pytest.approx(32e6, rel=0.01)
    held = resident(work)
    assert held is None or held == pytest.approx(32e6, rel=0.1)  # None: no Linux


def test_a_slow_peer_gets_fewer_rows_and_its_rate_is_of_those() -> None:
    asked: dict[str, list[int]] = {"slipher": [], "slow": []}

    def work(who: str, pace: float) -> rates.Work:
        def some(x: np.ndarray) -> None:
            asked[who].append(len(x))
            time.sleep(len(x) * pace)  # the work itself: it waits for nothing

        return some

    rows = np.zeros((1000, 2), np.float32)
    works = {"slipher": work("slipher", 4e-4), "slow": work("slow", 4e-3)}
    told = rates.compared("case", works, rows, 1000, {"slow": 100}, 1, Console(quiet=True))
    assert (set(asked["slipher"]), set(asked["slow"])) == ({1000}, {100})
    assert told.ours == pytest.approx(2500, rel=0.3)
    assert told.ratio == pytest.approx(10, rel=0.3)


def test_what_a_command_costs_is_that_of_its_own_process() -> None:
    held = np.ones(30_000_000)  # 240 MB of the parent's are nothing of the child's
    spent = cost.of("--version")
    assert spent.said.startswith("slipher ")
    assert spent.cpu > 0
    assert spent.memory is None or 5 < spent.memory < held.nbytes / 1e6
    with pytest.raises(RuntimeError, match="No such command"):
        cost.of("nothing")


def test_saying_what_one_does_costs_less_than_a_hundredth() -> None:
    """Of the 10 us of CPU that a message takes at least, by the clock of the thread: a busy machine does not matter."""
    spent = metering.of_a_batch(metering.BATCH_MESSAGES, 5)
    assert spent.unit == "us of CPU"
    assert spent.ours < 0.01 * 10 * metering.BATCH_MESSAGES
    assert spent.peers["off"] < 100  # and without listeners it is nothing, however large the batch
