"""Settings: flags before the environment (``SLIPHER_...``) before the file ``slipher.toml`` before defaults.

A setting is declared once, as a field here: its flag and its help (streamer/cli/options.py), its key in the file, its line in
`slipher config show` and in the file that `slipher config init` writes come from the field. No room reads the environment itself.
"""

import os
from functools import partial
from pathlib import Path
from typing import Annotated, Any, NamedTuple, TypeVar, cast, get_origin

from pydantic import Field, TypeAdapter, ValidationError, field_validator
from pydantic.fields import FieldInfo
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict, SettingsError

from schemas.errors import UserError
from schemas.pdf_form import PdfForm
from streamer.configuration import secrets, toml_file
from streamer.logs import LogFormat
from streamer.sink.store import check_options, place
from streamer.source.client import refuse_ours

S = TypeVar("S", bound="Settings")

PREFIX = "SLIPHER_"
NO_BROKER = "Which broker? Give --brokers host:port, or set SLIPHER_BROKERS; `slipher broker start` starts one here."


class NoBroker(UserError):
    """Nobody said which broker, and none runs here."""


class Named(NamedTuple):
    """How a field is called outside, where that is not its name.

    Attributes
    ----------
    flag
        On the command line; "" = ``--`` and its name.
    key
        In the file; "" = its name. A point parts section and key. Of a field that is a dict it is a section of free keys.
    such_as
        A pair that stands for many, of a field whose flag is repeated with ``key=value``.
    """

    flag: str = ""
    key: str = ""
    such_as: str = ""


def broker_here() -> str:
    """The broker that runs on this machine; ``NoBroker`` where none does."""
    from streamer.broker.resident import running

    here = running()
    if here is None:
        raise NoBroker(NO_BROKER)
    return here.bootstrap


class Settings(BaseSettings):
    """What all settings have in common."""

    model_config = SettingsConfigDict(
        env_prefix=PREFIX, extra="forbid", env_ignore_empty=True, hide_input_in_errors=True
    )

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Flags, then the environment, then the file. Of dicts each key counts for itself."""
        return init_settings, env_settings, _FromFile(settings_cls)

    def __repr_args__(self) -> Any:
        """Secrets masked: whoever prints or logs settings shows none."""
        return [(name, secrets.shown(value, name)) for name, value in self.__dict__.items()]

    __str__ = BaseSettings.__repr__


class _FromFile(PydanticBaseSettingsSource):
    """What the file says of the fields of a class; it is read whole, so that what is wrong in it is said by every command."""

    def get_field_value(self, field: FieldInfo, field_name: str) -> tuple[Any, str, bool]:
        raise NotImplementedError  # of sources that answer field by field

    def __call__(self) -> dict[str, Any]:
        path = toml_file.which()
        if path is None:
            return {}
        values = toml_file.read(path, keys()).values
        return {name: value for name, value in values.items() if name in self.settings_cls.model_fields}


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
        name: toml_file.Key(name, named(field).key or name, is_table(field), partial(_checked, what, name))
        for name, (what, field) in fields().items()
    }


def named(field: FieldInfo) -> Named:
    """How the field is called outside."""
    return next((some for some in field.metadata if isinstance(some, Named)), Named())


def is_table(field: FieldInfo) -> bool:
    """Whether it is one of free keys."""
    return get_origin(field.annotation) is dict


def settings(what: type[S], given: dict[str, Any]) -> S:
    """Settings of the class `what` from flags (None = not given), the environment and the file.

    Raises
    ------
    UserError
        Something is missing or wrong; the sentence names all of it, and where it was given.
    """
    flags = {key: value for key, value in given.items() if value is not None}
    try:
        return what(**flags)
    except SettingsError as error:
        raise UserError(f"The environment: {error}.") from None
    except ValidationError as error:
        raise UserError(
            "; ".join(f"{_where(what, str(e['loc'][0]), flags)}: {_said(e)}" for e in error.errors())
        ) from None


def _where(what: type[Settings], name: str, flags: dict[str, Any]) -> str:
    """Where a wrong value was given: what the file has wrong was said when it was read."""
    variable = f"{PREFIX}{name.upper()}"
    return variable if name not in flags and os.environ.get(variable) else flag_of(what, name)


def _said(error: Any) -> str:
    return str(error["msg"]).removeprefix("Value error, ").lower()


def _checked(what: type[Settings], name: str, value: Any) -> Any:
    """`value` as one of the field `name`; raises ValueError or UserError."""
    field, annotated = what.model_fields[name], cast(Any, Annotated)
    try:
        TypeAdapter(annotated[field.annotation, field]).validate_python(value)
    except ValidationError as error:
        raise ValueError(_said(error.errors()[0])) from None
    if name == "kafka":
        refuse_ours(value)
    return value


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


def part(what: type[S], given: dict[str, Any]) -> S:
    """Settings of `what` where `given` holds others as well: they are left out."""
    return settings(what, {name: given.get(name) for name in what.model_fields})


def flag_of(what: type[Settings], name: str) -> str:
    """The flag of the setting `name`."""
    field = what.model_fields.get(name)
    return (named(field).flag if field else "") or f"--{name.replace('_', '-')}"


def key_values(pairs: list[str], flag: str = "--kafka", such_as: str = "security.protocol=SASL_SSL") -> dict[str, str]:
    """Parse ``key=value`` of the repeated `flag`."""
    out = {}
    for pair in pairs:
        key, sign, value = pair.partition("=")
        if not sign:
            raise UserError(f"{flag} {pair}: say key=value, such as {flag} {such_as}.")
        out[key.strip()] = value.strip()
    return out
