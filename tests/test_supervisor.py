"""The supervisor: who dies is started again, who says that a person has to look ends all, signals are passed on once."""

import json
import os
import signal
import socket
import subprocess
import sys
import threading
import urllib.error
import urllib.request
from collections.abc import Callable
from pathlib import Path

import pytest

from schemas.errors import UserError
from streamer.broker.server import Broker
from streamer.metrics.serving import supervised
from streamer.settings import WatchedSettings
from streamer.supervisor import DEATHS, Supervisor, meaning, worker_commands
from tests.streaming import (
    alerts,
    assert_once,
    durable,
    heard,
    identities,
    no_worker_outlives_its_test,  # noqa: F401
    send,
    spread,
    wait_until,
    worker,
)

Topic = Callable[..., str]


def ports(count: int) -> int:
    """The first of `count` ports in a row that are free now."""
    while True:
        with socket.socket() as first:
            first.bind(("127.0.0.1", 0))
            port = int(first.getsockname()[1])
        try:
            for k in range(1, count):
                with socket.socket() as other:
                    other.bind(("127.0.0.1", port + k))
            return port
        except (OSError, OverflowError):
            continue


def page(port: int, path: str) -> str:
    """What is served there; empty where nothing is yet."""
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=10) as answer:
            return answer.read().decode()
    except urllib.error.HTTPError as error:
        return f"{error.code} {error.read().decode()}"
    except OSError:
        return ""


def script(tmp_path: Path, text: str) -> list[str]:
    """A worker that runs `text`, where `life` counts how often it was started."""
    before = (
        "import os, signal, sys, time\n"
        f"book = {str(tmp_path / 'lives')!r} + sys.argv[1]\n"
        "open(book, 'a').write('x'); life = len(open(book).read())\n"
        "print('life', life, flush=True)\n"
    )
    (tmp_path / "worker.py").write_text(before + text)
    return [sys.executable, "-S", str(tmp_path / "worker.py")]


def lives(tmp_path: Path, number: int) -> int:
    book = tmp_path / f"lives{number}"
    return len(book.read_text()) if book.exists() else 0


def supervisor(tmp_path: Path, text: str, count: int, said: list[tuple[int, str]], **more: bool) -> Supervisor:
    commands = [[*script(tmp_path, text), str(number)] for number in range(1, count + 1)]
    return Supervisor(commands, hear=lambda number, line: said.append((number, line)), first_pause=0.01, **more)


def test_who_dies_is_started_again_until_the_end(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    said: list[tuple[int, str]] = []
    text = "if life == 1: os.kill(os.getpid(), signal.SIGKILL)\nif life == 2: sys.exit('no broker')\n"
    assert supervisor(tmp_path, text, 2, said, until_end=True).run() == 0
    assert [lives(tmp_path, n) for n in (1, 2)] == [3, 3]
    assert sorted(said) == sorted((n, line) for n in (1, 2) for line in ("life 1", "life 2", "no broker", "life 3"))
    assert "worker 1 ended: killed by SIGKILL. Its last words: life 1" in caplog.text
    assert "worker 2 ended: exit code 1. Its last words: no broker" in caplog.text


def test_gives_up_after_repeated_deaths(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """With the exit code of the one that dies; the others are told to stop."""
    text = "if sys.argv[1] == '1': sys.exit(75)\ntime.sleep(60)\n"
    assert supervisor(tmp_path, text, 2, []).run() == 75
    assert lives(tmp_path, 1) == DEATHS
    assert lives(tmp_path, 2) == 1
    assert f"died {DEATHS} times in a row: all workers are told to stop" in caplog.text


@pytest.mark.parametrize("code", [2, 3])
def test_what_a_person_has_to_look_at_is_not_tried_again(tmp_path: Path, code: int) -> None:
    text = f"if sys.argv[1] == '1': sys.exit({code})\ntime.sleep(60)\n"
    assert supervisor(tmp_path, text, 2, []).run() == code
    assert lives(tmp_path, 1) == 1


@pytest.mark.parametrize("signals", [1, 2])
def test_signals_are_passed_on(tmp_path: Path, signals: int) -> None:
    """Once each: the workers count what they get, and the second one ends them."""
    text = (
        "got = 0\n"
        "def on(number, frame):\n"
        "    global got\n"
        "    got += 1\n"
        "    print('got', got, flush=True)\n"
        f"    if got == {signals}: sys.exit(0)\n"
        "signal.signal(signal.SIGTERM, on)\n"
        "print('ready', flush=True)\n"
        "while True: time.sleep(0.05)\n"
    )
    said: list[tuple[int, str]] = []
    running = supervisor(tmp_path, text, 2, said)
    codes: list[int] = []
    thread = threading.Thread(target=lambda: codes.append(running.run()), daemon=True)
    thread.start()
    wait_until(lambda: sorted(said)[-2:] == [(2, "life 1"), (2, "ready")] and (1, "ready") in said)
    for number in range(1, signals + 1):
        running.stop()
        wait_until(lambda number=number: {(1, f"got {number}"), (2, f"got {number}")} <= set(said))
    thread.join(20)
    assert codes == [0]
    assert [line for who, line in said if who == 1] == ["life 1", "ready", *(f"got {k + 1}" for k in range(signals))]


def test_commands_of_single_workers() -> None:
    words = ["run", "--workers", "3", "--topic", "t"]
    assert worker_commands(words, 2, None) == [[sys.executable, "-m", "streamer", *words, "--workers", "1"]] * 2
    watched = worker_commands(words, 2, None, 9464)
    assert [command[-2:] for command in watched] == [["--metrics-port", "9464"], ["--metrics-port", "9465"]]
    static = worker_commands(words, 2, "host")
    assert [command[-1] for command in static] == ["group.instance.id=host-1", "group.instance.id=host-2"]
    assert [meaning(0), meaning(137), meaning(200)] == ["exit code 0", "killed by SIGKILL", "exit code 200"]


def children(process: subprocess.Popen[str]) -> list[int]:
    """Process ids of what `process` started that are alive."""
    found = subprocess.run(
        ["ps", "-o", "pid=", "--ppid", str(process.pid)], capture_output=True, text=True, check=False
    )
    return [int(pid) for pid in found.stdout.split()]


@pytest.mark.broker
def test_workers_on_one_machine(broker: Broker, topic: Topic, tmp_path: Path) -> None:
    """``slipher run --workers 2``: one is killed and comes back, all of the topic lands once, SIGTERM ends it well.

    Each worker serves its metrics, the supervisor those of their lives, and all that they say is JSON.
    """
    name, catalog, port = topic(2), tmp_path / "catalog", ports(3)
    _, values = alerts(400)
    send(broker.bootstrap, name, spread(values[:200], 2))
    words = ["--workers", "2", "--metrics-port", str(port), "--log-format", "json"]
    running = worker(broker.bootstrap, name, catalog, *words)
    heard(running, '"worker": 2')
    wait_until(lambda: durable(catalog) == 200, running)
    for k in (0, 1):
        wait_until(lambda k=k: page(port + k, "/readyz") == "ready; reads 1 partition\n", running)  # type: ignore[misc]
        assert 'slipher_rows_total{model="forest-lsst-' in page(port + k, "/metrics")
    assert page(port + 2, "/readyz") == "2 of 2 workers run\n"
    assert 'slipher_worker_restarts_total{worker="1"} 0.0' in page(port + 2, "/metrics")
    os.kill(children(running)[0], signal.SIGKILL)
    heard(running, "ended: killed by SIGKILL")
    send(broker.bootstrap, name, spread(values[200:], 2))
    wait_until(lambda: durable(catalog) == 400, running)
    wait_until(lambda: '_total{worker="1"} 1.0' in page(port + 2, "/metrics"), running)
    assert "slipher_workers_running 2.0" in page(port + 2, "/metrics")
    running.send_signal(signal.SIGTERM)
    _, said = running.communicate(timeout=30)
    assert running.returncode == 0, said
    assert "are durable" in said
    told = [json.loads(line) for line in said.splitlines()]
    assert all({"time", "level", "logger", "message"} <= line.keys() for line in told)
    assert {line["worker"] for line in told if "worker" in line} == {1, 2}
    assert any(line.get("topic") == name and "partitions" in line for line in told)
    assert_once(catalog, identities({0: 200, 1: 200}))


def test_a_supervisor_needs_a_port_more_than_its_workers() -> None:
    made = WatchedSettings(metrics_port=65_530)
    with (
        pytest.raises(UserError, match="8 workers and their supervisor need the ports up to 65538"),
        supervised(made, Supervisor([]), 8),
    ):
        pass
