"""``slipher catalog retire``: a model was replaced, and what it does not read any more is no lag."""

from __future__ import annotations

from pathlib import Path

import typer

from streamer.cli.console import CATALOG, plain_console


def command(
    catalog: Path = CATALOG,
    model: str = typer.Option(..., "--model", help="Name in the column model, or processing id.", show_default=False),
    topic: str | None = typer.Option(None, "--topic", help="Only of this topic.", show_default="all that it reads"),
    undo: bool = typer.Option(False, "--undo", help="Look at it again."),
) -> None:
    """Leave a model that was replaced out of lag, monitor and alerts. Its rows stay, and nothing else changes.

    Stop its workers first: a model that claims or writes anything after it was retired is back by itself. `slipher lag` says how
    many are left out.
    """
    import time
    from importlib.metadata import version

    from streamer.catalogue import open_catalogue
    from streamer.retire import retire
    from streamer.sink.catalogue import ensure

    open_catalogue(catalog)
    ensure(catalog)  # a catalogue of an older version has no table of operations
    what = "is looked at again" if undo else "is retired, until it writes again"
    for reader in retire(catalog, model, topic, undo, version("slipher"), time.time_ns() // 1_000_000):
        plain_console().print(f"{reader.model} of {reader.topic} {what}.", soft_wrap=True)
