"""Walks a forest: which leaf of which tree a galaxy falls into.

The rule is scikit-learn's to the last bit: a float32 feature goes left if it is at most the float64 threshold, a missing one goes
where training sent the missing. A float32 is at most a float64 threshold exactly if it is at most that threshold rounded
down to float32, so a node needs 8 bytes: the rounded threshold and a link.

There are two ways through: here, eight walks in step, for few rows; in `packets`, sixty-four neighbouring rows at once, for
many. They end in the same leaves.
"""

from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from numba import njit

from schemas.batch import Float32, Float64, Int32, Int64

# A word is: link << 32 | bits of the threshold. A link is: (right child - k) << 10 | right child is a leaf << 9 | left child is a
# leaf << 8 | feature << 1 | missing goes left. A leaf's threshold is NaN, so that no value is at most it; its link has
# no offset, so that it points to itself. Its number stands in the free bits: 22 of the NaN, its sign, bits 8 and 9 of the link.
OFFSET_SHIFT = 10
LEFT_LEAF, RIGHT_LEAF = 1 << 8, 1 << 9
MAX_FEATURES = 128
MAX_SUBTREE = 1 << 22  # nodes between a node and its right child
MAX_LEAVES = 1 << 25
_QUIET_NAN = 0x7FC00000
_LOW = (1 << 22) - 1


Words = npt.NDArray[np.uint64]


class Nodes(NamedTuple):
    """All trees in one set of arrays, each in preorder: the left child of node k is k + 1, leaves are numbered in that order.

    Attributes
    ----------
    word
        Threshold and link, see above, uint64[N].
    root
        First node of each tree, int64[T].
    first_leaf
        Number of the first leaf of each tree, and of all leaves, int64[T + 1].
    features
        Features that the nodes ask for are below this.
    """

    word: Words
    root: Int64
    first_leaf: Int64
    features: int


def pack(
    threshold: Float32 | Float64, feature: np.ndarray, right: np.ndarray, missing_left: np.ndarray, root: np.ndarray
) -> Nodes:
    """Pack the node arrays of a forest for walking.

    Parameters
    ----------
    threshold
        float64[N] (or float32, already rounded down).
    feature
        int[N]; negative marks a leaf.
    right
        Right child counted from the start of all trees, int[N]; ignored in leaves. The left child must be k + 1.
    missing_left
        bool[N].
    root
        First node of each tree, int[T].

    Raises
    ------
    ValueError
        If a child lies outside its tree, or there are more features, nodes or leaves than a word holds.
    """
    inner = feature >= 0
    number = np.arange(len(feature), dtype=np.int64)
    start = np.asarray(root, np.int64)
    end = np.append(start[1:], len(feature))
    stop = end[np.searchsorted(start, number, side="right") - 1]
    offset = np.where(inner, right - number, 0).astype(np.int64)
    if np.any(inner & ((offset < 2) | (right >= stop))):
        raise ValueError("the nodes of a tree are not in preorder")
    leaf = np.cumsum(~inner) - 1
    if offset.max(initial=0) >= MAX_SUBTREE or feature.max(initial=0) >= MAX_FEATURES or leaf[-1] >= MAX_LEAVES:
        raise ValueError(
            f"more than {MAX_FEATURES} features, or {MAX_LEAVES} leaves, or a tree of more than {MAX_SUBTREE} nodes"
        )
    link = offset << OFFSET_SHIFT | np.where(inner, feature, 0).astype(np.int64) << 1
    link |= (inner & missing_left.astype(bool)).astype(np.int64)
    link[inner] |= np.where(inner[number[inner] + 1], 0, LEFT_LEAF) | np.where(inner[right[inner]], 0, RIGHT_LEAF)
    bits = np.where(inner, rounded_down(threshold), np.float32(0)).astype(np.float32).view(np.uint32).astype(np.int64)
    word = link.astype(np.uint64) << np.uint64(32) | bits.astype(np.uint64)
    word[~inner] = _leaf_words(leaf[~inner])
    return Nodes(
        word,
        start,
        np.append(leaf[start] + inner[start], leaf[-1] + 1).astype(np.int64),
        int(feature.max(initial=-1)) + 1,
    )


def _leaf_words(number: Int64) -> Words:
    bits = _QUIET_NAN | (number & _LOW) | (number >> 22 & 1) << 31
    return ((number >> 23 & 3) << 40 | bits).astype(np.uint64)


def numbered(nodes: Nodes, number: Int64) -> Words:
    """The words of `nodes` with other numbers for the leaves, below 2^25, int64[L]."""
    word = nodes.word.copy()
    word[_leaves_in(word)] = _leaf_words(number)
    return word


def carrying(nodes: Nodes, value: npt.NDArray[np.uint32]) -> Words:
    """The words of `nodes` with a value in the low half of each leaf's, uint32[L].

    Such leaves know no number, nor do they stop `eight`.
    """
    word = nodes.word.copy()
    word[_leaves_in(word)] = value
    return word


def _leaves_in(word: Words) -> npt.NDArray[np.bool_]:
    return np.asarray(word >> np.uint64(32 + OFFSET_SHIFT) == 0, np.bool_)


def rounded_down(threshold: Float32 | Float64) -> Float32:
    """The greatest float32 that is not above each threshold."""
    wide = np.asarray(threshold, np.float64)
    with np.errstate(over="ignore"):  # below the lowest float32 there is only minus infinity
        narrow = wide.astype(np.float32)
        below = np.nextafter(narrow, np.float32(-np.inf))
    return np.where(narrow.astype(np.float64) > wide, below, narrow).astype(np.float32)


def check(features: Float32, nodes: Nodes) -> Float32:
    """`features`, contiguous.

    Raises
    ------
    ValueError
        If `features` is not two-dimensional float32, or has fewer columns than the forest uses.
    """
    if features.ndim != 2 or features.dtype != np.float32:
        raise ValueError(f"features of shape {features.shape} and type {features.dtype}: want float32[n, F]")
    if nodes.features > features.shape[1]:
        raise ValueError(f"the forest uses more than the {features.shape[1]} features given")
    return np.ascontiguousarray(features)


def leaves(features: Float32, nodes: Nodes) -> Int32:
    """Leaf numbers of n rows in T trees, int32[n, T].

    Raises
    ------
    ValueError
        If `features` is not two-dimensional float32, or has fewer columns than the forest uses.
    """
    from models.forest import packets  # which is built on this file

    features = check(features, nodes)
    out = np.empty((len(features), len(nodes.root)), np.int32)
    if len(features) < packets.FEW:
        walk(features, nodes.word, nodes.root, out)
    else:
        packets.leaves(features, nodes, out)
    return out


@njit(nogil=True, error_model="numpy", inline="always")
def step(x, lane, node, threshold, link):  # type: ignore[no-untyped-def]
    """One level down for the row whose features begin at `x[lane]`, without a branch; a leaf stays where it is."""
    at = node << np.uint64(1)
    bits = link[at + np.uint64(1)]
    value = x[lane + np.uint64((bits >> np.uint32(1)) & np.uint32(127))]
    left = np.uint32(value <= threshold[at]) | (np.uint32(value != value) & bits & np.uint32(1))
    right = bits >> np.uint32(OFFSET_SHIFT)
    return node + np.uint64(right ^ ((right ^ np.uint32(1)) & (np.uint32(0) - left)))


@njit(nogil=True, error_model="numpy", inline="always")
def leaf_of(word):  # type: ignore[no-untyped-def]
    """Number of the leaf in a leaf's word."""
    return (
        (word & np.uint64(_LOW))
        | ((word >> np.uint64(31)) & np.uint64(1)) << np.uint64(22)
        | ((word >> np.uint64(40)) & np.uint64(3)) << np.uint64(23)
    )


@njit(nogil=True, error_model="numpy", inline="always")
def eight(x, lane, node, threshold, link):  # type: ignore[no-untyped-def]
    """Walk eight (row, node) pairs down to their leaves, in step to hide the latency of loads; `node` is where they end."""
    a, b, c, d = node[0], node[1], node[2], node[3]
    e, f, g, h = node[4], node[5], node[6], node[7]
    moving = True
    while moving:
        for _ in range(2):
            a = step(x, lane[0], a, threshold, link)
            b = step(x, lane[1], b, threshold, link)
            c = step(x, lane[2], c, threshold, link)
            d = step(x, lane[3], d, threshold, link)
            e = step(x, lane[4], e, threshold, link)
            f = step(x, lane[5], f, threshold, link)
            g = step(x, lane[6], g, threshold, link)
            h = step(x, lane[7], h, threshold, link)
        one = np.uint64(1)
        links = (
            link[(a << one) + one] | link[(b << one) + one] | link[(c << one) + one] | link[(d << one) + one]
            | link[(e << one) + one] | link[(f << one) + one] | link[(g << one) + one] | link[(h << one) + one]
        )  # fmt: skip
        moving = links >= np.uint32(1 << OFFSET_SHIFT)
    node[0], node[1], node[2], node[3] = a, b, c, d
    node[4], node[5], node[6], node[7] = e, f, g, h


@njit(nogil=True, error_model="numpy", cache=True)
def walk(x, word, root, out):  # type: ignore[no-untyped-def]
    """Leaf numbers of few rows: eight trees in step for a row, or eight rows in step for a tree, whichever wastes less."""
    n, width = x.shape
    trees = len(root)
    flat = x.reshape(-1)
    threshold = word.view(np.float32)
    link = word.view(np.uint32)
    node = np.empty(8, np.uint64)
    lane = np.empty(8, np.uint64)
    if n < 16:
        for i in range(n):
            for first in range(0, trees, 8):
                for k in range(8):
                    lane[k] = i * width
                    node[k] = root[min(first + k, trees - 1)]
                eight(flat, lane, node, threshold, link)
                for k in range(min(8, trees - first)):
                    out[i, first + k] = leaf_of(word[node[k]])
        return
    for t in range(trees):
        for first in range(0, n, 8):
            for k in range(8):
                lane[k] = min(first + k, n - 1) * width
                node[k] = root[t]
            eight(flat, lane, node, threshold, link)
            for k in range(min(8, n - first)):
                out[first + k, t] = leaf_of(word[node[k]])
