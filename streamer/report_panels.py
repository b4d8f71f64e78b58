"""The pictures of an evaluation, each a function of a figure and what was scored.

Lines and text are drawn in the colours of `TOKENS`, which the page replaces by its own, light or dark.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from models import metrics
from models.evaluation import FEWEST, Scored, by_magnitude
from schemas.batch import Float64

if TYPE_CHECKING:
    from matplotlib.colors import Colormap
    from matplotlib.figure import Figure

INK, SOFT, LINE, BLUE, RED, GREEN = "#23272e", "#5c6470", "#b4bac4", "#0072b2", "#d55e00", "#009e73"
PAPER = "#fffffe"
BINS = ("#56b4e9", "#0073b3", "#009e74", "#e69f00", "#d55e01")  # magnitude, bright to faint
TOKENS = {INK: "ink", SOFT: "soft", LINE: "line", BLUE: "blue", RED: "red", GREEN: "green", PAPER: "paper"} | {
    colour: f"bin{k}" for k, colour in enumerate(BINS)
}
STYLE: Any = {
    "figure.facecolor": "none",
    "axes.facecolor": "none",
    "savefig.facecolor": "none",
    "axes.edgecolor": LINE,
    "axes.labelcolor": INK,
    "axes.titlelocation": "left",
    "axes.titlesize": 10.5,
    "axes.titlecolor": INK,
    "axes.labelsize": 9.5,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "xtick.color": SOFT,
    "ytick.color": SOFT,
    "xtick.labelsize": 8.5,
    "ytick.labelsize": 8.5,
    "legend.frameon": False,
    "legend.fontsize": 8.5,
    "legend.labelcolor": INK,
    "font.size": 9.5,
    "text.color": INK,
    "svg.fonttype": "path",
    "svg.hashsalt": "slipher",
}
OUTLIER = 0.15
GOALS = {"sigma": 0.02, "bias": 0.003, "outliers": 0.1}  # Rubin's, to i = 25.3 (DMTN-049)
CURVE_BINS = 12  # of equal count along z or magnitude
RESAMPLES = 100


def redshifts(figure: Figure, scored: Scored, point: str) -> None:
    """z_phot against z as a density, and e below it."""
    known = np.isfinite(scored.point)
    x, y, e = scored.z[known], scored.point[known], scored.error[known]
    top = min(_top(np.concatenate([x, y])), 1.02 * float(max(x.max(initial=0.1), y.max(initial=0.1))))
    axes, below = figure.subplots(2, 1, sharex=True, height_ratios=[3.4, 1])
    _density(figure, axes, x, y, (0, top), (0, top), 110)
    line = np.array([0.0, top])
    axes.plot(line, line, color=INK, lw=0.8)
    for sign in (1, -1):
        axes.plot(line, line + sign * OUTLIER * (1 + line), color=RED, lw=1.1, ls=(0, (5, 3)))
    axes.set(xlim=(0, top), ylim=(0, top), ylabel=f"photometric redshift, {point}")
    axes.text(0.03, 0.97, r"$|e| = 0.15$", transform=axes.transAxes, color=RED, va="top", fontsize=9)
    reach = float(np.clip(8 * np.std(np.clip(e, -0.1, 0.1)), 0.03, 0.5)) if len(e) else 0.1
    _density(figure, below, x, e, (0, top), (-reach, reach), 60, None)
    below.axhline(0, color=INK, lw=0.8)
    centres, quantiles = _running(x, e)
    for k, style in enumerate(((0, (3, 2)), "-", (0, (3, 2)))):
        below.plot(centres, quantiles[:, k], color=RED, lw=1.2, ls=style, label=("16, 84 %", "median", None)[k])
    below.legend(loc="upper right", ncols=2, borderaxespad=0.0, handlelength=1.8)
    below.set(xlabel="true redshift z", ylabel="e", ylim=(-reach, reach))


def distribution(figure: Figure, scored: Scored, point: str) -> None:
    """n(z) four ways: stacked PDFs, point estimates, truth, training set."""
    axes = figure.subplots()
    known = np.isfinite(scored.point)
    top = _top(np.concatenate([scored.z, scored.point[known]]))
    bins = np.linspace(0, top, 51)
    axes.stairs(_normed(scored.z, bins), bins, color=SOFT, fill=True, alpha=0.3, label="truth")
    axes.plot(scored.grid, scored.stacked, color=BLUE, lw=1.9, label="PDFs, stacked")
    axes.stairs(_normed(scored.point[known], bins), bins, color=RED, lw=1.2, label=point)
    if scored.n_z is not None:
        axes.plot(scored.grid, scored.n_z, color=GREEN, lw=1.2, ls=(0, (4, 2)), label="training set (trainZ)")
    axes.set(xlabel="redshift", ylabel="n(z), per unit redshift", xlim=(0, top))
    axes.set_ylim(bottom=0)
    axes.legend(loc="upper right")


def calibration(figure: Figure, scored: Scored) -> None:
    """PIT histogram with the scatter that counting gives, and quantiles against quantiles."""
    axes, quantiles = figure.subplots(1, 2, width_ratios=[1.25, 1])
    pit = scored.scores.pit[np.isfinite(scored.scores.pit)]
    n_bins = 20 if len(pit) >= 1000 else 10
    heights = np.histogram(pit, n_bins, (0, 1))[0] * n_bins / max(len(pit), 1)
    scatter = 2 * np.sqrt((n_bins - 1) / max(len(pit), 1))
    axes.axhspan(1 - scatter, 1 + scatter, color=SOFT, alpha=0.22, lw=0, label="flat, ±2σ of counting")
    axes.stairs(heights, np.linspace(0, 1, n_bins + 1), color=BLUE, fill=True, alpha=0.25)
    axes.stairs(heights, np.linspace(0, 1, n_bins + 1), color=BLUE, lw=1.7)
    axes.axhline(1, color=INK, lw=0.8)
    axes.set(xlabel="PIT: probability below the true redshift", ylabel="galaxies, relative to flat", xlim=(0, 1))
    axes.set_ylim(0, max(1.7, 1.25 * float(heights.max(initial=1))))
    axes.legend(loc="upper right", borderaxespad=0.1)
    levels = np.linspace(0, 1, 201)
    if len(pit):
        quantiles.plot(levels, np.quantile(pit, levels), color=RED, lw=2.4)
    quantiles.plot([0, 1], [0, 1], color=INK, lw=0.9, ls=(0, (4, 3)))
    quantiles.set(xlim=(0, 1), ylim=(0, 1), aspect="equal", xlabel="uniform quantile", ylabel="PIT quantile")


def by_quintile(figure: Figure, scored: Scored) -> None:
    """Calibration of each magnitude bin: PIT distribution minus uniform, coverage, and promised against found errors."""
    first, second, third = figure.subplots(1, 3, width_ratios=[1.25, 1, 1])
    lines = [(line, rows) for line, rows in by_magnitude(scored) if line["low"] is not None]
    known = np.isfinite(scored.scores.pit)
    levels = np.linspace(0, 1, 201)
    for k, (line, rows) in enumerate(lines):
        colour = BINS[k % len(BINS)]
        pit = scored.scores.pit[rows[known[rows]]]
        if len(pit) < FEWEST:
            continue
        below = np.searchsorted(np.sort(pit), levels, side="right") / len(pit)
        first.plot(levels, below - levels, color=colour, lw=1.6, label=line["label"])
        wanted = np.array(metrics.LEVELS) / 100
        covered = np.array([(np.abs(pit - 0.5) <= level / 2).mean() for level in wanted])
        error = np.sqrt(wanted * (1 - wanted) / len(pit))
        at = np.arange(len(wanted)) + 0.14 * (k - 2)
        second.errorbar(at, 100 * (covered - wanted), 200 * error, fmt="o", ms=3.5, lw=1.1, color=colour)
        third.plot(*_widths(scored, rows), color=colour, lw=1.3, marker="o", ms=3)
    if lines:
        scatter = 1.36 / np.sqrt(min(len(rows) for _, rows in lines))
        first.axhspan(-scatter, scatter, color=SOFT, alpha=0.18, lw=0)
        first.set_ylim(*(np.array([-1.0, 1.65]) * max(np.abs(first.get_ylim()).max(), 1.4 * scatter)))
    first.axhline(0, color=INK, lw=0.8)
    first.set(title="PIT, distribution minus uniform", xlabel="PIT", xlim=(0, 1))
    if first.get_legend_handles_labels()[0]:
        first.legend(
            loc="upper center", ncols=2, title="magnitude", title_fontsize=8.5, handlelength=1.2, columnspacing=1
        )
    second.axhline(0, color=INK, lw=0.8)
    second.set_xticks(range(len(metrics.LEVELS)), [f"{level}" for level in metrics.LEVELS])
    second.set(title="Coverage, found minus promised", xlabel="central interval, %", ylabel="percentage points")
    drawn = np.concatenate([np.ravel(line.get_data()) for line in third.lines] or [np.ones(1)])
    drawn = drawn[np.isfinite(drawn) & (drawn > 0)]
    ends = [0.8 * drawn.min(initial=1.0), 1.25 * drawn.max(initial=1e-3)]
    third.plot(ends, ends, color=INK, lw=0.8)
    third.set(xscale="log", yscale="log", title="Error, found against promised")
    third.set(xlabel="half 68 % interval / (1 + z)", ylabel="68 % of |e|")


def trends(figure: Figure, scored: Scored, point: str, rubin: bool) -> None:
    """Bias, scatter and outliers against photometric redshift, true redshift and magnitude, with bootstrap errors."""
    all_axes = figure.subplots(3, 3, sharex="col", sharey="row")
    e = scored.error
    rng = np.random.default_rng(0)
    against = [(scored.point, point), (scored.z, "true redshift z"), (scored.mag_ref, "reference magnitude")]
    for column, (x, name) in enumerate(against):
        known = np.flatnonzero(np.isfinite(x) & np.isfinite(e))
        parts = np.array_split(
            known[np.argsort(x[known], kind="stable")], max(min(CURVE_BINS, len(known) // FEWEST), 1)
        )
        centres = np.array([np.median(x[part]) if len(part) else np.nan for part in parts])
        for axes, (of, _, _) in zip(all_axes[:, column], _TRENDS, strict=True):
            values = np.array([of(e[part]) if len(part) else np.nan for part in parts])
            error = np.array([_error(of, e[part], rng) for part in parts])
            axes.fill_between(centres, values - error, values + error, color=BLUE, alpha=0.25, lw=0)
            axes.plot(centres, values, color=BLUE, lw=1.7, marker="o", ms=3)
        all_axes[-1, column].set_xlabel(name)
    for axes, (_, label, goal) in zip(all_axes[:, 0], _TRENDS, strict=True):
        axes.set_ylabel(label)
        for right in axes.get_shared_y_axes().get_siblings(axes):
            if goal == "bias":
                right.axhline(0, color=INK, lw=0.8)
            else:
                right.set_ylim(bottom=0)
            if rubin:
                for sign in (1, -1) if goal == "bias" else (1,):
                    right.axhline(sign * GOALS[goal], color=GREEN, lw=1, ls=(0, (4, 3)))


def _iqr(e: Float64) -> float:
    low, high = np.percentile(e, [25, 75])
    return float((high - low) / metrics.IQR_TO_SIGMA)


_TRENDS: list[Any] = [
    (lambda e: float(np.median(e)), "bias (median e)", "bias"),
    (_iqr, "sigma IQR", "sigma"),
    (lambda e: float((np.abs(e) > OUTLIER).mean()), "|e| > 0.15", "outliers"),
]


def _error(of: Any, e: Float64, rng: np.random.Generator) -> float:
    if len(e) < FEWEST:
        return float("nan")
    return float(np.std([of(e[rng.integers(0, len(e), len(e))]) for _ in range(RESAMPLES)]))


def _widths(scored: Scored, rows: np.ndarray) -> tuple[Float64, Float64]:
    """Promised and found width, in bins of equal count in the promised one."""
    promised = scored.width[rows] / (1.0 + scored.point[rows])
    rows, promised = rows[np.isfinite(promised)], promised[np.isfinite(promised)]
    parts = np.array_split(np.argsort(promised), max(min(6, len(promised) // FEWEST), 1))
    x = np.array([np.median(promised[part]) if len(part) else np.nan for part in parts])
    y = np.array([np.quantile(np.abs(scored.error[rows[part]]), 0.68) if len(part) else np.nan for part in parts])
    return x, y


def _density(
    figure: Figure,
    axes: Any,
    x: Float64,
    y: Float64,
    xlim: tuple[float, float],
    ylim: tuple[float, float],
    cells: int,
    bar: tuple[float, float] | None = (0.6, 0.06),
) -> None:
    """Counts of galaxies in small cells on a logarithmic scale; empty cells stay clear."""
    from matplotlib.colors import LogNorm
    from matplotlib.ticker import StrMethodFormatter

    counts, x_edges, y_edges = np.histogram2d(x, y, bins=(110, cells), range=(xlim, ylim))
    most = max(float(counts.max()), 2.0)
    shown = np.ma.masked_equal(counts.T, 0)
    mesh = axes.pcolormesh(x_edges, y_edges, shown, norm=LogNorm(1, most), cmap=_colours(), rasterized=True)
    if bar is not None:
        place = axes.inset_axes((*bar, 0.36, 0.018))
        scale = figure.colorbar(mesh, cax=place, orientation="horizontal", format=StrMethodFormatter("{x:.0f}"))
        place.set_title("galaxies per cell", fontsize=8.5, pad=3, loc="center")
        place.tick_params(labelsize=8, length=2)
        scale.outline.set_visible(False)
        scale.minorticks_off()


def _colours() -> Colormap:
    """From a faint to a full blue, then to amber where it is densest: it reads on white and on black."""
    from matplotlib.colors import LinearSegmentedColormap

    stops = [(0.0, (0.25, 0.56, 0.80, 0.30)), (0.5, (0.16, 0.51, 0.78, 1.0)), (0.8, (0.55, 0.33, 0.62, 1.0))]
    return LinearSegmentedColormap.from_list("density", [*stops, (1.0, (0.87, 0.38, 0.20, 1.0))])


def _running(x: Float64, y: Float64) -> tuple[Float64, Float64]:
    """16, 50 and 84 % quantiles of y in bins of x of equal count: centres [k] and quantiles [k, 3]."""
    parts = [part for part in np.array_split(np.argsort(x), max(min(CURVE_BINS, len(x) // FEWEST), 1)) if len(part)]
    quantiles = np.array([np.quantile(y[part], (0.16, 0.5, 0.84)) for part in parts]).reshape(-1, 3)
    return np.array([np.median(x[part]) for part in parts]), quantiles


def _normed(values: Float64, bins: Float64) -> Float64:
    return np.histogram(values, bins)[0] / max(len(values), 1) / np.diff(bins)


def _top(values: Float64) -> float:
    """A round number that all but 2 in 1,000 of `values` are below."""
    if not len(values):
        return 1.0
    high = max(float(np.quantile(values, 0.998)) * 1.04, 1e-3)
    step = 10 ** np.floor(np.log10(high)) / 10
    return float(np.ceil(high / step) * step)
