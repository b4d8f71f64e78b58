"""What leaves add to PDFs, laid out for the kernels that walk and add in one go."""

from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from numba import njit

from models.forest.density import LeafDensity, shares
from models.forest.lanes import WIDTH
from models.forest.packets import FIRST_POINT, FURTHER, WINDOW, aligned


class Records(NamedTuple):
    """What every leaf adds to a PDF, as `density.LeafDensity` has it, a cache line of 32 uint16 for a leaf.

    The first 28 are the weights of neighbouring grid points. Then come the first of these points, a multiple of 16 so that
    histograms are added to in whole cache lines, and the number of the record with the leaf's further points (two halves, the
    low one first; 0 = there are none). Record l is leaf l's; further ones stand behind those of all leaves.
    """

    record: npt.NDArray[np.uint16]  # [R * 32]
    points: int  # of the grid
    unit: float  # probability of one share

    def room(self, rows: int) -> npt.NDArray[np.uint32]:
        """An array for histograms of `rows` rows; a record laid at the last grid point does not reach over its edge."""
        width = -(-(self.points + WINDOW) // WIDTH) * WIDTH
        return aligned(rows * width).view(np.uint32).reshape(rows, width)


def records(density: LeafDensity, trees: int, points: int) -> Records:
    """`density` as records."""
    n_leaves = len(density.start) - 1
    size = n_leaves + _further(*density, np.empty(0, np.uint16), n_leaves)
    raw = np.zeros((size + 1) * WINDOW, np.uint16)
    skip = -raw.ctypes.data % 64 // 2
    record = raw[skip : skip + size * WINDOW]
    _further(*density, record, n_leaves)
    return Records(record, points, 1.0 / (shares(trees) * trees))


@njit(nogil=True, error_model="numpy", cache=True)
def _further(start, point, weight, record, n_leaves):  # type: ignore[no-untyped-def]
    """How many records are needed behind the leaves' own; fills them if there is room."""
    used = n_leaves
    for leaf in range(n_leaves):
        here = leaf
        for k in range(start[leaf], start[leaf + 1]):
            if k == start[leaf]:
                low = np.int64(point[k]) // WIDTH * WIDTH
            elif point[k] - low >= FIRST_POINT:
                low = np.int64(point[k]) // WIDTH * WIDTH
                if len(record) > 0:
                    record[here * WINDOW + FURTHER] = used & 0xFFFF
                    record[here * WINDOW + FURTHER + 1] = used >> 16
                here = used
                used += 1
            if len(record) > 0:
                record[here * WINDOW + FIRST_POINT] = low
                record[here * WINDOW + point[k] - low] = weight[k]
    return used - n_leaves
