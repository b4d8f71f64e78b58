"""``slipher lag``: how far the catalogue is behind the broker."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from rich.console import RenderableType

    from streamer.lag.standing import Standing


def command(
    catalog: Annotated[Path, typer.Option(envvar="SLIPHER_CATALOG", help="Catalogue directory.", show_default=False)],
    brokers: Annotated[
        str | None,
        typer.Option(
            help="Bootstrap servers. Default: the broker of `slipher broker start`. Also from SLIPHER_BROKERS."
        ),
    ] = None,
    topic: Annotated[
        str | None, typer.Option(help="Only this topic.", show_default="all that the catalogue reads")
    ] = None,
    kafka: Annotated[
        list[str] | None, typer.Option(help="Further librdkafka settings, key=value; may be repeated.")
    ] = None,
    as_json: Annotated[
        bool, typer.Option("--json", help="Write a JSON list, one object per partition and model.")
    ] = False,
) -> None:
    """End, durable and lag of each partition, for each model.

    Durable is what stands in the catalogue, not what the consumer group committed.
    """
    import json
    import sys

    from rich.console import Console

    from streamer.catalogue import open_catalogue
    from streamer.cli.console import needed_brokers
    from streamer.lag.watch import Watch
    from streamer.settings import key_values

    catalogue = open_catalogue(catalog)
    rows = Watch(catalogue, needed_brokers(brokers), key_values(kafka or []), topic).look()
    if as_json:
        sys.stdout.write(json.dumps([row.as_json() for row in rows], indent=1) + "\n")
        return
    Console(highlight=False, markup=False, emoji=False).print(table(rows))


def table(rows: list[Standing]) -> RenderableType:
    """Lags as a table, with bars against the longest and a total for each model and topic."""
    import itertools

    from rich.table import Table
    from rich.text import Text

    from streamer.cli.overview import bar

    out = Table(box=None, padding=(0, 1), header_style="dim")
    out.add_column("topic", no_wrap=True)
    out.add_column("model", no_wrap=True)
    for name in ("partition", "durable", "end", "lag"):
        out.add_column(name, justify="right", no_wrap=True)
    out.add_column("")
    longest = max((row.lag or 0 for row in rows), default=0) or 1
    for (topic, model), group in itertools.groupby(rows, key=lambda row: (row.topic, row.model)):
        partitions = list(group)
        for k, row in enumerate(partitions):
            first = (topic, model) if k == 0 else ("", "")
            late = Text(bar((row.lag or 0) / longest, 10), "yellow") if row.lag is not None else Text(_why(row), "dim")
            out.add_row(*first, str(row.partition), _number(row.durable), _number(row.end), _number(row.lag), late)
        if len(partitions) > 1:
            total = sum(row.lag or 0 for row in partitions)
            out.add_row("", "", "all", "", "", Text(f"{total:,}", "bold green" if total == 0 else "bold"), "")
    return out


def _why(row: Standing) -> str:
    return "not read yet" if row.durable is None else "not at the broker"


def _number(value: int | None) -> str:
    return "–" if value is None else f"{value:,}"
