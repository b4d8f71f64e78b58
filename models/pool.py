"""A forest's and an image model's PDFs of the same galaxies as one: their weighted mean, recalibrated.

p = (1 - w) forest + w images, the linear opinion pool (Stone 1961). The mean of two calibrated PDFs is too broad (Gneiting &
Ranjan 2013, EJS 7, 1747); a PIT map, made of such means of held-out galaxies, narrows it again where that was shown to help.

A pool lies in a file of its own beside the two bundles: what it holds is a weight and a map, and the hashes of both bundles.
"""

from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from models import bundle as bundles
from models import grid as grids
from models.bundle import Bundle
from models.forest.density import Recalibration, densities, smoothing
from schemas.batch import Float32, Float64
from schemas.errors import UserError

KIND = "pool"
BLOCK = 8192  # rows worked on at once: bounds the memory


class Pool(NamedTuple):
    """How two models' PDFs become one.

    Attributes
    ----------
    card
        Of the file: what the models are, the weight, how it was chosen, its `sha256`.
    grid
        Redshifts on which pooled PDFs are given, float64[G].
    weight
        Of the image model, 0 to 1.
    slope
        Of the PIT map, float32[1, K]; none = PDFs are the mean as it is.
    """

    card: dict[str, Any]
    grid: Float64
    weight: float
    slope: Float32 | None

    @property
    def name(self) -> str:
        """What stands for a model's name in rows made by it."""
        return f"blend-{self.card['survey']}-{self.card['sha256'][:8]}"

    @property
    def forest(self) -> str:
        """SHA-256 of the forest's bundle."""
        return str(self.card["forest"]["sha256"])

    @property
    def images(self) -> str:
        """SHA-256 of the image model's bundle."""
        return str(self.card["images"]["sha256"])

    def pdfs(self, forest: Float32, images: Float32) -> Float32:
        """Pooled PDFs of n galaxies on `grid`, float32[n, G]; NaN where either is.

        Parameters
        ----------
        forest, images
            Both models' PDFs on `grid` (see `regridded`), float32[n, G] each, normalised.
        """
        out = mean(forest, images, self.weight)
        return out if self.slope is None else recalibrated(out, self.grid, self.slope)


def common_grid(a: Float64, b: Float64) -> Float64:
    """The grid that holds what two linear grids from 0 up hold: to the higher end, in the finer step.

    Where one of them is such a grid it is that one, to the last bit.
    """
    step = min(grids.step_of(a), grids.step_of(b))
    top = max(a[-1], b[-1])
    for grid in (a, b):
        if grid[-1] == top and grids.step_of(grid) <= step * (1 + 1e-9):
            return grid
    return grids.linear(float(top), int(np.ceil(top / step - 1e-9)) + 1)


def regridded(pdf: Float32, grid: Float64, onto: Float64) -> Float32:
    """PDFs given on `grid` on another, linear between the points, 0 beyond the end, and normalised: float32[n, len(onto)]."""
    if np.array_equal(grid, onto):
        return pdf
    at = np.clip((onto - grid[0]) / grids.step_of(grid), 0.0, len(grid) - 1.0)
    cell = np.minimum(at.astype(np.int64), len(grid) - 2)
    part = (at - cell).astype(np.float32)
    inside = (onto >= grid[0] - 1e-9) & (onto <= grid[-1] + 1e-9)
    out = np.empty((len(pdf), len(onto)), np.float32)
    for first in range(0, len(pdf), BLOCK):
        p = pdf[first : first + BLOCK]
        values = np.where(inside, p[:, cell] * (1 - part) + p[:, cell + 1] * part, np.float32(0))
        out[first : first + BLOCK] = grids.normalise(values, onto)
    return out


def mean(forest: Float32, images: Float32, weight: float) -> Float32:
    """(1 - weight) forest + weight images, float32[n, G]."""
    return np.float32(1.0 - weight) * forest + np.float32(weight) * images


def recalibrated(pdf: Float32, grid: Float64, slope: Float32) -> Float32:
    """`pdf` with the one PIT map of `slope`, float32[1, K], normalised: float32[n, G]; rows of NaN stay."""
    maps = Recalibration(np.concatenate([np.ones_like(slope), slope]), np.empty(0))  # number 0 is that of no change
    map_of_row = np.where(np.isfinite(pdf[:, 0]), 1, -1).astype(np.int32)
    return densities(np.nan_to_num(pdf), grid, smoothing(grid, 0.0), 1.0, maps, map_of_row)


def of(bundle: Bundle, path: str | Path = "the file") -> Pool:
    """The pool in a file that was read.

    Raises
    ------
    schemas.errors.UserError
        It holds something else, or not all of it.
    """
    card = bundle.card
    if card.get("kind") != KIND:
        raise UserError(f"{path} holds a model ({card.get('kind')}), no blend of two: `slipher blend` makes one.")
    try:
        grid = grids.linear(card["grid"]["z_max"], card["grid"]["points"])
        weight = float(card["weight"])
        slope = bundle.tensors.get("slope")
        if not 0.0 <= weight <= 1.0 or (slope is not None and (slope.ndim != 2 or len(slope) != 1)):
            raise ValueError("a weight or a map that cannot be")
        pool = Pool(card, grid, weight, slope)
        str(card["survey"]), pool.forest, pool.images, card["held_out"]["n"]
    except (KeyError, TypeError, ValueError) as error:
        raise UserError(f"{path} does not hold a whole blend: {error}.") from error
    return pool


def read(path: str | Path) -> Pool:
    """Read and verify a pool.

    Raises
    ------
    schemas.errors.UserError
        The file is missing, damaged, from a newer format, or holds something else.
    """
    if not Path(path).is_file():
        raise UserError(f"There is no blend {path}: `slipher blend` makes one.")
    return of(bundles.read(path), path)
