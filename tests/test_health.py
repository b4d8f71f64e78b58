"""Alive and ready: the rules, by clocks that the tests set; and the small server that says so."""

import http.client
import socket
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas.errors import IntegrityError, TroubleError, UserError
from streamer.metrics import machine, names
from streamer.metrics.health import Pulse, Verdict
from streamer.metrics.meters import Meters
from streamer.metrics.probe import EVERY_S, PATIENCE_S, WAIT_S, Probe
from streamer.metrics.server import MOST, Server
from streamer.metrics.station import Station


class Clock:
    """Stands still until it is told."""

    def __init__(self) -> None:
        self.now = 1_000.0

    def __call__(self) -> float:
        return self.now


# -- the pulse ---------------------------------------------------------------------------------------------------------


def test_a_table_thread_in_one_task_for_too_long_is_stuck() -> None:
    clock = Clock()
    pulse = Pulse(clock)
    with pulse.at("settle"), pulse.at("estimate"):
        clock.now += 30
        pulse.stepped()
        assert pulse.stuck(60, 30) == ""
        clock.now += 1
        assert pulse.stuck(60, 30) == "the table thread has been at estimate for 31 s (limit 30 s)"
        assert pulse.busy == 31
    assert pulse.stuck(60, 30) == ""
    assert pulse.busy == 0


def test_each_stage_of_a_task_is_a_sign() -> None:
    """After a stall a single task works off many batches: it is slow, not stuck."""
    clock = Clock()
    pulse = Pulse(clock)
    with pulse.at("retry"):
        for _ in range(10):
            clock.now += 20
            with pulse.at("process"):
                clock.now += 20
                pulse.stepped()
                assert pulse.stuck(60, 30) == ""
        clock.now += 31
        assert "at retry for 31 s" in pulse.stuck(60, 30)


def test_a_thread_that_waits_to_be_told_is_not_stuck() -> None:
    clock = Clock()
    pulse = Pulse(clock)
    for _ in range(5):
        clock.now += 1_000
        pulse.stepped()
        assert pulse.stuck(60, 30) == ""


def test_a_polling_thread_that_does_not_go_round_is_stuck() -> None:
    clock = Clock()
    pulse = Pulse(clock)
    clock.now += 60
    assert pulse.stuck(60, 300) == ""
    clock.now += 1
    assert pulse.stuck(60, 300) == "the polling thread has not gone round for 61 s (limit 60 s)"
    pulse.stepped()
    assert pulse.stuck(60, 300) == ""


def test_a_task_that_fails_is_left_behind() -> None:
    clock = Clock()
    pulse = Pulse(clock)
    with pytest.raises(OSError), pulse.at("settle"), pulse.at("commit"):
        raise OSError
    assert pulse.doing is None


Tasks = st.recursive(
    st.floats(0, 10), lambda inner: st.tuples(st.floats(0, 10), st.lists(inner, max_size=4)), max_leaves=12
)


@given(st.lists(Tasks, max_size=4))
def test_busy_is_the_time_since_the_last_sign(tasks: list[Any]) -> None:
    clock = Clock()
    pulse = Pulse(clock)

    def work(task: Any) -> None:
        seconds, inner = task if isinstance(task, tuple) else (task, [])
        with pulse.at("task"):
            for one in inner:
                work(one)
            sign = clock.now
            clock.now += seconds
            assert pulse.busy == pytest.approx(clock.now - sign)

    for task in tasks:
        work(task)
        assert pulse.busy == 0
        clock.now += 5


# -- questions to the world --------------------------------------------------------------------------------------------


def test_an_answer_is_as_good_as_new_for_a_while() -> None:
    clock, asked = Clock(), []
    probe = Probe("the disk", lambda: asked.append(1) or "", clock)  # type: ignore[func-returns-value]
    assert [probe.wrong() for _ in range(3)] == ["", "", ""]
    assert len(asked) == 1
    clock.now += EVERY_S + 1
    assert probe.wrong() == ""
    assert len(asked) == 2


def test_what_is_asked_may_hang_and_nobody_hangs_with_it() -> None:
    clock, freed, answered = Clock(), threading.Event(), threading.Event()

    def ask() -> str:
        freed.wait(30)
        answered.set()
        return ""

    probe = Probe("the disk", ask, clock)
    assert probe.wrong() == "the disk has not answered yet"
    clock.now += PATIENCE_S + 1
    assert probe.wrong() == f"the disk has not answered for {PATIENCE_S + 1:.0f} s"
    assert sum(thread.name == "probe the disk" for thread in threading.enumerate()) == 1
    freed.set()
    assert answered.wait(10)
    while probe.wrong():
        threading.Event().wait(0.01)


def test_an_answer_of_old_holds_while_the_next_is_on_its_way() -> None:
    clock, freed = Clock(), threading.Event()
    answers: Iterator[Callable[[], object]] = iter([lambda: None, lambda: freed.wait(30)])
    probe = Probe("the disk", lambda: str(next(answers)() or ""), clock)
    assert probe.wrong() == ""
    clock.now += EVERY_S + 1
    assert probe.wrong() == ""
    clock.now += PATIENCE_S + 1
    assert "has not answered for" in probe.wrong()
    freed.set()


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (TroubleError("No broker answers."), "No broker answers"),
        (IntegrityError("The topic was recreated."), "The topic was recreated"),
        (OSError(5, "Input/output error"), "[Errno 5] Input/output error"),
        (ValueError("odd"), "the disk cannot be asked (ValueError: odd)"),
    ],
)
def test_an_error_is_an_answer(error: Exception, said: str) -> None:
    def ask() -> str:
        raise error

    assert Probe("the disk", ask).wrong() == said


# -- a worker, by its state --------------------------------------------------------------------------------------------


def made(root: Path, **more: object) -> Any:
    """What of an engine is looked at when somebody asks for health."""
    (root / "rows" / "_delta_log").mkdir(parents=True, exist_ok=True)
    ledger = SimpleNamespace(root=root)
    state: dict[str, object] = {
        "sink": SimpleNamespace(ledger=ledger, pending_rows=0, pending_bytes=0),
        "stall": SimpleNamespace(on=False, why="The catalogue cannot be read or written: disk full."),
        "source": SimpleNamespace(member=True),
        "confirm": lambda: True,
        "reads": 2,
        "given": 2,
        "in_flight": 0,
    }
    return SimpleNamespace(**(state | more))


@pytest.fixture
def station() -> Station:
    station = Station(clock=Clock())
    station.loaded(SimpleNamespace(id="0" * 16, model="forest-lsst-00000000"), "forest")  # type: ignore[arg-type]
    return station


@pytest.mark.parametrize(
    ("state", "ok", "text"),
    [
        ({}, True, "ready; reads 2 partitions"),
        ({"reads": 1, "given": 1}, True, "ready; reads 1 partition"),
        ({"reads": 0, "given": 0}, True, "ready; the group gives this worker no partition: others read them all"),
        (
            {"source": SimpleNamespace(member=False)},
            False,
            "t: the consumer group has not given out the partitions yet",
        ),
        ({"reads": 1}, False, "t: 1 of 2 partitions are not claimed yet"),
        (
            {"stall": SimpleNamespace(on=True, why="There is not memory enough for a batch.")},
            False,
            "t: waiting, There is not memory enough for a batch",
        ),
        ({"confirm": lambda: False}, False, "t: no broker answers"),
    ],
)
def test_ready(station: Station, tmp_path: Path, state: dict[str, object], ok: bool, text: str) -> None:
    station.observer("t").begins(made(tmp_path, **state))
    assert station.ready() == (ok, text)
    assert station.alive() == (True, "alive")
    assert station.meters.registry.get_sample_value("slipher_ready") == ok


def test_ready_needs_a_table(station: Station, tmp_path: Path) -> None:
    station.observer("t").begins(made(tmp_path))
    (tmp_path / "rows").rename(tmp_path / "away")
    assert station.ready() == (False, f"t: {tmp_path / 'rows'} is not there")
    (tmp_path / "away").rename(tmp_path / "rows")
    station.clock.now += EVERY_S + 1  # type: ignore[attr-defined]
    assert station.ready().ok


def test_a_scrape_asks_by_itself_whether_the_worker_is_ready(station: Station, tmp_path: Path) -> None:
    """Where no prober asks /readyz, as in Docker, there is an alert all the same."""

    def scraped() -> float | None:
        return station.meters.registry.get_sample_value("slipher_ready")

    station.observer("t").begins(made(tmp_path))
    assert scraped() == 1
    (tmp_path / "rows").rename(tmp_path / "away")
    assert scraped() == 1  # asked a moment ago
    station.clock.now += EVERY_S + 1  # type: ignore[attr-defined]
    assert scraped() == 0


def test_many_topics_that_hang_are_waited_for_together(station: Station, tmp_path: Path) -> None:
    """Else a scrape would take a wait for each."""
    freed, asked = threading.Event(), list[int]()

    def hangs(number: int) -> bool:
        asked.append(number)
        return freed.wait(30)

    for number in range(20):
        station.observer(f"t{number}").begins(made(tmp_path, confirm=partial(hangs, number)))
    began = time.monotonic()
    assert station.ready() == (False, "t0: the broker has not answered yet")
    assert time.monotonic() - began < 10 * WAIT_S
    freed.set()
    while not station.ready().ok:
        threading.Event().wait(0.01)
    assert sorted(asked) == list(range(20))


def test_ready_needs_a_model_and_a_beginning(tmp_path: Path, station: Station) -> None:
    assert Station().ready() == (False, "the model is not loaded yet")
    assert station.ready() == (True, "ready; no topic is there to be read")
    station.observer("t")
    assert station.ready() == (False, "t: reading has not begun yet")


def test_one_stuck_topic_of_many_is_enough(station: Station, tmp_path: Path) -> None:
    good, bad = station.observer("good"), station.observer("bad")
    for seat in (good, bad):
        seat.begins(made(tmp_path))
    with bad.at("settle"):
        station.clock.now += 301  # type: ignore[attr-defined]
        good.stepped()
        bad.stepped()
        assert station.alive() == (False, "bad: the table thread has been at settle for 301 s (limit 300 s)")
        value = station.meters.registry.get_sample_value
        assert (value("slipher_alive"), value("slipher_busy_seconds")) == (0, 301)
        station.forget("bad")
        assert station.alive().ok


def test_topics_of_past_nights_leave_no_series(station: Station, tmp_path: Path) -> None:
    def series() -> int:
        return sum(len(family.samples) for family in station.meters.registry.collect())

    station.observer("first").begins(made(tmp_path))
    one = series()
    for night in range(50):
        station.observer(f"night-{night}").begins(made(tmp_path))
        station.forget(f"night-{night}")
    assert series() == one
    station.forget("never heard of")


# -- the machine -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("files", "own", "limit"),
    [
        ({"memory.max": "max", "a/memory.max": "2048", "a/b/memory.max": "max"}, "0::/a/b", 2048),
        ({"a/memory.max": "4096", "a/b/memory.max": "1024"}, "0::/a/b", 1024),
        ({"memory.max": "512"}, "0::/", 512),
        ({"memory.max": "512"}, "0::/of/the/host", 512),  # in a container the path may be one that it does not see
        ({}, "0::/", None),
        ({"memory.max": "max"}, "0::/", None),
        ({"memory/x/memory.limit_in_bytes": "777"}, "9:memory:/x\n3:cpu:/x", 777),
        ({"memory/memory.limit_in_bytes": str(9223372036854771712)}, "9:memory:/x", None),
    ],
)
def test_memory_limit(tmp_path: Path, files: dict[str, str], own: str, limit: int | None) -> None:
    for name, text in files.items():
        (tmp_path / "cgroup" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "cgroup" / name).write_text(f"{text}\n")
    (tmp_path / "own").write_text(own + "\n")
    assert machine.memory_limit(tmp_path / "cgroup", tmp_path / "own") == limit
    assert machine.memory_limit(tmp_path / "cgroup", tmp_path / "no such file") is None


def test_gpus_in_use_are_seen_and_no_others(monkeypatch: pytest.MonkeyPatch, station: Station) -> None:
    cuda = SimpleNamespace(
        is_initialized=lambda: True,
        device_count=lambda: 2,
        memory_reserved=lambda index: index * 100,
        mem_get_info=lambda index: (300, 1000),
    )
    monkeypatch.setitem(machine.sys.modules, "torch", SimpleNamespace(cuda=cuda))  # type: ignore[arg-type]
    assert list(machine.gpu_memory()) == [("1", 700, 1000)]
    assert any(family.name == "slipher_gpu_memory_bytes" for family in station.meters.collect())
    cuda.is_initialized = lambda: False
    assert list(machine.gpu_memory()) == []


# -- the server --------------------------------------------------------------------------------------------------------


@pytest.fixture
def server() -> Iterator[Server]:
    meters = Meters([names.CONFLICTS])
    server = Server("127.0.0.1", 0, meters, lambda: Verdict(True, "alive"), lambda: Verdict(False, "not yet"))
    yield server
    server.close()


def ask(server: Server, path: str, method: str = "GET", **headers: str) -> tuple[int, str, str]:
    request = urllib.request.Request(f"http://127.0.0.1:{server.port}{path}", method=method, headers=headers)
    try:
        with urllib.request.urlopen(request, timeout=10) as answer:
            return answer.status, answer.headers["Content-Type"], answer.read().decode()
    except urllib.error.HTTPError as error:
        return error.code, error.headers["Content-Type"], error.read().decode()


def test_what_the_server_says(server: Server) -> None:
    assert ask(server, "/healthz") == (200, "text/plain; charset=utf-8", "alive\n")
    assert ask(server, "/readyz?verbose=1") == (503, "text/plain; charset=utf-8", "not yet\n")
    assert ask(server, "/healthz", "HEAD")[::2] == (200, "")
    assert ask(server, "/healthz", "POST")[0] == 501
    assert ask(server, "/<script>")[::2] == (404, "/metrics, /healthz, /readyz\n")
    status, kind, text = ask(server, "/metrics")
    assert (status, kind) == (200, "text/plain; version=0.0.4; charset=utf-8")
    assert "slipher_commit_conflicts_total 0.0" in text
    assert "process_resident_memory_bytes" in text
    assert "openmetrics" in ask(server, "/metrics", Accept="application/openmetrics-text; version=1.0.0")[1]


def test_no_name_server_is_asked_what_we_are_called(monkeypatch: pytest.MonkeyPatch) -> None:
    """One that does not answer would keep a worker from starting, for as long as the resolver has patience."""

    def asked(*_: object) -> str:
        raise AssertionError("a name server was asked")

    monkeypatch.setattr(socket, "getfqdn", asked)
    monkeypatch.setattr(socket, "gethostbyaddr", asked)
    server = Server("127.0.0.1", 0, Meters([]), lambda: Verdict(True, "alive"), lambda: Verdict(True, "ready"))
    assert ask(server, "/healthz")[0] == 200
    server.close()


def test_a_client_that_says_nothing_holds_up_nobody(server: Server) -> None:
    with socket.create_connection(("127.0.0.1", server.port)):
        assert ask(server, "/healthz")[0] == 200


def answers(server: Server) -> bool:
    try:
        return ask(server, "/healthz")[0] == 200
    except OSError:
        return False


def test_callers_that_only_hold_the_line_take_no_more_than_their_room(server: Server) -> None:
    callers = [socket.create_connection(("127.0.0.1", server.port)) for _ in range(MOST)]
    try:
        while answers(server):  # until the last of them was taken in
            pass
    finally:
        for caller in callers:
            caller.close()
    while not answers(server):
        pass


def test_a_fault_of_ours_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    def ready() -> Verdict:
        raise ValueError("a fault")

    server = Server("127.0.0.1", 0, Meters([]), lambda: Verdict(True, "alive"), ready)
    try:
        with pytest.raises((OSError, http.client.HTTPException)):
            ask(server, "/readyz")
        assert ask(server, "/healthz")[0] == 200
    finally:
        server.close()
    assert "answering a request failed" in caplog.text


def test_a_port_that_is_taken_is_said(server: Server) -> None:
    with pytest.raises(UserError, match=f"--metrics-port {server.port}: nothing can listen at 127.0.0.1"):
        Server("127.0.0.1", server.port, Meters([]), lambda: Verdict(True, ""), lambda: Verdict(True, ""))
