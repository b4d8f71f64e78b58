"""Where on the sky a night's galaxies lie: the whole sky, or the field where it is small."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from schemas.batch import Float64
from streamer.night_data import Night

if TYPE_CHECKING:
    from matplotlib.colors import Colormap
    from matplotlib.figure import Figure, SubFigure

_SMALL = 40.0  # degrees: a field narrower and lower than this is drawn flat


def sky_panel(figure: Figure | SubFigure, data: Night) -> None:
    """Rows by position: Mollweide, or a flat map with east to the left where the field is small."""
    ra, dec = data.points["ra"].astype(np.float64), data.points["dec"].astype(np.float64)
    on_sky = np.isfinite(ra) & np.isfinite(dec)
    ra, dec = ra[on_sky], dec[on_sky]
    middle = _middle(ra)
    east = (ra - middle + 180) % 360 - 180  # degrees east of the middle, whatever side of 0 h the field is on
    if len(ra) and np.ptp(dec) < _SMALL and np.ptp(east) < _SMALL:
        _field(figure, east, dec, middle)
    else:
        _whole(figure, ra, dec)


def density_colours() -> Colormap:
    """One hue from pale to dark: what is denser is darker, for every eye and in print."""
    from matplotlib.colors import LinearSegmentedColormap

    return LinearSegmentedColormap.from_list("density", ["#d3e5f2", "#7fb6da", "#0072b2", "#0b3c66", "#071d33"])


def _field(figure: Figure | SubFigure, east: Float64, dec: Float64, middle: float) -> None:
    axes = figure.subplots()
    centre = (dec.min() + dec.max()) / 2
    shrink = np.cos(np.radians(centre))
    reach = 0.53 * max(np.ptp(east) * shrink, np.ptp(dec), 1e-3)
    left = (east.min() + east.max()) / 2
    cells = int(np.clip(np.sqrt(len(dec) / 12), 12, 60))
    edges = np.linspace(-reach, reach, cells + 1)
    counts, _, _ = np.histogram2d((east - left) * shrink, dec - centre, bins=(edges, edges))
    area = (edges[1] - edges[0]) ** 2
    mesh = axes.pcolormesh(
        middle + left + edges / shrink,
        centre + edges,
        np.ma.masked_equal(counts.T / area, 0),
        cmap=density_colours(),
        rasterized=True,
    )
    axes.invert_xaxis()
    axes.set_aspect(1 / shrink, anchor="N")
    axes.ticklabel_format(useOffset=False)
    axes.xaxis.set_major_formatter(lambda value, _: f"{value % 360:g}")
    axes.locator_params(nbins=5)
    axes.set(title="Sky", xlabel="right ascension [deg]", ylabel="declination [deg]")
    _scale(figure, mesh, axes, "rows per square degree")


def _whole(figure: Figure | SubFigure, ra: Float64, dec: Float64) -> None:
    axes = figure.add_subplot(projection="mollweide")
    cell = 2.0 if len(ra) > 20_000 else 4.0  # degrees
    longitude = np.arange(-180, 180.1, cell)
    latitude = np.arange(-90, 90.1, cell)
    west = -((ra + 180) % 360 - 180)  # east to the left
    counts, _, _ = np.histogram2d(west, dec, bins=(longitude, latitude))
    bands = np.degrees(np.diff(np.sin(np.radians(latitude)))) * cell  # square degrees of a cell, by declination
    density = np.ma.masked_equal(counts / bands, 0)
    mesh = axes.pcolormesh(
        np.radians(longitude), np.radians(latitude), density.T, cmap=density_colours(), rasterized=True
    )
    axes.grid(color="#d4d8de", lw=0.5)
    hours = np.array([8, 4, 0, 20, 16])
    axes.set_xticks(np.radians([-120, -60, 0, 60, 120]), [f"{h} h" for h in hours])
    axes.set_yticks(np.radians([-60, -30, 0, 30, 60]))
    axes.tick_params(labelsize=7.5)
    axes.set_title("Sky, equatorial", loc="left", pad=14)
    _scale(figure, mesh, axes, "rows per square degree")


def _scale(figure: Figure | SubFigure, mesh: object, axes: object, label: str) -> None:
    bar = figure.colorbar(mesh, ax=axes, orientation="horizontal", shrink=0.7, aspect=32, pad=0.03)  # type: ignore[arg-type]
    bar.set_label(label, fontsize=8.5)
    bar.ax.tick_params(labelsize=8, length=2)
    bar.outline.set_visible(False)
    bar.ax.locator_params(nbins=5)


def _middle(ra: Float64) -> float:
    """Circular mean of right ascensions, degrees."""
    if not len(ra):
        return 0.0
    angle = np.radians(ra)
    return float(np.degrees(np.arctan2(np.sin(angle).mean(), np.cos(angle).mean()))) % 360
