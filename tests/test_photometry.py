"""The photometry kernel against a few lines of plain Python, and the magnitudes against their definitions."""

import math
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from models import photometry as ph
from schemas.batch import BandState
from schemas.flags import Flag
from schemas.magnitudes import flux_from_magnitude, magnitude_from_flux

SYSTEM = ph.MagnitudeSystem(np.array([50.0, 12.0, 0.3]), np.array([4.1, 2.2, 1.0]), 1)
ANY = st.floats(width=32, allow_nan=True, allow_infinity=True)


def naive(flux: np.ndarray, error: np.ndarray, state: np.ndarray, ebv: float, system: ph.MagnitudeSystem) -> tuple:
    flags, mask, mags = Flag(0), 0, []
    known = math.isfinite(ebv)
    if not known and any(system.dust):
        flags |= Flag.NO_EBV
    for b, softening in enumerate(system.softening):
        mag = math.nan
        if state[b] == BandState.MEASURED:
            f = (
                float(flux[b]) * 10 ** (0.4 * system.dust[b] * float(ebv))
                if known and abs(ebv) < 70
                else float(flux[b])
            )
            if math.isfinite(f) and math.isfinite(error[b]) and error[b] > 0:
                mag = 31.4 - 2.5 / math.log(10) * (math.asinh(f / (2 * softening)) + math.log(softening))
                mask |= 1 << b
            else:
                flags |= Flag.BAD_FLUX | Flag.BAND_NOT_OBSERVED
        else:
            flags |= Flag.BAND_NON_DETECTED if state[b] == BandState.NON_DETECTED else Flag.BAND_NOT_OBSERVED
        mags.append(mag)
    if not mask:
        flags |= Flag.NO_PHOTOMETRY
    r = system.reference
    return [mags[r]] + [a - b for a, b in pairwise(mags)], mags[r], mask, int(flags)


@given(
    flux=hnp.arrays(np.float32, (5, 3), elements=ANY),
    error=hnp.arrays(np.float32, (5, 3), elements=ANY),
    state=hnp.arrays(np.uint8, (5, 3), elements=st.integers(0, 4)),
    ebv=hnp.arrays(np.float32, 5, elements=st.one_of(st.just(math.nan), st.floats(-1, 5, width=32))),
)
@settings(max_examples=150, deadline=None)
def test_kernel_is_its_naive_twin(flux: np.ndarray, error: np.ndarray, state: np.ndarray, ebv: np.ndarray) -> None:
    got = ph.photometry(flux, error, state, ebv, SYSTEM)
    for i in range(5):
        features, mag_ref, mask, flags = naive(flux[i], error[i], state[i], ebv[i], SYSTEM)
        np.testing.assert_allclose(got.features[i], np.array(features, np.float32), rtol=1e-5, atol=2e-5)
        np.testing.assert_allclose(got.mag_ref[i], np.float32(mag_ref), rtol=1e-6)
        assert (got.band_mask[i], got.flags[i]) == (mask, flags)


def test_no_dust_law_needs_no_ebv() -> None:
    one = np.ones((1, 3), np.float32)
    state = np.ones((1, 3), np.uint8)
    unknown = np.full(1, np.nan, np.float32)
    assert ph.photometry(one, one, state, unknown, SYSTEM).flags[0] == Flag.NO_EBV
    assert ph.photometry(one, one, state, unknown, SYSTEM._replace(dust=np.zeros(3))).flags[0] == 0


def test_asinh_magnitudes_are_ordinary_ones_when_bright_and_finite_when_negative() -> None:
    flux = np.array([1e6, 1e4, 0.0, -100.0])
    mags = ph.asinh_magnitude(flux, np.float64(10.0))
    ordinary, _ = magnitude_from_flux(flux, np.ones(4))
    np.testing.assert_allclose(mags[0], ordinary[0], atol=1e-6)
    assert np.isfinite(mags).all()
    assert np.all(np.diff(mags) > 0)
    assert np.isnan(ordinary[2:]).all()
    step = 1e-3
    slope = (ph.asinh_magnitude(flux + step, np.float64(10.0)) - mags) / step
    np.testing.assert_allclose(ph.asinh_magnitude_error(flux, np.ones(4), np.float64(10.0)), np.abs(slope), rtol=1e-3)


@given(st.floats(10, 32), st.floats(0.001, 2))
def test_magnitudes_and_fluxes_go_there_and_back(magnitude: float, error: float) -> None:
    flux, flux_err = flux_from_magnitude(np.array([magnitude]), np.array([error]))
    back = magnitude_from_flux(flux, flux_err)
    np.testing.assert_allclose(np.ravel(back), [magnitude, error], rtol=1e-9)


def test_softening_is_the_sky_noise_of_the_faint_half() -> None:
    flux = np.array([[1, np.nan], [2, np.nan], [3, np.nan], [400, np.nan]], np.float32)
    error = np.array([[5, 1], [6, 1], [60, 1], [70, 1]], np.float32)
    state = np.ones((4, 2), np.uint8)
    np.testing.assert_allclose(ph.softening(flux, error, state), 1.042 * np.array([5.5, 5.5]))
    with pytest.raises(ValueError, match="no band"):
        ph.softening(flux, error, np.zeros((4, 2), np.uint8))


def test_shapes_that_do_not_fit_are_refused() -> None:
    one = np.ones((2, 3), np.float32)
    with pytest.raises(ValueError, match="shape"):
        ph.photometry(one, one, np.ones((2, 2), np.uint8), np.zeros(2, np.float32), SYSTEM)
    with pytest.raises(ValueError, match="reference"):
        ph.photometry(one, one, np.ones((2, 3), np.uint8), np.zeros(2, np.float32), SYSTEM._replace(reference=3))
