"""Walks a forest: which leaf of which tree a galaxy falls into.

The rule is scikit-learn's to the last bit: a float32 feature goes left if it is at most the float64 threshold, a missing one goes
where training sent the missing. A float32 is at most a float64 threshold exactly if it is at most that threshold rounded
down to float32, so a node needs 8 bytes: the rounded threshold and a link.
"""

from typing import NamedTuple

import numpy as np
from numba import njit

from schemas.batch import Float32, Float64, Int32, Int64

# A link is: (right child - k) << 10 | feature << 3 | missing goes left. Feature bits are where eight rows side by side want them.
OFFSET_SHIFT = 10
FEATURE_BITS = 0b1111111000
MAX_FEATURES = 128
MAX_SUBTREE = 1 << 21  # nodes between a node and its right child


class Nodes(NamedTuple):
    """All trees in one set of arrays, each in preorder: the left child of node k is node k + 1.

    Attributes
    ----------
    threshold
        Rounded down to float32, float32[N]; NaN marks a leaf.
    link
        int32[N], see above; 0 for a leaf, which so points to itself.
    leaf
        Number of the leaf among all leaves of the forest, int32[N]; -1 for an inner node.
    root
        First node of each tree, int64[T].
    """

    threshold: Float32
    link: Int32
    leaf: Int32
    root: Int64


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
        If a child lies outside its tree, or there are more features or nodes than a link holds.
    """
    inner = feature >= 0
    number = np.arange(len(feature), dtype=np.int64)
    end = np.append(np.asarray(root, np.int64)[1:], len(feature))
    stop = end[np.searchsorted(root, number, side="right") - 1]
    offset = np.where(inner, right - number, 0).astype(np.int64)
    if np.any(inner & ((offset < 2) | (right >= stop))):
        raise ValueError("the nodes of a tree are not in preorder")
    if offset.max(initial=0) >= MAX_SUBTREE or feature.max(initial=0) >= MAX_FEATURES:
        raise ValueError(f"more than {MAX_FEATURES} features, or a tree of more than {MAX_SUBTREE} nodes")
    link = (
        (offset << OFFSET_SHIFT)
        | (np.where(inner, feature, 0).astype(np.int64) << 3)
        | (inner & missing_left.astype(bool))
    )
    leaf = np.where(inner, -1, np.cumsum(~inner) - 1)
    return Nodes(
        np.where(inner, rounded_down(threshold), np.float32(np.nan)).astype(np.float32),
        link.astype(np.int32),
        leaf.astype(np.int32),
        np.asarray(root, np.int64),
    )


def rounded_down(threshold: Float32 | Float64) -> Float32:
    """The greatest float32 that is not above each threshold."""
    wide = np.asarray(threshold, np.float64)
    with np.errstate(over="ignore"):
        narrow = wide.astype(np.float32)
    return np.where(narrow.astype(np.float64) > wide, np.nextafter(narrow, np.float32(-np.inf)), narrow).astype(
        np.float32
    )


def leaves(features: Float32, nodes: Nodes) -> Int32:
    """Leaf numbers of n rows in T trees, int32[n, T].

    Raises
    ------
    ValueError
        If `features` is not two-dimensional float32, or has fewer columns than the forest uses.
    """
    if features.ndim != 2 or features.dtype != np.float32:
        raise ValueError(f"features of shape {features.shape} and type {features.dtype}: want float32[n, F]")
    if len(nodes.link) and int((nodes.link & FEATURE_BITS).max()) >> 3 >= features.shape[1]:
        raise ValueError(f"the forest uses more than the {features.shape[1]} features given")
    out = np.empty((len(features), len(nodes.root)), np.int32)
    walk(np.ascontiguousarray(features), *nodes, out)
    return out


@njit(nogil=True, error_model="numpy", inline="always")
def _step(lanes, lane, node, threshold, link):  # type: ignore[no-untyped-def]
    """One level down for one of eight rows, without a branch; a leaf (threshold NaN, link 0) stays where it is."""
    bits = link[node]
    value = lanes[np.uint64((bits & FEATURE_BITS) + lane)]
    left = np.int32(value <= threshold[node]) | (np.int32(value != value) & bits & 1)
    right = bits >> OFFSET_SHIFT
    return node + np.uint64(right ^ ((right ^ 1) & -left))


@njit(nogil=True, error_model="numpy", cache=True)
def walk(x, threshold, link, leaf, root, out):  # type: ignore[no-untyped-def]
    """Kernel of `leaves`: tree by tree, so that a tree stays in the cache, eight rows in step to hide the latency of loads."""
    n, n_features = x.shape
    packets = np.zeros(((n + 7) // 8, 8 * n_features), np.float32)  # feature by feature, eight rows side by side
    for i in range(n):
        for k in range(n_features):
            packets[i >> 3, 8 * k + (i & 7)] = x[i, k]
    ends = np.empty(8, np.uint64)
    for t in range(root.shape[0]):
        start = np.uint64(root[t])
        for packet in range(packets.shape[0]):
            lanes = packets[packet]
            a = b = c = d = e = f = g = h = start
            moving = True
            while moving:
                for _ in range(2):
                    a = _step(lanes, 0, a, threshold, link)
                    b = _step(lanes, 1, b, threshold, link)
                    c = _step(lanes, 2, c, threshold, link)
                    d = _step(lanes, 3, d, threshold, link)
                    e = _step(lanes, 4, e, threshold, link)
                    f = _step(lanes, 5, f, threshold, link)
                    g = _step(lanes, 6, g, threshold, link)
                    h = _step(lanes, 7, h, threshold, link)
                moving = (link[a] | link[b] | link[c] | link[d] | link[e] | link[f] | link[g] | link[h]) != 0
            ends[0], ends[1], ends[2], ends[3] = a, b, c, d
            ends[4], ends[5], ends[6], ends[7] = e, f, g, h
            first = packet * 8
            for lane in range(min(8, n - first)):
                out[first + lane, t] = leaf[ends[lane]]
