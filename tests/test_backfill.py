"""Files at rest into a catalogue, end to end: every record once, whoever is killed, and nothing twice."""

import contextlib
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from deltalake import DeltaTable

from schemas.encoder import encode_avro
from schemas.errors import IntegrityError, TroubleError, UserError
from streamer.backfill import manifest as manifests
from streamer.backfill.crew import Crew, Done
from streamer.backfill.plan import Backfill, keep, prepare
from streamer.backfill.worker import Overtaken
from streamer.catalogue import Catalogue
from streamer.lag.readers import durable_offsets
from streamer.settings import backfill_settings
from streamer.sink.verify import verify
from streamer.source import files as source
from streamer.tally import Progress
from tests.archives import GALAXY, candids, singles, tarball, ztf
from tests.made_packets import ZTF, framed, messages, ztf_alert
from tests.made_rows import stored
from tests.small_sky import sky
from tests.streaming import small_model


def night(folder: Path) -> Path:
    """Alerts 0 to 99 in files of every form, and six things that are none."""
    folder.mkdir(parents=True)
    (folder / "a.avro").write_bytes(ztf(0, 40, "deflate", block=900))
    tarball(folder / "b.tar.gz", {**singles(40, 70), "readme.txt": b"these are alerts"})
    for name, content in singles(70, 90).items():
        (folder / name).write_bytes(content)
    torn = ztf(90, 100, block=1)  # a block each
    (folder / "c.avro").write_bytes(torn[:-30])
    (folder / "d.txt").write_text("hello")
    (folder / "e.avro").write_bytes(framed(ZTF, ztf_alert(1), 5))
    (folder / "f.tar.gz").write_bytes((folder / "b.tar.gz").read_bytes()[:40])
    (folder / "g.csv").write_text("a,b\n1,2\n")
    return folder


GOOD = candids(0, 99)


@pytest.fixture(autouse=True)
def small_shards(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(manifests, "SHARD_MESSAGES", 25)
    monkeypatch.setattr(source, "BATCH_MESSAGES", 10)


def planned(catalog: Path, *files: Path, name: str | None = None, **more: Any) -> Backfill:
    given = {"model": small_model("ps1"), "alerts": "ztf"} | more
    return prepare(backfill_settings(catalog=catalog, **given), files, name)


def fill(catalog: Path, *files: Path, **more: Any) -> Done:
    """All of it, in this process."""
    plan = planned(catalog, *files, **more)
    keep(plan)
    return Crew(plan).run()


def command(catalog: Path, *words: object, module: str = "streamer", first: str = "backfill") -> list[str]:
    base = [sys.executable, "-m", module, first, "--catalog", str(catalog), "--alerts", "ztf"]
    return [*base, "--model", str(small_model("ps1")), *map(str, words)]


def assert_all_there(catalog: Path) -> None:
    """The alerts of ``night``, each once, and what is none of them in the ledger; proven."""
    report = verify(catalog)
    assert report.ok, report.lines()
    rows = DeltaTable(str(catalog / "rows")).to_pyarrow_table()
    assert sorted(rows["alert_id"].to_pylist()) == sorted(GOOD)
    assert set(rows["cluster_id"].to_pylist()) == {"files"}
    assert len(listed(catalog)) == 6


def listed(catalog: Path) -> list[dict[str, Any]]:
    ledger = DeltaTable(str(catalog / "exceptions")).to_pyarrow_table()
    found: list[dict[str, Any]] = ledger.sort_by(
        [("kafka_partition", "ascending"), ("offset_start", "ascending")]
    ).to_pylist()
    return found


def versions(catalog: Path) -> dict[str, int]:
    return {
        name: DeltaTable(str(catalog / name)).version()
        for name in ("rows", "exceptions", "topics", "models", "manifests")
    }


def test_a_night_in_every_form(tmp_path: Path) -> None:
    there = night(tmp_path / "night")
    done = fill(tmp_path / "catalog", there)
    assert (done.progress.rows, done.progress.messages, done.progress.refused) == (99, 105, 6)
    assert_all_there(tmp_path / "catalog")
    found = [(entry["reason"], entry["text"]) for entry in listed(tmp_path / "catalog")]
    expected = [
        ("BAD_FRAMING", "night/b.tar.gz, record 30 (readme.txt): starts with bytes 74 68 65 73"),
        ("CORRUPT", "night/c.avro, record 9: the file ends at byte"),
        ("BAD_FRAMING", "night/d.txt, record 0: starts with bytes"),
        ("UNKNOWN_SCHEMA", "night/e.avro, record 0: no schema has the id 5"),
        ("CORRUPT", "night/f.tar.gz, record 0: the tarball cannot be read on after its begin"),
        ("WRONG_SURVEY", "night/g.csv, record 0: a table of galaxies, where packets of ztf are read"),
    ]
    assert [reason for reason, _ in found] == [reason for reason, _ in expected]
    for (_, text), (_, begin) in zip(found, expected, strict=True):
        assert text.startswith(begin)
    assert durable_offsets(Catalogue(tmp_path / "catalog")) == {}  # no broker is asked for the lag of files
    rows = DeltaTable(str(tmp_path / "catalog" / "rows")).to_pyarrow_table()
    manifest = planned(tmp_path / "catalog", there).archive.manifest
    for row in rows.select(["kafka_partition", "kafka_offset", "alert_id"]).to_pylist():
        place = manifest.where(row["kafka_partition"], row["kafka_offset"])
        number = int(row["alert_id"]) - 3_000_000_000_000
        if 70 <= number < 90:
            assert place == (f"night/{row['alert_id']}.avro", 0)
        elif number < 40:
            assert place == ("night/a.avro", number)
    assert rows["night"].to_pylist()[0].startswith("2025-") or rows["night"].to_pylist()[0].startswith("2026-")
    assert rows["kafka_timestamp"].null_count == 99  # a file has no time of its messages


def test_a_second_run_adds_nothing(tmp_path: Path) -> None:
    there = night(tmp_path / "night")
    fill(tmp_path / "catalog", there)
    before = versions(tmp_path / "catalog")
    again = planned(tmp_path / "catalog", there)
    assert not again.new
    assert not again.left
    done = fill(tmp_path / "catalog", there)
    other = fill(tmp_path / "catalog", there, name="other")  # the same files: only their name is new
    assert done.progress == other.progress == Progress()
    after = versions(tmp_path / "catalog")
    assert {name for name in before if after[name] != before[name]} == {"topics", "manifests"}
    assert_all_there(tmp_path / "catalog")


def test_a_new_model_stands_beside_the_old_one(tmp_path: Path) -> None:
    there = night(tmp_path / "night")
    fill(tmp_path / "catalog", there)
    fill(tmp_path / "catalog", there, pdf="compact")
    report = verify(tmp_path / "catalog")
    assert report.ok
    assert report.rows == 2 * 99


def test_rows_are_those_of_a_stream_with_the_same_payloads(tmp_path: Path) -> None:
    from consumers.rows import Provenance, RowBuilder
    from consumers.tree import TreeWorker
    from streamer.backfill.plan import recipe
    from streamer.run import now_ms

    galaxies, _ = sky(120, mjd=61_000.0)
    columns: dict[str, Any] = {
        "object_id": galaxies.object_id,
        "ra": galaxies.ra,
        "dec": galaxies.dec,
        "mjd": galaxies.mjd,
    }
    columns |= {"ebv": galaxies.ebv}
    for b, band in enumerate("ugrizy"):
        columns |= {f"flux_{band}": galaxies.flux[:, b], f"flux_err_{band}": galaxies.flux_err[:, b]}
    pq.write_table(pa.table(columns), tmp_path / "table.parquet", row_group_size=50)
    native = {"model": small_model(), "alerts": "native"}
    fill(tmp_path / "catalog", tmp_path / "table.parquet", **native)
    rows = DeltaTable(str(tmp_path / "catalog" / "rows")).to_pyarrow_table().sort_by("object_id")

    made = recipe(backfill_settings(catalog=tmp_path, **native))
    origin = Provenance(made.processing, "", "", "", "")
    worker = TreeWorker(made.alerts.decoder(), made.estimator, RowBuilder(origin, made.alerts.night, now_ms))
    seen = galaxies.band_state != 0  # a table cannot say "not observed" of a single row: what is NaN was looked for
    galaxies.band_state[~seen] = 2
    expected = worker.process(messages(encode_avro(galaxies, "lsst"))).rows.sort_by("object_id")
    same = [
        "night",
        "model",
        "object_id",
        "ra",
        "dec",
        "mjd",
        "ebv",
        "z_best",
        "flags",
        "pdf",
        "band_mask",
        "processing_id",
    ]
    assert rows.select(same).to_pylist() == expected.select(same).to_pylist()


def test_bare_packets_have_the_processing_of_a_run_with_the_same_options(tmp_path: Path) -> None:
    import io
    import json

    import fastavro

    from models.estimator import load
    from streamer.alerts import alerts
    from streamer.run import identity_of
    from streamer.settings import run_settings

    (tmp_path / "ztf.avsc").write_text(json.dumps(ZTF))
    (tmp_path / "files").mkdir()
    for k in range(5):
        out = io.BytesIO()
        fastavro.schemaless_writer(out, ZTF, ztf_alert(k, **GALAXY))
        (tmp_path / "files" / f"{k}.bin").write_bytes(out.getvalue())
    (tmp_path / "files" / "more.avro").write_bytes(ztf(5, 9))
    bare = {"framing": "avro", "schema_file": [str(tmp_path / "ztf.avsc")]}
    fill(tmp_path / "catalog", tmp_path / "files", **bare)
    rows = DeltaTable(str(tmp_path / "catalog" / "rows")).to_pyarrow_table()
    assert set(rows["alert_id"].to_pylist()) == candids(0, 9)
    run = run_settings(brokers="x", topic="y", catalog=tmp_path, model=small_model("ps1"), alerts="ztf", **bare)
    estimator = load(run.model)
    assert set(rows["processing_id"].to_pylist()) == {identity_of(run, estimator, alerts(run, estimator)).id}
    with pytest.raises(UserError, match="--framing arrow"):
        planned(tmp_path / "catalog", tmp_path / "files", framing="arrow")


@pytest.mark.parametrize("point", ["12:2", "17:3"])
def test_killed_and_started_again(tmp_path: Path, point: str) -> None:
    """By SIGKILL: between a commit of exceptions and that of rows, and right after one of rows."""
    there, catalog = night(tmp_path / "night"), tmp_path / "catalog"
    keep(planned(catalog, there))  # with shards of few messages
    words = command(catalog, there, "--commit-rows", 10, module="tests.faulty_backfill", first=point)
    assert subprocess.run(words, capture_output=True, timeout=120, check=False).returncode == -signal.SIGKILL
    left = planned(catalog, there)
    assert not left.new
    assert len(left.left) > 0
    fill(catalog, there)
    assert_all_there(catalog)


def test_stopped_by_ctrl_c_what_was_read_is_durable(tmp_path: Path) -> None:
    there, catalog = night(tmp_path / "night"), tmp_path / "catalog"
    plan = planned(catalog, there, commit_rows=10)
    keep(plan)
    crew = Crew(plan, lambda progress: crew.stop())
    done = crew.run()
    assert 0 < done.progress.messages < 105
    assert planned(catalog, there).durable >= done.progress.messages
    fill(catalog, there)
    assert_all_there(catalog)


def test_a_file_that_changed_stops_its_shard_and_no_other(tmp_path: Path) -> None:
    there, catalog = night(tmp_path / "night"), tmp_path / "catalog"
    keep(planned(catalog, there))
    data = (there / "a.avro").read_bytes()
    (there / "a.avro").write_bytes(data[:-1] + b"x")
    done = subprocess.run(command(catalog, there, "--quiet"), capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 3, done.stderr
    assert "a.avro changed after its manifest was frozen." in done.stderr
    assert "so far: run it again" in done.stdout
    assert verify(catalog).ok
    rows = DeltaTable(str(catalog / "rows")).to_pyarrow_table()
    assert candids(40, 99) <= set(rows["alert_id"].to_pylist()) < GOOD
    (there / "a.avro").write_bytes(data)  # brought back
    fill(catalog, there)
    assert_all_there(catalog)


def test_a_file_that_changes_while_it_is_read(tmp_path: Path) -> None:
    (tmp_path / "a.avro").write_bytes(ztf(0, 100, block=900))
    plan = planned(tmp_path / "catalog", tmp_path, name="n", commit_rows=10)
    keep(plan)

    def spoil(progress: Progress) -> None:
        os.utime(tmp_path / "a.avro")

    done = Crew(plan, spoil).run()
    assert len(done.stopped) == 1
    assert 0 < done.progress.messages < 100
    assert done.progress.messages == len(stored(tmp_path / "catalog")[0])  # nothing of what was read after the change
    assert verify(tmp_path / "catalog").ok


def test_other_files_of_the_same_name_are_refused(tmp_path: Path) -> None:
    there = night(tmp_path / "night")
    fill(tmp_path / "catalog", there)
    (there / "h.avro").write_bytes(ztf(200, 203))
    (there / "d.txt").unlink()
    with pytest.raises(UserError, match=r"1 are new \(night/h.avro\) and 1 are missing \(night/d.txt\)"):
        planned(tmp_path / "catalog", there)
    assert planned(tmp_path / "catalog", there, name="night-2").new
    with pytest.raises(UserError, match="--name a/b"):
        planned(tmp_path / "catalog", there, name="a/b")
    keep(planned(tmp_path / "catalog", there, name="night-2"))
    with pytest.raises(IntegrityError, match="a moment ago"):
        keep(planned(tmp_path / "catalog", there / "a.avro", name="n")._replace(name="night-2"))


def test_a_second_backfill_takes_over_and_the_first_one_stops(tmp_path: Path) -> None:
    there, catalog = night(tmp_path / "night"), tmp_path / "catalog"
    plan = planned(catalog, there, commit_rows=10)
    keep(plan)
    second: list[Done] = []

    def overtake(progress: Progress) -> None:
        if not second:
            second.append(fill(catalog, there))

    with pytest.raises(Overtaken, match="Another backfill of the same files"):
        Crew(plan, overtake).run()
    assert second[0].progress.messages < 105
    assert_all_there(catalog)


def test_two_workers_one_of_them_killed(tmp_path: Path) -> None:
    there, catalog = night(tmp_path / "night"), tmp_path / "catalog"
    plan = planned(catalog, there, workers=2, commit_rows=5)
    keep(plan)
    killed: list[int] = []

    def kill(progress: Progress) -> None:
        if not killed:
            killed.append(crew._processes[0].pid)
            os.kill(killed[0], signal.SIGKILL)

    crew = Crew(plan, kill)
    with contextlib.suppress(TroubleError):  # it may have been at its end
        crew.run()
    assert verify(catalog).ok
    again = Crew(planned(catalog, there, workers=2)).run()
    assert not again.stopped
    assert_all_there(catalog)


def test_dry_run_shows_the_manifest_and_writes_nothing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    from streamer.cli.main import build

    monkeypatch.setenv("COLUMNS", "150")
    there = night(tmp_path / "night")
    words = command(tmp_path / "catalog", there, "--dry-run", "--quiet")[3:]
    monkeypatch.setattr(manifests, "SHARD_MESSAGES", 1000)
    monkeypatch.setattr(sys, "argv", ["slipher", *words])
    build()(words, standalone_mode=False)
    said = capsys.readouterr().out
    assert "night: 105 messages in 27 files" in said
    assert "night/a.avro" in said
    assert "60-90" in said  # offsets of the tarball: after 20 single packets and 40 of the container
    assert not (tmp_path / "catalog").exists()


@pytest.fixture(autouse=True)
def no_children_are_left() -> Iterator[None]:
    yield
    import multiprocessing

    assert not multiprocessing.active_children()
