"""The decoder of the native galaxy message (see ``schemas.surveys.native``): Avro, Arrow or JSON, also mixed in one batch."""

from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from schemas.avro import REQUIRED, Kind, Want
from schemas.bands import band_set
from schemas.batch import BandState, Galaxies, Int32, Messages, Reason, Refusals, Stamps
from schemas.reading import MAX_MESSAGE_BYTES, MAX_ROWS, NO_INTEGER, Column, Ledger, Reading, Rows
from schemas.surveys import native
from schemas.wire import confluent

_KINDS: dict[pa.DataType, Kind] = {
    pa.string(): "string",
    pa.float64(): "f8",
    pa.float32(): "f4",
    pa.int32(): "i8",
    pa.uint8(): "enum",
    pa.binary(): "bytes",
}


PIXELS = ("stamp_pixels", "stamp_variance")


class NativeDecoder:
    """Decodes native galaxy messages.

    Parameters
    ----------
    survey
        The survey read: it fixes the bands. Rows of another survey are refused.
    schemas
        Where the schemas of Confluent-framed Avro come from; without it, the native schemas under their fingerprint ids.
    stamps
        Whether pixels are brought along. Without them the galaxies are the same, as is what is refused, and a batch with
        stamps costs little more than one that has none.
    framing, bare, max_message_bytes, max_rows
        As in ``Reading``.

    Raises
    ------
    UserError
        No such framing.
    """

    def __init__(
        self,
        survey: str,
        schemas: confluent.SchemaSource | None = None,
        framing: str = "auto",
        bare: Any = None,
        max_message_bytes: int = MAX_MESSAGE_BYTES,
        max_rows: int = MAX_ROWS,
        stamps: bool = True,
    ) -> None:
        self.version = native.DECODER_VERSION
        self.survey = survey
        self.bands = band_set(survey).bands
        self._reading = Reading(
            wants(self.bands),
            schemas or confluent.KnownSchemas(native.known_avro_schemas()),
            framing,
            bare,
            native.ARROW_METADATA,
            survey,
            () if stamps else PIXELS,
            max_message_bytes,
            max_rows,
        )

    def decode(self, messages: Messages) -> tuple[Galaxies, Refusals]:
        """Galaxies in message order, and what gives none: see ``Decoder``."""
        ledger = Ledger(len(messages.payloads))
        galaxies = self._galaxies(self._reading.read(messages, ledger), ledger)
        return galaxies, ledger.close(galaxies.message)

    def _galaxies(self, rows: Rows, ledger: Ledger) -> Galaxies:
        """Galaxies of the rows that pass; the others go to the ledger, each for the first thing wrong with it."""
        ours = _truth(pc.equal(rows.columns["survey"], self.survey))
        rows = ledger.keep(rows, ours, Reason.WRONG_SURVEY, self._other_survey)
        rows = ledger.keep(
            rows, self._states(rows).max(axis=1, initial=0) <= max(BandState), Reason.CORRUPT, self._state
        )
        fits = _fits(rows.columns["stamp_height"]) & _fits(rows.columns["stamp_width"])
        rows = ledger.keep(rows, fits, Reason.CORRUPT, lambda rows, i: "a size of a stamp has more than 32 bits")
        named = _truth(pc.greater(pc.binary_length(rows.columns["object_id"]), 0))
        rows = ledger.keep(rows, named, Reason.BAD_OBJECT_ID, lambda rows, i: "no object id")
        rows = ledger.keep(rows, on_sky(rows.columns["ra"], rows.columns["dec"]), Reason.BAD_POSITION, _position)
        columns = rows.columns
        return Galaxies(
            bands=self.bands,
            survey=columns["survey"],
            object_id=columns["object_id"],
            alert_id=pc.fill_null(columns["alert_id"], ""),
            ra=np.where(columns["ra"] == 360, 0.0, columns["ra"]),
            dec=columns["dec"],
            mjd=columns["mjd"],
            flux=self._matrix(rows, "flux"),
            flux_err=self._matrix(rows, "flux_err"),
            band_state=self._states(rows),
            ebv=columns["ebv"],
            message=rows.message,
            row=rows.row,
            stamps=_stamps(columns),
        )

    def _matrix(self, rows: Rows, name: str) -> npt.NDArray[np.float32]:
        matrix = np.empty((len(rows.message), len(self.bands)), np.float32)
        for b, band in enumerate(self.bands):
            matrix[:, b] = rows.columns[f"{name}_{band}"]
        return matrix

    def _states(self, rows: Rows) -> npt.NDArray[np.uint8]:
        states = np.empty((len(rows.message), len(self.bands)), np.uint8)
        for b, band in enumerate(self.bands):
            states[:, b] = rows.columns[f"state_{band}"]  # -1 and 255 are a symbol that is none of ours
        return states

    def _other_survey(self, rows: Rows, i: int) -> str:
        return f"a galaxy of survey {rows.columns['survey'][i].as_py()!r}, not {self.survey}"

    def _state(self, rows: Rows, i: int) -> str:
        return f"band {self.bands[int(np.argmax(self._states(rows)[i]))]} has an unknown state"


def wants(bands: tuple[str, ...]) -> list[Want]:
    """The fields of a galaxy in `bands`."""
    symbols = tuple(state.name for state in BandState)
    return [
        Want(
            c.name,
            _KINDS[c.arrow],
            REQUIRED if c.required else c.default,
            symbols=symbols if _KINDS[c.arrow] == "enum" else (),
        )
        for c in native.columns(bands)
    ]


def on_sky(ra: Column, dec: Column) -> npt.NDArray[np.bool_]:
    """Whether right ascension and declination, deg, are a position; false for NaN."""
    return np.asarray((ra >= 0) & (ra <= 360) & (dec >= -90) & (dec <= 90), bool)


def _position(rows: Rows, i: int) -> str:
    return f"ra {rows.columns['ra'][i]}, dec {rows.columns['dec'][i]} deg is no position on the sky"


def _truth(answer: pa.Array) -> npt.NDArray[np.bool_]:
    return np.asarray(pc.fill_null(answer, False).to_numpy(zero_copy_only=False), bool)


def _fits(values: Column) -> npt.NDArray[np.bool_]:
    narrow = np.iinfo(np.int32)
    return np.asarray(((values >= narrow.min) & (values <= narrow.max)) | (values == NO_INTEGER), bool)


def _integers(values: Column) -> Int32:
    return np.where(values == NO_INTEGER, 0, values).astype(np.int32)


def _stamps(columns: dict[str, Column]) -> Stamps | None:
    """The stamps of a batch, or None where no galaxy has one."""
    if "stamp_pixels" not in columns:
        return None
    pixels: pa.Array = columns["stamp_pixels"]
    if pixels.null_count == len(pixels):
        return None
    return Stamps(
        height=_integers(columns["stamp_height"]),
        width=_integers(columns["stamp_width"]),
        scale=columns["stamp_scale"],
        pixels=pixels,
        variance=columns["stamp_variance"],
    )
