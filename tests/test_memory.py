"""Bytes in flight are bounded, whatever waits at the broker."""

import time
from collections.abc import Callable
from pathlib import Path

import pytest

from streamer import settler
from streamer.broker.server import Broker
from streamer.source import kafka
from tests.made_packets import ZTF, container, neighbour, ztf_alert
from tests.streaming import (
    durable,
    engine,
    no_worker_outlives_its_test,  # noqa: F401
    send,
    small_model,
    worker,
)

pytestmark = pytest.mark.broker
Topic = Callable[..., str]
GALAXY = neighbour(1, (20.5, 19.5, 19.0, 18.7), 0.1, 2.0)


def high_water(pid: int) -> float:
    """The most memory that a process ever had, MB."""
    status = Path(f"/proc/{pid}/status").read_text()
    [line] = [line for line in status.splitlines() if line.startswith("VmHWM")]
    return int(line.split()[1]) / 1024


def test_a_backlog_of_large_packets(broker: Broker, topic: Topic, tmp_path: Path) -> None:
    """2,000 packets of 175 kB: a worker's memory does not know how many more there are.

    Loaded and idle it takes 350 MB; what it fetches ahead and works on may add a third of the 350 MB that wait.
    """
    name, catalog = topic(4), tmp_path / "catalog"
    stamp = {"fileName": "stamp", "stampData": bytes(range(256)) * 676}
    values = [container(ZTF, [ztf_alert(k, **GALAXY) | {"cutoutScience": stamp}]) for k in range(10)]
    assert len(values[0]) > 173_000
    send(broker.bootstrap, name, {p: [values[k % 10] for k in range(500)] for p in range(4)})
    running = worker(
        broker.bootstrap, name, catalog, "--model", str(small_model("ps1")), "--alerts", "ztf", "--commit-seconds", "5"
    )
    most, deadline = 0.0, time.monotonic() + 90
    while durable(catalog) < 2_000:
        assert running.poll() is None, running.communicate()[1]
        assert time.monotonic() < deadline, "it never ended"
        most = high_water(running.pid)
        time.sleep(0.05)
    assert 200 < most < 550, f"{most:.0f} MB"


def test_refused_messages_are_committed_by_what_they_take(
    broker: Broker, topic: Topic, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Eight bytes each: their entries weigh more than they do, and do not pile up until the clock says so."""
    monkeypatch.setattr(settler, "PENDING_BYTES", 1 << 20)
    monkeypatch.setattr(kafka, "BATCH_MESSAGES", 1_000)
    name, catalog = topic(1), tmp_path / "catalog"
    send(broker.bootstrap, name, {0: [b"8 bytes."] * 7_000})
    done = engine(broker.bootstrap, name, catalog, refused_limit=1.0, commit_seconds=3_600.0).run()
    assert (done.messages, done.refused) == (7_000, 7_000)
    assert done.commits >= 3
