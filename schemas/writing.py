"""How galaxies are written: as which record, and in which framing. What ``Reading`` is to a consumer, this is to a producer."""

from collections.abc import Callable
from typing import Any, Literal

from schemas.avro.codecs import CODECS
from schemas.avro.write import containers
from schemas.batch import Galaxies
from schemas.elasticc_alerts import AVRO_SCHEMA, elasticc_bodies
from schemas.encoder import avro_bodies, encode_arrow
from schemas.errors import UserError
from schemas.surveys import native
from schemas.wire import arrow_ipc, confluent

Record = Literal["native", "elasticc"]
AVRO_FRAMINGS = ("confluent-avro", "container", "avro")  # as in schemas.wire.framing.FRAMINGS
ARROW_CODECS: dict[str, arrow_ipc.Compression | None] = {"lz4": "lz4", "zstd": "zstd", "null": None}

Encode = Callable[[Galaxies, int], list[bytes]]
"""The messages of some galaxies, and of how many others before them."""


def avro_schema(record: Record, survey: str) -> dict[str, Any]:
    """The schema of `record`: what readers need, and what a registry is told.

    Raises
    ------
    UserError
        There is no such record in the bands of `survey`.
    """
    if record == "native":
        return native.avro_schema(survey)
    if survey != "lsst":
        raise UserError(f"ELAsTiCC's packets have Rubin's bands ugrizy: they cannot hold galaxies of survey {survey}.")
    return AVRO_SCHEMA


def avro_encode(
    record: Record,
    survey: str,
    framing: str = "confluent-avro",
    schema_id: int | None = None,
    codec: str = "null",
    records: int = 1,
) -> Encode:
    """Write Avro.

    Parameters
    ----------
    record, survey
        What is written.
    framing
        Of ``AVRO_FRAMINGS``; "avro" is none at all.
    schema_id
        For Confluent's header; by default the fingerprint id, which readers of ours know without a registry.
    codec, records
        Of containers: how they are compressed, and how many galaxies each has.

    Raises
    ------
    UserError
        No such framing or codec, or no such record of `survey`.
    """
    schema = avro_schema(record, survey)
    if framing not in AVRO_FRAMINGS:
        raise UserError(f"Avro is not written in the framing {framing!r}: there are {', '.join(AVRO_FRAMINGS)}.")
    if codec not in CODECS:
        raise UserError(f"A container is not compressed by {codec!r}: there are {', '.join(CODECS)}.")
    number = confluent.fingerprint_id(schema) if schema_id is None else schema_id

    def encode(galaxies: Galaxies, first: int) -> list[bytes]:
        bodies = avro_bodies(galaxies, survey) if record == "native" else elasticc_bodies(galaxies, first)
        if framing == "container":
            return containers(bodies, schema, codec, records)
        return confluent.framed(bodies, number) if framing == "confluent-avro" else bodies

    return encode


def arrow_encode(survey: str, rows: int = 2000, codec: str = "lz4") -> Encode:
    """Write Arrow IPC streams of `rows` galaxies, their buffers compressed by `codec`.

    Raises
    ------
    UserError
        No such codec.
    """
    if codec not in ARROW_CODECS:
        raise UserError(f"An Arrow stream is not compressed by {codec!r}: there are {', '.join(ARROW_CODECS)}.")
    return lambda galaxies, first: encode_arrow(galaxies, survey, rows, ARROW_CODECS[codec])
