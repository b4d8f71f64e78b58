"""Cutouts as a picture: a row for each galaxy, a column for each image."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import numpy.typing as npt

from schemas import cutouts
from schemas.batch import Galaxies
from schemas.errors import UserError

if TYPE_CHECKING:
    from matplotlib.axes import Axes

MOST_BYTES = 16 << 20  # of one cutout once it is unpacked
MOST_ROWS = 12  # galaxies in one picture
_SIDE = 2.3  # inches
_DPI = 110
_INK, _PAPER, _TROUBLE = "#1b1f24", "#ffffff", "#b3261e"


class NoPicture(ValueError):
    """Bytes that are no image; the sentence says why."""


class Image(NamedTuple):
    """One image of a galaxy: its name, and pixels [height, width], or why there are none."""

    name: str
    pixels: npt.NDArray[np.floating] | None
    why: str = ""


class Row(NamedTuple):
    """The images of one galaxy, and its name."""

    title: str
    images: list[Image]


def stamp_pixels(data: bytes) -> npt.NDArray[np.floating]:
    """The first image of a FITS file, which may be in gzip, float32[height, width].

    Raises
    ------
    NoPicture
        There is none.
    """
    stamps = cutouts.decode_bytes([data], most=MOST_BYTES)
    if stamps.status[0] != cutouts.CutoutStatus.GOOD:
        raise NoPicture(stamps.why(0))
    return stamps.pixels.image(0)


def packet_row(title: str, cutouts: dict[str, bytes | None]) -> Row:
    """The images that a survey's packet carries."""
    return Row(title, [_image(name, data) for name, data in cutouts.items()])


def native_row(title: str, galaxies: Galaxies, i: int) -> Row:
    """The planes of a native stamp, one a band."""
    stamps = galaxies.stamps
    blob = None if stamps is None else stamps.pixels[i].as_py()
    if stamps is None or blob is None:
        return Row(title, [Image(band, None, "not sent") for band in galaxies.bands])
    height, width, planes = int(stamps.height[i]), int(stamps.width[i]), len(galaxies.bands)
    if min(height, width) < 1 or len(blob) != 4 * planes * height * width:
        why = f"{len(blob)} bytes for {planes} planes of {height} x {width}"
        return Row(title, [Image(band, None, why) for band in galaxies.bands])
    pixels = np.frombuffer(blob, "<f4").reshape(planes, height, width)
    return Row(title, [Image(band, plane) for band, plane in zip(galaxies.bands, pixels, strict=True)])


def _image(name: str, data: bytes | None) -> Image:
    if not data:
        return Image(name, None, "not sent" if data is None else "no bytes")
    try:
        return Image(name, stamp_pixels(data))
    except NoPicture as error:
        return Image(name, None, str(error))


def draw(rows: Sequence[Row], path: Path) -> None:
    """Write `rows` as a PNG file.

    Raises
    ------
    UserError
        matplotlib is not installed, or the file cannot be written.
    """
    try:
        from matplotlib.figure import Figure
    except ImportError:
        raise UserError("Pictures need matplotlib: pip install 'slipher[plots]'.") from None
    columns = max(len(row.images) for row in rows)
    figure = Figure(figsize=(_SIDE * columns + 0.2, (_SIDE + 0.55) * len(rows) + 0.1), dpi=_DPI, facecolor=_PAPER)
    figure.set_layout_engine("constrained")
    parts: Any = figure.subfigures(len(rows), 1, squeeze=False)
    for part, row in zip(parts[:, 0], rows, strict=True):
        part.suptitle(row.title, x=0.02, ha="left", fontsize=9, fontweight="bold", color=_INK)
        for axes, image in zip(part.subplots(1, columns, squeeze=False)[0], row.images, strict=False):
            _show(axes, image)
        for axes in part.axes[len(row.images) :]:
            axes.set_axis_off()
    try:
        figure.savefig(path, format="png")
    except OSError as error:
        raise UserError(f"{path} cannot be written: {error.strerror}.") from None


def _show(axes: Axes, image: Image) -> None:
    axes.set(xticks=[], yticks=[])
    for spine in axes.spines.values():
        spine.set_color("#c8ccd1")
    axes.set_title(image.name, fontsize=8.5, color=_INK)
    if image.pixels is None:
        import textwrap

        words = textwrap.fill(image.why, 26)
        axes.text(0.5, 0.5, words, ha="center", va="center", fontsize=7.5, transform=axes.transAxes,
                  color="#6b7280" if image.why == "not sent" else _TROUBLE)  # fmt: skip
        axes.set_aspect("equal", adjustable="box")
        return
    pixels = np.asarray(image.pixels, np.float64)
    finite = np.isfinite(pixels)
    height, width = pixels.shape
    lost = int((~finite).sum())
    note = f"{width} x {height}" + (f", {lost} without a value" if lost else "")
    axes.set_xlabel(note, fontsize=7.5, color="#6b7280")
    if not finite.any():
        axes.text(0.5, 0.5, "no pixel has a value", ha="center", va="center", fontsize=7.5, transform=axes.transAxes)
        return
    scaled: Any = np.ma.masked_invalid(_stretched(pixels, finite))
    import matplotlib

    colours = matplotlib.colormaps["gray"].with_extremes(bad="#e4572e")
    axes.imshow(scaled, cmap=colours, origin="lower", interpolation="nearest", vmin=0, vmax=1)


def _stretched(pixels: npt.NDArray[np.float64], finite: npt.NDArray[np.bool_]) -> npt.NDArray[np.float64]:
    """arcsinh of the pixels in units of their noise, from 0 to 1: faint things show beside bright ones."""
    values = pixels[finite]
    middle = np.median(values)
    noise = 1.4826 * np.median(np.abs(values - middle)) or np.ptp(values) / 10 or 1.0
    scaled = np.arcsinh((pixels - middle) / (3 * noise))
    low, high = np.nanpercentile(scaled[finite], [1, 99.8])
    return np.asarray(np.clip((scaled - low) / ((high - low) or 1.0), 0, 1))
