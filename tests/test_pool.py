"""A blend of two models' PDFs: the weight against a search by hand, recalibration, grids, and the refusal to blend in vain."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from models import bundle as bundles
from models import grid as grids
from models import metrics, pool
from models.pool_choice import FEWEST, SCORES, choose
from schemas.batch import Float32, Float64
from schemas.errors import UserError

GRID = grids.linear(2.0, 101)


def normal(centre: Float64, width: Float64, grid: Float64 = GRID) -> Float32:
    density = np.exp(-0.5 * ((grid - centre[:, None]) / width[:, None]) ** 2) + 1e-9
    return grids.normalise(density, grid).astype(np.float32)


def two(n: int, seed: int, shared: float = 0.0) -> tuple[Float32, Float32, Float64]:
    """Calibrated PDFs of two models and the truth; `shared` of their errors is the same."""
    rng = np.random.default_rng(seed)
    z = rng.uniform(0.4, 1.6, n)
    width = 0.06 * (1 + z)
    same, other, another = rng.standard_normal((3, n))
    a = np.sqrt(shared) * same + np.sqrt(1 - shared) * other
    b = np.sqrt(shared) * same + np.sqrt(1 - shared) * another
    return normal(z + width * a, width), normal(z + 0.8 * width * b, 0.8 * width), z


@pytest.mark.parametrize("score", SCORES)
def test_the_weight_is_the_one_that_a_search_finds(score: str) -> None:
    a, b, z = two(200, 1)
    found = choose(a, b, GRID, z, score)
    means = [getattr(metrics.scores(pool.mean(a, b, w), GRID, z), score).mean() for w in np.linspace(0, 1, 41)]
    assert found.weight == pytest.approx(np.argmin(means) / 40, abs=0.0126)
    assert 0 < found.error < 0.1
    assert found.better == "images"


def test_independent_models_gain_and_their_mean_is_recalibrated() -> None:
    a, b, z = two(600, 2)
    found = choose(a, b, GRID, z)
    assert found.helps
    assert found.slope is not None
    assert found.ratio < 0.9
    assert found.recalibrated["pit_ks"] < 0.5 * found.mean["pit_ks"]
    assert found.recalibrated["crps"] < found.mean["crps"] < found.images["crps"]


def test_the_same_model_twice_is_no_gain() -> None:
    a, _, z = two(400, 3)
    found = choose(a, a, GRID, z)
    assert not found.helps
    assert found.gain == pytest.approx(0, abs=1e-6)
    assert found.slope is None


def test_a_model_that_only_adds_noise_gets_no_gain() -> None:
    """The other model knows what this one knows, less: whatever weight the galaxies choose must not pay out of fold."""
    rng = np.random.default_rng(4)
    z = rng.uniform(0.4, 1.6, 500)
    width = 0.06 * (1 + z)
    at = z + width * rng.standard_normal(500)
    worse = normal(at + 3 * width * rng.standard_normal(500), np.sqrt(10) * width)
    found = choose(normal(at, width), worse, GRID, z)
    assert found.weight < 0.1
    assert not found.helps


def test_too_few_galaxies_and_no_such_score_are_sentences() -> None:
    a, b, z = two(FEWEST - 1, 5)
    with pytest.raises(UserError, match="choose no weight"):
        choose(a, b, GRID, z)
    with pytest.raises(UserError, match="no score rmse"):
        choose(a, b, GRID, z, "rmse")


@settings(deadline=None)
@given(st.integers(50, 400), st.floats(0.5, 6.0), st.integers(50, 400), st.floats(0.5, 6.0))
def test_the_common_grid_holds_both(points: int, top: float, others: int, other_top: float) -> None:
    a, b = grids.linear(top, points), grids.linear(other_top, others)
    both = pool.common_grid(a, b)
    assert both[0] == 0
    assert both[-1] == max(a[-1], b[-1])
    assert grids.step_of(both) <= min(grids.step_of(a), grids.step_of(b)) * (1 + 1e-6)
    assert pool.common_grid(a, a) is a


def test_a_pdf_on_another_grid_keeps_its_shape() -> None:
    fine = pool.common_grid(GRID, grids.linear(3.0, 301))
    pdf = normal(np.array([0.5, 1.5]), np.array([0.1, 0.12]))
    moved = pool.regridded(pdf, GRID, fine)
    assert moved @ grids.trapezoid(fine) == pytest.approx([1, 1], abs=1e-6)
    assert (moved[:, fine > 2.001] == 0).all()
    cdf = grids.cumulative(pdf, GRID)
    for row in range(2):
        assert np.interp(GRID, fine, grids.cumulative(moved, fine)[row]) == pytest.approx(cdf[row], abs=2e-3)
    assert np.isnan(pool.regridded(np.full((1, 101), np.nan, np.float32), GRID, fine)).any()


def made(weight: float = 0.25, slope: Float32 | None = None, **other: object) -> bundles.Bundle:
    card = {
        "kind": pool.KIND,
        "survey": "lsst",
        "grid": {"z_max": 2.0, "points": 101},
        "weight": weight,
        "forest": {"sha256": "f" * 64},
        "images": {"sha256": "1" * 64},
        "held_out": {"n": 100},
        **other,
    }
    return bundles.seal(card, {} if slope is None else {"slope": slope})


def test_a_file_gives_the_same_pdfs_again(tmp_path: Path) -> None:
    a, b, z = two(450, 6)
    found = choose(a, b, GRID, z)
    assert found.slope is not None
    bundles.write(made(found.weight, found.slope), tmp_path / "b")
    read = pool.read(tmp_path / "b")
    pdf = read.pdfs(a, b)
    assert pdf == pytest.approx(pool.recalibrated(pool.mean(a, b, found.weight), GRID, found.slope))
    assert pdf @ grids.trapezoid(GRID) == pytest.approx(np.ones(450), abs=1e-4)
    a[7] = np.nan
    assert np.isnan(read.pdfs(a, b)[7]).all()
    assert np.isfinite(np.delete(read.pdfs(a, b), 7, 0)).all()
    assert read.name == f"blend-lsst-{read.card['sha256'][:8]}"


@pytest.mark.parametrize(
    ("other", "said"),
    [
        ({"kind": "forest"}, "no blend of two"),
        ({"weight": 1.5}, "not hold a whole blend"),
        ({"grid": {}}, "whole blend"),
    ],
)
def test_what_is_no_blend_is_a_sentence(tmp_path: Path, other: dict[str, object], said: str) -> None:
    bundles.write(made(**other), tmp_path / "b")  # type: ignore[arg-type]
    with pytest.raises(UserError, match=said):
        pool.read(tmp_path / "b")


def test_no_file_is_a_sentence(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="There is no blend"):
        pool.read(tmp_path / "nothing")
