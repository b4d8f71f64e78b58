"""``slipher train --images``: networks on stamps, with a bar that says how they stand."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

if TYPE_CHECKING:
    from models.images.train import Check
    from schemas.bands import BandSet
    from schemas.photometry_table import PhotometryTable


def check(out: Path, curves: Path | None) -> None:
    """Refuse, before a table is read, what cannot end well.

    Raises
    ------
    schemas.errors.UserError
        If torch is missing, or a picture is wanted that cannot be drawn.
    """
    from streamer import curves_plot, image_training

    image_training.check_torch()
    image_training.share_cores()
    if curves is not None:
        curves_plot.check_place(curves)


def train(
    table: Path,
    test: Path | None,
    galaxies: PhotometryTable,
    held_out: PhotometryTable | None,
    bands: BandSet,
    out: Path,
    given: dict[str, Any],
    chosen: dict[str, Any],
    device: str,
    size: int | None,
    threads: int | None,
    keep: Path | None,
    curves: Path | None,
) -> None:
    """Train, write the bundle and the picture, and say how good it is; all but the paths as `slipher train` has it."""
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

    from models import bundle as bundles
    from models.images.settings import ImageSettings
    from models.table_checks import check_stamps
    from streamer import image_training
    from streamer.cli.model_card import metrics_table, recalibration

    console, beside = Console(highlight=False), Console(stderr=True, highlight=False)
    known = image_training.with_stamps(galaxies, len(bands.bands), str(table), size)
    if known.without:
        beside.print(
            f"{known.without:,} galaxies of {table} have no stamp of the bands' planes: left out.", style="yellow"
        )
    if held_out is not None:
        check_stamps(held_out, {"stamps": {"scale": known.scale}}, str(test or table))
    place = image_training.device_of(device)
    if threads is not None:
        import torch

        torch.set_num_threads(threads)
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
        TextColumn("{task.fields[stand]}"),
    )
    best: dict[str, float] = {}
    with Progress(*columns, console=beside, transient=True) as progress:
        task = progress.add_task("reading", total=1.0, stand="")

        def tell(what: str, done: float, at: Check | None) -> None:
            if at is None:
                progress.update(task, description=what, completed=done)
                return
            best[what] = min(at.crps, best.get(what, at.crps))
            stand = f"loss {at.loss:.3f}  held-out CRPS {at.crps:.5f}, best {best[what]:.5f}"
            progress.update(task, description=what, completed=done, stand=stand)

        try:
            bundle = image_training.train(
                known, held_out, bands, place, ImageSettings(**given), tell, keep=keep, **chosen
            )
        except KeyboardInterrupt:
            progress.stop()
            if keep is not None and any(keep.glob("*.training")):
                beside.print(f"Interrupted. The same command goes on from the checkpoints in {keep}.")
            elif keep is not None:
                beside.print(
                    "Interrupted. Nothing is kept yet: the first checkpoint is written when the first epoch ends."
                )
            else:
                beside.print("Interrupted. Nothing is kept: with --keep DIR it would be.")
            raise typer.Exit(130) from None
    card = bundle.card
    if card["held_out"] is not None:
        console.print(metrics_table(card["held_out"]))
    bundles.write(bundle, out)
    trained = card["training"]
    if curves is not None:
        from streamer.curves_plot import draw_curves

        draw_curves(card, curves)
        console.print(f"{curves}: the training", soft_wrap=True)
    if not any(name.startswith("onnx.") for name in bundle.tensors):
        beside.print("Without graphs for workers that have no torch: pip install onnxscript.", style="yellow")
    console.print(f"recalibration: {recalibration(card)}", soft_wrap=True)
    console.print(
        f"{out}: {trained['n']:,} galaxies, {card['networks']} networks on {place}, {sum(trained['seconds']):,.0f} s, "
        f"sha256 {card['sha256'][:12]}",
        soft_wrap=True,
    )
