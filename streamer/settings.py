"""Settings of a run: flags before the environment (``SLIPHER_...``) before defaults. No room reads the environment itself.

A setting is declared once, as a field here: streamer/cli/options.py makes its flag and the help of it.
"""

from pathlib import Path
from typing import Annotated, Any, NamedTuple, TypeVar

from pydantic import Field, ValidationError, field_validator
from pydantic_settings import BaseSettings, SettingsConfigDict, SettingsError

from schemas.catalogue import PdfForm
from schemas.errors import UserError
from streamer.sink.store import place

S = TypeVar("S", bound="Settings")

NO_BROKER = "Which broker? Give --brokers host:port, or set SLIPHER_BROKERS; `slipher broker start` starts one here."


class NoBroker(UserError):
    """Nobody said which broker, and none runs here."""


class Named(NamedTuple):
    """How a field is called outside, where that is not its name.

    Attributes
    ----------
    flag
        On the command line; "" = ``--`` and its name.
    such_as
        A pair that stands for many, of a field whose flag is repeated with ``key=value``.
    """

    flag: str = ""
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
        env_prefix="SLIPHER_", extra="forbid", env_ignore_empty=True, hide_input_in_errors=True
    )


class BrokerSettings(Settings):
    """How a broker is reached."""

    brokers: str = Field(
        default_factory=broker_here,
        description="Bootstrap servers, host:port,... Default: the broker of `slipher broker start`.",
    )
    kafka: Annotated[dict[str, str], Named(such_as="security.protocol=SASL_SSL")] = Field(
        default_factory=dict,
        repr=False,
        description="Further librdkafka settings, key=value; may be repeated.",
    )


class TopicSettings(BrokerSettings):
    """Which topic is read."""

    topic: str = Field(
        description="Topic to read; or, from ^ on, a regular expression: every topic that it fits, new ones as they appear."
    )
    patience: float = Field(default=10.0, gt=0, description="Seconds the broker may take to answer at the start.")


class RegistrySettings(Settings):
    """How a schema registry is reached."""

    registry: str = Field(
        default="",
        repr=False,
        description="Schema registry, http://HOST:PORT. Passwords are best in the environment.",
    )
    registry_setting: Annotated[dict[str, str], Named(such_as="ssl.ca.location=FILE")] = Field(
        default_factory=dict,
        repr=False,
        description="Credentials for the registry, key=value as in Confluent's clients: basic.auth.user.info, "
        "bearer.auth.token, ssl.ca.location ...; may be repeated.",
    )


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
    schema_file: Annotated[list[str], Named("--schema")] = Field(
        default_factory=list,
        description="Avro schema: FILE of messages without any header (--framing avro), or ID=FILE of an id in "
        "Confluent's header, beside or instead of a registry; may be repeated.",
    )
    dust_map: Path | None = Field(
        default=None, description="HEALPix map of E(B-V), FITS, where the packets carry none."
    )
    dust_column: str = Field(default="", description="Its column, where that is not clear.")
    pdf: PdfForm = Field(
        default="plain", description="How PDFs are stored: plain, a list of numbers, or compact, a byte a point."
    )

    @field_validator("catalog", mode="plain")
    @classmethod
    def _place(cls, catalog: str | Path) -> Path:
        return place(catalog)


class WritingSettings(ProcessingSettings):
    """When rows become durable, and when it is wrong to go on."""

    commit_rows: int = Field(default=100_000, ge=1, description="Commit after so many rows ...")
    commit_seconds: float = Field(default=5.0, gt=0, description="... or so many seconds.")
    refused_limit: float = Field(
        default=0.5,
        gt=0,
        le=1,
        description="Stop where a greater part of the messages is refused; 1 = never.",
    )
    refused_in_a_row: int = Field(
        default=10_000,
        ge=0,
        description="Stop where more messages of a partition are refused one after another; 0 = never.",
    )


class RunSettings(WritingSettings, TopicSettings):
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


class BackfillSettings(WritingSettings):
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


def run_settings(**given: Any) -> RunSettings:
    """Settings from flags (None = not given) and environment; ``UserError`` names what is missing or wrong."""
    return settings(RunSettings, given)


def backfill_settings(**given: Any) -> BackfillSettings:
    """The same for files at rest."""
    return settings(BackfillSettings, given)


def settings(what: type[S], given: dict[str, Any]) -> S:
    """Settings of the class `what` from flags (None = not given) and environment.

    Raises
    ------
    UserError
        Something is missing or wrong; the sentence names all of it.
    """
    try:
        return what(**{key: value for key, value in given.items() if value is not None})
    except SettingsError as error:
        raise UserError(f"The environment: {error}.") from None
    except ValidationError as error:
        wrong = [f"{flag_of(what, str(e['loc'][0]))}: {e['msg'].lower()}" for e in error.errors()]
        raise UserError("; ".join(wrong)) from None


def part(what: type[S], given: dict[str, Any]) -> S:
    """Settings of `what` where `given` holds others as well: they are left out."""
    return settings(what, {name: given.get(name) for name in what.model_fields})


def flag_of(what: type[Settings], name: str) -> str:
    """The flag of the setting `name`."""
    field = what.model_fields.get(name)
    named = next((m for m in field.metadata if isinstance(m, Named)), None) if field else None
    return (named.flag if named else "") or f"--{name.replace('_', '-')}"


def key_values(pairs: list[str], flag: str = "--kafka", such_as: str = "security.protocol=SASL_SSL") -> dict[str, str]:
    """Parse ``key=value`` of the repeated `flag`."""
    out = {}
    for pair in pairs:
        key, sign, value = pair.partition("=")
        if not sign:
            raise UserError(f"{flag} {pair}: say key=value, such as {flag} {such_as}.")
        out[key.strip()] = value.strip()
    return out
