"""``slipher model``: look at a model bundle."""

from __future__ import annotations

from pathlib import Path

import typer

from streamer.cli.console import group

app = group("Look at a model bundle.")


@app.callback()
def model() -> None:
    """Look at a model bundle."""


@app.command()
def show(
    bundle: Path = typer.Argument(..., metavar="BUNDLE", help="The bundle's file.", show_default=False),
    json: bool = typer.Option(False, "--json", help="The whole card, for programs."),
) -> None:
    """The model card: what it was trained on, what it wants, how good it is."""
    from rich.console import Console

    from models import bundle as bundles
    from streamer.cli.model_card import model_card

    read = bundles.read(bundle)
    console = Console()
    if json:
        typer.echo(bundles.canonical(read.card))
        return
    if read.card.get("kind") == "pool":
        from streamer.cli.blend import view

        console.print(f"blend-{read.card['survey']}-{read.card['sha256'][:8]}", style="bold", highlight=False)
        for part in view(read.card):
            console.print(part, highlight=False)
        return
    for part in model_card(read):
        console.print(part)
