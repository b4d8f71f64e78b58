"""Catalogue rows: a galaxy, what the model says of it, and where it came from, side by side."""

from collections.abc import Callable
from typing import NamedTuple

import healpix
import numpy as np
import numpy.typing as npt
import pyarrow as pa

from consumers.pdf_column import pdf_columns
from schemas.batch import BandState, Estimates, Galaxies, Messages
from schemas.catalogue import ROWS, PdfForm
from schemas.flags import Flag
from schemas.night import Rollover, late, night_name, nights
from schemas.processing import Processing

HEALPIX_ORDER = 29


class Provenance(NamedTuple):
    """Where a worker's messages come from, and what it is."""

    processing: Processing
    cluster_id: str
    topic: str
    topic_id: str
    version: str


class RowBuilder(NamedTuple):
    """What the rows of a worker have in common, whatever makes their PDFs.

    Attributes
    ----------
    origin
        Provenance of all rows.
    rollover
        When the survey's night begins.
    now_ms
        The clock: ms since 1970 UTC.
    pdf
        Which form of the PDFs is stored.
    """

    origin: Provenance
    rollover: Rollover
    now_ms: Callable[[], int]
    pdf: PdfForm = "plain"

    def build(self, messages: Messages, galaxies: Galaxies, estimates: Estimates) -> pa.Table:
        """Rows, as ``build`` makes them, of now."""
        return build(messages, galaxies, estimates, self.origin, self.rollover, self.now_ms(), self.pdf)


def build(
    messages: Messages,
    galaxies: Galaxies,
    estimates: Estimates,
    origin: Provenance,
    rollover: Rollover,
    now_ms: int,
    pdf: PdfForm = "plain",
) -> pa.Table:
    """Rows in the schema of the rows table, one per galaxy.

    Parameters
    ----------
    messages
        What the source read.
    galaxies, estimates
        n of each, in the same order. The memory of the PDFs is taken.
    origin
        Provenance of all of them.
    rollover
        When the survey's night begins.
    now_ms
        Ingest time, ms since 1970 UTC.
    pdf
        Which form of the PDFs is stored.
    """
    n = len(galaxies)
    at = galaxies.message
    kafka_ms = messages.timestamp_ms[at]
    night, bad_time = nights(galaxies.mjd, kafka_ms, rollover)
    flags = estimates.flags | np.where(bad_time, np.uint32(Flag.BAD_EVENT_TIME), np.uint32(0))
    flags |= np.where(late(night, kafka_ms, bad_time, rollover), np.uint32(Flag.LATE), np.uint32(0))
    if galaxies.flags is not None:
        flags |= galaxies.flags
    columns: dict[str, pa.Array | str] = {
        "night": _names(night),
        "model": origin.processing.model,
        "survey": galaxies.survey,
        "object_id": galaxies.object_id,
        "alert_id": galaxies.alert_id,
        "ra": galaxies.ra,
        "dec": galaxies.dec,
        "_healpix_29": healpix.ang2pix(1 << HEALPIX_ORDER, galaxies.ra, galaxies.dec, lonlat=True, nest=True),
        "mjd": _nullable(galaxies.mjd),
        "z_mode": _nullable(estimates.z_mode),
        "z_mean": _nullable(estimates.z_mean),
        "z_median": _nullable(estimates.z_median),
        "z_best": _nullable(estimates.z_best),
        "z_best_risk": _nullable(estimates.z_best_risk),
        "z_sigma": _nullable(estimates.z_sigma),
        "z_lo68": _nullable(estimates.z_lo68),
        "z_hi68": _nullable(estimates.z_hi68),
        "z_lo95": _nullable(estimates.z_lo95),
        "z_hi95": _nullable(estimates.z_hi95),
        "odds_0p03": _nullable(estimates.odds),
        "mag_ref": _nullable(estimates.mag_ref),
        "ebv": _nullable(galaxies.ebv),
        "flags": flags.astype(np.int32),
        "band_mask": estimates.band_mask.astype(np.int32),
        "nondetection_mask": _mask(galaxies, BandState.NON_DETECTED),
        **pdf_columns(estimates.pdf, pdf),
        "cluster_id": origin.cluster_id,
        "topic": origin.topic,
        "topic_id": origin.topic_id,
        "kafka_partition": messages.partition[at],
        "kafka_offset": messages.offset[at],
        "kafka_row": galaxies.row,
        "kafka_timestamp": pa.array(kafka_ms * 1000, mask=kafka_ms < 0),
        "ingest_time": np.full(n, now_ms * 1000, np.int64),
        "processing_id": origin.processing.id,
        "slipher_version": origin.version,
    }
    return pa.table([_array(columns[f.name], f.type, n) for f in ROWS], schema=ROWS)


def _array(column: pa.Array | npt.NDArray[np.generic] | str, kind: pa.DataType, n: int) -> pa.Array:
    if isinstance(column, str):
        return pa.repeat(pa.scalar(column, kind), n)
    array = column if isinstance(column, pa.Array) else pa.array(column)
    return array if array.type == kind else array.cast(kind)


def _nullable(values: npt.NDArray[np.floating]) -> pa.Array:
    """NaN and infinity are no numbers of a table: they become null."""
    return pa.array(values, mask=~np.isfinite(values))


def _names(night: npt.NDArray[np.int32]) -> pa.Array:
    distinct, which = np.unique(night, return_inverse=True)
    return pa.array([night_name(int(index)) for index in distinct], pa.string()).take(pa.array(which))


def _mask(galaxies: Galaxies, state: BandState) -> npt.NDArray[np.int32]:
    bits = np.int32(1) << np.arange(len(galaxies.bands), dtype=np.int32)
    return ((galaxies.band_state == state) * bits).sum(axis=1, dtype=np.int32)
