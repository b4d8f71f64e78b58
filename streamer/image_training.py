"""Trains image networks on a table with stamps: what is read, held out, trained, measured and sealed."""

from __future__ import annotations

import importlib.util
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from schemas import stamp_columns
from schemas.errors import UserError
from schemas.photometry_table import PhotometryTable

if TYPE_CHECKING:
    from models.bundle import Bundle
    from models.images.fit import Progress
    from models.images.gallery import Gallery
    from models.images.settings import ImageSettings
    from schemas.bands import BandSet

SCALES = 0.01  # relative: stamps of pixel scales further apart do not go together


class Known(NamedTuple):
    """Galaxies with redshifts and whole stamps."""

    table: PhotometryTable
    size: int  # pixels a side
    scale: float | None  # arcsec a pixel; None = the table does not say
    without: int  # galaxies of the table that have no stamp, or not of the bands' planes


def check_torch() -> None:
    """Refuse, before any table is read, a training without what it needs.

    Raises
    ------
    schemas.errors.UserError
        Naming what to install.
    """
    for name in ("torch", "scipy"):
        if importlib.util.find_spec(name) is None:
            raise UserError(f"Training image networks needs {name}: pip install 'slipher[train,images]'.")


def share_cores() -> None:
    """Have torch's threads sleep while they wait, unless a person says otherwise; to be called before torch is imported.

    They spin by default. Where another process wants a core too, one burns the time that the other waits for: a step of a lean
    network by two threads on two busy cores took 2.1 s of CPU, and 0.6 s like this. On two quiet cores it costs about a tenth
    of the speed: 250 stamps a second for 269 to 303.
    """
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")


def device_of(wanted: str) -> str:
    """``cpu`` or ``cuda`` for `wanted`: one of these, or ``auto``.

    Raises
    ------
    schemas.errors.UserError
        If there is no such device, or it is not here.
    """
    import torch

    if wanted not in ("auto", "cpu", "cuda"):
        raise UserError(f"Networks are not trained on {wanted!r}: --device is auto, cpu or cuda.")
    if wanted == "cuda" and not torch.cuda.is_available():
        raise UserError("torch sees no CUDA GPU here: take --device cpu, or auto.")
    return "cuda" if wanted != "cpu" and torch.cuda.is_available() else "cpu"


def with_stamps(table: PhotometryTable, n_bands: int, name: str, size: int | None = None) -> Known:
    """The galaxies of a table that have stamps.

    Parameters
    ----------
    table
        Read with its stamps.
    n_bands
        Bands of the survey.
    name
        What errors call it.
    size
        Pixels a side that stamps are cut or filled up to; None = what most of them have.

    Raises
    ------
    schemas.errors.UserError
        If there are no stamps, or of several pixel scales.
    """
    stamps = table.stamps
    if stamps is None:
        raise UserError(
            f"{name} has no stamps: want the columns {', '.join(stamp_columns.NAMES)} (docs/images.md), in Parquet or Arrow."
        )
    whole = stamp_columns.whole(stamps, n_bands)
    if not whole.any():
        raise UserError(f"{name}: no galaxy has a stamp of {n_bands} planes, those of the survey's bands.")
    kept = table.take(np.flatnonzero(whole))
    assert kept.stamps is not None
    side = np.minimum(kept.stamps.height, kept.stamps.width)
    scales = kept.stamps.scale[kept.stamps.scale > 0].astype(np.float64)
    if len(scales) and scales.max() > (1 + SCALES) * scales.min():
        raise UserError(
            f"{name}: its stamps have pixels of {scales.min():g} to {scales.max():g} arcsec; a network learns one scale."
        )
    return Known(
        kept,
        int(np.bincount(side).argmax()) if size is None else size,
        float(np.median(scales)) if len(scales) else None,
        int((~whole).sum()),
    )


def gallery(known: Known, n_bands: int) -> Gallery:
    """The same as arrays; a stamp without variance beside others with one gets that of its border."""
    from models.images.gallery import Gallery

    table = known.table
    assert table.stamps is not None
    planes = stamp_columns.planes(table.stamps, n_bands, known.size)
    variance = planes.variance
    if variance is not None:
        bare = ~np.isfinite(variance).any((1, 2, 3))
        if bare.any():
            variance[bare] = stamp_columns.border_variance(planes.pixels[bare])
    return Gallery(planes.pixels, variance, table.flux, table.flux_err, table.band_state, table.ebv, table.z)


def train(
    known: Known,
    held_out: PhotometryTable | None,
    bands: BandSet,
    device: str,
    settings: ImageSettings,
    progress: Progress,
    keep: Path | None = None,
    **chosen: Any,
) -> Bundle:
    """Train, measure on `held_out`, and seal, with graphs for ONNX Runtime where torch's exporter is.

    Parameters
    ----------
    known
        The training set.
    held_out
        Other galaxies with stamps; None = the card says nothing of such.
    bands, device, settings, progress, keep, chosen
        As `models.images.fit.fit` has them.
    """
    from models import evaluation, training
    from models.images.estimator import ImageEstimator
    from models.images.fit import fit

    bundle = fit(
        gallery(known, len(bands.bands)),
        bands,
        settings=settings,
        scale=known.scale,
        device=device,
        keep=keep,
        progress=progress,
        **chosen,
    )
    if held_out is not None and len(held_out):
        progress("measuring", 1.0, None)
        model = ImageEstimator(bundle, device)
        said = evaluation.estimates(model, held_out)
        bundle = training.with_metrics(
            bundle, evaluation.card_metrics(said, model.grid, held_out.z, bundle.tensors["z"])
        )
    return with_graphs_if_possible(bundle, progress)


def with_graphs_if_possible(bundle: Bundle, progress: Progress) -> Bundle:
    """The bundle with graphs for ONNX Runtime, where torch's exporter is."""
    if importlib.util.find_spec("onnxscript") is None:
        return bundle
    from models.images.onnx_engine import with_graphs

    progress("graphs", 1.0, None)
    return with_graphs(bundle)
