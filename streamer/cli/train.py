"""``slipher train``: a photometry table with redshifts in, a calibrated model bundle out."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import typer

if TYPE_CHECKING:
    from schemas.bands import BandSet
    from schemas.batch import BandState
    from schemas.photometry_table import PhotometryTable


FOREST, IMAGES = "Of forests", "Of image networks (--images)"


def command(
    context: typer.Context,
    table: Path = typer.Argument(..., metavar="TABLE", help="Photometry with redshifts: Parquet, CSV, Feather, HDF5."),
    out: Path = typer.Option(..., "--out", "-o", metavar="BUNDLE", help="The bundle to write.", show_default=False),
    survey: str | None = typer.Option(
        None,
        "--survey",
        help="Whose bands: lsst, sdss, des, ps1, euclid, euclid_des.",
        show_default="what TABLE says, else lsst",
    ),
    test: Path | None = typer.Option(
        None, "--test", metavar="TABLE", help="Another table to measure the model on.", show_default=False
    ),
    test_fraction: float = typer.Option(
        0.2, "--test-fraction", min=0.0, max=0.9, help="Without --test: the part of TABLE held out."
    ),
    learner: str = typer.Option(
        "forest",
        "--learner",
        help="forest; or forest+mlp: small networks beside it, better and slower.",
        rich_help_panel=FOREST,
    ),
    target: Path | None = typer.Option(
        None,
        "--target",
        metavar="TABLE",
        help="Photometry of the galaxies the model is for: training galaxies count as their density says.",
        show_default=False,
        rich_help_panel=FOREST,
    ),
    augment: str = typer.Option(
        "auto",
        "--augment",
        help="Copies with noise added: no, yes, or auto = if better out of fold.",
        rich_help_panel=FOREST,
    ),
    trees: int = typer.Option(100, "--trees", min=1, help="Trees of the forest.", rich_help_panel=FOREST),
    min_leaf: int | None = typer.Option(
        None,
        "--min-leaf",
        min=1,
        help="Fewest galaxies a leaf.",
        show_default="4; without noise 3, with --no-masks 2",
        rich_help_panel=FOREST,
    ),
    masks: bool = typer.Option(
        True, "--masks/--no-masks", help="Learn to do without any of the bands.", rich_help_panel=FOREST
    ),
    not_observed: bool = typer.Option(
        False, "--nan-is-not-observed", help="99, -99 and NaN: not observed, not too faint."
    ),
    dust_law: str | None = typer.Option(
        None,
        "--dust-law",
        help="A_band / E(B-V), for tables with a column ebv; or none.",
        show_default="what TABLE says, else SF11",
    ),
    seed: int = typer.Option(1, "--seed", help="Same table, seed and libraries: same bundle, to the byte."),
    threads: int | None = typer.Option(
        None, "--threads", min=1, help="Trees grown at once; threads of a network.", show_default="all cores"
    ),
    images: bool = typer.Option(
        False, "--images", help="Networks on the stamps of TABLE and its magnitudes.", rich_help_panel=IMAGES
    ),
    nets: int = typer.Option(2, "--nets", min=1, help="Networks, averaged.", rich_help_panel=IMAGES),
    net: str = typer.Option("lean", "--net", help="lean, or pasquet (as a reference).", rich_help_panel=IMAGES),
    sees: str = typer.Option(
        "mixed", "--sees", help="mixed: stamps and magnitudes; image; magnitudes.", rich_help_panel=IMAGES
    ),
    epochs: int = typer.Option(60, "--epochs", min=1, help="At most.", rich_help_panel=IMAGES),
    seconds: float | None = typer.Option(
        None, "--seconds", min=0.1, help="Of training, for each network.", show_default=False, rich_help_panel=IMAGES
    ),
    batch: int = typer.Option(128, "--batch", min=1, help="Galaxies a step.", rich_help_panel=IMAGES),
    rate: float | None = typer.Option(
        None,
        "--rate",
        min=1e-7,
        help="Of learning, at its peak.",
        show_default="3e-3, pasquet 5e-4",
        rich_help_panel=IMAGES,
    ),
    size: int | None = typer.Option(
        None, "--size", min=16, help="Pixels a side.", show_default="as most stamps have", rich_help_panel=IMAGES
    ),
    device: str = typer.Option(
        "auto", "--device", help="auto (a GPU if there is one), cpu, cuda.", rich_help_panel=IMAGES
    ),
    keep: Path | None = typer.Option(
        None,
        "--keep",
        metavar="DIR",
        help="Checkpoints go there: after Ctrl-C the same command goes on.",
        show_default=False,
        rich_help_panel=IMAGES,
    ),
    curves: Path | None = typer.Option(
        None, "--curves", metavar="PNG", help="Draw the training.", show_default=False, rich_help_panel=IMAGES
    ),
) -> None:
    """Train a photo-z model on a table with redshifts.

    Grows a forest (and trains networks beside it, if asked), chooses smoothing and sharpening out of fold, calibrates the
    PDFs, measures them on galaxies it has not seen, and writes one file that names its own content by hash. Nothing is written
    until all of it is done. With --images it trains networks on stamps: a part of the table stops them, and recalibrates them
    where that helps.
    """
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

    from schemas import photometry_table, table_metadata
    from schemas.batch import BandState
    from schemas.errors import UserError
    from streamer.cli.model_card import metrics_table

    _check_options(context, images)
    bands = table_metadata.bands_for(table, survey)
    law = dust_law or table_metadata.of_file(table).get(table_metadata.DUST_LAW, table_metadata.SF11)
    try:
        bands.law(law)
    except KeyError as error:
        raise UserError(f"{error.args[0]}.") from error
    if not out.parent.is_dir():
        raise UserError(f"There is no directory {out.parent} to write {out.name} to.")
    missing = BandState.NOT_OBSERVED if not_observed else BandState.NON_DETECTED
    if images:
        from streamer.cli import train_images

        train_images.check(out, curves)
    galaxies, held_out = _parts(table, test, test_fraction, bands, missing, seed, images)
    if images:
        chosen = {"kind": net, "sees": sees, "nets": nets, "dust_law": law}
        given = {"epochs": epochs, "seconds": seconds, "batch": batch, "seed": seed}
        given["rate"] = rate or (5e-4 if net == "pasquet" else 3e-3)  # without normalisation it does not bear more
        train_images.train(
            table, test, galaxies, held_out, bands, out, given, chosen, device, size, threads, keep, curves
        )
        return
    aim = None
    if target is not None:
        wanted = _measured(photometry_table.read(target, bands, missing=missing), target)
        aim = (wanted.flux, wanted.flux_err, wanted.band_state, wanted.ebv)
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
        dust_law=law,
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


def _check_options(context: typer.Context, images: bool) -> None:
    """Options of the other kind of model would be without effect."""
    from schemas.errors import UserError

    other = FOREST if images else IMAGES
    for parameter in context.command.params:
        source = context.get_parameter_source(parameter.name or "")
        given = source is not None and source.name == "COMMANDLINE"
        if given and getattr(parameter, "rich_help_panel", None) == other and parameter.name != "images":
            flag = parameter.opts[0]
            raise UserError(f"{flag} is of forests, not of --images." if images else f"{flag} is for --images.")


def _parts(
    table: Path, test: Path | None, fraction: float, bands: BandSet, missing: BandState, seed: int, images: bool
) -> tuple[PhotometryTable, PhotometryTable | None]:
    """Galaxies to train on and to measure on: of two tables, or of one."""
    import numpy as np

    from schemas import photometry_table

    def read(path: Path) -> PhotometryTable:
        found = photometry_table.read(path, bands, want_redshift=True, missing=missing, stamps=images)
        return _measured(found.with_redshift(), path)

    galaxies = read(table)
    if test is not None:
        return galaxies, read(test)
    if fraction <= 0:
        return galaxies, None
    order = np.random.default_rng(seed).permutation(len(galaxies))
    n_test = round(fraction * len(galaxies))
    return galaxies.take(np.sort(order[n_test:])), galaxies.take(np.sort(order[:n_test]))


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
