"""One object for the terminal: a panel a row, with the PDF drawn, points, flags in words and provenance."""

from collections.abc import Iterator
from typing import Any

import numpy as np
import pyarrow as pa
from rich.console import Group, RenderableType
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from schemas.bands import BAND_SETS
from schemas.flags import DESCRIPTIONS, Flag
from streamer.cli.overview import number
from streamer.cli.pdf_drawing import Curve, draw, limits
from streamer.object_rows import ObjectRows

_NARROW = 66  # columns below which two panels do not stand side by side
_WIDEST = 100  # columns beyond which a single panel gains nothing


def object_view(found: ObjectRows, width: int, limit: int) -> Iterator[RenderableType]:
    """Headline and panels; rows of one message by several models stand side by side where the terminal has room.

    Parameters
    ----------
    found
        The object's rows.
    width
        Columns of the terminal.
    limit
        Most rows to draw, those of a blend not counted.
    """
    rows, records, known = found.rows, found.records, found.known
    curves = [_curve(row, known.get(row["processing_id"])) for row in records]
    yield _headline(rows)
    stored = len(rows)
    shown = []
    for message in found.messages:
        if drawn := [k for k in message.rows if k < min(limit, stored)]:
            shown.append(message._replace(rows=[*drawn, *(k for k in message.rows if k >= stored)]))
    span = limits([curve for message in shown for k in message.rows if (curve := curves[k]) is not None])

    abreast = max(1, width // _NARROW)
    for message in shown:
        members = sorted(message.rows, key=lambda k: (k >= stored, records[k]["model"]))
        for at in range(0, len(members), abreast):
            together = members[at : at + abreast]
            each = min((width - len(together) + 1) // len(together), _WIDEST)
            grid = Table.grid(padding=(0, 1, 0, 0))
            grid.add_row(
                *(_panel(records[k], known.get(records[k]["processing_id"]), curves[k], span, each) for k in together)
            )
            yield grid
        if message.judged is not None:
            style = "bold red" if message.judged.choice == "none" else "bold green"
            yield Text.assemble(" best  ", (message.judged.choice, style), f"  {message.judged.reason}")
    if stored > limit:
        yield Text(f" {stored - limit} older rows are not drawn: --limit {stored} draws all.", "dim")


def _headline(rows: pa.Table) -> RenderableType:
    row = rows.slice(0, 1).to_pylist()[0]
    text = Text.assemble(" ", (row["object_id"], "bold"), f"  {row['survey']}   ")
    text.append(f"ra {row['ra']:.6f}°  dec {row['dec']:+.6f}°")
    n, nights = len(rows), len(set(rows["night"].to_pylist()))
    text.append(f"   {n} row{'s' * (n != 1)}, {nights} night{'s' * (nights != 1)}", "dim")
    return text


def _panel(
    row: dict[str, Any], model: dict[str, Any] | None, curve: Curve | None, span: tuple[float, float], width: int
) -> RenderableType:
    parts: list[RenderableType] = []
    if curve is not None:
        parts += [draw(curve, span, width - 4), Text()]
        parts += [_points(row), Text()]
    else:
        parts += [
            Text("its redshift grid is not registered" if _has_pdf(row) else "no PDF: the flags say why", "bold"),
            Text(),
        ]
    parts += [_photometry(row, model), Text(), _flags(row["flags"]), Text(), _provenance(row, model)]
    title = Text.assemble((row["model"], "bold"), f" · night {row['night']}")
    return Panel(Group(*parts), title=title, title_align="left", width=width, padding=(0, 1))


def _points(row: dict[str, Any]) -> RenderableType:
    grid = Table.grid(padding=(0, 2))
    for _ in range(3):
        grid.add_column(style="dim")
        grid.add_column(no_wrap=True)
    grid.add_row(
        "z best", Text(number(row["z_best"]), "bold"), "68 %", _interval(row, "68"), "σ", number(row["z_sigma"])
    )
    grid.add_row("median", number(row["z_median"]), "95 %", _interval(row, "95"), "odds", number(row["odds_0p03"], 2))
    grid.add_row("mode", number(row["z_mode"]), "mean", number(row["z_mean"]), "risk", number(row["z_best_risk"], 2))
    return grid


def _interval(row: dict[str, Any], level: str) -> str:
    return f"{number(row[f'z_lo{level}'])} – {number(row[f'z_hi{level}'])}"


def _photometry(row: dict[str, Any], model: dict[str, Any] | None) -> RenderableType:
    text = Text()
    bands = model["bands"] if model else [f"bit {b} " for b in range(31)]
    used = [band for b, band in enumerate(bands) if row["band_mask"] >> b & 1]
    dark = [band for b, band in enumerate(bands) if row["nondetection_mask"] >> b & 1]
    text.append("bands ", "dim").append(" ".join(used) or "none")
    if dark:
        text.append("   not detected ", "dim").append(" ".join(dark))
    if row["mag_ref"] is not None:
        reference = BAND_SETS[row["survey"]].reference if row["survey"] in BAND_SETS else "reference"
        text.append(f"   {reference} ", "dim").append(f"{row['mag_ref']:.2f} mag")
    text.append("   E(B–V) ", "dim").append("unknown" if row["ebv"] is None else f"{row['ebv']:.3f}")
    return text


def _flags(flags: int) -> RenderableType:
    if not flags:
        return Text("no flags", "dim")
    grid = Table.grid(padding=(0, 2))
    grid.add_column(style="yellow", no_wrap=True)
    grid.add_column()
    for flag in Flag:
        if flags & flag:
            grid.add_row(flag.name, DESCRIPTIONS[flag])
    return grid


def _provenance(row: dict[str, Any], model: dict[str, Any] | None) -> RenderableType:
    grid = Table.grid(padding=(0, 1))
    grid.add_column(style="dim", no_wrap=True)
    grid.add_column(overflow="fold")
    sent, done = row["kafka_timestamp"], row["ingest_time"]
    grid.add_row(
        "from", f"{row['topic']}[{row['kafka_partition']}] offset {row['kafka_offset']} row {row['kafka_row']}"
    )
    grid.add_row("", Text(f"topic id {row['topic_id']}, cluster {row['cluster_id']}", "dim"))
    grid.add_row("alert", f"{row['alert_id']}" + (f"  mjd {row['mjd']:.5f}" if row["mjd"] is not None else ""))
    if sent is not None:
        grid.add_row("sent", f"{sent:%Y-%m-%d %H:%M:%S}.{sent.microsecond // 1000:03d} UTC")
    after = f"  ({(done - sent).total_seconds():,.1f} s later)" if sent is not None else ""
    grid.add_row("computed", f"{done:%Y-%m-%d %H:%M:%S}.{done.microsecond // 1000:03d} UTC{after}")
    grid.add_row("by", f"processing {row['processing_id']}, slipher {row['slipher_version']}")
    if model:
        grid.add_row("", f"bundle {model['bundle_sha256'][:16]}, decoder {model['decoder']}")
    return grid


def _has_pdf(row: dict[str, Any]) -> bool:
    return row["pdf"] is not None or row.get("pdf_u8") is not None  # an old catalogue has no second column


def _curve(row: dict[str, Any], model: dict[str, Any] | None) -> Curve | None:
    if row["pdf"] is None or model is None or len(row["pdf"]) != len(model["z_grid"]):
        return None
    low, high, mode = (np.nan if row[name] is None else row[name] for name in ("z_lo68", "z_hi68", "z_mode"))
    return Curve(np.array(model["z_grid"]), np.array(row["pdf"], np.float64), low, high, mode)
