"""The decoder of any survey's packets: its table (``schemas.packets``) says which field is what; nothing here knows a survey."""

from typing import Any, Protocol

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from schemas.avro import Kind, Want
from schemas.bands import band_set
from schemas.batch import Float32, Float64, Galaxies, Messages, Reason, Refusals
from schemas.hosts import hosts
from schemas.packets import Identifier, Packet, fingerprint
from schemas.reading import MAX_MESSAGE_BYTES, MAX_ROWS, NO_INTEGER, Column, Ledger, Reading, Rows
from schemas.wire import confluent


class Dust(Protocol):
    """A map of Galactic reddening."""

    def ebv(self, ra: Float64, dec: Float64) -> Float32:
        """E(B-V), mag, at `ra`, `dec`, deg ICRS; NaN where the map knows nothing."""


class PacketDecoder:
    """Decodes the packets of one survey to the hosts of their sources.

    Parameters
    ----------
    packet
        The survey.
    schemas
        Where the schemas of Confluent-framed Avro come from; without it, none is known.
    framing, bare
        As in ``Reading``.
    dust
        Gives E(B-V) where the packet does not.
    max_message_bytes, max_rows
        Bounds on one message; a message above one is refused whole.

    Raises
    ------
    UserError
        No such framing.
    """

    def __init__(
        self,
        packet: Packet,
        schemas: confluent.SchemaSource | None = None,
        framing: str = "auto",
        bare: Any = None,
        dust: Dust | None = None,
        max_message_bytes: int = MAX_MESSAGE_BYTES,
        max_rows: int = MAX_ROWS,
    ) -> None:
        self.version = f"{packet.version}+{fingerprint(packet)}"
        self.packet = packet
        self.bands = band_set(packet.survey).bands
        self._dust = dust
        self._reading = Reading(
            wants(packet),
            schemas or confluent.KnownSchemas(()),
            framing,
            bare,
            max_message_bytes=max_message_bytes,
            max_rows=max_rows,
        )

    def decode(self, messages: Messages) -> tuple[Galaxies, Refusals]:
        """Galaxies in message order, and what gives none: see ``Decoder``."""
        ledger = Ledger(len(messages.payloads))
        galaxies = self._galaxies(self._reading.read(messages, ledger), ledger)
        return galaxies, ledger.close(galaxies.message)

    def _galaxies(self, rows: Rows, ledger: Ledger) -> Galaxies:
        packet = self.packet
        rows = ledger.keep(rows, on_sky(rows, packet.ra, packet.dec), Reason.BAD_POSITION, _position(packet))
        name = first_name(packet.object_id, rows)
        named = pc.greater(pc.binary_length(name), 0).to_numpy(zero_copy_only=False)
        rows = ledger.keep(rows, named, Reason.BAD_OBJECT_ID, lambda rows, i: "no object id")
        name = name.filter(pa.array(named))
        columns = rows.columns
        ra, dec = columns[packet.ra], columns[packet.dec]
        found = hosts(packet, columns, len(self.bands), ra, dec)
        n = len(ra)
        return Galaxies(
            bands=self.bands,
            survey=pa.repeat(pa.scalar(packet.survey, pa.string()), n),
            object_id=name,
            alert_id=first_name((packet.alert_id,), rows),
            ra=np.where(found.ra == 360, 0.0, found.ra),
            dec=found.dec,
            mjd=columns[packet.time] + packet.epoch,
            flux=found.flux,
            flux_err=found.flux_err,
            band_state=found.band_state,
            ebv=self._ebv(columns, found.ra, found.dec),
            message=rows.message,
            row=rows.row,
            flags=found.flags,
        )

    def _ebv(self, columns: dict[str, Column], ra: Float64, dec: Float64) -> Float32:
        sent = np.full(len(ra), np.nan, np.float32)
        if self.packet.ebv:
            value = np.asarray(columns[self.packet.ebv], np.float32)
            sent = np.where(value >= 0, value, np.float32(np.nan))  # sentinels are negative
        unknown = np.isnan(sent)
        if self._dust is not None and unknown.any():
            sent[unknown] = self._dust.ebv(ra[unknown], dec[unknown])
        return sent


def wants(packet: Packet) -> list[Want]:
    """The fields of `packet` that a galaxy is made of. Only name, position and time must be in the writer's schema."""
    fields: dict[str, Want] = {}

    def want(path: str, kind: Kind, **more: Any) -> None:
        if path:
            fields.setdefault(path, Want(path, kind, **more))

    for path in (packet.ra, packet.dec, packet.time):
        want(path, "f8")
    absent = {"i8": NO_INTEGER, "string": None}
    for k, name in enumerate(packet.object_id):
        last = k == len(packet.object_id) - 1
        want(name.path, name.kind, **({} if last else {"default": absent[name.kind]}))
    want(packet.alert_id.path, packet.alert_id.kind, default=absent[packet.alert_id.kind])
    for host in packet.hosts:
        for path in (*host.magnitude, *host.magnitude_err, host.separation, host.star):
            want(path, "f4", default=np.nan)
        for path in (host.ra, host.dec):
            want(path, "f8", default=np.nan)
    want(packet.ebv, "f4", default=np.nan)
    want(packet.fixed, "present", default=1)
    if packet.moving is not None:
        want(packet.moving[0], "f4", default=np.nan)
    return list(fields.values())


def on_sky(rows: Rows, ra: str, dec: str) -> np.ndarray:
    """Whether right ascension and declination are a position, bool[n]; false for NaN."""
    alpha, delta = rows.columns[ra], rows.columns[dec]
    return np.asarray((alpha >= 0) & (alpha <= 360) & (delta >= -90) & (delta <= 90), bool)


def first_name(names: tuple[Identifier, ...], rows: Rows) -> pa.StringArray:
    """The first of `names` that a row has; "" where it has none."""
    found = [_text(rows.columns[name.path], name.kind) for name in names]
    return pc.fill_null(pc.coalesce(*found), "")


def _text(column: Column, kind: str) -> pa.StringArray:
    if kind == "string":
        return pc.if_else(pc.equal(pc.binary_length(column), 0), None, column)
    return pa.array(column, mask=column <= 0).cast(pa.string())


def _position(packet: Packet) -> Any:
    def say(rows: Rows, i: int) -> str:
        ra, dec = rows.columns[packet.ra][i], rows.columns[packet.dec][i]
        return f"ra {ra}, dec {dec} deg is no position on the sky"

    return say
