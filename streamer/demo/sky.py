"""The demo's night: galaxies the model has never seen, observed again, a little worse, through some dust."""

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
import pyarrow as pa

from schemas.bands import BandSet
from schemas.batch import BandState, Float64
from schemas.photometry_table import PhotometryTable

NOISE = 0.5  # of the error bar, added to every measured flux: no two alerts of a galaxy are alike
EBV_SCALE = 0.05  # mag: Galactic dust, exponentially distributed
FIELD_RADIUS = 1.75  # deg, Rubin's field of view
ALERTS_PER_FIELD = 10_000  # Rubin's mean per visit
POISON_EVERY = 10_000  # alerts between two messages that are broken on purpose
NIGHT_DAYS = 0.35  # how long the night is at most
DAY_MS = 86_400_000


class Night(NamedTuple):
    """What is published, and what is true of it."""

    table: PhotometryTable
    mjd: Float64  # days, rising
    truth: pa.Table  # object_id, z


def observe(
    validation: PhotometryTable, bands: BandSet, law: str, alerts: int, mjd: float, rng: np.random.Generator
) -> Night:
    """`alerts` alerts of galaxies drawn from `validation`, with fresh noise, reddened, on the sky.

    Parameters
    ----------
    validation
        Galaxies with redshifts that no model was trained on.
    bands, law
        The survey, and the name of the dust law that reddens them.
    alerts
        How many.
    mjd
        The last event's time; the night began up to `NIGHT_DAYS` before it.
    rng
        Draws everything.
    """
    chosen = validation.take(rng.integers(0, len(validation), alerts))
    measured = chosen.band_state == BandState.MEASURED
    err = np.where(measured, chosen.flux_err, 0.0)
    flux = chosen.flux + NOISE * err * rng.standard_normal(err.shape)
    ebv = rng.exponential(EBV_SCALE, alerts)
    dimming = 10 ** (-0.4 * np.array(bands.law(law)) * ebv[:, None])
    ra, dec = _fields(alerts, rng)
    names = [f"{galaxy}-{k:06d}" for k, galaxy in enumerate(chosen.object_id)]
    table = PhotometryTable(
        flux=(flux * dimming).astype(np.float32),
        flux_err=(chosen.flux_err * np.hypot(1, NOISE) * dimming).astype(np.float32),
        band_state=chosen.band_state,
        ebv=ebv.astype(np.float32),
        z=chosen.z,
        object_id=names,
        ra=ra,
        dec=dec,
    )
    evening = max(mjd - NIGHT_DAYS, np.floor(mjd - 0.5) + 0.5 + 60 / 86_400)  # not before the noon that began the night
    return Night(table, np.linspace(evening, mjd, alerts), pa.table({"object_id": names, "z": chosen.z}))


def with_poison(payloads: Iterator[bytes]) -> Iterator[bytes]:
    """`payloads`, and after every ten thousandth a broken copy: cut short, garbage, or of a schema nobody knows."""
    for k, payload in enumerate(payloads, 1):
        yield payload
        if k % POISON_EVERY == 0:
            kind = k // POISON_EVERY % 3
            yield (payload[: len(payload) // 2], b"this is no alert", b"\x00\x00\x00\x00\x07" + payload[5:])[kind]


def poison_in(alerts: int) -> int:
    """How many broken messages `with_poison` adds."""
    return alerts // POISON_EVERY


def _fields(n: int, rng: np.random.Generator) -> tuple[Float64, Float64]:
    """(ra, dec), deg: uniform in circular fields of view that lie side by side around (60, -35)."""
    count = -(-n // ALERTS_PER_FIELD)
    side = int(np.ceil(np.sqrt(count)))
    row, column = np.divmod(np.arange(count), side)
    centre_dec = -35 + 3.1 * (row - (side - 1) / 2)
    centre_ra = 60 + 3.5 * (column - (side - 1) / 2 + 0.5 * (row % 2)) / np.cos(np.radians(centre_dec))
    field = np.arange(n) // ALERTS_PER_FIELD
    radius, angle = FIELD_RADIUS * np.sqrt(rng.uniform(0, 1, n)), rng.uniform(0, 2 * np.pi, n)
    dec = centre_dec[field] + radius * np.sin(angle)
    return (centre_ra[field] + radius * np.cos(angle) / np.cos(np.radians(dec))) % 360, dec
