"""How far a galaxy lies from all training galaxies: its distance from the boxes around those in its leaves.

A small forest of large leaves is grown beside the estimator's. Each leaf remembers the box that its training galaxies span. A
galaxy falls into one leaf a tree; the score is its distance outside the leaf's box, in the feature where it is farthest out and
in units of that feature's interquartile range, averaged over the trees. 0 = inside every box. It tells removed regions of
colour and magnitude apart far better than sharing leaves with few training galaxies does.
"""

from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from numba import njit

from models.forest.forest import Forest
from models.forest.lanes import WIDTH, highest, load, peak, splat
from models.forest.packets import FEW, sorted_leaves
from models.forest.walk import Nodes, check, leaves, pack
from schemas.batch import Float32, Float64, Int32, UInt8

HALF = WIDTH // 2  # features in a vector: there is one lane for each side of a box
TREES = 16  # the AUC of 100 trees is .006 better and costs six times as much
MIN_LEAF = 20
FALSE_ALARMS = 0.01  # part of galaxies like those of training that a threshold flags
ROWS_PER_THRESHOLD = 200  # fewer held-out galaxies than this set no threshold of their own


class Boxes(NamedTuple):
    """The trees (as in `models.forest.forest.Forest`), the boxes of L leaves in F features, and what score is strange.

    Attributes
    ----------
    low, high
        Bounds of the boxes, float32[L, F]; low above high where no galaxy of the leaf has the feature.
    scale
        One over the interquartile range of each feature, float32[F].
    limit
        Score above which a galaxy is out of distribution, by the number of bands it lacks, float32[B].
    """

    threshold: Float32
    feature: npt.NDArray[np.int8]
    right: Int32
    missing_left: UInt8
    root: Int32
    low: Float32
    high: Float32
    scale: Float32
    limit: Float32

    def check(self, n_bands: int) -> None:
        """Make sure that no kernel will read outside its arrays.

        Raises
        ------
        ValueError
            If the arrays do not fit each other or the number of bands.
        """
        n_leaves = int((self.feature < 0).sum())
        empty = np.zeros(n_leaves + 1, np.int32)
        Forest(*self[:5], empty, np.empty(0, np.int32)).check(n_bands, 0)
        for name, shape in {
            "low": (n_leaves, n_bands),
            "high": (n_leaves, n_bands),
            "scale": (n_bands,),
            "limit": (n_bands,),
        }.items():
            if getattr(self, name).shape != shape or getattr(self, name).dtype != np.float32:
                raise ValueError(f"the boxes' {name} is not {'x'.join(map(str, shape))} numbers of float32")


class Distance:
    """Boxes ready to be asked; read-only, for any number of threads."""

    def __init__(self, boxes: Boxes) -> None:
        self._nodes: Nodes = pack(*boxes[:5])
        self._boxes = boxes
        nowhere = boxes.low > boxes.high
        # A wall at minus infinity, beyond which nothing is: of features that no galaxy of a leaf has.
        low, high = (np.where(nowhere, np.float32(-np.inf), wall) for wall in (boxes.low, -boxes.high))
        self._walls = sided(low, high)
        self._scale = sided(boxes.scale[None], boxes.scale[None])[0]

    def score(self, features: Float32) -> Float32:
        """Mean distance outside the boxes, in interquartile ranges, float32[n]; missing features count as inside."""
        out = np.empty(len(features), np.float32)
        if len(features) < FEW:
            number = leaves(features, self._nodes).T.astype(np.uint32)
            distances(features, np.arange(len(features)), number, self._walls, self._scale, out)
        else:
            for rows, number in sorted_leaves(check(features, self._nodes), self._nodes):
                distances(features, rows, number, self._walls, self._scale, out)
        return out

    def strange(self, features: Float32, band_mask: npt.NDArray[np.uint32]) -> npt.NDArray[np.bool_]:
        """Whether each galaxy is out of distribution, bool[n]; never where there is no band at all."""
        missing = len(self._boxes.limit) - np.bitwise_count(band_mask).astype(np.int64)
        somewhere = missing < len(self._boxes.limit)
        limit = self._boxes.limit[np.where(somewhere, missing, 0)]
        answer: npt.NDArray[np.bool_] = (self.score(features) > limit) & somewhere
        return answer


def sided(first: Float32, second: Float32) -> Float32:
    """Two arrays [L, F] in turn, eight features of the one and the same eight of the other, zeros behind: float32[L, 16 v]."""
    n, n_features = first.shape
    out = np.zeros((n, 2, -(-n_features // HALF) * HALF), np.float32)
    out[:, 0, :n_features], out[:, 1, :n_features] = first, second
    return np.ascontiguousarray(out.reshape(n, 2, -1, HALF).transpose(0, 2, 1, 3)).reshape(n, -1)


def stored(tensors: dict[str, np.ndarray], n_bands: int) -> Distance | None:
    """The boxes in a bundle's tensors; none if it was trained without.

    Raises
    ------
    ValueError, KeyError
        If they are not whole.
    """
    if "boxes.root" not in tensors:
        return None
    boxes = Boxes(*(tensors[f"boxes.{name}"] for name in Boxes._fields))
    boxes.check(n_bands)
    return Distance(boxes)


def around(forest: Forest, features: Float32, scale: Float32) -> Boxes:
    """The boxes that `features`, float32[m, F], span in the leaves of a forest; no score is strange yet."""
    nodes = forest.nodes()
    low = np.full((len(forest.leaf_start) - 1, features.shape[1]), np.inf, np.float32)
    high = np.full_like(low, -np.inf)
    span(features, leaves(features, nodes), low, high)
    return Boxes(*forest[:5], low, high, scale, np.full(features.shape[1], np.inf, np.float32))


def spread(features: Float32) -> Float32:
    """One over the interquartile range of each feature, float32[F]; 0 where it has none."""
    scale = np.zeros(features.shape[1], np.float32)
    for k, column in enumerate(features.T):
        known = column[np.isfinite(column)]
        if len(known) > 1:
            low, high = np.percentile(known, [25, 75])
            scale[k] = 1.0 / (high - low) if high > low else 0.0
    return scale


def limits(score: Float32, band_mask: npt.NDArray[np.uint32], n_bands: int, weight: Float64) -> Float32:
    """Scores that held-out galaxies like those of training exceed once in a hundred, by the number of bands missing.

    Where too few galaxies lack as many bands, the limit of those that lack one less holds.

    Parameters
    ----------
    score
        Of galaxies that the boxes have not seen, float32[n].
    band_mask
        Their bands, uint32[n].
    n_bands
        Bands of the survey.
    weight
        Importance weights, float64[n].
    """
    missing = n_bands - np.bitwise_count(band_mask).astype(np.int64)
    limit = np.full(n_bands, np.inf, np.float32)
    for k in range(n_bands):
        rows = np.flatnonzero(missing == k)
        if len(rows) >= ROWS_PER_THRESHOLD:
            rows = rows[np.argsort(score[rows], kind="stable")]
            below = np.cumsum(weight[rows]) / weight[rows].sum()
            last = int(np.searchsorted(below, 1.0 - FALSE_ALARMS))
            limit[k] = score[rows[min(last, len(rows) - 1)]]
        elif k:
            limit[k] = limit[k - 1]
    return limit


@njit(nogil=True, error_model="numpy", cache=True)
def span(features, leaves, low, high):  # type: ignore[no-untyped-def]
    """Kernel of `around`."""
    for i in range(leaves.shape[0]):
        for t in range(leaves.shape[1]):
            leaf = leaves[i, t]
            for f in range(features.shape[1]):
                value = features[i, f]
                if value < low[leaf, f]:
                    low[leaf, f] = value
                if value > high[leaf, f]:
                    high[leaf, f] = value


@njit(nogil=True, error_model="numpy", cache=True)
def distances(features, row, number, walls, scale, out):  # type: ignore[no-untyped-def]
    """Kernel of `Distance.score`: of the rows `row`, whose leaves are `number`, uint32[T, m], into `out[row[k]]`.

    `walls` are lower bounds and negative upper ones, `sided`: outside is what is below the one or, itself negative, the other.
    """
    width = walls.shape[1]
    trees = number.shape[0]
    here = np.zeros(width, np.float32)
    flat = walls.reshape(-1)
    for k in range(row.shape[0]):
        for f in range(features.shape[1]):
            place = f // HALF * WIDTH + f % HALF
            here[place], here[place + HALF] = features[row[k], f], -features[row[k], f]
        total = np.float32(0.0)
        for t in range(trees):
            at = np.uint64(number[t, k]) * np.uint64(width)
            farthest = splat(np.float32(0.0))
            for j in range(0, width, WIDTH):
                lane = np.uint64(j)
                outside = (load(flat, at + lane) - load(here, lane)) * load(scale, lane)
                farthest = highest(outside, farthest)  # NaN, of a missing value, is not above anything
            total += peak(farthest)
        out[row[k]] = total / np.float32(trees)
