"""The way through a forest for many rows: packets of sixty-four rows that resemble each other.

Rows are sorted by their leaf in the first tree. Sixty-four neighbours then meet in a tree some ninety different nodes, where
sixty-four strangers meet seven hundred, and a node is loaded once for all of them: its threshold is compared with 64 values at
once, and the 64 bits that come out part the rows into those that go left and those that go right. A packet goes through
several trees side by side, level by level, so that the loads of one hide behind the work on the others.

What a leaf holds is added up in integers. So no order of addition can change a sum: a row's result is the same whatever rows
stand beside it, and whichever way through the forest was taken.
"""

import os
from collections.abc import Iterator
from typing import NamedTuple

import llvmlite.binding
import numpy as np
import numpy.typing as npt
from numba import njit

from models.forest.crowd import (
    add_where,
    add_window,
    beyond,
    first_row,
    no_counts,
    part_eight,
    prefetch,
    store_counts,
    store_where,
)
from models.forest.lanes import HAS_COMPRESS
from models.forest.walk import Nodes, eight, leaf_of
from schemas.batch import Float32, Int32, Int64

ROWS = 64  # of a packet: the bits of a word
TILE = 32  # trees that a packet goes through side by side
AHEAD = 24  # queue entries between asking for a node and using it
FEW = 192  # fewer rows than this walk in step: packets of strangers gain nothing
BLOCK = 1 << 19  # rows sorted at once: more make nearer neighbours, fewer take less memory (28 MB at 10 features)
WINDOW = 32  # uint16 in a record of `records.Records`: weights, then
FIRST_POINT = 28  # the grid point of the first weight
FURTHER = 29  # the leaf's next record, in two halves
SWITCH = "SLIPHER_AVX512"  # environment: 0 takes the way for machines without AVX-512; the results are the same to the last bit


def fastest() -> bool:
    """Whether queues are parted with AVX-512's compress instruction; if not, bit by bit, which any machine can."""
    if not HAS_COMPRESS or os.environ.get(SWITCH) == "0" or os.environ.get("NUMBA_CPU_NAME"):
        return False
    return bool(llvmlite.binding.get_host_cpu_features().get("avx512vl"))


class Block(NamedTuple):
    """Rows of one call, sorted and packed; `order[k]` is the row that stands at place k, counted in the whole call."""

    nodes: Nodes
    order: Int64  # [m]
    packed: Float32  # [P * F * 64], feature by feature, 64 rows side by side
    holes: npt.NDArray[np.uint64]  # [P, F]: bits of the rows that miss a feature
    avx512: bool

    def leaves(self, out: Int32) -> None:
        """Leaf numbers into the rows of `out`, int32[n, T]."""
        _leaves(self.nodes.word, self.nodes.root, self.packed, self.holes, self.order, self.avx512, out)

    def sums(self, value: npt.NDArray[np.uint32], out: npt.NDArray[np.uint32]) -> None:
        """Sums of the `value` of each row's leaves, into `out`, uint32[n]."""
        _sums(self.nodes.word, self.nodes.root, self.packed, self.holes, self.order, self.avx512, value, out)

    def histograms(self, record: npt.NDArray[np.uint16], first: int, out: npt.NDArray[np.uint32]) -> None:
        """Sums of the records of each row's leaves, for places from `first` on, into `out`, uint32[64 p, H]."""
        packets = range(first // ROWS, min((first + len(out)) // ROWS, len(self.holes)))
        _histograms(
            self.nodes.word,
            self.nodes.root,
            self.packed,
            self.holes,
            len(self.order),
            self.avx512,
            record,
            packets.start,
            packets.stop,
            out,
        )


def blocks(features: Float32, nodes: Nodes, avx512: bool | None = None) -> Iterator[Block]:
    """`features`, float32[n, F], contiguous, in sorted and packed blocks; `avx512` as `fastest` says if not given."""
    chosen = fastest() if avx512 is None else avx512
    n, width = features.shape
    first_leaf = nodes.first_leaf
    # Blocks of equal size: a small rest would be a block of strangers.
    count = -(-n // BLOCK)
    for k in range(count):
        start, stop = n * k // count, n * (k + 1) // count
        packets = -(-(stop - start) // ROWS)
        order = np.empty(stop - start, np.int64)
        packed = aligned(packets * width * ROWS)
        holes = np.empty((packets, width), np.uint64)
        _sort(features, start, stop, nodes.word, nodes.root[0], int(first_leaf[1] - first_leaf[0]), order)
        _pack(features, order, packed, holes)
        yield Block(nodes, order, packed, holes, chosen)


def aligned(size: int) -> Float32:
    """float32[size] that begins at a boundary of 64 bytes."""
    raw = np.empty(size + ROWS // 4, np.float32)
    skip = -raw.ctypes.data % 64 // 4
    return raw[skip : skip + size]


@njit(nogil=True, error_model="numpy", cache=True)
def _sort(x, start, stop, word, root, n_leaves, order):  # type: ignore[no-untyped-def]
    """Rows from `start` to `stop` by their leaf in the tree at `root`, which is the first: a counting sort, stable."""
    n, width = stop - start, x.shape[1]
    flat = x.reshape(-1)
    threshold = word.view(np.float32)
    link = word.view(np.uint32)
    node = np.empty(8, np.uint64)
    lane = np.empty(8, np.uint64)
    key = np.empty(n, np.uint32)
    count = np.zeros(n_leaves + 1, np.int64)
    for first in range(0, n, 8):
        for k in range(8):
            lane[k] = (start + min(first + k, n - 1)) * width
            node[k] = root
        eight(flat, lane, node, threshold, link)
        for k in range(min(8, n - first)):
            leaf = leaf_of(word[node[k]])
            key[first + k] = leaf
            count[leaf + np.uint64(1)] += 1
    for k in range(n_leaves):
        count[k + 1] += count[k]
    for i in range(n):
        place = count[key[i]]
        order[place] = start + i
        count[key[i]] = place + 1


@njit(nogil=True, error_model="numpy", cache=True)
def _pack(x, order, packed, holes):  # type: ignore[no-untyped-def]
    n, width = len(order), x.shape[1]
    flat = x.reshape(-1)
    for p in range(holes.shape[0]):
        holes[p, :] = np.uint64(0)
        base = p * width * ROWS
        for k in range(ROWS):
            row = order[min(p * ROWS + k, n - 1)]
            prefetch(flat, np.uint64(order[min(p * ROWS + k + 16, n - 1)] * width))
            for f in range(width):
                value = x[row, f]
                packed[base + f * ROWS + k] = value
                holes[p, f] |= np.uint64(value != value) << np.uint64(k)


@njit(nogil=True, error_model="numpy")
def _rooms():  # type: ignore[no-untyped-def]
    """Queues: one to work on (node, rows, rows going right, link), one for the next level, one for leaves."""
    size = TILE * ROWS + AHEAD + 16
    return np.zeros((4, size), np.uint64), np.zeros((4, size), np.uint64), np.zeros((2, size), np.uint64)


@njit(nogil=True, error_model="numpy")
def traverse(word, root, first, stop, packed, base, holes, here, avx512, queue, spare, ends):  # type: ignore[no-untyped-def]
    """Take a packet of the rows `here` through the trees from `first` to `stop`.

    Fills `ends` with (leaf's node | number of the tree within these << 32, rows that end there), and returns how many there are.
    """
    threshold = word.view(np.float32)
    low = np.uint64(0xFFFFFFFF)
    one = np.uint64(1)
    n = np.uint64(0)
    n_ends = np.uint64(0)
    for t in range(first, stop):
        node = np.uint64(root[t])
        entry = node | np.uint64(t - first) << np.uint64(32)
        if word[node] >> np.uint64(32 + 10) == np.uint64(0):  # a tree of one leaf
            ends[0, n_ends], ends[1, n_ends] = entry, here
            n_ends += one
        else:
            queue[0, n], queue[1, n] = entry, here
            n += one
    while n > np.uint64(0):
        for k in range(np.uint64(0), np.uint64(8)):  # the last eight may be fewer: the rest are nobody's
            queue[0, n + k] = queue[0, np.uint64(0)]
            queue[1, n + k] = np.uint64(0)
        for i in range(np.uint64(0), n):
            node = queue[0, i] & low
            prefetch(word, queue[0, i + np.uint64(AHEAD)] & low)
            bits = word[node] >> np.uint64(32)
            feature = (bits >> one) & np.uint64(127)
            right = beyond(packed, base + feature * np.uint64(ROWS), threshold[node << one])
            queue[2, i] = right & ~(holes[feature] & (np.uint64(0) - (bits & one)))
            queue[3, i] = bits >> np.uint64(8)
        m = np.uint64(0)
        if avx512:
            for i in range(np.uint64(0), n, np.uint64(8)):
                added = part_eight(queue, i, spare, m, ends, n_ends)
                m += added & low
                n_ends += added >> np.uint64(32)
        else:
            for i in range(np.uint64(0), n):
                rows, right, bits = queue[1, i], queue[2, i], queue[3, i]
                child = queue[0, i] + one
                going = rows & ~right
                some, leaf = np.uint64(going != np.uint64(0)), bits & one
                spare[0, m], spare[1, m] = child, going
                ends[0, n_ends], ends[1, n_ends] = child, going
                m += some & (leaf ^ one)
                n_ends += some & leaf
                child = queue[0, i] + (bits >> np.uint64(2))
                going = rows & right
                some, leaf = np.uint64(going != np.uint64(0)), (bits >> one) & one
                spare[0, m], spare[1, m] = child, going
                ends[0, n_ends], ends[1, n_ends] = child, going
                m += some & (leaf ^ one)
                n_ends += some & leaf
        queue, spare = spare, queue
        n = m
    return n_ends


@njit(nogil=True, error_model="numpy", inline="always")
def _of_packet(p, n):  # type: ignore[no-untyped-def]
    """The rows of packet p that are there: all but in the last."""
    left = n - p * ROWS
    return ~np.uint64(0) if left >= ROWS else (np.uint64(1) << np.uint64(left)) - np.uint64(1)


@njit(nogil=True, error_model="numpy", cache=True)
def _leaves(word, root, packed, holes, order, avx512, out):  # type: ignore[no-untyped-def]
    queue, spare, ends = _rooms()
    place = np.empty(TILE * ROWS + ROWS, np.uint32)
    n, trees, width = len(order), len(root), holes.shape[1]
    for p in range(holes.shape[0]):
        base = np.uint64(p * width * ROWS)
        here = _of_packet(p, n)
        for first in range(0, trees, TILE):
            stop = min(first + TILE, trees)
            found = traverse(word, root, first, stop, packed, base, holes[p], here, avx512, queue, spare, ends)
            for i in range(np.uint64(0), found):
                prefetch(word, ends[0, i + np.uint64(8)] & np.uint64(0xFFFFFFFF))
                leaf = leaf_of(word[ends[0, i] & np.uint64(0xFFFFFFFF)])
                store_where(place, (ends[0, i] >> np.uint64(32)) * np.uint64(ROWS), ends[1, i], np.uint32(leaf))
            for k in range(min(ROWS, n - p * ROWS)):
                row = order[p * ROWS + k]
                for t in range(stop - first):
                    out[row, first + t] = place[t * ROWS + k]


@njit(nogil=True, error_model="numpy", cache=True)
def _sums(word, root, packed, holes, order, avx512, value, out):  # type: ignore[no-untyped-def]
    queue, spare, ends = _rooms()
    result = np.empty(ROWS, np.uint32)
    n, trees, width = len(order), len(root), holes.shape[1]
    low = np.uint64(0xFFFFFFFF)
    for p in range(holes.shape[0]):
        base = np.uint64(p * width * ROWS)
        here = _of_packet(p, n)
        sums = no_counts()
        for first in range(0, trees, TILE):
            stop = min(first + TILE, trees)
            found = traverse(word, root, first, stop, packed, base, holes[p], here, avx512, queue, spare, ends)
            for i in range(np.uint64(0), found):
                prefetch(word, ends[0, i + np.uint64(12)] & low)
                leaf = leaf_of(word[ends[0, i] & low])
                prefetch(value, leaf)
                ends[0, i] = leaf
            for i in range(np.uint64(0), found):
                sums = add_where(sums, ends[1, i], value[ends[0, i]])
        store_counts(result, np.uint64(0), sums)
        for k in range(min(ROWS, n - p * ROWS)):
            out[order[p * ROWS + k]] = result[k]


@njit(nogil=True, error_model="numpy", cache=True)
def _histograms(word, root, packed, holes, n, avx512, record, begin, end, out):  # type: ignore[no-untyped-def]
    queue, spare, ends = _rooms()
    trees, width, stride = len(root), holes.shape[1], np.uint64(out.shape[1])
    low = np.uint64(0xFFFFFFFF)
    flat = out.reshape(-1)
    out[:] = np.uint32(0)
    for p in range(begin, end):
        base = np.uint64(p * width * ROWS)
        here = _of_packet(p, n)
        corner = np.uint64((p - begin) * ROWS) * stride
        for first in range(0, trees, TILE):
            stop = min(first + TILE, trees)
            found = traverse(word, root, first, stop, packed, base, holes[p], here, avx512, queue, spare, ends)
            for i in range(np.uint64(0), found):
                prefetch(word, ends[0, i + np.uint64(12)] & low)
                leaf = leaf_of(word[ends[0, i] & low])
                prefetch(record, leaf * np.uint64(WINDOW))
                ends[0, i] = leaf
            for i in range(np.uint64(0), found):
                at = ends[0, i] * np.uint64(WINDOW)
                while True:
                    rows = ends[1, i]
                    start = corner + np.uint64(record[at + np.uint64(FIRST_POINT)])
                    while rows != np.uint64(0):
                        add_window(flat, start + first_row(rows) * stride, record, at)
                        rows &= rows - np.uint64(1)
                    following = np.uint64(record[at + np.uint64(FURTHER)]) | np.uint64(
                        record[at + np.uint64(FURTHER + 1)]
                    ) << np.uint64(16)
                    if following == np.uint64(0):
                        break
                    at = following * np.uint64(WINDOW)


@njit(nogil=True, error_model="numpy", cache=True)
def add_records(leaves, record, out):  # type: ignore[no-untyped-def]
    """What `_histograms` does, for rows whose leaves are known: int32[n, T] into uint32[n, H]."""
    stride = np.uint64(out.shape[1])
    flat = out.reshape(-1)
    out[:] = np.uint32(0)
    for i in range(leaves.shape[0]):
        corner = np.uint64(i) * stride
        for t in range(leaves.shape[1]):
            following = np.uint64(leaves[i, t])
            prefetch(record, np.uint64(leaves[i, min(t + 8, leaves.shape[1] - 1)]) * np.uint64(WINDOW))
            while True:
                at = following * np.uint64(WINDOW)
                add_window(flat, corner + np.uint64(record[at + np.uint64(FIRST_POINT)]), record, at)
                following = np.uint64(record[at + np.uint64(FURTHER)]) | np.uint64(
                    record[at + np.uint64(FURTHER + 1)]
                ) << np.uint64(16)
                if following == np.uint64(0):
                    break
