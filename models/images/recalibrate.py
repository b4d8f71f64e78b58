"""Recalibration of networks by the galaxies that stopped their training, where galaxies held out again say that it helps.

Networks are often calibrated as they are, and a map that is made of some hundred PITs then adds its noise to their PDFs. Whether
it helps cannot be seen on the galaxies that it is made of, nor on the PIT of all parts of a cross-validation together: what one
part has too much of, the others lack, and the maps flatten even noise. So a map is scored by what it adds to the logarithm of
the density at the truth (a proper score), galaxy by galaxy, each by a map of the other parts.
"""

from typing import Any, NamedTuple

import numpy as np

from models import calibration, metrics
from models.calibration import FEWEST, ROWS_PER_BIN, TABLE, HeldOut
from models.forest.density import Recalibration, densities, identity, smoothing
from schemas.batch import Float32, Float64, Int64

PARTS = 5  # of the held-out galaxies: maps of four are scored on the fifth
POWERS = (1.0, 1.25)  # of the PDF: soft labels can leave it too broad
CERTAIN = 1.0  # standard errors that a gain must be worth


class Choice(NamedTuple):
    """What is done to the networks' PDFs.

    Attributes
    ----------
    alpha
        Power.
    maps
        PIT maps, as a forest's: slope 1 where they are left out.
    intervals
        Of each map: galaxies, and the PITs that bound its 68 and 95 % intervals.
    told
        For each number of bands missing: ``maps`` (``none``, ``one``, ``by magnitude``), and ``gain`` and ``error`` of the mean
        log density at the truth that the maps would have brought to galaxies held out again.
    """

    alpha: float
    maps: Recalibration
    intervals: list[dict[str, float]]
    told: list[dict[str, Any]]


def choose(seen: HeldOut, taken: HeldOut | None, grid: Float64, n_bands: int, rng: np.random.Generator) -> Choice:
    """Choose power and maps.

    Parameters
    ----------
    seen
        The held-out galaxies as observed, with the mean PDF of the networks.
    taken
        The same with bands taken away; None = `seen` alone makes all maps.
    grid
        float64[G].
    n_bands
        Bands of the survey.
    rng
        Divides the galaxies into parts.
    """
    alpha = _power(seen, grid)
    maps = Recalibration(np.empty((0, TABLE), np.float32), calibration.magnitude_edges(seen.mag_ref))
    views = [seen] if taken is None else [seen, taken]
    pit = np.concatenate([_scores(view, grid, alpha)[1] for view in views])
    group = np.concatenate([maps.of(view.mag_ref, view.band_mask, n_bands) for view in views])
    part = rng.integers(0, PARTS, len(pit))
    cells = len(maps.edges) + 2
    slopes: list[Float32] = []
    bounds: list[dict[str, float]] = []
    told: list[dict[str, Any]] = []
    for first in range(0, n_bands * cells, cells):
        alike = (group >= first) & (group < first + cells)
        if slopes and alike.sum() < ROWS_PER_BIN:  # too few to say: as with one band more
            slopes += slopes[-cells:]
            bounds += bounds[-cells:]
            told.append(told[-1])
            continue
        name, gain, error = _best(pit[alike], group[alike] - first, part[alike], cells)
        slope, bound = _maps(name, pit[alike], group[alike] - first, cells)
        slopes += slope
        bounds += bound
        told.append({"maps": name, "gain": gain, "error": error})
    return Choice(alpha, maps._replace(slope=np.stack(slopes)), bounds, told)


def _power(seen: HeldOut, grid: Float64) -> float:
    """The power whose CDE loss is lower than that of the PDF as it is, by more than chance gives."""
    plain, best = _scores(seen, grid, POWERS[0])[0], POWERS[0]
    for alpha in POWERS[1:]:
        gain = plain - _scores(seen, grid, alpha)[0]
        if gain.mean() > CERTAIN * _error(gain):
            best = alpha
    return best


def _scores(rows: HeldOut, grid: Float64, alpha: float) -> tuple[Float64, Float64]:
    """CDE loss and PIT."""
    everyone = np.zeros(len(rows.z), np.int32)
    pdf = densities(rows.histograms, grid, smoothing(grid, 0.0), alpha, identity(), everyone)
    cde, _, pit = metrics.pdf_scores(pdf, grid, rows.z)
    return cde, pit


def _error(gain: Float64) -> float:
    return float(gain.std(ddof=1) / len(gain) ** 0.5) if len(gain) > 1 else float("inf")


def _best(pit: Float64, cell: Int64, part: Int64, cells: int) -> tuple[str, float, float]:
    """Which maps, and what they gain against none, with its standard error; of the two kinds the better one's."""
    if len(pit) < PARTS * FEWEST:
        return "none", 0.0, 0.0
    gains = {name: np.zeros(len(pit)) for name in ("one", "by magnitude")}
    for number in range(PARTS):
        others, here = part != number, part == number
        for name, gain in gains.items():
            slope, _ = _maps(name, pit[others], cell[others], cells)
            gain[here] = _log_slope(slope, cell[here], pit[here])
    best, gain = "none", np.zeros(len(pit))
    for name, by in gains.items():  # the one with less to learn comes first
        more = by - gain
        if more.mean() > CERTAIN * _error(more):
            best, gain = name, by
    told = gains[max(gains, key=lambda name: gains[name].mean())] if best == "none" else gain
    return best, float(told.mean()), _error(told)


def _log_slope(slope: list[Float32], cell: Int64, pit: Float64) -> Float64:
    """What the maps add to the log density at the truth."""
    out = np.empty(len(pit))
    at = np.linspace(0.0, 1.0, TABLE)
    for k, of_cell in enumerate(slope):
        rows = cell == k
        out[rows] = np.log(np.interp(pit[rows], at, of_cell))
    return out


def _maps(name: str, pit: Float64, cell: Int64, cells: int) -> tuple[list[Float32], list[dict[str, float]]]:
    """Slope and bounds of every cell's map."""
    if name == "none":
        levels = {"lo95": 0.025, "lo68": 0.16, "hi68": 0.84, "hi95": 0.975}
        return [np.ones(TABLE, np.float32)] * cells, [{"n": len(pit), **levels}] * cells
    everyone = [np.arange(cells)] * cells
    several = everyone if name == "one" else calibration.merged(np.bincount(cell, minlength=cells), ROWS_PER_BIN)
    rows = [np.isin(cell, some) for some in several]
    return [calibration.slope_table(pit[r]) for r in rows], [
        calibration.intervals(pit[r], np.ones(int(r.sum()))) for r in rows
    ]
