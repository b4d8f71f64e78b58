"""Vacuum, the check of files, history and migration: what they say is so, and no writer is hurt."""

import os
import shutil
import time
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from deltalake import DeltaTable

from schemas.catalogue import TABLES
from schemas.errors import TroubleError
from streamer.care.compaction import compact
from streamer.care.files import verify_files
from streamer.care.history import history
from streamer.care.migration import migrate
from streamer.care.vacuum import superseded, vacuum
from streamer.sink.catalogue import ensure
from streamer.sink.delta import DeltaSink
from streamer.sink.verify import verify
from tests.fault_points import Killed
from tests.made_rows import IDENTITY, advance, batch, no_first, now_ms, stored
from tests.test_cli_catalog import run, said

NIGHT, MODEL = "2026-05-01", "forest-lsst-01234567"
PARTITIONS = [0, 1]


@pytest.fixture
def root(tmp_path: Path) -> Path:
    ensure(tmp_path / "catalogue")
    return tmp_path / "catalogue"


def sink_of(root: Path, point=lambda step: None) -> DeltaSink:
    return DeltaSink(root, IDENTITY, now_ms, point)


def night(root: Path, end: int = 30, sink: DeltaSink | None = None) -> None:
    sink = sink or sink_of(root)
    advance(sink, end, 6, sink.claim(PARTITIONS, no_first))


def age(root: Path, hours: float = 30) -> None:
    """Make every file, and what the log says of replaced ones, older."""
    then = time.time() - hours * 3600
    for path in root.rglob("*.parquet"):
        if "_delta_log" not in path.parts:
            os.utime(path, (then, then))


def data_files(root: Path) -> set[str]:
    found = (path.relative_to(root / "rows") for path in (root / "rows").rglob("*.parquet"))
    return {path.as_posix() for path in found if "_delta_log" not in path.parts}


def live_files(root: Path) -> set[str]:
    return {Path(uri).relative_to(root / "rows").as_posix() for uri in DeltaTable(str(root / "rows")).file_uris()}


# -- vacuum ------------------------------------------------------------------------------------------------------------------


def test_vacuum_takes_what_was_replaced_and_what_was_abandoned(root: Path) -> None:
    def dies(step: int) -> None:
        if step == 16:
            raise Killed

    with pytest.raises(Killed):
        night(root, sink=sink_of(root, dies))
    night(root)
    compact(root, NIGHT, MODEL)
    before = stored(root)
    assert len(data_files(root) - live_files(root)) == 3 + 5
    assert not any(swept.replaced or swept.staged for swept in vacuum(root))  # younger than a day
    age(root)
    tried = {swept.table: swept for swept in vacuum(root, keep_hours=0, dry_run=True)}["rows"]
    assert (len(tried.replaced), len(tried.staged), tried.waiting) == (5, 3, [])
    done = {swept.table: swept for swept in vacuum(root, keep_hours=0)}["rows"]
    assert done == tried
    assert data_files(root) == live_files(root)
    assert stored(root) == before
    assert verify(root).ok
    assert verify_files(root, checksums=True).ok
    assert not any(swept.replaced or swept.staged for swept in vacuum(root, keep_hours=0))


def sleeps_over_a_vacuum(root: Path, clean) -> None:
    """A writer stages its files, is suspended for a day while `clean` works, and commits them."""
    done = []

    def point(step: int) -> None:
        if step == 16 and not done:
            age(root)
            done.append(clean(root))

    sink = sink_of(root, point)
    sink.write(*batch(sink.claim(PARTITIONS, no_first), dict.fromkeys(PARTITIONS, 20)))
    assert sink.commit() == (dict.fromkeys(PARTITIONS, 20), set())
    assert done


def test_vacuum_spares_what_a_sleeping_writer_will_commit(root: Path) -> None:
    night(root, 12)
    sleeps_over_a_vacuum(root, lambda root: vacuum(root, keep_hours=0))
    night(root)
    assert verify(root).ok
    assert verify_files(root).ok


def test_a_full_vacuum_would_not(root: Path) -> None:
    """The proof can fail: Delta's own full vacuum loses that writer's rows, and the check of files names them."""

    def full(root: Path) -> None:
        table = DeltaTable(str(root / "rows"))
        table.vacuum(0, dry_run=False, enforce_retention_duration=False, full=True)

    sleeps_over_a_vacuum(root, full)
    report = verify_files(root)
    assert len(report.wrong) == 3
    assert all("cannot be opened" in line and "-p0-e1-" in line for line in report.wrong)


def test_a_fenced_writer_whose_files_were_swept_changes_nothing(root: Path) -> None:
    def heir_and_vacuum(root: Path) -> None:
        night(root)
        age(root)
        swept = vacuum(root, keep_hours=0)
        assert sum(len(table.staged) for table in swept) == 3

    done = []

    def point(step: int) -> None:
        if step == 15 and not done:
            done.append(heir_and_vacuum(root))

    sink = sink_of(root, point)
    sink.write(*batch(sink.claim(PARTITIONS, no_first), dict.fromkeys(PARTITIONS, 20)))
    assert sink.commit() == ({}, set(PARTITIONS))
    assert verify(root).ok
    assert verify_files(root).ok


def test_names_say_who_can_commit_them() -> None:
    tail = "0" * 32 + ".parquet"
    ids = {
        "slipher/0123456789abcdef/q8-e3-_p1/7/epoch": 5,
        "slipher/0123456789abcdef/q8-e3-_p1/7/replay-epoch": 2,
        "slipher/care/2026-05-01/m-1": 3,
    }
    here = "night=2026-05-01/model=m-1/"
    for path, gone in (
        (f"{here}0123456789abcdef-q8-e3-_p1-p7-e4-{tail}", True),
        (f"{here}0123456789abcdef-q8-e3-_p1-p7-e5-{tail}", False),
        (f"{here}0123456789abcdef-q8-e3-_p1-p7-r1-{tail}", True),
        (f"{here}0123456789abcdef-q8-e3-_p1-p7-r2-{tail}", False),
        (f"{here}0123456789abcdef-q8-e3-_p1-p8-e1-{tail}", False),  # never claimed here: not for us to say
        (f"{here}care-sorted37-n2-{tail}", True),
        (f"{here}care-sorted37-n3-{tail}", False),
        (f"night=2026-05-02/model=m-1/care-sorted37-n2-{tail}", False),
        (f"{here}part-00000-{tail}", False),
    ):
        assert superseded(path, ids) == gone, path


def test_the_scratch_of_a_killed_compaction_goes_after_a_day(root: Path) -> None:
    night(root)
    (root / ".compacting-x").mkdir()
    (root / ".compacting-x" / "000001.arrow").write_bytes(b"x")
    vacuum(root)
    assert (root / ".compacting-x").exists()
    then = time.time() - 30 * 3600
    for path in (root / ".compacting-x" / "000001.arrow", root / ".compacting-x"):
        os.utime(path, (then, then))
    vacuum(root)
    assert not (root / ".compacting-x").exists()


# -- files -------------------------------------------------------------------------------------------------------------------


def damage(path: Path, how: str) -> None:
    data = bytearray(path.read_bytes())
    if how == "gone":
        path.unlink()
    elif how == "cut":
        path.write_bytes(data[:-100])
    elif how == "other rows":
        table = pq.read_table(path, partitioning=None)
        pq.write_table(table.slice(1), path)
    elif how == "a flipped bit":
        data[len(data) // 4] ^= 1
        path.write_bytes(data)


@pytest.mark.parametrize(
    ("how", "deep", "text"),
    [
        ("gone", False, "cannot be opened"),
        ("cut", False, "bytes, the log says"),
        ("other rows", False, "the log says"),
        ("a flipped bit", True, "cannot be read"),
    ],
)
def test_the_check_names_the_wrong_file(root: Path, how: str, deep: bool, text: str) -> None:
    night(root)
    assert verify_files(root, checksums=True).ok
    path = Path(DeltaTable(str(root / "rows")).file_uris()[3])
    damage(path, how)
    report = verify_files(root, checksums=deep)
    assert len(report.wrong) == 1
    assert path.name in report.wrong[0]
    assert text in report.wrong[0]


def test_a_bit_anywhere_in_the_pages_is_found(root: Path) -> None:
    night(root, 6)
    path = Path(DeltaTable(str(root / "rows")).file_uris()[0])
    data = path.read_bytes()
    about = pq.ParquetFile(path).metadata.row_group(0)
    spans = []
    for k in range(about.num_columns):
        chunk = about.column(k)
        begin = chunk.data_page_offset if chunk.dictionary_page_offset is None else chunk.dictionary_page_offset
        spans.append((begin, begin + chunk.total_compressed_size))
    for begin, end in spans[::4]:
        broken = bytearray(data)
        broken[end - 1] ^= 0x10
        path.write_bytes(broken)
        assert len(verify_files(root, checksums=True).wrong) == 1
        assert verify_files(root).ok  # the short check does not look
        assert begin < end
    path.write_bytes(data)
    assert verify_files(root, checksums=True).ok


def test_statistics_that_would_hide_rows_are_found(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import streamer.sink.staging as staging

    honest = staging.statistics

    def wrong(table):
        about = honest(table)
        if "object_id" in about["maxValues"]:
            about["maxValues"]["object_id"] = about["minValues"]["object_id"]
        return about

    monkeypatch.setattr(staging, "statistics", wrong)
    night(root, 6)
    report = verify_files(root, checksums=True)
    assert report.wrong
    assert all("in object_id is outside of the log's statistics" in line for line in report.wrong)


def test_a_torn_log_entry_is_named(root: Path) -> None:
    night(root, 6)
    last = max((root / "rows" / "_delta_log").glob("*.json"))
    last.write_bytes(last.read_bytes()[:50])
    report = verify_files(root)
    assert [line.split(":")[0] for line in report.wrong] == ["rows"]


# -- history and migration -----------------------------------------------------------------------------------------------------


def test_history_tells_who_committed_what(root: Path) -> None:
    sink = sink_of(root)
    advance(sink, 20, 20, sink.claim(PARTITIONS, no_first))
    compact(root, NIGHT, MODEL)
    told = history(root, 50)
    rows = [commit for commit in told if commit.table == "rows"]
    assert [commit.what for commit in rows] == ["compact", "care lease", "rows", "claim", "create table"]
    assert rows[0].who == f"{NIGHT} {MODEL}"
    assert (rows[0].added, rows[0].removed) == (1, 1)
    assert rows[2].rows == len(stored(root)[0])
    assert rows[2].detail == "partitions 0, 1 to 20"
    assert rows[3].detail == "partitions 0, 1 epoch 1"
    assert [commit.what for commit in told if commit.table == "exceptions"] == ["exceptions", "claim", "create table"]
    assert [commit.version for commit in history(root, 2, "rows")] == [rows[0].version, rows[1].version]


def test_migration_under_a_live_writer(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A worker of the older version is at its commit when the column comes: it goes on, and so does one of this version."""
    shutil.rmtree(root)
    old = TABLES["rows"].remove(TABLES["rows"].get_field_index("pdf_u8"))
    with monkeypatch.context() as older:
        older.setitem(TABLES, "rows", old)
        ensure(root)
    done = []

    def point(step: int) -> None:
        if step == 16 and not done:
            done.append(migrate(root))

    sink = sink_of(root, point)
    messages, output = batch(sink.claim(PARTITIONS, no_first), dict.fromkeys(PARTITIONS, 20))
    sink.write(messages, output._replace(rows=output.rows.drop_columns(["pdf_u8"])))
    assert migrate(root, dry_run=True) == {"rows": ["pdf_u8"]}
    sink.commit()
    assert done == [{"rows": ["pdf_u8"]}]
    assert migrate(root) == {}
    night(root)
    compact(root, NIGHT, MODEL)
    assert verify(root).ok
    table = DeltaTable(str(root / "rows")).to_pyarrow_table()
    assert table["pdf_u8"].null_count == len(table)


# -- the commands --------------------------------------------------------------------------------------------------------------


def test_the_commands_say_what_they_do(root: Path) -> None:
    night(root)
    assert "Nothing is missing" in said("catalog", "migrate", root)
    assert run("catalog", "compact", root, "--night", NIGHT, "--hours", 1e6).exit_code == 1
    assert "is not closed before" in str(run("catalog", "compact", root, "--night", NIGHT, "--hours", 1e6).exception)
    assert "in 5 files" in run("catalog", "compact", root, "--dry-run").output
    text = run("catalog", "compact", root).output
    assert text.count("5 files are 1") == 3
    assert "Nothing to compact" in said("catalog", "compact", root)
    assert "abandoned" in run("catalog", "vacuum", root, "--keep", 0, "--dry-run").output
    assert "would go" in run("catalog", "vacuum", root, "--keep", 0, "--dry-run").output
    assert "are free" in run("catalog", "vacuum", root, "--keep", 0).output
    assert "compact" in said("catalog", "history", root, "-n", 8, "--table", "rows")
    whole = run("catalog", "verify", root, "--checksums")
    assert whole.exit_code == 0
    assert "Every file is what the log says" in whole.output
    Path(DeltaTable(str(root / "rows")).file_uris()[0]).write_bytes(b"PAR1")
    broken = run("catalog", "verify", root)
    assert broken.exit_code == 3
    assert "has 4 bytes" in broken.output


def test_a_disk_that_refuses_is_trouble(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import streamer.care.compaction as compaction

    def full(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    night(root)
    before, files = stored(root), data_files(root)
    monkeypatch.setattr(compaction, "landed", full)
    with pytest.raises(TroubleError, match="No space left"):
        compact(root, NIGHT, MODEL)
    assert stored(root) == before
    assert data_files(root) == files
