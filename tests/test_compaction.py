"""Compaction of closed nights: the same rows in few sorted files, beside writers, whoever dies or comes twice."""

import datetime as dt
import itertools
import shutil
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute
import pyarrow.parquet as pq
import pytest
from deltalake import DeltaTable
from hypothesis import given, settings
from hypothesis import strategies as st

from schemas.errors import UserError
from streamer.care.compaction import Settings, compact
from streamer.care.leases import LeaseLost
from streamer.care.nights import due, nights
from streamer.care.sorting import sorted_tables
from streamer.catalogue import open_catalogue
from streamer.sink.catalogue import ensure
from streamer.sink.delta import DeltaSink
from streamer.sink.verify import verify
from tests.catalogue_builder import Built, build
from tests.made_rows import IDENTITY, advance, no_first, now_ms, stored

NIGHT, MODEL = "2026-05-01", "forest-lsst-01234567"
FOREST = "forest-lsst-01234567"
SMALL = Settings(file_rows=70, memory=1)  # everything is spilled, in ranges of the least size


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Built:
    return build(tmp_path_factory.mktemp("care") / "catalogue", rows_a_night=2_600, nights=("2026-03-01",), commits=4)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    ensure(tmp_path / "catalogue")
    sink = DeltaSink(tmp_path / "catalogue", IDENTITY, now_ms)
    advance(sink, 30, 6, sink.claim([0, 1], no_first))
    return tmp_path / "catalogue"


def ordered(table: pa.Table) -> pa.Table:
    return table.select(sorted(table.column_names)).sort_by(
        [("model", "ascending"), ("night", "ascending"), ("object_id", "ascending"), ("kafka_offset", "ascending")]
    )


@pytest.mark.parametrize(
    "how", [Settings(file_rows=1_000), Settings(file_rows=1_000, memory=1)], ids=["held", "spilled"]
)
def test_rows_stay_what_they_are_and_files_are_few_and_sorted(built: Built, tmp_path: Path, how: Settings) -> None:
    root = shutil.copytree(built.path, tmp_path / "copy")
    before = ordered(DeltaTable(str(root / "rows")).to_pyarrow_table())
    passed = []
    done = compact(root, "2026-03-01", FOREST, how, passed.append)
    table = DeltaTable(str(root / "rows"))
    assert ordered(table.to_pyarrow_table()).equals(before)
    assert done is not None
    assert (done.rows, done.files_before, done.files) == (2_600, 4, 3)
    assert sum(passed) == 2 * done.rows
    mine = open_catalogue(root).files("2026-03-01", FOREST)
    assert sorted(mine["rows"].to_pylist()) == [866, 867, 867]
    ends = sorted(zip(mine["first"].to_pylist(), mine["last"].to_pylist(), strict=True))
    assert all(a[1] < b[0] for a, b in itertools.pairwise(ends))
    for path in open_catalogue(root).file_uris("2026-03-01", FOREST):
        about = pq.ParquetFile(path)
        ids = about.read(["object_id"])["object_id"].to_pylist()
        assert ids == sorted(ids)
        pdf = about.metadata.row_group(0).column(about.schema.names.index("element"))
        assert "BYTE_STREAM_SPLIT" in pdf.encodings
        assert about.metadata.row_group(0).sorting_columns
    assert not list(root.glob(".compacting-*"))
    assert compact(root, "2026-03-01", FOREST, how) is None


def test_the_statistics_of_a_compacted_night_hide_no_row(built: Built, tmp_path: Path) -> None:
    root = shutil.copytree(built.path, tmp_path / "copy")
    compact(root, "2026-03-01", FOREST, Settings(file_rows=700))
    table, truth = DeltaTable(str(root / "rows")), built.rows.filter(pa.compute.field("model") == FOREST)
    for name, op, value in (
        ("z_median", ">", 1.0),
        ("object_id", "=", "0000001234"),
        ("ebv", "<", 0.5),
        ("mjd", ">", 1.0),
    ):
        got = table.to_pyarrow_table(filters=[("model", "=", FOREST), (name, op, value)], columns=["object_id"])
        field = pa.compute.field(name)
        want = truth.filter(field > value if op == ">" else field < value if op == "<" else field == value)
        assert sorted(got["object_id"].to_pylist()) == sorted(want["object_id"].to_pylist())
        assert len(want)


def test_only_closed_nights_are_due_and_a_late_row_makes_one_due_again(root: Path) -> None:
    found = nights(root)
    assert (
        next(one.closes.isoformat() for one in found) == "2026-05-03T00:00:00+00:00"
    )  # noon to noon, and half a day more
    now = dt.datetime(2026, 5, 4, 13, tzinfo=dt.UTC)
    ready, still_open = due(found, now)
    assert [one.night for one in ready] == ["2026-05-01", "2026-05-02"]
    assert [one.night for one in still_open] == ["2026-05-03"]
    for one in ready:
        compact(root, one.night, one.model)
    assert due(nights(root), now)[0] == []
    sink = DeltaSink(root, IDENTITY, now_ms)
    advance(sink, 34, 4, sink.claim([0, 1], no_first))
    again = due(nights(root), now, night="2026-05-01")[0]
    assert [(one.night, one.files) for one in again] == [("2026-05-01", 2)]
    compact(root, "2026-05-01", MODEL)
    assert due(nights(root), now, night="2026-05-01")[0] == []
    assert verify(root).ok
    with pytest.raises(UserError, match="No rows of the night 1999-01-01"):
        due(nights(root), now, night="1999-01-01")


def test_a_new_column_makes_a_night_due_again(root: Path) -> None:
    compact(root, NIGHT, MODEL)
    from deltalake import Schema as DeltaSchema

    new = DeltaSchema.from_arrow(pa.schema([pa.field("new", pa.int32())]))
    DeltaTable(str(root / "rows")).alter.add_columns(list(new.fields))
    sink = DeltaSink(root, IDENTITY, now_ms)
    assert sink.claim([0], no_first)
    before = stored(root)
    assert compact(root, "2026-05-02", MODEL) is not None
    assert not next(one for one in nights(root) if one.night == NIGHT).compacted
    assert compact(root, NIGHT, MODEL) is not None
    assert next(one for one in nights(root) if one.night == NIGHT).compacted
    table = DeltaTable(str(root / "rows")).to_pyarrow_table(partitions=[("night", "=", NIGHT)])
    assert table["new"].null_count == len(table)
    assert stored(root) == before


@pytest.mark.parametrize("step", ["taken", "written", "staged"])
def test_of_two_at_once_one_wins_and_the_other_says_so(root: Path, step: str) -> None:
    before = stored(root)
    done = []

    def point(name: str) -> None:
        if name == step and not done:
            done.append(compact(root, NIGHT, MODEL))

    with pytest.raises(LeaseLost, match="took over the night"):
        compact(root, NIGHT, MODEL, SMALL, point=point)
    assert done[0] is not None
    assert stored(root) == before
    assert verify(root).ok
    assert [one.files for one in nights(root) if one.night == NIGHT] == [1]


class Killed(BaseException):
    """Stands for SIGKILL, or Ctrl-C."""


@pytest.mark.parametrize("step", ["taken", "written", "staged", "replaced"])
def test_interrupted_at_every_step_beside_a_writer(root: Path, step: str) -> None:
    """Rows come and the compaction dies: all rows are there, and it leaves no file that it has not tried to commit."""
    files = {path.name for path in root.rglob("*.parquet")}
    seen = 0

    def point(name: str) -> None:
        nonlocal seen
        if name == step:
            seen += 1
            sink = DeltaSink(root, IDENTITY, now_ms)
            advance(sink, 42, 6, sink.claim([0, 1], no_first))
            raise Killed

    with pytest.raises(Killed):
        compact(root, NIGHT, MODEL, point=point)
    assert seen == 1
    assert verify(root).ok
    left = {path.name for path in root.rglob("care-*.parquet")} - files
    assert bool(left) == (step in ("staged", "replaced"))
    assert not list(root.glob(".compacting-*"))
    assert compact(root, NIGHT, MODEL) is not None
    assert verify(root).ok
    assert verify(root).offsets == 84
    assert [one.files for one in nights(root) if one.night == NIGHT] == [1]


@settings(max_examples=60, deadline=None)
@given(
    keys=st.lists(st.sampled_from(["a", "b", "c", "bb", "é", "z" * 80, ""]) | st.text(max_size=3), max_size=60),
    bound=st.integers(1, 25),
    batch=st.integers(1, 20),
)
def test_sorting_by_ranges_is_sorting(
    tmp_path_factory: pytest.TempPathFactory, keys: list[str], bound: int, batch: int
) -> None:
    keys = [key.encode("utf-8", "ignore").decode() for key in keys]
    table = pa.table({"key": pa.array(keys, pa.string()), "n": np.arange(len(keys))})
    scratch = tmp_path_factory.mktemp("sort")
    got = list(
        sorted_tables(
            lambda: table.to_batches(max_chunksize=batch),
            lambda: table.select(["key"]).to_batches(max_chunksize=batch),
            len(table),
            ["key", "n"],
            bound,
            scratch,
        )
    )
    assert all(len(part) <= max(2 * bound, bound + batch) for part in got)
    rows = [(row["key"], row["n"]) for part in got for row in part.to_pylist()]
    assert sorted(rows) == sorted(zip(keys, range(len(keys)), strict=True))
    assert [key for key, _ in rows] == sorted(keys)
    assert not list(scratch.iterdir())
