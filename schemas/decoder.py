"""From messages to galaxies: the contract of every decoder, and the decoder of the native galaxy message.

The invariant, checked in each call: every message has at least one galaxy, or stands whole in the refusals.
"""

from collections import defaultdict
from collections.abc import Callable
from typing import Any, NamedTuple, Protocol

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from schemas.bands import band_set
from schemas.batch import BandState, Galaxies, Int32, Int64, Messages, Reason, Refusals, Stamps
from schemas.errors import UserError
from schemas.surveys import native
from schemas.wire import arrow_ipc, confluent
from schemas.wire.avro_records import UNKNOWN_STATE, RecordReader
from schemas.wire.framing import FRAMINGS, Refused, detect

MAX_MESSAGE_BYTES = 64 << 20
MAX_ROWS = 1 << 20

Bools = npt.NDArray[np.bool_]


class Decoder(Protocol):
    """Turns the messages of one survey into galaxies.

    Attributes
    ----------
    version
        Part of the processing id: another version may give other rows for the same message.
    bands
        The bands of the galaxies, in the order of their columns.
    """

    version: str
    bands: tuple[str, ...]

    def decode(self, messages: Messages) -> tuple[Galaxies, Refusals]:
        """Galaxies in message order, and what gives none.

        Pure: the same messages always give the same answer. No message, however broken, makes it raise, and none costs
        another message a row. It raises only for what no message is to blame for (a registry that is away, memory).
        The caller may not assume one row a message, nor that a message with galaxies has no refused rows.
        """


class _Part(NamedTuple):
    """Columns read, and where each row comes from."""

    message: Int64
    row: Int32
    batch: pa.RecordBatch


class _Ledger:
    """The refusals of one call, in any order until they are closed."""

    def __init__(self) -> None:
        self._lines: list[tuple[int, int, int, str, int]] = []

    def refuse(self, message: int, row: int, reason: Reason, text: str, byte: int = -1) -> None:
        self._lines.append((message, row, int(reason), text, byte))

    def close(self) -> Refusals:
        lines = sorted(self._lines)
        message, row, reason, text, byte = zip(*lines, strict=True) if lines else ((), (), (), (), ())
        return Refusals(
            np.array(message, np.int64),
            np.array(row, np.int32),
            np.array(reason, np.uint8),
            list(text),
            np.array(byte, np.int64),
        )


class NativeDecoder:
    """Decodes native galaxy messages (see ``schemas.surveys.native``), Avro and Arrow, also mixed in one batch.

    Parameters
    ----------
    survey
        The survey read: it fixes the bands. Rows of another survey are refused.
    schemas
        Where the schemas of Avro messages come from; without it, the native schemas under their fingerprint ids.
    framing
        What every message is framed in, one of ``FRAMINGS``; "auto" looks at the first bytes of each.
    max_message_bytes, max_rows
        Bounds on one message; a message above one is refused whole.

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
        max_message_bytes: int = MAX_MESSAGE_BYTES,
        max_rows: int = MAX_ROWS,
    ) -> None:
        if framing not in FRAMINGS:
            raise UserError(f"No framing is called {framing!r}: there are {', '.join(FRAMINGS)}.")
        self.version = native.DECODER_VERSION
        self.survey = survey
        self.bands = band_set(survey).bands
        self._schemas = schemas or confluent.KnownSchemas(native.known_avro_schemas())
        self._framing = framing
        self._max_message_bytes = max_message_bytes
        self._max_rows = max_rows
        self._wanted = native.column_schema(self.bands)
        self._optional = native.optional(self.bands)
        self._readers: dict[int, RecordReader | Refused] = {}  # ids are immutable: kept for ever

    def decode(self, messages: Messages) -> tuple[Galaxies, Refusals]:
        """Galaxies in message order, and what gives none: see ``Decoder``."""
        ledger = _Ledger()
        parts: list[_Part] = []
        avro: dict[int, list[int]] = defaultdict(list)  # schema id -> messages
        n = len(messages.payloads)
        single = np.zeros(n, bool)  # messages of one record: their row is the message
        for m, payload in enumerate(messages.payloads):
            try:
                if not payload:
                    raise Refused(Reason.EMPTY, "a tombstone" if payload is None else "a message of no bytes")
                if len(payload) > self._max_message_bytes:
                    text = f"{len(payload)} bytes, more than the bound of {self._max_message_bytes}"
                    raise Refused(Reason.TOO_LARGE, text)
                framing = detect(payload) if self._framing == "auto" else self._framing
                if framing == "confluent-avro":
                    avro[confluent.schema_id(payload)].append(m)
                    single[m] = True
                else:
                    parts += self._arrow(m, payload)
            except Refused as refused:
                ledger.refuse(m, -1, refused.reason, refused.text, refused.byte)
        for schema_id, group in avro.items():
            parts += self._avro(schema_id, group, messages, ledger)
        galaxies = self._galaxies(_in_order(parts, self._wanted), single, ledger)
        refusals = ledger.close()
        _check_every_message(n, galaxies, refusals)
        return galaxies, refusals

    def _arrow(self, m: int, payload: bytes) -> list[_Part]:
        try:
            batches = arrow_ipc.read(payload, self._wanted, self._optional, self._max_rows, native.ARROW_METADATA)
        except Refused as refused:
            theirs = arrow_ipc.metadata(payload, "slipher.survey") if refused.reason == Reason.LACKS_FIELD else None
            if theirs not in (None, self.survey):
                raise Refused(Reason.WRONG_SURVEY, f"a message of survey {theirs!r}, not {self.survey}") from refused
            raise
        except MemoryError:
            raise
        except Exception as error:  # garbage that Arrow lets through its own checks
            raise Refused(
                Reason.CORRUPT, f"the Arrow stream cannot be read: {type(error).__name__}: {error}"
            ) from error
        parts = []
        first = 0
        for batch in batches:
            rows = np.arange(first, first + batch.num_rows, dtype=np.int32)
            parts.append(_Part(np.full(batch.num_rows, m, np.int64), rows, batch))
            first += batch.num_rows
        return parts

    def _avro(self, schema_id: int, group: list[int], messages: Messages, ledger: _Ledger) -> list[_Part]:
        reader = self._reader(schema_id)
        if isinstance(reader, Refused):
            for m in group:
                ledger.refuse(m, -1, reader.reason, reader.text, 1)
            return []
        payloads = [payload for m in group if (payload := messages.payloads[m]) is not None]
        batch, read, refused = reader.read(payloads, confluent.HEADER_BYTES)
        for index, why in refused:
            ledger.refuse(group[index], -1, why.reason, why.text, why.byte)
        message = np.array(group, np.int64)[np.array(read, np.int64)]
        return [_Part(message, np.zeros(len(message), np.int32), batch)]

    def _reader(self, schema_id: int) -> RecordReader | Refused:
        reader = self._readers.get(schema_id)
        if reader is None:
            writer = self._schemas.get(schema_id)
            if writer is None:  # not kept: a registry may learn it later
                return Refused(Reason.UNKNOWN_SCHEMA, f"no schema has the id {schema_id}")
            try:
                reader = RecordReader(writer, self._wanted, self._optional)
            except Refused as refused:
                reader = refused
            self._readers[schema_id] = reader
        return reader

    def _galaxies(self, part: _Part, single: Bools, ledger: _Ledger) -> Galaxies:
        """Galaxies of the rows that pass; the others go to the ledger, each for the first thing wrong with it."""
        table = part.batch
        ra, dec = _floats(table["ra"]), _floats(table["dec"])
        state = np.empty((len(ra), len(self.bands)), np.uint8)
        for b, band in enumerate(self.bands):
            state[:, b] = pc.fill_null(table[f"state_{band}"], UNKNOWN_STATE).to_numpy()

        good: Bools = np.ones(len(ra), bool)

        def rejected(bad: Bools, reason: Reason, say: Callable[[int], str]) -> None:
            for i in np.flatnonzero(bad & good).tolist():
                m = int(part.message[i])
                ledger.refuse(m, -1 if single[m] else int(part.row[i]), reason, say(i))
            good[bad] = False

        def state_text(i: int) -> str:
            b = int(np.argmax(state[i] > BandState.NON_DETECTED))
            return f"band {self.bands[b]} has an unknown state"

        survey, names = table["survey"], table["object_id"]
        rejected(
            ~_truth(pc.equal(survey, self.survey)),
            Reason.WRONG_SURVEY,
            lambda i: f"a galaxy of survey {survey[i].as_py()!r}, not {self.survey}",
        )
        stateless: Bools = np.any(state > BandState.NON_DETECTED, axis=1)
        rejected(stateless, Reason.CORRUPT, state_text)
        rejected(~_truth(pc.greater(pc.binary_length(names), 0)), Reason.BAD_OBJECT_ID, lambda i: "no object id")
        on_sky = (ra >= 0) & (ra <= 360) & (dec >= -90) & (dec <= 90)  # false for NaN
        rejected(~on_sky, Reason.BAD_POSITION, lambda i: f"ra {ra[i]}, dec {dec[i]} deg is no position on the sky")

        if not good.all():
            part = _Part(part.message[good], part.row[good], table.filter(pa.array(good)))
            table, ra, dec, state = part.batch, ra[good], dec[good], state[good]
        return Galaxies(
            bands=self.bands,
            survey=table["survey"],
            object_id=table["object_id"],
            alert_id=pc.fill_null(table["alert_id"], ""),
            ra=np.where(ra == 360, 0.0, ra),
            dec=dec,
            mjd=_floats(table["mjd"]),
            flux=_matrix(table, [f"flux_{band}" for band in self.bands]),
            flux_err=_matrix(table, [f"flux_err_{band}" for band in self.bands]),
            band_state=state,
            ebv=_floats(table["ebv"]),
            message=part.message,
            row=part.row,
            stamps=_stamps(table),
        )


def _in_order(parts: list[_Part], schema: pa.Schema) -> _Part:
    """All parts as one, in message order, then row order."""
    if not parts:
        empty = pa.record_batch([pa.array([], field.type) for field in schema], schema=schema)
        return _Part(np.empty(0, np.int64), np.empty(0, np.int32), empty)
    message = np.concatenate([part.message for part in parts])
    row = np.concatenate([part.row for part in parts])
    table = pa.concat_batches([part.batch for part in parts])
    if (np.diff(message) < 0).any():
        order = np.argsort(message, kind="stable")  # the rows of one message already are in order
        return _Part(message[order], row[order], table.take(pa.array(order)))
    return _Part(message, row, table)


def _check_every_message(n: int, galaxies: Galaxies, refusals: Refusals) -> None:
    seen = np.zeros(n, bool)
    seen[galaxies.message] = True
    seen[refusals.message] = True
    if not seen.all():
        raise AssertionError(f"message {int(np.argmin(seen))} gave neither a galaxy nor a refusal")


def _truth(answer: pa.Array) -> Bools:
    return np.asarray(pc.fill_null(answer, False).to_numpy(zero_copy_only=False), bool)


def _floats(column: pa.Array) -> npt.NDArray[Any]:
    filled = pc.fill_null(column, np.nan) if column.null_count else column
    values: npt.NDArray[Any] = filled.to_numpy(zero_copy_only=False)
    return values


def _matrix(table: pa.RecordBatch, names: list[str]) -> npt.NDArray[np.float32]:
    matrix = np.empty((table.num_rows, len(names)), np.float32)
    for b, name in enumerate(names):
        matrix[:, b] = _floats(table[name])
    return matrix


def _integers(column: pa.Array) -> Int32:
    return np.asarray(pc.fill_null(column, 0).to_numpy(), np.int32)


def _stamps(table: pa.RecordBatch) -> Stamps | None:
    """The stamps of a batch, or None where no galaxy has one."""
    pixels = table["stamp_pixels"]
    if pixels.null_count == len(pixels):
        return None
    return Stamps(
        height=_integers(table["stamp_height"]),
        width=_integers(table["stamp_width"]),
        scale=np.asarray(_floats(table["stamp_scale"]), np.float32),
        pixels=pixels,
        variance=table["stamp_variance"],
    )
