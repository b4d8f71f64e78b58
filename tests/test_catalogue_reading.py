"""The read side of a catalogue: what it tells, what it opens, and that it never reads what no commit names."""

import shutil
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv
import pyarrow.parquet as pq
import pytest

from schemas.catalogue import ROWS
from schemas.errors import UserError
from streamer.catalogue import open_catalogue
from streamer.export import export, format_of
from tests.catalogue_builder import GRID, NIGHTS, Built, build

FOREST, IMAGE = "forest-lsst-01234567", "image-lsst-fedcba98"


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Built:
    return build(tmp_path_factory.mktemp("reading") / "catalogue")


def test_what_is_no_catalogue_is_said_to_be_none(tmp_path: Path, built: Built) -> None:
    with pytest.raises(UserError, match="no such directory"):
        open_catalogue(tmp_path / "nothing")
    with pytest.raises(UserError, match="rows/, exceptions/, models/, topics/ are missing"):
        open_catalogue(tmp_path)
    copy = shutil.copytree(built.path, tmp_path / "copy")
    shutil.rmtree(copy / "models")
    with pytest.raises(UserError, match="here models/ is missing"):
        open_catalogue(copy)


def test_info_counts_what_was_written(built: Built) -> None:
    info = open_catalogue(built.path).info()
    assert info.rows == len(built.rows) == 1200
    assert info.nights == list(NIGHTS)
    assert info.models == [FOREST, IMAGE]
    assert info.files == 12
    assert info.size == sum(path.stat().st_size for path in map(Path, open_catalogue(built.path).file_uris()))
    assert info.newest == pc.max(built.rows["ingest_time"]).as_py()
    assert info.counts.select(["night", "model", "rows"]).to_pylist() == [
        {"night": night, "model": model, "rows": 200} for night in NIGHTS for model in (FOREST, IMAGE)
    ]
    by_reason = {row["reason"]: (row["entries"], row["offsets"]) for row in info.exceptions.to_pylist()}
    assert by_reason["RETENTION_GAP"] == (1, 50)
    assert by_reason["CORRUPT"] == (1, 1)


def test_an_empty_catalogue_has_nothing_and_says_so(tmp_path: Path) -> None:
    build(tmp_path, nights=())
    catalogue = open_catalogue(tmp_path)
    info = catalogue.info()
    assert (info.rows, info.files, info.size, info.nights, info.newest) == (0, 0, 0, [], None)
    assert len(catalogue.head(5)) == len(catalogue.find("x")) == 0
    assert catalogue.scan().read_all().num_rows == 0


def test_orphan_files_are_never_read(tmp_path: Path, built: Built) -> None:
    copy = shutil.copytree(built.path, tmp_path / "copy")
    orphan = Path(open_catalogue(copy).file_uris()[0])
    shutil.copy(orphan, orphan.with_name("orphan.parquet"))
    catalogue = open_catalogue(copy)
    assert catalogue.scan(["object_id"]).read_all().num_rows == catalogue.info().rows == 1200
    assert not any(uri.endswith("orphan.parquet") for uri in catalogue.file_uris())
    assert (
        pc.max(
            catalogue.scan(["object_id", "model"])
            .read_all()
            .group_by(["object_id", "model"])
            .aggregate([([], "count_all")])["count_all"]
        ).as_py()
        == 1
    )


def test_head_is_the_newest_rows(built: Built) -> None:
    expected = built.rows.sort_by([("ingest_time", "descending")])
    catalogue = open_catalogue(built.path)
    head = catalogue.head(150)
    assert head["ingest_time"].to_pylist() == expected["ingest_time"].slice(0, 150).to_pylist()
    assert head.column_names == ROWS.names
    some = catalogue.head(3, model=FOREST, night=NIGHTS[0], columns=["object_id", "z_median"])
    assert some.column_names == ["object_id", "z_median"]
    assert some["object_id"].to_pylist() == ["0000000199", "0000000198", "0000000197"]
    with pytest.raises(UserError, match="no column redshift"):
        catalogue.head(1, columns=["redshift"])


def test_find_gives_every_row_and_opens_only_files_that_may_hold_it(tmp_path: Path, built: Built) -> None:
    copy = shutil.copytree(built.path, tmp_path / "copy")
    catalogue = open_catalogue(copy)
    wanted = "0100000150"
    files = catalogue.files().to_pylist()
    for file in files:
        if not file["first"] <= wanted <= file["last"]:
            (copy / "rows" / file["path"]).unlink()
    found = catalogue.find(wanted)
    expected = built.rows.filter(pc.equal(built.rows["object_id"], wanted))
    assert found["model"].to_pylist() == [IMAGE, FOREST]  # newest first
    np.testing.assert_array_equal(np.sort(found["z_median"].to_numpy()), np.sort(expected["z_median"].to_numpy()))
    assert catalogue.find(wanted, model=FOREST)["model"].to_pylist() == [FOREST]
    assert sum(path.exists() for path in (copy / "rows" / file["path"] for file in files)) == 2


def test_scan_streams_columns_of_a_partition(built: Built) -> None:
    catalogue = open_catalogue(built.path)
    reader = catalogue.scan(["pdf", "object_id"], NIGHTS[1], IMAGE, batch_rows=64)
    batches = list(reader)
    assert reader.schema.names == ["pdf", "object_id"]
    assert sum(map(len, batches)) == 200
    assert max(map(len, batches)) <= 64
    assert sum(batch["pdf"].null_count for batch in batches) == 8
    assert 0 < catalogue.scan(["object_id"], about=150).read_all().num_rows < 400


def test_exceptions_keep_their_order_and_can_be_narrowed(built: Built) -> None:
    catalogue = open_catalogue(built.path)
    listed = catalogue.exceptions()
    assert listed["offset_start"].to_pylist() == [600, 601, 602, 603, 604, 700]
    assert catalogue.exceptions(["CORRUPT"], ["reason", "payload"]).column_names == ["reason", "payload"]
    assert catalogue.exceptions(at=(0, 749))["reason"].to_pylist() == ["RETENTION_GAP"]
    assert len(catalogue.exceptions(at=(1, 749))) == 0


def test_models_have_grids(built: Built) -> None:
    catalogue = open_catalogue(built.path)
    np.testing.assert_allclose(catalogue.grid(FOREST), GRID)
    np.testing.assert_allclose(catalogue.grid("fedcba9876543210"), GRID)
    assert catalogue.topics()["topic"].to_pylist() == ["galaxies", "galaxies"]
    with pytest.raises(UserError, match="there are forest-lsst-01234567, image-lsst-fedcba98"):
        catalogue.grid("cnn")


def test_duckdb_reads_the_live_files(built: Built) -> None:
    import duckdb

    uris = open_catalogue(built.path).file_uris()
    with duckdb.connect() as engine:
        (count,) = engine.execute(
            "select count(*) from read_parquet($1, hive_partitioning = true)", [uris]
        ).fetchone() or (0,)
        pdf, night = engine.execute(
            "select pdf, night::varchar from read_parquet($1, hive_partitioning = true) where object_id = $2 and model = $3",
            [uris, "0000000001", FOREST],
        ).fetchone() or ([], "")
    assert count == 1200
    assert night == NIGHTS[0]
    row = built.rows.filter(
        pc.and_(pc.equal(built.rows["object_id"], "0000000001"), pc.equal(built.rows["model"], FOREST))
    )
    np.testing.assert_array_equal(np.array(pdf, np.float32), row["pdf"][0].values.to_numpy())


def test_parquet_export_keeps_units_grids_and_encoding(tmp_path: Path, built: Built) -> None:
    out = tmp_path / "night.parquet"
    done = export(open_catalogue(built.path), out, format_of(out), night=NIGHTS[0])
    assert (done.rows, done.without_pdf, done.paths) == (400, 0, [out])
    table = pq.read_table(out)
    assert len(table) == 400
    assert table.schema.field("ra").metadata[b"unit"] == b"deg"
    assert table.schema.field("z_best").metadata[b"ucd"] == b"src.redshift.phot"
    assert b"slipher.z_grids" in table.schema.metadata
    group = pq.ParquetFile(out).metadata.row_group(0)
    encodings = {group.column(k).path_in_schema: group.column(k).encodings for k in range(group.num_columns)}
    assert "BYTE_STREAM_SPLIT" in encodings["pdf.list.element"]
    assert [path.name for path in tmp_path.iterdir()] == ["night.parquet"]
    with pytest.raises(UserError, match="--force"):
        export(open_catalogue(built.path), out, "parquet")


def test_csv_export_has_no_pdf(tmp_path: Path, built: Built) -> None:
    out = tmp_path / "night.csv"
    assert export(open_catalogue(built.path), out, format_of(out), model=FOREST).rows == 600
    table = pyarrow.csv.read_csv(
        out, convert_options=pyarrow.csv.ConvertOptions(column_types={"object_id": pa.string()})
    )
    assert "pdf" not in table.column_names
    assert len(table) == 600
    with pytest.raises(UserError, match="no place for PDFs"):
        export(open_catalogue(built.path), tmp_path / "b.csv", "csv", columns=["object_id", "pdf"])


def test_qp_export_is_three_files_that_agree(tmp_path: Path, built: Built) -> None:
    done = export(open_catalogue(built.path), tmp_path / "X.pq", "qp", model=FOREST)
    assert (done.rows, done.without_pdf) == (576, 24)
    assert [path.name for path in done.paths] == ["Xmeta.pq", "Xdata.pq", "Xancil.pq"]
    meta, data, beside = (pq.read_table(path) for path in done.paths)
    assert meta.select(["pdf_name", "pdf_version"]).to_pylist() == [{"pdf_name": "interp", "pdf_version": 0}]
    np.testing.assert_allclose(meta["xvals"][0].values.to_numpy(), GRID)
    assert len(data) == len(beside) == 576
    k = 100
    row = built.rows.filter(
        pc.and_(pc.equal(built.rows["object_id"], beside["object_id"][k]), pc.equal(built.rows["model"], FOREST))
    )
    np.testing.assert_array_equal(data["yvals"][k].values.to_numpy(), row["pdf"][0].values.to_numpy())


def test_a_failed_export_leaves_nothing(tmp_path: Path, built: Built) -> None:
    with pytest.raises(UserError, match="has no rows of 2020-01-01"):
        export(open_catalogue(built.path), tmp_path / "a.parquet", "parquet", night="2020-01-01")
    with pytest.raises(UserError, match="There is no format fits"):
        export(open_catalogue(built.path), tmp_path / "a.fits", "fits")
    assert list(tmp_path.iterdir()) == []


def test_a_qp_ensemble_always_says_whose_pdfs_it_holds(tmp_path: Path, built: Built) -> None:
    done = export(open_catalogue(built.path), tmp_path / "X.pq", "qp", columns=["pdf", "z_best"])
    beside = pq.read_table(done.paths[2])
    assert beside.column_names == ["object_id", "z_best"]
    assert len(beside) == done.rows == 1152
