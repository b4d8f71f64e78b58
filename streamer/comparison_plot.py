"""The picture of a comparison: redshift against redshift, the shifts, and both redshift distributions."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from schemas.errors import UserError
from streamer.comparison import OUTLIER, Comparison
from streamer.night_panels import BLUE, INK, VERMILLION
from streamer.night_plots import STYLE

if TYPE_CHECKING:
    from matplotlib.axes import Axes

FORMATS = (".png", ".pdf", ".svg")


def check_place(out: Path) -> None:
    """Say before the work whether a picture can be written to `out`.

    Raises
    ------
    UserError
        No matplotlib, another format, or no such directory.
    """
    if importlib.util.find_spec("matplotlib") is None:
        raise UserError("Pictures need matplotlib, which is not installed: `pip install 'slipher[plots]'`.")
    if out.suffix not in FORMATS:
        raise UserError(f"--plot {out}: a picture's name ends in {', '.join(FORMATS)}.")
    if not out.parent.is_dir():
        raise UserError(f"There is no directory {out.parent} to write {out.name} into.")


def draw(comparison: Comparison, out: Path) -> None:
    """Draw the three panels into the file `out`; it appears when it is whole."""
    import matplotlib as mpl
    from matplotlib.figure import Figure

    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(15, 5), layout="constrained")
        left, middle, right = figure.subplots(1, 3)
        figure.suptitle(
            f"{comparison.models[1]} against {comparison.models[0]}, night {comparison.night}", x=0.01, ha="left"
        )
        _redshifts(left, comparison)
        _shifts(middle, comparison)
        _distributions(right, comparison)
        part = out.with_name(f".{out.stem}.part{out.suffix}")
        figure.savefig(part)
        part.replace(out)


def _redshifts(axes: Axes, found: Comparison) -> None:
    from matplotlib.colors import LogNorm

    a, b = found.pairs.z
    both = np.isfinite(a) & np.isfinite(b)
    top = 1.02 * float(max(a[both].max(initial=0.1), b[both].max(initial=0.1)))
    if both.any():
        shades = LogNorm(vmin=0.25)  # a single pair is still to be seen
        axes.hexbin(a[both], b[both], gridsize=110, extent=(0, top, 0, top), norm=shades, cmap="Blues", mincnt=1)
    line = np.array([0.0, top])
    axes.plot(line, line, color=INK, lw=0.9)
    for sign in (1, -1):
        axes.plot(line, line + sign * OUTLIER * (1 + line), color=VERMILLION, lw=1.1, ls=(0, (5, 3)))
    axes.set(
        title="Redshift of both", xlabel=f"{found.models[0]}", ylabel=f"{found.models[1]}", xlim=(0, top), ylim=(0, top)
    )


def _shifts(axes: Axes, found: Comparison) -> None:
    shift = found.pairs.shift
    shift = shift[np.isfinite(shift)]
    told = found.figures()["shift"]
    width = min(max(5 * (told["sigma_mad"] or 0.0), 0.01), 1.0)
    outside = np.mean(np.abs(shift) > width) if len(shift) else 0.0
    axes.hist(shift, bins=np.linspace(-width, width, 81).tolist(), color=BLUE, histtype="stepfilled", alpha=0.75)
    axes.axvline(0, color=INK, lw=0.9)
    axes.set(title="Shift", xlabel=r"$(z_B - z_A)/(1 + z_A)$", ylabel="pairs", xlim=(-width, width))
    if len(shift):
        text = (
            f"bias {told['bias']:+.4f}\n$\\sigma_{{MAD}}$ {told['sigma_mad']:.4f}\n"
            f"|shift| > 0.15: {told['outliers_15']:.2%}\nbeyond the axis: {outside:.2%}"
        )
        axes.text(0.97, 0.96, text, transform=axes.transAxes, ha="right", va="top", linespacing=1.5)


def _distributions(axes: Axes, found: Comparison) -> None:
    for grid, stacked, model, colour, style in zip(
        found.distances.grid, found.distances.stacked, found.models, (BLUE, VERMILLION), ("-", "--"), strict=True
    ):
        axes.plot(grid, stacked, color=colour, ls=style, lw=1.6, label=model)
    axes.set(title="Stacked PDFs", xlabel="redshift", ylabel="n(z)", ylim=(0, None))
    axes.legend()
