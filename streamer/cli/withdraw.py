"""``slipher catalog withdraw``: take the rows of one night by one model out, for good and on record."""

from __future__ import annotations

from pathlib import Path

import typer

from streamer.cli.console import CATALOG, plain_console


def command(
    catalog: Path = CATALOG,
    night: str = typer.Option(..., "--night", metavar="DATE", help="Observing night, YYYY-MM-DD.", show_default=False),
    model: str = typer.Option(..., "--model", help="Name in the column model.", show_default=False),
    why: str = typer.Option("no reason given", "--why", help="Your reason; it stands in the ledger."),
    yes: bool = typer.Option(False, "--yes", help="Do not ask."),
) -> None:
    """Take the rows of one night by one model out, for good.

    Each offset is listed as WITHDRAWN, so that `slipher catalog verify` still adds up. This processing never writes there
    again; another one may be replayed there. Run again, it finishes what was interrupted. It is safe beside live writers;
    the files themselves stay until `slipher catalog vacuum`.
    """
    from importlib.metadata import version

    from streamer.care.withdraw import withdraw
    from streamer.catalogue import open_catalogue
    from streamer.run import now_ms
    from streamer.sink.catalogue import ensure

    console = plain_console()
    counts = open_catalogue(catalog).info().counts.to_pylist()
    rows = sum(c["rows"] for c in counts if (c["night"], c["model"]) == (night, model))
    if rows and not yes:
        typer.confirm(f"Take {rows:,} rows of the night {night} by {model} out of {catalog} for good?", abort=True)
    ensure(catalog)  # a catalogue of an older version has no table of operations
    done = withdraw(catalog, night, model, why, version("slipher"), now_ms)
    console.print(f"{done.rows:,} rows of {done.offsets:,} messages are withdrawn.", soft_wrap=True)
    if done.left:
        text = f"{done.left:,} rows came meanwhile and stand: run it again to withdraw them too."
        console.print(text, soft_wrap=True, style="yellow")
