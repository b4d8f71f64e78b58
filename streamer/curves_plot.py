"""How networks learnt, as a picture: the loss that they learn from, and the CRPS that stops them."""

from __future__ import annotations

import importlib.util
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

from schemas.errors import UserError

if TYPE_CHECKING:
    from matplotlib.axes import Axes

SEES = {"mixed": "stamps and magnitudes", "image": "stamps", "magnitudes": "magnitudes"}
SUFFIXES = (".png", ".pdf", ".svg")


def check_place(path: Path) -> None:
    """Refuse, before any work is done, a place where no picture can be drawn.

    Raises
    ------
    schemas.errors.UserError
        If the directory does not exist, the format is unknown, or there is no matplotlib.
    """
    if path.suffix.lower() not in SUFFIXES:
        raise UserError(f"A picture is PNG, PDF or SVG: call it {path.with_suffix('.png')}, not {path}.")
    if not path.parent.is_dir():
        raise UserError(f"There is no directory {path.parent} to write {path.name} into.")
    if importlib.util.find_spec("matplotlib") is None:
        raise UserError("Pictures need matplotlib, which is not installed: `pip install 'slipher[plots]'`.")


def draw_curves(card: dict[str, Any], path: Path) -> None:
    """Draw the training that the card of a bundle of image networks tells of.

    Raises
    ------
    schemas.errors.UserError
        As `check_place`; if the card is of another kind of model, or the file cannot be written.
    """
    import matplotlib as mpl
    from matplotlib.figure import Figure

    from streamer.night_panels import INK
    from streamer.night_plots import STYLE

    check_place(path)
    if card.get("kind") != "images":
        raise UserError(f"A model of kind {card.get('kind')!r} has no curves: networks of images have.")
    training = card["training"]
    part = path.with_name(f".{path.name}.{os.getpid()}.part{path.suffix}")
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(7.2, 5.4), layout="constrained")
        above, below = figure.subplots(2, 1, sharex=True)
        for k, checks in enumerate(training["checks"]):
            _network(above, below, k, checks)
        above.set_ylabel("loss")
        below.set_ylabel("CRPS of the held-out part")
        below.set_xlabel("steps")
        low = min(check[3] for checks in training["checks"] for check in checks)
        high = sorted(check[3] for checks in training["checks"] for check in checks)
        below.set_ylim(
            0.97 * low, max(1.03 * high[int(0.9 * (len(high) - 1))], 1.05 * low)
        )  # the first checks are far up
        learnt, held = training["n"] - training["n_held_out"], training["n_held_out"]
        above.set_title(
            f"{card['architecture']['kind']}, {SEES[card['architecture']['sees']]}: {learnt:,} galaxies to learn from, "
            f"{held:,} held out",
            fontsize=9.5,
        )
        below.legend(title="the ring: the weights that were kept", alignment="left", title_fontsize=8.5)
        for axis in (above, below):
            axis.grid(alpha=0.25, color=INK, linewidth=0.5)
        try:
            figure.savefig(part)
            os.replace(part, path)
        except OSError as error:
            raise UserError(f"The picture cannot be written to {path}: {error.strerror or error}.") from error
        finally:
            part.unlink(missing_ok=True)


COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#56b4e9", "#e69f00")  # Okabe and Ito


def _network(above: Axes, below: Axes, k: int, checks: list[list[float]]) -> None:
    step, _, loss, crps, _ = zip(*checks, strict=True)
    colour, line = COLOURS[k % len(COLOURS)], ("-", "--", ":")[k // len(COLOURS) % 3]
    at = crps.index(min(crps))
    above.plot(step, loss, line, color=colour, marker=".", markersize=4)
    below.plot(
        step,
        crps,
        line,
        color=colour,
        marker=".",
        markersize=4,
        label=f"network {k + 1}: {crps[at]:.5f} at {step[at]:,}",
    )
    below.plot(step[at], crps[at], "o", color=colour, markersize=9, markerfacecolor="none")
