"""What image networks are given: stamps cut and masked as a naive twin does it, columns that fall with their bands. No torch."""

import importlib.util

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from models.images import engine, inputs
from models.images.architecture import Architecture, columns
from models.images.settings import ImageSettings
from models.photometry import MagnitudeSystem
from schemas.batch import BandState, Stamps
from schemas.errors import UserError

SYSTEM = MagnitudeSystem(np.array([10.0, 5.0, 8.0]), np.array([4.0, 3.0, 2.0]), 1)
SOFTENING = np.array([2.0, 4.0, 0.5], np.float32)


def twin(pixels: bytes | None, variance: bytes | None, h: int, w: int, size: int) -> tuple[np.ndarray, int]:
    """One galaxy, pixel by pixel."""
    out = np.zeros((3, size, size), np.float32)
    if pixels is None or not len(pixels):
        return out, -1
    if h <= 0 or w <= 0 or len(pixels) != 12 * h * w:
        return out, 0
    planes = np.frombuffer(pixels, "<f4").reshape(3, h, w)
    noise = np.frombuffer(variance, "<f4").reshape(3, h, w) if variance and len(variance) == len(pixels) else None
    good = 0
    for b in range(3):
        for row in range(size):
            for column in range(size):
                y, x = row + h // 2 - size // 2, column + w // 2 - size // 2
                if not (0 <= y < h and 0 <= x < w):
                    continue
                value = planes[b, y, x]
                if not np.isfinite(value) or (noise is not None and not (0 < noise[b, y, x] < np.inf)):
                    continue
                scaled = value * np.float32(1.0 / SOFTENING[b])
                out[b, row, column] = min(max(scaled, -inputs.BRIGHTEST), inputs.BRIGHTEST)
                good += 1
    return out, good


@st.composite
def galaxies_with_stamps(draw: st.DrawFn) -> list[tuple[bytes | None, bytes | None, int, int]]:
    found: list[tuple[bytes | None, bytes | None, int, int]] = []
    for _ in range(draw(st.integers(0, 5))):
        h, w = draw(st.integers(1, 9)), draw(st.integers(1, 9))
        rng = np.random.default_rng(draw(st.integers(0, 1000)))
        planes = rng.normal(0, 50, (3, h, w)).astype("<f4")
        planes[rng.random(planes.shape) < 0.1] = draw(st.sampled_from([np.nan, np.inf, 1e9, -1e9]))
        noise = rng.uniform(-0.2, 2, planes.shape).astype("<f4")
        pixels = draw(st.sampled_from([planes.tobytes(), None, planes.tobytes()[:-4], planes.tobytes()[:-3], b""]))
        found.append((pixels, draw(st.sampled_from([noise.tobytes(), None, b"abc"])), h, w))
    return found


@settings(max_examples=60, deadline=None)
@given(galaxies_with_stamps(), st.integers(2, 8))
def test_stamps_are_cut_and_masked_as_the_naive_twin_does_it(
    some: list[tuple[bytes | None, bytes | None, int, int]], size: int
) -> None:
    pixels, variance, height, width = zip(*some, strict=True) if some else ((), (), (), ())
    stamps = Stamps(
        np.array(height, np.int32),
        np.array(width, np.int32),
        np.ones(len(some), np.float32),
        pa.array(pixels, pa.large_binary()),
        pa.array(variance, pa.large_binary()),
    )
    found, good, _ = inputs.cut(stamps, 3, size, SOFTENING)
    for i, one in enumerate(some):
        want, count = twin(*one, size)
        assert good[i] == count
        np.testing.assert_array_equal(found[i], want)


def test_a_slice_of_stamps_is_cut_like_the_whole() -> None:
    blobs = [np.full((3, 4, 4), k, "<f4").tobytes() for k in range(6)]
    side = np.full(6, 4, np.int32)
    none = pa.nulls(6, pa.large_binary())
    whole = Stamps(side, side, np.ones(6, np.float32), pa.array(blobs, pa.large_binary()), none)
    part = Stamps(*(column[2:5] for column in whole))
    np.testing.assert_array_equal(inputs.cut(part, 3, 4, SOFTENING)[0], inputs.cut(whole, 3, 4, SOFTENING)[0][2:5])


def stamps_of(planes: np.ndarray) -> Stamps:
    n, _, h, w = planes.shape
    pixels = pa.array([one.astype("<f4").tobytes() for one in planes], pa.large_binary())
    none = pa.nulls(n, pa.large_binary())
    return Stamps(np.full(n, h, np.int32), np.full(n, w, np.int32), np.ones(n, np.float32), pixels, none)


def test_float16_is_that_of_numpy() -> None:
    """Of every size that a stamp can have, the smallest included, and of what is masked."""
    rng = np.random.default_rng(4)
    planes = (rng.normal(0, 1, (9, 3, 8, 8)) * 10.0 ** rng.uniform(-12, 6, (9, 3, 8, 8))).astype(np.float32)
    planes[0, 0, 0] = [np.nan, np.inf, -np.inf, 0, -0.0, 1e38, 3e-45, 1]
    wide = inputs.cut(stamps_of(planes), 3, 8, SOFTENING)
    narrow = inputs.cut(stamps_of(planes), 3, 8, SOFTENING, dtype=inputs.HALF)
    np.testing.assert_array_equal(narrow.stamps.view(np.uint16), wide.stamps.astype(np.float16).view(np.uint16))
    np.testing.assert_array_equal(narrow.good, wide.good)


def test_a_flat_top_or_an_infinite_pixel_is_saturated() -> None:
    peak = 100 * np.exp(-0.5 * (np.hypot(*(np.indices((16, 16)) - 8)) / 2) ** 2)
    planes = np.broadcast_to(peak + np.random.default_rng(1).normal(0, 0.1, (7, 3, 16, 16)), (7, 3, 16, 16)).astype(
        "<f4"
    )
    planes[1, 1] = np.minimum(planes[1, 1], 60)  # full at 60
    planes[2, 0, 8, 8] = np.inf
    planes[3, 2, 0, 0] = np.inf  # a neighbour's
    planes[4, 0, 7, 7:9] = planes[4, 0].max() + 1  # two of one value may be chance
    planes[5] = 0.5  # a constant sky is faint
    planes[6, 1, 8, 8] = np.nan
    found = inputs.cut(stamps_of(planes), 3, 16, SOFTENING)
    assert (found.saturated > 0).tolist() == [False, True, True, False, False, False, False]
    assert found.saturated[1] == (planes[1, 1] == planes[1, 1].max()).sum()
    assert found.good.tolist() == [768, 768, 767, 767, 768, 768, 767]
    band_state = np.ones((7, 3), np.uint8)
    band_state[1, 1] = BandState.NOT_OBSERVED
    without = inputs.cut(stamps_of(planes), 3, 16, SOFTENING, band_state)
    assert without.saturated[1] == 0
    assert without.good[1] == 512
    assert not without.stamps[1, 1].any()


def test_columns_fall_with_their_bands() -> None:
    flux = np.array([[100.0, 120.0, 90.0]], np.float32)
    err = np.ones_like(flux)
    ebv = np.array([0.1], np.float32)
    whole, _ = inputs.features(flux, err, np.ones((1, 3), np.uint8), ebv, SYSTEM)
    assert whole.shape == (1, columns(3))
    assert np.isfinite(whole).all()
    table = inputs.depends(3, SYSTEM.reference)
    for b in range(3):
        state = np.ones((1, 3), np.uint8)
        state[0, b] = BandState.NOT_OBSERVED
        without, _ = inputs.features(flux, err, state, ebv, SYSTEM)
        gone = np.isnan(without[0]) | ((without[0] == 0) & (whole[0] != 0))
        np.testing.assert_array_equal(gone, table[b] == 1)
        np.testing.assert_array_equal(without[0][~gone], whole[0][~gone])


def test_an_unknown_dust_is_a_bit_and_not_a_hole() -> None:
    flux = np.full((2, 3), 100.0, np.float32)
    found, _ = inputs.features(flux, flux * 0.1, np.ones((2, 3), np.uint8), np.array([np.nan, 0.2], np.float32), SYSTEM)
    np.testing.assert_allclose(found[:, -2:], [[0, 0], [0.2, 1]], rtol=1e-6)


def test_standard_columns_are_about_nothing_and_holes_are_nothing() -> None:
    rng = np.random.default_rng(1)
    given_columns = rng.normal(20, 3, (500, columns(3))).astype(np.float32)
    given_columns[:50, 0] = np.nan
    scaling = inputs.scaling(SOFTENING, given_columns, 3)
    found = inputs.standard(given_columns, scaling)
    assert (found[:50, 0] == 0).all()
    assert found[50:, 0].mean() == pytest.approx(0, abs=0.01)
    assert found[50:, 0].std() == pytest.approx(1, abs=0.01)
    np.testing.assert_array_equal(scaling.center[6:9], 0)  # bits
    assert np.abs(found).max() <= inputs.REACH


def test_softening_is_twice_the_noise_of_the_sky() -> None:
    variance = np.full((20, 3, 8, 8), 9.0, np.float32)
    variance[:, :, 3:5, 3:5] = 500.0  # the galaxy's own
    variance[:, 1] *= 4
    np.testing.assert_allclose(inputs.stamp_softening(variance), [6.0, 12.0, 6.0])


def test_without_torch_a_bundle_with_graphs_is_wanted(monkeypatch: pytest.MonkeyPatch) -> None:
    from models.bundle import seal

    real = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name, *a: None if name == "torch" else real(name, *a))
    bundle = seal({"kind": "images"}, {})
    with pytest.raises(UserError, match="holds no ONNX graphs"):
        engine.choose(bundle, "auto")
    with pytest.raises(UserError, match="needs torch"):
        engine.choose(bundle, "cuda")
    with pytest.raises(UserError, match="No device is called 'tpu'"):
        engine.choose(bundle, "tpu")


def test_networks_that_cannot_be_are_refused() -> None:
    with pytest.raises(UserError, match="pasquet"):
        Architecture("pasquet", "mixed", 5, 32, 100)
    with pytest.raises(UserError, match="too small"):
        Architecture("lean", "mixed", 5, 8, 100)
    with pytest.raises(UserError, match="positive"):
        ImageSettings(epochs=0)
