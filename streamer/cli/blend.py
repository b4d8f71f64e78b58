"""``slipher blend``: a forest and an image model as one estimate, with the weight that held-out galaxies choose."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from streamer.cli.console import CATALOG, plain_console

if TYPE_CHECKING:
    from rich.console import RenderableType

    from models.pool_choice import Choice


def command(
    catalog: Path = CATALOG,
    truth: Path = typer.Argument(
        ..., metavar="TABLE", help="Parquet or CSV with object_id and z: true redshifts.", show_default=False
    ),
    out: Path = typer.Option(..., "--out", "-o", metavar="BLEND", help="The file to write.", show_default=False),
    forest: str | None = typer.Option(
        None, "--forest", metavar="MODEL", help="Name of the forest.", show_default="the newest that has rows"
    ),
    images: str | None = typer.Option(
        None, "--images", metavar="MODEL", help="Name of the image model.", show_default="the newest that has rows"
    ),
    night: str | None = typer.Option(
        None, "--night", metavar="DATE", help="Only this observing night.", show_default=False
    ),
    score: str = typer.Option("crps", "--score", help="What chooses the weight: crps or cde."),
    anyway: bool = typer.Option(False, "--anyway", help="Write the file even where the blend does not help."),
    json: bool = typer.Option(False, "--json", help="All figures, for programs."),
    seed: int = typer.Option(1, "--seed", help="Of folds and bootstrap errors."),
) -> None:
    """Average a forest's and an image model's PDFs, with a weight chosen on galaxies with known redshifts.

    The galaxies must be in neither model's training set. All figures of the blend are of galaxies that chose neither weight nor
    map. Exit 0: it helps, and the file is written; 1: it does not, by two standard errors, and nothing is written.
    """
    import json as jsons
    import sys

    from schemas.errors import UserError
    from streamer.together import open_together

    if not out.parent.is_dir():
        raise UserError(f"There is no directory {out.parent} to write {out.name} into.")
    catalogue = open_together(catalog, None, forest, images)
    try:
        from streamer.blending import blend, of_catalogue
    except ImportError as error:
        raise UserError(f"A blend needs {error.name}: pip install 'slipher[train]'.") from error
    from models import bundle as bundles

    held = of_catalogue(catalogue, truth, night, seed=seed)
    chosen, file = blend(held, catalogue, score, seed)
    written = chosen.helps or anyway
    if written:
        bundles.write(file, out)
    if json:
        sys.stdout.write(jsons.dumps({**file.card, "written": written}, indent=1) + "\n")
    else:
        console = plain_console()
        for part in view(chosen, *catalogue.both, held.left_out):
            console.print(part)
        if written:
            console.print(f"{out}  blend {file.card['sha256'][:8]}", soft_wrap=True, style="bold")
    if not written:
        raise typer.Exit(1)


def view(chosen: Choice, forest: str, images: str, left_out: dict[str, int]) -> Iterator[RenderableType]:
    """The figures for a terminal of 80 columns."""
    from rich import box
    from rich.table import Table
    from rich.text import Text

    yield Text(f"{chosen.n:,} galaxies with redshifts, both models in their domain", style="bold")
    for why, count in left_out.items():
        if count:
            yield Text(f"  left out: {count:,} {why}", style="dim")
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    table.add_column("")
    for name in ("CRPS", "CDE loss", "sigma MAD", "|e| > 0.15", "PIT KS"):
        table.add_column(name, justify="right", no_wrap=True)
    lines = [(forest, chosen.forest), (images, chosen.images)]
    lines += [("mean, out of fold", chosen.mean), ("recalibrated", chosen.recalibrated)]
    kept = "mean, out of fold" if chosen.slope is None else "recalibrated"
    for name, found in lines:
        table.add_row(
            name,
            f"{found['crps']:.5f}",
            f"{found['cde']:.3f}",
            f"{found['sigma_mad']:.5f}",
            f"{found['outliers_15']:.2%}",
            f"{found['pit_ks']:.4f}",
            style="bold" if name == kept else None,
        )
    yield table
    yield Text(f"weight of the image model   {chosen.weight:.3f} ± {chosen.error:.3f}, by {chosen.score.upper()}")
    alone = {"forest": forest, "images": images}[chosen.better]
    yield Text(f"CRPS of the blend           {chosen.ratio:.4f} ± {chosen.ratio_error:.4f} of that of {alone}")
    if chosen.helps:
        yield Text(
            f"The blend helps: {chosen.gain / max(chosen.gain_error, 1e-30):.1f} standard errors.", style="green"
        )
        return
    yield Text(
        f"The blend does not help: its {chosen.score.upper()} is lower by {chosen.gain:.2g} ± {chosen.gain_error:.2g}, "
        f"less than two standard errors. {alone} alone is as good; --anyway writes the blend all the same.",
        style="yellow",
    )
