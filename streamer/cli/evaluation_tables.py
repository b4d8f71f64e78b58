"""The figures of an evaluation as tables on the terminal."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from rich import box
from rich.table import Table
from rich.text import Text

from streamer.report_figures import FIGURES, GROUPS, LINES, form

NARROW = 102  # columns of a terminal that hold every figure of a line
OPTIONAL = {"bias", "outliers_15", "coverage_68"}  # left out on narrower ones


def draw(figures: dict[str, Any], width: int = NARROW) -> Iterator[Table | Text]:
    """Headline figures, then the lines, then the verdict, for a terminal of `width` columns."""
    model, rows, n = figures["model"], figures["table"]["rows"], figures["overall"]["n"]
    title = f"{model['name']} on {figures['table']['name']}: {n:,} galaxies of {rows:,}"
    yield Text(title, style="bold")
    yield overall_table(figures)
    for key, title in GROUPS:
        if figures[key]:
            yield Text(title.format(reference=model["reference"], point=figures["point"]), style="bold")
            yield lines_table(figures[key], width)
    gate = figures["gate"]
    style = {True: "bold green", False: "bold red", None: "yellow"}[gate["beaten"]]
    yield Text(gate["sentence"], style="yellow" if gate.get("lost_at") else style)
    for sentence in figures["remarks"]:
        yield Text(sentence, style="yellow")


def overall_table(figures: dict[str, Any]) -> Table:
    """The model's figures with their errors beside trainZ's."""
    found = figures["overall"]
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    table.add_column(f"e = ({figures['point']} - z) / (1 + z)")
    table.add_column("this model", justify="right")
    table.add_column("±", justify="right", style="dim")
    table.add_column("trainZ", justify="right", style="dim")
    for key, name, pattern in FIGURES:
        error = found.get("errors", {}).get(key)
        table.add_row(
            name,
            form(pattern, found.get(key)),
            form(pattern.replace("+", ""), error) if error is not None else "",
            form(pattern, found.get("trainz", {}).get(key)),
        )
    return table


def lines_table(lines: list[dict[str, Any]], width: int) -> Table:
    """A line per bin; trainZ dim beside the figures that it must lose, and the model red where it does not."""
    columns = [column for column in LINES if width >= NARROW or column[0] not in OPTIONAL]
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, collapse_padding=True)
    table.add_column("", no_wrap=True)
    table.add_column("n", justify="right")
    for _, heading, _, gated in columns:
        table.add_column(heading, justify="right")
        if gated:
            table.add_column("trainZ", justify="right", style="dim")
    for line in lines:
        cells = []
        for key, _, pattern, gated in columns:
            cell = Text(form(pattern, line.get(key)))
            cells.append(cell)
            if gated:
                beside = line.get("trainz", {}).get(key)
                if beside is not None and line.get(key, beside) >= beside:
                    cell.stylize("bold red")
                cells.append(Text(form(pattern, beside)))
        table.add_row(line["label"], f"{line['n']:,}", *cells)
    return table
