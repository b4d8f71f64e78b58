"""Pictures of a night: that they are drawn, that they are not blank, and that what they show is right."""

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq
import pytest

from schemas.errors import UserError
from streamer.catalogue import open_catalogue
from streamer.example_plots import examples
from streamer.night_data import ks_distance, pit_values, read_night, read_truth, scores
from streamer.night_plots import draw_night
from tests.catalogue_builder import GRID, NIGHTS, Built, build, gaussians

SIZES = {
    "night.png": (1600, 1000),
    "redshifts.png": (700, 760),
    "nz.png": (750, 500),
    "calibration.png": (750, 500),
    "pdfs.png": (1000, 600),
    "sky.png": (750, 550),
}


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Built:
    return build(tmp_path_factory.mktemp("plots") / "catalogue", rows_a_night=400, nights=NIGHTS[:2])


@pytest.mark.parametrize("with_truth", [True, False])
def test_six_pictures_of_the_size_promised_and_none_blank(built: Built, tmp_path: Path, with_truth: bool) -> None:
    from matplotlib.image import imread

    paths = draw_night(
        open_catalogue(built.path), NIGHTS[1], None, built.truth if with_truth else None, tmp_path / "out"
    )
    assert [path.name for path in paths] == list(SIZES)
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == sorted(SIZES)
    for path in paths:
        pixels = imread(path)
        assert (pixels.shape[1], pixels.shape[0]) == SIZES[path.name]
        ink = (np.abs(pixels[..., :3] - 1) > 0.02).any(axis=-1)
        assert ink.mean() > 0.03, path.name
        shades = (pixels[..., :3] * 255).astype(np.int64) @ np.array([1 << 16, 1 << 8, 1])
        assert len(np.unique(shades)) > 50, path.name


def test_a_sky_over_more_than_a_field_is_drawn_whole(built: Built) -> None:
    from matplotlib.figure import Figure

    from streamer.sky_plot import sky_panel

    night = read_night(open_catalogue(built.path), None, None, None)
    for spread, name in ((1.0, "rectilinear"), (200.0, "mollweide")):
        figure = Figure()
        ra = (np.linspace(-spread / 2, spread / 2, len(night.truth))) % 360  # across 0 h
        sky_panel(figure, night._replace(points={**night.points, "ra": ra}))
        assert figure.axes[0].name == name
        if name == "rectilinear":
            assert np.ptp(figure.axes[0].get_xlim()) < 10


def test_the_pit_of_calibrated_pdfs_is_flat() -> None:
    rng = np.random.default_rng(3)
    n = 4000
    centre, width = rng.uniform(1, 2, n), rng.uniform(0.03, 0.1, n)
    pdf = gaussians(centre, width).astype(np.float32)
    pit = pit_values(pdf, GRID, centre + width * rng.standard_normal(n))
    assert ks_distance(pit) < 1.63 / np.sqrt(n)  # 1 % level
    too_narrow = pit_values(pdf, GRID, centre + 2 * width * rng.standard_normal(n))
    assert ks_distance(too_narrow) > 0.1


def test_pit_agrees_with_a_naive_integral_and_knows_the_ends_of_the_grid() -> None:
    rng = np.random.default_rng(4)
    pdf = rng.random((20, 301)).astype(np.float32)
    z = rng.uniform(0, 3, 20)
    fine = np.linspace(0, 3, 300_001)
    for k, value in enumerate(pit_values(pdf, GRID, z)):
        dense = np.interp(fine, GRID, pdf[k])
        assert value == pytest.approx(dense[fine <= z[k]].sum() / dense.sum(), abs=2e-5)
    ends = pit_values(pdf[:4], GRID, np.array([-1.0, 0.0, 3.0, 9.0]))
    np.testing.assert_allclose(ends, [0, 0, 1, 1], atol=1e-12)
    assert np.isnan(pit_values(pdf[:1], GRID, np.array([np.nan]))).all()


def test_a_night_is_read_with_its_truth(built: Built) -> None:
    night = read_night(open_catalogue(built.path), None, "forest-lsst-01234567", built.truth.slice(0, 700))
    assert (night.night, night.model, night.total, len(night.truth)) == (NIGHTS[1], "forest-lsst-01234567", 400, 400)
    assert np.isfinite(night.truth).sum() == 300  # 400 of the night before, 300 of this one
    assert np.trapezoid(night.stacked, GRID) == pytest.approx(1, abs=1e-3)
    assert len(night.pdf) == len(night.where) == 384
    k = 50
    peak = GRID[np.argmax(night.pdf[k])]
    assert peak == pytest.approx(night.points["z_median"][night.where[k]], abs=0.03)
    quality = scores(night)
    assert quality is not None
    assert 0.01 < quality.sigma_mad < 0.06
    assert 0 < quality.outliers < 0.1
    assert scores(night._replace(truth=np.full(400, np.nan))) is None


def test_examples_are_six_unlike_rows(built: Built) -> None:
    chosen = examples(read_night(open_catalogue(built.path), None, None, None))
    assert len({k for _, k in chosen}) == len(chosen) == 6
    assert {"narrow", "broad", "two peaks", "unlike the training set"} <= {name for name, _ in chosen}


def test_truth_tables_of_either_kind(tmp_path: Path) -> None:
    table = pa.table({"object_id": [1, 2], "redshift": [0.5, 0.7]})
    pq.write_table(table, tmp_path / "t.parquet")
    pyarrow.csv.write_csv(table, tmp_path / "t.csv")
    for name in ("t.parquet", "t.csv"):
        assert read_truth(tmp_path / name).to_pydict() == {"object_id": ["1", "2"], "z": [0.5, 0.7]}
    pq.write_table(pa.table({"id": [1]}), tmp_path / "bad.parquet")
    with pytest.raises(UserError, match="needs columns object_id and z"):
        read_truth(tmp_path / "bad.parquet")
    with pytest.raises(UserError, match="cannot be read"):
        read_truth(tmp_path / "none.parquet")


def test_a_night_that_is_not_there_is_a_sentence(built: Built, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no rows of 1999-01-01"):
        draw_night(open_catalogue(built.path), "1999-01-01", out=tmp_path)
