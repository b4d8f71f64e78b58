"""Image networks as an `Estimator`: stamps and photometry in, recalibrated PDFs, points and flags out."""

from typing import Any

import numpy as np

from models import grid as grids
from models.bundle import Bundle
from models.forest.density import densities, smoothing, stored
from models.forest.estimator import check_bands
from models.images import inputs
from models.images.architecture import Architecture
from models.images.engine import Chosen, choose
from models.images.gallery import Gallery, prepared
from models.photometry import MagnitudeSystem
from models.points import COLUMNS, points, risk_tables
from schemas.batch import Estimates, Float32, Float64, Galaxies, Stamps
from schemas.errors import UserError
from schemas.flags import Flag

BLOCK = 8192  # galaxies whose stamps are held as float32 at once


class ImageEstimator:
    """Estimates of a bundle of kind ``images``.

    A row depends on the rows beside it by rounding alone: libraries choose other sums for other batches. A galaxy without a
    stamp, or with one that is all masked or not of the bands' planes, has NaN everywhere and a flag.

    Parameters
    ----------
    bundle
        The model.
    device, batch
        As `models.images.engine.choose` has them.

    Raises
    ------
    schemas.errors.UserError
        If the bundle's tensors do not fit each other, or the device cannot be had.
    """

    kind = "images"

    def __init__(self, bundle: Bundle, device: str = "auto", batch: int | None = None) -> None:
        card = bundle.card
        self.card: dict[str, Any] = card
        self.sha256: str = card["sha256"]
        self.survey: str = card["survey"]
        self.bands: tuple[str, ...] = tuple(card["bands"])
        self.grid: Float64 = grids.linear(card["grid"]["z_max"], card["grid"]["points"])
        self._system = MagnitudeSystem(
            np.array(card["softening"], np.float64),
            np.array(card["dust"], np.float64),
            self.bands.index(card["reference"]),
        )
        try:
            self._architecture = Architecture(**card["architecture"])
            self._scaling = inputs.Scaling(*(bundle.tensors[f"scaling.{name}"] for name in inputs.Scaling._fields))
            self._maps = stored(bundle.tensors["slope"], np.array(card["pit_edges"], np.float64), len(self.bands))
            if self._architecture.bands != len(self.bands) or self._architecture.points != len(self.grid):
                raise ValueError("the networks have other bands or another grid than the card")
        except (KeyError, TypeError, ValueError) as error:
            raise UserError(
                f"The model bundle {self.sha256[:8]} does not hold whole image networks: {error}."
            ) from error
        self._alpha = float(card["alpha"])
        self._weights = grids.trapezoid(self.grid)
        self._risk = risk_tables(self.grid)
        self.engine: Chosen = choose(bundle, device, batch)

    def estimate(self, galaxies: Galaxies) -> Estimates:
        """Redshift PDFs, points and flags: see `models.estimator.Estimator`."""
        check_bands(galaxies, self.bands, self.sha256)
        n, size, n_bands = len(galaxies), self._architecture.size, len(self.bands)
        pdf = np.full((n, len(self.grid)), np.nan, np.float32)
        raw, seen = inputs.features(galaxies.flux, galaxies.flux_err, galaxies.band_state, galaxies.ebv, self._system)
        columns = inputs.standard(raw, self._scaling)[:, self._architecture.columns]
        flags = seen.flags.copy()
        map_of_row = self._maps.of(seen.mag_ref, seen.band_mask, n_bands)
        for first in range(0, n, BLOCK):
            rows = np.arange(first, min(first + BLOCK, n))
            if galaxies.stamps is None:
                flags[rows] |= np.uint32(Flag.NO_STAMP)
                continue
            given = galaxies.stamps
            part = slice(first, first + BLOCK)
            those = Stamps(
                given.height[part], given.width[part], given.scale[part], given.pixels[part], given.variance[part]
            )
            stamps, good = inputs.cut(those, n_bands, size, self._scaling.softening)
            stamps *= (galaxies.band_state[rows] != 0)[:, :, None, None]
            flags[rows] |= np.where(good < 0, np.uint32(Flag.NO_STAMP), np.uint32(0))
            flags[rows] |= np.where(good == 0, np.uint32(Flag.BAD_STAMP), np.uint32(0))
            some = (good > 0) & (map_of_row[rows] >= 0)
            found = self.engine.engine.probabilities(stamps[some], np.ascontiguousarray(columns[rows][some]))
            pdf[rows[some]] = self.finished(found, map_of_row[rows[some]])
        at = points(pdf, self.grid, self._risk)
        named = {name: at.column(name) for name in COLUMNS}
        entered = np.where(np.isnan(pdf[:, 0]), np.uint32(0), seen.band_mask)
        return Estimates(pdf=pdf, **named, mag_ref=seen.mag_ref, flags=flags | at.flags, band_mask=entered)

    def pdfs(self, gallery: Gallery) -> tuple[Float32, Float32]:
        """PDFs of a gallery as the networks gave them, and recalibrated, float32[n, G] each; NaN where no band is there."""
        scaled = prepared(gallery, self._system, self._scaling)
        columns = np.ascontiguousarray(scaled.columns[:, self._architecture.columns])
        found = self.engine.engine.probabilities(scaled.stamps, columns)
        map_of_row = self._maps.of(scaled.seen.mag_ref, scaled.seen.band_mask, len(self.bands))
        return (found / self._weights).astype(np.float32), self.finished(found, map_of_row)

    def finished(self, probabilities: np.ndarray, map_of_row: np.ndarray) -> np.ndarray:
        """Recalibrated densities on the grid of what an engine found, float32[n, G]."""
        density = (probabilities / self._weights).astype(np.float32)
        return densities(
            density, self.grid, smoothing(self.grid, 0.0), self._alpha, self._maps, map_of_row.astype(np.int32)
        )
