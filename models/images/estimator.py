"""Image networks as an `Estimator`: stamps and photometry in, recalibrated PDFs, points and flags out.

`estimate` is three steps that a worker takes apart, for the middle one belongs to a device: `begin` and `asks` make what the
networks are asked, an engine answers, `complete` makes estimates of the answers.
"""

from collections.abc import Iterator, Sequence
from functools import cached_property
from typing import Any, NamedTuple

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
from schemas.batch import Estimates, Float32, Float64, Galaxies, Int32, Int64, Stamps
from schemas.errors import UserError
from schemas.flags import Flag

BLOCK_BYTES = 32 << 20  # of stamps in one ask: several of them wait for a device at once


class Begun(NamedTuple):
    """What is known of n galaxies before a network is asked.

    Attributes
    ----------
    columns
        Standardised, those that the networks see, float32[n, F].
    map_of_row
        Number of each galaxy's recalibration map, int32[n]; -1 = no band.
    mag_ref, band_mask
        As `schemas.batch.Estimates` has them.
    flags
        uint32[n]; `asks` adds what it finds of the stamps.
    """

    columns: Float32
    map_of_row: Int32
    mag_ref: Float32
    band_mask: np.ndarray
    flags: np.ndarray


class Ask(NamedTuple):
    """What an engine is asked: k of n galaxies, by number, with the arguments of `Engine.probabilities`."""

    rows: Int64  # [k]
    stamps: np.ndarray  # [k, B, S, S]
    columns: Float32  # [k, F]


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
        self._chosen = bundle, device, batch

    @cached_property
    def engine(self) -> Chosen:
        """What evaluates the networks, and why; made when it is first wanted: a process that only plans has no need of a GPU."""
        return choose(*self._chosen)

    def ready(self) -> Chosen:
        """The engine, after it has answered once: what is compiled, or captured, at the first batch is there now."""
        of, chosen = self._architecture, self.engine
        stamps = np.zeros((1, of.bands, of.size, of.size), chosen.engine.takes)
        chosen.engine.probabilities(stamps, np.zeros((1, of.columns.stop - of.columns.start), np.float32))
        return chosen

    def estimate(self, galaxies: Galaxies) -> Estimates:
        """Redshift PDFs, points and flags: see `models.estimator.Estimator`."""
        begun, engine = self.begin(galaxies), self.engine.engine
        return self.complete(
            begun,
            [
                (ask.rows, engine.probabilities(ask.stamps, ask.columns))
                for ask in self.asks(galaxies, begun, engine.takes)
            ],
        )

    def begin(self, galaxies: Galaxies) -> Begun:
        """What `asks` and `complete` go on from: all that comes of the photometry."""
        check_bands(galaxies, self.bands, self.sha256)
        raw, seen = inputs.features(galaxies.flux, galaxies.flux_err, galaxies.band_state, galaxies.ebv, self._system)
        columns = inputs.standard(raw, self._scaling)[:, self._architecture.columns]
        map_of_row = self._maps.of(seen.mag_ref, seen.band_mask, len(self.bands))
        return Begun(np.ascontiguousarray(columns), map_of_row, seen.mag_ref, seen.band_mask, seen.flags.copy())

    def asks(self, galaxies: Galaxies, begun: Begun, dtype: np.dtype[Any] = inputs.FULL) -> Iterator[Ask]:
        """What an engine is to answer, one block of stamps after the other; adds the flags of stamps to `begun`.

        Parameters
        ----------
        galaxies, begun
            As `begin` had them.
        dtype
            Of the stamps, as the engine takes them.
        """
        n, given = len(galaxies), galaxies.stamps
        if given is None:
            begun.flags[:] |= np.uint32(Flag.NO_STAMP)
            return
        size, n_bands = self._architecture.size, len(self.bands)
        block = max(1, BLOCK_BYTES // (4 * n_bands * size * size))
        for first in range(0, n, block):
            part = slice(first, min(first + block, n))
            those = Stamps(
                given.height[part], given.width[part], given.scale[part], given.pixels[part], given.variance[part]
            )
            found = inputs.cut(those, n_bands, size, self._scaling.softening, galaxies.band_state[part], dtype)
            for where, flag in (
                (found.good < 0, Flag.NO_STAMP),
                (found.good == 0, Flag.BAD_STAMP),
                (found.saturated > 0, Flag.SATURATED_STAMP),
            ):
                begun.flags[part] |= np.where(where, np.uint32(flag), np.uint32(0))
            some = (found.good > 0) & (begun.map_of_row[part] >= 0)
            rows = first + np.flatnonzero(some)
            if len(rows) == part.stop - first:
                yield Ask(rows, found.stamps, begun.columns[part])
            elif len(rows):
                yield Ask(rows, found.stamps[some], begun.columns[rows])

    def complete(self, begun: Begun, answers: Sequence[tuple[Int64, Float32]]) -> Estimates:
        """Estimates of all galaxies.

        Parameters
        ----------
        begun
            From `begin`, once `asks` has gone over it.
        answers
            Of each ask its rows, and the probabilities that an engine gave.
        """
        pdf = np.full((len(begun.mag_ref), len(self.grid)), np.nan, np.float32)
        for rows, probabilities in answers:
            pdf[rows] = self.finished(probabilities, begun.map_of_row[rows])
        at = points(pdf, self.grid, self._risk)
        named = {name: at.column(name) for name in COLUMNS}
        entered = np.where(np.isnan(pdf[:, 0]), np.uint32(0), begun.band_mask)
        return Estimates(pdf=pdf, **named, mag_ref=begun.mag_ref, flags=begun.flags | at.flags, band_mask=entered)

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
