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

from models.forest.crowd import add_where, add_window, prefetch, store_where
from models.forest.descent import (
    AHEAD,
    ALONE,
    END,
    END_ROWS,
    ROWS,
    descend,
    flights,
    inverse_of,
    new_room,
    node_of,
    row_of,
    tree_of,
)
from models.forest.lanes import HAS_COMPRESS
from models.forest.walk import Nodes, Words, eight, leaf_of
from schemas.batch import Float32, Int32, Int64

FEW = 192  # fewer rows than this walk in step: packets of strangers gain nothing
BLOCK = 1 << 19  # rows sorted at once: more make nearer neighbours, fewer take less memory (28 MB at 10 features)
SPAN = 1 << 20  # bytes of packets that go through all trees before the next do
NUMBERS = 1 << 20  # leaves that are found before something is done with them: 4 MB
WINDOW = 32  # uint16 in a record of `records.Records`: weights, then
FIRST_POINT = 28  # the grid point of the first weight
RECORDS = 29  # of a leaf, in its first record
ABREAST = 4  # rows whose records are added in turn
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

    @property
    def n_packets(self) -> int:
        """Packets."""
        return len(self.holes)

    def leaves(self, word: Words, first: int, stop: int, out: npt.NDArray[np.uint32]) -> None:
        """Numbers of the leaves in `word` for packets from `first` to `stop`, into `out`, uint32[T, 64 p]."""
        way = flights(self.nodes.root, len(self.nodes.word), self.holes.shape[1])
        n = len(self.order)
        _leaves(word, self.nodes.root, *way, self.packed, self.holes, n, self.avx512, first, stop, out)

    def sums(self, word: Words, out: npt.NDArray[np.uint32]) -> None:
        """Sums of what the leaves in `word` carry (see `walk.carrying`), into the rows of `out`, uint32[n]."""
        way = flights(self.nodes.root, len(self.nodes.word), self.holes.shape[1])
        n = len(self.order)
        _sums(word, self.nodes.root, *way, self.packed, self.holes, n, self.avx512, self.order, out)


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


def leaves(features: Float32, nodes: Nodes, out: Int32, avx512: bool | None = None) -> None:
    """Leaf numbers of n rows in T trees into `out`, int32[n, T]."""
    for rows, numbers in sorted_leaves(features, nodes, avx512):
        out[rows] = numbers.T


def sorted_leaves(
    features: Float32, nodes: Nodes, avx512: bool | None = None
) -> Iterator[tuple[Int64, npt.NDArray[np.uint32]]]:
    """(rows, their leaf numbers, [T, m]) until all rows were had, those that resemble each other together; the same memory."""
    packets = max(NUMBERS // len(nodes.root) // ROWS, 1)
    numbers = np.zeros((len(nodes.root), packets * ROWS), np.uint32)
    for block in blocks(features, nodes, avx512):
        for packet in range(0, block.n_packets, packets):
            block.leaves(nodes.word, packet, min(packet + packets, block.n_packets), numbers)
            rows = block.order[packet * ROWS : (packet + packets) * ROWS]
            yield rows, numbers[:, : len(rows)]


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


@njit(nogil=True, error_model="numpy", cache=True)
def _leaves(word, root, tile, abreast, packed, holes, n, avx512, begin, end, out):  # type: ignore[no-untyped-def]
    room = new_room()
    pieces, threshold = room.view(np.uint16), word.view(np.float32)
    n_features, gone, flat = holes.shape[1], holes.reshape(-1), out.reshape(-1)
    width, stride = np.uint64(n_features), np.uint64(out.shape[1])
    inverse = inverse_of(n_features)
    for k in range(len(abreast)):
        first, stop = tile[k], tile[k + 1]
        for packet in range(begin, end, abreast[k]):
            last = min(packet + abreast[k], end)
            n_ends, n_alone = descend(
                word, threshold, root, first, stop, packed, gone, packet, last, n, n_features, avx512, room, pieces
            )
            corner = np.uint64(first) * stride + np.uint64((packet - begin) * ROWS)
            for i in range(np.uint64(0), n_ends):
                prefetch(word, node_of(room[END + i + np.uint64(AHEAD)]))
                entry = room[END + i]
                at = corner + tree_of(entry) * stride + row_of(entry, width, inverse)
                store_where(flat, at, room[END_ROWS + i], np.uint32(leaf_of(word[node_of(entry)])))
            for i in range(np.uint64(0), n_alone):
                prefetch(word, node_of(room[ALONE + i + np.uint64(AHEAD)]))
                entry = room[ALONE + i]
                at = corner + tree_of(entry) * stride + row_of(entry, width, inverse)
                flat[at] = np.uint32(leaf_of(word[node_of(entry)]))


@njit(nogil=True, error_model="numpy", cache=True)
def _sums(word, root, tile, abreast, packed, holes, n, avx512, order, out):  # type: ignore[no-untyped-def]
    room = new_room()
    pieces, threshold = room.view(np.uint16), word.view(np.float32)
    n_features, gone = holes.shape[1], holes.reshape(-1)
    width = np.uint64(n_features)
    inverse = inverse_of(n_features)
    result = np.zeros(len(holes) * ROWS, np.uint32)
    span = max(SPAN // (n_features * ROWS * 4), 1)
    for step in range(-(-len(holes) // span) * len(abreast)):
        k = step % len(abreast)
        first, stop = tile[k], tile[k + 1]
        begin = step // len(abreast) * span
        end = min(begin + span, len(holes))
        for packet in range(begin, end, abreast[k]):
            last = min(packet + abreast[k], end)
            n_ends, n_alone = descend(
                word, threshold, root, first, stop, packed, gone, packet, last, n, n_features, avx512, room, pieces
            )
            corner = np.uint64(packet * ROWS)
            for i in range(np.uint64(0), n_ends):
                prefetch(word, node_of(room[END + i + np.uint64(AHEAD)]))
                entry = room[END + i]
                at = corner + row_of(entry, width, inverse)
                add_where(result, at, room[END_ROWS + i], np.uint32(word[node_of(entry)]))
            for i in range(np.uint64(0), n_alone):
                prefetch(word, node_of(room[ALONE + i + np.uint64(AHEAD)]))
                entry = room[ALONE + i]
                result[corner + row_of(entry, width, inverse)] += np.uint32(word[node_of(entry)])
    for i in range(n):
        out[order[i]] = result[i]


@njit(nogil=True, error_model="numpy", cache=True)
def add_records(number, record, out):  # type: ignore[no-untyped-def]
    """Sums of the records of each row's leaves, of which `number`, uint32[T, n], is the first, into `out`, uint32[n, H].

    Several rows take turns, so that additions to the same place do not wait for each other. What a leaf has beyond its first
    record is listed and added later: a loop for it would be a branch that nobody can foresee.
    """
    stride, window, one = np.uint64(out.shape[1]), np.uint64(WINDOW), np.uint64(1)
    flat = out.reshape(-1)
    trees, n = number.shape
    todo = np.zeros(trees * ABREAST * (len(out[0]) // 16 + 1) + 8, np.uint64)
    out[:] = np.uint32(0)
    for i in range(0, n, ABREAST):
        stop = min(i + ABREAST, n)
        m = np.uint64(0)
        for t in range(trees):
            ahead = t + AHEAD if t + AHEAD < trees else t
            for k in range(i, stop):
                prefetch(record, np.uint64(number[ahead, k]) * window)
                at = np.uint64(number[t, k]) * window
                corner = np.uint64(k) * stride
                add_window(flat, corner + np.uint64(record[at + np.uint64(FIRST_POINT)]), record, at)
                records = np.uint64(record[at + np.uint64(RECORDS)])
                todo[m] = (at + window) | corner << np.uint64(32)
                m += np.uint64(records > one)
                while records > np.uint64(2):
                    at += window
                    todo[m] = (at + window) | corner << np.uint64(32)
                    m += one
                    records -= one
        for j in range(np.uint64(0), m):
            at = todo[j] & np.uint64(0xFFFFFFFF)
            prefetch(record, todo[j + np.uint64(8)] & np.uint64(0xFFFFFFFF))
            add_window(flat, (todo[j] >> np.uint64(32)) + np.uint64(record[at + np.uint64(FIRST_POINT)]), record, at)
