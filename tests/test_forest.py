"""The walk against scikit-learn's own `apply`, bit for bit."""

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from sklearn.ensemble import ExtraTreesRegressor, RandomForestRegressor

from models.forest.forest import Forest
from models.forest.train import extract, grow
from models.forest.walk import leaves, pack, rounded_down


def made(kind: type, holes: float, min_leaf: int = 1, n: int = 400, seed: int = 0) -> tuple:
    rng = np.random.default_rng(seed)
    x = np.round(rng.normal(size=(n, 4)), 1).astype(np.float32)
    x[rng.random(x.shape) < holes] = np.nan
    z = np.abs(rng.normal(size=n)) + np.nan_to_num(x[:, 0]) ** 2
    model = kind(7, min_samples_leaf=min_leaf, random_state=seed).fit(x, z)
    return model, extract(model, x, np.arange(n)), x


FORESTS = {
    "extra trees, holes": made(ExtraTreesRegressor, 0.3),
    "extra trees, whole": made(ExtraTreesRegressor, 0.0, 3),
    "random forest, holes": made(RandomForestRegressor, 0.3, 2),
    "one leaf": made(ExtraTreesRegressor, 0.3, 400),
}


def nodes_of(forest: Forest, leaf: np.ndarray) -> np.ndarray:
    """Leaf numbers as scikit-learn numbers nodes: within their tree."""
    return np.flatnonzero(forest.feature < 0)[leaf] - forest.root[None, :]


@pytest.mark.parametrize("name", FORESTS)
@given(data=st.data())
@settings(max_examples=60, deadline=None)
def test_walk_is_sklearns_apply(name: str, data: st.DataObject) -> None:
    model, forest, _ = FORESTS[name]
    cuts = [float(np.float32(t)) for e in model.estimators_ for t in e.tree_.threshold[:40]]  # hit exactly
    extremes = [np.nan, np.inf, -np.inf, 0.0, -0.0, 1e-45, -1e-45, 3.4028235e38]
    value = st.one_of(st.sampled_from(cuts), st.sampled_from(extremes), st.floats(-4, 4, width=32))
    rows = data.draw(hnp.arrays(np.float32, st.tuples(st.integers(1, 19), st.just(4)), elements=value))
    got = nodes_of(forest, leaves(rows, forest.nodes()))
    np.testing.assert_array_equal(got, np.stack([e.tree_.apply(rows) for e in model.estimators_], 1))


@pytest.mark.parametrize("name", FORESTS)
def test_leaves_hold_the_rows_that_fall_into_them(name: str) -> None:
    model, forest, x = FORESTS[name]
    forest.check(4, len(x))
    leaf = leaves(x, forest.nodes())
    for t in range(len(forest.root)):
        for row in range(0, len(x), 37):
            where = leaf[row, t]
            assert row in forest.leaf_sample[forest.leaf_start[where] : forest.leaf_start[where + 1]]
    assert len(forest.leaf_sample) == leaf.size
    np.testing.assert_array_equal(nodes_of(forest, leaf), model.apply(x))


@given(st.floats(allow_nan=False))
@example(-3.402823364973241e38)  # between the lowest float32 and the one above it
@example(-3.5e38)
def test_rounded_thresholds_decide_as_float64_ones(threshold: float) -> None:
    with np.errstate(over="ignore"):
        near = np.float32(threshold)
        around = (near, np.nextafter(near, np.float32(np.inf)), np.nextafter(near, np.float32(-np.inf)))
    down = rounded_down(np.array([threshold]))[0]
    for x in around:
        assert (x <= down) == (np.float64(x) <= threshold)


def test_more_threads_grow_the_same_forest() -> None:
    _, _, x = FORESTS["extra trees, holes"]
    z = np.nan_to_num(x[:, 1]).astype(np.float64) ** 2
    choice = {"kind": "extra-trees", "trees": 5, "min_leaf": 2, "max_features": 1.0, "seed": 3}
    one, two = (grow(x, z, np.arange(len(x)), threads=k, **choice) for k in (1, 2))
    for a, b in zip(one, two, strict=True):
        np.testing.assert_array_equal(a, b)


def test_best_first_trees_are_refused() -> None:
    _, _, x = FORESTS["extra trees, whole"]
    model = ExtraTreesRegressor(2, max_leaf_nodes=30, random_state=0).fit(x, x[:, 0] * x[:, 1])
    with pytest.raises(ValueError, match="depth first"):
        extract(model, x, np.arange(len(x)))


def test_damaged_forests_are_refused() -> None:
    forest = FORESTS["extra trees, whole"][1]
    wrong = {
        "feature": np.where(forest.feature >= 0, 9, -1).astype(np.int8),
        "leaf_sample": forest.leaf_sample + 1,
        "leaf_start": forest.leaf_start[:-1],
        "root": forest.root + 1,
        "threshold": forest.threshold[:-1],
    }
    for field, array in wrong.items():
        with pytest.raises(ValueError):
            forest._replace(**{field: array}).check(4, 400)
    with pytest.raises(ValueError, match="preorder"):
        forest._replace(right=np.zeros_like(forest.right)).nodes()
    with pytest.raises(ValueError, match="preorder"):
        forest._replace(right=forest.right + len(forest.right)).nodes()
    with pytest.raises(ValueError, match="features"):
        leaves(np.zeros((3, 1), np.float32), forest.nodes())
    with pytest.raises(ValueError, match="float32"):
        leaves(np.zeros((3, 4)), forest.nodes())
    with pytest.raises(ValueError, match="more than 128"):
        pack(np.zeros(3), np.array([200, -1, -1]), np.array([2, 0, 0]), np.zeros(3), np.array([0]))
