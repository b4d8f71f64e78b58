"""What the soak sends: every form of a message, poison of every kind, and what each must become."""

from dataclasses import replace
from typing import NamedTuple

import numpy as np
import pyarrow as pa

from schemas.encoder import encode_arrow, encode_avro
from schemas.wire import confluent
from schemas.wire.framing import HEADER_BYTES
from tests.small_sky import sky

SURVEY = "lsst"
ALERTS = 400
STREAMS = 40  # Arrow messages
AGES = (0.0, 0.0, 3.0, 4.0)  # days
LONGEST = 40  # galaxies of an Arrow message
UNKNOWN_ID = 4_000_000  # of a schema: no registry has it
POISON = 0.01  # of the messages, over all kinds of it
EMPTY = 0.01
ARROW = 0.04
NEW_SCHEMA = 0.05  # of the messages, once there is a new one


class Form(NamedTuple):
    """A message, and what it must become.

    Attributes
    ----------
    payload
        The value; None is a tombstone.
    rows
        Rows that it holds; 0 where it is listed whole.
    bad
        The one of them that is refused; -1 for none.
    registered
        Whether its schema's id is the newest of the registry: the header is put on as it is sent.
    """

    payload: bytes | None
    rows: int
    bad: int = -1
    registered: bool = False


class Forms:
    """All forms by number, and a draw from them.

    Parameters
    ----------
    mjd
        Now, days: half of the galaxies are of tonight, the others come late, for nights that are closed.
    rng
        Decides what is in them.
    """

    def __init__(self, mjd: float, rng: np.random.Generator) -> None:
        galaxies, _ = sky(ALERTS, seed=int(rng.integers(1 << 30)))
        galaxies = replace(galaxies, mjd=mjd - rng.choice(AGES, ALERTS))
        alerts = encode_avro(galaxies, SURVEY)
        self.avro = [Form(payload, 1) for payload in alerts]
        self.arrow = [_stream(mjd, k, rng) for k in range(STREAMS)]
        self.poison = _poison(mjd, alerts)
        self.empty = [Form(None, 0), Form(b"", 0)]
        self.registered = [Form(payload[HEADER_BYTES:], 1, registered=True) for payload in alerts[:100]]
        self.all = [*self.avro, *self.arrow, *self.poison, *self.empty, *self.registered]
        self._first = np.cumsum([0, *(len(g) for g in self._groups)])

    @property
    def _groups(self) -> list[list[Form]]:
        return [self.avro, self.arrow, self.poison, self.empty, self.registered]

    def draw(self, rng: np.random.Generator, new_schema: bool) -> int:
        """The number of a form."""
        dice = rng.random()
        group, edge = 0, 0.0
        for k, share in enumerate((ARROW, POISON, EMPTY, NEW_SCHEMA if new_schema else 0.0), start=1):
            edge += share
            if dice < edge:
                group = k
                break
        return int(self._first[group] + rng.integers(len(self._groups[group])))

    def value(self, number: int, schema_id: int) -> bytes | None:
        """What is sent for form `number`."""
        form = self.all[number]
        if form.registered and form.payload is not None:
            return confluent.header(schema_id) + form.payload
        return form.payload


def _stream(mjd: float, k: int, rng: np.random.Generator) -> Form:
    """An Arrow message of some galaxies; in every fourth one of them is off the sky."""
    n = int(rng.integers(1, LONGEST))
    some, _ = sky(n, seed=int(rng.integers(1 << 30)))
    some = replace(some, mjd=mjd - rng.choice(AGES, n))
    bad = int(rng.integers(n)) if k % 4 == 0 else -1
    if bad >= 0:
        some = replace(some, dec=np.where(np.arange(n) == bad, 91.0, some.dec))
    return Form(encode_arrow(some, SURVEY, rows=n)[0], n, bad)


def _poison(mjd: float, alerts: list[bytes]) -> list[Form]:
    some, _ = sky(30, mjd=mjd)
    nowhere = encode_avro(replace(some, ra=np.full(30, np.nan)), SURVEY)[0]
    stream = encode_arrow(some, SURVEY, rows=30)[0]
    nameless = encode_avro(replace(some, object_id=pa.array([""] * 30)), SURVEY)[0]
    payloads = [
        b"this is no alert",
        b"\x00",
        alerts[0][:-7],
        alerts[1][:40],
        alerts[2] + b"!",
        confluent.header(UNKNOWN_ID) + alerts[3][HEADER_BYTES:],
        nowhere,
        nameless,
        stream[: len(stream) // 2],
        alerts[4][:HEADER_BYTES] + bytes([255] * 60),
    ]
    return [Form(payload, 0) for payload in payloads]
