"""Care of the tables beside live writers, all at once: nothing lost, nothing doubled, and every file is what the log says."""

import signal
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from deltalake import DeltaTable, Field
from deltalake.exceptions import CommitFailedError
from deltalake.schema import PrimitiveType

from schemas.errors import TroubleError
from streamer.broker.server import Broker
from streamer.care import nights
from streamer.care.compaction import Done, compact
from streamer.care.files import verify_files
from streamer.care.vacuum import vacuum
from tests.nights import Night
from tests.streaming import (
    finished,
    heard,
    no_worker_outlives_its_test,  # noqa: F401
    worker,
)

pytestmark = [pytest.mark.broker, pytest.mark.timeout(240)]
Topic = Callable[..., str]
ROUNDS = 2


def test_compactions_sweep_and_migration_beside_writers(broker: Broker, topic: Topic, tmp_path: Path) -> None:
    """Two compactions of each night at once, open nights too, a sweep that keeps nothing, a column that a newer version adds."""
    name, catalog = topic(2), tmp_path / "catalog"
    outcomes: list[Done | TroubleError | None] = []
    with Night(broker.bootstrap, name, 2, catalog) as night, ThreadPoolExecutor(4) as at_once:
        running = worker(broker.bootstrap, name, catalog)
        heard(running, "durable")
        for k in range(ROUNDS):
            night.goes_on(200, running)
            held = nights.nights(catalog)
            assert len(held) >= 3  # tonight, and two past ones for which alerts come late
            work = [at_once.submit(compacted, catalog, one) for one in held for _ in range(2)]
            work += [at_once.submit(vacuum, catalog, 0.0), at_once.submit(add_column, catalog, f"note_{k}")]
            outcomes += [found for job in work if (found := job.result()) != []]
        night.goes_on(200, running)
        running.send_signal(signal.SIGTERM)
        finished(running)
        night.settle()
    assert all("changed" in str(one) for one in outcomes if isinstance(one, TroubleError))
    assert sum(isinstance(one, Done) for one in outcomes) >= ROUNDS
    found = verify_files(catalog, checksums=True)
    assert found.ok, found.lines()
    columns = [field.name for field in DeltaTable(str(catalog / "rows")).schema().fields]
    assert columns[-ROUNDS:] == [f"note_{k}" for k in range(ROUNDS)]


def compacted(catalog: Path, one: nights.Night) -> Done | TroubleError | None:
    try:
        return compact(catalog, one.night, one.model)
    except TroubleError as lost:  # another was quicker, or what it read was rewritten: it changed nothing, and says so
        return lost


def add_column(catalog: Path, name: str) -> list[object]:
    while True:
        try:
            DeltaTable(str(catalog / "rows")).alter.add_columns([Field(name, PrimitiveType("string"), nullable=True)])
            return []
        except CommitFailedError:  # a worker was quicker
            continue
