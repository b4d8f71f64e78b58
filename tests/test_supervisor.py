"""The supervisor: who dies is started again, who says that a person has to look ends all, signals are passed on once."""

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from streamer.broker.server import Broker
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
    """``slipher run --workers 2``: one is killed and comes back, all of the topic lands once, SIGTERM ends it well."""
    name, catalog = topic(2), tmp_path / "catalog"
    _, values = alerts(400)
    send(broker.bootstrap, name, spread(values[:200], 2))
    running = worker(broker.bootstrap, name, catalog, "--workers", "2")
    heard(running, "[2] ")
    wait_until(lambda: durable(catalog) == 200, running)
    os.kill(children(running)[0], signal.SIGKILL)
    heard(running, "ended: killed by SIGKILL")
    send(broker.bootstrap, name, spread(values[200:], 2))
    wait_until(lambda: durable(catalog) == 400, running)
    running.send_signal(signal.SIGTERM)
    _, said = running.communicate(timeout=30)
    assert running.returncode == 0, said
    assert "are durable" in said
    assert_once(catalog, identities({0: 200, 1: 200}))
