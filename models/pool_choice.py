"""The weight of a pool, chosen on held-out galaxies, and whether it helps: every figure is of galaxies that chose nothing.

CRPS and CDE loss of (1 - w) p + w q are parabolas in w, so three scores of each galaxy (at 0, 1/2 and 1) give those of every
weight: the best weight is found exactly, and a bootstrap costs a product of matrices.
"""

from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np

from models import grid as grids
from models import metrics
from models.calibration import folds, slope_table
from models.pool import mean, recalibrated
from schemas.batch import Float32, Float64, Int64
from schemas.errors import UserError

SCORES = ("crps", "cde")
FOLDS = 5
FEWEST = 100  # galaxies: fewer choose no weight
RESAMPLES = 500
SURE = 2.0  # standard errors that a gain must be worth


class Choice(NamedTuple):
    """What was chosen, and what it is worth.

    Attributes
    ----------
    score
        What chose the weight: ``crps`` or ``cde``.
    weight, error
        Of the image model, of all galaxies, and its bootstrap error.
    slope
        PIT map of all galaxies, float32[1, K]; none where it did not help.
    n
        Galaxies.
    forest, images, mean, recalibrated
        Figures of each (`models.metrics.summary`, `point_metrics`); those of the mean and of the recalibrated mean by weights and
        maps that were chosen without the galaxies scored.
    gain, gain_error
        By how much the chosen pool's mean score is lower than the better single model's, and its bootstrap error.
    ratio, ratio_error
        CRPS of the chosen pool over that of the better single model.
    better
        The better single model: ``forest`` or ``images``.
    """

    score: str
    weight: float
    error: float
    slope: Float32 | None
    n: int
    forest: dict[str, float]
    images: dict[str, float]
    mean: dict[str, float]
    recalibrated: dict[str, float]
    gain: float
    gain_error: float
    ratio: float
    ratio_error: float
    better: str

    @property
    def helps(self) -> bool:
        """Whether the pool beats the better single model by more than two standard errors."""
        return self.gain > SURE * self.gain_error

    def figures(self) -> dict[str, Any]:
        """All of it as JSON values, but the map."""
        out = self._asdict()
        out["map"] = out.pop("slope") is not None
        out["helps"] = self.helps
        return out


class _Parabola(NamedTuple):
    """Score of each galaxy at weight w: at_0 + w slope + w^2 bend, float64[n] each."""

    at_0: Float64
    slope: Float64
    bend: Float64

    def best(self, share: Float64) -> Float64:
        """The weights of the least mean score, float64[k], for k sets of shares of galaxies, float64[k, n]."""
        slope, bend = share @ self.slope, share @ self.bend
        with np.errstate(divide="ignore", invalid="ignore"):
            bottom = np.where(bend > 0, -slope / (2 * bend), np.where(slope + bend < 0, 1.0, 0.0))
        return np.clip(bottom, 0.0, 1.0)


def choose(forest: Float32, images: Float32, grid: Float64, z: Float64, score: str = "crps", seed: int = 1) -> Choice:
    """Choose the weight of the image model, and say what the pool is worth.

    Parameters
    ----------
    forest, images
        Both models' PDFs of galaxies that neither was trained on, on `grid`: float32[n, G] each, no NaN.
    grid
        float64[G].
    z
        Their redshifts, float64[n].
    score
        What the weight makes least.
    seed
        Of the folds and the bootstrap.

    Raises
    ------
    schemas.errors.UserError
        Too few galaxies, or no such score.
    """
    if score not in SCORES:
        raise UserError(f"There is no score {score}: there are {' and '.join(SCORES)}.")
    n = len(z)
    if n < FEWEST:
        raise UserError(f"{n} galaxies with both PDFs and a redshift choose no weight: {FEWEST} are the fewest.")
    rng = np.random.default_rng(seed)
    alone = {"forest": metrics.scores(forest, grid, z), "images": metrics.scores(images, grid, z)}
    half = metrics.scores(mean(forest, images, 0.5), grid, z)
    start, middle, end = (getattr(scores, score) for scores in (alone["forest"], half, alone["images"]))
    parabola = _Parabola(start, -3 * start + 4 * middle - end, 2 * (start + end) - 4 * middle)
    everyone = np.full((1, n), 1.0 / n)
    weight = float(parabola.best(everyone)[0])

    # Scores of galaxies that chose neither the weight nor the map they are scored with
    plain, mapped = (metrics.Scores(*(np.empty(n) for _ in range(4))) for _ in range(2))
    medians = {"mean": np.empty(n), "recalibrated": np.empty(n)}
    for others, part in folds(n, FOLDS, rng):
        share = np.zeros((1, n))
        share[0, others] = 1.0 / len(others)
        there = float(parabola.best(share)[0])
        slope = _map(mean(forest[others], images[others], there), grid, z[others])
        pooled = mean(forest[part], images[part], there)
        for into, median, pdf in (
            (plain, medians["mean"], pooled),
            (mapped, medians["recalibrated"], recalibrated(pooled, grid, slope)),
        ):
            for score_of_all, found in zip(into, metrics.scores(pdf, grid, z[part]), strict=True):
                score_of_all[part] = found
            median[part] = _median(pdf, grid)
    values = {name: getattr(found, score) for name, found in alone.items()}
    better = min(values, key=lambda name: values[name].mean())
    # A map is kept where galaxies that did not make it say that it helps.
    narrowed = getattr(plain, score) - getattr(mapped, score)
    keep = narrowed.mean() > SURE * narrowed.std(ddof=1) / n**0.5
    chosen = mapped if keep else plain
    gain = values[better] - getattr(chosen, score)
    weights, ratios = [], []
    for share in _shares(rng, n):
        weights.append(parabola.best(share))
        ratios.append((share @ chosen.crps) / (share @ alone[better].crps))
    return Choice(
        score=score,
        weight=weight,
        error=float(np.std(np.concatenate(weights), ddof=1)),
        slope=_map(mean(forest, images, weight), grid, z) if keep else None,
        n=n,
        forest=_figures(alone["forest"], _median(forest, grid), z),
        images=_figures(alone["images"], _median(images, grid), z),
        mean=_figures(plain, medians["mean"], z),
        recalibrated=_figures(mapped, medians["recalibrated"], z),
        gain=float(gain.mean()),
        gain_error=float(gain.std(ddof=1) / n**0.5),
        ratio=float(chosen.crps.mean() / alone[better].crps.mean()),
        ratio_error=float(np.std(np.concatenate(ratios), ddof=1)),
        better=better,
    )


def _shares(rng: np.random.Generator, n: int) -> Iterator[Float64]:
    """Shares of n galaxies in each resample of a bootstrap, in blocks, float64[k, n]."""
    for _ in range(0, RESAMPLES, 50):
        yield rng.multinomial(n, np.full(n, 1.0 / n), 50) / n


def _map(pdf: Float32, grid: Float64, z: Float64) -> Float32:
    return slope_table(metrics.scores(pdf, grid, z).pit)[None]


def _median(pdf: Float32, grid: Float64) -> Float64:
    cdf = grids.cumulative(pdf.astype(np.float64), grid)
    at: Int64 = np.argmax(cdf >= 0.5, axis=1)
    row = np.arange(len(pdf))
    low, high = cdf[row, at - 1], cdf[row, at]
    return np.asarray(grid[at - 1] + (grid[at] - grid[at - 1]) * (0.5 - low) / (high - low))


def _figures(scores: metrics.Scores, median: Float64, z: Float64) -> dict[str, float]:
    return {**metrics.summary(scores), **metrics.point_metrics(median, z)}
