"""AB magnitudes and fluxes in nJy."""

import math

import numpy as np
import numpy.typing as npt

from schemas.batch import Float64

ZERO_POINT = 31.4  # AB magnitude of 1 nJy
POGSON = 2.5 / math.log(10.0)  # a: magnitudes per e-fold of flux


def flux_from_magnitude(
    magnitude: npt.NDArray[np.floating], magnitude_err: npt.NDArray[np.floating]
) -> tuple[Float64, Float64]:
    """Flux and error (nJy) of ordinary AB magnitudes: f = 10^(-0.4 (m - 31.4)), sigma_f = f sigma_m / a."""
    flux = 10.0 ** (-0.4 * (np.asarray(magnitude, np.float64) - ZERO_POINT))
    return flux, flux * magnitude_err / POGSON


def magnitude_from_flux(flux: Float64, flux_err: Float64) -> tuple[Float64, Float64]:
    """Ordinary AB magnitude and error of a flux in nJy; NaN where the flux is not positive."""
    positive = np.where(flux > 0, flux, np.nan)
    return ZERO_POINT - POGSON * np.log(positive), POGSON * flux_err / positive
