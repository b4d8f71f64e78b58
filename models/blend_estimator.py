"""A forest and networks as an `Estimator`: photometry, both PDFs, their mean, points, block by block."""

from typing import Any

import numpy as np

from models.blend import Blend
from models.bundle import Bundle
from models.forest.estimator import ForestEstimator, check_bands
from models.networks.network import Evaluator, Networks
from models.photometry import MagnitudeSystem, Photometry, photometry
from models.points import COLUMNS, points, risk_tables
from schemas.batch import Estimates, Float32, Float64, Galaxies
from schemas.errors import UserError

BLOCK = 2048  # rows worked on at once: bounds temporary memory (10 MB)


class BlendEstimator:
    """Estimates of a bundle of kind ``forest+mlp``. Holds read-only arrays: any number of threads may call `estimate` at once.

    Raises
    ------
    schemas.errors.UserError
        If the bundle's tensors do not fit each other.
    """

    kind = "forest+mlp"

    def __init__(self, bundle: Bundle) -> None:
        self._forest = ForestEstimator(bundle)
        self.card: dict[str, Any] = bundle.card
        self.sha256: str = bundle.card["sha256"]
        self.survey: str = bundle.card["survey"]
        self.bands: tuple[str, ...] = self._forest.bands
        self.grid: Float64 = self._forest.grid
        self._system = MagnitudeSystem(
            np.array(bundle.card["softening"], np.float64),
            np.array(bundle.card["dust"], np.float64),
            self.bands.index(bundle.card["reference"]),
        )
        self._risk = risk_tables(self.grid)
        self._maps = self._forest.maps
        try:
            mixed = bundle.card["networks"]
            networks = Networks(*(bundle.tensors[f"networks.{name}"] for name in Networks._fields))
            networks.check(len(self.bands), len(self.grid))
            self._networks = Evaluator(networks)
            self._blend = Blend(
                self.grid,
                bundle.card["smoothing"],
                bundle.card["alpha"],
                mixed["weight"],
                mixed["power"],
                self._maps,
            )
        except (KeyError, TypeError, ValueError) as error:
            raise UserError(f"The model bundle {self.sha256[:8]} does not hold whole networks: {error}.") from error

    def estimate(self, galaxies: Galaxies) -> Estimates:
        """Redshift PDFs, points and flags: see `models.estimator.Estimator`."""
        check_bands(galaxies, self.bands, self.sha256)
        return self.estimate_arrays(galaxies.flux, galaxies.flux_err, galaxies.band_state, galaxies.ebv)

    def estimate_arrays(self, flux: Float32, flux_err: Float32, band_state: np.ndarray, ebv: Float32) -> Estimates:
        """The same from bare arrays in the model's bands: fluxes in nJy [n, B], `BandState` [n, B], E(B-V) in mag [n]."""
        n = len(ebv)
        pdf = np.empty((n, len(self.grid)), np.float32)
        values = np.empty((n, len(COLUMNS)), np.float32)
        mag_ref = np.empty(n, np.float32)
        flags = np.empty(n, np.uint32)
        band_mask = np.empty(n, np.uint32)
        for first in range(0, n, BLOCK):
            rows = slice(first, min(first + BLOCK, n))
            seen = photometry(flux[rows], flux_err[rows], band_state[rows], ebv[rows], self._system)
            self._pdf(seen, pdf[rows])
            summary = points(pdf[rows], self.grid, self._risk)
            values[rows] = summary.values
            mag_ref[rows] = seen.mag_ref
            band_mask[rows] = seen.band_mask
            flags[rows] = seen.flags | summary.flags | self._forest._strangeness(seen)
        columns = {name: np.ascontiguousarray(values[:, k]) for k, name in enumerate(COLUMNS)}
        return Estimates(pdf=pdf, **columns, mag_ref=mag_ref, flags=flags, band_mask=band_mask)

    def _pdf(self, seen: Photometry, out: Float32) -> None:
        mean = self._blend.mean(self._forest.histograms(seen), self._networks.log_density(seen))
        self._blend.finish(mean, self._maps.of(seen.mag_ref, seen.band_mask, len(self.bands)), out)
