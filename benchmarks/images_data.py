"""Galaxies with stamps for the benchmarks of images: a simulated sky, and real quasars of SDSS where they are at hand."""

import os
from pathlib import Path
from typing import NamedTuple

import numpy as np

from models.images.gallery import Gallery
from models.photometry import asinh_magnitude
from models.sky.simulate import simulate, sky_noise
from models.sky.surveys import sky_survey
from schemas.bands import band_set
from schemas.batch import Float32
from schemas.magnitudes import POGSON

NANOMAGGY = 3631.0  # nJy
STAMPS, CATALOGUE = "qso_stamps_32.npz", "qso_stamps_catalog.parquet"


class Observed(NamedTuple):
    """A gallery, and what a forest may know of the same galaxies."""

    gallery: Gallery
    magnitudes: Float32  # asinh magnitudes, E(B-V): [n, B + 1] as reference magnitude, colours, E(B-V)
    apertures: Float32  # these, and aperture magnitudes, sizes and shapes from the same stamps

    def of(self, rows: np.ndarray) -> "Observed":
        """Some rows."""
        return Observed(self.gallery.of(rows), self.magnitudes[rows], self.apertures[rows])


def sky(survey: str, n: int, seed: int) -> Observed:
    """A simulated sky."""
    camera = sky_survey(survey)
    found = simulate(camera, n, seed)
    measured = found.measured
    gallery = Gallery(
        found.stamps, found.variance, measured.flux, measured.flux_err, found.band_state, found.ebv, found.truth.z
    )
    law = np.array(camera.bands.law("SF11"))
    bright = 10 ** (0.4 * law * found.ebv[:, None].astype(np.float64))
    per_pixel = sky_noise(camera)
    sky_of_catalogue = np.median(measured.flux_err.astype(np.float64), 0)
    plain = asinh_magnitude(measured.flux * bright, 1.042 * sky_of_catalogue)
    columns: list[np.ndarray] = [plain[:, [camera.reference]], plain[:, :-1] - plain[:, 1:], found.ebv[:, None]]
    more: list[np.ndarray] = []
    for k, radius in enumerate(camera.apertures):
        noise = per_pixel * np.sqrt(np.pi) * radius / camera.pixel
        inside = asinh_magnitude(measured.aperture[:, k] * bright, 1.042 * noise)
        more += [inside[:, [camera.reference]] - plain[:, [camera.reference]], inside[:, :-1] - inside[:, 1:]]
    more += [np.log(measured.size)[:, None], measured.ellipticity[:, None]]
    return Observed(
        gallery,
        np.concatenate(columns, 1).astype(np.float32),
        np.concatenate(columns + more, 1).astype(np.float32),
    )


def quasars() -> Gallery | None:
    """1,132 quasars of SDSS with 32 x 32 stamps, psf magnitudes and redshifts, from SLIPHER_TEST_DATA; None without it."""
    import pyarrow.parquet as pq

    folder = Path(os.environ.get("SLIPHER_TEST_DATA", ""))
    if not (folder / STAMPS).is_file():
        return None
    with np.load(folder / STAMPS) as file:
        stamps = file[file.files[0]].astype(np.float32) * np.float32(NANOMAGGY)
    table = pq.read_table(folder / CATALOGUE)
    bands = band_set("sdss").bands
    magnitude = np.stack([table[f"mag_{b}"].to_numpy() for b in bands], 1)
    error = np.stack([table[f"err_{b}"].to_numpy() for b in bands], 1)
    flux = NANOMAGGY * 10 ** (-0.4 * (magnitude - 22.5))
    good = (magnitude > 0) & (magnitude < 35) & (error > 0)
    flux_err = np.where(good, flux * error / POGSON, np.nan)
    dust = table["ext_r"].to_numpy() / band_set("sdss").law("SF11")[2]
    return Gallery(
        stamps,
        None,
        np.where(good, flux, np.nan).astype(np.float32),
        flux_err.astype(np.float32),
        np.where(good, 1, 0).astype(np.uint8),
        dust.astype(np.float32),
        table["z"].to_numpy().astype(np.float64),
    )
