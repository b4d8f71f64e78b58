"""``slipher compare``: two models over the same night, row beside row."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import typer
from rich import box
from rich.table import Table
from rich.text import Text

from streamer.cli import options
from streamer.cli.console import CATALOG


def command(
    catalog: Path = CATALOG,
    model_a: str = typer.Argument(..., metavar="MODEL_A", help="The one before.", show_default=False),
    model_b: str = typer.Argument(..., metavar="MODEL_B", help="The one after.", show_default=False),
    night: str | None = typer.Option(
        None, "--night", metavar="DATE", help="Observing night.", show_default="the newest that both have"
    ),
    movers: int = typer.Option(10, "--movers", min=0, help="How many of the rows that moved most to name."),
    json: bool = typer.Option(False, "--json", help="All figures, for programs."),
    blend: options.Blend = None,
    plot: Path | None = typer.Option(
        None, "--plot", metavar="FILE", help="Draw redshifts, shifts and n(z): .png, .pdf or .svg.", show_default=False
    ),
) -> None:
    """Compare two models over the same night.

    A model may also be called best: the best of the newest image model and the newest forest, row by row; with --blend also
    blend.

    Rows are matched by the message they came from, or else by object. Shift is (z_B - z_A) / (1 + z_A) of the medians; PDFs
    are compared by the greatest distance of their distribution functions (KS).
    """
    import json as jsons
    import sys

    from rich.console import Console

    from streamer.catalogue import Catalogue, open_catalogue
    from streamer.comparison import compare

    if plot is not None:
        from streamer.comparison_plot import check_place, draw

        check_place(plot)
    if blend is not None or {model_a, model_b} & {"best", "blend"}:
        from streamer.together import open_together

        catalogue: Catalogue = open_together(catalog, blend)
    else:
        catalogue = open_catalogue(catalog)
    found = compare(catalogue, model_a, model_b, night, movers)
    figures = found.figures()
    if plot is not None:
        draw(found, plot)
    if json:
        sys.stdout.write(jsons.dumps(figures, indent=1) + "\n")
        return
    console = Console(highlight=False, markup=False, emoji=False)
    for part in view(figures):
        console.print(part)
    if plot is not None:
        console.print(str(plot), soft_wrap=True, style="bold")


def view(figures: dict[str, Any]) -> Iterator[Table | Text]:
    """The figures as tables for a terminal of 80 columns."""
    rows, redshifts, shift, pdf = (figures[key] for key in ("rows", "redshifts", "shift", "pdf"))
    yield Text(f"A = {figures['models'][0]}, B = {figures['models'][1]}, night {figures['night']}", style="bold")
    table = Table(box=None, show_header=False, padding=(0, 2, 0, 0))
    table.add_column(style="dim")
    table.add_column(justify="right")
    table.add_column(style="dim")
    by = (
        f"{rows['by_object']:,} of them by object id, the rest by message"
        if rows["by_object"]
        else "matched by message"
    )
    table.add_row("rows in both", f"{rows['both']:,}", by)
    table.add_row("only in A", f"{rows['only_a']:,}", "")
    table.add_row("only in B", f"{rows['only_b']:,}", "")
    table.add_row("a redshift in both", f"{redshifts['both']:,}", "")
    table.add_row("redshift gained", f"{redshifts['gained']:,}", "none in A, one in B")
    table.add_row("redshift lost", f"{redshifts['lost']:,}", "one in A, none in B")
    table.add_row("shift: bias", _number(shift["bias"], "{:+.5f}"), "median of (z_B - z_A) / (1 + z_A)")
    table.add_row("shift: sigma MAD", _number(shift["sigma_mad"], "{:.5f}"), "")
    table.add_row("shift: outliers", _number(shift["outliers_15"], "{:.2%}"), "|shift| > 0.15")
    table.add_row("PDFs: KS", _number(pdf["ks_median"], "{:.4f}"), f"median of {pdf['pairs']:,} pairs")
    table.add_row("PDFs: KS, 99 %", _number(pdf["ks_99"], "{:.4f}"), "")
    table.add_row("PDFs: area", _number(pdf["area_median"], "{:.4f}"), "median area between distribution functions")
    yield table
    if figures["flags"]:
        yield _flags(figures["flags"])
    if figures["movers"]:
        yield _movers(figures["movers"])


def _flags(flags: list[dict[str, Any]]) -> Table:
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    table.add_column("flag")
    for name in ("in A", "in B", "gained", "lost"):
        table.add_column(name, justify="right")
    for line in flags:
        gained = Text(f"{line['gained']:,}", "yellow" if line["gained"] else "dim")
        lost = Text(f"{line['lost']:,}", "green" if line["lost"] else "dim")
        table.add_row(line["flag"].lower(), f"{line['a']:,}", f"{line['b']:,}", gained, lost)
    return table


def _movers(movers: list[dict[str, Any]]) -> Table:
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    table.add_column("moved most", no_wrap=True)
    table.add_column("where", no_wrap=True, style="dim")
    for name in ("z A", "z B", "shift", "KS"):
        table.add_column(name, justify="right", no_wrap=True)
    table.add_column("flags", ratio=1, style="dim")
    for row in movers:
        flags = [f"+{name.lower()}" for name in row["flags_gained"]] + [
            f"-{name.lower()}" for name in row["flags_lost"]
        ]
        table.add_row(
            row["object_id"],
            f"{row['partition']}:{row['offset']}",
            f"{row['z_a']:.3f}",
            f"{row['z_b']:.3f}",
            f"{row['shift']:+.3f}",
            _number(row["ks"], "{:.2f}"),
            " ".join(flags),
        )
    return table


def _number(value: float | None, pattern: str) -> str:
    return pattern.format(value) if value is not None else "none"
