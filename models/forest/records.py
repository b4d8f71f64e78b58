"""What leaves add to PDFs, laid out for the kernels that walk and add in one go."""

from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from numba import njit

from models.forest.density import LeafDensity, shares
from models.forest.lanes import WIDTH
from models.forest.packets import FIRST_POINT, RECORDS, WINDOW, aligned
from schemas.batch import Int64


class Records(NamedTuple):
    """What every leaf adds to a PDF, as `density.LeafDensity` has it, a cache line of 32 uint16 for a leaf.

    The first 28 are the weights of neighbouring grid points. Then come the first of these points, a multiple of 16 so that
    histograms are added to in whole cache lines, and in a leaf's first record how many it has, one behind the other.
    """

    record: npt.NDArray[np.uint16]  # [R * 32]
    first: Int64  # number of each leaf's first record, [L]
    points: int  # of the grid
    unit: float  # probability of one share

    def room(self, rows: int) -> npt.NDArray[np.uint32]:
        """An array for histograms of `rows` rows; a record laid at the last grid point does not reach over its edge."""
        width = -(-(self.points + WINDOW) // WIDTH) * WIDTH
        return aligned(rows * width).view(np.uint32).reshape(rows, width)


def records(density: LeafDensity, trees: int, points: int) -> Records:
    """`density` as records."""
    first = np.empty(len(density.start) - 1, np.int64)
    size = _fill(*density, np.empty(0, np.uint16), first)
    raw = np.zeros((size + 1) * WINDOW, np.uint16)
    skip = -raw.ctypes.data % 64 // 2
    record = raw[skip : skip + size * WINDOW]
    _fill(*density, record, first)
    return Records(record, first, points, 1.0 / (shares(trees) * trees))


@njit(nogil=True, error_model="numpy", cache=True)
def _fill(start, point, weight, record, first):  # type: ignore[no-untyped-def]
    """How many records are needed; fills them if there is room, and `first`."""
    used = 0
    for leaf in range(len(first)):
        first[leaf] = here = used
        used += 1
        for k in range(start[leaf], start[leaf + 1]):
            if k == start[leaf]:
                low = np.int64(point[k]) // WIDTH * WIDTH
            elif point[k] - low >= FIRST_POINT:
                low = np.int64(point[k]) // WIDTH * WIDTH
                here = used
                used += 1
            if len(record) > 0:
                record[here * WINDOW + FIRST_POINT] = low
                record[here * WINDOW + point[k] - low] = weight[k]
        if len(record) > 0:
            record[first[leaf] * WINDOW + RECORDS] = used - first[leaf]
    return used
