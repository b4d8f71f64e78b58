"""A blend of two models, chosen on galaxies with known redshifts: by bundles, or from rows that both gave in a catalogue."""

from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa

from models import bundle as bundles
from models import estimator as estimators
from models.bundle import Bundle
from models.evaluation import REPEATED
from models.pool import KIND, common_grid, regridded
from models.pool_choice import Choice, choose
from models.table_checks import check_stamps, check_units
from schemas import photometry_table
from schemas.bands import of_card
from schemas.batch import BandState, Float32, Float64
from schemas.errors import UserError
from streamer import best
from streamer.night_data import Truth, read_truth
from streamer.together import Together

MOST = 50_000  # galaxies: more make no weight better, and each costs 5 kB
BLOCK = 4_096  # galaxies estimated at once


class HeldOut(NamedTuple):
    """What both models said of k galaxies whose redshifts are known.

    Attributes
    ----------
    grid
        float64[G].
    forest, images
        PDFs, float32[k, G] each.
    z
        True redshifts, float64[k].
    left_out
        How many galaxies chose nothing, by why.
    about
        Of the galaxies, for the file.
    survey, roles
        Of the models, for the file: what `forest` and `images` are.
    warnings
        What a person should know before believing the figures.
    """

    grid: Float64
    forest: Float32
    images: Float32
    z: Float64
    left_out: dict[str, int]
    about: dict[str, Any]
    survey: str
    roles: dict[str, dict[str, Any]]
    warnings: list[str] = []  # noqa: RUF012 - a default nobody mutates


def of_bundles(
    forest: Path,
    images: Path,
    table: Path,
    missing: BandState = BandState.NON_DETECTED,
    device: str = "auto",
    most: int = MOST,
    seed: int = 1,
    progress: Callable[[float], None] | None = None,
) -> HeldOut:
    """What the models of two bundles say of the galaxies of a table, where both are in their domain.

    Parameters
    ----------
    forest, images
        The bundles.
    table
        Photometry with redshifts, and stamps if a model wants them.
    missing
        What 99, -99 and NaN say of a band.
    device
        Of an image model.
    most
        Galaxies; of more, these many by chance.
    seed
        Of that chance.
    progress
        Called with the fraction done.

    Raises
    ------
    UserError
        The bundles are no models, of different surveys, or the wrong way round; the table has no redshifts, not their bands, or
        no stamps for them.
    """
    read = [bundles.read(path) for path in (forest, images)]
    if read[0].card.get("kind") == best.IMAGES:
        raise UserError(f"{forest} holds image networks: give them as --images, and a forest as --forest.")
    surveys = [bundle.card["survey"] for bundle in read if "survey" in bundle.card]
    if len(set(surveys)) != 1:
        raise UserError(f"{forest} and {images} are of different surveys: {' and '.join(map(str, surveys))}.")
    models = [estimators.of(bundle, str(path), device) for bundle, path in zip(read, (forest, images), strict=True)]
    truths = []
    for bundle in read:
        wants = bundle.card.get("kind") == best.IMAGES
        found = photometry_table.read(table, of_card(bundle.card), want_redshift=True, missing=missing, stamps=wants)
        check_units(found, bundle.card, str(table))
        if wants:
            check_stamps(found, bundle.card, str(table))
        truths.append(found)
    known = np.flatnonzero(truths[0].z >= 0)
    left_out = {"without a known redshift": len(truths[0]) - len(known)}
    total = len(known)
    if total > most:
        known = np.sort(np.random.default_rng(seed).choice(known, most, replace=False))
        left_out["more than enough"] = total - most
    grid = common_grid(models[0].grid, models[1].grid)
    pdfs = [np.empty((len(known), len(grid)), np.float32) for _ in models]
    trusted = np.ones(len(known), bool)
    for k, (model, truth) in enumerate(zip(models, truths, strict=True)):
        for first in range(0, len(known), BLOCK):
            rows = slice(first, min(first + BLOCK, len(known)))
            said = model.estimate(truth.take(known[rows]).galaxies(model.bands, model.survey))
            pdfs[k][rows] = regridded(said.pdf, model.grid, grid)
            trusted[rows] &= np.isfinite(said.pdf[:, 0]) & (said.flags & np.uint32(best.OUTSIDE) == 0)
            if progress:
                progress((k + rows.stop / len(known)) / len(models))
    left_out["out of a model's domain"] = int((~trusted).sum())
    z = truths[0].z[known[trusted]]
    warnings = [
        f"{share:.0%} of these redshifts are, digit for digit, those {path} was trained on: the figures are too good."
        for bundle, path in zip(read, (forest, images), strict=True)
        if (share := _repeated(bundle, z)) > REPEATED
    ]
    roles = {
        role: {
            "sha256": model.sha256,
            "kind": model.kind,
            "model": path.name,
            "bands": list(model.bands),
            "grid": {"z_max": float(model.grid[-1]), "points": len(model.grid)},
        }
        for role, model, path in zip(("forest", "images"), models, (forest, images), strict=True)
    }
    about = {"table": table.name, "left_out": left_out}
    return HeldOut(grid, pdfs[0][trusted], pdfs[1][trusted], z, left_out, about, surveys[0], roles, warnings)


def _repeated(bundle: Bundle, z: Float64) -> float:
    """Part of redshifts that stand, digit for digit, in the training set that a bundle holds, if they are distinct there."""
    trained = bundle.tensors.get("z")
    if trained is None or not len(trained) or not len(z):
        return 0.0
    distinct = np.unique(trained)
    return float(np.isin(z, distinct).mean()) if len(distinct) > 0.9 * len(trained) else 0.0


def of_catalogue(
    catalogue: Together, truth: Path, night: str | None = None, most: int = MOST, seed: int = 1
) -> HeldOut:
    """The rows that both models of `catalogue` gave of galaxies with known redshifts: one of each object, both in their domain.

    Parameters
    ----------
    catalogue
        Without a blend.
    truth
        A table with object_id and z, or redshift.
    night
        Only this one.
    most
        Galaxies; of more, these many by chance.
    seed
        Of that chance.

    Raises
    ------
    UserError
        There are no such rows, or the table cannot be read.
    """
    known = Truth(read_truth(truth))
    nights = sorted(set(catalogue.files(night, catalogue.both.forest)["night"].to_pylist()))
    if not nights:
        raise UserError(f"{catalogue.root} has no rows of {catalogue.both.forest} in the night {night}.")
    left_out = {"without a known redshift": 0, "not by both models": 0, "out of a model's domain": 0, "seen before": 0}
    places = []  # (night, row of the forest, row of the image model)
    redshifts: list[Float64] = []
    seen = np.empty(0, object)
    for number, one in enumerate(nights):
        forest, images = catalogue.slim(one)
        found = best.choose(forest, images, blend=True)
        at_forest, at_images = found.pairs
        ids = images["object_id"].combine_chunks().take(pa.array(at_images))
        z = known.of(ids)
        trusted = np.array([j.choice == "blend" for j in found.judged], bool)[found.images[at_images]]
        trusted &= found.images[at_images] >= 0
        with_z = np.isfinite(z)
        first = _first(ids, seen)
        left_out["without a known redshift"] += int((~with_z).sum())
        left_out["not by both models"] += len(forest) + len(images) - 2 * len(at_images)
        left_out["out of a model's domain"] += int((with_z & ~trusted).sum())
        left_out["seen before"] += int((with_z & trusted & ~first).sum())
        good = np.flatnonzero(with_z & trusted & first)
        places.append(np.stack([np.full(len(good), number), at_forest[good], at_images[good]], 1))
        redshifts.append(z[good])
        seen = np.concatenate([seen, ids.take(pa.array(good)).to_numpy(zero_copy_only=False)])
    where, z = np.concatenate(places), np.concatenate(redshifts)
    total = len(z)
    if total > most:
        some = np.sort(np.random.default_rng(seed).choice(total, most, replace=False))
        where, z = where[some], z[some]
        left_out["more than enough"] = total - most

    def pdfs(model: str, column: int) -> Float32:
        parts = [catalogue.pdfs(one, model, where[where[:, 0] == k, column]) for k, one in enumerate(nights)]
        return np.concatenate(parts)

    forest_pdf, images_pdf = pdfs(catalogue.both.forest, 1), pdfs(catalogue.both.images, 2)
    about = {"table": truth.name, "catalogue": catalogue.root.name, "nights": nights, "left_out": left_out}
    models = {row["model"]: row for row in catalogue.models().to_pylist()}
    roles = {}
    for role, name in catalogue.both._asdict().items():
        row = models[name]
        roles[role] = {
            "sha256": row["bundle_sha256"],
            "kind": row["kind"],
            "model": name,
            "processing_id": row["processing_id"],
            "bands": row["bands"],
            "grid": {"z_max": row["z_grid"][-1], "points": len(row["z_grid"])},
        }
    survey = models[catalogue.both.images]["survey"]
    return HeldOut(catalogue.grid("best"), forest_pdf, images_pdf, z, left_out, about, survey, roles)


def _first(ids: pa.Array, seen: np.ndarray) -> np.ndarray:
    """Whether each object has not been seen, here or before."""
    values = ids.to_numpy(zero_copy_only=False)
    out = np.zeros(len(values), bool)
    out[np.unique(values, return_index=True)[1] if len(values) else []] = True
    return out & ~np.isin(values, seen)


def blend(held: HeldOut, score: str = "crps", seed: int = 1) -> tuple[Choice, Bundle]:
    """Choose weight and map, and what the file is to hold; whether it helps is for the caller to ask."""
    chosen = choose(held.forest, held.images, held.grid, held.z, score, seed)
    card = {
        "kind": KIND,
        "survey": held.survey,
        "grid": {"z_max": float(held.grid[-1]), "points": len(held.grid)},
        "weight": chosen.weight,
        "weight_error": chosen.error,
        "held_out": {**held.about, **chosen.figures()},
        **held.roles,
    }
    return chosen, bundles.seal(card, {} if chosen.slope is None else {"slope": chosen.slope})
