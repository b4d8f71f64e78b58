"""A stamp in a terminal: two pixels, one above the other, in every character."""

import numpy as np
from rich.color import Color
from rich.console import Group, RenderableType
from rich.panel import Panel
from rich.style import Style
from rich.table import Table
from rich.text import Text

from schemas.batch import UInt8
from streamer.stamp_colours import Colours
from streamer.stamps import Stamp

MOST = 48  # pixels across: a larger stamp is cut about its middle
_SHADES = " ░▒▓█"


def stamp_panel(stamp: Stamp, colours: Colours, coloured: bool) -> RenderableType:
    """The stamp and what it is.

    Parameters
    ----------
    stamp, colours
        The stamp, and its picture.
    coloured
        Whether the terminal has colours; without, shades of one.
    """
    height, width = colours.rgb.shape[:2]
    size = f"{width} × {height} pixels"
    if stamp.scale > 0:
        size += f", {width * stamp.scale:.1f} × {height * stamp.scale:.1f}″"
    facts = Table.grid(padding=(0, 1))
    facts.add_column(style="dim", no_wrap=True)
    facts.add_column(overflow="fold")
    facts.add_row("stamp", size)
    facts.add_row("bands", " ".join(stamp.bands))
    facts.add_row("colours", colours.told + (" as red, green, blue" if len(set(colours.bands)) > 1 else ", grey"))
    facts.add_row("from", stamp.where)
    picture = drawn(colours.rgb) if coloured else shaded(colours.rgb)
    grid = Table.grid(padding=(0, 2))
    grid.add_row(picture, Group(Text(), facts))
    return Panel(grid, width=None, expand=False, padding=(0, 1))


def drawn(rgb: UInt8) -> Text:
    """The picture, north up, a half block for every two pixels."""
    pixels = _upright(rgb)
    text = Text(no_wrap=True)
    for y in range(0, len(pixels), 2):
        upper = pixels[y]
        lower = pixels[y + 1] if y + 1 < len(pixels) else np.zeros_like(upper)
        for above, below in zip(upper.tolist(), lower.tolist(), strict=True):
            text.append("▀", Style(color=Color.from_rgb(*above), bgcolor=Color.from_rgb(*below)))
        text.append("\n")
    text.rstrip()
    return text


def shaded(rgb: UInt8) -> Text:
    """The picture in five shades, for a terminal without colours."""
    pixels = _upright(rgb).astype(float).mean(axis=2)
    pixels = pixels[: len(pixels) // 2 * 2]
    level = pixels.reshape(len(pixels) // 2, 2, -1).mean(axis=1) / 255 * (len(_SHADES) - 1)
    lines = ["".join(_SHADES[round(value)] for value in row) for row in level.tolist()]
    return Text("\n".join(lines), no_wrap=True)


def _upright(rgb: UInt8) -> UInt8:
    """Cut about the middle to `MOST` pixels, the last row first."""
    top, left = (max(0, (n - MOST) // 2) for n in rgb.shape[:2])
    return rgb[top : top + MOST, left : left + MOST][::-1]
