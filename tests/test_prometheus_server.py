"""A real Prometheus with what stands in docker/: it scrapes, evaluates every rule, and an alert comes and goes."""

import os
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
import yaml
from prometheus_client.exposition import generate_latest

from streamer.broker.server import Broker
from streamer.metrics import names
from streamer.metrics.alerts import ALERTS
from streamer.metrics.meters import Meters
from tests.prometheus import prometheus
from tests.streaming import (
    alerts,
    durable,
    no_worker_outlives_its_test,  # noqa: F401 - a fixture that every test here uses
    send,
    spread,
    wait_until,
    worker,
)
from tests.test_alert_rules import PROMETHEUS, RULES

TOKEN = "a-token-of-the-monitor"


@pytest.fixture
def monitor() -> Iterator[tuple[Meters, str]]:
    """The metrics of a monitor, served to whoever has its token; and where."""
    meters = Meters(names.MONITOR, process=False)

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            allowed = self.headers["Authorization"] == f"Bearer {TOKEN}"
            self.send_response(200 if allowed else 401)
            self.send_header("Content-Type", "text/plain; version=0.0.4")
            self.end_headers()
            if allowed:
                self.wfile.write(generate_latest(meters))  # type: ignore[arg-type]

        def log_message(self, format: str, *args: object) -> None: ...

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield meters, f"127.0.0.1:{server.server_address[1]}"
    server.shutdown()
    server.server_close()
    thread.join()


def configuration(folder: Path, **targets: str) -> dict[str, Any]:
    """That of docker/, in a hurry, with targets and files of this machine. `targets` by job, less ``slipher-``."""
    config: dict[str, Any] = yaml.safe_load((PROMETHEUS / "prometheus.yml").read_text())
    config["global"] = {"scrape_interval": "200ms", "scrape_timeout": "200ms", "evaluation_interval": "200ms"}
    assert config["rule_files"] == [RULES.name]
    config["rule_files"] = [str(RULES)]
    (folder / "token").write_text(TOKEN)
    for job in config["scrape_configs"]:
        job.pop("dns_sd_configs", None)
        job["static_configs"] = [{"targets": [targets[job["job_name"].removeprefix("slipher-")]]}]
        if "authorization" in job:
            job["authorization"] = {"credentials_file": str(folder / "token")}
    return config


def test_a_server_scrapes_and_evaluates(monitor: tuple[Meters, str], tmp_path: Path) -> None:
    meters, address = monitor
    series = {"topic": "alerts", "model": "forest-lsst-1"}
    meters.gauge(names.TOPIC_LAG_SECONDS).labels(**series).set(12.5)
    meters.gauge(names.TOPIC_DRAIN_SECONDS).labels(**series).set(float("inf"))
    meters.gauge(names.TOPIC_LOSS_SECONDS).labels(**series).set(float("inf"))
    meters.gauge(names.LAG_STATUS).labels(topic="alerts", partition="7", model="forest-lsst-1").set(0)
    meters.gauge(names.BROKER_UP).set(1)
    config = configuration(tmp_path, monitor=address, worker="127.0.0.1:9")
    (tmp_path / "hurry.yml").write_text(RULES.read_text().replace("for: 2m", "for: 1s"))
    config["rule_files"] = [str(tmp_path / "hurry.yml")]
    with prometheus(config, tmp_path) as server:
        wait_until(lambda: server.values("slipher_topic_lag_seconds") != [])
        ((labels, value),) = server.values("slipher_topic_lag_seconds")
        assert (labels["topic"], labels["model"], labels["job"], value) == (
            "alerts",
            "forest-lsst-1",
            "slipher-monitor",
            12.5,
        )
        assert server.values("slipher_topic_drain_seconds == Inf") != []
        wait_until(lambda: all(rule["health"] == "ok" for rule in server.rules()))
        assert sorted(rule["name"] for rule in server.rules()) == sorted(alert.name for alert in ALERTS)
        assert not [rule["lastError"] for rule in server.rules() if rule.get("lastError")]
        quiet = {"SlipherNoWorkers", "SlipherWorkerDown"}  # nothing listens there
        wait_until(lambda: set(server.alerts()) == quiet)

        meters.gauge(names.BROKER_UP).set(0)
        meters.gauge(names.LAG_STATUS).labels(topic="alerts", partition="7", model="forest-lsst-1").set(5)
        wait_until(lambda: server.alerts().get("SlipherPartitionRewound") == "firing")
        wait_until(lambda: server.alerts().get("SlipherBrokerAway") == "firing")
        meters.gauge(names.BROKER_UP).set(1)
        meters.gauge(names.LAG_STATUS).labels(topic="alerts", partition="7", model="forest-lsst-1").set(0)
        wait_until(lambda: set(server.alerts()) == quiet)


def free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port: int = free.getsockname()[1]
        return port


@pytest.mark.broker
def test_a_worker_and_a_monitor_are_scraped_as_the_rules_expect(
    broker: Broker, topic: Callable[..., str], tmp_path: Path
) -> None:
    """Real ones: their series have the names and labels that alerts, panels and autoscalers ask for."""
    name, catalog = topic(partitions=2), tmp_path / "catalog"
    at_worker, at_monitor = free_port(), free_port()
    process = worker(broker.bootstrap, name, catalog, "--metrics-port", str(at_worker))
    send(broker.bootstrap, name, spread([*alerts(40)[1], b"nonsense"], 2))
    wait_until(lambda: durable(catalog) == 41, process)
    (tmp_path / "token").write_text(TOKEN)
    words = ["monitor", str(catalog), "--brokers", broker.bootstrap, "--port", str(at_monitor), "--every", "0.5"]
    command = [sys.executable, "-m", "streamer", *words, "--token-file", str(tmp_path / "token")]
    with (tmp_path / "monitor.log").open("wb") as log:
        monitor = subprocess.Popen(command, stdout=log, stderr=log, env=os.environ | {"SLIPHER_MONITOR_TOKEN": ""})
    try:
        targets = {"worker": f"127.0.0.1:{at_worker}", "monitor": f"127.0.0.1:{at_monitor}"}
        with prometheus(configuration(tmp_path, **targets), tmp_path) as server:
            wait_until(lambda: server.targets() == {"slipher-worker": "up", "slipher-monitor": "up"}, process)
            wait_until(lambda: server.values("slipher_topic_lag_seconds == 0") != [], process)

            def labels(expr: str) -> set[str]:
                found = server.values(expr)
                assert found, expr
                return set(found[0][0]) - {"__name__"}

            where = {"job", "instance"}
            assert labels(f'slipher_topic_lag_seconds{{topic="{name}"}}') == {"topic", "model", *where}
            assert labels("slipher_lag_status == 0") == {"topic", "partition", "model", *where}
            assert labels('up{job="slipher-worker"} == 1') == where
            assert labels('process_resident_memory_bytes{job="slipher-worker"}') == where
            assert labels("slipher_alive == 1") == where
            assert [value for _, value in server.values("sum(slipher_rows_total)")] == [40]
            assert [value for _, value in server.values('slipher_refused_total{reason="BAD_FRAMING"}')] == [1]
            assert [value for _, value in server.values("sum(slipher_assigned_partitions)")] == [2]
            wait_until(lambda: all(rule["health"] == "ok" for rule in server.rules()))
            wait_until(
                lambda: not set(server.alerts()) - {"SlipherRefusals"}
            )  # of one message in forty there is to be said
    finally:
        monitor.terminate()
        monitor.wait(20)
