"""From arrays of fluxes and redshifts to a sealed model bundle, and how good it is on galaxies it has not seen."""

from collections.abc import Callable
from dataclasses import asdict, replace
from importlib import metadata
from typing import Any, NamedTuple

import numpy as np
from threadpoolctl import threadpool_limits  # comes with scikit-learn

from models import blend, calibration, covariate, estimator, evaluation, learners
from models import grid as grids
from models.bundle import Bundle, seal
from models.calibration import HeldOut
from models.forest import boxes
from models.forest.density import densities, identity, smoothing
from models.learners import AUGMENT, LEARNERS, Course, ForestSettings
from models.networks.network import Evaluator, Networks
from models.networks.train import DECAYS
from models.photometry import MagnitudeSystem, Photometry, asinh_magnitude, photometry, softening
from models.sample import Sample, known_masks
from schemas.bands import BandSet
from schemas.batch import Float32, Float64, UInt8
from schemas.errors import UserError

__all__ = ["ForestSettings", "Progress", "evaluate", "fit", "known_masks", "with_metrics"]

Progress = Callable[[str, float], None]  # (what is being done, fraction done)
Arrays = tuple[Float32, Float32, UInt8, Float32]  # flux, error, state, E(B-V) of galaxies, as `fit` takes them
TREES_TO_CHOOSE = 50  # of the forests that say whether noisy copies help
MIN_ROWS = 100  # fewer galaxies than this train nothing
LIBRARIES = ("numpy", "numba", "scikit-learn", "scipy", "safetensors")


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
    target: Arrays | None = None,
) -> Bundle:
    """Train and calibrate a model.

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
    target
        Flux, error, state and E(B-V) of the galaxies that the model is for: `weight` is multiplied with the ratio of their
        density to that of the training galaxies. Weights enter the leaves, the networks, and every step of the calibration.

    Raises
    ------
    schemas.errors.UserError
        If there are too few galaxies, or a redshift is not a number >= 0, or a setting makes no sense.
    """
    settings = settings or ForestSettings()
    tell = progress or (lambda _what, _done: None)
    _check(z, flux, band_set, settings)
    with threadpool_limits(1):  # trees are grown in threads of our own: those of the linear algebra would only compete
        equal = np.ones(len(z)) if weight is None else weight
        return _fit(Sample(flux, flux_err, band_state, ebv, z, equal), band_set, settings, tell, target)


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
    for what, given, known in (("learner", settings.learner, LEARNERS), ("augmentation", settings.augment, AUGMENT)):
        if given not in known:
            raise UserError(f"No {what} is called {given!r}: there are {', '.join(known)}.")
    if settings.dust_law not in band_set.dust:
        raise UserError(
            f"Survey {band_set.survey} has no dust law {settings.dust_law!r}: there are {', '.join(sorted(band_set.dust))}."
        )


class _OutOfFold(NamedTuple):
    """What models trained without each galaxy say of it: as observed, or with bands taken away."""

    seen: Photometry
    histograms: Float32  # of the forest, [n, G]
    logs: Float32  # log densities of the networks; [0, G] if there are none
    distance: Float32  # from the boxes, [n]

    @classmethod
    def empty(cls, seen: Photometry, work: Course) -> "_OutOfFold":
        n, points = len(seen.mag_ref), len(work.grid)
        logs = np.zeros((n if _has_networks(work) else 0, points), np.float32)
        return cls(seen, np.zeros((n, points), np.float32), logs, np.zeros(n, np.float32))


def _has_networks(work: Course) -> bool:
    return work.settings.learner == "forest+mlp"


def _fit(sample: Sample, band_set: BandSet, settings: ForestSettings, tell: Progress, target: Arrays | None) -> Bundle:
    try:
        scale = softening(sample.flux, sample.flux_err, sample.band_state)
    except ValueError as error:
        raise UserError(f"Nothing to train on: {error}.") from error
    system = MagnitudeSystem(scale, np.array(band_set.law(settings.dust_law)), band_set.bands.index(band_set.reference))
    grid = (
        grids.chosen_for(sample.z, settings.grid_points)
        if settings.z_max is None
        else grids.linear(settings.z_max, settings.grid_points)
    )
    work = learners.course(sample, system, grid, settings)
    aimed_at = _aim(work, target)

    rng = np.random.default_rng(settings.seed)
    everyone = np.arange(len(sample))
    views = [_OutOfFold.empty(work.seen, work)]
    if len(work.masks):
        masked = sample.photometry(everyone, system, rng.choice(work.masks, len(sample)))
        views.append(_OutOfFold.empty(masked, work))
    stages = settings.folds + 2
    noisy = False
    for number, (others, part) in enumerate(calibration.folds(len(sample), settings.folds, rng)):
        if number == 0:
            tell("first choices", 0.0)
            work, noisy = _first_choices(work, others, part)
        tell(f"fold {number + 1} of {settings.folds}", number / stages)
        _fill(work, views, others, part, noisy, rng, np.random.default_rng([settings.seed, number]))
    tell("calibration", settings.folds / stages)
    seen, taken = views[0], views[-1] if len(views) > 1 else None
    chosen, mixed = _calibrated(work, seen, taken)

    tell("final forest", (settings.folds + 1) / stages)
    own = np.random.default_rng([settings.seed, settings.folds])
    forest = learners.grow_forest(work, everyone, noisy, rng)
    around = learners.grow_boxes(work, everyone, own)
    around = around._replace(
        limit=boxes.limits(
            np.concatenate([view.distance for view in views]),
            np.concatenate([view.seen.band_mask for view in views]),
            len(band_set.bands),
            np.tile(sample.weight, len(views)),
        )
    )
    tensors = {**forest._asdict(), "z": sample.z, "weight": sample.weight, "slope": chosen.maps.slope}
    tensors |= {f"boxes.{name}": array for name, array in around._asdict().items()}
    card = _card(work, band_set) | {
        "settings": _settings(work.settings, noisy),
        "smoothing": chosen.width,
        "alpha": chosen.alpha,
        "pit_edges": chosen.maps.edges.tolist(),
        "intervals": chosen.intervals,
        "target": aimed_at,
    }
    if mixed is not None:
        tell("final networks", (settings.folds + 1.5) / stages)
        networks = learners.train_networks(work, everyone, own)
        tensors |= {f"networks.{name}": array for name, array in networks._asdict().items()}
        card["networks"] = mixed
    tell("done", 1.0)
    return seal(card, tensors)


def _aim(work: Course, target: Arrays | None) -> dict[str, Any] | None:
    """Multiply the weights with the density ratio to the target; what the card says of it."""
    if target is None:
        return None
    aim = photometry(*target, work.system)
    try:
        work.sample.weight *= covariate.density_ratio(work.seen, aim)
    except ValueError as error:
        raise UserError(f"The target galaxies cannot weight the training: {error}.") from error
    fingerprint = Sample(*target, np.zeros(len(aim.mag_ref)), np.ones(len(aim.mag_ref))).fingerprint()
    return {
        "n": len(aim.mag_ref),
        "sha256": fingerprint,
        "effective": covariate.effective(work.sample.weight),
    }


def _fill(
    work: Course,
    views: list[_OutOfFold],
    others: np.ndarray,
    part: np.ndarray,
    noisy: bool,
    rng: np.random.Generator,
    own: np.random.Generator,
) -> None:
    """Train on `others`, and write what that says of `part`."""
    forest = learners.grow_forest(work, others, noisy, rng)
    for view in views:
        view.histograms[part] = learners.look_up(work, forest, view.seen.of(part))
    distance = boxes.Distance(learners.grow_boxes(work, others, own))
    networks: Networks | None = learners.train_networks(work, others, own) if _has_networks(work) else None
    for view in views:
        view.distance[part] = distance.score(view.seen.features[part])
        if networks is not None:
            view.logs[part] = Evaluator(networks).log_density(view.seen.of(part))


def _first_choices(work: Course, others: np.ndarray, part: np.ndarray) -> tuple[Course, bool]:
    """The course with the networks' weight decay settled, and whether noisy copies are made.

    What nobody has settled is what lowers the CDE loss of `part` of the galaxies, trained on the `others`: of a small forest with
    the smoothing that suits it, and of a single network.
    """
    settings, part = work.settings, part[work.seen.band_mask[part] != 0]
    seen, z, weight = work.seen.of(part), work.sample.z[part], work.sample.weight[part]

    def rng() -> np.random.Generator:
        return np.random.default_rng([settings.seed, settings.folds + 1])

    def loss_of_forest(noisy: bool) -> float:
        small = work._replace(settings=replace(settings, trees=min(settings.trees, TREES_TO_CHOOSE)))
        histograms = learners.look_up(work, learners.grow_forest(small, others, noisy, rng()), seen)
        held_out = HeldOut(histograms, z, seen.mag_ref, seen.band_mask)
        return calibration.mean_loss(held_out, work.grid, *calibration.choose(held_out, work.grid, weight), weight)

    def loss_of_network(decay: float) -> float:
        one = work._replace(settings=_with_networks(settings, count=1, decay=decay))
        logs = Evaluator(learners.train_networks(one, others, rng())).log_density(seen)
        pdf = blend.mix(np.ones_like(logs), logs, 1.0)
        return calibration.mean_loss(HeldOut(pdf, z, seen.mag_ref, seen.band_mask), work.grid, 0.0, 1.0, weight)

    noisy = settings.augment == "yes" or (settings.augment == "auto" and loss_of_forest(True) < loss_of_forest(False))
    if _has_networks(work) and settings.networks.decay is None:
        work = work._replace(settings=_with_networks(settings, decay=min(DECAYS, key=loss_of_network)))
    return work, noisy


def _with_networks(settings: ForestSettings, **changed: Any) -> ForestSettings:
    return replace(settings, networks=replace(settings.networks, **changed))


def _held_out(work: Course, view: _OutOfFold) -> tuple[HeldOut, Float64]:
    """The galaxies with any band, and their weights."""
    some = view.seen.band_mask != 0
    held_out = HeldOut(view.histograms[some], work.sample.z[some], view.seen.mag_ref[some], view.seen.band_mask[some])
    return held_out, work.sample.weight[some]


def _calibrated(
    work: Course, seen: _OutOfFold, taken: _OutOfFold | None
) -> tuple[calibration.Calibration, dict[str, Any] | None]:
    """Smoothing, sharpening and maps, all out of fold; with networks also what the card says of them."""
    views = [seen] if taken is None else [seen, taken]
    rows = [_held_out(work, view) for view in views]
    choice = calibration.choose(rows[0][0], work.grid, rows[0][1])
    mixed = None
    if _has_networks(work):
        none = [np.zeros(len(r.z), np.int32) for r, _ in rows]
        kernel = smoothing(work.grid, choice[0])
        pdfs = [
            densities(r.histograms, work.grid, kernel, choice[1], identity(), z)
            for (r, _), z in zip(rows, none, strict=True)
        ]
        logs = [view.logs[view.seen.band_mask != 0] for view in views]
        losses = {}
        for share in blend.WEIGHTS:
            means = rows[0][0]._replace(histograms=blend.mix(pdfs[0], logs[0], share))
            for power in blend.POWERS:
                losses[share, power] = calibration.mean_loss(means, work.grid, 0.0, power, rows[0][1])
        share, power = min(losses, key=lambda key: losses[key])
        rows = [
            (r._replace(histograms=blend.mix(p, log, share)), w)
            for (r, w), p, log in zip(rows, pdfs, logs, strict=True)
        ]
        mixed = {"weight": share, "power": power}
    masked, masked_weight = rows[1] if len(rows) > 1 else (None, None)
    chosen = calibration.calibrate(
        rows[0][0],
        masked,
        work.grid,
        work.sample.flux.shape[1],
        rows[0][1],
        masked_weight,
        choice if mixed is None else (0.0, mixed["power"]),
    )
    return chosen._replace(width=choice[0], alpha=choice[1]), mixed


def _settings(settings: ForestSettings, noisy: bool) -> dict[str, Any]:
    """The settings as the card has them: what was chosen in place of what was asked for."""
    plain = asdict(settings) | {"min_leaf": settings.leaf(noisy), "augment": noisy}
    dropped = {"threads"} if settings.learner == "forest+mlp" else {"threads", "networks"}
    return {key: value for key, value in plain.items() if key not in dropped}


def _card(work: Course, band_set: BandSet) -> dict[str, Any]:
    """What of the card does not depend on choices made out of fold."""
    sample, seen, scale = work.sample, work.seen, work.system.softening
    return {
        "kind": work.settings.learner,
        "survey": band_set.survey,
        "bands": list(band_set.bands),
        "reference": band_set.reference,
        "dust_law": work.settings.dust_law,
        "dust": work.system.dust.tolist(),
        "softening": scale.tolist(),
        "grid": {"z_max": float(work.grid[-1]), "points": len(work.grid)},
        "masks": sorted({int(mask) for mask in np.append(seen.band_mask, work.masks) if mask}),
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
            "n": len(sample),
            "sha256": sample.fingerprint(),
            "z_range": _range(sample.z),
            "n_z": grids.distribution(sample.z, sample.weight, work.grid),
            "ebv_known": int(np.isfinite(sample.ebv).sum()),
        },
        "held_out": None,
        "libraries": {name: metadata.version(name) for name in LIBRARIES},
    }


def _range(values: Float64) -> list[float | None]:
    """Lowest and highest finite value; (None, None) if there is none."""
    known = values[np.isfinite(values)]
    return [float(known.min()), float(known.max())] if len(known) else [None, None]


def evaluate(
    bundle: Bundle, flux: Float32, flux_err: Float32, band_state: UInt8, ebv: Float32, z: Float64
) -> dict[str, Any]:
    """Metrics of a bundle on galaxies with known redshifts, and those of trainZ on the same.

    Returns
    -------
    dict
        `point_metrics` (of z_median) and `pdf_metrics` in one, ``quintiles`` (by reference magnitude), ``trainz``.
    """
    model: Any = estimator.of(bundle)
    estimates = model.estimate_arrays(flux, flux_err, band_state, ebv)
    return evaluation.card_metrics(estimates, model.grid, z, bundle.tensors["z"])


def with_metrics(bundle: Bundle, held_out: dict[str, Any]) -> Bundle:
    """The same model with `held_out` metrics in its card, sealed again."""
    return seal({**bundle.card, "held_out": held_out}, bundle.tensors)
