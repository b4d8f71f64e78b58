"""A blend of two models, chosen on galaxies with known redshifts: from rows that both gave, in a catalogue."""

from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa

from models import bundle as bundles
from models.bundle import Bundle
from models.pool import KIND
from models.pool_choice import Choice, choose
from schemas.batch import Float32, Float64
from schemas.errors import UserError
from streamer import best
from streamer.night_data import Truth, read_truth
from streamer.together import Together

MOST = 50_000  # galaxies: more make no weight better, and each costs 5 kB


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
        Of the models and the galaxies, for the file.
    """

    grid: Float64
    forest: Float32
    images: Float32
    z: Float64
    left_out: dict[str, int]
    about: dict[str, Any]


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
    about = {
        "table": truth.name,
        "catalogue": catalogue.root.name,
        "nights": nights,
        "left_out": left_out,
    }
    return HeldOut(catalogue.grid("best"), forest_pdf, images_pdf, z, left_out, about)


def _first(ids: pa.Array, seen: np.ndarray) -> np.ndarray:
    """Whether each object has not been seen, here or before."""
    values = ids.to_numpy(zero_copy_only=False)
    out = np.zeros(len(values), bool)
    out[np.unique(values, return_index=True)[1] if len(values) else []] = True
    return out & ~np.isin(values, seen)


def blend(held: HeldOut, catalogue: Together, score: str = "crps", seed: int = 1) -> tuple[Choice, Bundle]:
    """Choose weight and map, and what the file is to hold; whether it helps is for the caller to ask."""
    chosen = choose(held.forest, held.images, held.grid, held.z, score, seed)
    known = {row["model"]: row for row in catalogue.models().to_pylist()}
    card = {
        "kind": KIND,
        "survey": known[catalogue.both.images]["survey"],
        "grid": {"z_max": float(held.grid[-1]), "points": len(held.grid)},
        "weight": chosen.weight,
        "weight_error": chosen.error,
        "held_out": {**held.about, **chosen.figures()},
    }
    for role, name in catalogue.both._asdict().items():
        row = known[name]
        card[role] = {"sha256": row["bundle_sha256"], "kind": row["kind"], "model": name, "bands": row["bands"]}
        card[role]["processing_id"] = row["processing_id"]
        card[role]["grid"] = {"z_max": row["z_grid"][-1], "points": len(row["z_grid"])}
    return chosen, bundles.seal(card, {} if chosen.slope is None else {"slope": chosen.slope})
