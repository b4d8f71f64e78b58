"""The distance outside the boxes against a naive twin, and what it is for: galaxies of a region nobody trained on."""

from functools import cache

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from models.forest import boxes as bx
from models.forest.train import grow
from models.forest.walk import leaves


def cloud(n: int, seed: int) -> np.ndarray:
    rng = np.random.default_rng(seed)
    x = rng.normal(0, 1, (n, 3)).astype(np.float32)
    x[rng.random(n) < 0.1, 2] = np.nan
    return x


@cache
def boxes() -> tuple[bx.Boxes, object]:
    x = cloud(1500, 0)
    z = np.nan_to_num(x[:, 0]) ** 2 + np.nan_to_num(x[:, 2])
    forest = grow(
        x,
        z,
        np.arange(len(x)),
        kind="extra-trees",
        trees=6,
        min_leaf=20,
        max_features=1.0,
        seed=1,
        threads=1,
    )
    return bx.around(forest, x, bx.spread(x)), forest


def naive(x: np.ndarray) -> np.ndarray:
    made, forest = boxes()
    train = cloud(1500, 0)
    home, leaf = leaves(train, forest.nodes()), leaves(x, forest.nodes())
    out = np.zeros(len(x))
    for i in range(len(x)):
        for t in range(leaf.shape[1]):
            inside = train[home[:, t] == leaf[i, t]]
            outside = [0.0]
            for f in range(3):
                known = inside[~np.isnan(inside[:, f]), f]
                if len(known) and not np.isnan(x[i, f]):
                    outside.append(max(known.min() - x[i, f], x[i, f] - known.max()) * made.scale[f])
            out[i] += max(outside) / leaf.shape[1]
    return out


@given(st.integers(0, 2**32 - 1), st.floats(0.1, 30))
@settings(deadline=None, max_examples=15)
def test_distance_is_its_naive_twin(seed: int, stretch: float) -> None:
    x = cloud(12, seed) * np.float32(stretch)
    np.testing.assert_allclose(bx.Distance(boxes()[0]).score(x), naive(x), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("n_features", [8, 11])
@pytest.mark.parametrize("n", [40, 300])
def test_any_number_of_features_and_rows(n: int, n_features: int) -> None:
    rng = np.random.default_rng(n_features)
    x = rng.normal(0, 1, (800, n_features)).astype(np.float32)
    x[rng.random(x.shape) < 0.3] = np.nan
    x[:400, 2] = np.nan  # leaves where nobody has it
    rows = np.arange(len(x))
    forest = grow(
        x, np.nan_to_num(x[:, 0]), rows, kind="extra-trees", trees=3, min_leaf=20, max_features=1.0, seed=1, threads=1
    )
    made = bx.around(forest, x, bx.spread(x))
    far = 3 * x[:n] + 1
    leaf = leaves(far, forest.nodes())
    low, high = made.low[leaf], made.high[leaf]  # [n, T, F]
    assert (low > high).any()
    value = far[:, None, :]
    outside = np.where(low <= high, np.maximum(low - value, value - high) * made.scale, 0)
    expected = np.fmax(outside, 0).max(2).mean(1)
    np.testing.assert_allclose(bx.Distance(made).score(far), expected, rtol=1e-6)


def test_inside_is_zero_and_missing_is_never_outside() -> None:
    distance = bx.Distance(boxes()[0])
    assert (distance.score(cloud(1500, 0)) == 0).all()
    assert distance.score(np.full((1, 3), np.nan, np.float32)) == 0


def test_a_removed_region_is_seen() -> None:
    x = cloud(4000, 5)
    away = x[:, 0] > 1.0
    kept = x[~away]
    z = kept[:, 0] + 0.1 * np.nan_to_num(kept[:, 1])
    rows = np.arange(2000)
    forest = grow(
        kept[:2000], z[:2000], rows, kind="extra-trees", trees=16, min_leaf=20, max_features=1.0, seed=1, threads=1
    )
    made = bx.around(forest, kept[:2000], bx.spread(kept[:2000]))
    own, far = bx.Distance(made).score(kept[2000:]), bx.Distance(made).score(x[away])
    assert np.mean(own[:, None] < far[None, :]) > 0.95
    mask = np.full(len(own), 0b111, np.uint32)
    made = made._replace(limit=bx.limits(own, mask, 3, np.ones(len(own))))
    assert bx.Distance(made).strange(kept[2000:], mask).mean() == pytest.approx(bx.FALSE_ALARMS, abs=0.003)
    assert bx.Distance(made).strange(x[away], np.full(away.sum(), 0b111, np.uint32)).mean() > 0.25
    assert not bx.Distance(made).strange(x[away], np.zeros(away.sum(), np.uint32)).any()


def test_limits_by_bands_missing_and_by_weight() -> None:
    score = np.arange(1000, dtype=np.float32)
    mask = np.where(np.arange(1000) % 2, 0b11, 0b01).astype(np.uint32)
    got = bx.limits(score, mask, 2, np.ones(1000))
    np.testing.assert_allclose(got, [989, 988], atol=4)
    assert bx.limits(score, np.full(1000, 0b11, np.uint32), 2, np.ones(1000))[1] == pytest.approx(989, abs=2)
    light = np.where(score < 500, 1.0, 1e-6)
    assert bx.limits(score, np.full(1000, 0b11, np.uint32), 2, light)[0] == pytest.approx(494, abs=2)
    assert np.isinf(bx.limits(score[:5], mask[:5], 2, np.ones(5))).all()


def test_boxes_that_do_not_fit_are_refused() -> None:
    made, _ = boxes()
    made.check(3)
    tensors = {f"boxes.{name}": array for name, array in made._asdict().items()}
    assert bx.stored({}, 3) is None
    assert bx.stored(tensors, 3) is not None
    for name in set(bx.Boxes._fields) - {"root"}:
        with pytest.raises(ValueError):
            bx.stored({**tensors, f"boxes.{name}": tensors[f"boxes.{name}"][:-1]}, 3)
