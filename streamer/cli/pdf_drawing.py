"""A redshift PDF drawn with braille dots: two across and four down in every character, no colour needed."""

import math
from typing import NamedTuple

import numpy as np
from rich.text import Text

from schemas.batch import Float64

# Bit of the dot at (row, column) of a braille character, rows from the top.
_DOTS = np.array([[0x01, 0x08], [0x02, 0x10], [0x04, 0x20], [0x40, 0x80]])
_MARGIN = 6  # characters left of the axis: the scale's labels


class Curve(NamedTuple):
    """A PDF and what is marked on it."""

    grid: Float64  # redshifts, [G]
    pdf: Float64  # p(z), [G]
    low: float  # 68 % interval
    high: float
    mode: float


def limits(curves: list[Curve]) -> tuple[float, float]:
    """Redshifts between which all `curves` have something to show, with a little room, so that they share an axis."""
    first, last = math.inf, -math.inf
    for curve in curves:
        seen = curve.grid[curve.pdf > 0.004 * curve.pdf.max()]
        if len(seen):
            first, last = min(first, float(seen[0])), max(last, float(seen[-1]))
    if not math.isfinite(first):
        return 0.0, 1.0
    room = max(0.04 * (last - first), 0.02)
    bottom = min(float(curve.grid[0]) for curve in curves)
    top = max(float(curve.grid[-1]) for curve in curves)
    return max(first - room, bottom), min(last + room, top)


def draw(curve: Curve, span: tuple[float, float], width: int = 72, height: int = 8) -> Text:
    """The curve as lines of text: filled where the 68 % interval is, an outline elsewhere, the mode marked below the axis.

    Parameters
    ----------
    curve
        What to draw.
    span
        Redshifts at the left and right end.
    width, height
        In characters; the axis and its labels take two lines more and are within `width`.
    """
    cells = width - _MARGIN - 1
    left, right = span
    heights, top = _dot_heights(curve, span, cells * 2, height * 4)
    edges = np.linspace(left, right, cells * 2 + 1)
    middle = (edges[1:] + edges[:-1]) / 2
    inside = (middle >= curve.low) & (middle <= curve.high)
    dots = np.zeros((height * 4, cells * 2), bool)
    for x, tall in enumerate(heights):
        lower = min(heights[max(x - 1, 0)], heights[min(x + 1, len(heights) - 1)])
        foot = (
            0 if inside[x] else max(min(tall - 1, lower), 0)
        )  # an outline reaches down to its lower neighbour: no gaps
        dots[height * 4 - tall : height * 4 - foot, x] = True
    codes = (dots.reshape(height, 4, cells, 2) * _DOTS[None, :, None, :]).sum(axis=(1, 3))
    shaded: list[bool] = (inside[0::2] | inside[1::2]).tolist()

    text = Text()
    for row in range(height):
        label = f"{top:.3g}" if row == 0 else "p(z)" if row == height // 2 else ""
        text.append(f"{label:>{_MARGIN - 1}} ", "dim")
        text.append("┤" if row == 0 else "│", "dim")
        for code, fill in zip(codes[row].tolist(), shaded, strict=True):
            text.append(chr(0x2800 + code) if code else " ", "cyan" if fill else "default")
        text.append("\n")
    ticks = _ticks(left, right, cells)
    line = ["─"] * cells
    for place, _ in ticks:
        line[place] = "┬"
    text.append(f"{'0':>{_MARGIN - 1}} ", "dim")
    text.append("└" + "".join(line) + "\n", "dim")
    text.append(_labels(ticks, cells) + "\n", "dim")
    text.append(" " * (_MARGIN + 1) + _marks(curve, span, cells), "cyan")
    return text


def _dot_heights(curve: Curve, span: tuple[float, float], columns: int, dots: int) -> tuple[list[int], float]:
    """Height in dots of each dot column, and the p(z) at the top. A column shows its maximum: a narrow peak is not missed."""
    edges = np.linspace(*span, columns + 1)
    fine = np.sort(np.concatenate([np.linspace(*span, columns * 4 + 1), curve.grid]))
    fine = fine[(fine >= span[0]) & (fine <= span[1])]
    values = np.interp(fine, curve.grid, curve.pdf)
    which = np.clip(np.searchsorted(edges, fine, side="right") - 1, 0, columns - 1)
    tallest = np.zeros(columns)
    np.maximum.at(tallest, which, values)
    top = float(tallest.max()) or 1.0
    return [math.ceil(v / top * dots - 0.25) if v > 0.004 * top else 0 for v in tallest], top


def _ticks(left: float, right: float, cells: int) -> list[tuple[int, str]]:
    """(column, label) of round redshifts, some 12 columns apart."""
    rough = (right - left) / max(cells / 12, 1)
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(f * power for f in (1, 2, 5, 10) if f * power >= rough * 0.999)
    digits = max(0, -math.floor(math.log10(step) + 1e-9))
    values = np.arange(math.ceil(left / step - 1e-9), math.floor(right / step + 1e-9) + 1) * step
    return [(min(int((v - left) / (right - left) * cells), cells - 1), f"{v:.{digits}f}") for v in values]


def _labels(ticks: list[tuple[int, str]], cells: int) -> str:
    line = [" "] * (_MARGIN + 1 + cells)
    for place, label in ticks:
        start = min(_MARGIN + 1 + place - len(label) // 2, len(line) - len(label))
        line[start : start + len(label)] = label
    line[_MARGIN - 4] = "z"
    return "".join(line)


def _marks(curve: Curve, span: tuple[float, float], cells: int) -> str:
    """The interval as a bracket and the mode as a triangle."""

    def place(z: float) -> int:
        return int(np.clip((z - span[0]) / (span[1] - span[0]) * cells, 0, cells - 1))

    line = [" "] * cells
    if math.isfinite(curve.low) and math.isfinite(curve.high):
        a, b = place(curve.low), place(curve.high)
        line[a : b + 1] = ["─"] * (b + 1 - a)
        line[a], line[b] = "├", "┤"
    if math.isfinite(curve.mode):
        line[place(curve.mode)] = "▲"
    return "".join(line).rstrip()
