"""``slipher simulate``: galaxies of a simulated sky, with stamps, photometry and the truth."""

from __future__ import annotations

from pathlib import Path

import typer


def command(
    out: Path = typer.Argument(..., metavar="TABLE", help="Parquet, or Arrow (.arrow, .feather).", show_default=False),
    galaxies: int = typer.Option(10_000, "--galaxies", "-n", min=1, help="How many."),
    survey: str = typer.Option("sdss", "--survey", help="Who looks at them: lsst, sdss, euclid."),
    seed: int = typer.Option(1, "--seed", min=0, help="The same seed is the same sky, on any number of threads."),
    size: int | None = typer.Option(
        None, "--size", min=8, help="Pixels along a side of a stamp.", show_default="the survey's own, 32 or 64"
    ),
    threads: int | None = typer.Option(None, "--threads", min=1, help="At once.", show_default="all cores"),
) -> None:
    """Simulate galaxies with known physics as a survey would see them.

    Stamps with noise and their variance, the photometry that is measured from these very stamps, and what is true of each
    galaxy: redshift, stellar mass, type, bar. Train on it (`slipher train --images`), measure a model on another seed
    (`slipher evaluate`), or send it as a night, at any rate and over and over (`slipher publish --rate --repeat`). The file
    appears when it is whole; Ctrl-C leaves none.
    """
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    from schemas.errors import UserError
    from streamer.simulation import check_place, write_sky

    check_place(out)
    from models.sky.surveys import sky_survey

    try:
        seen_by = sky_survey(survey)
    except KeyError as error:
        raise UserError(f"{error.args[0].capitalize()}.") from error
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as progress:
        task = progress.add_task(f"{survey}, seed {seed}", total=galaxies)
        write_sky(out, seen_by, galaxies, seed, size, threads, lambda done: progress.update(task, completed=done))
    side = seen_by.size if size is None else size
    Console(highlight=False).print(
        f"{out}: {galaxies:,} galaxies in {' '.join(seen_by.bands.bands)}, stamps of {side} x {side} pixels, "
        f"{out.stat().st_size / 1e6:,.0f} MB",
        soft_wrap=True,
    )
