"""Which decoder reads a run's messages, and what of its settings changes rows."""

from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

from models.estimator import ON_DEVICES, Estimator
from schemas import packets
from schemas.avro import read_schema
from schemas.bands import band_set
from schemas.decoder import Decoder
from schemas.dust_map import DustMap
from schemas.elasticc_alerts import AVRO_SCHEMA as ELASTICC
from schemas.errors import UserError
from schemas.native_decoder import NativeDecoder
from schemas.night import Rollover, rollover
from schemas.packet_decoder import PacketDecoder
from schemas.surveys.native import known_avro_schemas
from schemas.wire.confluent import KnownSchemas, SchemaSource
from streamer.registry.client import InTurn, registry
from streamer.settings import ProcessingSettings

NATIVE = "native"


class Alerts(NamedTuple):
    """The alerts of a run.

    Attributes
    ----------
    decoder
        Makes a decoder; no two threads may use one.
    night
        When their survey's night begins.
    settings
        What changes rows: part of the processing id.
    """

    decoder: Callable[[], Decoder]
    night: Rollover
    settings: dict[str, Any]


def alerts(settings: ProcessingSettings, estimator: Estimator) -> Alerts:
    """The alerts that `settings` name, for the survey that `estimator` was trained for.

    Raises
    ------
    UserError
        There are no such alerts, they are of other bands than the model's, or a file that is named is of no use.
    """
    bare, schemas = _schemas(settings)
    said: dict[str, Any] = {"schema": _schema_hash(bare)} if bare is not None else {}
    if settings.alerts == NATIVE:
        if settings.dust_map is not None:
            raise UserError("--dust-map: native messages carry their E(B-V); the map is for the alerts of a survey.")
        survey = estimator.survey
        night = rollover(survey)

        def decoder() -> Decoder:
            return NativeDecoder(survey, schemas, settings.framing, bare, stamps=estimator.kind in ON_DEVICES)

    else:
        packet = _packet(settings.alerts)
        if packet.survey != estimator.survey:
            raise _other_bands(settings.model, estimator, packet)
        dust = DustMap(settings.dust_map, settings.dust_column) if settings.dust_map is not None else None
        night = rollover(packet.name)
        said |= {"alerts": packet.name, "dust_map": dust.sha256 if dust is not None else None}

        def decoder() -> Decoder:
            return PacketDecoder(packet, schemas, settings.framing, bare, dust)

    bands = decoder().bands  # also tells at once of a framing or a schema that is of no use
    if tuple(bands) != tuple(estimator.bands):
        raise UserError(
            f"The model {settings.model} knows bands {', '.join(estimator.bands)}, "
            f"survey {estimator.survey} sends {', '.join(bands)}."
        )
    return Alerts(decoder, night, said)


def _packet(name: str) -> packets.Packet:
    known = packets.surveys()
    if name not in known:
        raise UserError(f"--alerts {name}: slipher reads {NATIVE}, {', '.join(known)}.")
    return packets.packet(name)


def _other_bands(model: Path, estimator: Estimator, packet: packets.Packet) -> UserError:
    theirs = band_set(packet.survey).bands
    return UserError(
        f"The model {model} was trained for {estimator.survey} ({' '.join(estimator.bands)}); the host galaxies in "
        f"{packet.name} alerts have photometry of {packet.survey} ({' '.join(theirs)}). Train one on such galaxies: "
        f"`slipher train ... --survey {packet.survey}`."
    )


def _schemas(settings: ProcessingSettings) -> tuple[Any, SchemaSource]:
    """The schema of bare Avro, and the source of all others: our own, those of files, then the registry's."""
    bare: Any = None
    by_id: dict[int, dict[str, Any]] = {}
    for text in settings.schema_file:
        number, sign, name = text.partition("=")
        if sign and number.isdecimal():
            by_id[int(number)] = read_schema(Path(name))
        elif bare is not None:
            raise UserError(
                "--schema: one file is the schema of bare Avro; further ones need their id, --schema ID=FILE."
            )
        else:
            bare = read_schema(Path(text))
    if bare is not None and settings.framing != "avro":
        raise UserError(
            "--schema FILE is the schema of Avro without any header: it goes with --framing avro. The schema of an id in "
            "Confluent's header is given as --schema ID=FILE."
        )
    schemas: SchemaSource = KnownSchemas([*known_avro_schemas(), ELASTICC], by_id)
    if settings.registry:
        schemas = InTurn(schemas, registry(settings.registry, settings.registry_setting))
    return bare, schemas


def _schema_hash(schema: Any) -> str:
    import hashlib
    import json

    return hashlib.sha256(json.dumps(schema, sort_keys=True, default=str).encode()).hexdigest()
