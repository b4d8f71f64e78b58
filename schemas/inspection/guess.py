"""Whose packet a message is: by the name of its schema, else by its fields."""

import json
from typing import Any, NamedTuple

import numpy as np

from schemas import packets
from schemas.avro import REQUIRED, LacksField, SchemaError, Want, parse
from schemas.avro.resolve import resolve
from schemas.avro.schema import Node
from schemas.bands import BAND_SETS
from schemas.batch import Messages
from schemas.errors import UserError
from schemas.inspection.anatomy import Anatomy, first_object
from schemas.native_decoder import wants as native_wants
from schemas.packet_decoder import wants as packet_wants
from schemas.packets import Packet
from schemas.reading import MAX_ROWS, Ledger, Reading
from schemas.wire import confluent, json_lines
from schemas.wire.framing import Refused

NATIVE = "native"


class Survey(NamedTuple):
    """A survey that a message may be of.

    Attributes
    ----------
    alerts
        As `slipher run --alerts` has it.
    survey
        Whose bands the galaxies are in.
    packet
        Its table; None for native messages.
    """

    alerts: str
    survey: str
    packet: Packet | None

    @property
    def wants(self) -> list[Want]:
        """The fields that a galaxy is made of."""
        return packet_wants(self.packet) if self.packet else native_wants(BAND_SETS[self.survey].bands)


class Fields(NamedTuple):
    """What a message has of what a survey's galaxy is made of.

    Attributes
    ----------
    found
        Paths.
    missing
        Path: why it is not there. A galaxy can do without.
    needed
        The same of those without which there is no galaxy.
    """

    found: tuple[str, ...]
    missing: dict[str, str]
    needed: dict[str, str]


class Guess(NamedTuple):
    """Which survey, how we know ("given", "name", "fields", "" = none fits), and its fields."""

    survey: Survey
    by: str
    fields: Fields


def surveys() -> list[Survey]:
    """All that we can read."""
    natives = [Survey(NATIVE, name, None) for name in BAND_SETS]
    return natives + [Survey(packet.name, packet.survey, packet) for packet in map(packets.packet, packets.surveys())]


def guess(
    payload: bytes, around: Anatomy, how: str, schemas: confluent.SchemaSource, bare: Any, alerts: str
) -> Guess | None:
    """The survey of `payload`; None where nothing is known of its fields.

    Parameters
    ----------
    payload, around
        The message, and its parts.
    how, schemas, bare
        As in ``Reading``.
    alerts
        What a person says it is; "" = nothing.

    Raises
    ------
    UserError
        There are no such alerts.
    """
    known = surveys()
    if alerts and alerts not in {survey.alerts for survey in known}:
        raise UserError(f"--alerts {alerts}: slipher reads {', '.join(dict.fromkeys(s.alerts for s in known))}.")
    if not around.fields:
        return None
    some = [survey for survey in known if alerts in ("", survey.alerts)]
    lookup = _Lookup(payload, around)
    ranked = [Guess(survey, "given" if alerts else "", lookup.fields(survey.wants)) for survey in some]
    native = _native_survey(payload, how, schemas, bare)
    if not alerts:
        named = [g for g in ranked if _named(around.name, g.survey) and native in ("", g.survey.survey)]
        fitting = [g._replace(by="fields") for g in ranked if not g.fields.needed and _fits(g, native)]
        ranked = [g._replace(by="name") for g in named] or fitting or ranked
    elif native:
        ranked = [g for g in ranked if g.survey.survey == native] or ranked
    return max(
        ranked,
        key=lambda g: (
            len(g.fields.found) / (len(g.fields.found) + len(g.fields.missing) + len(g.fields.needed)),
            len(g.fields.found),
        ),
    )


def _named(schema: str, survey: Survey) -> bool:
    """Whether the schema is called as the survey: `lsst.v9_0.alert`, `slipher.elasticc.alert`, `slipher.Galaxy`."""
    if survey.packet is None:
        return schema in ("slipher.Galaxy", "galaxy")
    return survey.alerts in schema.split(".")


def _fits(found: Guess, native: str) -> bool:
    return found.survey.packet is not None or native in ("", found.survey.survey)


def _native_survey(payload: bytes, how: str, schemas: confluent.SchemaSource, bare: Any) -> str:
    """What the first row of a native message calls its survey, where it is one that we know."""
    try:
        reading = Reading([Want("survey", "string")], schemas, how, bare)
    except UserError:  # a bare schema without such a field
        return ""
    one = Messages([payload], np.zeros(1, np.int32), np.zeros(1, np.int64), np.full(1, -1, np.int64), {})
    rows = reading.read(one, Ledger(1))
    names = rows.columns["survey"]
    name = names[0].as_py() if len(names) else None
    return name if name in BAND_SETS else ""


class _Lookup:
    """Looks for fields in whatever a message has of a schema."""

    def __init__(self, payload: bytes, around: Anatomy) -> None:
        self._names = set(around.fields)
        self._root: Node | None = None
        self._row = b""
        if around.schema is not None:
            try:
                self._root = parse(around.schema)
            except (SchemaError, RecursionError):
                self._names = set()
        elif around.framing == "json":
            self._row = json.dumps(first_object(payload)[0]).encode()

    def fields(self, wants: list[Want]) -> Fields:
        """Which of `wants` are there."""
        found: list[str] = []
        missing: dict[str, str] = {}
        needed: dict[str, str] = {}
        for want in wants:
            why = self._why_not(want)
            if not why:
                found.append(want.path)
            elif want.default is not REQUIRED:
                missing[want.path] = why
            else:
                needed[want.path] = why
        return Fields(tuple(found), missing, needed)

    def _why_not(self, want: Want) -> str:
        if self._root is not None:
            try:
                there = want.path in resolve(self._root, [want._replace(default=None)]).sinks
            except (LacksField, SchemaError, ValueError, RecursionError) as error:
                return str(error)
            return "" if there else "the schema has no such field"
        if self._row:
            absent = object()
            try:
                values, _, refused = json_lines.read(self._row, [want._replace(default=absent)], MAX_ROWS)
            except Refused as error:
                return error.text
            if refused:
                return refused[0][1].text
            return "the object has no such key" if values[want.path] == [absent] else ""
        return "" if want.path in self._names else "the stream has no such column"
