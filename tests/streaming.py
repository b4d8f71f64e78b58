"""What the end-to-end tests share: a small model, messages on a topic, workers as processes, and what the tables hold."""

import atexit
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import cache
from pathlib import Path

import pytest
from confluent_kafka import Producer

from models import bundle as bundles
from models import training
from schemas.bands import band_set
from schemas.batch import Galaxies
from schemas.encoder import encode_avro
from streamer.broker.server import Broker
from streamer.engine import Engine
from streamer.run import build
from streamer.settings import RunSettings, run_settings
from streamer.sink.appids import read_app_ids
from streamer.sink.verify import verify
from tests.made_rows import stored
from tests.small_sky import sky

SESSION = {"session.timeout.ms": "1500", "heartbeat.interval.ms": "300", "topic.metadata.refresh.interval.ms": "300"}
Identity = tuple[int, int, int]  # partition, offset, row


@cache
def small_model(survey: str = "lsst") -> Path:
    """The bundle of a forest of eight trees, trained once a run on the small sky."""
    folder = Path(tempfile.mkdtemp(prefix="slipher-test-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    known, z = sky(800, survey=survey)
    settings = training.ForestSettings(trees=8, folds=2, copies=1)
    arrays = (known.flux, known.flux_err, known.band_state, known.ebv, z)
    bundles.write(training.fit(*arrays, band_set(survey), settings), folder / f"{survey}.slipher")
    return folder / f"{survey}.slipher"


def now_mjd() -> float:
    return time.time() / 86_400 + 40_587


def send(bootstrap: str, topic: str, payloads: Mapping[int, Sequence[bytes | None]]) -> None:
    """Produce `payloads` to each partition, in order, and wait for the broker to have them."""
    producer = Producer({"bootstrap.servers": bootstrap, "acks": "all", "queue.buffering.max.messages": 1_000_000})
    for partition, values in payloads.items():
        for value in values:
            producer.produce(topic, value, partition=partition)
    assert producer.flush(30) == 0


def spread(values: Sequence[bytes], partitions: int) -> dict[int, list[bytes]]:
    """`values` over `partitions` in turn."""
    return {p: list(values[p::partitions]) for p in range(partitions)}


def alerts(n: int, seed: int = 2) -> tuple[Galaxies, list[bytes]]:
    """`n` galaxies of tonight and their messages."""
    galaxies, _ = sky(n, seed, mjd=now_mjd())
    return galaxies, encode_avro(galaxies, "lsst")


def settings(bootstrap: str, topic: str, catalog: Path, **more: object) -> RunSettings:
    given: dict[str, object] = {
        "brokers": bootstrap,
        "topic": topic,
        "model": small_model(),
        "catalog": catalog,
        "start": "earliest",
        "kafka": SESSION,
    }
    return run_settings(**(given | more))


def engine(bootstrap: str, topic: str, catalog: Path, **more: object) -> Engine:
    """An engine that stops at the end of the topic."""
    return build(settings(bootstrap, topic, catalog, **more), until_end=True)


def worker(bootstrap: str, topic: str, catalog: Path, *more: str, kill_at: str = "") -> subprocess.Popen[str]:
    """``slipher run`` as a process; `kill_at` = "STEP:TIME" makes it SIGKILL itself there."""
    command = (
        [sys.executable, "-m", "tests.faulty_run", kill_at] if kill_at else [sys.executable, "-m", "streamer", "run"]
    )
    command += ["--brokers", bootstrap, "--topic", topic, "--model", str(small_model()), "--catalog", str(catalog)]
    command += ["--start", "earliest", "--commit-seconds", "0.2"]
    command += [word for key, value in SESSION.items() for word in ("--kafka", f"{key}={value}")]
    process = subprocess.Popen([*command, *more], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    _workers.append(process)
    return process


_workers: list[subprocess.Popen[str]] = []


@pytest.fixture(autouse=True)
def no_worker_outlives_its_test() -> Iterator[None]:
    """Imported by the modules that start workers: a test that fails leaves nothing running."""
    yield
    while _workers:
        left = _workers.pop()
        if left.poll() is None:
            left.kill()
            left.wait()
        for pipe in (left.stdout, left.stderr):
            if pipe is not None:
                pipe.close()


def assert_once(catalog: Path, rows: set[Identity], listed: set[Identity] = frozenset()) -> None:  # type: ignore[assignment]
    """The tables hold exactly `rows` and `listed`, and prove themselves."""
    have_rows, have_listed = stored(catalog)
    assert have_rows == sorted(rows)
    assert have_listed == sorted(listed)
    report = verify(catalog)
    assert report.ok, report.lines()


def identities(counts: Mapping[int, int]) -> set[Identity]:
    """(partition, offset, 0) of single-row messages: `counts` per partition."""
    return {(p, o, 0) for p, n in counts.items() for o in range(n)}


@contextmanager
def running(made: Engine) -> Iterator[threading.Thread]:
    """The engine in a thread, stopped at the end; what it raised, the test raises."""
    errors: list[BaseException] = []

    def run() -> None:
        try:
            made.run()
        except BaseException as error:
            errors.append(error)

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    try:
        yield thread
    finally:
        if thread.is_alive():
            made.stop()
        thread.join(20)
    assert not thread.is_alive()
    for error in errors:
        raise error


def finish(broker: Broker, name: str, catalog: Path) -> None:
    """One honest worker reads what is left."""
    engine(broker.bootstrap, name, catalog).run()


def durable(catalog: Path) -> int:
    """Offsets that are durable in all partitions; none where a worker is yet to make the table."""
    if not any((catalog / "rows" / "_delta_log").glob("*.json")):
        return 0
    return sum(v for app, v in read_app_ids(catalog / "rows").items() if app.endswith("/offset"))


def wait_until(what: Callable[[], bool], process: subprocess.Popen[str] | None = None, seconds: float = 30) -> None:
    """Poll a condition of the world outside; fails after `seconds`, or when `process` ends first."""
    deadline = time.monotonic() + seconds
    while not what():
        assert time.monotonic() < deadline, "it never happened"
        assert process is None or process.poll() is None, process.communicate()[1]
        time.sleep(0.02)


def finished(process: subprocess.Popen[str], code: int = 0, seconds: float = 60) -> str:
    """Wait until `process` has ended with `code` and without a traceback; what it said."""
    _, said = process.communicate(timeout=seconds)
    assert process.returncode == code, said
    assert "Traceback" not in said
    return said


def heard(process: subprocess.Popen[str], text: str) -> None:
    """Read what `process` says until it says `text`."""
    assert process.stderr is not None
    lines = []
    for line in process.stderr:
        lines.append(line)
        if text in line:
            return
    raise AssertionError("".join(lines))
