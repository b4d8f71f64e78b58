"""``slipher blend``: a forest and an image model as one estimate, with the weight that held-out galaxies choose."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from streamer.cli import options
from streamer.cli.console import plain_console

if TYPE_CHECKING:
    from rich.console import RenderableType

    from streamer.blending import HeldOut


def command(
    table: Path = typer.Argument(
        ...,
        metavar="TABLE",
        help="Galaxies with redshifts: photometry and stamps; with --catalog object_id and z.",
        show_default=False,
    ),
    out: Path = typer.Option(..., "--out", "-o", metavar="BLEND", help="The file to write.", show_default=False),
    forest: str | None = typer.Option(
        None,
        "--forest",
        metavar="MODEL",
        help="Bundle of the forest; with --catalog its name there.",
        show_default=False,
    ),
    images: str | None = typer.Option(
        None,
        "--images",
        metavar="MODEL",
        help="Bundle of the image model; with --catalog its name.",
        show_default=False,
    ),
    catalog: Path | None = typer.Option(
        None,
        "--catalog",
        metavar="CATALOG",
        help="Take the rows that both models gave there: without names, the newest forest and the newest image model.",
        show_default=False,
    ),
    night: options.OfNight = None,
    score: str = typer.Option("crps", "--score", help="What chooses the weight: crps or cde."),
    anyway: bool = typer.Option(False, "--anyway", help="Write the file even where the blend does not help."),
    json: bool = typer.Option(False, "--json", help="All figures, for programs."),
    not_observed: bool = typer.Option(
        False, "--nan-is-not-observed", help="99, -99 and NaN: not observed, not too faint."
    ),
    device: options.Device = "auto",
    seed: int = typer.Option(1, "--seed", help="Of folds and bootstrap errors."),
) -> None:
    """Average a forest's and an image model's PDFs, with a weight chosen on galaxies with known redshifts.

    The galaxies must be in neither model's training set. All figures of the blend are of galaxies that chose neither weight nor
    map. Exit 0: it helps, and the file is written; 1: it does not, by two standard errors, and nothing is written.
    """
    import json as jsons
    import sys

    from schemas.errors import UserError

    if not out.parent.is_dir():
        raise UserError(f"There is no directory {out.parent} to write {out.name} into.")
    try:
        from streamer import blending
    except ImportError as error:
        raise UserError(f"A blend needs {error.name}: pip install 'slipher[train]'.") from error
    from models import bundle as bundles

    if catalog is not None:
        from streamer.sink.store import place
        from streamer.together import open_together

        held = blending.of_catalogue(open_together(place(catalog), None, forest, images), table, night, seed=seed)
    else:
        if forest is None or images is None or night is not None:
            raise UserError(
                "Name both bundles, --forest FILE --images FILE, or the catalogue that has their rows, --catalog."
            )
        held = _estimated(Path(forest), Path(images), table, not_observed, device, seed)
    chosen, file = blending.blend(held, score, seed)
    written = chosen.helps or anyway
    if written:
        bundles.write(file, out)
    if json:
        sys.stdout.write(jsons.dumps({**file.card, "written": written, "warnings": held.warnings}, indent=1) + "\n")
    else:
        console = plain_console()
        for part in view(file.card):
            console.print(part)
        for warning in held.warnings:
            console.print(warning, style="yellow")
        if written:
            console.print(f"{out}  blend {file.card['sha256'][:8]}", soft_wrap=True, style="bold")
    if not written:
        raise typer.Exit(1)


def _estimated(forest: Path, images: Path, table: Path, not_observed: bool, device: str, seed: int) -> HeldOut:
    """What both bundles say of the table, with a progress bar."""
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

    from schemas.batch import BandState
    from streamer.blending import of_bundles

    missing = BandState.NOT_OBSERVED if not_observed else BandState.NON_DETECTED
    columns = (TextColumn("{task.description}"), BarColumn(), TimeElapsedColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as progress:
        task = progress.add_task("estimating", total=1.0)
        return of_bundles(
            forest,
            images,
            table,
            missing,
            device,
            seed=seed,
            progress=lambda done: progress.update(task, completed=done),
        )


def view(card: dict[str, Any]) -> Iterator[RenderableType]:
    """What a blend's file says, for a terminal of 80 columns."""
    from rich import box
    from rich.table import Table
    from rich.text import Text

    held = card["held_out"]
    forest, images = card["forest"]["model"], card["images"]["model"]
    yield Text(f"{held['n']:,} galaxies with redshifts, both models in their domain", style="bold")
    for why, count in held["left_out"].items():
        if count:
            yield Text(f"  left out: {count:,} {why}", style="dim")
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    table.add_column("")
    for name in ("CRPS", "CDE loss", "sigma MAD", "|e| > 0.15", "PIT KS"):
        table.add_column(name, justify="right", no_wrap=True)
    lines = [(forest, held["forest"]), (images, held["images"])]
    lines += [("mean, out of fold", held["mean"]), ("recalibrated", held["recalibrated"])]
    kept = "recalibrated" if held["map"] else "mean, out of fold"
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
    yield Text(f"weight of the image model   {held['weight']:.3f} ± {held['error']:.3f}, by {held['score'].upper()}")
    alone = {"forest": forest, "images": images}[held["better"]]
    yield Text(f"CRPS of the blend           {held['ratio']:.4f} ± {held['ratio_error']:.4f} of that of {alone}")
    if held["helps"]:
        yield Text(
            f"The blend helps: {held['gain'] / max(held['gain_error'], 1e-30):.1f} standard errors.", style="green"
        )
        return
    gain, by = held["gain"], f"{abs(held['gain']):.2g} ± {held['gain_error']:.2g}"
    found = f"lower by {by}, less than two standard errors" if gain >= 0 else f"higher by {by}"
    yield Text(
        f"The blend does not help: its {held['score'].upper()} is {found}. {alone} alone is as good; "
        "--anyway writes the blend all the same.",
        style="yellow",
    )
