"""Whether a table can be what a model was trained on: its fluxes in the same unit, its stamps of the same pixels."""

from typing import Any

import numpy as np

from schemas import stamp_columns
from schemas.batch import BandState
from schemas.errors import UserError
from schemas.photometry_table import PhotometryTable

FEWEST = 30  # galaxies whose median says something
WRONG_UNIT = 2.5  # magnitudes that every band's median lies beyond the training range: no other galaxies, another unit
OTHER_PIXELS = 0.01  # relative: stamps whose pixels differ more from those of the training show other galaxies


def check_units(truth: PhotometryTable, card: dict[str, Any], name: str) -> None:
    """Refuse fluxes that lie, in every band, far outside what the model of `card` was trained on: they are in another unit.

    Raises
    ------
    schemas.errors.UserError
        Naming `name`, the reference band, its median magnitude and the range expected.
    """
    ranges = card.get("magnitude_range") or {}
    beyond, told = [], ""
    for b, band in enumerate(card["bands"]):
        low, high = ranges.get(band) or (None, None)
        flux = truth.flux[truth.band_state[:, b] == BandState.MEASURED, b].astype(np.float64)
        flux = flux[flux > 0]
        if low is None or high is None or len(flux) < FEWEST:
            continue
        median = float(31.4 - 2.5 * np.log10(np.median(flux)))
        beyond.append(median < low - WRONG_UNIT or median > high + WRONG_UNIT)
        if beyond[-1] and (not told or band == card["reference"]):
            told = f"in band {band} half of the galaxies are brighter than {median:.1f} mag"
            told += f", and the model was trained on {low:.1f} to {high:.1f}"
    if beyond and all(beyond):
        raise UserError(f"{name}: {told}. Are the columns flux_... in nJy (AB magnitude 31.4 is 1 nJy)?")


def check_stamps(truth: PhotometryTable, card: dict[str, Any], name: str) -> None:
    """Refuse a table without stamps of a model's bands, or with pixels of another size than those that its networks learnt on.

    Raises
    ------
    schemas.errors.UserError
        Naming `name`, and the pixels.
    """
    if truth.stamps is None:
        raise UserError(
            f"{name} has no stamps, and this model looks at stamps: want the columns {', '.join(stamp_columns.NAMES)}, "
            "in Parquet or Arrow."
        )
    planes = len(card.get("bands", ()))
    if planes and not stamp_columns.whole(truth.stamps, planes).any():
        raise UserError(f"{name}: no galaxy has a stamp of {planes} planes, those of the model's bands.")
    wanted = (card.get("stamps") or {}).get("scale")
    scale = truth.stamps.scale[truth.stamps.scale > 0].astype(np.float64)
    if wanted and len(scale) and abs(float(np.median(scale)) / wanted - 1.0) > OTHER_PIXELS:
        raise UserError(
            f"{name}: the pixels of its stamps are {np.median(scale):g} arcsec, and the model was trained on {wanted:g}."
        )
