"""``slipher plot``: pictures of what a night gave, and of how networks learnt."""

from pathlib import Path

import typer

from streamer.cli.console import group

app = group("Pictures of a night.")


@app.callback()
def plot() -> None:
    """Pictures of a night."""


@app.command()
def night(
    catalog: Path = typer.Argument(..., metavar="CATALOG", help="The catalogue's directory.", show_default=False),
    date: str | None = typer.Option(
        None, "--night", metavar="DATE", help="Observing night.", show_default="the newest"
    ),
    model: str | None = typer.Option(None, "--model", help="Name of the model.", show_default="the one with most rows"),
    truth: Path | None = typer.Option(
        None,
        "--truth",
        metavar="TABLE",
        help="Parquet or CSV with object_id and z: true redshifts.",
        show_default=False,
    ),
    out: Path = typer.Option(Path("plots"), "--out", metavar="DIR", help="Where the PNG files go."),
) -> None:
    """Draw a night: redshifts, n(z), calibration, example PDFs, sky, and night.png, which shows them all."""
    import importlib.util

    from schemas.errors import UserError

    if importlib.util.find_spec("matplotlib") is None:
        raise UserError("Pictures need matplotlib, which is not installed: `pip install 'slipher[plots]'`.")
    from rich.console import Console

    from streamer.catalogue import open_catalogue
    from streamer.night_plots import draw_night

    console = Console(highlight=False, markup=False, emoji=False)
    for path in draw_night(open_catalogue(catalog), date, model, truth, out):
        console.print(str(path), soft_wrap=True)


@app.command()
def training(
    bundle: Path = typer.Argument(..., metavar="BUNDLE", help="Image networks.", show_default=False),
    out: Path = typer.Option(Path("training.png"), "--out", metavar="FILE", help="PNG, PDF or SVG."),
) -> None:
    """Draw how image networks learnt: the loss, and the CRPS of the held-out part."""
    from rich.console import Console

    from models import bundle as bundles
    from streamer.curves_plot import check_place, draw_curves

    check_place(out)
    draw_curves(bundles.read(bundle).card, out)
    Console(highlight=False, markup=False, emoji=False).print(str(out), soft_wrap=True)
