"""An evaluation as one HTML file: figures, pictures and the model's card, with nothing fetched from anywhere."""

from __future__ import annotations

import datetime as dt
import io
import os
import re
from html import escape
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any

from models.bundle import Bundle
from models.evaluation import Scored
from schemas.errors import UserError
from streamer.report_figures import FIGURES, GROUPS, LINES, form
from streamer.report_style import CSS, TEXTS, TILES

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from matplotlib.figure import Figure

_COLOUR = re.compile(r"#[0-9a-f]{6}\b")
_UNUSED = re.compile(r'<g id="[^"]*">')
_PROLOGUE = re.compile(r"^.*?(?=<svg )", re.DOTALL)
_METADATA = re.compile(r"\s*<metadata>.*?</metadata>", re.DOTALL)


def check_place(path: Path) -> None:
    """Refuse, before any work is done, a place where no report can be written.

    Raises
    ------
    schemas.errors.UserError
        If the directory does not exist, or there is no matplotlib to draw with.
    """
    import importlib.util

    if path.suffix.lower() not in (".html", ".htm"):
        raise UserError(f"The report is HTML: call it {path.with_suffix('.html')}, not {path}.")
    if not path.parent.is_dir():
        raise UserError(f"There is no directory {path.parent} to write {path.name} into.")
    if importlib.util.find_spec("matplotlib") is None:
        raise UserError("Pictures need matplotlib, which is not installed: `pip install 'slipher[plots]'`.")


def write_report(path: Path, scored: Scored, figures: dict[str, Any], bundle: Bundle) -> None:
    """Write the report whole or not at all.

    Parameters
    ----------
    path
        HTML file.
    scored, figures
        As `models.evaluation` and ``slipher evaluate --json`` give them.
    bundle
        The model, for its card.
    """
    part = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        part.write_text(page(figures, pictures(scored, figures), bundle), encoding="utf-8")
        part.replace(path)
    except OSError as error:
        raise UserError(f"The report cannot be written to {path}: {error.strerror}.") from error
    finally:
        part.unlink(missing_ok=True)


def pictures(scored: Scored, figures: dict[str, Any]) -> dict[str, str]:
    """Every picture as an SVG element, by name."""
    from streamer import report_panels as panels

    point, rubin = figures["point"], figures["model"]["survey"] == "lsst"
    drawn: dict[str, tuple[tuple[float, float], Callable[[Figure], None]]] = {
        "redshifts": ((5.4, 7.6), lambda figure: panels.redshifts(figure, scored, point)),
        "distribution": ((5.4, 3.2), lambda figure: panels.distribution(figure, scored, point)),
        "calibration": ((5.4, 2.9), lambda figure: panels.calibration(figure, scored)),
        "by_quintile": ((11, 3.6), lambda figure: panels.by_quintile(figure, scored)),
        "trends": ((11, 6.4), lambda figure: panels.trends(figure, scored, point, rubin)),
    }
    return {name: svg(name, size, draw) for name, (size, draw) in drawn.items()}


def svg(name: str, size: tuple[float, float], draw: Callable[[Figure], None]) -> str:
    """A picture as an SVG element whose colours are the page's own."""
    import matplotlib as mpl
    from matplotlib.figure import Figure

    from streamer.report_panels import STYLE, TOKENS

    with mpl.rc_context({**STYLE, "svg.hashsalt": name}):
        figure = Figure(figsize=size, layout="constrained")
        draw(figure)
        text = io.StringIO()
        figure.savefig(
            text, format="svg", dpi=130, metadata={"Date": None, "Creator": None, "Format": None, "Type": None}
        )
    drawn = _UNUSED.sub("<g>", _METADATA.sub("", _PROLOGUE.sub("", text.getvalue())))
    drawn = _COLOUR.sub(lambda found: f"var(--{TOKENS[found[0]]})" if found[0] in TOKENS else found[0], drawn)
    title = escape(TEXTS[name][0])
    return re.sub(
        r'<svg [^>]*viewBox="([^"]*)"[^>]*>', rf'<svg viewBox="\1" role="img" aria-label="{title}">', drawn, count=1
    )


def page(figures: dict[str, Any], drawn: dict[str, str], bundle: Bundle) -> str:
    """The whole document."""
    model, table, found = figures["model"], figures["table"], figures["overall"]
    state = {True: "good", False: "bad", None: "unsure"}[figures["gate"]["beaten"]]
    state = "unsure" if figures["gate"].get("lost_at") else state
    parts = [
        f"<header><p class='kicker'>slipher evaluate</p><h1>{escape(model['name'])}</h1>",
        f"<p class='sub'>on {escape(table['name'])}: {found['n']:,} galaxies with a photometric and a true redshift, of "
        f"{table['rows']:,} rows. e = ({figures['point']} − z) / (1 + z).</p></header>",
        f"<p class='verdict {state}'>{escape(figures['gate']['sentence'])}</p>",
        *(f"<p class='verdict unsure'>{escape(sentence)}</p>" for sentence in figures["remarks"]),
        f"<section class='tiles'>{''.join(_tile(found, *tile) for tile in TILES)}</section>",
        "<section class='pair'>",
        _picture("redshifts", drawn),
        f"<div>{_picture('distribution', drawn)}{_picture('calibration', drawn)}</div></section>",
        _picture("by_quintile", drawn),
        _picture("trends", drawn),
        f"<section><h2>All figures</h2>{_overall(found)}</section>",
    ]
    for key, title in GROUPS:
        if figures[key]:
            heading = title.format(reference=model["reference"], point=figures["point"])
            parts.append(
                f"<section><h2>{escape(heading[0].upper() + heading[1:])}</h2>{_lines(figures[key])}</section>"
            )
    parts.append(f"<section class='pair'>{_flags(figures)}{_card(bundle)}</section>")
    now = dt.datetime.now(dt.UTC)
    parts.append(
        f"<footer>Made by slipher {escape(metadata.version('slipher'))} on {now:%Y-%m-%d %H:%M} UTC. ± are standard errors by "
        f"bootstrap over galaxies. The Brier score counts cells of {figures['grid_step']:g} in redshift. "
        "What each figure means stands in docs/evaluate.md.</footer>"
    )
    return (
        "<!doctype html>\n<html lang='en'><head><meta charset='utf-8'>"
        "<meta name='viewport' content='width=device-width, initial-scale=1'>"
        f"<title>{escape(model['name'])} on {escape(table['name'])}</title><style>{CSS}</style></head>\n"
        f"<body><main>{chr(10).join(parts)}</main></body></html>\n"
    )


def _tile(found: dict[str, Any], key: str, name: str, pattern: str, what: str) -> str:
    error, gate = found.get("errors", {}).get(key), found.get("trainz", {}).get(key)
    spread = "" if error is None else f"<small>± {pattern.replace('+', '').format(error)}</small>"
    beside = "" if gate is None else f"<p class='gate'>trainZ {pattern.format(gate)}</p>"
    return (
        f"<div class='tile' title='{escape(what)}'><p class='name'>{escape(name)}</p>"
        f"<p class='figure'>{form(pattern, found.get(key))} {spread}</p>{beside}</div>"
    )


def _picture(name: str, drawn: dict[str, str]) -> str:
    title, text = TEXTS[name]
    return f"<figure><h2>{escape(title)}</h2>{drawn[name]}<figcaption>{escape(text)}</figcaption></figure>"


def _overall(found: dict[str, Any]) -> str:
    rows = [
        (name, form(p, found.get(key)), _error(p, found, key), form(p, found.get("trainz", {}).get(key)))
        for key, name, p in FIGURES
    ]
    return _table(("", "this model", "±", "trainZ"), rows)


def _error(pattern: str, found: dict[str, Any], key: str) -> str:
    error = found.get("errors", {}).get(key)
    return "" if error is None else pattern.replace("+", "").format(error)


def _lines(lines: list[dict[str, Any]]) -> str:
    headings = ["", "galaxies"]
    for _, heading, _, gated in LINES:
        headings += [heading, "trainZ"] if gated else [heading]
    rows = []
    for line in lines:
        row = [line["label"], f"{line['n']:,}"]
        for key, _, pattern, gated in LINES:
            row.append(form(pattern, line.get(key)))
            if gated:
                row.append(form(pattern, line.get("trainz", {}).get(key)))
        rows.append(tuple(row))
    return _table(tuple(headings), rows)


def _table(headings: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """An HTML table: names left, figures right, what is trainZ's or an error faint."""
    faint = [heading in ("±", "trainZ") for heading in headings]

    def cells(tag: str, row: Sequence[str]) -> str:
        return "".join(
            f"<{tag}{' class=faint' * dim}>{escape(cell)}</{tag}>" for cell, dim in zip(row, faint, strict=True)
        )

    body = "".join(f"<tr>{cells('td', row)}</tr>" for row in rows)
    return (
        f"<div class='wide'><table><thead><tr>{cells('th', headings)}</tr></thead><tbody>{body}</tbody></table></div>"
    )


def _flags(figures: dict[str, Any]) -> str:
    n = figures["table"]["with_redshift"]
    rows = [(name, f"{count:,}", f"{count / n:.1%}") for name, count in figures["flags"].items()]
    table = _table(("", "galaxies", "of all"), rows) if rows else "<p>None.</p>"
    return f"<div><h2>Flags</h2>{table}</div>"


def _card(bundle: Bundle) -> str:
    """The model card: what every kind of model has, and its settings."""
    card = bundle.card
    training = card.get("training") or {}
    low, high = training.get("z_range") or (None, None)
    about = {
        "sha256": card["sha256"],
        "survey": f"{card['survey']}: {' '.join(card['bands'])}, reference {card['reference']}",
        "dust": f"{card['dust_law']}: {' '.join(f'{value:g}' for value in card['dust'])}",
        "redshift grid": f"0 to {card['grid']['z_max']:g}, {card['grid']['points']} points",
        "trained on": f"{training.get('n', 0):,} galaxies"
        + ("" if low is None else f", z {low:.3f} to {high:.3f}, sha256 {str(training.get('sha256'))[:12]}"),
        "settings": ", ".join(
            f"{key} {value}" for key, value in (card.get("settings") or {}).items() if value is not None
        ),
        "libraries": ", ".join(f"{key} {value}" for key, value in (card.get("libraries") or {}).items()),
    }
    rows = "".join(f"<dt>{escape(key)}</dt><dd>{escape(value)}</dd>" for key, value in about.items())
    return f"<div><h2>The model</h2><dl>{rows}</dl></div>"
