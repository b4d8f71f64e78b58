"""``slipher train``: a photometry table with redshifts in, a calibrated model bundle out."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import typer

if TYPE_CHECKING:
    from schemas.photometry_table import PhotometryTable


def command(
    table: Path = typer.Argument(..., metavar="TABLE", help="Photometry with redshifts: Parquet, CSV, Feather, HDF5."),
    out: Path = typer.Option(..., "--out", "-o", metavar="BUNDLE", help="The bundle to write.", show_default=False),
    survey: str = typer.Option("lsst", "--survey", help="Whose bands: lsst, sdss, des, ps1, euclid, euclid_des."),
    test: Path | None = typer.Option(
        None, "--test", metavar="TABLE", help="Another table to measure the model on.", show_default=False
    ),
    test_fraction: float = typer.Option(
        0.2, "--test-fraction", min=0.0, max=0.9, help="Without --test: the part of TABLE held out."
    ),
    learner: str = typer.Option(
        "forest", "--learner", help="forest; or forest+mlp: small networks beside it, better and slower."
    ),
    target: Path | None = typer.Option(
        None,
        "--target",
        metavar="TABLE",
        help="Photometry of the galaxies the model is for: training galaxies count as their density says.",
        show_default=False,
    ),
    augment: str = typer.Option(
        "auto", "--augment", help="Copies with noise added: no, yes, or auto = if better out of fold."
    ),
    trees: int = typer.Option(100, "--trees", min=1, help="Trees of the forest."),
    min_leaf: int | None = typer.Option(
        None, "--min-leaf", min=1, help="Fewest galaxies a leaf.", show_default="4; without noise 3, with --no-masks 2"
    ),
    masks: bool = typer.Option(True, "--masks/--no-masks", help="Learn to do without any of the bands."),
    not_observed: bool = typer.Option(
        False, "--nan-is-not-observed", help="99, -99 and NaN: not observed, not too faint."
    ),
    dust_law: str = typer.Option("SF11", "--dust-law", help="A_band / E(B-V), for tables with a column ebv; or none."),
    seed: int = typer.Option(1, "--seed", help="Same table, seed and libraries: same bundle, to the byte."),
    threads: int | None = typer.Option(None, "--threads", min=1, help="Trees grown at once.", show_default="all cores"),
) -> None:
    """Train a photo-z model on a table with redshifts.

    Grows a forest (and trains networks beside it, if asked), chooses smoothing and sharpening out of fold, calibrates the
    PDFs, measures them on galaxies it has not seen, and writes one file that names its own content by hash. Nothing is written
    until all of it is done.
    """
    import numpy as np
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

    from schemas import photometry_table
    from schemas.bands import band_set
    from schemas.batch import BandState
    from schemas.errors import UserError
    from streamer.cli.model_card import metrics_table

    try:
        bands = band_set(survey)
    except KeyError as error:
        raise UserError(f"{error.args[0]}.") from error
    if not out.parent.is_dir():
        raise UserError(f"There is no directory {out.parent} to write {out.name} to.")
    missing = BandState.NOT_OBSERVED if not_observed else BandState.NON_DETECTED
    galaxies = _measured(
        photometry_table.read(table, bands, want_redshift=True, missing=missing).with_redshift(), table
    )
    aim = None
    if target is not None:
        wanted = _measured(photometry_table.read(target, bands, missing=missing), target)
        aim = (wanted.flux, wanted.flux_err, wanted.band_state, wanted.ebv)
    held_out = None
    if test is not None:
        held_out = _measured(
            photometry_table.read(test, bands, want_redshift=True, missing=missing).with_redshift(), test
        )
    elif test_fraction > 0:
        order = np.random.default_rng(seed).permutation(len(galaxies))
        n_test = round(test_fraction * len(galaxies))
        held_out, galaxies = galaxies.take(np.sort(order[:n_test])), galaxies.take(np.sort(order[n_test:]))

    try:
        from models import bundle as bundles
        from models import training
    except ImportError as error:
        raise UserError(f"Training needs {error.name}: pip install 'slipher[train]'.") from error

    if len(galaxies) < training.MIN_ROWS:
        raise UserError(
            f"{table} leaves {len(galaxies):,} galaxies to train on: at least {training.MIN_ROWS} with redshifts are needed."
        )
    settings = training.ForestSettings(
        learner=learner,
        augment=augment,
        trees=trees,
        min_leaf=min_leaf,
        masks=masks,
        seed=seed,
        dust_law=dust_law,
        threads=threads,
    )
    console = Console()
    columns = (TextColumn("{task.description}"), BarColumn(), TimeElapsedColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as progress:
        task = progress.add_task("training", total=1.0)
        bundle = training.fit(
            galaxies.flux,
            galaxies.flux_err,
            galaxies.band_state,
            galaxies.ebv,
            galaxies.z,
            bands,
            settings,
            lambda what, done: progress.update(task, description=what, completed=done),
            target=aim,
        )
    if held_out is not None and len(held_out):
        arrays = (held_out.flux, held_out.flux_err, held_out.band_state, held_out.ebv, held_out.z)
        bundle = training.with_metrics(bundle, training.evaluate(bundle, *arrays))
        console.print(metrics_table(bundle.card["held_out"]))
    bundles.write(bundle, out)
    console.print(
        f"{out}: {bundle.card['training']['n']:,} galaxies, {trees} trees, sha256 {bundle.card['sha256'][:12]}"
    )


def _measured(galaxies: PhotometryTable, table: Path) -> PhotometryTable:
    """The galaxies of `table`, unless none of them was measured in any band."""
    import numpy as np

    from schemas.batch import BandState
    from schemas.errors import UserError

    good = (galaxies.band_state == BandState.MEASURED) & np.isfinite(galaxies.flux) & (galaxies.flux_err > 0)
    if not good.any():
        raise UserError(
            f"{table} has no photometry to learn from: in none of its {len(galaxies):,} galaxies holds any band a number "
            "with an error above 0."
        )
    return galaxies
