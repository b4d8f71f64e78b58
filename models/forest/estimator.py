"""A forest as an `Estimator`: photometry, walk, densities, points, block by block."""

from typing import Any

import numpy as np

from models import grid as grids
from models.bundle import Bundle
from models.forest import boxes
from models.forest.density import stored
from models.forest.forest import Forest
from models.forest.inference import Inference
from models.lending import LENDER
from models.photometry import MagnitudeSystem, Photometry, photometry
from models.points import COLUMNS, Points
from schemas.batch import Estimates, Float32, Float64, Galaxies, Int32
from schemas.errors import UserError
from schemas.flags import Flag

BLOCK = 1 << 17  # rows of which photometry, points and flags are held at once: bounds temporary memory


class ForestEstimator:
    """A forest's estimates. Holds read-only arrays, so any number of threads may call `estimate` at once.

    Raises
    ------
    schemas.errors.UserError
        If the bundle's tensors do not fit each other.
    """

    kind = "forest"

    def __init__(self, bundle: Bundle) -> None:
        self.card: dict[str, Any] = bundle.card
        self.sha256: str = bundle.card["sha256"]
        self.survey: str = bundle.card["survey"]
        self.bands: tuple[str, ...] = tuple(bundle.card["bands"])
        self.grid: Float64 = grids.linear(bundle.card["grid"]["z_max"], bundle.card["grid"]["points"])
        self._system = MagnitudeSystem(
            np.array(bundle.card["softening"], np.float64),
            np.array(bundle.card["dust"], np.float64),
            self.bands.index(bundle.card["reference"]),
        )
        self._masks = np.array(bundle.card["masks"], np.uint32)
        ranges = bundle.card["feature_range"]
        self._lowest = np.array([-np.inf if low is None else low for low, _ in ranges], np.float32)
        self._highest = np.array([np.inf if high is None else high for _, high in ranges], np.float32)
        try:
            forest = Forest(*(bundle.tensors[field] for field in Forest._fields))
            forest.check(len(self.bands), len(bundle.tensors["z"]))
            edges = np.array(bundle.card["pit_edges"], np.float64)
            self._maps = stored(bundle.tensors["slope"], edges, len(self.bands))
            self._distance = boxes.stored(bundle.tensors, len(self.bands))
            self._inference = Inference(
                forest,
                bundle.tensors["z"],
                bundle.tensors["weight"],
                self.grid,
                bundle.card["smoothing"],
                bundle.card["alpha"],
                self._maps,
            )
        except (KeyError, ValueError) as error:
            raise UserError(f"The model bundle {self.sha256[:8]} does not hold a whole forest: {error}.") from error

    def estimate(self, galaxies: Galaxies) -> Estimates:
        """Redshift PDFs, points and flags: see `models.estimator.Estimator`."""
        check_bands(galaxies, self.bands, self.sha256)
        return self.estimate_arrays(galaxies.flux, galaxies.flux_err, galaxies.band_state, galaxies.ebv)

    def estimate_arrays(self, flux: Float32, flux_err: Float32, band_state: np.ndarray, ebv: Float32) -> Estimates:
        """The same from bare arrays in the model's bands: fluxes in nJy [n, B], `BandState` [n, B], E(B-V) in mag [n]."""
        n = len(ebv)
        pdf = LENDER.empty(n, len(self.grid))
        columns = [np.empty(n, np.float32) for _ in COLUMNS]
        mag_ref = np.empty(n, np.float32)
        flags = np.empty(n, np.uint32)
        band_mask = np.empty(n, np.uint32)
        for first in range(0, n, BLOCK):
            rows = slice(first, min(first + BLOCK, n))
            seen = photometry(flux[rows], flux_err[rows], band_state[rows], ebv[rows], self._system)
            found = self._pdfs(seen, pdf[rows])
            for column, values in zip(columns, found.values.T, strict=True):
                column[rows] = values
            mag_ref[rows] = seen.mag_ref
            band_mask[rows] = seen.band_mask
            flags[rows] = seen.flags | found.flags | self._strangeness(seen)
        named = dict(zip(COLUMNS, columns, strict=True))
        return Estimates(pdf=pdf, **named, mag_ref=mag_ref, flags=flags, band_mask=band_mask)

    def _pdfs(self, seen: Photometry, pdf: Float32) -> Points:
        """PDFs into `pdf`, float32[n, G]; the points and flags of them."""
        return self._inference.pdfs(seen.features, self._map_of_row(seen), pdf)

    def _map_of_row(self, seen: Photometry) -> Int32:
        return self._maps.of(seen.mag_ref, seen.band_mask, len(self.bands))

    def predict(self, features: Float32, threads: int = 1) -> Float32:
        """Mean redshift of the leaves' training galaxies, mean over the trees, float32[n]: what scikit-learn calls `predict`.

        No PDF is made: for a first look at many galaxies. Features are those of `models.photometry.Photometry`.

        Raises
        ------
        ValueError
            If `features` is not float32[n, F].
        """
        return self._inference.predict(features, threads)

    def _strangeness(self, seen: Photometry) -> np.ndarray:
        """Flags of rows unlike the training set; none where there is no photometry at all."""
        outside = ((seen.features < self._lowest) | (seen.features > self._highest)).any(1)
        far = np.zeros(1, np.bool_) if self._distance is None else self._distance.strange(seen.features, seen.band_mask)
        unseen = (seen.band_mask != 0) & ~np.isin(seen.band_mask, self._masks)
        return (
            np.where(outside, np.uint32(Flag.FEATURE_RANGE), np.uint32(0))
            | np.where(unseen, np.uint32(Flag.MASK_UNSEEN), np.uint32(0))
            | np.where(far, np.uint32(Flag.OUT_OF_DISTRIBUTION), np.uint32(0))
        )


def check_bands(galaxies: Galaxies, bands: tuple[str, ...], sha256: str) -> None:
    """Raise ``UserError`` unless `galaxies` come in `bands`, those of the model `sha256`, in their order."""
    if tuple(galaxies.bands) != bands:
        raise UserError(
            f"The galaxies have bands {' '.join(galaxies.bands)}, the model {sha256[:8]} wants {' '.join(bands)}."
        )
