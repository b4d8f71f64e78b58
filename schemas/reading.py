"""From messages to columns of the fields that are wanted, whatever they are framed in. What a galaxy is, others know.

Every message is sorted by its first bytes into groups that are read together: Avro by the schema it was written with,
Arrow streams and JSON one by one. A message that cannot be read stands in the ledger and costs no other a row.
"""

from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any, NamedTuple, TypeAlias

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from schemas import avro
from schemas.avro import REQUIRED, Buffers, Decoded, Program, Spans, Status, Want
from schemas.batch import Int32, Int64, Messages, Reason, Refusals
from schemas.errors import UserError
from schemas.wire import arrow_ipc, confluent, framing, json_lines
from schemas.wire.framing import FRAMINGS, HEADER_BYTES, Framing, Refused

MAX_MESSAGE_BYTES = 64 << 20
MAX_ROWS = 1 << 20

Column: TypeAlias = npt.NDArray[Any] | pa.Array
_ARROW = {
    "f4": pa.float32(),
    "f8": pa.float64(),
    "i8": pa.int64(),
    "bool": pa.uint8(),
    "enum": pa.uint8(),
    "present": pa.uint8(),
    "string": pa.string(),
    "bytes": pa.large_binary(),
}
NO_INTEGER = np.iinfo(np.int64).min  # an integer that is null


class Rows(NamedTuple):
    """n rows in message order.

    Attributes
    ----------
    message, row
        Where each comes from.
    columns
        By path: numbers as NumPy arrays (NaN, or ``NO_INTEGER``, where null), text and bytes as Arrow arrays.
    """

    message: Int64
    row: Int32
    columns: dict[str, Column]

    def take(self, index: npt.NDArray[Any]) -> "Rows":
        """Some of the rows, by number or by truth."""
        if index.dtype == bool:
            index = np.flatnonzero(index)
        at = pa.array(index)
        columns = {k: c[index] if isinstance(c, np.ndarray) else c.take(at) for k, c in self.columns.items()}
        return Rows(self.message[index], self.row[index], columns)


class Ledger:
    """The refusals of one batch of n messages, in any order until they are closed."""

    def __init__(self, n: int) -> None:
        self._lines: list[tuple[int, int, int, str, int]] = []
        self.single = np.zeros(n, bool)  # messages that are one row: what refuses the row refuses the message

    def refuse(self, message: int, row: int, reason: Reason, text: str, byte: int = -1) -> None:
        """Say why `row` of `message`, or with -1 all of it, gives no galaxy."""
        self._lines.append((message, row, int(reason), text, byte))

    def keep(self, rows: Rows, good: npt.NDArray[np.bool_], reason: Reason, say: Callable[[Rows, int], str]) -> Rows:
        """The good ones of `rows`; the others are refused with what `say` says of each."""
        if good.all():
            return rows
        for i in np.flatnonzero(~good).tolist():
            m = int(rows.message[i])
            self.refuse(m, -1 if self.single[m] else int(rows.row[i]), reason, say(rows, i))
        return rows.take(good)

    def close(self, message: Int64) -> Refusals:
        """All refusals, by message and row; `message` are those that gave galaxies.

        Raises
        ------
        AssertionError
            A message gave neither: it would be lost.
        """
        lines = sorted(self._lines)
        refused, row, reason, text, byte = zip(*lines, strict=True) if lines else ((), (), (), (), ())
        seen = np.zeros(len(self.single), bool)
        seen[message] = True
        seen[list(refused)] = True
        if not seen.all():
            raise AssertionError(f"message {int(np.argmin(seen))} gave neither a galaxy nor a refusal")
        return Refusals(
            np.array(refused, np.int64),
            np.array(row, np.int32),
            np.array(reason, np.uint8),
            list(text),
            np.array(byte, np.int64),
        )


class Reading:
    """Reads the wanted fields out of messages.

    Parameters
    ----------
    wants
        The fields.
    schemas
        Where the schemas of Confluent-framed Avro come from.
    how
        The framing of every message, one of ``FRAMINGS``; "auto" looks at the first bytes of each.
    bare
        The schema of Avro without any framing: needed by the framing "avro", which is never guessed.
    arrow_metadata
        What the schema of an Arrow stream must say, where it says it.
    leave
        Paths of wanted fields that are looked at, for a message without them as they should be is refused, and not brought along.
    survey
        Whose messages these are; an Arrow stream that lacks a field because it is another's is told so.
    max_message_bytes, max_rows
        Bounds on one message, decompressed; a message above one is refused whole.

    Raises
    ------
    UserError
        No such framing, or bare Avro without a schema that has the fields.
    """

    def __init__(
        self,
        wants: Sequence[Want],
        schemas: confluent.SchemaSource,
        how: str = "auto",
        bare: Any = None,
        arrow_metadata: Mapping[str, str] | None = None,
        survey: str | None = None,
        leave: Collection[str] = (),
        max_message_bytes: int = MAX_MESSAGE_BYTES,
        max_rows: int = MAX_ROWS,
    ) -> None:
        if how not in FRAMINGS:
            raise UserError(f"No framing is called {how!r}: there are {', '.join(FRAMINGS)}.")
        self._all = tuple(wants)
        self.wants = tuple(want for want in self._all if want.path not in leave)
        self._schemas, self._how = schemas, how
        self._arrow_metadata, self._survey = arrow_metadata or {}, survey
        self._max_message_bytes, self._max_rows = max_message_bytes, max_rows
        self._arrow_schema = pa.schema([pa.field(w.path, _ARROW[w.kind]) for w in self._all])
        self._optional = {w.path: w.default for w in self._all if w.default is not REQUIRED}
        self._programs: dict[int, Program | Refused] = {}  # ids are immutable: kept for ever
        self._containers = avro.Containers(self.wants, max_message_bytes, max_rows)
        self._bare = self._compile(bare) if bare is not None else None
        if how == "avro" and self._bare is None:
            raise UserError("The framing avro is Avro without any header: give the schema, --schema FILE.avsc.")
        if isinstance(self._bare, Refused):
            raise UserError(f"The schema given cannot be used: {self._bare.text}.")

    def read(self, messages: Messages, ledger: Ledger) -> Rows:
        """The rows of all messages in message order; the rest goes to `ledger`."""
        payloads = messages.payloads
        buffers = avro.buffers(payloads)
        kinds, ids = framing.classify(buffers, self._how, self._max_message_bytes)
        parts: list[Rows] = []
        for kind in np.unique(kinds).tolist():
            group = np.flatnonzero(kinds == kind)
            if kind == Framing.CONFLUENT:
                parts += self._confluent(group, ids[group], buffers, ledger)
            elif kind == Framing.AVRO:
                assert isinstance(self._bare, Program)
                parts.append(self._bodies(self._bare, group, 0, buffers, ledger))
            elif kind == Framing.CONTAINER:
                parts += self._container(group, payloads, ledger)
            else:
                for m in group.tolist():
                    parts += self._one(m, Framing(kind), payloads[m], ledger)
        return self._in_order(parts)

    # -- Avro ----------------------------------------------------------------------------------------------------------

    def _confluent(self, group: Int64, ids: Int64, buffers: Buffers, ledger: Ledger) -> list[Rows]:
        parts = []
        for schema_id in np.unique(ids).tolist():
            some = group[ids == schema_id]
            program = self._program(schema_id)
            if isinstance(program, Refused):
                for m in some.tolist():
                    ledger.refuse(m, -1, program.reason, program.text, 1)
            else:
                parts.append(self._bodies(program, some, HEADER_BYTES, buffers, ledger))
        return parts

    def _program(self, schema_id: int) -> Program | Refused:
        program = self._programs.get(schema_id)
        if program is None:
            try:
                writer = self._schemas.get(schema_id)
            except Refused as refused:
                return refused
            if writer is None:  # not kept: a registry may learn it later
                return Refused(Reason.UNKNOWN_SCHEMA, f"no schema has the id {schema_id}")
            program = self._compile(writer)
            self._programs[schema_id] = program
        return program

    def _compile(self, writer: Any) -> Program | Refused:
        try:
            whole = avro.compile_schema(writer, self._all)
            return whole if len(self._all) == len(self.wants) else avro.compile_schema(writer, self.wants)
        except avro.LacksField as error:
            return Refused(Reason.LACKS_FIELD, str(error))
        except avro.SchemaError as error:
            return Refused(Reason.UNKNOWN_SCHEMA, str(error))

    def _container(self, group: Int64, payloads: Sequence[bytes | None], ledger: Ledger) -> list[Rows]:
        found, refused = self._containers.read([payloads[m] or b"" for m in group.tolist()])
        for number, why in refused:
            ledger.refuse(int(group[number]), -1, why.reason, why.text, why.byte)
        parts = []
        for records in found:
            message = group[records.message]
            many = np.bincount(records.message, minlength=len(group))
            ledger.single[group[many == 1]] = True
            decoded = records.program.run(records.buffers, records.start, records.exact)
            parts.append(self._rows(records.program, decoded, records.buffers, message, records.row, ledger))
        return parts

    def _bodies(self, program: Program, group: Int64, start: int, buffers: Buffers, ledger: Ledger) -> Rows:
        """Messages of one record each, which begins at byte `start`."""
        ledger.single[group] = True
        some = buffers if len(group) == len(buffers.length) else buffers.take(group)
        return self._rows(program, program.run(some, start), some, group, np.zeros(len(group), np.int32), ledger)

    def _rows(
        self, program: Program, decoded: Decoded, buffers: Buffers, message: Int64, row: Int32, ledger: Ledger
    ) -> Rows:
        def refuse(i: int, text: str, byte: int) -> None:
            m = int(message[i])
            ledger.refuse(m, -1 if ledger.single[m] else int(row[i]), Reason.CORRUPT, text, byte)

        good = decoded.status == Status.GOOD
        for i in np.flatnonzero(~good).tolist():
            byte = int(decoded.byte[i])
            refuse(
                i, program.sentence(int(decoded.status[i]), int(decoded.where[i]), byte, int(buffers.length[i])), byte
            )
        columns: dict[str, Column] = {}
        for want in self.wants:
            if want.path in program.absent:
                default = pa.scalar(program.absent[want.path], _ARROW[want.kind])
                columns[want.path] = _column(pa.repeat(default, len(message)), want)
                continue
            found = decoded.columns[want.path]
            if not isinstance(found, Spans):
                columns[want.path] = found
            elif want.kind == "string":
                columns[want.path], bad = avro.strings(found, buffers, good)
                for i in np.flatnonzero(bad).tolist():
                    refuse(i, f"the field {want.path} is no UTF-8", int(found.offset[i]))
                good &= ~bad
            else:
                columns[want.path] = avro.blobs(found, buffers, good)
        rows = Rows(message, row, columns)
        return rows if good.all() else rows.take(good)

    # -- messages read one by one --------------------------------------------------------------------------------------

    def _one(self, m: int, kind: Framing, payload: bytes | None, ledger: Ledger) -> list[Rows]:
        try:
            if kind == Framing.ARROW:
                return self._arrow(m, payload or b"")
            if kind == Framing.JSON:
                return self._json(m, payload or b"", ledger)
            raise framing.refusal(kind, payload, self._how, self._max_message_bytes)
        except Refused as refused:
            ledger.refuse(m, -1, refused.reason, refused.text, refused.byte)
            return []

    def _arrow(self, m: int, payload: bytes) -> list[Rows]:
        try:
            batches = arrow_ipc.read(payload, self._arrow_schema, self._optional, self._max_rows, self._arrow_metadata)
        except Refused as refused:
            theirs = arrow_ipc.metadata(payload, "slipher.survey") if refused.reason == Reason.LACKS_FIELD else None
            if theirs not in (None, self._survey):
                text = f"a message of survey {theirs!r}, not {self._survey}"
                raise Refused(Reason.WRONG_SURVEY, text) from refused
            raise
        except MemoryError:
            raise
        except Exception as error:  # garbage that Arrow lets through its own checks
            text = f"the Arrow stream cannot be read: {type(error).__name__}: {error}"
            raise Refused(Reason.CORRUPT, text) from error
        parts = []
        first = 0
        for batch in batches:
            rows = np.arange(first, first + batch.num_rows, dtype=np.int32)
            columns = {want.path: _column(batch[want.path], want) for want in self.wants}
            parts.append(Rows(np.full(batch.num_rows, m, np.int64), rows, columns))
            first += batch.num_rows
        return parts

    def _json(self, m: int, payload: bytes, ledger: Ledger) -> list[Rows]:
        values, read, refused = json_lines.read(payload, self._all, self._max_rows)
        ledger.single[m] = len(read) + len(refused) == 1
        for row, why in refused:
            ledger.refuse(m, -1 if ledger.single[m] else row, why.reason, why.text, why.byte)
        columns = {want.path: _column(pa.array(values[want.path], _ARROW[want.kind]), want) for want in self.wants}
        return [Rows(np.full(len(read), m, np.int64), np.array(read, np.int32), columns)]

    def _in_order(self, parts: list[Rows]) -> Rows:
        """All parts as one, in message order, then row order."""
        if not parts:
            empty = {want.path: _column(pa.array([], _ARROW[want.kind]), want) for want in self.wants}
            return Rows(np.empty(0, np.int64), np.empty(0, np.int32), empty)
        if len(parts) == 1:
            return parts[0]
        message = np.concatenate([part.message for part in parts])
        row = np.concatenate([part.row for part in parts])
        columns: dict[str, Column] = {}
        for want in self.wants:
            pieces = [part.columns[want.path] for part in parts]
            arrow = isinstance(pieces[0], pa.Array)
            columns[want.path] = pa.concat_arrays(pieces) if arrow else np.concatenate(pieces)
        rows = Rows(message, row, columns)
        if (np.diff(message) < 0).any():
            return rows.take(np.argsort(message, kind="stable"))  # the rows of one message already are in order
        return rows


def _column(array: pa.Array, want: Want) -> Column:
    """An Arrow array as the Avro engine gives it."""
    if want.kind in ("string", "bytes"):
        return array
    null: Any = {"f4": np.nan, "f8": np.nan, "i8": NO_INTEGER, "enum": 255, "bool": 0, "present": 0}[want.kind]
    filled = pc.fill_null(array, null) if array.null_count else array
    return np.asarray(filled.to_numpy(zero_copy_only=False))
