"""PReLU for training on a CPU: torch's own gradient takes a third of a step there, for it is not vectorised.

One pass over a convolution's output, channels last, gives both gradients. bfloat16, which numba does not know, is read and
written as the upper half of a float32; the slopes' gradient is summed in float32 and float64 either way.
"""

from typing import Any

import numba
import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from schemas.batch import Float32, Float64

ROWS = 256  # whose gradients of the slopes are summed in float32 before they are added to the others


@numba.njit(nogil=True, cache=True, fastmath=True)
def gradients(x: Float32, above: Float32, slope: Float32, below: Float32, of_slope: Float64) -> None:
    """Of max(x, 0) + slope min(x, 0), by x into `below` and by the slope added to `of_slope`.

    Parameters
    ----------
    x, above, below
        Values, the gradient by the result, the gradient by x, float32[n, C].
    slope, of_slope
        float32[C], float64[C].
    """
    sums = np.zeros(len(slope), np.float32)
    for first in range(0, len(x), ROWS):
        sums[:] = 0
        for i in range(first, min(first + ROWS, len(x))):
            for c in range(len(slope)):
                below[i, c] = above[i, c] if x[i, c] > 0 else above[i, c] * slope[c]
                sums[c] += above[i, c] * min(x[i, c], np.float32(0))
        of_slope += sums


@numba.njit(nogil=True, cache=True, fastmath=True)
def gradients_of_halves(x: np.ndarray, above: np.ndarray, slope: Float32, below: np.ndarray, of_slope: Float64) -> None:
    """`gradients` of bfloat16 that come, and go, as uint16[n, C]; to the nearest, halfway to the even one."""
    sums, value, gradient, result = np.zeros((4, len(slope)), np.float32)
    value_bits, gradient_bits, bits = value.view(np.uint32), gradient.view(np.uint32), result.view(np.uint32)
    half = np.uint32(16)
    for first in range(0, len(x), ROWS):
        sums[:] = 0
        for i in range(first, min(first + ROWS, len(x))):
            for c in range(len(slope)):
                value_bits[c] = np.uint32(x[i, c]) << half
                gradient_bits[c] = np.uint32(above[i, c]) << half
            for c in range(len(slope)):
                result[c] = gradient[c] if value[c] > 0 else gradient[c] * slope[c]
                sums[c] += gradient[c] * min(value[c], np.float32(0))
            for c in range(len(slope)):
                odd = (bits[c] >> half) & np.uint32(1)
                below[i, c] = np.uint16((bits[c] + np.uint32(0x7FFF) + odd) >> half)
        of_slope += sums


class CpuPrelu(torch.autograd.Function):
    """`torch.nn.functional.prelu` of [n, C, S, S] in float32 or bfloat16, slopes in float32."""

    @staticmethod
    def forward(of: Any, x: Tensor, slope: Tensor) -> Tensor:
        """In the precision of `x`."""
        of.save_for_backward(x, slope)
        with torch.autocast("cpu", enabled=False):
            return functional.prelu(x, slope.to(x.dtype))

    @staticmethod
    def backward(of: Any, above: Tensor) -> tuple[Tensor, Tensor]:
        """By x and by the slopes."""
        x, slope = of.saved_tensors
        below = torch.empty_like(x, memory_format=torch.channels_last)
        of_slope = np.zeros(len(slope))
        kernel = gradients if x.dtype == torch.float32 else gradients_of_halves
        kernel(_rows(x), _rows(above), slope.detach().numpy(), _rows(below), of_slope)
        return below, torch.from_numpy(of_slope).to(slope.dtype)


class Prelu(nn.PReLU):
    """PReLU of images, one slope a channel; in training on a CPU with the gradient above."""

    def forward(self, x: Tensor) -> Tensor:
        """Of [n, C, S, S] makes as many."""
        if self.training and x.device.type == "cpu":
            found: Tensor = CpuPrelu.apply(x, self.weight)
            return found
        return super().forward(x)


def _rows(x: Tensor) -> np.ndarray:
    """[n, C, S, S] as [n S S, C], without a copy where channels are last."""
    flat = x.detach().contiguous(memory_format=torch.channels_last).permute(0, 2, 3, 1).reshape(-1, x.shape[1])
    return (flat if x.dtype == torch.float32 else flat.view(torch.uint16)).numpy()
