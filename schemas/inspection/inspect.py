"""One message looked at as a worker would: the galaxies it gives, and exactly why the rest of it is refused."""

from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa

from schemas.avro import Want
from schemas.batch import Galaxies, Messages, Refusals
from schemas.decoder import Decoder
from schemas.errors import UserError
from schemas.inspection.anatomy import Anatomy, anatomy
from schemas.inspection.guess import Guess, Survey, guess
from schemas.native_decoder import NativeDecoder
from schemas.night import nights, rollover
from schemas.packet_decoder import PacketDecoder
from schemas.reading import MAX_MESSAGE_BYTES, Ledger, Reading
from schemas.wire import confluent


class Inspection(NamedTuple):
    """What a message is.

    Attributes
    ----------
    payload
        The message; None = a tombstone.
    anatomy
        What stands around its fields.
    guess
        Whose packet it is; None where its fields are unknown.
    galaxies, refusals
        What a worker would get.
    night, bad_time
        Of each galaxy: days from 1970-01-01, int32[n]; whether its event time is of no use, bool[n].
    cutouts
        For each galaxy its images, by name: bytes as the survey sends them, None = not sent.
    """

    payload: bytes | None
    anatomy: Anatomy
    guess: Guess | None
    galaxies: Galaxies
    refusals: Refusals
    night: np.ndarray
    bad_time: np.ndarray
    cutouts: list[dict[str, bytes | None]]


class Options(NamedTuple):
    """What a person knows of a message beforehand.

    Attributes
    ----------
    schemas
        Where the schemas of Confluent-framed Avro come from.
    framing, bare
        As in ``Reading``.
    alerts
        What it is, as `slipher run --alerts` has it; "" = unknown.
    """

    schemas: confluent.SchemaSource
    framing: str = "auto"
    bare: Any = None
    alerts: str = ""


def inspect(payload: bytes | None, options: Options, timestamp_ms: int = -1) -> Inspection:
    """Look at `payload`, which Kafka got at `timestamp_ms`, ms since 1970 UTC (-1 = it did not come from there).

    Raises
    ------
    UserError
        The options are wrong.
    TroubleError
        The source of schemas does not say.
    """
    schemas, how, bare, alerts = options
    around = anatomy(payload, how, schemas, bare, MAX_MESSAGE_BYTES)
    found = guess(payload or b"", around, how, schemas, bare, alerts)
    survey = found.survey if found else Survey("native", "lsst", None)  # whichever: it refuses what no survey reads
    message = Messages([payload], np.zeros(1, np.int32), np.zeros(1, np.int64), np.array([timestamp_ms]), {0: 1})
    galaxies, refusals = _decoder(survey, options).decode(message)
    rule = rollover(survey.packet.name if survey.packet else survey.survey)
    night, bad_time = nights(galaxies.mjd, np.full(len(galaxies), timestamp_ms), rule)
    return Inspection(
        payload, around, found, galaxies, refusals, night, bad_time, _cutouts(message, survey, galaxies, options)
    )


def _decoder(survey: Survey, options: Options) -> Decoder:
    schemas, how, bare, _ = options
    if survey.packet is None:
        return NativeDecoder(survey.survey, schemas, how, bare)
    return PacketDecoder(survey.packet, schemas, how, bare)


def _cutouts(message: Messages, survey: Survey, galaxies: Galaxies, options: Options) -> list[dict[str, bytes | None]]:
    """The bytes of each galaxy's images."""
    if survey.packet is None or not survey.packet.cutouts or not len(galaxies):
        return [{} for _ in range(len(galaxies))]
    wants = [Want(path, "bytes", default=None) for _, path in survey.packet.cutouts]
    try:
        rows = Reading(wants, options.schemas, options.framing, options.bare).read(message, Ledger(1))
    except UserError:  # a cutout is something else than bytes in the bare schema
        return [{} for _ in range(len(galaxies))]
    at = {int(row): k for k, row in enumerate(rows.row)}
    columns: dict[str, pa.Array] = {name: rows.columns[path] for name, path in survey.packet.cutouts}
    return [
        {name: column[at[row]].as_py() if row in at else None for name, column in columns.items()}
        for row in galaxies.row.tolist()
    ]
