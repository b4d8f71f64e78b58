"""A training set in canonical order, and the photometry of its rows: as observed, with bands taken away, with noise added."""

import hashlib

import numpy as np
import numpy.typing as npt

from models.photometry import MagnitudeSystem, Photometry, photometry
from schemas.batch import BandState, Float32, Float64, Int64, UInt8


class Sample:
    """A training set in canonical order: the same galaxies in another order make the same model."""

    def __init__(
        self, flux: Float32, flux_err: Float32, band_state: UInt8, ebv: Float32, z: Float64, weight: Float64
    ) -> None:
        order = np.lexsort((*flux.T, *flux_err.T, *band_state.T, ebv, weight, z))
        self.flux, self.flux_err, self.ebv = (np.asarray(a, np.float32)[order] for a in (flux, flux_err, ebv))
        self.band_state = np.asarray(band_state, np.uint8)[order]
        self.z, self.weight = np.asarray(z, np.float64)[order], np.asarray(weight, np.float64)[order]

    def __len__(self) -> int:
        """Galaxies."""
        return len(self.z)

    def fingerprint(self) -> str:
        """SHA-256 of the arrays in canonical order."""
        digest = hashlib.sha256()
        for array in (self.flux, self.flux_err, self.band_state, self.ebv, self.z, self.weight):
            digest.update(array.tobytes())
        return digest.hexdigest()

    def photometry(
        self,
        rows: Int64,
        system: MagnitudeSystem,
        mask: npt.NDArray[np.uint32] | None = None,
        noise: float = 0.0,
        rng: np.random.Generator | None = None,
    ) -> Photometry:
        """Photometry of `rows`.

        Parameters
        ----------
        rows
            Which galaxies, int[k].
        system
            The model's magnitude system.
        mask
            If given, only the bands in it are observed, uint32[k].
        noise
            Gaussian noise to add to the fluxes, in units of their errors; drawn from `rng`.
        """
        flux, state = self.flux[rows], self.band_state[rows]
        if noise > 0.0:
            assert rng is not None, "noise is drawn from a generator"
            flux = flux + np.float32(noise) * self.flux_err[rows] * rng.standard_normal(flux.shape, np.float32)
        if mask is not None:
            kept = (mask[:, None] >> np.arange(state.shape[1], dtype=np.uint32)) & 1
            state = np.where(kept == 1, state, BandState.NOT_OBSERVED).astype(np.uint8)
        return photometry(flux, self.flux_err[rows], state, self.ebv[rows], system)


def known_masks(n_bands: int) -> npt.NDArray[np.uint32]:
    """The band masks a model is taught beside the full one: every run of neighbouring bands, and every single band lost."""
    full = (1 << n_bands) - 1
    runs = {((1 << length) - 1) << start for length in range(2, n_bands) for start in range(n_bands - length + 1)}
    return np.array(sorted(runs | {full & ~(1 << b) for b in range(n_bands) if n_bands > 2}), np.uint32)


def mask_shares(masks: npt.NDArray[np.uint32]) -> Float64:
    """How often each of `masks` is drawn for a masked copy, float64[masks], sum 1.

    Each band more makes a mask twice as likely, a hole between bands ten times less: surveys lack their first or last bands
    more often. Best out of fold on DC2 for runs of four and five bands; equal shares gain a little for two or three.
    """
    lowest = masks & (~masks + np.uint32(1))
    hole = (masks & (masks + lowest)) != 0  # a run of bits plus its lowest leaves none of them
    share = np.exp2(np.bitwise_count(masks)) * np.where(hole, 0.1, 1.0)
    return np.asarray(share / share.sum(), np.float64)
