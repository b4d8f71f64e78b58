"""The kernels of a lean network over sixteen stamps abreast: a channel of a pixel is one vector, a stamp in each of its lanes.

So every sum, mean and activation is whole vectors, however wide layers and stamps are, and no stamp knows of the others.
Images are arrays of pixels, float32[H + 2 margin, W + 2 margin, C, 16], with a margin of zeroes. What a layer makes is
activated while it is in registers, and written where it is wanted: into its channels of a block's output; and a mean of
2 x 2 is taken of two rows that were just made. The kernels trust: layers have multiples of four outputs, arrays are
contiguous and of the shapes that `models.images.sight` makes.
"""

# mypy: disable-error-code="no-untyped-def"

import math
from typing import NamedTuple

import numpy as np
from numba import njit

from models.forest.lanes import WIDTH, fused, highest, load, splat, store
from models.images.stretch import arcsinh
from schemas.batch import Float32

TOGETHER = 4  # outputs, and pixels: sixteen sums are in registers at once
# Literal numbers as arguments would compile a kernel once for each of them.
_NONE, _EDGE = np.int64(0), np.int64(1)
_LANE, _FOUR = np.uint64(WIDTH), np.uint64(TOGETHER)
_O1, _O2, _O3 = np.uint64(1), np.uint64(2), np.uint64(3)
_P1, _P2, _P3 = np.uint64(WIDTH), np.uint64(2 * WIDTH), np.uint64(3 * WIDTH)


class Layer(NamedTuple):
    """A convolution and its PReLU.

    Attributes
    ----------
    weight
        As `packed` has it.
    bias, slope
        float32[outputs].
    channels, kernel
        Inputs, and pixels along its side.
    """

    weight: Float32
    bias: Float32
    slope: Float32
    channels: int
    kernel: int


class Block(NamedTuple):
    """The four convolutions of an inception block, and the channels of the four parts of what the first makes."""

    enter: Layer
    three: Layer
    five_a: Layer
    five_b: Layer
    parts: tuple[int, int, int, int]


def packed(weight: Float32) -> Float32:
    """Weights, float32[outputs, inputs, K, K], as the kernels read them, float32[outputs / 4 * K * K * inputs * 4].

    Raises
    ------
    ValueError
        If the outputs are no multiple of four.
    """
    outputs, inputs, kernel, _ = weight.shape
    if outputs % TOGETHER:
        raise ValueError(f"a convolution of {outputs} outputs: want a multiple of {TOGETHER}")
    by_four = weight.reshape(outputs // TOGETHER, TOGETHER, inputs, kernel * kernel)
    return np.ascontiguousarray(by_four.transpose(0, 3, 2, 1), np.float32).ravel()


def pixels(height: int, width: int, channels: int, margin: int) -> Float32:
    """Zeroes, float32[H + 2 margin, W + 2 margin, C, 16], each vector a line of the cache, not parts of two."""
    shape = (height + 2 * margin, width + 2 * margin, channels, WIDTH)
    room = np.zeros(math.prod(shape) + WIDTH, np.float32)
    first = -room.ctypes.data % (4 * WIDTH) // 4
    return room[first : first + math.prod(shape)].reshape(shape)


@njit(nogil=True, error_model="numpy", inline="always")
def _activated(sum, slope):
    nothing = splat(np.float32(0.0))
    return highest(sum, nothing) - slope * highest(-sum, nothing)


@njit(nogil=True, error_model="numpy")
def _four_pixels(x, at, channels, pixel, row, kernel, weight, w, bias, slope, o, out, to, out_pixel):
    b0, b1, b2, b3 = splat(bias[o]), splat(bias[o + _O1]), splat(bias[o + _O2]), splat(bias[o + _O3])
    a00, a01, a02, a03 = b0, b0, b0, b0
    a10, a11, a12, a13 = b1, b1, b1, b1
    a20, a21, a22, a23 = b2, b2, b2, b2
    a30, a31, a32, a33 = b3, b3, b3, b3
    for ky in range(kernel):
        for kx in range(kernel):
            p0 = at + np.uint64(ky) * row + np.uint64(kx) * pixel
            p1, p2, p3 = p0 + pixel, p0 + pixel + pixel, p0 + pixel + pixel + pixel
            for _ in range(channels):
                x0, x1, x2, x3 = load(x, p0), load(x, p1), load(x, p2), load(x, p3)
                w0, w1 = splat(weight[w]), splat(weight[w + _O1])
                w2, w3 = splat(weight[w + _O2]), splat(weight[w + _O3])
                a00, a01, a02, a03 = fused(w0, x0, a00), fused(w0, x1, a01), fused(w0, x2, a02), fused(w0, x3, a03)
                a10, a11, a12, a13 = fused(w1, x0, a10), fused(w1, x1, a11), fused(w1, x2, a12), fused(w1, x3, a13)
                a20, a21, a22, a23 = fused(w2, x0, a20), fused(w2, x1, a21), fused(w2, x2, a22), fused(w2, x3, a23)
                a30, a31, a32, a33 = fused(w3, x0, a30), fused(w3, x1, a31), fused(w3, x2, a32), fused(w3, x3, a33)
                w += _FOUR
                p0 += _LANE
                p1 += _LANE
                p2 += _LANE
                p3 += _LANE
    s0, s1, s2, s3 = splat(slope[o]), splat(slope[o + _O1]), splat(slope[o + _O2]), splat(slope[o + _O3])
    _store_four(out, to, _activated(a00, s0), _activated(a10, s1), _activated(a20, s2), _activated(a30, s3))
    to += out_pixel
    _store_four(out, to, _activated(a01, s0), _activated(a11, s1), _activated(a21, s2), _activated(a31, s3))
    to += out_pixel
    _store_four(out, to, _activated(a02, s0), _activated(a12, s1), _activated(a22, s2), _activated(a32, s3))
    to += out_pixel
    _store_four(out, to, _activated(a03, s0), _activated(a13, s1), _activated(a23, s2), _activated(a33, s3))


@njit(nogil=True, error_model="numpy", inline="always")
def _store_four(out, to, v0, v1, v2, v3):
    store(out, to, v0)
    store(out, to + _P1, v1)
    store(out, to + _P2, v2)
    store(out, to + _P3, v3)


@njit(nogil=True, error_model="numpy")
def _one_pixel(x, at, channels, pixel, row, kernel, weight, w, bias, slope, o, out, to):
    a0, a1, a2, a3 = splat(bias[o]), splat(bias[o + _O1]), splat(bias[o + _O2]), splat(bias[o + _O3])
    for ky in range(kernel):
        for kx in range(kernel):
            p = at + np.uint64(ky) * row + np.uint64(kx) * pixel
            for _ in range(channels):
                x0 = load(x, p)
                a0, a1 = fused(splat(weight[w]), x0, a0), fused(splat(weight[w + _O1]), x0, a1)
                a2, a3 = fused(splat(weight[w + _O2]), x0, a2), fused(splat(weight[w + _O3]), x0, a3)
                w += _FOUR
                p += _LANE
    s0, s1, s2, s3 = splat(slope[o]), splat(slope[o + _O1]), splat(slope[o + _O2]), splat(slope[o + _O3])
    _store_four(out, to, _activated(a0, s0), _activated(a1, s1), _activated(a2, s2), _activated(a3, s3))


@njit(nogil=True, error_model="numpy")
def _rows(x, margin, x_channel, first, rows, layer, begin, end, out, out_channel, out_margin):
    """Outputs `begin` to `end` of a layer for some rows of `x`; `out` begins with the first of them."""
    kernel, channels, width = layer.kernel, layer.channels, x.shape[1] - 2 * margin
    pixel, row = x.shape[2] * WIDTH, x.shape[1] * x.shape[2] * WIDTH
    out_pixel, out_row = out.shape[2] * WIDTH, out.shape[1] * out.shape[2] * WIDTH
    given, made = x.reshape(-1), out.reshape(-1)
    weight, bias, slope = layer.weight, layer.bias, layer.slope
    inner, inner_row, inner_out = np.uint64(pixel), np.uint64(row), np.uint64(out_pixel)
    least = margin - kernel // 2
    for y in range(rows):
        for step in range(0, width, TOGETHER):
            left = min(step, max(width - TOGETHER, 0))  # the last four may overlap those before
            at = (first + y + least) * row + (left + least) * pixel + x_channel * WIDTH
            to = (y + out_margin) * out_row + (left + out_margin) * out_pixel + out_channel * WIDTH
            for o in range(begin, end, TOGETHER):
                w, k, place = (
                    np.uint64(o * channels * kernel * kernel),
                    np.uint64(o),
                    np.uint64(to + (o - begin) * WIDTH),
                )
                if width >= TOGETHER:
                    _four_pixels(
                        given,
                        np.uint64(at),
                        channels,
                        inner,
                        inner_row,
                        kernel,
                        weight,
                        w,
                        bias,
                        slope,
                        k,
                        made,
                        place,
                        inner_out,
                    )
                    continue
                for i in range(width):
                    here, there = np.uint64(at + i * pixel), place + np.uint64(i * out_pixel)
                    _one_pixel(given, here, channels, inner, inner_row, kernel, weight, w, bias, slope, k, made, there)


@njit(nogil=True, error_model="numpy")
def _around(x, x_channel, channels, first, rows, out, out_channel, out_margin):
    """Means of a pixel and its neighbours, up to eight, for some rows of `x`, whose margin is 1."""
    height, width = x.shape[0] - 2, x.shape[1] - 2
    pixel, row = x.shape[2] * WIDTH, x.shape[1] * x.shape[2] * WIDTH
    given, made = x.reshape(-1), out.reshape(-1)
    for y in range(rows):
        tall = 3 - (first + y == 0) - (first + y == height - 1)
        for left in range(width):
            wide = 3 - (left == 0) - (left == width - 1)
            part = splat(np.float32(1.0) / np.float32(tall * wide))
            at = (first + y) * row + left * pixel + x_channel * WIDTH
            to = ((y + out_margin) * out.shape[1] + left + out_margin) * out.shape[2] * WIDTH + out_channel * WIDTH
            for c in range(channels):
                p0 = np.uint64(at + c * WIDTH)
                p1, p2 = p0 + np.uint64(row), p0 + np.uint64(2 * row)
                one, two = np.uint64(pixel), np.uint64(2 * pixel)
                sum = load(given, p0) + load(given, p0 + one) + load(given, p0 + two)
                sum = sum + load(given, p1) + load(given, p1 + one) + load(given, p1 + two)
                sum = sum + load(given, p2) + load(given, p2 + one) + load(given, p2 + two)
                store(made, np.uint64(to + c * WIDTH), sum * part)


@njit(nogil=True, error_model="numpy")
def _mean(strip, factor, channels, y, out, out_channel):
    """Means of squares of `factor` rows, into row `y` of `out`, whose margin is 1."""
    pixel, row = strip.shape[2] * WIDTH, strip.shape[1] * strip.shape[2] * WIDTH
    given, made = strip.reshape(-1), out.reshape(-1)
    part = splat(np.float32(1.0 / (factor * factor)))
    for left in range(out.shape[1] - 2):
        to = ((y + 1) * out.shape[1] + left + 1) * out.shape[2] * WIDTH + out_channel * WIDTH
        for c in range(channels):
            sum = splat(np.float32(0.0))
            for v in range(factor):
                for u in range(factor):
                    sum = sum + load(given, np.uint64(v * row + (left * factor + u) * pixel + c * WIDTH))
            store(made, np.uint64(to + c * WIDTH), sum * part)


@njit(nogil=True, error_model="numpy")
def _convolved(x, margin, x_channel, layer, begin, end, out, out_channel, factor, strip):
    """Outputs `begin` to `end` of a layer, as means of `factor` by `factor` pixels."""
    if factor == 1:
        _rows(x, margin, x_channel, _NONE, x.shape[0] - 2 * margin, layer, begin, end, out, out_channel, _EDGE)
        return
    for y in range(out.shape[0] - 2):
        _rows(x, margin, x_channel, y * factor, factor, layer, begin, end, strip, _NONE, _NONE)
        _mean(strip, factor, end - begin, y, out, out_channel)


@njit(nogil=True, error_model="numpy", cache=True)
def stem(x, layer, out, factor, strip):
    """The first convolution, as means of `factor` by `factor` pixels.

    `x` has a margin of half the kernel, `out` of 1; `strip` is room for `factor` rows of what the layer makes, without a margin.
    """
    _convolved(x, layer.kernel // 2, _NONE, layer, _NONE, len(layer.bias), out, _NONE, factor, strip)


@njit(nogil=True, error_model="numpy", cache=True)
def inception(x, block, inside, middle, out, factor, strip):
    """An inception block, as means of `factor` by `factor` pixels; margins are 1.

    `inside` is room for what the parts but the first begin with, `middle` for what is between the two convolutions of the 5 x 5.
    """
    width, narrow, thin, half = block.parts
    height = x.shape[0] - 2
    _convolved(x, _EDGE, _NONE, block.enter, _NONE, width, out, _NONE, factor, strip)
    _rows(x, _EDGE, _NONE, _NONE, height, block.enter, width, width + narrow + thin + half, inside, _NONE, _EDGE)
    _convolved(inside, _EDGE, _NONE, block.three, _NONE, width, out, width, factor, strip)
    _rows(inside, _EDGE, narrow, _NONE, height, block.five_a, _NONE, half, middle, _NONE, _EDGE)
    _convolved(middle, _EDGE, _NONE, block.five_b, _NONE, width, out, 2 * width, factor, strip)
    if factor == 1:
        _around(inside, narrow + thin, half, _NONE, height, out, 3 * width, _EDGE)
        return
    for y in range(out.shape[0] - 2):
        _around(inside, narrow + thin, half, y * factor, factor, strip, _NONE, _NONE)
        _mean(strip, factor, half, y, out, 3 * width)


@njit(nogil=True, error_model="numpy", cache=True)
def stretched_in(stamps, out, margin):
    """arcsinh of up to sixteen stamps, float32[k, B, S, S], into the lanes of `out`. Lanes without a stamp stay as they are."""
    n, bands, size, _ = stamps.shape
    lines = np.empty((n, size), np.float32)
    for y in range(size):
        for b in range(bands):
            for i in range(n):
                _stretch(stamps[i, b, y], lines[i])
            for k in range(size):
                for i in range(n):
                    out[y + margin, k + margin, b, i] = lines[i, k]


@njit(nogil=True, error_model="numpy")
def _stretch(row, line):
    for k in range(len(row)):
        line[k] = arcsinh(row[k])


@njit(nogil=True, error_model="numpy", cache=True)
def means(x, out):
    """Means over the image, whose margin is 1, of the first lanes, into float32[k, C]."""
    height, width, channels = x.shape[0] - 2, x.shape[1] - 2, x.shape[2]
    given, one = x.reshape(-1), np.empty(WIDTH, np.float32)
    part = splat(np.float32(1.0) / np.float32(height * width))
    for c in range(channels):
        sum = splat(np.float32(0.0))
        for y in range(height):
            for k in range(width):
                sum = sum + load(given, np.uint64((((y + 1) * (width + 2) + k + 1) * channels + c) * WIDTH))
        store(one, np.uint64(0), sum * part)
        for i in range(len(out)):
            out[i, c] = one[i]
