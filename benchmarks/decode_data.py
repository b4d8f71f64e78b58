"""Messages for the decoding benchmark, made from schemas: a flat record of photometry, Rubin's packet, ZTF's container."""

import importlib.util
import io
import json
import os
import random
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import fastavro

from benchmarks.decode_ztf import ztf_schema
from schemas import packet_decoder
from schemas.avro import Want
from schemas.avro.container import read_meta
from schemas.batch import BandState
from schemas.surveys import lsst, ztf

RUBIN_VERSION = (11, 1)
HEADER = struct.pack(">bI", 0, 1)  # Confluent's, with the schema's id
NULLS = 0.03  # of the values that may be null: of a real Rubin source 1 in 98, of an object 5 in 82
CUTOUT_BYTES = 20_000  # of each of Rubin's three: 64 kB a packet
SOURCES, FORCED = 7, 18  # of a packet's history: 4.5 kB without cutouts
STAMP_BYTES = 12_000  # of each of ZTF's three, compressed
PREVIOUS, LIMITS = (
    30,
    0.7,
)  # previous candidates of ZTF's packets, and how many of them are upper limits: nearly all null
SEED = 1


class Case(NamedTuple):
    """Messages of one schema.

    Attributes
    ----------
    name
        What they are.
    schema
        The writer's, as JSON gives it, every named type inside.
    wants
        What we read of it.
    messages
        n of them.
    container
        Whether each is an object container file; else it has Confluent's header.
    """

    name: str
    schema: Any
    wants: list[Want]
    messages: list[bytes]
    container: bool = False

    @property
    def nbytes(self) -> float:
        """Bytes of a message, mean."""
        return sum(map(len, self.messages)) / len(self.messages)


def flat_schema() -> dict[str, Any]:
    """48 fields of a galaxy in six bands, about 215 bytes."""
    fields: list[tuple[str, Any]] = [("objectId", "long"), ("alertId", "long")]
    fields += [("ra", "double"), ("dec", "double"), ("mjd", "double"), ("ebv", ["null", "float"])]
    state: Any = {"type": "enum", "name": "State", "symbols": [s.name for s in BandState]}
    for band in "ugrizy":
        fields += [(f"flux_{band}", "float"), (f"fluxErr_{band}", "float"), (f"state_{band}", state)]
        fields += [(f"visits_{band}", "int"), (f"psfFlux_{band}", ["null", "float"])]
        fields += [(f"psfFluxErr_{band}", ["null", "float"])]
        state = "State"
    fields += [("size", "double"), ("e1", "double"), ("e2", "double"), ("extendedness", ["null", "float"])]
    fields += [("variable", "boolean"), ("tile", "string")]
    return {"type": "record", "name": "Photometry", "fields": [{"name": n, "type": t} for n, t in fields]}


def flat(n: int) -> list[Case]:
    """Flat records, with the fields that a galaxy is made of, and with every field."""
    schema = flat_schema()
    rng = random.Random(SEED)
    messages = _framed(schema, n, rng, lambda record: record.update(tile=f"tile-{rng.randrange(10**7):07d}"))
    symbols = tuple(s.name for s in BandState)
    kinds: dict[str, Any] = {
        "long": "i8",
        "int": "i8",
        "float": "f4",
        "double": "f8",
        "boolean": "bool",
        "string": "string",
    }
    every = []
    for field in schema["fields"]:
        kind = field["type"][1] if isinstance(field["type"], list) else field["type"]
        enum = kind == "State" or isinstance(kind, dict)
        every.append(Want(field["name"], "enum" if enum else kinds[kind], symbols=symbols if enum else ()))
    ours = {"objectId", "alertId", "ra", "dec", "mjd", "ebv"}
    ours |= {f"{name}_{band}" for band in "ugrizy" for name in ("flux", "fluxErr", "state")}
    galaxy = [want for want in every if want.path in ours]
    return [
        Case(f"flat record, {len(galaxy)} of {len(every)} fields", schema, galaxy, messages),
        Case("flat record, every field", schema, every, messages),
    ]


def rubin_schema() -> dict[str, Any] | None:
    """Rubin's own, from the package lsst-alert-packet; None where that is not installed."""
    try:
        package = importlib.util.find_spec("lsst.alert.packet")
    except ModuleNotFoundError:
        return None
    if package is None or package.origin is None:
        return None
    major, minor = RUBIN_VERSION
    path = Path(package.origin).parent / f"schema/{major}/{minor}/lsst.v{major}_{minor}.alert.avsc"
    schema: dict[str, Any] = _plain(fastavro.schema.load_schema(str(path)))
    return schema


def rubin(n: int) -> list[Case]:
    """Rubin's packets of 64 kB: as the survey's table reads them with the cutouts, and with the light curves beside."""
    schema = rubin_schema()
    if schema is None:
        return []
    rng = random.Random(SEED)
    lengths = {"prvDiaSources": SOURCES, "prvDiaForcedSources": FORCED}

    def finish(record: dict[str, Any]) -> None:
        for name in ("cutoutDifference", "cutoutScience", "cutoutTemplate"):
            record[name] = rng.randbytes(CUTOUT_BYTES)

    messages = _framed(schema, n, rng, finish, lengths)
    packet = packet_decoder.wants(lsst.PACKET) + [Want(path, "bytes", None) for _, path in lsst.PACKET.cutouts]
    kinds: dict[str, Any] = {"midpointMjdTai": "f8", "psfFlux": "f4", "psfFluxErr": "f4", "band": "string"}
    curves = [Want(f"{history}.{field}", kind) for history in lengths for field, kind in kinds.items()]
    name = f"Rubin v{RUBIN_VERSION[0]}.{RUBIN_VERSION[1]}"
    return [
        Case(f"{name}, packet and cutouts", schema, packet, messages),
        Case(f"{name}, light curves too", schema, packet + curves, messages),
    ]


def ztf_made(n: int) -> Case:
    """ZTF's packets: one record in a container, the schema in every message."""
    schema = ztf_schema()
    rng = random.Random(SEED)
    fixed = rng.randbytes(16)
    previous_fields = next(f for f in schema["fields"] if f["name"] == "prv_candidates")["type"][1]["items"]["fields"]
    may_be_null = [field["name"] for field in previous_fields if isinstance(field["type"], list)]
    messages = []
    for _ in range(n):
        record = _value(schema, {}, rng, {"prv_candidates": PREVIOUS})
        for previous in record["prv_candidates"]:
            if rng.random() < LIMITS:
                previous.update(dict.fromkeys(may_be_null))
        for name in ("cutoutScience", "cutoutTemplate", "cutoutDifference"):
            record[name] = {"fileName": f"{name}.fits.gz", "stampData": rng.randbytes(STAMP_BYTES)}
        out = io.BytesIO()
        fastavro.writer(out, schema, [record], sync_marker=fixed)
        messages.append(out.getvalue())
    return Case("ZTF container, made", schema, _ztf_wants(), messages, True)


def ztf_real(n: int) -> Case | None:
    """Containers of ZTF from the folder that ``SLIPHER_TEST_DATA`` names, again and again; None where there are none."""
    folder = Path(os.environ.get("SLIPHER_TEST_DATA", "/nowhere")) / "alerts" / "ztf_real"
    files = [path.read_bytes() for path in sorted(folder.glob("*.avro"))] if folder.is_dir() else []
    headers: dict[bytes, list[bytes]] = {}
    for data in files:
        end, meta = read_meta(data)
        if meta.get("avro.codec", b"null") == b"null" and b"prv_candidates" in meta["avro.schema"]:
            headers.setdefault(data[:end], []).append(data)
    if not headers:
        return None
    kept = max(headers.values(), key=len)  # a stream has one schema for years
    copies = -(-n // len(kept))
    messages = [bytes(bytearray(data)) for _ in range(copies) for data in kept][:n]  # each at a place of its own
    schema = json.loads(read_meta(kept[0])[1]["avro.schema"])
    return Case(f"ZTF container, {len(kept)} real files", schema, _ztf_wants(), messages, True)


def _ztf_wants() -> list[Want]:
    return packet_decoder.wants(ztf.PACKET) + [Want(path, "bytes", None) for _, path in ztf.PACKET.cutouts]


def _framed(
    schema: Any,
    n: int,
    rng: random.Random,
    finish: Callable[[dict[str, Any]], object],
    lengths: dict[str, int] | None = None,
) -> list[bytes]:
    """n messages with Confluent's header."""
    parsed = fastavro.parse_schema(json.loads(json.dumps(schema)))
    messages = []
    for _ in range(n):
        record = _value(schema, {}, rng, lengths or {})
        finish(record)
        out = io.BytesIO()
        out.write(HEADER)
        fastavro.schemaless_writer(out, parsed, record)
        messages.append(out.getvalue())
    return messages


def _value(schema: Any, names: dict[str, Any], rng: random.Random, lengths: dict[str, int], field: str = "") -> Any:
    """A value of `schema`; arrays have as many items as `lengths` says of their field."""
    if isinstance(schema, list):
        inner = next((branch for branch in schema if branch != "null"), "null")
        solid = field in lengths or field == "diaObject" or isinstance(inner, dict)
        absent = "null" in schema and not solid and rng.random() < NULLS
        return None if absent or field in ("ssSource", "mpc_orbits") else _value(inner, names, rng, lengths, field)
    if isinstance(schema, str) and schema in names:
        return _value(names[schema], names, rng, lengths, field)
    kind = schema if isinstance(schema, str) else schema["type"]
    if isinstance(kind, (dict, list)):
        return _value(kind, names, rng, lengths, field)
    if isinstance(schema, dict) and "name" in schema:
        names[schema["name"]] = schema
        names[schema["name"].rpartition(".")[2]] = schema
    if kind == "record":
        return {f["name"]: _value(f["type"], names, rng, lengths, f["name"]) for f in schema["fields"]}
    if kind == "array":
        return [_value(schema["items"], names, rng, lengths) for _ in range(lengths.get(field, 3))]
    if kind == "enum":
        return rng.choice(schema["symbols"])
    return {
        "null": lambda: None,
        "boolean": lambda: rng.random() < 0.5,
        "int": lambda: rng.randrange(100),
        "long": lambda: rng.randrange(1 << 60),
        "float": lambda: rng.lognormvariate(5, 2),
        "double": lambda: rng.uniform(0, 90),
        "bytes": lambda: b"",
        "string": lambda: "r",
    }[kind]()


def _plain(schema: Any) -> Any:
    """Without what the library writes into a parsed schema for itself."""
    if isinstance(schema, dict):
        return {key: _plain(value) for key, value in schema.items() if not key.startswith("__")}
    return [_plain(item) for item in schema] if isinstance(schema, list) else schema
