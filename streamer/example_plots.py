"""Six PDFs of a night, as unlike one another as it has them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from schemas.batch import Float64
from schemas.flags import Flag
from streamer.night_data import Night
from streamer.night_panels import BLUE, INK, VERMILLION

if TYPE_CHECKING:
    from matplotlib.figure import Figure, SubFigure


def pdf_panel(figure: Figure | SubFigure, data: Night) -> None:
    """Six PDFs, as unlike one another as the night has them."""
    chosen = examples(data)
    all_axes = figure.subplots(2, 3, squeeze=False)
    for axes, (name, k) in zip(all_axes.flat, chosen, strict=False):
        pdf, row = data.pdf[k].astype(np.float64), int(data.where[k])
        z, low, high = (float(data.points[c][row]) for c in ("z_best", "z_lo68", "z_hi68"))
        truth = float(data.truth[row])
        inside = (data.grid >= low) & (data.grid <= high)
        axes.fill_between(data.grid, pdf, where=inside, color=BLUE, alpha=0.28, lw=0, label="68 %")
        axes.plot(data.grid, pdf, color=BLUE, lw=1.7)
        axes.axvline(z, color=INK, lw=1, label=r"$z_{\rm best}$")
        if np.isfinite(truth):
            axes.axvline(truth, color=VERMILLION, lw=1.4, ls=(0, (4, 2)), label="truth")
        seen = data.grid[pdf > 0.005 * pdf.max()]
        ends = [seen[0], seen[-1], *([truth] if np.isfinite(truth) else [])]
        room = max(0.06 * (max(ends) - min(ends)), 0.08)
        axes.set(xlim=(max(min(ends) - room, data.grid[0]), min(max(ends) + room, data.grid[-1])), yticks=[])
        axes.locator_params(axis="x", nbins=5, prune="both")
        axes.set_ylim(0, 1.12 * pdf.max())
        axes.set_title(name, fontweight="normal", fontsize=9.5)
        axes.spines["left"].set_visible(False)
    for axes in all_axes.flat[len(chosen) :]:
        axes.set_axis_off()
    if chosen:
        all_axes.flat[0].legend(loc="upper right", handlelength=1.4, borderaxespad=0.1)
    figure.supxlabel("redshift", fontsize=9.5)
    figure.supylabel("$p(z)$", fontsize=9.5)
    figure.suptitle("Six of its PDFs", x=0.012, ha="left", fontsize=10.5, fontweight="bold")


def examples(data: Night) -> list[tuple[str, int]]:
    """(what it is, index into ``data.pdf``) of up to six PDFs, no row twice."""
    of = {name: values[data.where] for name, values in data.points.items()}
    z, sigma, flags = of["z_best"].astype(np.float64), of["z_sigma"].astype(np.float64), of["flags"].astype(np.int64)
    width = (of["z_hi68"].astype(np.float64) - of["z_lo68"].astype(np.float64)) / (1 + z)
    good = np.isfinite(width) & np.isfinite(sigma)
    odd = int(Flag.OUT_OF_DISTRIBUTION | Flag.FEATURE_RANGE | Flag.MASK_UNSEEN)
    single, two = flags & Flag.MULTIMODAL_PDF == 0, flags & Flag.MULTIMODAL_PDF != 0
    wanted: list[tuple[str, Any, Float64, float]] = [
        ("narrow", good & single, width, 0.05),
        ("typical", good & single, width, 0.5),
        ("broad", good & single, width, 0.97),
        ("two peaks", good & two, width, 0.6),
        ("unlike the training set", good & (flags & odd != 0), width, 0.5),
        ("distant", good & single, z, 0.97),
        ("nearby", good & single, z, 0.05),
        ("broader than most", good, width, 0.8),
        ("narrower than most", good, width, 0.2),
    ]
    taken: dict[int, str] = {}
    for name, among, by, quantile in wanted:
        rows = np.flatnonzero(among)
        rows = rows[~np.isin(rows, list(taken))]
        if len(rows) and len(taken) < 6:
            taken[int(rows[np.argsort(by[rows], kind="stable")[int(quantile * (len(rows) - 1))]])] = name
    return [(name, k) for k, name in taken.items()]
