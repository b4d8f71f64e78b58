"""The peers of the decoding benchmark: each gets the messages as they come from Kafka, and gives what it gives.

That is a dict a record (fastavro, cavro, confluent) or a table of all columns (pyruhvro, polars-avro); the work of getting
from there to arrays of the wanted fields is not charged to them. Who is not installed is left out.
"""

import importlib
import importlib.util
import io
import json
from collections.abc import Callable
from typing import Any

import fastavro

from benchmarks.avro_values import zigzag
from benchmarks.decode_data import HEADER, Case

Read = Callable[[list[bytes]], Any]
SYNC = bytes(range(16))


def fastavro_records(case: Case) -> Read:
    """Every field of every record."""
    if case.container:
        return lambda messages: [list(fastavro.reader(io.BytesIO(message))) for message in messages]
    parsed = fastavro.parse_schema(json.loads(json.dumps(case.schema)))
    return _schemaless(parsed, None)


def fastavro_projected(case: Case) -> Read | None:
    """Only the wanted fields, by a reader's schema that has no others."""
    reader = projection(case.schema, [want.path.split(".") for want in case.wants]) if case.schema else None
    if reader is None:
        return None
    if case.container:
        wanted = fastavro.parse_schema(reader)
        return lambda messages: [list(fastavro.reader(io.BytesIO(message), wanted)) for message in messages]
    parsed = fastavro.parse_schema(json.loads(json.dumps(case.schema)))
    return _schemaless(parsed, fastavro.parse_schema(reader))


def _schemaless(writer: Any, reader: Any) -> Read:
    def read(messages: list[bytes]) -> Any:
        records = []
        for message in messages:
            stream = io.BytesIO(message)
            stream.seek(len(HEADER))
            records.append(fastavro.schemaless_reader(stream, writer, reader))
        return records

    return read


def cavro(case: Case) -> Read | None:
    """Records by Cython."""
    if not _there("cavro"):
        return None
    library = importlib.import_module("cavro")
    if case.container:
        return lambda messages: [list(library.ContainerReader(io.BytesIO(message))) for message in messages]
    schema = library.Schema(json.dumps(case.schema))
    return lambda messages: [schema.binary_decode(message[len(HEADER) :]) for message in messages]


def confluent(case: Case) -> Read | None:
    """The deserializer that comes with the Kafka client, its registry answered from memory."""
    if case.container or not _there("confluent_kafka", "httpx2", "authlib"):
        return None
    avro = importlib.import_module("confluent_kafka.schema_registry.avro")
    registry = importlib.import_module("confluent_kafka.schema_registry")
    serialization = importlib.import_module("confluent_kafka.serialization")
    client = registry.SchemaRegistryClient.new_client({"url": "mock://"})
    client.register_schema("galaxies-value", registry.Schema(json.dumps(case.schema), "AVRO"))
    deserialize = avro.AvroDeserializer(client)
    context = serialization.SerializationContext("galaxies", serialization.MessageField.VALUE)
    return lambda messages: [deserialize(message, context) for message in messages]


def pyruhvro(case: Case) -> Read | None:
    """Arrow by Rust."""
    if case.container or not _there("pyruhvro"):
        return None
    library = importlib.import_module("pyruhvro")
    text = json.dumps(case.schema)
    return lambda messages: library.deserialize_array([message[len(HEADER) :] for message in messages], text)


def polars_avro(case: Case) -> Read | None:
    """A data frame by Rust; the bodies are put into one container for it, which it needs."""
    if not _there("polars_avro"):
        return None
    library = importlib.import_module("polars_avro")
    if case.container:
        return lambda messages: [library.read_avro(io.BytesIO(message)) for message in messages]
    out = io.BytesIO()
    fastavro.writer(out, json.loads(json.dumps(case.schema)), [], sync_marker=SYNC)
    head = out.getvalue()

    def read(messages: list[bytes]) -> Any:
        body = b"".join([message[len(HEADER) :] for message in messages])
        file = b"".join((head, zigzag(len(messages)), zigzag(len(body)), body, SYNC))
        return library.read_avro(io.BytesIO(file))

    return read


PEERS: dict[str, Callable[[Case], Read | None]] = {
    "fastavro": fastavro_records,
    "fastavro, projected": fastavro_projected,
    "confluent": confluent,
    "cavro": cavro,
    "pyruhvro": pyruhvro,
    "polars-avro": polars_avro,
}


def peers(case: Case, tell: Callable[[str], object]) -> dict[str, Read]:
    """Those that are installed and read the first messages of `case`."""
    found: dict[str, Read] = {}
    for who, make in PEERS.items():
        try:
            read = make(case)
            if read is None:
                continue
            read(case.messages[:3])
        except BaseException as error:  # a panic in Rust is no Exception; a peer's own trouble is not ours
            if isinstance(error, (KeyboardInterrupt, SystemExit)):
                raise
            tell(f"{case.name}: {who} left out: {type(error).__name__}: {error!s:.150}")
            continue
        found[who] = read
    return found


def installed() -> str:
    """The peers' versions."""
    metadata = importlib.import_module("importlib.metadata")
    told = []
    for name in ("fastavro", "confluent-kafka", "cavro", "pyruhvro", "polars-avro"):
        try:
            told.append(f"{name} {metadata.version(name)}")
        except metadata.PackageNotFoundError:
            told.append(f"{name} not installed")
    return ", ".join(told)


def projection(schema: Any, paths: list[list[str]]) -> Any:
    """`schema` with the fields that `paths` lead to, and no others."""
    named: dict[str, Any] = {}
    needed: dict[str, set[str]] = {}
    done: set[str] = set()

    def collect(kind: Any) -> None:
        if isinstance(kind, list):
            for branch in kind:
                collect(branch)
        elif isinstance(kind, dict):
            if "name" in kind:
                named[kind["name"]] = named[f"{schema.get('namespace')}.{kind['name']}"] = kind
            for below in [field["type"] for field in kind.get("fields", ())] + [kind.get("items")]:
                collect(below)

    def need(kind: Any, path: list[str]) -> None:
        if isinstance(kind, list):
            for branch in kind:
                need(branch, path)
        elif isinstance(kind, str):
            if kind in named:
                need(named[kind], path)
        elif kind["type"] == "array":
            need(kind["items"], path)
        elif kind["type"] == "record":
            fields = needed.setdefault(kind["name"], set())
            if path:
                fields.add(path[0])
                need(next((f["type"] for f in kind["fields"] if f["name"] == path[0]), "null"), path[1:])

    def cut(kind: Any) -> Any:
        if isinstance(kind, list):
            return [cut(branch) for branch in kind]
        if isinstance(kind, str):
            return kind if kind not in named or named[kind]["name"] in done else cut(named[kind])
        if kind["type"] == "array":
            return {**kind, "items": cut(kind["items"])}
        if "name" not in kind:
            return kind
        done.add(kind["name"])
        if kind["type"] != "record":
            return kind
        kept = [field for field in kind["fields"] if field["name"] in needed[kind["name"]]]
        return {**kind, "fields": [{**field, "type": cut(field["type"])} for field in kept]}

    collect(schema)
    for path in paths:
        need(schema, path)
    return cut(schema)


def _there(*modules: str) -> bool:
    return all(importlib.util.find_spec(name) for name in modules)
