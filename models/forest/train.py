"""Grows a forest with scikit-learn and takes it out of scikit-learn: flat node arrays and the samples of every leaf.

The only file of this room that imports scikit-learn: a worker that estimates never pays for it.
"""

from typing import Any

import numpy as np
from sklearn.ensemble import ExtraTreesRegressor, RandomForestRegressor

from models.forest.forest import Forest
from models.forest.walk import leaves, rounded_down
from schemas.batch import Float32, Float64, Int64

KINDS = {"extra-trees": ExtraTreesRegressor, "random-forest": RandomForestRegressor}


def grow(
    features: Float32,
    z: Float64,
    row: Int64,
    *,
    kind: str,
    trees: int,
    min_leaf: int,
    max_features: float,
    seed: int,
    threads: int,
) -> Forest:
    """Train a forest.

    Parameters
    ----------
    features
        float32[m, F], NaN = missing.
    z
        Target, float64[m].
    row
        Which training galaxy each of the m rows is a copy of, int64[m]: what the leaves remember.
    kind
        ``extra-trees`` or ``random-forest``.
    trees, min_leaf, max_features, seed
        As scikit-learn has them; `max_features` is a fraction.
    threads
        Trees grown at once; no effect on the result.

    Returns
    -------
    Forest
        With every row of `features` in one leaf of every tree (also for a random forest, whose trees grew on bootstraps).
    """
    model = KINDS[kind](
        trees,
        min_samples_leaf=min_leaf,
        max_features=max_features,
        random_state=seed,
        n_jobs=threads,
    )
    model.fit(features, z)
    return extract(model, features, row)


def extract(model: Any, features: Float32, row: Int64) -> Forest:
    """The arrays of a fitted scikit-learn forest, its leaves filled with `row` where `features` fall.

    Raises
    ------
    ValueError
        If the trees were not grown depth first (`max_leaf_nodes` was given).
    """
    trees = [estimator.tree_ for estimator in model.estimators_]
    count = np.array([tree.node_count for tree in trees], np.int64)
    root = np.concatenate([[0], np.cumsum(count)[:-1]])
    inner = np.concatenate([tree.children_left >= 0 for tree in trees])
    left = np.concatenate([tree.children_left for tree in trees])
    within = np.arange(len(left)) - np.repeat(root, count)
    if not np.array_equal(left[inner], within[inner] + 1):
        raise ValueError("the trees were not grown depth first: train without max_leaf_nodes")
    right = np.concatenate([tree.children_right for tree in trees]) + np.repeat(root, count)
    # The state of a tree is the only public way to where its nodes send the missing.
    missing = np.concatenate([tree.__getstate__()["nodes"]["missing_go_to_left"] for tree in trees])
    forest = Forest(
        threshold=np.where(inner, rounded_down(np.concatenate([tree.threshold for tree in trees])), 0).astype(
            np.float32
        ),
        feature=np.where(inner, np.concatenate([tree.feature for tree in trees]), -1).astype(np.int8),
        right=np.where(inner, right, 0).astype(np.int32),
        missing_left=np.where(inner, missing, 0).astype(np.uint8),
        root=root.astype(np.int32),
        leaf_start=np.zeros(1, np.int32),
        leaf_sample=np.zeros(0, np.int32),
    )
    leaf = leaves(features, forest.nodes()).ravel()
    order = np.argsort(leaf, kind="stable")
    counts = np.bincount(leaf, minlength=int((~inner).sum()))
    return forest._replace(
        leaf_start=np.concatenate([[0], np.cumsum(counts)]).astype(np.int32),
        leaf_sample=np.repeat(row, len(trees))[order].astype(np.int32),
    )
