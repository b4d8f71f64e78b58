"""Who may look, what is answered, and how it ends: the monitor as a browser and as Prometheus meet it."""

import contextlib
import http.client
import json
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from starlette.testclient import TestClient

from schemas.errors import UserError
from streamer.broker.server import Broker
from streamer.lag.standing import Standing
from streamer.monitor.access import COOKIE, Door, is_loopback, refuse_open, token_from
from streamer.monitor.app import Monitor
from streamer.monitor.assets import PAGE, assets
from streamer.monitor.desk import Desk
from streamer.monitor.sampler import Sampler
from streamer.source.connection import identify
from tests.catalogue_builder import build
from tests.standings import standing
from tests.streaming import wait_until
from tests.test_lag import bind

TOKEN = "correct-horse-battery-staple"
GUARDED = ("/events", "/api/state.json", "/api/history.json", "/api/partitions.json", "/api/tonight.json",
           "/api/object.json?id=1", "/metrics")  # fmt: skip


@pytest.fixture(scope="module")
def catalogue(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build(tmp_path_factory.mktemp("web") / "catalogue", rows_a_night=60).path


def looking() -> list[Standing]:
    return [standing(p, lag=p, lag_seconds=float(p)) for p in range(20)]


@contextlib.contextmanager
def client(root: Path, token: str | None = None, only_local: bool = True, look: Any = looking) -> Iterator[TestClient]:
    sampler = Sampler(look, root, 0.05)
    monitor = Monitor(sampler, Desk(root), Door(token), str(root), 0.05)
    address = "http://localhost:8642"
    with TestClient(monitor.app(only_local), address, follow_redirects=False) as made:
        wait_until(lambda: sampler.seen.number > 0)
        yield made


@pytest.fixture(scope="module")
def opened(catalogue: Path) -> Iterator[TestClient]:
    with client(catalogue) as made:
        yield made


def test_every_answer_keeps_the_page_to_itself(opened: TestClient) -> None:
    for path in (
        "/",
        "/page/main.js",
        "/api/state.json",
        "/metrics",
        "/healthz",
        "/nothing",
        "/page/../app.py",
        "/page/index.html",
    ):
        answer = opened.get(path)
        policy = answer.headers["content-security-policy"]
        assert policy.startswith("default-src 'none'; script-src 'self'; style-src 'self'"), path
        assert "frame-ancestors 'none'" in policy
        assert "unsafe" not in policy
        assert answer.headers["x-content-type-options"] == "nosniff"
        assert answer.headers["referrer-policy"] == "no-referrer"
        assert answer.headers["cache-control"] in ("no-store", "no-cache")
    assert opened.get("/page/../app.py").status_code == 404
    assert opened.get("/page/index.html").status_code == 404
    assert opened.get("/nothing").status_code == 404


def test_nothing_can_be_changed(opened: TestClient) -> None:
    for path in ("/", *GUARDED, "/healthz", "/page/main.js"):
        for method in ("POST", "PUT", "DELETE", "PATCH"):
            assert opened.request(method, path).status_code == 405, (method, path)


def test_the_page_comes_whole_and_is_kept_until_it_changes(opened: TestClient) -> None:
    index = opened.get("/")
    assert index.status_code == 200
    for name, asset in assets().items():
        if name.endswith(".html"):
            continue
        answer = opened.get(f"/page/{name}")
        assert (answer.status_code, answer.content) == (200, asset.content)
        assert opened.get(f"/page/{name}", headers={"If-None-Match": asset.tag}).status_code == 304


def test_the_page_asks_nobody_else_and_parses_no_markup() -> None:
    for path in PAGE.iterdir():
        if path.suffix in (".js", ".html", ".css"):
            text = path.read_text()
            assert "://" not in text.replace("http://www.w3.org/2000/svg", ""), path.name
            for danger in (
                "innerHTML",
                "outerHTML",
                "insertAdjacentHTML",
                "document.write",
                "eval(",
                "Function(",
                " style=",
                "onclick=",
            ):
                assert danger not in text, (path.name, danger)


def test_the_numbers(opened: TestClient) -> None:
    state = opened.get("/api/state.json").json()
    assert state["totals"][0]["lag"] == sum(range(20))
    assert state["verdict"]["line"]["level"] == "good"
    history = opened.get("/api/history.json").json()
    assert history["lines"][0]["lag"][-1] == sum(range(20))
    assert len(history["times"]) == len(history["lines"][0]["consume_rate"])
    which = {"topic": "alerts", "model": "forest-lsst-01234567"}
    parts = opened.get("/api/partitions.json", params=which).json()
    assert [row["partition"] for row in parts["rows"]] == list(range(20))
    assert [line["partition"] for line in parts["lines"]] == list(range(12, 20))  # the worst
    assert opened.get("/api/partitions.json", params={"topic": "no"}).json()["rows"] == []
    wait_until(lambda: opened.get("/api/tonight.json").json()["night"] is not None)
    found = opened.get("/api/object.json", params={"id": "0000000005"}).json()
    assert len(found["rows"]) == 2
    for wrong in ("", "  ", "x" * 300):
        assert opened.get("/api/object.json", params={"id": wrong}).status_code == 400
    metrics = opened.get("/metrics")
    assert metrics.headers["content-type"].startswith("text/plain; version=")
    assert 'slipher_lag_messages{topic="alerts",partition="19",model="forest-lsst-01234567"} 19.0' in metrics.text
    assert opened.get("/healthz").text == "alive\n"
    assert opened.get("/readyz").text == "ready\n"


def test_who_is_away_is_not_ready_but_alive(tmp_path: Path) -> None:
    from schemas.errors import TroubleError

    build(tmp_path, nights=())

    def gone() -> list[Standing]:
        raise TroubleError("No broker answers at secret-host:9092.")

    with client(tmp_path, look=gone) as made:
        ready = made.get("/readyz")
        assert (ready.status_code, ready.text) == (503, "the broker is away\n")
        assert made.get("/healthz").status_code == 200
        state = made.get("/api/state.json").json()
        assert state["broker"]["why"] == "No broker answers at secret-host:9092."
        assert state["verdict"]["line"]["level"] == "bad"
        assert "slipher_broker_up 0.0" in made.get("/metrics").text


def test_without_the_token_nobody_sees_anything(catalogue: Path) -> None:
    with client(catalogue, TOKEN) as made:
        for path in GUARDED:
            answer = made.get(path)
            assert (answer.status_code, answer.headers["www-authenticate"]) == (401, "Bearer"), path
            for wrong in ("Bearer", "Bearer x", f"Basic {TOKEN}", f"Bearer {TOKEN}x", "Bearer é".encode("latin-1")):
                assert made.get(path, headers={"Authorization": wrong}).status_code == 401  # type: ignore[dict-item]
            assert made.get(path, params={"token": TOKEN}).status_code == 401  # addresses are written down everywhere
        page = made.get("/")
        assert (page.status_code, "password" in page.text, str(catalogue) in page.text) == (401, True, False)
        assert made.get("/metrics", headers={"Authorization": f"Bearer {TOKEN}"}).status_code == 200
        assert made.get("/api/state.json", headers={"Authorization": f"bearer {TOKEN}"}).status_code == 200
        assert made.get("/healthz").status_code == made.get("/readyz").status_code == 200
        assert made.get("/page/style.css").status_code == 200


def test_a_person_gives_the_token_once_for_a_cookie_that_is_not_it(catalogue: Path) -> None:
    with client(catalogue, TOKEN) as made:
        wrong = made.post("/sign-in", data={"token": "guess"})
        assert (wrong.status_code, wrong.headers["location"], "set-cookie" in wrong.headers) == (303, "/?wrong", False)
        assert made.post("/sign-in", content=b"token=" + b"x" * 10_000).status_code == 413
        right = made.post("/sign-in", data={"token": TOKEN})
        assert (right.status_code, right.headers["location"]) == (303, "/")
        cookie = right.headers["set-cookie"].lower()
        assert all(word in cookie for word in (COOKIE, "httponly", "samesite=strict"))
        assert TOKEN not in cookie
        assert made.get("/api/state.json").status_code == 200
        assert "Skip to the verdict" in made.get("/").text
        made.cookies.set(COOKIE, "0" * 64)
        assert made.get("/api/state.json").status_code == 401
    assert not Door("another-token-of-some-length").lets_in(_asking({"cookie": right.headers["set-cookie"]}))


def _asking(headers: dict[str, str]) -> Any:
    from starlette.requests import Request

    raw = [(name.encode(), value.encode()) for name, value in headers.items()]
    return Request({"type": "http", "method": "GET", "path": "/", "headers": raw, "query_string": b""})


def test_a_page_elsewhere_cannot_have_its_name_point_here(catalogue: Path) -> None:
    with client(catalogue) as made:
        for host in ("evil.example", "evil.example:8642", "10.0.0.1", "localhost.evil.example", ""):
            assert made.get("/api/state.json", headers={"Host": host}).status_code == 421, host
        for host in ("localhost:9999", "127.0.0.1", "[::1]:8642"):
            assert made.get("/api/state.json", headers={"Host": host}).status_code == 200, host
    with client(catalogue, TOKEN, only_local=False) as made:
        asked = {"Host": "monitor.example", "Authorization": f"Bearer {TOKEN}"}
        assert made.get("/api/state.json", headers=asked).status_code == 200


def test_an_address_that_others_reach_wants_a_token(tmp_path: Path) -> None:
    assert [is_loopback(h) for h in ("127.0.0.1", "127.8.8.8", "::1", "localhost", "0.0.0.0", "::", "10.1.2.3", "host")] == [
        True, True, True, True, False, False, False, False]  # fmt: skip
    with pytest.raises(UserError, match="--no-token"):
        refuse_open("0.0.0.0", None, False)
    refuse_open("0.0.0.0", None, True)
    refuse_open("0.0.0.0", TOKEN, False)
    refuse_open("127.0.0.1", None, False)
    file = tmp_path / "token"
    file.write_text(f"{TOKEN}\n")
    assert token_from(file, "ignored") == TOKEN
    assert token_from(None, TOKEN) == TOKEN
    assert token_from(None, None) is token_from(None, "") is None
    file.write_text("\n")
    for wrong in (file, tmp_path / "none"):
        with pytest.raises(UserError, match="token"):
            token_from(wrong, None)
    with pytest.raises(UserError, match="16 ASCII"):
        token_from(None, "short")


class Running:
    """``slipher monitor`` as a process."""

    def __init__(self, *words: str) -> None:
        command = [sys.executable, "-m", "streamer", "monitor", *words, "--port", "0", "--every", "0.5"]
        self.process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
        assert self.process.stderr is not None
        self.said = ""
        for line in self.process.stderr:
            self.said += line
            if "http://" in line:
                break
        else:
            raise AssertionError(self.said)
        self.port = int(line.split("http://127.0.0.1:")[1].split()[0])

    def get(self, path: str) -> tuple[int, str]:
        asked = http.client.HTTPConnection("127.0.0.1", self.port, timeout=20)
        asked.request("GET", path)
        answer = asked.getresponse()
        return answer.status, answer.read().decode()

    def state(self) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(self.get("/api/state.json")[1])
        return found

    def __enter__(self) -> "Running":
        return self

    def __exit__(self, *_: object) -> None:
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()
        assert self.process.stderr is not None
        self.process.stderr.close()


@pytest.mark.broker
def test_the_monitor_follows_a_real_topic(tmp_path: Path, broker: Broker, topic: Callable[..., str]) -> None:
    from confluent_kafka import Producer

    build(tmp_path, nights=())
    name = topic(partitions=2)
    producer = Producer({"bootstrap.servers": broker.bootstrap})
    for k in range(7):
        producer.produce(name, b"x", partition=k % 2)
    producer.flush(10)
    bind(tmp_path, name, identify({"bootstrap.servers": broker.bootstrap}, name).topic_id, 1)
    with Running(str(tmp_path), "--brokers", broker.bootstrap, "--topic", name) as monitor:
        wait_until(lambda: monitor.state()["totals"] != [], monitor.process)
        events = http.client.HTTPConnection("127.0.0.1", monitor.port, timeout=20)
        events.request("GET", "/events")
        stream = events.getresponse()
        assert stream.headers["content-type"].startswith("text/event-stream")

        def next_look() -> dict[str, Any]:
            while True:
                line = stream.readline().decode()
                assert line
                if line.startswith("data: "):
                    found: dict[str, Any] = json.loads(line.removeprefix("data: "))
                    return found

        first = next_look()["totals"][0]
        assert (first["topic"], first["partitions"], first["lag"]) == (name, 2, 3 + 3)
        for _ in range(5):
            producer.produce(name, b"x", partition=0)
        producer.flush(10)
        deadline = time.monotonic() + 20
        while next_look()["totals"][0]["lag"] != 11:
            assert time.monotonic() < deadline
        lag = f'slipher_lag_messages{{topic="{name}",partition="0",model="forest-lsst-01234567"}} 8.0'
        wait_until(lambda: lag in monitor.get("/metrics")[1])
        assert monitor.get("/readyz") == (200, "ready\n")

        told = time.monotonic()
        monitor.process.send_signal(signal.SIGTERM)  # with a browser that listens
        reader = threading.Thread(target=stream.read)
        reader.start()
        assert monitor.process.wait(10) == 0
        assert time.monotonic() - told < 6  # a machine that is busy with other tests
        reader.join(5)
        assert not reader.is_alive()


def test_a_broker_that_never_was_is_said_to_be_away_and_ctrl_c_ends_it(tmp_path: Path) -> None:
    build(tmp_path, nights=())
    bind(tmp_path, "alerts", "id", 5)
    with Running(str(tmp_path), "--brokers", "127.0.0.1:1") as monitor:
        wait_until(lambda: monitor.state()["broker"] is not None, monitor.process)
        state = monitor.state()
        assert "No broker answers" in state["broker"]["why"]
        assert state["verdict"]["line"]["text"].startswith("The broker is away")
        assert monitor.get("/healthz")[0] == 200
        assert monitor.get("/readyz")[0] == 503
        told = time.monotonic()
        monitor.process.send_signal(signal.SIGINT)
        assert monitor.process.wait(10) == 0
        assert time.monotonic() - told < 6  # a machine that is busy with other tests
        assert monitor.process.stderr is not None
        assert "Traceback" not in monitor.process.stderr.read()


def test_mistakes_of_a_person_are_sentences(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from streamer.cli.main import build as commands

    def monitor(name: str, *more: str | Path | int) -> None:
        words = ["monitor", tmp_path / name, "--brokers", "127.0.0.1:1", *more]
        monkeypatch.setattr("sys.argv", ["slipher", "monitor"])
        commands().main([str(word) for word in words], standalone_mode=False)

    monkeypatch.setattr("streamer.cli.console.log_to_stderr", lambda *_: None)
    build(tmp_path / "c", nights=())
    with pytest.raises(UserError, match="is not a catalogue"):
        monitor("none", "--port", 0)
    with pytest.raises(UserError, match="--no-token"):
        monitor("c", "--host", "0.0.0.0", "--port", 0)
    with pytest.raises(UserError, match="cannot be read"):
        monitor("c", "--token-file", tmp_path / "none", "--port", 0)
    with socket.create_server(("127.0.0.1", 0)) as taken, pytest.raises(UserError, match="say another --port"):
        monitor("c", "--port", taken.getsockname()[1])
