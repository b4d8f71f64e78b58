"""The two forms of a stored PDF: kernels against plain loops, columns there and back, tables of before there were two."""

import io
import json
import shutil
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from deltalake import DeltaTable
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from rich.console import Console

from consumers.pdf_column import FLOOR, SETTINGS, pdf_columns, plain_column, quantise, restore, round_pdfs
from models import metrics
from schemas.catalogue import ROW_PARTITIONS, ROWS
from schemas.errors import IntegrityError, UserError
from streamer.catalogue import open_catalogue
from streamer.cli.object_view import object_view
from streamer.demo.figures import night_figures
from streamer.export import export
from streamer.night_data import read_night
from streamer.object_rows import object_rows
from streamer.settings import run_settings
from streamer.sink.catalogue import ensure
from tests import made_rows
from tests.catalogue_builder import GRID, MODELS_HERE, NIGHTS, Built, append, build, compacted, gaussians, night_rows

FOREST, IMAGE = "forest-lsst-01234567", "image-lsst-fedcba98"

PDFS = hnp.arrays(
    np.float32,
    hnp.array_shapes(min_dims=2, max_dims=2, min_side=3, max_side=9),
    elements=st.floats(0, 64, width=32, allow_subnormal=False) | st.sampled_from([0.0, 1e-7, 0.5, 1.0]),
).filter(lambda pdf: (pdf.max(axis=1) > 1e-6).all())


@given(pdf=PDFS)
@settings(max_examples=200, deadline=None)
def test_a_quantised_pdf_is_its_naive_twin(pdf: np.ndarray) -> None:
    stored = np.empty(pdf.shape, np.uint8)
    quantise(pdf, stored)
    for row, got in zip(pdf.astype(np.float64), stored, strict=True):
        exact = 255 * row / row.max()
        assert got.max() == 255
        for value, whole in zip(exact, got, strict=True):
            assert abs(value - whole) <= 0.5 + 3e-5  # float32 may take the other neighbour where two are as near
            assert (whole == 0) == (value < 0.5) or abs(value - 0.5) < 3e-5


@given(pdf=PDFS, step=st.floats(1e-3, 0.5))
@settings(max_examples=200, deadline=None)
def test_a_restored_pdf_is_its_naive_twin_and_integrates_to_1(pdf: np.ndarray, step: float) -> None:
    stored = np.empty(pdf.shape, np.uint8)
    quantise(pdf, stored)
    got = np.empty(pdf.shape, np.float32)
    restore(stored, step, got)
    for row, back in zip(stored.astype(float), got, strict=True):
        np.testing.assert_allclose(back, row / np.trapezoid(row, dx=step), rtol=1e-6)
        assert np.trapezoid(back.astype(float), dx=step) == pytest.approx(1, rel=1e-6)


@given(pdf=PDFS)
@settings(max_examples=200, deadline=None)
def test_a_rounded_pdf_is_its_naive_twin(pdf: np.ndarray) -> None:
    got = pdf.copy()
    round_pdfs(got)
    for row, back in zip(pdf, got, strict=True):
        for value, rounded in zip(row, back, strict=True):
            if value < row.max() * FLOOR:
                assert rounded == 0
                continue
            mantissa, exponent = np.frexp(np.float64(value))
            assert abs(np.frexp(np.float64(rounded))[0] * 2**13 % 1) == 0  # 12 bits and the leading one
            assert abs(float(rounded) - np.ldexp(mantissa, exponent)) <= np.ldexp(1.0, int(exponent) - 14)


@given(pdf=PDFS, absent=st.lists(st.booleans(), min_size=9, max_size=9))
@settings(max_examples=100, deadline=None)
def test_rounding_closes_the_gaps_of_rows_without_a_pdf(pdf: np.ndarray, absent: list[bool]) -> None:
    there = ~np.array(absent[: len(pdf)])
    expected = pdf[there].copy()
    round_pdfs(expected)
    pdf[~there] = np.nan
    held = round_pdfs(pdf)
    assert held == there.sum()
    np.testing.assert_array_equal(pdf[:held], expected)


def some(n: int, seed: int = 1) -> tuple[np.ndarray, np.ndarray]:
    """(redshifts, PDFs that are calibrated for them)."""
    rng = np.random.default_rng(seed)
    z = rng.uniform(0.2, 2.5, n)
    width = rng.uniform(0.015, 0.2, n)
    pdf = 0.8 * gaussians(z + width * rng.standard_normal(n), width) + 0.2 * gaussians(z + 0.3, 2 * width)
    return z, (pdf / np.trapezoid(pdf, GRID, axis=1)[:, None]).astype(np.float32)


@pytest.mark.parametrize("form", ["plain", "compact"])
@pytest.mark.parametrize("absent", [[], [0], [3, 4, 8], list(range(9))])
def test_columns_there_and_back(form: str, absent: list[int]) -> None:
    _, pdf = some(9)
    pdf[absent] = np.nan
    columns = pdf_columns(pdf.copy(), form)
    for name, column in columns.items():
        column.validate(full=True)
        assert column.type == ROWS.field(name).type
        filled = (name == "pdf") == (form == "plain")
        assert column.is_null().to_pylist() == [k in absent or not filled for k in range(9)]
    back = plain_column(columns["pdf"], columns["pdf_u8"], pa.array(["m"] * 9), {"m": GRID})
    back.validate(full=True)
    for k, row in enumerate(back.to_pylist()):
        if k in absent:
            assert row is None
        else:
            np.testing.assert_allclose(row, pdf[k], atol=(1.5 / 255 if form == "compact" else 2e-4) * pdf[k].max())


def test_no_rows_are_no_trouble() -> None:
    for form in SETTINGS:
        columns = pdf_columns(np.empty((0, 301), np.float32), form)
        assert [len(column) for column in columns.values()] == [0, 0]
        assert len(plain_column(columns["pdf"], columns["pdf_u8"], pa.array([], pa.string()), {"m": GRID})) == 0


def test_rows_of_several_models_forms_and_grids_stand_side_by_side() -> None:
    _, fine = some(4)
    coarse = np.ascontiguousarray(fine[:, ::3])
    pieces = [pdf_columns(fine.copy(), "plain"), pdf_columns(fine, "compact"), pdf_columns(coarse, "compact")]
    pieces.append(pdf_columns(fine, "compact"))
    order = pa.array(np.random.default_rng(5).permutation(16))
    pdf, pdf_u8 = (pa.concat_arrays([p[name] for p in pieces]).take(order) for name in ("pdf", "pdf_u8"))
    model = pa.array(np.repeat(["a", "b", "c", "unknown"], 4)).take(order)
    got = plain_column(pdf, pdf_u8, model, {"a": GRID, "b": GRID, "c": GRID[::3]}).to_pylist()
    for place, row in zip(order.to_pylist(), got, strict=True):
        k = place % 4
        if place >= 12:
            assert row is None
        elif place >= 8:
            want = coarse[k] / np.trapezoid(coarse[k], GRID[::3])
            np.testing.assert_allclose(row, want, atol=0.01 * want.max())
        else:
            np.testing.assert_allclose(row, fine[k], atol=0.01 * fine[k].max())


def test_a_compact_pdf_of_another_length_is_damage() -> None:
    stored = pa.array([b"\x01\xff\x01"], pa.binary())
    with pytest.raises(IntegrityError, match="of m have 3 to 3 bytes, its redshift grid has 301 points"):
        plain_column(pa.nulls(1, ROWS.field("pdf").type), stored, pa.array(["m"]), {"m": GRID})


def test_either_form_scores_as_the_pdf_itself() -> None:
    z, pdf = some(4000)
    itself = metrics.pdf_metrics(pdf, GRID, z)
    for form in SETTINGS:
        columns = pdf_columns(pdf.copy(), form)
        back = plain_column(columns["pdf"], columns["pdf_u8"], pa.array(["m"] * len(pdf)), {"m": GRID})
        scored = metrics.pdf_metrics(back.flatten().to_numpy().reshape(pdf.shape), GRID, z)
        assert scored["cde"] == pytest.approx(itself["cde"], rel=1e-3)
        assert scored["crps"] == pytest.approx(itself["crps"], rel=1e-3)
        assert scored["pit_ks"] == pytest.approx(itself["pit_ks"], abs=2e-3)


def test_a_table_of_before_is_read_and_written(tmp_path: Path) -> None:
    """It lacks the column: every reader opens it; the next worker adds the column, and old rows stay what they were."""
    built = build(tmp_path, rows_a_night=40, nights=NIGHTS[:1], lacking=("pdf_u8",))
    old = open_catalogue(tmp_path)
    assert "pdf_u8" not in old.schema.names
    wanted = ["object_id", "model", "pdf"]
    keys = [("object_id", "ascending"), ("model", "ascending")]
    before = built.rows.select(wanted).sort_by(keys)
    assert old.scan(wanted).read_all().sort_by(keys)["pdf"].equals(before["pdf"])
    assert old.find("0000000001")["pdf"].null_count == 0

    ensure(tmp_path)
    ensure(tmp_path)  # nothing is left to do
    table = DeltaTable(str(tmp_path / "rows"))
    assert pa.schema(table.schema().to_arrow()).names == ROWS.names
    assert open_catalogue(tmp_path).schema.field("pdf_u8").metadata == ROWS.field("pdf_u8").metadata
    kind, processing_id = MODELS_HERE[1]
    ids = [f"new{k}" for k in range(9)]
    new = night_rows(np.random.default_rng(1), np.linspace(0.3, 1.5, 9), ids, NIGHTS[1], kind, processing_id)
    append(tmp_path / "rows", compacted(new))
    both = open_catalogue(tmp_path)
    assert both.scan(wanted, NIGHTS[0]).read_all().sort_by(keys)["pdf"].equals(before["pdf"])
    got = both.scan(["object_id", "pdf"], NIGHTS[1]).read_all().sort_by("object_id")
    for row, want in zip(got["pdf"].to_pylist(), new["pdf"].to_pylist(), strict=True):
        if want is None:
            assert row is None
        else:
            np.testing.assert_allclose(row, want, atol=0.01 * max(want))


def test_a_worker_of_before_writes_on_while_the_column_is_added(tmp_path: Path) -> None:
    ensure(tmp_path)
    shutil.rmtree(tmp_path / "rows")
    before = pa.schema([field for field in ROWS if field.name != "pdf_u8"])
    DeltaTable.create(str(tmp_path / "rows"), before, partition_by=list(ROW_PARTITIONS))
    sink = made_rows.DeltaSink(tmp_path, made_rows.IDENTITY, made_rows.now_ms)
    at = sink.claim([0], made_rows.no_first)
    for end in (20, 40):
        messages, output = made_rows.batch(at, {0: end})
        sink.write(messages, output._replace(rows=output.rows.drop_columns(["pdf_u8"])))
        if end == 40:
            ensure(tmp_path)
        durable, fenced = sink.commit()
        assert (durable, fenced) == ({0: end}, set())
        at = {0: end}
    rows, listed = made_rows.expected([0], 40)
    assert made_rows.stored(tmp_path) == (sorted(rows), sorted(listed))
    assert DeltaTable(str(tmp_path / "rows")).to_pyarrow_table()["pdf_u8"].null_count == len(rows)


def test_a_table_that_lacks_what_every_row_has_is_refused(tmp_path: Path) -> None:
    build(tmp_path, nights=(), lacking=("pdf_u8", "ra"))
    with pytest.raises(UserError, match="it lacks ra, pdf_u8"):
        ensure(tmp_path)


@pytest.fixture(scope="module")
def mixed(tmp_path_factory: pytest.TempPathFactory) -> Built:
    """A catalogue whose forest stores compact PDFs and whose other model stores plain ones."""
    return build(
        tmp_path_factory.mktemp("mixed") / "catalogue", rows_a_night=60, nights=NIGHTS[:2], compact=("forest",)
    )


def assert_same(got: pa.Table, built: Built) -> None:
    """The PDFs of `got` are those that went in, row by row."""
    want = {
        (r["object_id"], r["model"]): r["pdf"] for r in built.rows.select(["object_id", "model", "pdf"]).to_pylist()
    }
    assert len(got)
    for row in got.select(["object_id", "model", "pdf"]).to_pylist():
        expected = want[row["object_id"], row["model"]]
        if expected is None:
            assert row["pdf"] is None
        else:
            np.testing.assert_allclose(row["pdf"], expected, atol=1.5 / 255 * max(expected))


def test_rows_of_both_forms_read_alike(mixed: Built) -> None:
    held = open_catalogue(mixed.path)
    stored = DeltaTable(str(mixed.path / "rows")).to_pyarrow_table(columns=["pdf", "pdf_u8"])
    assert 100 < stored["pdf_u8"].null_count < stored["pdf"].null_count + 20 < 160
    everything = held.scan().read_all()
    assert everything.column_names == ROWS.names
    assert len(everything) == 240
    for rows in (
        everything,
        held.head(100),
        held.find("0000000001"),
        held.scan(["pdf", "object_id", "model"]).read_all(),
    ):
        assert_same(rows, mixed)
    alone = held.scan(["pdf", "object_id"], batch_rows=16)
    assert alone.schema.names == ["pdf", "object_id"]
    assert pa.Table.from_batches(alone)["pdf"].null_count == 12
    bytes_ = held.scan(["pdf_u8"], model=FOREST).read_all()
    assert bytes_.column_names == ["pdf_u8"]
    assert set(pa.compute.binary_length(bytes_["pdf_u8"]).drop_null().to_pylist()) == {301}


def test_exports_hold_plain_pdfs_whatever_is_stored(mixed: Built, tmp_path: Path) -> None:
    held = open_catalogue(mixed.path)
    export(held, tmp_path / "night.parquet", "parquet")
    table = pq.read_table(tmp_path / "night.parquet")
    assert table.column_names == [n for n in ROWS.names if n != "pdf_u8"]
    assert_same(table, mixed)
    done = export(held, tmp_path / "X.pq", "qp", columns=["object_id", "model", "pdf", "pdf_u8"])
    _, data, beside = (pq.read_table(path) for path in done.paths)
    assert beside.column_names == ["object_id", "model"]
    assert_same(beside.append_column("pdf", data["yvals"]), mixed)
    export(held, tmp_path / "night.csv", "csv")
    assert "pdf_u8" not in (tmp_path / "night.csv").read_text().splitlines()[0]
    with pytest.raises(UserError, match="leave the column pdf_u8 out"):
        export(held, tmp_path / "b.csv", "csv", columns=["object_id", "pdf_u8"])


def test_who_wants_the_bytes_gets_them(mixed: Built, tmp_path: Path) -> None:
    """In a file as small as the catalogue, with the grid that is needed to restore them."""
    held = open_catalogue(mixed.path)
    export(held, tmp_path / "small.parquet", "parquet", model=FOREST, columns=["object_id", "model", "pdf_u8"])
    table = pq.read_table(tmp_path / "small.parquet")
    assert table["pdf_u8"].null_count == 6
    grid = np.array(json.loads(table.schema.metadata[b"slipher.z_grids"])[FOREST])
    wanted = {r["object_id"]: r["pdf"] for r in held.scan(["object_id", "pdf"], model=FOREST).read_all().to_pylist()}
    for row in table.to_pylist():
        if row["pdf_u8"] is not None:
            p = np.frombuffer(row["pdf_u8"], np.uint8).astype(float)
            np.testing.assert_allclose(p / np.trapezoid(p, grid), wanted[row["object_id"]], rtol=1e-6)


def test_duckdb_reads_compact_pdfs(mixed: Built) -> None:
    """The query of the documentation."""
    import duckdb

    held = open_catalogue(mixed.path)
    with duckdb.connect() as engine:
        got = engine.execute(
            "select object_id, [('0x' || substr(h, 2 * i + 1, 2))::utinyint for i in range(len(h) // 2)] "
            "from (select object_id, hex(pdf_u8) as h from read_parquet($1) where pdf_u8 is not null)",
            [held.file_uris(model=FOREST)],
        ).fetchall()
    stored = dict(
        zip(*(c.to_pylist() for c in held.scan(["object_id", "pdf_u8"], model=FOREST).read_all()), strict=True)
    )
    assert len(got) == 114
    assert all(bytes(points) == stored[object_id] for object_id, points in got)


def test_a_night_of_compact_pdfs_is_drawn_and_scored(mixed: Built) -> None:
    held = open_catalogue(mixed.path)
    night = read_night(held, NIGHTS[1], FOREST, mixed.truth)
    other = read_night(held, NIGHTS[1], IMAGE, mixed.truth)
    assert len(night.pdf) == len(other.pdf) == 57
    assert np.trapezoid(night.stacked, GRID) == pytest.approx(1, abs=1e-6)
    assert np.isfinite(night.pit).sum() == 57
    rows = night_figures(held, mixed.truth, FOREST, np.linspace(0.1, 2, 50))
    assert rows["cde"] < 2 * rows["trainz"]["cde"] < 0


def test_show_draws_compact_pdfs(mixed: Built) -> None:
    held = open_catalogue(mixed.path)
    console = Console(width=150, record=True, file=io.StringIO())
    for part in object_view(object_rows(held, "0100000053"), 150, 8):
        console.print(part)
    text = console.export_text()
    assert text.count("p(z)") == 2
    nothing = object_rows(held, "0100000007", FOREST)
    unknown = object_rows(held, "0100000053", FOREST)._replace(known={})
    for found, sentence in ((nothing, "no PDF"), (unknown, "its redshift grid is not registered")):
        console = Console(width=150, record=True, file=io.StringIO())
        for part in object_view(found, 150, 8):
            console.print(part)
        assert sentence in console.export_text()


def test_the_form_is_a_setting(monkeypatch: pytest.MonkeyPatch) -> None:
    given_: dict[str, object] = {"brokers": "b", "topic": "t", "model": "m", "catalog": "c"}
    assert run_settings(**given_).pdf == "plain"
    monkeypatch.setenv("SLIPHER_PDF", "compact")
    assert run_settings(**given_).pdf == "compact"
    with pytest.raises(UserError, match=r"--pdf: input should be 'plain' or 'compact'"):
        run_settings(pdf="small", **given_)
