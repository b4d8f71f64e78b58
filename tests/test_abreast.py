"""The kernels over sixteen stamps abreast against a few lines of NumPy in double precision."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from models.forest.lanes import WIDTH
from models.images import abreast
from models.images.abreast import Block, Layer, inception, means, packed, pixels, stem, stretched_in
from schemas.batch import Float32

sides = st.integers(1, 11)
few = st.integers(1, 5)
fours = st.integers(1, 3).map(lambda k: 4 * k)
seeds = st.integers(0, 1 << 30)


def image(rng: np.random.Generator, height: int, width: int, channels: int, margin: int) -> Float32:
    out = pixels(height, width, channels, margin)
    out[margin : margin + height, margin : margin + width] = rng.normal(0, 1, (height, width, channels, WIDTH))
    return out


def layer(rng: np.random.Generator, inputs: int, outputs: int, kernel: int) -> tuple[Layer, np.ndarray]:
    """A layer, and its weights as torch has them."""
    weight = rng.normal(0, 1, (outputs, inputs, kernel, kernel)).astype(np.float32)
    bias, slope = rng.normal(0, 1, (2, outputs)).astype(np.float32)
    return Layer(packed(weight), bias, slope, inputs, kernel), weight


def bare(x: np.ndarray, margin: int) -> np.ndarray:
    return x[margin : len(x) - margin, margin : x.shape[1] - margin].astype(np.float64)


def convolved(x: np.ndarray, of: Layer, weight: np.ndarray) -> np.ndarray:
    """Of pixels without a margin [H, W, C, 16]."""
    half = of.kernel // 2
    wide = np.pad(x, ((half, half), (half, half), (0, 0), (0, 0)))
    out = np.zeros((*x.shape[:2], len(weight), WIDTH))
    for v in range(of.kernel):
        for u in range(of.kernel):
            out += np.einsum("hwcn,oc->hwon", wide[v : v + len(x), u : u + x.shape[1]], weight[:, :, v, u])
    out += of.bias[:, None]
    return np.where(out > 0, out, of.slope[:, None] * out)


def shrunk(x: np.ndarray, factor: int) -> np.ndarray:
    height, width = len(x) // factor, x.shape[1] // factor
    return x[: height * factor, : width * factor].reshape(height, factor, width, factor, *x.shape[2:]).mean((1, 3))


def around(x: np.ndarray) -> np.ndarray:
    out = np.empty_like(x)
    for y in range(len(x)):
        for k in range(x.shape[1]):
            out[y, k] = x[max(y - 1, 0) : y + 2, max(k - 1, 0) : k + 2].mean((0, 1))
    return out


@given(sides, sides, few, fours, st.sampled_from([1, 3, 5]), st.sampled_from([1, 2, 4]), seeds)
@settings(max_examples=60, deadline=None)
def test_a_layer_is_its_naive_twin(
    height: int, width: int, channels: int, outputs: int, kernel: int, factor: int, seed: int
) -> None:
    rng = np.random.default_rng(seed)
    x = image(rng, height, width, channels, kernel // 2)
    of, weight = layer(rng, channels, outputs, kernel)
    out, strip = pixels(height // factor, width // factor, outputs, 1), pixels(factor, width, outputs, 0)
    stem(x, of, out, factor, strip)
    expected = shrunk(convolved(bare(x, kernel // 2), of, weight), factor)
    np.testing.assert_allclose(bare(out, 1), expected, rtol=1e-5, atol=2e-5)
    edges = out.copy()
    edges[1:-1, 1:-1] = 0
    assert not edges.any()


@given(sides, sides, few, st.tuples(fours, fours, fours, fours), st.sampled_from([1, 2]), seeds)
@settings(max_examples=40, deadline=None)
def test_a_block_is_its_naive_twin(
    height: int, width: int, channels: int, parts: tuple[int, int, int, int], factor: int, seed: int
) -> None:
    rng = np.random.default_rng(seed)
    whole, narrow, thin, half = parts
    made = {
        "enter": layer(rng, channels, sum(parts), 1),
        "three": layer(rng, narrow, whole, 3),
        "five_a": layer(rng, thin, half, 3),
        "five_b": layer(rng, half, whole, 3),
    }
    x = image(rng, height, width, channels, 1)
    inside, middle = pixels(height, width, narrow + thin + half, 1), pixels(height, width, half, 1)
    strip = pixels(factor, width, max(whole, half), 0)
    out = pixels(height // factor, width // factor, 3 * whole + half, 1)
    inception(x, Block(*(made[name][0] for name in made), parts), inside, middle, out, factor, strip)

    one, three, five, mean = np.split(convolved(bare(x, 1), *made["enter"]), np.cumsum(parts)[:3], 2)
    five = convolved(convolved(five, *made["five_a"]), *made["five_b"])
    together = np.concatenate([one, convolved(three, *made["three"]), five, around(mean)], 2)
    np.testing.assert_allclose(bare(out, 1), shrunk(together, factor), rtol=1e-4, atol=1e-3)


@given(st.integers(1, WIDTH), few, sides, st.integers(0, 2), seeds)
@settings(max_examples=30, deadline=None)
def test_stamps_lie_in_their_lanes(n: int, bands: int, size: int, margin: int, seed: int) -> None:
    stamps = np.random.default_rng(seed).normal(0, 30, (n, bands, size, size)).astype(np.float32)
    out = pixels(size, size, bands, margin)
    stretched_in(stamps, out, margin)
    np.testing.assert_allclose(bare(out, margin)[..., :n], np.arcsinh(stamps).transpose(2, 3, 1, 0), rtol=1e-6)
    assert not bare(out, margin)[..., n:].any()


@given(st.integers(1, WIDTH), few, sides, sides, seeds)
@settings(max_examples=30, deadline=None)
def test_means_are_of_the_first_lanes(n: int, channels: int, height: int, width: int, seed: int) -> None:
    x = image(np.random.default_rng(seed), height, width, channels, 1)
    out = np.empty((n, channels), np.float32)
    means(x, out)
    np.testing.assert_allclose(out, bare(x, 1).mean((0, 1)).T[:n], rtol=1e-5, atol=1e-6)


def test_layers_are_in_fours() -> None:
    with pytest.raises(ValueError, match="multiple of 4"):
        packed(np.zeros((6, 2, 3, 3), np.float32))


def test_a_kernel_is_compiled_once_whatever_its_sizes() -> None:
    """A literal number among the arguments would make another copy of all that is below."""
    rng = np.random.default_rng(1)
    for kernel, factor in ((3, 2), (5, 4)):
        of, _ = layer(rng, 2, 4, kernel)
        x, out, strip = (
            image(rng, 8, 8, 2, kernel // 2),
            pixels(8 // factor, 8 // factor, 4, 1),
            pixels(factor, 8, 4, 0),
        )
        stem(x, of, out, factor, strip)
    assert len(stem.signatures) == 1
    assert len(abreast._rows.signatures) <= 1  # none where the compiled kernels lay on disk
