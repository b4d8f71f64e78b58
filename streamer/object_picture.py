"""The picture of an object: its stamp in colour beside the PDFs of all models and of their blend, on one axis."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from schemas.flags import names
from streamer.best import IMAGES, Message
from streamer.night_panels import BLUE, FAINT, GREEN, INK, VERMILLION
from streamer.night_plots import STYLE
from streamer.object_rows import ObjectRows
from streamer.stamps import Stamp

if TYPE_CHECKING:
    from matplotlib.axes import Axes

MOST_MESSAGES = 4  # in one picture
_STYLES = {"forest": (BLUE, "-"), "images": (VERMILLION, (0, (5, 2))), "blend": (GREEN, "-")}
_OTHERS = ("#7b5ea7", "#8a6d3b", "#5c6470")  # of further models


class Line(NamedTuple):
    """One model's PDF and what is marked on it."""

    label: str
    colour: str
    dash: Any
    best: bool
    grid: np.ndarray
    pdf: np.ndarray
    row: Mapping[str, Any]


def draw(found: ObjectRows, stamps: list[Stamp | str], out: Path) -> None:
    """Draw an object into the file `out`, a strip for each of its newest messages; it appears when it is whole.

    Parameters
    ----------
    found
        The object.
    stamps
        Of each message of `found`, or why there is none ("" = nobody looked); at most `MOST_MESSAGES` are drawn.
    out
        .png, .pdf or .svg.
    """
    import matplotlib as mpl
    from matplotlib.figure import Figure

    messages = found.messages[:MOST_MESSAGES]
    pictures = [stamp for stamp in stamps[: len(messages)] if stamp != ""]
    lines = [_lines(found, message) for message in messages]
    left, right = _span([line for some in lines for line in some])
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(11.0 if pictures else 8.2, 0.45 + 3.35 * len(messages)), layout="constrained")
        row = found.records[0]
        title = f"{row['object_id']}   {row['survey']}   ra {row['ra']:.5f}°  dec {row['dec']:+.5f}°"
        figure.suptitle(title, x=0.012, ha="left", fontsize=11, fontweight="bold")
        grid = figure.add_gridspec(len(messages), 2 if pictures else 1, width_ratios=[1, 2.55] if pictures else [1])
        for k, message in enumerate(messages):
            if pictures:
                _stamp(figure.add_subplot(grid[k, 0]), stamps[k])
            axes = figure.add_subplot(grid[k, -1])
            _pdfs(axes, lines[k], message, found)
            axes.set_xlim(left, right)
            if k == len(messages) - 1:
                axes.set_xlabel("redshift")
        part = out.with_name(f".{out.stem}.part{out.suffix}")
        figure.savefig(part, dpi=110)
        part.replace(out)


def _lines(found: ObjectRows, message: Message) -> list[Line]:
    """The PDFs of a message: forests, image models, and last the blend."""
    out: list[Line] = []
    others = iter(_OTHERS * len(message.rows))
    choice = message.judged.choice if message.judged else ""
    for k in sorted(message.rows, key=lambda k: (k >= len(found.rows), k != message.forest)):
        row = found.records[k]
        model = found.known.get(row["processing_id"])
        made = k >= len(found.rows)
        role = "blend" if made else "images" if k == message.images else "forest" if k == message.forest else ""
        if not role and model is not None and message.judged is None and not out:
            role = "images" if model.get("kind") == IMAGES else "forest"
        colour, dash = _STYLES[role] if role else (next(others), "-")
        if model is None or row["pdf"] is None or len(row["pdf"]) != len(model["z_grid"]):
            grid, pdf = np.empty(0), np.empty(0)
        else:
            grid, pdf = np.array(model["z_grid"]), np.array(row["pdf"], np.float64)
        out.append(Line(row["model"], colour, dash, bool(role) and role == choice, grid, pdf, row))
    return out


def _span(lines: list[Line]) -> tuple[float, float]:
    """Redshifts between which all PDFs have something to show, with some room."""
    shown = [line.grid[line.pdf > 0.004 * line.pdf.max()] for line in lines if len(line.grid)]
    if not shown:
        return 0.0, 1.0
    first, last = min(float(z[0]) for z in shown), max(float(z[-1]) for z in shown)
    room = max(0.06 * (last - first), 0.02)
    return max(first - room, 0.0), last + room


def _stamp(axes: Axes, stamp: Stamp | str) -> None:
    from streamer.stamp_colours import coloured

    axes.set(xticks=[], yticks=[])
    for spine in axes.spines.values():
        spine.set_visible(True)
    if isinstance(stamp, str):
        import textwrap

        axes.set_box_aspect(1)
        words = textwrap.fill(stamp or "no stamp was looked for", 34)
        axes.text(0.5, 0.5, words, ha="center", va="center", fontsize=8.5, color="#5c6470", transform=axes.transAxes)
        return
    colours = coloured(stamp)
    height, width = colours.rgb.shape[:2]
    axes.imshow(colours.rgb, origin="lower", interpolation="nearest")
    axes.set_xlabel(
        f"{colours.told} as red, green, blue" if len(set(colours.bands)) > 1 else colours.told, fontsize=8.5
    )
    if stamp.scale > 0:
        bar = next((b for b in (30, 20, 10, 5, 2, 1, 0.5) if b / stamp.scale < 0.4 * width), 0.2)
        x, y = 0.06 * width, 0.07 * height
        axes.plot([x, x + bar / stamp.scale], [y, y], color="white", lw=2, solid_capstyle="butt")
        axes.text(x, y + 0.025 * height, f"{bar:g}″", color="white", fontsize=8.5, va="bottom")


def _pdfs(axes: Axes, lines: list[Line], message: Message, found: ObjectRows) -> None:
    """All PDFs on one axis; under it a rail for each: 68 and 95 % intervals, and the point estimate."""
    drawn = [line for line in lines if len(line.grid)]
    top = max((float(line.pdf.max()) for line in drawn), default=1.0)
    rail = 0.085 * top
    for k, line in enumerate(drawn):
        strong = line.best or len(drawn) == 1
        axes.plot(line.grid, line.pdf, color=line.colour, ls=line.dash, lw=2.2 if strong else 1.5, zorder=3 + strong)
        if strong:
            axes.fill_between(line.grid, line.pdf, color=line.colour, alpha=0.16, lw=0)
        y, row = -rail * (k + 0.75), line.row
        axes.plot([row["z_lo95"], row["z_hi95"]], [y, y], color=line.colour, lw=1.0)
        axes.plot([row["z_lo68"], row["z_hi68"]], [y, y], color=line.colour, lw=3.2, solid_capstyle="butt")
        axes.plot([row["z_best"]], [y], "o", ms=6.5, mfc="white", mec=line.colour, mew=1.6, zorder=5)
    axes.axhline(0, color=FAINT, lw=0.7)
    axes.set(ylim=(-rail * (len(drawn) + 0.4), 1.06 * top), ylabel="p(z)")
    axes.set_yticks([tick for tick in axes.get_yticks() if 0 <= tick <= top])
    first = found.records[message.rows[0]]
    axes.set_title(f"night {first['night']}   alert {first['alert_id']}")
    _words(axes, lines, message)


def _words(axes: Axes, lines: list[Line], message: Message) -> None:
    """Beside the axis what each model says, in its colour, and what is the best."""
    import textwrap

    y = 1.0

    def say(text: str, colour: str, weight: str = "normal", size: float = 8.5) -> None:
        nonlocal y
        axes.annotate(
            text, (1.025, y), xycoords="axes fraction", va="top", fontsize=size, color=colour, fontweight=weight
        )
        y -= 0.068 * (text.count("\n") + 1)

    for line in lines:
        say(line.label, line.colour, "bold", 9)
        row = line.row
        if row["z_best"] is not None:
            low, high = row["z_lo68"] - row["z_best"], row["z_hi68"] - row["z_best"]
            say(f"z = {row['z_best']:.3f}  ({low:+.3f}, {high:+.3f})   odds {row['odds_0p03']:.2f}", INK)
        else:
            say("no PDF", INK)
        flags = names(row["flags"])
        if flags:
            say(textwrap.fill(", ".join(flag.lower() for flag in flags), 42), "#5c6470", size=8)
        y -= 0.03
    if message.judged is not None:
        say(f"best: {message.judged.choice}", INK, "bold", 9)
        say(textwrap.fill(message.judged.reason, 42), INK)
