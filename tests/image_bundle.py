"""An image bundle whose networks learnt nothing, made in a moment; and galaxies with stamps. Needs no torch."""

import numpy as np
import pyarrow as pa

from models.bundle import Bundle, seal
from models.images.architecture import Architecture, columns
from models.images.lean_shape import LeanShape, shape
from schemas.bands import band_set
from schemas.batch import Float32, Float64, Galaxies, Stamps
from tests.made_galaxies import changed, galaxies

SURVEY, SIZE, POINTS = "euclid", 16, 41
SKY = 3.0  # noise of a pixel, nJy


def random_bundle(nets: int = 1, survey: str = SURVEY, size: int = SIZE, points: int = POINTS, seed: int = 1) -> Bundle:
    """Lean mixed networks with random weights, without recalibration: answers differ from galaxy to galaxy, and mean nothing."""
    bands = band_set(survey)
    n_bands = len(bands.bands)
    of = Architecture("lean", "mixed", n_bands, size, points)
    card = {
        "kind": "images",
        "survey": survey,
        "bands": list(bands.bands),
        "reference": bands.reference,
        "dust_law": "SF11",
        "dust": list(bands.law("SF11")),
        "softening": [10.0] * n_bands,
        "grid": {"z_max": 2.0, "points": points},
        "architecture": of.card(),
        "networks": nets,
        "alpha": 1.0,
        "pit_edges": [],
    }
    tensors = {
        "slope": np.ones((2 * n_bands, 20), np.float32),
        "scaling.softening": np.full(n_bands, 2 * SKY, np.float32),
        "scaling.center": np.zeros(columns(n_bands), np.float32),
        "scaling.scale": np.full(columns(n_bands), 10.0, np.float32),
    }
    rng = np.random.default_rng(seed)
    for k in range(nets):
        tensors |= {f"network.{k}.{name}": tensor for name, tensor in random_tensors(shape(of), rng).items()}
    return seal(card, tensors)


def random_tensors(of: LeanShape, rng: np.random.Generator) -> dict[str, np.ndarray]:
    """Weights as if a network had been trained a little; what it says differs from galaxy to galaxy."""
    found: dict[str, np.ndarray] = {}
    for name, size in of.tensors().items():
        if len(size) > 1:
            some = rng.normal(0, np.sqrt(2 / np.prod(size[1:])), size)
        elif name.endswith("running_var"):
            some = rng.uniform(0.5, 2.0, size)
        elif name.endswith("normalise.weight"):
            some = rng.uniform(0.8, 1.2, size)
        elif name.endswith("activate.weight"):
            some = rng.uniform(-0.5, 1.5, size)
        else:
            some = rng.normal(0, 0.1, size)
        found[name] = some.astype(np.float32)
        if name.endswith("running_var"):
            found[name.replace("running_var", "num_batches_tracked")] = np.array([3])
    found["head.6.weight"] *= np.float32(3.0)
    return found


def with_stamps(n: int, seed: int = 1, survey: str = SURVEY, size: int = SIZE, variance: bool = True) -> Galaxies:
    """`n` galaxies, each with a stamp of a blob in noise."""
    rng = np.random.default_rng(seed)
    bands = len(band_set(survey).bands)
    away = np.hypot(*(np.indices((size, size)) - size / 2))
    width = rng.uniform(1, 3, n)[:, None, None, None]
    light = rng.uniform(20, 60, (n, bands))[:, :, None, None]
    planes = light * np.exp(-0.5 * (away / width) ** 2) + rng.normal(0, SKY, (n, bands, size, size))
    side, noise = np.full(n, size, np.int32), np.full((bands, size, size), SKY**2, "<f4").tobytes()
    stamps = Stamps(
        side,
        side,
        np.full(n, 0.1, np.float32),
        pa.array([one.astype("<f4").tobytes() for one in planes], pa.large_binary()),
        pa.array([noise if variance else None] * n, pa.large_binary()),
    )
    return changed(galaxies(n, survey, seed), band_state=np.ones((n, bands), np.uint8), stamps=stamps)


def telling(rng: np.random.Generator, n: int, size: int = SIZE) -> tuple[Float64, Float64, Float32]:
    """Galaxies in four bands whose colours and sizes tell their redshift: z, light float64[n, 4], and stamps with noise."""
    z = rng.uniform(0.05, 0.95, n)
    away = np.hypot(*(np.indices((size, size)) - size / 2))
    width = (2.5 - 1.5 * z)[:, None, None]
    shape = np.exp(-0.5 * (away / width) ** 2) / (2 * np.pi * width**2)
    total = 3000 * np.stack([z**k + 0.3 for k in range(4)], 1) * np.exp(rng.normal(0, 0.2, (n, 1)))
    stamps = (total[:, :, None, None] * shape[:, None] + rng.normal(0, SKY, (n, 4, size, size))).astype(np.float32)
    return z, total, stamps
