"""A photometry table as the alerts of a survey: its rows as galaxies, and those as messages."""

from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Literal

import numpy as np
import pyarrow as pa

from schemas.bands import BandSet
from schemas.batch import Float64, Galaxies, Int64
from schemas.errors import UserError
from schemas.photometry_table import PhotometryTable
from schemas.writing import Encode, arrow_encode, avro_encode

Form = Literal["avro", "arrow"]
When = Callable[[Int64], Float64]
"""Event times of galaxies by the number of the message that each goes into: MJD in the survey's time scale, days."""

_BLOCK = 20_000  # galaxies encoded at a time: a long table is not held twice
_BLOCK_WITH_STAMPS = 1_000


def without_position(table: PhotometryTable) -> np.ndarray:
    """Rows that no decoder would take: right ascension or declination missing or no position on the sky, bool[n]."""
    return ~((table.ra >= 0) & (table.ra <= 360) & (table.dec >= -90) & (table.dec <= 90))


def placed(table: PhotometryTable, sky: np.random.Generator | None) -> PhotometryTable:
    """`table` with a position for every galaxy: those without get one from `sky`, uniform on the sphere.

    Raises
    ------
    UserError
        A galaxy has no position, and `sky` is None.
    """
    lost = without_position(table)
    n = int(lost.sum())
    if n == 0:
        return table
    if sky is None:
        raise UserError(
            f"{n:,} of {len(table):,} galaxies have no position: the table needs columns ra and dec in degrees. "
            "--synthetic-sky gives them invented ones."
        )
    ra, dec = table.ra.copy(), table.dec.copy()
    ra[lost] = sky.uniform(0, 360, n)
    dec[lost] = np.rad2deg(np.arcsin(sky.uniform(-1, 1, n)))
    return replace(table, ra=ra, dec=dec)


def galaxies(table: PhotometryTable, bands: BandSet, mjd: Float64, first: int = 0) -> Galaxies:
    """The rows of `table` as galaxies with event times `mjd`; their alert ids count from `first`."""
    n = len(table)
    return Galaxies(
        bands=bands.bands,
        survey=pa.array([bands.survey] * n, pa.string()),
        object_id=pa.array(table.object_id, pa.string()),
        alert_id=pa.array([str(first + k) for k in range(n)], pa.string()),
        ra=table.ra,
        dec=table.dec,
        mjd=mjd,
        flux=table.flux,
        flux_err=table.flux_err,
        band_state=table.band_state,
        ebv=table.ebv,
        message=np.arange(n, dtype=np.int64),
        row=np.zeros(n, np.int32),
        stamps=table.stamps,
    )


def messages(
    table: PhotometryTable, bands: BandSet, mjd: Float64 | When, encode: Encode, rows: int = 1, times: int = 1
) -> Iterator[bytes]:
    """The messages of `table`, made as they are taken.

    Parameters
    ----------
    table
        Every galaxy has a position.
    bands
        The survey.
    mjd
        Event times of the galaxies, MJD in the survey's time scale, days, float64[n]; or how they are had, asked just before
        some messages are made.
    encode
        How to write.
    rows
        Galaxies that it puts into one message.
    times
        How often the whole table is gone through: alert ids count on.
    """
    block = max((_BLOCK if table.stamps is None else _BLOCK_WITH_STAMPS) // rows, 1) * rows
    each = -(-len(table) // rows)  # messages of the table, once
    for k in range(times):
        for start in range(0, len(table), block):
            part = np.arange(start, min(start + block, len(table)))
            first = k * len(table) + start
            times_of = mjd(k * each + part // rows) if callable(mjd) else mjd[part]
            yield from encode(galaxies(table.take(part), bands, times_of, first), first)


def payloads(table: PhotometryTable, bands: BandSet, mjd: Float64, form: Form, rows: int = 2000) -> Iterator[bytes]:
    """Native messages as ``messages`` makes them: one galaxy each in Avro, `rows` each in Arrow."""
    if form == "avro":
        return messages(table, bands, mjd, avro_encode("native", bands.survey))
    return messages(table, bands, mjd, arrow_encode(bands.survey, rows), rows)
