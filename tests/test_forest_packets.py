"""Every way through a forest gives the same answer to the last bit: in step, in packets, by threads, in any order."""

import tracemalloc

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from sklearn.ensemble import ExtraTreesRegressor, RandomForestRegressor

from models import grid as grids
from models.forest import density as de
from models.forest import packets
from models.forest.inference import PART, WORTH_A_THREAD, Inference
from models.forest.mean import whole
from models.forest.records import records
from models.forest.train import extract
from models.forest.walk import Nodes, leaves, walk
from tests.test_density import GRID, leafy
from tests.test_forest import FORESTS

WAYS = (False, packets.fastest())  # the portable one is always there
EXTREMES = [np.nan, np.inf, -np.inf, 0.0, -0.0, 1e-45, -1e-45, 3.4028235e38, -3.4028235e38]


def in_packets(rows: np.ndarray, nodes: Nodes, avx512: bool) -> np.ndarray:
    out = np.full((len(rows), len(nodes.root)), -1, np.int32)
    packets.leaves(rows, nodes, out, avx512)
    return out


@pytest.mark.parametrize("name", FORESTS)
@given(data=st.data())
@settings(max_examples=30, deadline=None)
def test_packets_are_sklearns_apply(name: str, data: st.DataObject) -> None:
    model, forest, _ = FORESTS[name]
    cuts = [float(np.float32(t)) for e in model.estimators_ for t in e.tree_.threshold[:40]]  # hit exactly
    value = st.one_of(st.sampled_from(cuts), st.sampled_from(EXTREMES), st.floats(-4, 4, width=32))
    rows = data.draw(hnp.arrays(np.float32, st.tuples(st.integers(1, 150), st.just(4)), elements=value, fill=value))
    want = np.stack([e.tree_.apply(rows) for e in model.estimators_], 1)
    for avx512 in WAYS:
        leaf = in_packets(rows, forest.nodes(), avx512)
        np.testing.assert_array_equal(np.flatnonzero(forest.feature < 0)[leaf] - forest.root[None, :], want)


@given(
    seed=st.integers(0, 10_000), trees=st.integers(1, 60), depth=st.integers(1, 12), holes=st.sampled_from([0.0, 0.4])
)
@settings(max_examples=15, deadline=None)
def test_packets_are_the_walk_in_step(seed: int, trees: int, depth: int, holes: float) -> None:
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(300, 3)).astype(np.float32)
    x[rng.random(x.shape) < holes] = np.nan
    model = ExtraTreesRegressor(trees, max_depth=depth, random_state=seed).fit(x, rng.random(300))
    nodes = extract(model, x, np.arange(300)).nodes()
    rows = rng.choice(x, 700)
    want = np.empty((700, trees), np.int32)
    walk(rows, nodes.word, nodes.root, want)
    for avx512 in WAYS:
        np.testing.assert_array_equal(in_packets(rows, nodes, avx512), want)
    np.testing.assert_array_equal(leaves(rows[:90], nodes), want[:90])


def small_model() -> tuple[Inference, RandomForestRegressor, np.ndarray]:
    rng = np.random.default_rng(5)
    x = rng.normal(size=(2000, 4)).astype(np.float32)
    x[rng.random(x.shape) < 0.1] = np.nan
    z = np.abs(np.nan_to_num(x[:, 0]) + 0.1 * rng.normal(size=2000))
    model = RandomForestRegressor(30, min_samples_leaf=3, bootstrap=False, max_features=2, random_state=0).fit(x, z)
    maps = de.Recalibration(np.linspace(0.5, 1.5, 33, dtype=np.float32)[None].repeat(2, 0), np.empty(0))
    forest = extract(model, x, np.arange(2000))
    grid = grids.linear(4.0, 301)
    return Inference(forest, z, np.ones(2000), grid, 0.01, 1.25, maps), model, x


def test_a_row_is_the_same_to_the_last_bit_by_every_way() -> None:
    inference, _, x = small_model()
    rng = np.random.default_rng(1)
    n = 2 * WORTH_A_THREAD + 77
    rows = rng.choice(x, n) + np.float32(0.01) * rng.normal(size=(n, 4)).astype(np.float32)
    maps = rng.integers(-1, 2, n).astype(np.int32)

    def all_of(chosen: np.ndarray, **how: object) -> list[bytes]:
        pdf = np.empty((len(chosen), 301), np.float32)
        found = inference.pdfs(rows[chosen], maps[chosen], pdf, **how)
        mean = inference.predict(rows[chosen], **how)
        order = np.argsort(chosen)
        return [a[order].tobytes() for a in (pdf, found.values, found.flags, mean)]

    everyone = np.arange(n)
    want = all_of(everyone, avx512=False)
    assert all_of(everyone, avx512=WAYS[1]) == want
    assert all_of(everyone, avx512=WAYS[1], threads=2) == want
    assert all_of(rng.permutation(n)) == want
    for some in (
        everyone[:1],
        everyone[5:12],
        everyone[: packets.FEW],
        everyone[: packets.FEW - 1],
        everyone[3:PART:2],
    ):
        pdf = np.empty((len(some), 301), np.float32)
        whole_pdf = np.frombuffer(want[0], np.float32).reshape(n, 301)
        inference.pdfs(rows[some], maps[some], pdf)
        assert pdf.tobytes() == whole_pdf[some].tobytes()
        assert inference.predict(rows[some]).tobytes() == np.frombuffer(want[3], np.float32)[some].tobytes()


def test_finished_pdfs_are_those_of_the_parts() -> None:
    inference, _, x = small_model()
    maps = np.zeros(len(x), np.int32)
    pdf = np.empty((len(x), 301), np.float32)
    inference.pdfs(x, maps, pdf)
    weights = inference.histograms(x)
    np.testing.assert_allclose(weights.sum(1), 1.0, rtol=1e-5)
    table = de.Recalibration(np.linspace(0.5, 1.5, 33, dtype=np.float32)[None].repeat(2, 0), np.empty(0))
    apart = de.densities(weights, inference.grid, de.smoothing(inference.grid, 0.01), 1.25, table, maps)
    np.testing.assert_array_equal(pdf, apart)


def test_means_are_sklearns() -> None:
    inference, model, x = small_model()
    np.testing.assert_allclose(inference.predict(x), model.predict(x), atol=5e-7)


def test_the_switch_turns_avx512_off(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(packets.SWITCH, "0")
    assert not packets.fastest()


def test_temporary_memory_does_not_grow_with_the_rows() -> None:
    inference, _, x = small_model()
    rows = np.random.default_rng(0).choice(x, 400_000)
    pdf = np.empty((30_000, 301), np.float32)
    inference.predict(rows[:1000])
    tracemalloc.start()
    inference.predict(rows)
    inference.pdfs(rows[: len(pdf)], np.zeros(len(pdf), np.int32), pdf)
    _, most = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert most < 64e6


@given(
    z=hnp.arrays(np.float64, 40, elements=st.floats(0.0, 2.0)),
    weight=hnp.arrays(np.float64, 40, elements=st.sampled_from([1e-9, 0.5, 1.0, 70.0])),
    rows=hnp.arrays(np.int32, (5, 3), elements=st.integers(0, 3)),
)
@settings(max_examples=60, deadline=None)
def test_records_hold_what_the_leaves_do(z: np.ndarray, weight: np.ndarray, rows: np.ndarray) -> None:
    """Wide, bimodal and weighted leaves: no sample is lost, and a leaf's shares are all given."""
    density = de.leaf_density(leafy([0, 2, 12, 12, 40], np.arange(40), 3), z, weight, GRID)
    known = records(density, 3, len(GRID))
    out = known.room(5)
    packets.add_records(known.first[rows.T].astype(np.uint32), known.record, out)
    assert not out[:, len(GRID) :].any()
    want = de.histograms(rows, density, len(GRID))
    np.testing.assert_array_equal(out[:, : len(GRID)].astype(np.float32) * np.float32(known.unit), want)
    for leaf, samples in enumerate((slice(0, 2), slice(2, 12), slice(12, 12), slice(12, 40))):
        pairs = slice(density.start[leaf], density.start[leaf + 1])
        assert int(density.weight[pairs].sum()) == (de.shares(3) if leaf != 2 else 0)
        assert (density.weight[pairs] >= 1).all()
        for value in z[samples]:
            assert np.abs(density.point[pairs] * 0.05 - value).min() <= 0.05


@given(st.integers(1, 2**31 - 1))
def test_no_number_of_trees_overflows(trees: int) -> None:
    assert de.shares(trees) * trees < 2**31
    if trees < 2**20:
        steps = int(whole(np.array([0.1, 3.0]), trees).value.max())
        assert steps * trees < 2**32


def test_too_many_trees_for_the_shares_are_refused() -> None:
    forest = leafy([0, 1], np.zeros(1), 1)._replace(root=np.zeros(2**26, np.int8))
    with pytest.raises(ValueError, match="too many"):
        de.leaf_density(forest, np.ones(1), np.ones(1), GRID)
