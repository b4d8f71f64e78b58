"""From fluxes to what a model eats: asinh magnitudes, colours, a band mask, and flags for what was wrong.

Fluxes are in nJy (AB zero point 31.4). Asinh magnitudes (Lupton, Gunn & Szalay 1999, AJ 118, 1406) make negative and zero
fluxes ordinary numbers, so a galaxy at the noise is data and not a hole.
"""

import math
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from numba import njit

from schemas.batch import BandState, Float32, Float64, UInt8
from schemas.flags import Flag
from schemas.magnitudes import POGSON, ZERO_POINT

SOFTENING_PER_SIGMA = 1.042  # b / sigma_sky: the choice of Lupton et al. that balances noise and bias at zero flux
MAX_BANDS = 32  # bits of a band mask

_MEASURED = int(BandState.MEASURED)
_NON_DETECTED = int(BandState.NON_DETECTED)
_NO_PHOTOMETRY = int(Flag.NO_PHOTOMETRY)
_NOT_OBSERVED_FLAG = int(Flag.BAND_NOT_OBSERVED)
_NON_DETECTED_FLAG = int(Flag.BAND_NON_DETECTED)
_BAD_FLUX = int(Flag.BAD_FLUX)
_NO_EBV = int(Flag.NO_EBV)


class MagnitudeSystem(NamedTuple):
    """How a model turns fluxes into magnitudes; fixed at training and stored with the model.

    Attributes
    ----------
    softening
        b of each band, nJy, float64[B], positive.
    dust
        A_band / E(B-V), mag per mag, float64[B]; all zero = fluxes are never corrected.
    reference
        Index of the reference band.
    """

    softening: Float64
    dust: Float64
    reference: int


class Photometry(NamedTuple):
    """What a model sees of n galaxies in B bands.

    Attributes
    ----------
    features
        Reference magnitude, then the B - 1 colours of neighbouring bands, blue minus red, mag, float32[n, B]; NaN where a
        band it needs gives no flux.
    mag_ref
        Dereddened asinh magnitude in the reference band, float32[n]; NaN where that band gives no flux.
    band_mask
        Bit b is set where band b gives a flux, uint32[n].
    flags
        `schemas.flags.Flag` bits about the photometry, uint32[n].
    """

    features: Float32
    mag_ref: Float32
    band_mask: npt.NDArray[np.uint32]
    flags: npt.NDArray[np.uint32]

    def of(self, rows: np.ndarray | slice) -> "Photometry":
        """The same of some rows."""
        return Photometry(self.features[rows], self.mag_ref[rows], self.band_mask[rows], self.flags[rows])


def photometry(
    flux: Float32, flux_err: Float32, band_state: UInt8, ebv: Float32, system: MagnitudeSystem
) -> Photometry:
    """Features, reference magnitudes, band masks and flags of n galaxies.

    A band enters if it is MEASURED and its flux and error are finite, its error positive; negative flux is data. A measured
    band that fails this is taken as not observed and flagged BAD_FLUX. Where E(B-V) is not finite nothing is corrected,
    and the row is flagged NO_EBV unless the dust law is zero anyway.

    Parameters
    ----------
    flux, flux_err
        nJy, [n, B].
    band_state
        `schemas.batch.BandState`, [n, B]; a value that is no state counts as not observed.
    ebv
        E(B-V), mag, [n]; NaN = unknown.
    system
        The model's magnitude system.

    Raises
    ------
    ValueError
        If the shapes do not fit each other or the system.
    """
    n_bands = len(system.softening)
    shape = (len(ebv), n_bands)
    if not flux.shape == flux_err.shape == band_state.shape == shape or ebv.ndim != 1:
        raise ValueError(
            f"want flux, flux_err and band_state of shape {shape} and ebv of shape ({shape[0]},), "
            f"got {flux.shape}, {flux_err.shape}, {band_state.shape} and {ebv.shape}"
        )
    if len(system.dust) != n_bands or n_bands > MAX_BANDS or not 0 <= system.reference < n_bands:
        raise ValueError(
            f"a magnitude system of {n_bands} softenings, {len(system.dust)} dust coefficients, reference {system.reference}"
        )
    out = Photometry(
        np.empty(shape, np.float32),
        np.empty(shape[0], np.float32),
        np.empty(shape[0], np.uint32),
        np.empty(shape[0], np.uint32),
    )
    _photometry(
        np.ascontiguousarray(flux, np.float32),
        np.ascontiguousarray(flux_err, np.float32),
        np.ascontiguousarray(band_state, np.uint8),
        np.ascontiguousarray(ebv, np.float32),
        np.ascontiguousarray(system.softening, np.float64),
        np.ascontiguousarray(system.dust, np.float64),
        system.reference,
        *out,
    )
    return out


@njit(nogil=True, error_model="numpy", cache=True)
def _photometry(flux, flux_err, band_state, ebv, softening, dust, reference, features, mag_ref, band_mask, flags):  # type: ignore[no-untyped-def]
    n, n_bands = flux.shape
    magnitude = np.empty(n_bands)
    log_softening = np.empty(n_bands)
    dusty = False
    for b in range(n_bands):
        dusty |= dust[b] != 0.0
        log_softening[b] = math.log(softening[b])
    for i in range(n):
        mask = np.uint32(0)
        flag = np.uint32(0)
        reddening = np.float64(ebv[i])
        if not math.isfinite(reddening):
            reddening = 0.0
            if dusty:
                flag |= np.uint32(_NO_EBV)
        for b in range(n_bands):
            magnitude[b] = np.nan
            if band_state[i, b] == _MEASURED:
                f = np.float64(flux[i, b]) * math.exp(dust[b] * reddening / POGSON)
                error = flux_err[i, b]
                if math.isfinite(f) and math.isfinite(error) and error > 0.0:
                    magnitude[b] = ZERO_POINT - POGSON * (math.asinh(f / (2.0 * softening[b])) + log_softening[b])
                    mask |= np.uint32(1) << np.uint32(b)
                else:
                    flag |= np.uint32(_BAD_FLUX | _NOT_OBSERVED_FLAG)
            elif band_state[i, b] == _NON_DETECTED:
                flag |= np.uint32(_NON_DETECTED_FLAG)
            else:
                flag |= np.uint32(_NOT_OBSERVED_FLAG)
        if mask == 0:
            flag |= np.uint32(_NO_PHOTOMETRY)
        features[i, 0] = magnitude[reference]
        for b in range(n_bands - 1):
            features[i, b + 1] = magnitude[b] - magnitude[b + 1]
        mag_ref[i] = magnitude[reference]
        band_mask[i] = mask
        flags[i] = flag


def softening(flux: Float32, flux_err: Float32, band_state: UInt8) -> Float64:
    """Softening b of each band from a training set: 1.042 times the sky noise, nJy, float64[B].

    The sky noise is the median error of the faintest half of the good measurements: there the sky, not the galaxy, makes the
    noise. A band without any good measurement gets the median of the others.

    Raises
    ------
    ValueError
        If no band holds a good measurement.
    """
    good = (band_state == BandState.MEASURED) & np.isfinite(flux) & np.isfinite(flux_err) & (flux_err > 0)
    sky = np.full(flux.shape[1], np.nan)
    for b in range(flux.shape[1]):
        f, error = flux[good[:, b], b].astype(np.float64), flux_err[good[:, b], b].astype(np.float64)
        if len(f):
            sky[b] = np.median(error[f <= np.median(f)])
    if np.isnan(sky).all():
        raise ValueError("no band holds a single good measurement")
    sky[np.isnan(sky)] = np.nanmedian(sky)
    return SOFTENING_PER_SIGMA * sky


def asinh_magnitude(flux: Float64, softening: Float64) -> Float64:
    """Asinh magnitude of flux f (nJy): 31.4 - a [asinh(f / 2b) + ln b]; finite for every finite flux."""
    return ZERO_POINT - POGSON * (np.arcsinh(flux / (2.0 * softening)) + np.log(softening))


def asinh_magnitude_error(flux: Float64, flux_err: Float64, softening: Float64) -> Float64:
    """Error of an asinh magnitude: a sigma_f / sqrt(f^2 + 4 b^2), mag."""
    return POGSON * flux_err / np.sqrt(flux * flux + 4.0 * softening * softening)
