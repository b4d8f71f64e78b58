"""Point estimates without PDFs: the mean of what a row's leaves hold, as scikit-learn's forests predict it.

Leaf values are rounded to whole numbers between the least and the greatest, so fine that the sum over all trees just fits into
32 bits. So the order of addition changes nothing, and the error is below (greatest - least) T / 2^33 for T trees: 3e-8 for 100
trees and redshifts up to 3, less than float32 can show.
"""

from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from numba import njit

from models.forest.descent import ROWS
from models.forest.forest import Forest
from models.forest.packets import FEW, blocks
from models.forest.walk import Nodes, carrying, check, walk
from schemas.batch import Float32, Float64

WORTH_A_THREAD = 4096  # fewer rows than this for each thread are done sooner without


class LeafMeans(NamedTuple):
    """What each leaf predicts, as `least + scale * value`."""

    value: npt.NDArray[np.uint32]  # [L]
    least: float
    scale: float


def leaf_means(forest: Forest, z: Float64, weight: Float64) -> LeafMeans:
    """Weighted mean of `z` in each leaf; the mean of all where a leaf holds nothing."""
    leaf = np.repeat(np.arange(len(forest.leaf_start) - 1), np.diff(forest.leaf_start))
    heavy = np.asarray(weight, np.float64)[forest.leaf_sample]
    total = np.bincount(leaf, heavy, len(forest.leaf_start) - 1)
    summed = np.bincount(leaf, heavy * np.asarray(z, np.float64)[forest.leaf_sample], len(forest.leaf_start) - 1)
    everywhere = summed.sum() / total.sum() if total.sum() > 0 else 0.0
    return whole(np.divide(summed, total, out=np.full(len(total), everywhere), where=total > 0), len(forest.root))


def whole(value: Float64, trees: int) -> LeafMeans:
    """Leaf values as whole numbers whose sum over `trees` fits into 32 bits."""
    least, most = float(value.min()), float(value.max())
    steps = (2**32 - 1) // trees
    scale = (most - least) / steps
    return LeafMeans(np.rint((value - least) / (scale or 1.0)).astype(np.uint32), least, scale)


class Means:
    """A forest that predicts the mean over its trees of what a row's leaves hold. Read-only: for any number of threads."""

    def __init__(self, nodes: Nodes, of: LeafMeans) -> None:
        self._nodes = nodes
        self._of = of
        self._word = carrying(nodes, of.value)

    def predict(self, features: Float32, threads: int = 1, avx512: bool | None = None) -> Float32:
        """Mean over the trees of the values of each row's leaves, float32[n].

        Parameters
        ----------
        features
            float32[n, F].
        threads
            Rows worked on side by side; no effect on the result.
        avx512
            As in `packets.blocks`.

        Raises
        ------
        ValueError
            If `features` is not two-dimensional float32, or has fewer columns than the forest uses.
        """
        features = check(features, self._nodes)
        n = len(features)
        out = np.empty(n, np.float32)
        sums = out.view(np.uint32)  # turned into means where they lie
        threads = max(1, min(threads, n // WORTH_A_THREAD))
        if threads == 1:
            self._some(features, avx512, sums)
        else:
            cuts = [n * k // threads // ROWS * ROWS for k in range(threads)] + [n]
            with ThreadPoolExecutor(threads) as pool:
                work = [pool.submit(self._some, features[a:b], avx512, sums[a:b]) for a, b in pairwise(cuts)]
                for part in work:
                    part.result()
        _scale(sums, self._of.least, self._of.scale / len(self._nodes.root), out)
        return out

    def _some(self, features: Float32, avx512: bool | None, sums: npt.NDArray[np.uint32]) -> None:
        if len(features) < FEW:
            leaves = np.empty((len(features), len(self._nodes.root)), np.int32)
            walk(features, self._nodes.word, self._nodes.root, leaves)
            _add(leaves, self._of.value, sums)
            return
        for block in blocks(features, self._nodes, avx512):
            block.sums(self._word, sums)


@njit(nogil=True, error_model="numpy", cache=True)
def _add(leaves, value, sums):  # type: ignore[no-untyped-def]
    for i in range(leaves.shape[0]):
        total = np.uint32(0)
        for t in range(leaves.shape[1]):
            total += value[leaves[i, t]]
        sums[i] = total


@njit(nogil=True, error_model="numpy", cache=True)
def _scale(sums, least, scale, out):  # type: ignore[no-untyped-def]
    for i in range(len(sums)):
        out[i] = least + scale * sums[i]
