"""From stamps, photometry and redshifts to a sealed bundle of image networks: split, scale, train, recalibrate."""

import hashlib
import time
from collections.abc import Callable
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from models import grid as grids
from models import metrics
from models.bundle import Bundle, seal
from models.calibration import HeldOut
from models.images import inputs, recalibrate
from models.images.architecture import Architecture
from models.images.gallery import Gallery, prepared
from models.images.settings import ImageSettings
from models.photometry import MagnitudeSystem, asinh_magnitude, softening
from models.sample import known_masks, mask_shares
from schemas.bands import BandSet
from schemas.batch import BandState, Float32, Float64, Int64
from schemas.errors import UserError
from schemas.stamp_columns import border_variance

if TYPE_CHECKING:
    from models.images.train import Check

Progress = Callable[
    [str, float, "Check | None"], None
]  # (what is being done, part that is done, how the network stands)
MIN_ROWS = 100  # fewer galaxies than this train nothing
FEWEST_HELD_OUT = 20
LIBRARIES = ("numpy", "numba", "torch", "safetensors")


def fit(
    gallery: Gallery,
    bands: BandSet,
    *,
    kind: str = "lean",
    sees: str = "mixed",
    nets: int = 2,
    settings: ImageSettings | None = None,
    z_max: float | None = None,
    points: int = grids.POINTS,
    dust_law: str = "SF11",
    scale: float | None = None,
    device: str = "cpu",
    keep: Path | None = None,
    progress: Progress | None = None,
    clock: Callable[[], float] = time.perf_counter,
) -> Bundle:
    """Train networks and seal them.

    Parameters
    ----------
    gallery
        The training set.
    bands
        The survey's bands.
    kind, sees
        Of `models.images.architecture.Architecture`.
    nets
        Networks, which differ by their seeds; their PDFs are averaged.
    settings, z_max, points, dust_law
        The recipe, the redshift grid, the dust of the Milky Way.
    scale
        Of the stamps, arcsec a pixel; None = unknown.
    device
        ``cpu`` or ``cuda``.
    keep
        Folder for checkpoints, made if it is not there; a training finds its own again, one of more networks those of fewer.
    progress
        Called with what is being done, the part that is done, and after a check of a network with it.
    clock
        Of `models.images.train.train`.

    Raises
    ------
    schemas.errors.UserError
        If torch is missing, or there are too few galaxies, or shapes do not fit, or `keep` holds another training.
    """
    chosen = settings or ImageSettings()
    tell = progress or (lambda _what, _done, _check: None)
    n, n_bands, size = gallery.stamps.shape[:3]
    if n < MIN_ROWS:
        raise UserError(f"{n} galaxies with stamps and redshifts: networks need at least {MIN_ROWS} to learn from.")
    if nets < 1:
        raise UserError(f"{nets} networks cannot be trained: at least 1 is.")
    if n_bands != len(bands.bands) or gallery.flux.shape != (n, n_bands):
        raise UserError(f"Stamps of {n_bands} bands; survey {bands.survey} has {len(bands.bands)}.")
    if not np.isfinite(gallery.z).all() or gallery.z.min() < 0 or gallery.z.max() <= 0:
        raise UserError("Training redshifts must be numbers, none below 0 and not all 0.")
    grid = grids.chosen_for(gallery.z, points) if z_max is None else grids.linear(z_max, points)
    architecture = Architecture(kind, sees, n_bands, size, len(grid))
    system = MagnitudeSystem(
        softening(gallery.flux, gallery.flux_err, gallery.band_state),
        np.array(bands.law(dust_law)),
        bands.bands.index(bands.reference),
    )
    raw, _ = inputs.features(gallery.flux, gallery.flux_err, gallery.band_state, gallery.ebv, system)
    noise = gallery.variance if gallery.variance is not None else border_variance(gallery.stamps)
    scaling = inputs.scaling(inputs.stamp_softening(noise), raw, n_bands)
    scaled = prepared(gallery, system, scaling)

    from models.images.train import Examples, pdfs, precision, train  # torch

    rng = np.random.default_rng(chosen.seed)
    parts = _parts(n, chosen.held_out, nets, rng)
    seen_columns = architecture.columns
    falls_with = inputs.depends(n_bands, system.reference)[:, seen_columns]
    everything = Examples(scaled.stamps, np.ascontiguousarray(scaled.columns[:, seen_columns]), scaled.z)
    trained, views = [], ([], [])  # type: ignore[var-annotated]
    content = fingerprint(gallery)
    if keep is not None:
        keep.mkdir(parents=True, exist_ok=True)
    for k, held in enumerate(parts):
        own, held_out = _with_seed(chosen, chosen.seed + k), everything.of(held)
        robbed, masks = _robbed(held_out, scaled.seen.band_mask[held], falls_with, rng)
        done = train(
            architecture,
            everything.of(np.setdiff1d(np.arange(n), held)),
            held_out,
            falls_with,
            grid,
            own,
            device,
            None if keep is None else keep / f"network-{k}.training",
            lambda part, check, k=k: tell(f"network {k + 1} of {nets}", (k + part) / nets, check),  # type: ignore[misc]
            f"{content} {architecture} {grid[-1]:g} {own}",
            clock,
        )
        trained.append(done)
        magnitude = scaled.seen.mag_ref[held]
        reference = (masks >> np.uint32(system.reference)) & np.uint32(1)
        lacking = np.where(reference == 1, magnitude, np.nan).astype(np.float32)
        for view, examples, of_row, mask in (
            (views[0], held_out, magnitude, scaled.seen.band_mask[held]),
            (views[1], robbed, lacking, masks),
        ):
            there = mask != 0
            pdf = pdfs(done.net, examples, grid)
            view.append(HeldOut(*(column[there] for column in (pdf, held_out.z, of_row, mask))))
    tell("calibration", 1.0, None)
    seen, taken = (HeldOut(*map(np.concatenate, zip(*view, strict=True))) for view in views)
    if len(taken.z) == len(seen.z) and (taken.band_mask == seen.band_mask).all():
        taken = seen
    choice = recalibrate.choose(seen, taken, grid, n_bands, rng)
    card: dict[str, Any] = {
        "kind": "images",
        "survey": bands.survey,
        "bands": list(bands.bands),
        "reference": bands.reference,
        "dust_law": dust_law,
        "dust": system.dust.tolist(),
        "softening": system.softening.tolist(),
        "grid": {"z_max": float(grid[-1]), "points": len(grid)},
        "architecture": architecture.card(),
        "networks": nets,
        "settings": dict(vars(chosen)),
        "alpha": choice.alpha,
        "pit_edges": choice.maps.edges.tolist(),
        "intervals": choice.intervals,
        "recalibration": choice.told,
        "stamps": {"size": size, "scale": scale, "variance": gallery.variance is not None},
        "magnitude_range": _magnitudes(gallery, system, bands),
        "training": {
            "n": n,
            "sha256": content,
            "n_held_out": len(parts[0]),
            "z_range": [float(gallery.z.min()), float(gallery.z.max())],
            "n_z": grids.distribution(gallery.z.astype(np.float64), np.ones(n), grid),
            "steps": [done.steps for done in trained],
            "seconds": [round(done.seconds, 1) for done in trained],
            "device": device,
            "precision": str(precision(device, chosen.precision)).removeprefix("torch."),
            "checks": [[list(check) for check in done.checks] for done in trained],
            "crps": [done.crps for done in trained],
        },
        "held_out": None,
        "libraries": {name: metadata.version(name) for name in LIBRARIES},
    }
    tensors = {
        "slope": choice.maps.slope,
        "z": gallery.z.astype(np.float64),
        **{f"scaling.{name}": value for name, value in scaling._asdict().items()},
    }
    for k, done in enumerate(trained):
        tensors |= {f"network.{k}.{name}": value.numpy() for name, value in done.net.state_dict().items()}
    return seal(card, tensors)


def fingerprint(gallery: Gallery) -> str:
    """SHA-256 of all that a training set holds, 64 hexadecimal digits."""
    digest = hashlib.sha256()
    for name, column in gallery._asdict().items():
        if column is not None:
            digest.update(f"\0{name}\0{column.dtype.str}\0{column.shape}\0".encode())
            digest.update(np.ascontiguousarray(column).data.cast("B"))
    return digest.hexdigest()


def _magnitudes(gallery: Gallery, system: MagnitudeSystem, bands: BandSet) -> dict[str, list[float | None]]:
    """Brightest and faintest of each band, as measured."""
    out: dict[str, list[float | None]] = {}
    for b, band in enumerate(bands.bands):
        magnitude = asinh_magnitude(gallery.flux[:, b].astype(np.float64), system.softening[b])
        known = magnitude[(gallery.band_state[:, b] == BandState.MEASURED) & np.isfinite(magnitude)]
        out[band] = [float(known.min()), float(known.max())] if len(known) else [None, None]
    return out


def _parts(n: int, share: float, nets: int, rng: np.random.Generator) -> list[Int64]:
    """The galaxies that each network does not learn from: another part for each, so that together they learn from all.

    They stop the network, and recalibrate: what it says of them stands for what the mean of all networks says of others.
    One part held out from all would be lost to a small training set, and its noise would be in all networks alike.
    """
    order, size = rng.permutation(n), max(int(n * share), FEWEST_HELD_OUT)
    return [np.take(order, np.arange(k * size, (k + 1) * size), mode="wrap") for k in range(nets)]


def _with_seed(settings: ImageSettings, seed: int) -> ImageSettings:
    return ImageSettings(**{**vars(settings), "seed": seed})


def _robbed(
    held_out: Any, band_mask: np.ndarray, falls_with: Float32, rng: np.random.Generator
) -> tuple[Any, np.ndarray]:
    """The held-out galaxies with bands taken away, and the masks that are left: for the maps of galaxies that lack bands."""
    n_bands = len(falls_with)
    masks = known_masks(n_bands)
    if not len(masks):
        return held_out, band_mask
    mask = rng.choice(masks, len(held_out.z), p=mask_shares(masks)) & band_mask
    kept = ((mask[:, None] >> np.arange(n_bands, dtype=np.uint32)) & 1).astype(np.float32)
    columns = held_out.features * ((1 - kept) @ falls_with == 0)
    stamps = held_out.stamps * kept[:, :, None, None].astype(held_out.stamps.dtype)
    return held_out._replace(stamps=stamps, features=columns.astype(np.float32)), mask


def score(pdf: Float32, grid: Float64, z: Float64) -> dict[str, float]:
    """Point and PDF metrics in one, the point being the median."""
    cdf = grids.cumulative(pdf.astype(np.float64), grid)
    median = np.array([np.interp(0.5, row, grid) for row in cdf])
    return {**metrics.point_metrics(median, z), **metrics.pdf_metrics(pdf, grid, z)}
