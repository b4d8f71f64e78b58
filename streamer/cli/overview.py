"""A catalogue at a glance, for the terminal."""

import pyarrow as pa
from rich.console import Group, RenderableType
from rich.padding import Padding
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from schemas.flags import names
from streamer.catalogue import Catalogue
from streamer.reasons import MEANING

HEAD_COLUMNS = ["night", "model", "object_id", "z_median", "z_lo68", "z_hi68", "odds_0p03", "flags", "ingest_time"]
_EIGHTHS = " ▏▎▍▌▋▊▉█"
_BAR = 20  # characters


def overview(catalogue: Catalogue) -> RenderableType:
    """Totals, rows by night and model with bars, models, exceptions."""
    info = catalogue.info()
    facts = Table.grid(padding=(0, 2))
    facts.add_column(style="dim")
    facts.add_column()
    facts.add_row("rows", Text(f"{info.rows:,}", "bold"))
    facts.add_row(
        "nights", f"{len(info.nights)}" + (f"  ({info.nights[0]} to {info.nights[-1]})" if len(info.nights) > 1 else "")
    )
    facts.add_row("newest row", f"{info.newest:%Y-%m-%d %H:%M:%S} UTC" if info.newest else "none yet")
    size = f"{_size(info.size)} in {_count(info.files, 'file')}" + (
        f", {info.bytes_a_row:,.0f} bytes a row" if info.rows else ""
    )
    facts.add_row("on disk", size)
    facts.add_row("log", f"version {info.version}")
    parts: list[RenderableType] = [
        Panel(facts, title=Text(str(catalogue.root), "bold"), title_align="left", expand=False)
    ]
    if info.rows:
        parts += [_heading("Rows by night and model"), _nights(info.counts)]
    parts += [_heading("Models"), _models(catalogue.models())]
    parts += [_heading("Offsets without a row"), _exceptions(info.exceptions)]
    return Group(*parts)


def head_table(rows: pa.Table) -> RenderableType:
    """Rows as lines: object, redshift and interval, odds, flags by name. A night or model common to all stands above."""
    common = {name: set(rows[name].to_pylist()) for name in ("night", "model")}
    varying = [name for name, values in common.items() if len(values) > 1]
    table = _plain_table()
    for name in ("object", *varying):
        table.add_column(name, no_wrap=True)
    table.add_column("z", justify="right", no_wrap=True)
    table.add_column("68 %", no_wrap=True)
    table.add_column("odds", justify="right", no_wrap=True)
    table.add_column("flags", ratio=1)
    for row in rows.to_pylist():
        flags = names(row["flags"])
        table.add_row(
            row["object_id"],
            *(row[name] for name in varying),
            number(row["z_median"]),
            f"{number(row['z_lo68'])}–{number(row['z_hi68'])}" if row["z_lo68"] is not None else "",
            number(row["odds_0p03"], 2),
            # By name where there is room
            " ".join(flags).lower() if len(varying) < 2 else str(len(flags) or ""),
        )
    same = [next(iter(values)) for name, values in common.items() if name not in varying]
    return Group(Padding(Text(" · ".join(same), "bold"), (0, 1)), table) if same else table


def number(value: float | None, digits: int = 3) -> str:
    """A number for a column; a dash where there is none."""
    return "–" if value is None else f"{value:.{digits}f}"


def _nights(counts: pa.Table) -> RenderableType:
    table = _plain_table()
    table.add_column("night", no_wrap=True)
    table.add_column("model", no_wrap=True)
    table.add_column("rows", justify="right")
    table.add_column("")
    table.add_column("files", justify="right")
    table.add_column("B/row", justify="right")
    most = max(counts["rows"].to_pylist())
    before = ""
    for row in counts.to_pylist():
        night = row["night"] if row["night"] != before else ""
        before = row["night"]
        share = f"{row['bytes'] / row['rows']:,.0f}" if row["rows"] else ""
        table.add_row(
            night, row["model"], f"{row['rows']:,}", Text(bar(row["rows"] / most), "cyan"), f"{row['files']:,}", share
        )
    return table


def _models(models: pa.Table) -> RenderableType:
    table = _plain_table()
    for name in ("model", "bands", "grid", "decoder", "bundle", "registered"):
        table.add_column(name, no_wrap=True)
    for row in models.to_pylist():
        grid = row["z_grid"]
        table.add_row(
            row["model"],
            "".join(row["bands"]) if all(len(b) == 1 for b in row["bands"]) else " ".join(row["bands"]),
            f"{len(grid)} × {grid[0]:.2g}–{grid[-1]:.3g}" if grid else "",
            row["decoder"],
            row["bundle_sha256"][:8],
            f"{row['registered']:%Y-%m-%d}",
        )
    return table if len(models) else Padding(Text("none registered", "dim"), (0, 2))


def _exceptions(exceptions: pa.Table) -> RenderableType:
    if not len(exceptions):
        return Padding(Text("none", "dim"), (0, 2))
    table = _plain_table()
    table.add_column("reason", no_wrap=True)
    table.add_column("entries", justify="right")
    table.add_column("offsets", justify="right")
    table.add_column("meaning", ratio=1, style="dim")
    for row in exceptions.to_pylist():
        table.add_row(row["reason"], f"{row['entries']:,}", f"{row['offsets']:,}", MEANING.get(row["reason"], ""))
    return table


def bar(share: float, width: int = _BAR) -> str:
    """A bar of `share` of `width` characters, in eighths; what is not zero shows."""
    eighths = max(round(share * width * 8), 1 if share > 0 else 0)
    full, rest = divmod(eighths, 8)
    return "█" * full + (_EIGHTHS[rest] if rest else "")


def _plain_table() -> Table:
    return Table(box=None, pad_edge=True, padding=(0, 1), header_style="dim")


def _heading(text: str) -> RenderableType:
    return Padding(Text(text, "bold"), (1, 0, 0, 1))


def _count(n: int, noun: str) -> str:
    return f"{n:,} {noun}" + ("" if n == 1 else "s")


def _size(size: float) -> str:
    for unit in ("B", "kB", "MB", "GB"):
        if size < 1000:
            return f"{size:,.0f} {unit}" if unit == "B" else f"{size:,.1f} {unit}"
        size /= 1000
    return f"{size:,.1f} TB"
