"""A disk that is really full, and a log that a power cut tore."""

import signal
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from schemas.errors import IntegrityError
from streamer.broker.server import Broker
from streamer.catalogue import open_catalogue
from streamer.sink.catalogue import ensure
from streamer.sink.verify import verify
from tests.made_rows import IDENTITY, advance, expected, no_first, now_ms, stored
from tests.nights import Night
from tests.streaming import (
    durable,
    heard,
    no_worker_outlives_its_test,  # noqa: F401
    wait_until,
    worker,
)

Topic = Callable[..., str]


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of two megabytes; only where this user may mount one. Its twin without it: a disk that fills up."""
    disk = tmp_path / "disk"
    disk.mkdir()
    done = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=2m", "tmpfs", str(disk)], capture_output=True, text=True)
    if done.returncode:
        pytest.skip(
            f"no tmpfs can be mounted here ({done.stderr.strip()}); ENOSPC is injected by test_a_disk_that_fills_up"
        )
    yield disk
    subprocess.run(["umount", "--lazy", str(disk)], check=True)


@pytest.mark.broker
@pytest.mark.timeout(240)
def test_a_disk_that_is_really_full(broker: Broker, topic: Topic, small_disk: Path) -> None:
    """Rows, exceptions and log entries all meet ENOSPC; when there is room again, everything is there once."""
    name, catalog = topic(2), small_disk / "catalog"
    with Night(broker.bootstrap, name, 2, catalog, rate=1_000) as night:
        running = worker(broker.bootstrap, name, catalog)
        heard(running, "o space left on device")
        subprocess.run(["mount", "-o", "remount,size=200m", str(small_disk)], check=True)
        before = durable(catalog)
        wait_until(lambda: running.poll() is not None or durable(catalog) > before, seconds=60)
        if running.poll() is None:  # it waited for room
            running.send_signal(signal.SIGTERM)
        _, said = running.communicate(timeout=60)
        assert running.returncode in (0, 75), said
        assert "Traceback" not in said
        night.settle()


@pytest.mark.parametrize("table", ["rows", "exceptions"])
@pytest.mark.parametrize("become", ["half", "zeros", "empty"])
def test_a_torn_last_log_entry(tmp_path: Path, table: str, become: str) -> None:
    """The power goes between a commit and its fsync: refused by name, with the mend; what it held is read again."""
    from streamer.sink.delta import DeltaSink

    class PowerCut(BaseException):
        """Memory is gone, and what was not fsynced."""

    def point(step: int) -> None:
        nonlocal seen
        seen += step == {"exceptions": 10, "rows": 17}[table]
        if seen == 3:
            raise PowerCut

    root, partitions, seen = tmp_path / "catalogue", [0, 1], 0
    ensure(root)
    sink = DeltaSink(root, IDENTITY, now_ms, point)
    with pytest.raises(PowerCut):
        advance(sink, 60, 9, sink.claim(partitions, no_first))
    last = max((root / table / "_delta_log").glob("*.json"))
    whole = last.read_bytes()
    last.write_bytes({"half": whole[: len(whole) // 2], "zeros": bytes(len(whole)), "empty": b""}[become])
    for look in (ensure, verify, open_catalogue):
        with pytest.raises(IntegrityError, match=rf"{table} is torn.*{last.name}.*remove this file and start again"):
            look(root)
    last.unlink()
    sink = DeltaSink(root, IDENTITY, now_ms)
    advance(sink, 60, 11, sink.claim(partitions, no_first))
    rows, listed = expected(partitions, 60)
    assert stored(root) == (sorted(rows), sorted(listed))
    report = verify(root)
    assert report.ok, report.lines()
