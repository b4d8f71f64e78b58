"""Galaxies with stamps as arrays: what networks are trained and scored on."""

from typing import NamedTuple

import numpy as np

from models.images import inputs
from models.photometry import MagnitudeSystem, Photometry
from schemas.batch import Float32, Float64, UInt8

BLOCK = 1024  # galaxies whose stamps are scaled at once


class Gallery(NamedTuple):
    """Galaxies with stamps.

    Stamps and variance are in nJy and nJy^2 a pixel, [n, B, S, S]; the rest is as `models.training.fit` has it.
    """

    stamps: Float32
    variance: Float32 | None
    flux: Float32
    flux_err: Float32
    band_state: UInt8
    ebv: Float32
    z: Float64

    def of(self, rows: np.ndarray) -> "Gallery":
        """Those of some rows."""
        return Gallery(*(None if column is None else column[rows] for column in self))  # type: ignore[arg-type]


class Scaled(NamedTuple):
    """A gallery as networks have it."""

    stamps: np.ndarray  # float16[n, B, S, S], in units of the softening
    columns: Float32  # float32[n, 3 B + 2], standardised
    seen: Photometry
    z: Float64


def prepared(gallery: Gallery, system: MagnitudeSystem, scaling: inputs.Scaling) -> Scaled:
    """Stamps and columns of a gallery by the scaling of a model."""
    raw, seen = inputs.features(gallery.flux, gallery.flux_err, gallery.band_state, gallery.ebv, system)
    stamps = np.empty(gallery.stamps.shape, np.float16)
    for first in range(0, len(stamps), BLOCK):
        rows = slice(first, first + BLOCK)
        noise = None if gallery.variance is None else gallery.variance[rows]
        stamps[rows] = inputs.scaled(gallery.stamps[rows], scaling.softening, noise, gallery.band_state[rows])
    return Scaled(stamps, inputs.standard(raw, scaling), seen, np.asarray(gallery.z, np.float64))
