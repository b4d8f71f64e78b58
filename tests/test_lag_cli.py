"""``slipher lag``: what a person, a program and cron are told."""

import io
import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner
from rich.console import Console

from schemas.errors import UserError
from streamer.broker.server import Broker
from streamer.cli.lag_view import picture, spark
from streamer.cli.main import build as command_tree
from streamer.lag.measures import INFINITE
from streamer.lag.standing import Standing, Status
from streamer.lag.totals import exit_code, totals, verdict
from tests.lag_scene import FOREST, IMAGE, Scene

Topic = Callable[..., str]
OLD_FIELDS = ("topic", "partition", "model", "durable", "end", "lag")


def standing(**given: Any) -> Standing:
    """A partition that is caught up, but for what is given."""
    plain: dict[str, Any] = {"topic": "galaxies", "topic_id": "t1", "partition": 0, "model": "forest"}
    plain |= {"processing_id": "p1", "start": 0, "durable": 40, "end": 40, "lag": 0, "lag_bytes": 0, "lag_seconds": 0.0}
    plain |= {"produce_rate": 0.0, "consume_rate": 0.0, "drain_seconds": 0.0, "loss_seconds": INFINITE}
    return Standing(**(plain | {"status": Status.OK, "rule": 8, "why": "caught up"} | given))


LATE = {"durable": 10, "end": 1040, "lag": 1030, "lag_seconds": 700.0, "drain_seconds": INFINITE, "lag_bytes": 10_300}
STALLED = LATE | {"status": Status.STALLED, "rule": 10, "why": "not moved for 11 min, while others are read"}


def drawn(rows: list[Standing], width: int = 130, lines: int | None = None) -> str:
    console = Console(width=width, record=True, file=io.StringIO())
    console.print(picture(rows, lambda row: np.arange(30.0), width, lines))
    return console.export_text()


def test_a_table_and_json_tell_the_same() -> None:
    rows = [
        standing(**STALLED),
        standing(partition=1),
        standing(partition=2, durable=None, lag=None, drain_seconds=None),
    ]
    text = drawn(rows)
    for part in ("1,030", "12 min", "never", "stalled", spark(np.arange(30.0))):
        assert part in text
    said = json.loads(json.dumps(rows[0].as_json(), allow_nan=False))
    assert [said[name] for name in OLD_FIELDS] == ["galaxies", 0, "forest", 10, 1040, 1030]
    assert (said["drain_seconds"], said["draining"], said["status"], said["status_rank"]) == (None, False, "stalled", 3)
    assert (said["loss_seconds"], said["expires"]) == (None, False)
    assert rows[2].as_json()["draining"] is None
    assert rows[1].as_json()["draining"] is True


@pytest.mark.parametrize(
    ("rows", "says", "code"),
    [
        ([], "Nothing is read", 0),
        ([standing(), standing(partition=1)], "Caught up: 2 partitions, nothing unread.", 0),
        (
            [standing(lag=7, lag_seconds=3.0)],
            "All is read as it comes: 7 messages on the way, the oldest 3.0 s old.",
            0,
        ),
        ([standing(lag=7, lag_seconds=40.0)], "All is read: 7 messages", 0),
        (
            [standing(**STALLED | {"status": Status.WARNING}), standing(partition=1)],
            "Warning: partition 0 of galaxies",
            1,
        ),
        ([standing(**STALLED | {"status": Status.FALLING_BEHIND})], "Falling behind: partition 0", 1),
        (
            [standing(**STALLED), standing(partition=1)],
            "Stalled: partition 0 of galaxies as read by forest. Not moved",
            4,
        ),
        ([standing(**STALLED), standing(**STALLED | {"partition": 1})], "Stalled: all of galaxies", 4),
        ([standing(**STALLED | {"partition": p}) for p in (4, 5)] + [standing()], "Stalled: 2 of 3 partitions", 4),
        ([standing(**STALLED), standing(**STALLED | {"model": "image"})], "(and 1 other reader)", 4),
        ([standing(**STALLED | {"status": Status.WARNING}), standing(**STALLED)], "Stalled", 4),
    ],
)
def test_one_sentence_for_the_person_on_shift(rows: list[Standing], says: str, code: int) -> None:
    assert says in verdict(rows)
    assert exit_code(rows) == code
    assert verdict(rows) in drawn(rows, 200)


def test_a_total_is_as_bad_as_its_worst_partition() -> None:
    rows = [standing(**STALLED), standing(partition=1, lag=5, lag_seconds=2.0, drain_seconds=4.0, produce_rate=2.5)]
    (total,) = totals(rows)
    assert (total.partitions, total.lag, total.lag_bytes, total.lag_seconds) == (2, 1035, 10_300, 700.0)
    assert (total.produce_rate, total.drain_seconds, total.status) == (2.5, INFINITE, Status.STALLED)
    (total,) = totals([standing(lag=5, drain_seconds=None), standing(partition=1, lag=5, drain_seconds=4.0)])
    assert total.drain_seconds is None
    (total,) = totals([standing(lag=5, drain_seconds=3.0), standing(partition=1, lag=0, drain_seconds=0.0)])
    assert total.drain_seconds == 3.0
    (total,) = totals([standing(lag=None, lag_seconds=None, drain_seconds=None, loss_seconds=None)])
    assert (total.lag, total.lag_seconds, total.drain_seconds, total.loss_seconds) == (None, None, None, None)


def test_where_not_all_fit_the_worst_are_shown() -> None:
    rows = [standing(partition=p) for p in range(1000)]
    rows[700] = standing(**STALLED | {"partition": 700})
    text = drawn(rows, lines=40)
    assert len(text.splitlines()) <= 40
    assert "... and 976 partitions that are ok" in text or "partitions that are ok" in text
    assert any(line.split()[0] == "700" for line in text.splitlines() if line.strip())


@pytest.mark.parametrize("width", [76, 80, 100, 140])
def test_a_line_fits_the_terminal(width: int) -> None:
    rows = [standing(**STALLED | {"partition": p, "lag": 12_345_678, "produce_rate": 4321.0}) for p in range(3)]
    for line in drawn(rows, width).splitlines():
        assert len(line) <= width
        assert "…" not in line
        assert not line.strip().startswith(("0 ", "1 ", "2 ")) or line.rstrip().endswith("stalled")
    assert ("trend" in drawn(rows, width)) == (width > 80)


def test_a_trend_in_bars() -> None:
    assert spark(np.array([])) == ""
    assert spark(np.zeros(4)) == "▁▁▁▁"
    assert spark(np.array([0.0, 1, 2, 4])) == "▁▃▅█"
    assert len(spark(np.arange(500.0), 16)) == 16


@pytest.mark.broker
def test_the_command_for_a_person_a_program_and_cron(
    broker: Broker, topic: Topic, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    scene = Scene(broker.bootstrap, topic(2), tmp_path, (FOREST, IMAGE))
    scene.send(7).send(5, 1).durable({0: 7, 1: 5}).durable({0: 1}, IMAGE)
    asked = ["lag", "--catalog", str(tmp_path), "--brokers", broker.bootstrap, "--topic", scene.topic]
    monkeypatch.setattr("sys.argv", ["slipher", *asked])  # the command tree imports only what is called
    tell = CliRunner()
    said = json.loads(tell.invoke(command_tree(), [*asked, "--json"]).stdout)
    assert [(row["model"][:6], row["partition"], row["durable"], row["end"], row["lag"]) for row in said] == [
        ("forest", 0, 7, 7, 0),
        ("forest", 1, 5, 5, 0),
        ("image-", 0, 1, 7, 6),
        ("image-", 1, None, 5, 5),
    ]
    shown = tell.invoke(command_tree(), [*asked, "--exit-code"])
    assert shown.exit_code == 0
    assert "All is read" in shown.stdout
    scene.durable({0: 9})
    assert tell.invoke(command_tree(), [*asked, "--exit-code"]).exit_code == 4
    assert tell.invoke(command_tree(), asked).exit_code == 0


@pytest.mark.broker
@pytest.mark.parametrize("how", [["--json"], []])
def test_a_watch_looks_again_and_again_and_ends_well(
    how: list[str], broker: Broker, topic: Topic, tmp_path: Path
) -> None:
    scene = Scene(broker.bootstrap, topic(1), tmp_path)
    scene.send(7).durable({0: 5})
    command = [sys.executable, "-m", "streamer", "lag", "--catalog", str(tmp_path), "--brokers", broker.bootstrap]
    command += ["--topic", scene.topic, "--watch", "--every", "0.2", *how]
    process = subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=os.environ | {"COLUMNS": "100"}
    )
    try:
        assert process.stdout is not None
        first, second = process.stdout.readline(), process.stdout.readline()
        if how:
            assert [json.loads(line)[0]["lag"] for line in (first, second)] == [2, 2]
        else:
            assert "2 messages on the way" in first
        process.send_signal(signal.SIGINT)
        _, errors = process.communicate(timeout=20)
        assert (process.returncode, errors) == (0, "")
    finally:
        process.kill()
        process.wait()


def test_the_way_to_the_broker_may_stand_in_the_file_of_settings(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As in a container, where the password does: a worker's settings are enough to ask for its lag."""
    asked: list[tuple[object, ...]] = []

    def watch(*given: object) -> None:
        asked.append(given)
        raise UserError("enough")

    monkeypatch.setattr("streamer.lag.watch.Watch", watch)
    monkeypatch.setattr("streamer.catalogue.open_catalogue", lambda path: str(path))
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("SLIPHER_BROKERS", raising=False)
    monkeypatch.setenv("SLIPHER_KAFKA", '{"group.instance.id": "pod-1"}')
    (tmp_path / "password").write_text("hunter2\n")
    monkeypatch.setenv("SLIPHER_CONFIG", "worker.toml")
    (tmp_path / "worker.toml").write_text('brokers = "kafka:9093"\n[kafka]\nsasl.password.file = "password"\n')
    asking = ["lag", "--catalog", "c", "--kafka", "client.id=me"]
    monkeypatch.setattr(sys, "argv", ["slipher", *asking])
    done = CliRunner().invoke(command_tree(), asking)
    assert str(done.exception) == "enough"
    settings = {"group.instance.id": "pod-1", "sasl.password": "hunter2", "client.id": "me"}
    assert asked == [("c", "kafka:9093", settings, None, None)]
