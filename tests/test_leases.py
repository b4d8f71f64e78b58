"""The care lease: one rewriter of a night at a time, whoever sleeps or dies, and no late row is lost to it."""

from pathlib import Path

import pyarrow as pa
import pytest
from deltalake import DeltaTable
from deltalake import Schema as DeltaSchema
from deltalake.transaction import AddAction

from schemas.catalogue import ROW_PARTITIONS
from schemas.errors import TroubleError
from streamer.care.leases import Lease, LeaseLost, take
from streamer.sink.catalogue import ensure
from streamer.sink.delta import DeltaSink
from streamer.sink.ledger import REPEATED
from streamer.sink.staging import stage
from streamer.sink.verify import verify
from tests.made_rows import IDENTITY, advance, no_first, now_ms, stored

NIGHT, MODEL = "2026-05-01", "forest-lsst-01234567"
PARTITIONS = [0, 1]


@pytest.fixture
def root(tmp_path: Path) -> Path:
    ensure(tmp_path / "catalogue")
    sink = DeltaSink(tmp_path / "catalogue", IDENTITY, now_ms)
    advance(sink, 30, 6, sink.claim(PARTITIONS, no_first))
    return tmp_path / "catalogue"


def staged(lease: Lease) -> AddAction:
    """All rows that the lease may replace, in one file."""
    night = [("night", "=", lease.night), ("model", "=", lease.model)]
    rows = lease.table.to_pyarrow_table(partitions=night).drop_columns(list(ROW_PARTITIONS))
    return stage(lease.root / "rows", lease.name("test"), rows, {"night": NIGHT, "model": MODEL}, REPEATED)


def go_on(root: Path, end: int) -> None:
    sink = DeltaSink(root, IDENTITY, now_ms)
    advance(sink, end, 6, sink.claim(PARTITIONS, no_first))


def test_a_replacement_keeps_every_row_and_those_that_come_meanwhile(root: Path) -> None:
    lease = take(root, NIGHT, MODEL)
    assert len(lease.files) == 5
    add = staged(lease)
    go_on(root, 42)
    before = stored(root)
    lease.replace([add], "test")
    assert stored(root) == before
    assert verify(root).ok
    assert len(take(root, NIGHT, MODEL).files) == 1 + 2  # the new one, and two that came meanwhile
    go_on(root, 60)
    assert verify(root).ok


def test_an_older_holder_is_fenced_and_changes_nothing(root: Path) -> None:
    first = take(root, NIGHT, MODEL)
    add = staged(first)
    second = take(root, NIGHT, MODEL)
    before = stored(root)
    with pytest.raises(LeaseLost, match="took over the night"):
        first.replace([add], "test")
    second.replace([staged(second)], "test")
    with pytest.raises(LeaseLost):
        first.replace([add], "test")
    assert stored(root) == before
    assert verify(root).ok


def test_leases_of_other_nights_and_models_do_not_meet(root: Path) -> None:
    here, there = take(root, NIGHT, MODEL), take(root, "2026-05-02", MODEL)
    here.replace([staged(here)], "test")
    there.replace([], "test")
    nights = {row["night"] for row in DeltaTable(str(root / "rows")).to_pyarrow_table(columns=["night"]).to_pylist()}
    assert nights == {NIGHT, "2026-05-03"}
    assert [line for line in verify(root).lost if "offsets" in line]  # the proof sees what a replacement took


def test_a_column_added_meanwhile_does_not_cost_the_work(root: Path) -> None:
    lease = take(root, NIGHT, MODEL)
    add = staged(lease)
    new = DeltaSchema.from_arrow(pa.schema([pa.field("new", pa.int32())]))
    DeltaTable(str(root / "rows")).alter.add_columns(list(new.fields))
    before = stored(root)
    lease.replace([add], "test")
    assert stored(root) == before
    assert len(take(root, NIGHT, MODEL).files) == 1


def test_a_hopeless_replacement_is_given_up_at_the_first_conflict(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A column was added and late rows came: a newer handle would remove these too, and the old one is always refused."""
    import streamer.care.leases as leases

    honest, calls = leases._commit, []

    def counted(*args: object) -> None:
        calls.append(args)
        honest(*args)  # type: ignore[arg-type]

    monkeypatch.setattr(leases, "_commit", counted)
    lease = take(root, NIGHT, MODEL)
    add = staged(lease)
    new = DeltaSchema.from_arrow(pa.schema([pa.field("new", pa.int32())]))
    DeltaTable(str(root / "rows")).alter.add_columns(list(new.fields))
    go_on(root, 36)
    before = stored(root)
    with pytest.raises(LeaseLost, match=r"Late rows came.*Metadata changed.*run it again"):
        lease.replace([add], "test")
    assert len(calls) == 1
    assert stored(root) == before
    again = take(root, NIGHT, MODEL)
    again.replace([staged(again)], "test")
    assert stored(root) == before


@pytest.mark.parametrize("lie", ["failed but landed", "never went out"])
def test_answers_that_lie(root: Path, lie: str, monkeypatch: pytest.MonkeyPatch) -> None:
    import streamer.care.leases as leases

    honest, calls = leases._commit, []

    def shaken(handle, adds, lease, about, also):
        calls.append(handle.version())
        if lie == "failed but landed" or len(calls) > 2:
            honest(handle, adds, lease, about, also)
        if lie == "failed but landed" or len(calls) <= 2:
            raise OSError("the answer was lost")

    monkeypatch.setattr(leases, "_commit", shaken)
    lease = take(root, NIGHT, MODEL)
    before = stored(root)
    lease.replace([staged(lease)], "test")
    assert stored(root) == before
    assert len(calls) == (1 if lie == "failed but landed" else 3)


def test_a_table_that_takes_no_commit_is_trouble(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import streamer.care.leases as leases

    def full(*_: object) -> None:
        raise OSError("No space left on device")

    monkeypatch.setattr(leases, "_commit", full)
    monkeypatch.setattr(leases, "TRIES", 3)
    lease = take(root, NIGHT, MODEL)
    before = stored(root)
    with pytest.raises(TroubleError, match="No space left"):
        lease.replace([staged(lease)], "test")
    assert stored(root) == before
