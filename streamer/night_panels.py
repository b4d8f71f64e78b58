"""How good a night's redshifts are, in three panels: against truth, as a distribution, and their calibration."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from schemas.batch import Float64
from streamer.night_data import OUTLIER, Night, Scores, ks_distance, scores
from streamer.sky_plot import density_colours

if TYPE_CHECKING:
    from matplotlib.figure import Figure, SubFigure

BLUE, VERMILLION, GREEN, INK, FAINT = "#0072b2", "#d55e00", "#009e73", "#23272e", "#8a919c"
_PAPER: dict[str, Any] = {"boxstyle": "round,pad=0.35", "facecolor": "white", "edgecolor": "none", "alpha": 0.85}


def redshift_panel(figure: Figure | SubFigure, data: Night) -> None:
    """Photometric against true redshift with the outlier lines; without truth, redshift against magnitude."""
    best, truth = data.points["z_best"].astype(np.float64), data.truth
    quality = scores(data)
    if quality is None:
        magnitude = data.points["mag_ref"].astype(np.float64)
        axes = figure.subplots()
        both = np.isfinite(best) & np.isfinite(magnitude)
        limits = _span(magnitude[both], 0.002), (0.0, 1.1 * _top(best[both]))
        _density(figure, axes, magnitude[both], best[both], *limits, (2, 2), (0.6, 0.95))
        axes.set(
            title="Redshift and brightness",
            xlabel="reference magnitude [mag]",
            ylabel=r"photometric redshift  $z_{\rm best}$",
        )
        return
    both = np.isfinite(best) & np.isfinite(truth)
    x, y = truth[both], best[both]
    top = max(_top(x), _top(y))
    axes, below = figure.subplots(2, 1, sharex=True, height_ratios=[3.6, 1])
    _density(figure, axes, x, y, (0, top), (0, top))
    line = np.array([0.0, top])
    axes.plot(line, line, color=INK, lw=0.9)
    for sign in (1, -1):
        axes.plot(line, line + sign * OUTLIER * (1 + line), color=VERMILLION, lw=1.1, ls=(0, (5, 3)))
    axes.set(
        title="Photometric and true redshift",
        ylabel=r"photometric redshift  $z_{\rm best}$",
        xlim=(0, top),
        ylim=(0, top),
    )
    axes.text(
        0.035, 0.965, _quality(quality), transform=axes.transAxes, va="top", linespacing=1.5, fontsize=10, bbox=_PAPER
    )
    outside = axes.annotate(
        r"$\pm\,0.15\,(1+z)$",
        (0.44 * top, 0.44 * top + OUTLIER * (1 + 0.44 * top)),
        (-4, 6),
        textcoords="offset points",
    )
    outside.set(color=VERMILLION, fontsize=9, ha="right")
    dz = (y - x) / (1 + x)
    reach = float(np.clip(6 * quality.sigma_mad, 0.03, 0.5))
    _density(figure, below, x, dz, (0, top), (-reach, reach), (1, 3), None)
    below.axhline(0, color=INK, lw=0.9)
    centres, spread = _running(x, dz)
    for k, line_style in enumerate(((0, (3, 2)), "-", (0, (3, 2)))):
        below.plot(
            centres, spread[:, k], color=VERMILLION, lw=1.2, ls=line_style, label=("16, 84 %", "median", None)[k]
        )
    below.legend(loc="upper right", ncols=2, borderaxespad=0.1, handlelength=1.8)
    below.set(xlabel="true redshift  $z$", ylabel=r"$\Delta z/(1+z)$", ylim=(-reach, reach))


def nz_panel(figure: Figure | SubFigure, data: Night) -> None:
    """Redshift distribution three ways: stacked PDFs, histogram of medians, truth."""
    axes = figure.subplots()
    median = data.points["z_median"].astype(np.float64)
    median, truth = median[np.isfinite(median)], data.truth[np.isfinite(data.truth)]
    top = _top(np.concatenate([median, truth]))
    bins = np.linspace(0, top, 61)
    axes.fill_between(data.grid, data.stacked, color=BLUE, alpha=0.22, lw=0)
    axes.plot(data.grid, data.stacked, color=BLUE, lw=1.8, label="stacked PDFs")
    axes.stairs(_normed(median, bins), bins, color=GREEN, lw=1.2, label=r"medians $z_{\rm med}$")
    if len(truth):
        axes.stairs(_normed(truth, bins), bins, color=VERMILLION, lw=1.2, ls=(0, (4, 2)), label="truth")
    axes.set(title="Redshift distribution", xlabel="redshift", ylabel="$n(z)$, per unit redshift", xlim=(0, top))
    axes.set_ylim(bottom=0)
    axes.legend(loc="upper right")


def calibration_panel(figure: Figure | SubFigure, data: Night) -> None:
    """PIT histogram with its expected scatter, and a QQ inset; without truth, the widths of the PDFs."""
    axes = figure.subplots()
    pit = data.pit[np.isfinite(data.pit)]
    if len(pit) < 10:
        low, high, best = (data.points[name].astype(np.float64) for name in ("z_lo68", "z_hi68", "z_best"))
        width = (high - low) / 2 / (1 + best)
        width = width[np.isfinite(width)]
        bins = np.linspace(0, _top(width), 51)
        axes.stairs(_normed(width, bins), bins, color=BLUE, fill=True, alpha=0.22)
        axes.stairs(_normed(width, bins), bins, color=BLUE, lw=1.6)
        axes.set(
            title="Width of the PDFs",
            xlabel="half of the 68 % interval $/\\,(1+z)$",
            ylabel="density",
            xlim=(0, bins[-1]),
        )
        return
    n_bins = 20
    heights = np.histogram(pit, n_bins, (0, 1))[0] * n_bins / len(pit)
    scatter = 2 * np.sqrt((n_bins - 1) / len(pit))
    axes.axhspan(1 - scatter, 1 + scatter, color=FAINT, alpha=0.25, lw=0, label="flat, ±2σ of counting")
    axes.axhline(1, color=INK, lw=0.9)
    axes.stairs(heights, np.linspace(0, 1, n_bins + 1), color=BLUE, lw=1.8)
    axes.stairs(heights, np.linspace(0, 1, n_bins + 1), color=BLUE, fill=True, alpha=0.22)
    axes.set(title="Calibration", xlabel="PIT: probability below the true redshift", ylabel="density", xlim=(0, 1))
    axes.set_ylim(0, max(2.5, 1.12 * float(heights.max()) + 0.9))
    axes.legend(loc="upper right", borderaxespad=0.1)
    inset = axes.inset_axes((0.09, 0.6, 0.34, 0.36))
    levels = np.linspace(0, 1, 101)
    inset.plot([0, 1], [0, 1], color=INK, lw=0.8)
    inset.plot(levels, np.quantile(pit, levels), color=VERMILLION, lw=1.6)
    inset.set(xlim=(0, 1), ylim=(0, 1), xticks=[0, 1], yticks=[0, 1], aspect="equal")
    inset.set_title("QQ", fontsize=8.5, fontweight="normal", pad=2)
    inset.tick_params(labelsize=7.5, length=2)
    axes.text(0.985, 0.85, f"KS {ks_distance(pit):.3f}", transform=axes.transAxes, ha="right", va="top", fontsize=9)


def _density(
    figure: Figure | SubFigure,
    axes: Any,
    x: Float64,
    y: Float64,
    xlim: tuple[float, float],
    ylim: tuple[float, float],
    cells: tuple[int, int] = (1, 1),
    bar: tuple[float, float] | None = (0.6, 0.05),
) -> None:
    """Counts of points in small cells, on a logarithmic scale; empty cells stay white.

    `cells` divides the number of cells across and up; `bar` is where the scale stands, in parts of the axes.
    """
    from matplotlib.colors import LogNorm
    from matplotlib.ticker import StrMethodFormatter

    many = 140 if len(x) > 20_000 else 90
    bins = many // cells[0], many // cells[1]
    counts, x_edges, y_edges = np.histogram2d(x, y, bins=bins, range=(xlim, ylim))
    most = max(float(counts.max()), 2.0)
    mesh = axes.pcolormesh(
        x_edges,
        y_edges,
        np.ma.masked_equal(counts.T, 0),
        norm=LogNorm(1, most),
        cmap=density_colours(),
        rasterized=True,
    )
    if bar is not None:
        place = axes.inset_axes((*bar, 0.36, 0.018))
        scale = figure.colorbar(mesh, cax=place, orientation="horizontal", format=StrMethodFormatter("{x:.0f}"))
        place.set_title("rows per cell", fontsize=8.5, fontweight="normal", pad=3, loc="center")
        place.tick_params(labelsize=8, length=2)
        scale.outline.set_visible(False)
        scale.minorticks_off()


def _running(x: Float64, y: Float64, bins: int = 12) -> tuple[Float64, Float64]:
    """16, 50 and 84 % quantiles of y in bins of x that hold equally many: centres [k] and quantiles [k, 3]."""
    order = np.argsort(x)
    parts = np.array_split(order, min(bins, max(len(x) // 20, 1)))
    return np.array([np.median(x[p]) for p in parts]), np.array([np.quantile(y[p], (0.16, 0.5, 0.84)) for p in parts])


def _normed(values: Float64, bins: Float64) -> Float64:
    return np.histogram(values, bins)[0] / max(len(values), 1) / np.diff(bins)


def _top(values: Float64) -> float:
    """A round number that all but 2 in 1,000 of `values` are below."""
    if not len(values):
        return 1.0
    high = float(np.quantile(values, 0.998)) * 1.04
    step = 10 ** np.floor(np.log10(max(high, 1e-6))) / 10
    return float(np.ceil(high / step) * step)


def _span(values: Float64, cut: float) -> tuple[float, float]:
    if not len(values):
        return 0.0, 1.0
    low, high = np.quantile(values, (cut, 1 - cut))
    return float(low), float(max(high, low + 1e-3))


def _quality(quality: Scores) -> str:
    return (
        rf"$\sigma_{{\rm MAD}}$  {quality.sigma_mad:.4f}" + "\n"
        rf"outliers  {100 * quality.outliers:.1f} %" + "\n"
        f"bias  {quality.bias:+.4f}\n{quality.n:,} with truth"
    )
