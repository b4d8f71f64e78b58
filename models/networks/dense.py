"""Dense layers for few rows: six rows times thirty-two outputs at a time, in registers.

Each output is one chain of multiply-adds over the inputs, in their order. So it does not depend on which rows stand beside it.
"""

import numpy as np
from numba import njit

from models.forest.lanes import WIDTH, fused, highest, load, splat, store
from schemas.batch import Float32

ABREAST = 6  # rows: with 32 outputs each, twelve sums, as many as two multiply-adders need to stay busy
BLOCK = 2 * WIDTH  # outputs


def packed(weight: Float32) -> Float32:
    """Weights, float32[K, J], as `layer` reads them: blocks of 32 outputs, zeros behind the last, float32[J' / 32 * K * 32]."""
    inputs, outputs = weight.shape
    blocks = -(-outputs // BLOCK)
    wide = np.zeros((inputs, blocks * BLOCK), np.float32)
    wide[:, :outputs] = weight
    return np.ascontiguousarray(wide.reshape(inputs, blocks, BLOCK).transpose(1, 0, 2)).ravel()


def padded(bias: Float32) -> Float32:
    """Biases with zeros behind them, a multiple of 32."""
    return np.pad(bias, (0, -len(bias) % BLOCK))


@njit(nogil=True, error_model="numpy")
def layer(x, x_width, groups, weight, at_weight, n_inputs, bias, at_bias, n_blocks, out, out_width, at_out, rectified):  # type: ignore[no-untyped-def]
    """`out[r, at_out:] = x[r, :n_inputs] @ weight + bias` for 6 `groups` rows, negative sums as 0 if `rectified`.

    All arrays are flat; rows of `x` and `out` begin `x_width` and `out_width` apart.
    """
    lane, nothing = np.uint64(WIDTH), splat(np.float32(0.0))
    least = nothing if rectified else splat(np.float32(-np.inf))
    for block in range(n_blocks):
        start = np.uint64(at_weight + block * n_inputs * BLOCK)
        first = np.uint64(at_bias + block * BLOCK)
        low, high = load(bias, first), load(bias, first + lane)
        for group in range(groups):
            r0 = group * ABREAST * x_width
            r1, r2, r3, r4, r5 = r0 + x_width, r0 + 2 * x_width, r0 + 3 * x_width, r0 + 4 * x_width, r0 + 5 * x_width
            a0, a1, a2, a3, a4, a5 = low, low, low, low, low, low
            b0, b1, b2, b3, b4, b5 = high, high, high, high, high, high
            at = start
            for k in range(n_inputs):
                w, v = load(weight, at), load(weight, at + lane)
                at += np.uint64(BLOCK)
                s0, s1, s2 = splat(x[r0 + k]), splat(x[r1 + k]), splat(x[r2 + k])
                a0, b0 = fused(s0, w, a0), fused(s0, v, b0)
                a1, b1 = fused(s1, w, a1), fused(s1, v, b1)
                a2, b2 = fused(s2, w, a2), fused(s2, v, b2)
                s3, s4, s5 = splat(x[r3 + k]), splat(x[r4 + k]), splat(x[r5 + k])
                a3, b3 = fused(s3, w, a3), fused(s3, v, b3)
                a4, b4 = fused(s4, w, a4), fused(s4, v, b4)
                a5, b5 = fused(s5, w, a5), fused(s5, v, b5)
            place = np.uint64(group * ABREAST * out_width + at_out + block * BLOCK)
            step = np.uint64(out_width)
            store(out, place, highest(a0, least))
            store(out, place + lane, highest(b0, least))
            store(out, place + step, highest(a1, least))
            store(out, place + step + lane, highest(b1, least))
            place += np.uint64(2) * step
            store(out, place, highest(a2, least))
            store(out, place + lane, highest(b2, least))
            store(out, place + step, highest(a3, least))
            store(out, place + step + lane, highest(b3, least))
            place += np.uint64(2) * step
            store(out, place, highest(a4, least))
            store(out, place + lane, highest(b4, least))
            store(out, place + step, highest(a5, least))
            store(out, place + step + lane, highest(b5, least))
