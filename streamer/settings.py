"""Settings: flags before the environment (``SLIPHER_...``) before the file ``slipher.toml`` before defaults.

A setting is declared once, as a field here: its flag and its help (streamer/cli/options.py), its key in the file, its line in
`slipher config show` and in the file that `slipher config init` writes come from the field. No room reads the environment itself.
"""

import os
from functools import partial
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, field_validator
from pydantic.fields import FieldInfo

from schemas.errors import UserError
from schemas.pdf_form import PdfForm
from streamer.configuration import secrets, toml_file
from streamer.configuration.base import Named, Settings, checked, flag_of, is_table, key_values, named, part, settings
from streamer.logs import LogFormat
from streamer.sink.store import check_options, place
from streamer.source.client import refuse_ours

__all__ = ["Named", "Settings", "flag_of", "is_table", "key_values", "named", "part", "settings"]  # handed on

NO_BROKER = "Which broker? Give --brokers host:port, or set SLIPHER_BROKERS; `slipher broker start` starts one here."


class NoBroker(UserError):
    """Nobody said which broker, and none runs here."""


def broker_here() -> str:
    """The broker that runs on this machine; ``NoBroker`` where none does."""
    from streamer.broker.resident import running

    here = running()
    if here is None:
        raise NoBroker(NO_BROKER)
    return here.bootstrap


class StorageSettings(Settings):
    """How an object store is spoken to that holds catalogues."""

    storage: Annotated[dict[str, str], Named(such_as="aws_endpoint_url=http://127.0.0.1:9000")] = Field(
        default_factory=dict,
        description="Options of the catalogue's object store, key=value; may be repeated.",
    )

    @field_validator("storage")
    @classmethod
    def _options(cls, storage: dict[str, str]) -> dict[str, str]:
        check_options(storage)
        return secrets.read_from_files(storage, "storage")


class BrokerSettings(Settings):
    """How a broker is reached."""

    brokers: str = Field(
        default_factory=broker_here,
        description="Bootstrap servers, host:port,... Default: the broker of `slipher broker start`.",
    )
    kafka: Annotated[dict[str, str], Named(such_as="security.protocol=SASL_SSL")] = Field(
        default_factory=dict,
        description="Further librdkafka settings, key=value; may be repeated.",
    )

    @field_validator("kafka")
    @classmethod
    def _not_ours(cls, kafka: dict[str, str]) -> dict[str, str]:
        refuse_ours(kafka)
        return secrets.read_from_files(kafka, "kafka")


class TopicSettings(BrokerSettings):
    """Which topic is read."""

    topic: str = Field(
        description="Topic to read; or, from ^ on, a regular expression: every topic that it fits, new ones as they appear."
    )
    patience: float = Field(default=10.0, gt=0, description="Seconds the broker may take to answer at the start.")


class RegistrySettings(Settings):
    """How a schema registry is reached."""

    registry: Annotated[str, Named(key="registry.url")] = Field(
        default="",
        description="Schema registry, http://HOST:PORT. A password is best in a file: basic.auth.user.info.file.",
    )
    registry_setting: Annotated[dict[str, str], Named(key="registry", such_as="ssl.ca.location=FILE")] = Field(
        default_factory=dict,
        description="Credentials for the registry, key=value as in Confluent's clients: basic.auth.user.info, "
        "bearer.auth.token, ssl.ca.location ...; may be repeated.",
    )

    @field_validator("registry_setting")
    @classmethod
    def _known(cls, given: dict[str, str]) -> dict[str, str]:
        return secrets.read_from_files(given, "registry")


class WireSettings(RegistrySettings, BrokerSettings):
    """How broker and registry are reached: for commands that look at messages, or send them."""


class ProcessingSettings(RegistrySettings):
    """How messages become rows, and in which catalogue these stand: the same for a topic, files and dead letters."""

    model: Path = Field(description="Model bundle, from `slipher train`.")
    catalog: Path = Field(
        description="Catalogue: a directory, or s3://BUCKET/PATH; made where it does not exist.",
    )
    alerts: str = Field(
        default="native",
        description="What the messages are: native, or a survey's own packets, such as lsst, ztf, elasticc.",
    )
    framing: str = Field(default="auto", description="auto, confluent-avro, container, avro, arrow or json.")
    schema_file: Annotated[list[str], Named("--schema", "schema")] = Field(
        default_factory=list,
        description="Avro schema: FILE of messages without any header (--framing avro), or ID=FILE of an id in "
        "Confluent's header, beside or instead of a registry; may be repeated.",
    )
    dust_map: Annotated[Path | None, Named(key="dust.map")] = Field(
        default=None, description="HEALPix map of E(B-V), FITS, where the packets carry none."
    )
    dust_column: Annotated[str, Named(key="dust.column")] = Field(
        default="", description="Its column, where that is not clear."
    )
    pdf: PdfForm = Field(
        default="plain", description="How PDFs are stored: plain, a list of numbers, or compact, a byte a point."
    )

    worker: Literal["auto", "tree", "images"] = Field(
        default="auto", description="The worker: tree, or images of image networks; auto goes by the model."
    )
    device: Literal["auto", "cuda", "cpu", "onnx", "openvino"] = Field(
        default="auto",
        description="Of image networks: cuda, a GPU; cpu, kernels of our own on a core with AVX-512, else torch; onnx or "
        "openvino, graphs in the bundle on a core; auto takes a GPU, else cpu, else onnx.",
    )

    @field_validator("catalog", mode="plain")
    @classmethod
    def _place(cls, catalog: str | Path) -> Path:
        return place(catalog)


class WritingSettings(ProcessingSettings):
    """When rows become durable, and when it is wrong to go on."""

    commit_rows: Annotated[int, Named(key="commit.rows")] = Field(
        default=100_000, ge=1, description="Commit after so many rows ..."
    )
    commit_seconds: Annotated[float, Named(key="commit.seconds")] = Field(
        default=5.0, gt=0, description="... or so many seconds."
    )
    refused_limit: Annotated[float, Named(key="refused.limit")] = Field(
        default=0.5,
        gt=0,
        le=1,
        description="Stop where a greater part of the messages is refused; 1 = never.",
    )
    refused_in_a_row: Annotated[int, Named(key="refused.in_a_row")] = Field(
        default=10_000,
        ge=0,
        description="Stop where more messages of a partition are refused one after another; 0 = never.",
    )


class LogSettings(Settings):
    """How a process says what it does."""

    log_format: Annotated[LogFormat, Named(key="log.format")] = Field(
        default="human", description="Lines of the log: human, or json, one object a line with fields."
    )


class WatchedSettings(LogSettings):
    """How a process that works for long is watched."""

    metrics_port: Annotated[int | None, Named(key="metrics.port")] = Field(
        default=None,
        ge=1,
        le=65_535,
        description="Serve /metrics, /healthz and /readyz at this port. With --workers N, worker n has PORT+n-1, "
        "their supervisor PORT+N.",
    )
    metrics_host: Annotated[str, Named(key="metrics.host")] = Field(
        default="127.0.0.1", description="Address at which these are served."
    )
    traces: bool = Field(
        default=False,
        description="Send OpenTelemetry traces; also where OTEL_EXPORTER_OTLP_ENDPOINT says where to.",
    )


class RunSettings(WritingSettings, TopicSettings, WatchedSettings):
    """What ``slipher run`` needs to know."""

    start: str = Field(
        default="", description="Where a first run begins: earliest, latest, an ISO time, or after:MODEL."
    )
    group: str = Field(default="", description="Consumer group. Default: slipher-<model>.")
    workers: int = Field(
        default=1,
        ge=1,
        le=256,
        description="Worker processes on this machine; one that dies is started again.",
    )


class BackfillSettings(WritingSettings, LogSettings):
    """What ``slipher backfill`` needs to know beside the files."""

    alerts: str = Field(
        default="native",
        description="What the packets are: native, or a survey's own, such as lsst, ztf, elasticc.",
    )
    framing: str = Field(
        default="auto",
        description="auto: files say what they are. avro: packets without any header, see --schema.",
    )
    workers: int = Field(default=1, ge=1, description="Processes that share the shards.")


class MonitorSettings(BrokerSettings, LogSettings):
    """What ``slipher monitor`` needs to know beside the catalogue."""

    monitor_host: Annotated[str, Named("--host", "monitor.host")] = Field(
        default="127.0.0.1",
        description="Address at which `slipher monitor` listens; another than this machine's own wants a token.",
    )
    monitor_port: Annotated[int, Named("--port", "monitor.port")] = Field(
        default=8642, ge=0, le=65_535, description="Its port; 0 takes a free one."
    )
    monitor_token_file: Annotated[Path | None, Named("--token-file", "monitor.token_file")] = Field(
        default=None,
        description="Who looks must know what stands in this file. Or SLIPHER_MONITOR_TOKEN, the token itself.",
    )
    monitor_every: Annotated[float, Named("--every", "monitor.every")] = Field(
        default=5.0, ge=0.5, le=300, description="Seconds from one look to the next."
    )


def run_settings(**given: Any) -> RunSettings:
    """Settings from flags (None = not given) and environment; ``UserError`` names what is missing or wrong."""
    return settings(RunSettings, given)


def backfill_settings(**given: Any) -> BackfillSettings:
    """The same for files at rest."""
    return settings(BackfillSettings, given)


# A class of new fields joins here.
EVERY: tuple[type[Settings], ...] = (RunSettings, BackfillSettings, MonitorSettings, StorageSettings)


def fields() -> dict[str, tuple[type[Settings], FieldInfo]]:
    """Every setting there is, with a class that has it."""
    out: dict[str, tuple[type[Settings], FieldInfo]] = {}
    for what in EVERY:
        for name, field in what.model_fields.items():
            out.setdefault(name, (what, field))
    return out


def keys() -> dict[str, toml_file.Key]:
    """Every setting as the file has it, by its name."""
    return {
        name: toml_file.Key(name, named(field).key or name, is_table(field), partial(checked, what, name))
        for name, (what, field) in fields().items()
    }


def use_storage(flags: dict[str, str] | None = None) -> None:
    """Let the object store's options hold, for this process and those that it starts: flags, then AWS_..., then the file."""
    flags = flags or {}
    for name in _from_file:
        os.environ.pop(name, None)
    _from_file.clear()
    for key, value in settings(StorageSettings, {"storage": flags or None}).storage.items():
        name = key.upper()
        if key in flags or f"{key}{secrets.FILE}" in flags:
            os.environ[name] = value
        elif name not in os.environ:
            os.environ[name] = value
            _from_file.add(name)


_from_file: set[str] = set()  # variables that the file set: another file takes their place
