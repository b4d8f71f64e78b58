"""Dense layers over sixteen galaxies abreast: arrays are float32[K, 16], so that no galaxy's answer knows of the others."""

# mypy: disable-error-code="no-untyped-def"

import math
from typing import NamedTuple

import numpy as np
from numba import njit

from models.forest.lanes import WIDTH, fused, load, splat, store
from schemas.batch import Float32

TOGETHER = 8  # outputs whose sums are in registers at once: as many as hide how long an addition takes
_LANE, _EIGHT = np.uint64(WIDTH), np.uint64(TOGETHER)
_O1, _O2, _O3, _O4, _O5, _O6, _O7 = (np.uint64(k) for k in range(1, TOGETHER))
_A, _B = np.float32(math.sqrt(2 / math.pi)), np.float32(0.044715)
_ONE, _HALF = np.float32(1.0), np.float32(0.5)


class Dense(NamedTuple):
    """A dense layer.

    Attributes
    ----------
    weight
        Of eight outputs the first input, the second and so on, float32[outputs / 8 * inputs * 8], then of the next eight.
    bias
        float32[outputs], made a multiple of eight.
    outputs
        That there are in truth.
    """

    weight: Float32
    bias: Float32
    outputs: int


def dense(weight: np.ndarray, bias: np.ndarray) -> Dense:
    """Of weights [outputs, inputs] and biases [outputs]."""
    outputs, inputs = weight.shape
    whole = np.zeros((-outputs % TOGETHER + outputs, inputs + 1), np.float32)
    whole[:outputs, 0], whole[:outputs, 1:] = bias, weight
    by_eight = whole[:, 1:].reshape(-1, TOGETHER, inputs).transpose(0, 2, 1)
    return Dense(np.ascontiguousarray(by_eight, np.float32).ravel(), np.array(whole[:, 0], np.float32), outputs)


def applied(layer: Dense, x: Float32) -> Float32:
    """What a layer makes of float32[inputs, 16], contiguous: float32[outputs, 16]."""
    out = np.empty((len(layer.bias), WIDTH), np.float32)
    _sums(x, layer.weight, layer.bias, out)
    return out[: layer.outputs]


def gelu(x: Float32) -> Float32:
    """Gaussian error linear units in their form with tanh (Hendrycks & Gimpel 2016, arXiv:1606.08415)."""
    through: Float32 = np.tanh(_A * (x + _B * x * x * x))
    return _HALF * x * (_ONE + through)


def softmax(x: Float32) -> Float32:
    """Probabilities of float32[G, 16], sum 1 over the first axis."""
    found: Float32 = np.exp(x - x.max(0))
    return found / found.sum(0)


@njit(nogil=True, error_model="numpy", cache=True)
def _sums(x, weight, bias, out):
    given, made, w = x.reshape(-1), out.reshape(-1), np.uint64(0)
    for first in range(0, len(bias), TOGETHER):
        o = np.uint64(first)
        a0, a1, a2, a3 = splat(bias[o]), splat(bias[o + _O1]), splat(bias[o + _O2]), splat(bias[o + _O3])
        a4, a5, a6, a7 = splat(bias[o + _O4]), splat(bias[o + _O5]), splat(bias[o + _O6]), splat(bias[o + _O7])
        at = np.uint64(0)
        for _ in range(len(x)):
            x0 = load(given, at)
            a0, a1 = fused(splat(weight[w]), x0, a0), fused(splat(weight[w + _O1]), x0, a1)
            a2, a3 = fused(splat(weight[w + _O2]), x0, a2), fused(splat(weight[w + _O3]), x0, a3)
            a4, a5 = fused(splat(weight[w + _O4]), x0, a4), fused(splat(weight[w + _O5]), x0, a5)
            a6, a7 = fused(splat(weight[w + _O6]), x0, a6), fused(splat(weight[w + _O7]), x0, a7)
            w += _EIGHT
            at += _LANE
        to = o * _LANE
        for sum in (a0, a1, a2, a3, a4, a5, a6, a7):
            store(made, to, sum)
            to += _LANE
