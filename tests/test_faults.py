"""Workers that die, sleep, come and go under live traffic: nothing lost, nothing doubled."""

import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from streamer.broker.server import Broker
from tests.nights import Night
from tests.streaming import (
    SESSION,
    engine,
    finished,
    heard,
    no_worker_outlives_its_test,  # noqa: F401
    small_model,
    wait_until,
    worker,
)

pytestmark = [pytest.mark.broker, pytest.mark.timeout(240)]
Topic = Callable[..., str]
STEPS = range(1, 19)
SLEEPS = (3, 9, 12, 16)  # while a claim is made, before exceptions, between exceptions and rows, before rows


@pytest.mark.timeout(300)
def test_killed_and_suspended_at_every_step(broker: Broker, topic: Topic, tmp_path: Path) -> None:
    """SIGKILL at each numbered step of the protocol, SIGSTOP at some while the next ones take over; then the sleepers wake."""
    name, catalog = topic(3), tmp_path / "catalog"
    faults = [f"STOP:{step}:1" for step in SLEEPS] + [f"KILL:{step}:1" for step in STEPS]
    with Night(broker.bootstrap, name, 3, catalog) as night:
        command = [sys.executable, "-m", "tests.faulty_run", "each", ",".join(faults)]
        command += ["--brokers", broker.bootstrap, "--topic", name, "--model", str(small_model())]
        command += ["--catalog", str(catalog), "--start", "earliest", "--commit-seconds", "0.1"]
        command += [word for key, value in SESSION.items() for word in ("--kafka", f"{key}={value}")]
        with (
            open(tmp_path / "said", "w") as said,
            open(tmp_path / "told", "w") as tell,
        ):  # no pipes: sleepers hold them open
            subprocess.run(command, stdout=tell, stderr=said, timeout=240)
        told = [line.split() for line in (tmp_path / "told").read_text().splitlines()]
        sleepers = [int(words[2]) for words in told if words[1] == "asleep"]
        try:
            assert [words[0] for words in told] == faults, (tmp_path / "said").read_text()
            assert [words[1:] for words in told[len(SLEEPS) :]] == [["ended", "-9"]] * len(STEPS)
            assert len(sleepers) == len(SLEEPS)
            for pid in sleepers:
                os.kill(pid, signal.SIGCONT)
                os.kill(pid, signal.SIGTERM)
            wait_until(lambda: not any(_lives(pid) for pid in sleepers), seconds=60)
        finally:
            for pid in filter(_lives, sleepers):
                os.kill(pid, signal.SIGKILL)
        assert "Traceback" not in (tmp_path / "said").read_text()
        night.settle()


def test_workers_join_and_leave_under_load(broker: Broker, topic: Topic, tmp_path: Path) -> None:
    """Every few seconds one joins, one leaves or one dies; then one sleeps past its session while others take over."""
    name, catalog = topic(4), tmp_path / "catalog"
    with Night(broker.bootstrap, name, 4, catalog) as night:
        first = worker(broker.bootstrap, name, catalog)
        heard(first, "durable")
        second = worker(broker.bootstrap, name, catalog)
        heard(second, "claimed, positions")
        first.send_signal(signal.SIGTERM)
        third = worker(broker.bootstrap, name, catalog)
        finished(first)
        heard(third, "claimed, positions")
        second.kill()
        night.goes_on(300, third)
        third.send_signal(signal.SIGSTOP)
        fourth = worker(broker.bootstrap, name, catalog)
        night.goes_on(300, fourth)
        third.send_signal(signal.SIGCONT)
        night.goes_on(300, fourth)
        fourth.send_signal(signal.SIGINT)
        finished(fourth)
        night.goes_on(100, third)
        third.send_signal(signal.SIGTERM)
        finished(third)
        night.settle()


def test_the_clock_is_set_back(broker: Broker, topic: Topic, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """By a day, and by more than the log keeps, while a worker runs: offsets, not times, say what is there."""
    import streamer.run

    name, catalog = topic(2), tmp_path / "catalog"
    honest = streamer.run.now_ms
    with Night(broker.bootstrap, name, 2, catalog, rate=1_000) as night:
        for wrong in (0, -86_400_000, 86_400_000, -30 * 86_400_000, 0):
            monkeypatch.setattr(streamer.run, "now_ms", lambda wrong=wrong: honest() + wrong)
            engine(broker.bootstrap, name, catalog, commit_seconds=0.1).run()
        night.settle()


def _lives(pid: int) -> bool:
    """Whether the process is there and no zombie."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False
