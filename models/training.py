"""From arrays of fluxes and redshifts to a sealed model bundle, and how good it is on galaxies it has not seen."""

import hashlib
import os
from collections.abc import Callable
from dataclasses import asdict, dataclass
from importlib import metadata
from typing import Any

import numpy as np
import numpy.typing as npt
from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]  # comes with scikit-learn

from models import calibration, metrics
from models import grid as grids
from models.bundle import Bundle, seal
from models.forest.density import histograms, leaf_density
from models.forest.estimator import ForestEstimator
from models.forest.forest import Forest
from models.forest.walk import leaves
from models.photometry import MagnitudeSystem, Photometry, asinh_magnitude, photometry, softening
from schemas.bands import BandSet
from schemas.batch import BandState, Float32, Float64, Int64, UInt8
from schemas.errors import UserError

Progress = Callable[[str, float], None]  # (what is being done, fraction done)
MIN_ROWS = 100  # fewer galaxies than this train nothing
MIN_LEAF = {True: 3, False: 2}  # best out of fold on DC2, with masked copies and without
LIBRARIES = ("numpy", "numba", "scikit-learn", "scipy", "safetensors")


@dataclass(frozen=True)
class ForestSettings:
    """What a person may choose. `None` = chosen for the training set."""

    trees: int = 100
    min_leaf: int | None = None
    kind: str = "extra-trees"  # or "random-forest"
    max_features: float = 1.0
    masks: bool = True  # train on copies with bands taken away, so that one model serves any mask
    copies: int = 2  # of each galaxy, with a random known mask each
    folds: int = 4  # of the out-of-fold calibration
    seed: int = 1
    dust_law: str = "SF11"
    grid_points: int = grids.POINTS
    z_max: float | None = None
    threads: int | None = None  # no effect on the model


class Sample:
    """A training set in canonical order, and its photometry: the same galaxies in another order make the same model."""

    def __init__(
        self, flux: Float32, flux_err: Float32, band_state: UInt8, ebv: Float32, z: Float64, weight: Float64
    ) -> None:
        order = np.lexsort((*flux.T, *flux_err.T, *band_state.T, ebv, weight, z))
        self.flux, self.flux_err, self.ebv = (np.asarray(a, np.float32)[order] for a in (flux, flux_err, ebv))
        self.band_state = np.asarray(band_state, np.uint8)[order]
        self.z, self.weight = np.asarray(z, np.float64)[order], np.asarray(weight, np.float64)[order]

    def fingerprint(self) -> str:
        """SHA-256 of the arrays in canonical order."""
        digest = hashlib.sha256()
        for array in (self.flux, self.flux_err, self.band_state, self.ebv, self.z, self.weight):
            digest.update(array.tobytes())
        return digest.hexdigest()

    def photometry(
        self, rows: Int64, system: MagnitudeSystem, mask: npt.NDArray[np.uint32] | None = None
    ) -> Photometry:
        """Photometry of `rows`, with only the bands in `mask` observed if given."""
        state = self.band_state[rows]
        if mask is not None:
            kept = (mask[:, None] >> np.arange(state.shape[1], dtype=np.uint32)) & 1
            state = np.where(kept == 1, state, BandState.NOT_OBSERVED).astype(np.uint8)
        return photometry(self.flux[rows], self.flux_err[rows], state, self.ebv[rows], system)


def known_masks(n_bands: int) -> npt.NDArray[np.uint32]:
    """The band masks a model is taught beside the full one: every run of neighbouring bands, and every single band lost."""
    full = (1 << n_bands) - 1
    runs = {((1 << length) - 1) << start for length in range(2, n_bands) for start in range(n_bands - length + 1)}
    return np.array(sorted(runs | {full & ~(1 << b) for b in range(n_bands) if n_bands > 2}), np.uint32)


def fit(
    flux: Float32,
    flux_err: Float32,
    band_state: UInt8,
    ebv: Float32,
    z: Float64,
    band_set: BandSet,
    settings: ForestSettings | None = None,
    progress: Progress | None = None,
    weight: Float64 | None = None,
) -> Bundle:
    """Train and calibrate a forest.

    Parameters
    ----------
    flux, flux_err
        nJy, float32[n, B], bands in the order of `band_set`.
    band_state
        `BandState`, uint8[n, B].
    ebv
        E(B-V), mag, float32[n]; NaN = unknown, or fluxes already corrected for dust.
    z
        Redshifts, float64[n].
    band_set, settings
        Survey and choices.
    progress
        Called with what is being done and the fraction done.
    weight
        Importance weights, float64[n]; none = all equal.

    Raises
    ------
    schemas.errors.UserError
        If there are too few galaxies, or a redshift is not a number >= 0, or a setting makes no sense.
    """
    settings = settings or ForestSettings()
    tell = progress or (lambda _what, _done: None)
    _check(z, flux, band_set, settings)
    with threadpool_limits(1):  # trees are grown in threads of our own: those of the linear algebra would only compete
        return _fit(
            Sample(flux, flux_err, band_state, ebv, z, np.ones(len(z)) if weight is None else weight),
            band_set,
            settings,
            tell,
        )


def _check(z: Float64, flux: Float32, band_set: BandSet, settings: ForestSettings) -> None:
    if len(z) < MIN_ROWS:
        raise UserError(f"{len(z)} galaxies are too few to train on: at least {MIN_ROWS} with redshifts are needed.")
    if flux.shape[1:] != (len(band_set.bands),):
        raise UserError(f"The fluxes have {flux.shape[-1]} bands, survey {band_set.survey} has {len(band_set.bands)}.")
    if not np.isfinite(z).all() or z.min() < 0 or z.max() <= 0:
        raise UserError("Training redshifts must be numbers, none below 0 and not all 0.")
    if (
        settings.trees < 1
        or (settings.min_leaf is not None and settings.min_leaf < 1)
        or settings.folds < 2
        or settings.copies < 1
    ):
        raise UserError("A forest needs at least 1 tree, 1 galaxy a leaf, 1 copy and 2 folds.")
    if settings.dust_law not in band_set.dust:
        raise UserError(
            f"Survey {band_set.survey} has no dust law {settings.dust_law!r}: there are {', '.join(sorted(band_set.dust))}."
        )


def _fit(sample: Sample, band_set: BandSet, settings: ForestSettings, tell: Progress) -> Bundle:
    n, n_bands = sample.flux.shape
    try:
        scale = softening(sample.flux, sample.flux_err, sample.band_state)
    except ValueError as error:
        raise UserError(f"Nothing to train on: {error}.") from error
    system = MagnitudeSystem(scale, np.array(band_set.law(settings.dust_law)), band_set.bands.index(band_set.reference))
    seen = sample.photometry(np.arange(n), system)
    grid = (
        grids.chosen_for(sample.z, settings.grid_points)
        if settings.z_max is None
        else grids.linear(settings.z_max, settings.grid_points)
    )
    masks = known_masks(n_bands) if settings.masks else np.empty(0, np.uint32)
    rng = np.random.default_rng(settings.seed)

    def grown(rows: Int64) -> Forest:
        return _grow(sample, seen, rows, system, masks, settings, rng)

    def looked_up(forest: Forest, features: Float32) -> Float32:
        density = leaf_density(forest, sample.z, sample.weight, grid)
        return histograms(leaves(features, forest.nodes()), density, len(grid))

    one_mask_each = rng.choice(masks, n) if len(masks) else None
    masked = None if one_mask_each is None else sample.photometry(np.arange(n), system, one_mask_each)
    out_of_fold = np.zeros((n, len(grid)), np.float32)
    out_of_fold_masked = np.zeros((n if masked else 0, len(grid)), np.float32)
    for number, (others, part) in enumerate(calibration.folds(n, settings.folds, rng)):
        tell(f"fold {number + 1} of {settings.folds}", number / (settings.folds + 2))
        forest = grown(others)
        out_of_fold[part] = looked_up(forest, seen.features[part])
        if masked:
            out_of_fold_masked[part] = looked_up(forest, masked.features[part])
    tell("calibration", settings.folds / (settings.folds + 2))
    usable = seen.band_mask != 0
    held_out = calibration.HeldOut(out_of_fold[usable], sample.z[usable], seen.mag_ref[usable], seen.band_mask[usable])
    held_out_masked = None
    if masked:
        some = masked.band_mask != 0
        held_out_masked = calibration.HeldOut(
            out_of_fold_masked[some], sample.z[some], masked.mag_ref[some], masked.band_mask[some]
        )
    chosen = calibration.calibrate(held_out, held_out_masked, grid, n_bands, sample.weight[usable])
    tell("final forest", (settings.folds + 1) / (settings.folds + 2))
    forest = grown(np.arange(n))
    card = {
        "kind": "forest",
        "survey": band_set.survey,
        "bands": list(band_set.bands),
        "reference": band_set.reference,
        "dust_law": settings.dust_law,
        "dust": system.dust.tolist(),
        "softening": system.softening.tolist(),
        "grid": {"z_max": float(grid[-1]), "points": len(grid)},
        "settings": {key: value for key, value in asdict(settings).items() if key != "threads"}
        | {"min_leaf": settings.min_leaf or MIN_LEAF[settings.masks]},
        "smoothing": chosen.width,
        "alpha": chosen.alpha,
        "pit_edges": chosen.maps.edges.tolist(),
        "masks": sorted({int(mask) for mask in np.append(seen.band_mask, masks) if mask}),
        "feature_range": [_range(column) for column in seen.features.T],
        "magnitude_range": {
            band: _range(
                np.where(
                    seen.band_mask >> b & 1, asinh_magnitude(sample.flux[:, b].astype(np.float64), scale[b]), np.nan
                )
            )
            for b, band in enumerate(band_set.bands)
        },
        "training": {
            "n": n,
            "sha256": sample.fingerprint(),
            "z_range": _range(sample.z),
            "ebv_known": int(np.isfinite(sample.ebv).sum()),
        },
        "held_out": None,
        "libraries": {name: metadata.version(name) for name in LIBRARIES},
    }
    tensors = {**forest._asdict(), "z": sample.z, "weight": sample.weight, "slope": chosen.maps.slope}
    tell("done", 1.0)
    return seal(card, tensors)


def _grow(
    sample: Sample,
    seen: Photometry,
    rows: Int64,
    system: MagnitudeSystem,
    masks: npt.NDArray[np.uint32],
    settings: ForestSettings,
    rng: np.random.Generator,
) -> Forest:
    """A forest on `rows`: as they are, and in copies with a random known mask each."""
    from models.forest.train import (
        grow,
    )  # scikit-learn: a worker that loads this module for `evaluate` alone does not pay for it

    usable = rows[seen.band_mask[rows] != 0]
    features, owner = [seen.features[usable]], [usable]
    for _ in range(settings.copies if len(masks) else 0):
        copy = sample.photometry(usable, system, rng.choice(masks, len(usable)))
        something = copy.band_mask != 0
        features.append(copy.features[something])
        owner.append(usable[something])
    row = np.concatenate(owner)
    return grow(
        np.concatenate(features),
        sample.z[row],
        row,
        kind=settings.kind,
        trees=settings.trees,
        min_leaf=settings.min_leaf or MIN_LEAF[settings.masks],
        max_features=settings.max_features,
        seed=settings.seed,
        threads=settings.threads or len(os.sched_getaffinity(0)),
    )


def _range(values: Float64) -> list[float | None]:
    """Lowest and highest finite value; (None, None) if there is none."""
    known = values[np.isfinite(values)]
    return [float(known.min()), float(known.max())] if len(known) else [None, None]


def evaluate(
    bundle: Bundle, flux: Float32, flux_err: Float32, band_state: UInt8, ebv: Float32, z: Float64
) -> dict[str, Any]:
    """Metrics of a forest bundle on galaxies with known redshifts, and those of trainZ on the same.

    Returns
    -------
    dict
        `point_metrics` (of z_median) and `pdf_metrics` in one, ``quintiles`` (by reference magnitude), ``trainz``.
    """
    estimator = ForestEstimator(bundle)
    estimates = estimator.estimate_arrays(flux, flux_err, band_state, ebv)
    n_z = metrics.trainz(bundle.tensors["z"], estimator.grid)
    everywhere = np.broadcast_to(n_z, (len(z), n_z.shape[1]))
    middle = float(np.interp(0.5, grids.cumulative(n_z.astype(np.float64), estimator.grid)[0], estimator.grid))
    return {
        **metrics.point_metrics(estimates.z_median, z),
        **metrics.pdf_metrics(estimates.pdf, estimator.grid, z),
        "quintiles": metrics.by_quintile(estimates.pdf, estimator.grid, z, estimates.mag_ref),
        "trainz": {
            **metrics.point_metrics(np.full(len(z), middle), z),
            **metrics.pdf_metrics(everywhere, estimator.grid, z),
        },
    }


def with_metrics(bundle: Bundle, held_out: dict[str, Any]) -> Bundle:
    """The same model with `held_out` metrics in its card, sealed again."""
    return seal({**bundle.card, "held_out": held_out}, bundle.tensors)
