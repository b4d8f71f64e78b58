"""Trains the networks that stand beside a forest, in NumPy: Adam with decoupled weight decay, soft labels, noise on the inputs.

All networks of a companion are trained at once, as stacked matrices: they differ by where they start and in what order they see
the galaxies.
"""

from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from models.networks.network import Networks, inputs, to_grid
from models.photometry import Photometry
from schemas.batch import Float32, Float64

DECAYS = (
    0.01,
    0.1,
    0.3,
)  # many galaxies or noisy ones want little, few and bright ones much: else networks learn them by heart


@dataclass(frozen=True)
class NetworkSettings:
    """What a companion is. The defaults are best out of fold on DC2 and good on SDSS and DEEP2/3."""

    count: int = 3
    width: int = 64  # of each of three hidden layers
    bins: int = 200  # of equal width in ln(1 + z)
    softness: float = 1.75  # width of the soft labels, in bins
    noise: float = 0.3  # added to the fluxes anew in every epoch, in units of their errors
    masked: float = 0.5  # part of the galaxies that lose bands, drawn anew in every epoch
    epochs: int = 150
    batch: int = 128
    rate: float = 3e-3
    warm_up: int = 200  # steps
    decay: float | None = None  # of the weights; None = chosen out of fold among DECAYS


def train(
    draw: Callable[[np.random.Generator], Photometry],
    seen: Photometry,
    z: Float64,
    weight: Float64,
    grid: Float64,
    settings: NetworkSettings,
    rng: np.random.Generator,
    tell: Callable[[float], None] = lambda _done: None,
) -> Networks:
    """Train a companion.

    Parameters
    ----------
    draw
        Gives the photometry of the n training galaxies for one epoch.
    seen
        Their photometry as observed: what features are standardised by.
    z, weight
        Redshifts and importance weights, float64[n].
    grid
        The model's redshifts, float64[G].
    settings
        What to train.
    rng
        Where all that is random comes from.
    tell
        Called with the fraction done.
    """
    known = np.isfinite(seen.features)
    number = np.maximum(known.sum(0), 1)
    center = np.where(known, seen.features, 0).sum(0, np.float64) / number
    spread = np.sqrt((np.where(known, seen.features - center, 0) ** 2).sum(0, np.float64) / number)
    center, spread = center.astype(np.float32), np.where(spread > 0, spread, 1.0).astype(np.float32)

    edges = np.expm1(np.linspace(0.0, np.log1p(grid[-1]), settings.bins + 1))
    target = soft_labels(z, edges, settings.softness)
    layers = _start(2 * seen.features.shape[1], settings, rng)
    first_moment = [np.zeros_like(p) for p in layers]
    second_moment = [np.zeros_like(p) for p in layers]
    share = (weight / weight.mean()).astype(np.float32)
    n, size = len(z), min(settings.batch, len(z))
    steps = n // size
    total, step = settings.epochs * steps, 0
    decay = DECAYS[0] if settings.decay is None else settings.decay
    for epoch in range(settings.epochs):
        photometry = draw(rng)
        x = inputs(photometry.features, photometry.band_mask, center, spread)
        order = np.stack([rng.permutation(n) for _ in range(settings.count)])
        for part in range(steps):
            rows = order[:, part * size : (part + 1) * size]
            gradient = _gradient(layers, x[rows], target[rows], share[rows])
            step += 1
            rate = settings.rate * 0.5 * (1.0 + np.cos(np.pi * step / total)) * min(1.0, step / settings.warm_up)
            _adam(layers, gradient, first_moment, second_moment, step, rate, decay)
        tell((epoch + 1) / settings.epochs)
    return _networks(layers, center, spread, edges, grid)


def soft_labels(z: Float64, edges: Float64, softness: float) -> Float32:
    """A Gaussian of `softness` bins about each redshift in ln(1 + z), float32[n, bins], rows of sum 1."""
    logs = np.log1p(edges)
    center = 0.5 * (logs[1:] + logs[:-1])
    width = softness * (logs[-1] - logs[0]) / (len(logs) - 1)
    # a redshift beyond the grid counts as its end, so that a row never sums to 0
    away = (center - np.clip(np.log1p(z), logs[0], logs[-1])[:, None]) / width
    labels = np.exp(-0.5 * away**2)
    return (labels / labels.sum(1, keepdims=True)).astype(np.float32)


def _start(n_inputs: int, settings: NetworkSettings, rng: np.random.Generator) -> list[Float32]:
    """Weights and biases in turn (He et al. 2015); the last layer starts near zero: every redshift as likely as any."""
    sizes = [n_inputs, settings.width, settings.width, settings.width, settings.bins]
    layers: list[Float32] = []
    for k, (before, after) in enumerate(pairwise(sizes)):
        gain = np.sqrt(2.0 / before) * (0.1 if k == len(sizes) - 2 else 1.0)
        layers.append((rng.standard_normal((settings.count, before, after)) * gain).astype(np.float32))
        layers.append(np.zeros((settings.count, 1, after), np.float32))
    return layers


def _gradient(layers: list[Float32], x: Float32, target: Float32, share: Float32) -> list[Float32]:
    """Gradient of the mean cross-entropy, layer by layer as in `layers`."""
    seen = [x]
    for k in range(0, len(layers) - 2, 2):
        x = x @ layers[k]
        x += layers[k + 1]
        np.maximum(x, 0, out=x)
        seen.append(x)
    p = x @ layers[-2]
    p += layers[-1]
    p -= p.max(2, keepdims=True)
    np.exp(p, out=p)
    p /= p.sum(2, keepdims=True)
    p -= target
    p *= (share / np.float32(share.shape[1]))[:, :, None]
    back: list[Float32] = []
    for k in range(len(layers) - 2, -1, -2):
        x = seen[k // 2]
        back += [p.sum(1, keepdims=True), x.swapaxes(1, 2) @ p]
        if k:
            p = p @ layers[k].swapaxes(1, 2)
            p *= x > 0
    return back[::-1]


def _adam(
    layers: list[Float32],
    gradient: list[Float32],
    first: list[Float32],
    second: list[Float32],
    step: int,
    rate: float,
    decay: float,
) -> None:
    """One step of AdamW (Loshchilov & Hutter 2019), in place; biases do not decay."""
    unbias, unbias_square = 1.0 / (1.0 - 0.9**step), 1.0 / (1.0 - 0.999**step)
    for k, (layer, slope) in enumerate(zip(layers, gradient, strict=True)):
        first[k] *= np.float32(0.9)
        first[k] += np.float32(0.1) * slope
        second[k] *= np.float32(0.999)
        second[k] += np.float32(0.001) * slope * slope
        if k % 2 == 0:
            layer *= np.float32(1.0 - rate * decay)
        root = np.sqrt(second[k] * np.float32(unbias_square))
        root += np.float32(1e-8)
        layer -= np.float32(rate * unbias) * first[k] / root


def _networks(layers: list[Float32], center: Float32, spread: Float32, edges: Float64, grid: Float64) -> Networks:
    count = len(layers[0])
    out, _ = to_grid(layers[6].astype(np.float64).reshape(-1, len(edges) - 1) / count, edges, grid)
    bias, widths = to_grid(layers[7].astype(np.float64)[:, 0].mean(0), edges, grid)
    return Networks(
        center,
        spread,
        first=layers[0],
        first_bias=np.ascontiguousarray(layers[1][:, 0]),
        second=layers[2],
        second_bias=np.ascontiguousarray(layers[3][:, 0]),
        third=layers[4],
        third_bias=np.ascontiguousarray(layers[5][:, 0]),
        out=out.astype(np.float32),
        out_bias=(bias + widths).astype(np.float32),
    )
