"""A trained forest as plain arrays: what a bundle stores and every kernel is built from."""

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from models.forest.walk import Nodes, pack
from schemas.batch import Float32, Int32, UInt8


class Forest(NamedTuple):
    """N nodes, T trees, L leaves; each tree in preorder (left child = next node), leaves numbered in node order.

    Attributes
    ----------
    threshold
        float32[N], rounded down, which decides as scikit-learn's float64 does; 0 in leaves.
    feature
        int8[N]; -1 in leaves.
    right
        Right child, counted from the first node of the forest, int32[N]; 0 in leaves.
    missing_left
        uint8[N]: 1 where a missing feature goes left.
    root
        First node of each tree, int32[T].
    leaf_start
        Leaf l holds the samples `leaf_sample[leaf_start[l]:leaf_start[l + 1]]`, int32[L + 1].
    leaf_sample
        Training galaxies, int32[T * m]; one that was trained on in several copies may stand in a leaf more than once.
    """

    threshold: Float32
    feature: npt.NDArray[np.int8]
    right: Int32
    missing_left: UInt8
    root: Int32
    leaf_start: Int32
    leaf_sample: Int32

    def nodes(self) -> Nodes:
        """Packed for walking."""
        return pack(self.threshold, self.feature, self.right, self.missing_left, self.root)

    def check(self, n_features: int, n_samples: int) -> None:
        """Make sure that no kernel will read outside its arrays.

        Raises
        ------
        ValueError
            If the arrays do not fit each other, the number of features, or the number of training galaxies.
        """
        want = {
            "threshold": "f4",
            "feature": "i1",
            "right": "i4",
            "missing_left": "u1",
            "root": "i4",
            "leaf_start": "i4",
            "leaf_sample": "i4",
        }
        for name, dtype in want.items():
            if getattr(self, name).dtype != np.dtype(dtype) or getattr(self, name).ndim != 1:
                raise ValueError(f"{name} is not a row of {np.dtype(dtype)}")
        nodes = len(self.feature)
        if not len(self.threshold) == len(self.right) == len(self.missing_left) == nodes > 0:
            raise ValueError("the node arrays differ in length")
        if not len(self.root) or self.root[0] != 0 or np.any(np.diff(self.root) <= 0) or self.root[-1] >= nodes:
            raise ValueError("the roots do not rise within the nodes")
        if int(self.feature.max()) >= n_features:
            raise ValueError(f"a node asks for a feature that {n_features} bands do not give")
        if (
            len(self.leaf_start) != (self.feature < 0).sum() + 1
            or self.leaf_start[0] != 0
            or np.any(np.diff(self.leaf_start) < 0)
        ):
            raise ValueError("the leaves' samples do not rise")
        if self.leaf_start[-1] != len(self.leaf_sample) or (
            len(self.leaf_sample) and not 0 <= int(self.leaf_sample.min()) <= int(self.leaf_sample.max()) < n_samples
        ):
            raise ValueError("a leaf holds a galaxy that is not there")
