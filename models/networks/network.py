"""Small softmax networks that stand beside a forest, as plain arrays, and the kernel that evaluates them.

Each network ends in one number a redshift bin, the log of the bin's probability but for a constant. A geometric mean of
networks is a mean of these numbers, and the log of the density between two bin centres is interpolated linearly; both are linear,
so at evaluation all networks share one last layer that ends on the model's redshift grid.

Every sum of a row runs in one fixed order inside one thread, so a row's answer is the same to the last bit in whatever batch it
stands. Other machines may fuse multiplications and additions where this one does not: there it is the same to 1e-6 in the CDF.
"""

import math
from typing import NamedTuple

import numpy as np
from numba import njit

from models.networks.dense import ABREAST, BLOCK, layer, packed, padded
from models.photometry import Photometry
from schemas.batch import Float32, Float64

REACH = 6.0  # standardised features are cut here: a network is not asked about what is much further out
LANES = 8  # rows of weights taken at once: layers are padded to multiples of it
TILE = 4 * ABREAST  # rows worked on at once, so that weights are read from the first cache
FLOOR = math.log(
    1e-6
)  # lowest log density, against the peak: what no training galaxy showed is improbable, not impossible


class Networks(NamedTuple):
    """K networks of three hidden layers.

    Attributes
    ----------
    center, scale
        Mean and standard deviation of the features in training, float32[F]. A missing feature is 0 after standardisation.
    first, second, third
        Weights of the hidden layers, float32[K, inputs, width]; the inputs are F features and one 0 or 1 a band.
    first_bias, second_bias, third_bias
        float32[K, width].
    out
        Of the shared last layer, float32[K * width, G].
    out_bias
        float32[G].
    """

    center: Float32
    scale: Float32
    first: Float32
    first_bias: Float32
    second: Float32
    second_bias: Float32
    third: Float32
    third_bias: Float32
    out: Float32
    out_bias: Float32

    def check(self, n_bands: int, points: int) -> None:
        """Make sure that no kernel will read outside its arrays.

        Raises
        ------
        ValueError
            If the arrays do not fit each other, the number of bands, or the grid.
        """
        count, width = self.third_bias.shape if self.third_bias.ndim == 2 else (0, 0)
        want = {
            "center": (n_bands,),
            "scale": (n_bands,),
            "first": (count, 2 * n_bands, width),
            "first_bias": (count, width),
            "second": (count, width, width),
            "second_bias": (count, width),
            "third": (count, width, width),
            "third_bias": (count, width),
            "out": (count * width, points),
            "out_bias": (points,),
        }
        for name, shape in want.items():
            array = getattr(self, name)
            if array.shape != shape or array.dtype != np.float32 or not array.size or not np.isfinite(array).all():
                raise ValueError(f"the networks' {name} is not {'x'.join(map(str, shape))} numbers of float32")
        if width % LANES or not (self.scale > 0).all():
            raise ValueError("the networks' layers are no multiple of 8 wide, or a scale is not positive")


class Evaluator:
    """Networks laid out for the kernel; read-only, for any number of threads."""

    def __init__(self, networks: Networks) -> None:
        count, _, width = networks.first.shape
        room = -(-width // BLOCK) * BLOCK

        def rows(array: Float32) -> Float32:
            """Rows of zeros for inputs that are padding."""
            return np.pad(array, ((0, room - len(array)), (0, 0)))

        self._points = networks.out.shape[1]
        out = np.concatenate([rows(networks.out[k * width : (k + 1) * width]) for k in range(count)])
        self._arrays = (
            networks.center,
            (1.0 / networks.scale.astype(np.float64)).astype(np.float32),
            np.stack([packed(weight) for weight in networks.first]),
            np.stack([padded(bias) for bias in networks.first_bias]),
            np.stack([[packed(rows(weight)) for weight in both] for both in (networks.second, networks.third)]),
            np.stack([[padded(bias) for bias in both] for both in (networks.second_bias, networks.third_bias)]),
            packed(out),
            padded(networks.out_bias),
        )

    def log_density(self, seen: Photometry) -> Float32:
        """Log of the redshift density on the grid but for a constant: its peak is 0, its lowest value `FLOOR`, float32[n, G]."""
        out = np.empty((len(seen.features), self._points), np.float32)
        evaluate(seen.features, seen.band_mask, *self._arrays, out)
        return out


def inputs(features: Float32, band_mask: np.ndarray, center: Float32, scale: Float32) -> Float32:
    """What the first layer sees: standardised features, 0 where missing, then 1 for each band at hand, float32[n, 2 F]."""
    with np.errstate(invalid="ignore"):
        standard = np.clip((features - center) * (np.float32(1.0) / scale), -REACH, REACH)
    there = (band_mask[:, None] >> np.arange(features.shape[1], dtype=np.uint32)) & 1
    return np.concatenate([np.nan_to_num(standard), there], axis=1).astype(np.float32)


def to_grid(logits: Float64, edges: Float64, grid: Float64) -> tuple[Float64, Float64]:
    """The linear map from bins to log densities on the grid, applied to weights.

    Parameters
    ----------
    logits
        Weights or biases that end in the bins, float64[..., bins].
    edges
        Of the bins, float64[bins + 1], rising.
    grid
        float64[G].

    Returns
    -------
    tuple
        `logits` ending on the grid, float64[..., G], and what to add to a bias for the bins' widths, float64[G].
    """
    center = 0.5 * (edges[1:] + edges[:-1])
    at = np.interp(grid, center, np.arange(len(center)))
    left = np.minimum(at.astype(np.int64), len(center) - 2)
    part = at - left
    spread = np.zeros((len(center), len(grid)))
    spread[left, np.arange(len(grid))] = 1.0 - part
    spread[left + 1, np.arange(len(grid))] += part
    return logits @ spread, -np.log(np.diff(edges)) @ spread


@njit(nogil=True, error_model="numpy", cache=True)
def evaluate(features, band_mask, center, inverse, first, first_bias, hidden, hidden_bias, out, out_bias, result):  # type: ignore[no-untyped-def]
    """Kernel of `Evaluator.log_density`."""
    n, n_features = features.shape
    points = result.shape[1]
    count, width = first_bias.shape
    n_inputs, wide, blocks = 2 * n_features, len(out_bias), width // BLOCK
    x = np.zeros(TILE * n_inputs, np.float32)
    ends = np.zeros(TILE * count * width, np.float32)
    here = np.empty(TILE * width, np.float32)
    there = np.empty(TILE * width, np.float32)
    sums = np.empty(TILE * wide, np.float32)
    one, two = hidden.reshape(-1), hidden_bias.reshape(-1)
    start, start_bias = first.reshape(-1), first_bias.reshape(-1)
    size = hidden.shape[2]
    floor = np.float32(FLOOR)
    for begin in range(0, n, TILE):
        rows = min(TILE, n - begin)
        groups = -(-rows // ABREAST)
        for r in range(rows):
            i = begin + r
            for f in range(n_features):
                value = (features[i, f] - center[f]) * inverse[f]
                if math.isnan(value):
                    value = np.float32(0.0)
                x[r * n_inputs + f] = min(max(value, np.float32(-REACH)), np.float32(REACH))
                x[r * n_inputs + n_features + f] = np.float32((band_mask[i] >> np.uint32(f)) & np.uint32(1))
        for k in range(count):
            layer(
                x,
                n_inputs,
                groups,
                start,
                k * first.shape[1],
                n_inputs,
                start_bias,
                k * width,
                blocks,
                here,
                width,
                0,
                True,
            )
            layer(here, width, groups, one, k * size, width, two, k * width, blocks, there, width, 0, True)
            layer(
                there,
                width,
                groups,
                one,
                (count + k) * size,
                width,
                two,
                (count + k) * width,
                blocks,
                ends,
                count * width,
                k * width,
                True,
            )
        layer(ends, count * width, groups, out, 0, count * width, out_bias, 0, wide // BLOCK, sums, wide, 0, False)
        for r in range(rows):
            row = sums[r * wide : r * wide + points]
            peak = row[0]
            for j in range(points):
                peak = max(peak, row[j])
            answer = result[begin + r]
            for j in range(points):
                answer[j] = max(row[j] - peak, floor)
