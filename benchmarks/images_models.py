"""Networks and forests of the benchmark of images, on a simulated sky or real quasars: PDFs of what they did not know."""

import tempfile
import time
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.images_data import Observed, quasars, sky
from models import calibration, training
from models import grid as grids
from models.calibration import HeldOut
from models.forest.density import densities, histograms, leaf_density, smoothing
from models.forest.estimator import ForestEstimator
from models.forest.train import grow
from models.forest.walk import leaves
from models.images.fit import fit
from models.images.gallery import Gallery
from models.images.settings import ImageSettings
from schemas.bands import band_set
from schemas.batch import Float32, Float64

Answer = tuple[dict[str, np.ndarray], dict[str, Any]]  # PDFs by name, and what else is to be told
QUASAR_GRID, SKY_GRID = (4.6, 461), (0.62, 311)
QUASAR_EPOCHS, QUASAR_BATCH = 60, 64
FOLDS = 5
SKY_SEED, TEST_SEED = 11, 12  # of training and test skies
# It has no normalisation to hold a rate of 3e-3; its authors took 1e-4 for a training of many times the length.
PASQUET: dict[str, Any] = {"kind": "pasquet", "sees": "image"}
PASQUET_RATE = 5e-4


def network(
    known: Gallery,
    unseen: Gallery,
    grid: tuple[float, int],
    settings: ImageSettings,
    device: str,
    nets: int = 1,
    keep: Path | None = None,
    **of: Any,
) -> Answer:
    """Train networks on `known`; their PDFs of `unseen`, as they are (``raw``) and recalibrated (``pdf``)."""
    from models.images.engine import one_thread
    from models.images.estimator import ImageEstimator

    clock = time.perf_counter if device == "cuda" else time.process_time
    bundle = fit(
        known,
        band_set("sdss"),
        nets=nets,
        settings=settings,
        z_max=grid[0],
        points=grid[1],
        device=device,
        keep=keep,
        clock=clock,
        **of,
    )
    model = ImageEstimator(bundle, device)
    one_thread(model.engine.engine)
    raw, pdf = model.pdfs(unseen)
    made = bundle.card["training"]
    learns = made["n"] - made["n_held_out"]
    batch = min(settings.batch, learns)
    about = {
        "device": f"{device} {made['precision']}",
        "seconds": made["seconds"],
        "epochs": [round(steps / max(learns // batch, 1), 1) for steps in made["steps"]],
        "parameters": sum(v.size for k, v in bundle.tensors.items() if k.startswith("network.0.")),
        "recalibration": bundle.card["recalibration"],
        "curve": [[c[0], round(c[1], 2), round(c[2], 4), round(c[3], 5)] for c in made["checks"][0]],
    }
    return {"pdf": pdf, "raw": raw}, about


def catalogue_forest(known: Gallery, unseen: Gallery, grid: tuple[float, int]) -> Float32:
    """PDFs of slipher's forest with its defaults, on the catalogue."""
    settings = training.ForestSettings(z_max=grid[0], grid_points=grid[1])
    bands = band_set("sdss")
    bundle = training.fit(known.flux, known.flux_err, known.band_state, known.ebv, known.z, bands, settings)
    return ForestEstimator(bundle).estimate_arrays(unseen.flux, unseen.flux_err, unseen.band_state, unseen.ebv).pdf


def plain_forest(features: Float32, z: Float64, unseen: Float32, grid: Float64, threads: int) -> Float32:
    """PDFs of extra trees on any features; smoothing, power and recalibration are chosen out of fold."""
    n = len(z)
    weight, rows = np.ones(n), np.arange(n)

    def grown(on: np.ndarray) -> Any:
        return grow(
            features[on],
            z[on],
            on,
            kind="extra-trees",
            trees=100,
            min_leaf=3,
            max_features=1.0,
            seed=1,
            threads=threads,
        )

    def look(forest: Any, at: Float32) -> Float32:
        return histograms(leaves(at, forest.nodes()), leaf_density(forest, z, weight, grid), len(grid))

    out = np.empty((n, len(grid)), np.float32)
    for others, part in calibration.folds(n, 4, np.random.default_rng(1)):
        out[part] = look(grown(others), features[part])
    held = HeldOut(out, z, features[:, 0], np.ones(n, np.uint32))
    chosen = calibration.calibrate(held, None, grid, 1)
    maps = chosen.maps.of(unseen[:, 0], np.ones(len(unseen), np.uint32), 1)
    kernel = smoothing(grid, chosen.width)
    found = look(grown(rows), unseen)
    return densities(found, grid, kernel, chosen.alpha, chosen.maps, maps)


def quasar_parts(n: int) -> list[tuple[np.ndarray, np.ndarray]]:
    """The folds: (others, part)."""
    return list(calibration.folds(n, FOLDS, np.random.default_rng(5)))


def quasar_forest() -> Answer:
    """PDFs of the quasars by forests that did not know them."""
    gallery = known_quasars()
    pdf = np.empty((len(gallery.z), QUASAR_GRID[1]), np.float32)
    for others, part in quasar_parts(len(gallery.z)):
        pdf[part] = catalogue_forest(gallery.of(others), gallery.of(part), QUASAR_GRID)
    return {"pdf": pdf}, {}


def quasar_networks(fold: int, several: tuple[int, ...], device: str) -> Answer:
    """PDFs of one fold's quasars by so many mixed networks as each of `several` says, the more going on from the fewer."""
    gallery = known_quasars()
    others, part = quasar_parts(len(gallery.z))[fold]
    settings = ImageSettings(batch=QUASAR_BATCH, epochs=QUASAR_EPOCHS)
    arrays: dict[str, np.ndarray] = {"part": part}
    about: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as keep:
        for nets in several:
            found, about[str(nets)] = network(
                gallery.of(others), gallery.of(part), QUASAR_GRID, settings, device, nets, Path(keep)
            )
            arrays |= {f"{name}_{nets}": pdf for name, pdf in found.items()}
    return arrays, about


def known_quasars() -> Gallery:
    """The quasars.

    Raises
    ------
    RuntimeError
        If they are not at hand.
    """
    gallery = quasars()
    if gallery is None:
        raise RuntimeError("the quasars' stamps are not at hand: name their folder in SLIPHER_TEST_DATA")
    return gallery


@cache
def skies(n: int, tested: int) -> tuple[Observed, Observed]:
    """Training and test galaxies."""
    return sky("sdss", n, SKY_SEED), sky("sdss", tested, TEST_SEED)


def sky_forest(sees: str, size: int, largest: int, tested: int) -> Answer:
    """PDFs of the sky's test galaxies by a forest that sees ``magnitudes`` or ``apertures`` of `size` of the `largest` known."""
    known, unseen = skies(largest, tested)
    few, grid = known.of(np.arange(size)), grids.linear(*SKY_GRID)
    return {"pdf": plain_forest(getattr(few, sees), few.gallery.z, getattr(unseen, sees), grid, 1)}, {}


def sky_network(what: str, size: int, largest: int, tested: int, seconds: float, device: str) -> Answer:
    """The same by one network: Pasquet's, or the lean one that sees `what`."""
    known, unseen = skies(largest, tested)
    rate = {"rate": PASQUET_RATE} if what == "pasquet" else {}
    of = PASQUET if what == "pasquet" else {"kind": "lean", "sees": what}
    settings = ImageSettings(seconds=seconds, **rate)  # type: ignore[arg-type]
    return network(known.gallery.of(np.arange(size)), unseen.gallery, SKY_GRID, settings, device, **of)
