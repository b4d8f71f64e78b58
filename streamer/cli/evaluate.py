"""``slipher evaluate``: how good a model is on galaxies with known redshifts."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from streamer.cli import options

if TYPE_CHECKING:
    from models.estimator import Estimator


def command(
    bundle: Path = typer.Argument(..., metavar="BUNDLE", help="The model's bundle.", show_default=False),
    table: Path = typer.Argument(
        ..., metavar="TABLE", help="Photometry with redshifts: Parquet, CSV, Feather, HDF5, FITS.", show_default=False
    ),
    json: bool = typer.Option(False, "--json", help="All figures, for programs."),
    report: Path | None = typer.Option(
        None, "--report", metavar="OUT.html", help="Write a report with pictures, one file.", show_default=False
    ),
    mask: list[str] = typer.Option(
        [],
        "--mask",
        metavar="BANDS",
        help="Also as if only these bands had been observed: gri. Repeat it for more.",
        show_default=False,
    ),
    not_observed: bool = typer.Option(
        False, "--nan-is-not-observed", help="99, -99 and NaN: not observed, not too faint."
    ),
    device: options.Device = "auto",
    point: str = typer.Option("z_median", "--point", help="The estimate to measure: z_median, z_mode, z_mean, z_best."),
    seed: int = typer.Option(1, "--seed", help="Of the bootstrap errors."),
) -> None:
    """Measure a model on galaxies with known redshifts.

    Bias, scatter, outliers, CDE loss, CRPS, calibration and coverage: overall, by magnitude, by redshift and by the bands
    observed, with trainZ (every galaxy gets the n(z) of the training set) beside every line. It says so where a model does not
    beat that. Image networks want a table with stamps; a galaxy without one is a row with a flag, and no redshift.
    """
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

    from models import bundle as bundles
    from models import estimator as estimators
    from models import evaluation, table_checks
    from schemas import photometry_table
    from schemas.bands import of_card
    from schemas.batch import BandState
    from schemas.errors import UserError
    from streamer.cli.evaluation_tables import draw

    if point not in evaluation.POINTS:
        raise UserError(f"There is no estimate {point}: there are {', '.join(evaluation.POINTS)}.")
    if report is not None:
        from streamer.report import check_place

        check_place(report)
    read = bundles.read(bundle)
    model = estimators.of(read, str(bundle), device)
    _say_where(model, bundle, device)
    masks = {word: _bands(word, model.bands, bundle) for word in mask}
    missing = BandState.NOT_OBSERVED if not_observed else BandState.NON_DETECTED
    found = photometry_table.read(
        table, of_card(read.card), want_redshift=True, missing=missing, stamps=model.kind == "images"
    )
    galaxies = found.with_redshift()
    table_checks.check_units(galaxies, read.card, str(table))
    if model.kind == "images":
        table_checks.check_stamps(galaxies, read.card, str(table))

    columns = (TextColumn("{task.description}"), BarColumn(), TimeElapsedColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as progress:
        task = progress.add_task("estimating", total=1.0 + len(masks))

        def score(truth: photometry_table.PhotometryTable, done: int) -> evaluation.Scored:
            return evaluation.score(
                model, read, truth, point, lambda part: progress.update(task, completed=done + part)
            )

        scored = score(galaxies, 0)
        with_bands = [
            {"label": f"only {word}", "bands": word, **score(galaxies.only(seen), k + 1).figures()}
            for k, (word, seen) in enumerate(masks.items())
        ]
        progress.update(task, description="bootstrap", total=None)
        figures = {
            "model": {
                "name": f"{model.kind}-{model.survey}-{model.sha256[:8]}",
                "sha256": model.sha256,
                "survey": model.survey,
                "bands": list(model.bands),
                "reference": read.card["reference"],
            },
            "table": {"name": table.name, "rows": len(found), "with_redshift": len(galaxies)},
            "point": point,
            "grid_step": float(model.grid[1] - model.grid[0]),
            **evaluation.evaluate(scored, model.bands, seed, with_bands),
            "remarks": evaluation.remarks(scored, read),
        }
        if report is not None:
            from streamer.report import write_report

            progress.update(task, description="report")
            write_report(report, scored, figures, read)
    if json:
        import json as text

        typer.echo(text.dumps(figures, allow_nan=False))
        return
    console = Console(highlight=False, markup=False, emoji=False)
    for part in draw(figures, console.width):
        console.print(part)
    if report is not None:
        console.print(f"{report}  {report.stat().st_size / 1e6:.1f} MB", soft_wrap=True)


def _say_where(model: Estimator, bundle: Path, device: str) -> None:
    """Take the device of image networks, before any table is read, and say which it is."""
    from models.estimator import ON_DEVICES
    from schemas.errors import UserError

    if model.kind not in ON_DEVICES:
        if device != "auto":
            raise UserError(
                f"--device {device} is for models of kind {', '.join(ON_DEVICES)}, and {bundle} is of kind {model.kind}."
            )
        return
    from rich.console import Console

    from models.images.estimator import ImageEstimator

    assert isinstance(model, ImageEstimator)
    chosen = model.engine
    beside = Console(stderr=True, highlight=False)
    beside.print(f"image networks on {chosen.engine.name}: {chosen.why}", style="dim", soft_wrap=True)


def _bands(word: str, bands: tuple[str, ...], bundle: Path) -> Any:
    """bool[B] of the bands named in `word`: letters, or names with commas between."""
    import numpy as np

    from schemas.errors import UserError

    names = word.split(",") if "," in word else [word] if word in bands else list(word)
    unknown = [name for name in names if name not in bands]
    if unknown or not names:
        raise UserError(
            f"--mask {word}: the model {bundle} has no band {', '.join(unknown)}, it has {' '.join(bands)}."
        )
    return np.isin(bands, names)
