"""Pictures of a night as PNG files: each panel alone, and one that shows them all.

Every panel is a function of a (sub)figure and a ``Night``; the summary composes them. Colours are Okabe and Ito's, which
colour-blind readers can tell apart, and what matters differs in line style too.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa

from streamer.catalogue import Catalogue
from streamer.example_plots import pdf_panel
from streamer.night_data import Night, as_truth, read_night, read_truth
from streamer.night_panels import INK, calibration_panel, nz_panel, redshift_panel
from streamer.sky_plot import sky_panel

if TYPE_CHECKING:
    from matplotlib.figure import Figure, SubFigure

STYLE: Any = {  # as matplotlib.rc_context takes it
    "figure.facecolor": "white",
    "axes.edgecolor": "#b4bac4",
    "axes.labelcolor": INK,
    "axes.titlelocation": "left",
    "axes.titlesize": 10.5,
    "axes.titleweight": "bold",
    "axes.titlecolor": INK,
    "axes.labelsize": 9.5,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "xtick.color": "#5c6470",
    "ytick.color": "#5c6470",
    "xtick.labelsize": 8.5,
    "ytick.labelsize": 8.5,
    "legend.frameon": False,
    "legend.fontsize": 8.5,
    "font.size": 9.5,
    "text.color": INK,
    "savefig.dpi": 100,
}


def draw_night(
    catalogue: Catalogue,
    night: str | None = None,
    model: str | None = None,
    truth: pa.Table | str | Path | None = None,
    out: str | Path = "plots",
) -> list[Path]:
    """Draw the pictures of a night as PNG files; the first of the paths returned is the summary, ``night.png``.

    Parameters
    ----------
    catalogue
        Where the rows are.
    night
        Observing night; None is the newest.
    model
        Model's name; None is the one with most rows in that night.
    truth
        True redshifts: a table, or a Parquet or CSV file, with columns object_id and z.
    out
        Directory, made where it does not exist.

    Raises
    ------
    UserError
        If there are no such rows, or the truth table cannot be read.
    """
    import matplotlib as mpl
    from matplotlib.figure import Figure

    if isinstance(truth, (str, Path)):
        truth = read_truth(Path(truth))
    elif truth is not None:
        truth = as_truth(truth, "given")
    data = read_night(catalogue, night, model, truth)
    folder = Path(out)
    folder.mkdir(parents=True, exist_ok=True)
    pictures: list[tuple[str, tuple[float, float], Callable[[Figure | SubFigure, Night], None]]] = [
        ("night.png", (16, 10), summary),
        ("redshifts.png", (7, 7.6), redshift_panel),
        ("nz.png", (7.5, 5), nz_panel),
        ("calibration.png", (7.5, 5), calibration_panel),
        ("pdfs.png", (10, 6), pdf_panel),
        ("sky.png", (7.5, 5.5), sky_panel),
    ]
    paths = []
    with mpl.rc_context(STYLE):
        for name, size, draw in pictures:
            figure = Figure(figsize=size, layout="constrained")
            draw(figure, data)
            part = folder / f".{name}.part"
            figure.savefig(part, format="png")
            paths.append(part.replace(folder / name))
    return paths


def summary(figure: Figure | SubFigure, data: Night) -> None:
    """All panels under one headline."""
    parts: Any = figure.subfigures(2, 1, height_ratios=[0.075, 1])
    head, body = parts
    head.text(0.012, 0.42, f"Night of {_day(data.night)}", fontsize=19, fontweight="bold", va="center")
    head.text(0.988, 0.42, _headline(data), fontsize=11.5, va="center", ha="right", color="#5c6470")
    left, right = body.subfigures(1, 2, width_ratios=[1, 1.5], wspace=0.02)
    redshift_panel(left, data)
    top, bottom = right.subfigures(2, 1, height_ratios=[1, 1.02], hspace=0.03)
    first, second, third = top.subfigures(1, 3, width_ratios=[1, 1, 1.12], wspace=0.02)
    nz_panel(first, data)
    calibration_panel(second, data)
    sky_panel(third, data)
    pdf_panel(bottom, data)


def _headline(data: Night) -> str:
    looked = len(data.truth)
    rows = f"{data.total:,} rows" + (f", {looked:,} of them drawn" if looked < data.total else "")
    return f"{data.model}   ·   {rows}   ·   {100 * np.mean(np.isfinite(data.points['z_best'])):.1f} % with a redshift"


def _day(night: str) -> str:
    try:
        day = dt.date.fromisoformat(night)
    except ValueError:
        return night
    return f"{day.day} {day:%B %Y}"
