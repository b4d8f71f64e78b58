"""The networks' kernel against a naive twin, and training that learns what is there to learn, twice the same."""

from functools import cache

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from models import grid as grids
from models.networks import network, train
from models.networks.network import Evaluator, Networks, inputs, to_grid
from models.networks.train import NetworkSettings
from models.photometry import Photometry

GRID = grids.linear(2.0, 101)
QUICK = NetworkSettings(count=2, width=16, bins=40, epochs=30, batch=32, warm_up=50)


def sky(n: int, seed: int = 0) -> tuple[Photometry, np.ndarray]:
    """Galaxies of three bands whose first colour is their redshift and whose second is nothing; some bands are missing."""
    rng = np.random.default_rng(seed)
    z = rng.uniform(0.1, 1.9, n)
    features = np.stack([rng.normal(22, 1, n), z + 0.03 * rng.standard_normal(n), rng.normal(0, 1, n)], 1)
    mask = rng.choice(np.array([0b111, 0b011, 0b110], np.uint32), n, p=[0.8, 0.1, 0.1])
    features[mask == 0b011, 2] = np.nan
    features[mask == 0b110, 1] = np.nan
    return Photometry(features.astype(np.float32), features[:, 0].astype(np.float32), mask, np.zeros(n, np.uint32)), z


def trained(seed: int = 1, weight: np.ndarray | None = None, settings: NetworkSettings = QUICK) -> Networks:
    seen, z = sky(2000)
    equal = np.ones(len(z)) if weight is None else weight
    return train.train(lambda _rng: seen, seen, z, equal, GRID, settings, np.random.default_rng(seed))


@cache
def networks() -> Networks:
    return trained()


def naive(net: Networks, seen: Photometry) -> np.ndarray:
    """The same in float64, a network at a time."""
    x = inputs(seen.features, seen.band_mask, net.center, net.scale).astype(np.float64)
    total = np.tile(net.out_bias.astype(np.float64), (len(x), 1))
    width = net.third_bias.shape[1]
    for k in range(len(net.first)):
        a = x
        for weight, bias in (
            (net.first, net.first_bias),
            (net.second, net.second_bias),
            (net.third, net.third_bias),
        ):
            a = np.maximum(a @ weight[k].astype(np.float64) + bias[k], 0)
        total += a @ net.out[k * width : (k + 1) * width].astype(np.float64)
    return np.maximum(total - total.max(1, keepdims=True), network.FLOOR)


def test_kernel_is_its_naive_twin() -> None:
    seen, _ = sky(77, seed=3)
    seen.features[5] = [1e30, -1e30, np.nan]
    np.testing.assert_allclose(Evaluator(networks()).log_density(seen), naive(networks(), seen), atol=2e-4)


@given(st.integers(0, 2**32 - 1), st.integers(1, 70))
@settings(deadline=None, max_examples=15)
def test_a_row_is_the_same_in_any_batch(seed: int, size: int) -> None:
    seen, _ = sky(70, seed=4)
    rows = np.random.default_rng(seed).choice(70, size, replace=False)
    evaluator = Evaluator(networks())
    whole = evaluator.log_density(seen)
    np.testing.assert_array_equal(evaluator.log_density(Photometry(*(a[rows] for a in seen))), whole[rows])


def test_it_learns_and_knows_what_it_cannot_know() -> None:
    seen, z = sky(500, seed=9)
    pdf = np.exp(Evaluator(networks()).log_density(seen))
    pdf /= pdf.sum(1, keepdims=True)
    mean = pdf @ GRID
    there = seen.band_mask != 0b110  # with the colour that tells
    assert np.sqrt(np.mean((mean[there] - z[there]) ** 2)) < 0.1
    width = np.sqrt(np.maximum(pdf @ GRID**2 - mean**2, 0))
    assert np.median(width[~there]) > 4 * np.median(width[there])


def test_same_seed_same_networks() -> None:
    again = trained()
    for mine, other in zip(networks(), again, strict=True):
        np.testing.assert_array_equal(mine, other)
    assert not np.array_equal(trained(seed=2).first, again.first)


def test_weights_count() -> None:
    _, z = sky(2000)
    few = NetworkSettings(count=1, width=16, bins=40, epochs=8, batch=32, warm_up=50)
    blind = Photometry(*(column[sky(2000)[0].band_mask == 0b110][:1] for column in sky(2000)[0]))
    means = []
    for weight in (np.where(z < 1, 1.0, 0.02), np.where(z > 1, 1.0, 0.02)):
        pdf = np.exp(Evaluator(trained(weight=weight, settings=few)).log_density(blind))[0]
        means.append(pdf @ GRID / pdf.sum())
    assert means[0] < means[1] - 0.3


def test_gradient_is_the_slope_of_the_loss() -> None:
    rng = np.random.default_rng(0)
    layers = [a.astype(np.float64) for a in train._start(6, QUICK, rng)]
    layers[-2] *= 10
    x, share = rng.standard_normal((2, 5, 6)), rng.uniform(0.5, 2, (2, 5))
    target = rng.dirichlet(np.ones(40), (2, 5))

    def loss() -> float:
        a = x
        for k in range(0, 6, 2):
            a = np.maximum(a @ layers[k] + layers[k + 1], 0)
        a = a @ layers[6] + layers[7]
        log_p = a - np.log(np.exp(a).sum(2, keepdims=True))
        return float(-((target * log_p).sum(2) * share).sum() / 5)

    gradient = train._gradient(layers, x, target, share.astype(np.float32).astype(np.float64))
    for layer, slope in zip(layers, gradient, strict=True):
        at = tuple(rng.integers(size) for size in layer.shape)
        layer[at] += 1e-6
        high = loss()
        layer[at] -= 2e-6
        low = loss()
        layer[at] += 1e-6
        assert slope[at] == pytest.approx((high - low) / 2e-6, abs=1e-5)


def test_soft_labels_and_the_way_to_the_grid() -> None:
    edges = np.expm1(np.linspace(0, np.log1p(2.0), 41))
    labels = train.soft_labels(np.array([0.0, 0.5, 2.0, 9.0]), edges, 1.75)
    np.testing.assert_allclose(labels.sum(1), 1, rtol=1e-5)
    assert labels.argmax(1).tolist() == [0, int(np.searchsorted(edges, 0.5)) - 1, 39, 39]
    # a flat density: the probability of a bin is its width
    flat, widths = to_grid(np.log(np.diff(edges)), edges, GRID)
    np.testing.assert_allclose(flat + widths, 0, atol=1e-12)


def test_networks_that_do_not_fit_are_refused() -> None:
    networks().check(3, 101)
    for name in Networks._fields:
        with pytest.raises(ValueError, match="the networks'"):
            networks()._replace(**{name: getattr(networks(), name)[:-1]}).check(3, 101)
    broken = networks().first.copy()
    broken[0, 0, 0] = np.nan
    with pytest.raises(ValueError, match="first"):
        networks()._replace(first=broken).check(3, 101)
