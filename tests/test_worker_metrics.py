"""Real workers on a real broker say what they do: counts that add up, health that follows what happens to them."""

import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from confluent_kafka import TopicPartition
from confluent_kafka.admin import AdminClient
from numba import njit
from prometheus_client import generate_latest
from prometheus_client.parser import text_string_to_metric_families

from streamer.broker.server import Broker
from streamer.engine import Engine
from streamer.metrics import names
from streamer.metrics.names import METRICS, Metric, Stage
from streamer.metrics.server import Server
from streamer.metrics.station import Station
from streamer.run import build
from tests.streaming import alerts, assert_once, durable, identities, running, send, settings, spread, wait_until

pytestmark = pytest.mark.broker
Topic = Callable[..., str]


class Clock:
    """Time that also goes on by itself."""

    def __init__(self) -> None:
        self.ahead = 0.0

    def __call__(self) -> float:
        return time.monotonic() + self.ahead


@pytest.fixture
def serve() -> Iterator[Callable[[Station], Callable[[str], tuple[int, str]]]]:
    """Serve a station; returns what asks its paths."""
    servers: list[Server] = []

    def start(station: Station) -> Callable[[str], tuple[int, str]]:
        server = Server("127.0.0.1", 0, station.meters, station.alive, station.ready)
        servers.append(server)

        def ask(path: str) -> tuple[int, str]:
            try:
                with urllib.request.urlopen(f"http://127.0.0.1:{server.port}{path}", timeout=10) as answer:
                    return answer.status, answer.read().decode()
            except urllib.error.HTTPError as error:
                return error.code, error.read().decode()

        return ask

    yield start
    for server in servers:
        server.close()


def started(broker: Broker, name: str, catalog: Path, station: Station, **more: object) -> Engine:
    return build(settings(broker.bootstrap, name, catalog, **more), lookout=station)


def test_what_is_counted_is_what_became_durable(broker: Broker, topic: Topic, tmp_path: Path) -> None:
    name, station = topic(partitions=2), Station()
    _, good = alerts(60)
    payloads = [*good[:50], b"\x07nonsense", b"", *good[50:], good[0]]
    send(broker.bootstrap, name, spread(payloads, 2))
    made = settings(broker.bootstrap, name, tmp_path / "catalog", commit_rows=20)
    done = build(made, until_end=True, lookout=station).run()
    families = {
        family.name: family for family in text_string_to_metric_families(generate_latest(station.meters).decode())
    }

    def value(metric: Metric, suffix: str = "", **labels: str) -> float:
        family = families[metric.name.removesuffix("_total")]
        found = [
            s.value for s in family.samples if s.name == metric.name + suffix and labels.items() <= s.labels.items()
        ]
        assert found, (metric.name, labels)
        return sum(found)

    assert value(names.MESSAGES, topic=name) == value(names.SETTLED, topic=name) == done.messages == len(payloads)
    assert value(names.BYTES) == sum(len(p) for p in payloads)
    model = next(s.labels for s in families[names.MODEL.name].samples)
    assert value(names.ROWS, topic=name, model=model["model"]) == done.rows == 61
    assert {s.labels["reason"]: s.value for s in families["slipher_refused"].samples if s.value} == done.reasons
    assert done.reasons == {"BAD_FRAMING": 1}  # and an empty message, which is none
    assert value(names.REPEATED) == done.repeated == 1
    assert value(names.COMMITS) == done.commits > 0
    assert time.time() - value(names.LAST_COMMIT) < 60
    assert value(names.BATCH_MESSAGES, "_sum") == len(payloads)
    batches = value(names.BATCH_MESSAGES, "_count")
    for stage in (Stage.CONSUME, Stage.PROCESS, Stage.DECODE, Stage.ESTIMATE, Stage.ROWS):
        assert value(names.STAGE_SECONDS, "_count", stage=stage) == batches
    assert value(names.STAGE_SECONDS, "_count", stage=Stage.SETTLE) == done.commits
    for stage in (Stage.PARQUET, Stage.COMMIT):
        assert value(names.STAGE_SECONDS, "_count", stage=stage) >= done.commits

    def spent(*stages: Stage) -> float:
        return sum(value(names.STAGE_SECONDS, "_sum", stage=stage) for stage in stages)

    assert 0 < spent(Stage.DECODE, Stage.ESTIMATE, Stage.ROWS) <= spent(Stage.PROCESS)
    assert 0 < spent(Stage.PARQUET) <= spent(Stage.SETTLE)
    for metric in (names.IN_FLIGHT, names.PENDING_ROWS, names.PENDING_BYTES, names.STALLED, names.BUSY):
        assert value(metric) == 0
    assert value(names.REBALANCES) >= 1
    assert value(names.ALIVE) == 1
    listed = {metric.name.removesuffix("_total") for metric in METRICS}
    assert {f for f in families if not f.startswith(("process_", "python_"))} <= listed
    assert "process_resident_memory_bytes" in families


def test_what_expired_is_counted(broker: Broker, topic: Topic, tmp_path: Path) -> None:
    name, station = topic(), Station()
    _, values = alerts(20)
    send(broker.bootstrap, name, {0: values[:5]})
    made = settings(broker.bootstrap, name, tmp_path / "catalog")
    build(made, until_end=True, lookout=station).run()
    expired = station.meters.counter(names.EXPIRED).labels(name)
    assert expired._value.get() == 0  # it is there before anything expires: else an increase could not be seen
    send(broker.bootstrap, name, {0: values[5:]})
    admin = AdminClient({"bootstrap.servers": broker.bootstrap})
    for taken in admin.delete_records([TopicPartition(name, 0, 12)]).values():
        taken.result(20)
    build(made, until_end=True, lookout=station).run()
    assert expired._value.get() == 7
    assert_once(
        tmp_path / "catalog", {(0, o, 0) for o in (*range(5), *range(12, 20))}, {(0, o, -1) for o in range(5, 12)}
    )


@njit(nogil=True)
def _spin(rounds: int) -> int:
    x = 1
    for k in range(rounds):
        x = x * 6364136223846793005 + k
    return x


class Slow:
    """An estimator whose kernel takes its time, once."""

    def __init__(self, honest: Any, rounds: int) -> None:
        self._honest, self._rounds = honest, rounds

    def estimate(self, galaxies: Any) -> Any:
        rounds, self._rounds = self._rounds, 0
        _spin(rounds)
        return self._honest.estimate(galaxies)


def test_a_worker_that_is_stuck_in_a_kernel_is_unhealthy_and_says_so(
    broker: Broker, topic: Topic, tmp_path: Path, serve: Callable[[Station], Callable[[str], tuple[int, str]]]
) -> None:
    name, station = topic(), Station(task_limit=0.1)
    ask = serve(station)
    _spin(1)
    assert ask("/healthz") == (200, "alive\n")
    assert ask("/readyz") == (503, "the model is not loaded yet\n")
    engine = started(broker, name, tmp_path / "catalog", station, commit_seconds=0.2)
    worker: Any = engine.worker
    worker._estimator = Slow(worker._estimator, 2_000_000_000)
    with running(engine):
        send(broker.bootstrap, name, {0: alerts(10)[1]})
        wait_until(lambda: "at estimate" in ask("/healthz")[1])
        status, text = ask("/healthz")
        if status == 503:  # it is, unless the kernel ended between the two
            assert "the table thread has been at estimate for" in text
        assert "slipher_alive 0.0" in ask("/metrics")[1] or ask("/healthz")[0] == 200
        wait_until(lambda: durable(tmp_path / "catalog") == 10)
        wait_until(lambda: ask("/healthz") == (200, "alive\n"))
    assert_once(tmp_path / "catalog", identities({0: 10}))


def test_ready_follows_what_happens(
    broker: Broker, topic: Topic, tmp_path: Path, serve: Callable[[Station], Callable[[str], tuple[int, str]]]
) -> None:
    """One partition, two workers: the second stands by. The table goes: neither dead nor ready. It comes back: both are."""
    name, clock, catalog = topic(), Clock(), tmp_path / "catalog"
    stations = [Station(clock=clock), Station(clock=clock)]
    first, second = (serve(station) for station in stations)
    with running(started(broker, name, catalog, stations[0], commit_seconds=0.2)):
        wait_until(lambda: first("/readyz") == (200, "ready; reads 1 partition\n"))
        with running(started(broker, name, catalog, stations[1], commit_seconds=0.2)):
            wait_until(lambda: second("/readyz")[0] == 200)
            said = {first("/readyz")[1], second("/readyz")[1]}
            assert said == {
                "ready; reads 1 partition\n",
                "ready; the group gives this worker no partition: others read them all\n",
            }
        wait_until(lambda: first("/readyz") == (200, "ready; reads 1 partition\n"))
        catalog.rename(tmp_path / "away")
        clock.ahead += 6  # an answer of before is not as good as new
        assert first("/readyz") == (503, f"{name}: {catalog}/rows is not there\n")
        send(broker.bootstrap, name, {0: alerts(5)[1]})
        wait_until(lambda: "waiting, The catalogue cannot be read or written" in first("/readyz")[1])
        assert first("/healthz") == (200, "alive\n")
        assert "slipher_stalled 1.0" in first("/metrics")[1]
        assert "slipher_stalls_total 1.0" in first("/metrics")[1]
        (tmp_path / "away").rename(catalog)
        wait_until(lambda: durable(catalog) == 5)

        def well() -> bool:
            clock.ahead += 6
            return first("/readyz")[0] == 200

        wait_until(well)
        assert "slipher_stalled 0.0" in first("/metrics")[1]
    assert_once(catalog, identities({0: 5}))
