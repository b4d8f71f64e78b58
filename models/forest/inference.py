"""From features to finished PDFs and points, whichever way through the forest suits the number of rows."""

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise

import numpy as np

from models import grid as grids
from models.forest.density import Recalibration, finish, finishing, leaf_density, smoothing
from models.forest.descent import ROWS
from models.forest.forest import Forest
from models.forest.mean import Means, leaf_means
from models.forest.packets import FEW, NUMBERS, add_records, blocks, fastest
from models.forest.records import records
from models.forest.walk import Nodes, check, numbered, walk
from models.points import COLUMNS, Points, risk_tables, summarise
from schemas.batch import Float32, Float64, Int32, Int64

PART = 256  # rows whose histograms, PDFs and points are made one after the other, while they are in the cache: a multiple of 64
WORTH_A_THREAD = 2048  # fewer rows than this for each thread are done sooner without


Counts = np.ndarray  # histograms in shares of a leaf, uint32[m, H]
Finisher = Callable[
    [Counts, float, Int64, Float32], None
]  # histograms, what one is worth, their rows, PDFs of all rows


class Inference:
    """A forest ready to estimate. Holds read-only arrays, so any number of threads may use it at once.

    Parameters
    ----------
    forest
        With samples in its leaves.
    z, weight
        Redshift and importance weight of the training galaxies, float64[n].
    grid
        float64[G], linear.
    width, alpha, maps
        Smoothing in (1 + z), power, and recalibration.
    """

    def __init__(
        self,
        forest: Forest,
        z: Float64,
        weight: Float64,
        grid: Float64,
        width: float,
        alpha: float,
        maps: Recalibration,
    ) -> None:
        self.grid = grid
        self.nodes: Nodes = forest.nodes()
        self._records = records(leaf_density(forest, z, weight, grid), len(forest.root), len(grid))
        self._word = numbered(self.nodes, self._records.first)
        self._means = Means(self.nodes, leaf_means(forest, z, weight))
        self._finish = finishing(grid, smoothing(grid, width), alpha, maps)
        self._risk = risk_tables(grid)

    def pdfs(
        self,
        features: Float32,
        map_of_row: Int32,
        pdf: Float32,
        threads: int = 1,
        avx512: bool | None = None,
        finisher: Finisher | None = None,
    ) -> Points:
        """Finished PDFs into `pdf`, float32[n, G], and the points and flags of them.

        Parameters
        ----------
        features
            float32[n, F], NaN = missing.
        map_of_row
            As `density.densities` has it.
        threads
            Rows worked on side by side; no effect on the result.
        avx512
            As in `packets.blocks`; no effect on the result.
        finisher
            Makes PDFs of histograms; the default smooths, sharpens and recalibrates them.
        """
        features = check(features, self.nodes)
        out = Points(np.empty((len(features), len(COLUMNS)), np.float32), np.empty(len(features), np.uint32))
        z_min, step = float(self.grid[0]), grids.step_of(self.grid)

        def alone(counts: Counts, unit: float, row: Int64, pdf: Float32) -> None:
            finish(counts, unit, *self._finish, map_of_row, row, pdf)

        make = finisher or alone

        def some(part: slice) -> None:
            for place, counts in self._counts(features[part], avx512):
                row = place + part.start
                make(counts, self._records.unit, row, pdf)
                summarise(pdf, row, z_min, step, *self._risk, *out)

        side_by_side(some, len(features), threads)
        return out

    def histograms(self, features: Float32) -> Float32:
        """Weights of each row's neighbours on the grid, float32[n, G]; rows sum to 1."""
        out = np.empty((len(features), len(self.grid)), np.float32)
        for row, counts in self._counts(check(features, self.nodes)):
            out[row] = counts[:, : len(self.grid)].astype(np.float32) * np.float32(self._records.unit)
        return out

    def predict(self, features: Float32, threads: int = 1, avx512: bool | None = None) -> Float32:
        """Means without PDFs: see `mean.Means.predict`."""
        return self._means.predict(features, threads, avx512)

    def _counts(self, features: Float32, avx512: bool | None = None) -> Iterator[tuple[Int64, Counts]]:
        """(rows, their histograms in shares of a leaf) until all rows were had; the same memory each time."""
        trees = len(self.nodes.root)
        if len(features) < FEW:
            number = np.empty((len(features), trees), np.int32)
            walk(features, self._word, self.nodes.root, number)
            room = self._records.room(len(features))
            add_records(number.T.astype(np.uint32), self._records.record, room)
            yield np.arange(len(features)), room
            return
        room = self._records.room(PART)
        packets = max(NUMBERS // trees // PART, 1) * PART // ROWS
        numbers = np.zeros((trees, packets * ROWS), np.uint32)
        for block in blocks(features, self.nodes, fastest() if avx512 is None else avx512):
            for packet in range(0, block.n_packets, packets):
                block.leaves(self._word, packet, min(packet + packets, block.n_packets), numbers)
                rows = block.order[packet * ROWS : (packet + packets) * ROWS]
                for first in range(0, len(rows), PART):
                    row = rows[first : first + PART]
                    add_records(numbers[:, first : first + len(row)], self._records.record, room)
                    yield row, room[: len(row)]


def side_by_side(work: Callable[[slice], None], n: int, threads: int) -> None:
    """Do `work` on parts of n rows in threads."""
    threads = max(1, min(threads, n // WORTH_A_THREAD))
    if threads == 1:
        work(slice(0, n))
        return
    cuts = [n * k // threads for k in range(threads + 1)]
    with ThreadPoolExecutor(threads) as pool:
        list(pool.map(work, [slice(*ends) for ends in pairwise(cuts)]))
