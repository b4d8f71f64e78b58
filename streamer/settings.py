"""Settings of a run: flags before the environment (``SLIPHER_...``) before defaults. No room reads the environment itself."""

from pathlib import Path
from typing import Any, TypeVar

from pydantic import Field, ValidationError, field_validator
from pydantic_settings import BaseSettings, SettingsConfigDict, SettingsError

from schemas.catalogue import PdfForm
from schemas.errors import UserError
from streamer.sink.store import place

S = TypeVar("S", bound=BaseSettings)


class ProcessingSettings(BaseSettings):
    """How messages become rows, and where these go: what reading a topic and reading files have in common."""

    model_config = SettingsConfigDict(env_prefix="SLIPHER_", extra="forbid")

    model: Path = Field(description="model bundle")
    catalog: Path = Field(description="catalogue: a directory, or s3://BUCKET/PATH")
    alerts: str = Field(default="native", description="native, or the survey whose packets are read")
    framing: str = "auto"
    schema_file: list[str] = Field(default_factory=list, description="FILE of bare Avro, or ID=FILE; --schema")
    dust_map: Path | None = Field(default=None, description="HEALPix map of E(B-V), FITS")
    dust_column: str = ""
    registry: str = Field(default="", repr=False, description="address of a schema registry; may hold a password")
    registry_setting: dict[str, str] = Field(
        default_factory=dict, repr=False, description="credentials and certificates for it; see streamer.registry"
    )
    pdf: PdfForm = Field(default="plain", description="form of the PDFs; another form is another processing")
    commit_rows: int = Field(default=100_000, ge=1)
    commit_seconds: float = Field(default=5.0, gt=0)
    refused_limit: float = Field(
        default=0.5, gt=0, le=1, description="stop where more of the messages are refused; 1 = never"
    )
    refused_in_a_row: int = Field(
        default=10_000, ge=0, description="stop where more messages of a partition are refused in a row; 0 = never"
    )

    @field_validator("catalog", mode="plain")
    @classmethod
    def _place(cls, catalog: str | Path) -> Path:
        return place(catalog)


class RunSettings(ProcessingSettings):
    """What ``slipher run`` needs to know."""

    brokers: str = Field(description="bootstrap servers, host:port,...")
    topic: str = Field(description="name, or ^pattern")
    group: str = Field(default="", description="consumer group; default slipher-<model>")
    start: str = Field(default="", description="where a first run begins")
    patience: float = Field(default=10.0, gt=0, description="seconds a broker may take to answer at the start")
    kafka: dict[str, str] = Field(default_factory=dict, repr=False, description="further librdkafka settings")


class BackfillSettings(ProcessingSettings):
    """What ``slipher backfill`` needs to know beside the files."""

    workers: int = Field(default=1, ge=1, description="processes that share the shards")


def run_settings(**given: Any) -> RunSettings:
    """Settings from flags (None = not given) and environment; ``UserError`` names what is missing or wrong."""
    return _settings(RunSettings, given)


def backfill_settings(**given: Any) -> BackfillSettings:
    """The same for files at rest."""
    return _settings(BackfillSettings, given)


def _settings(what: type[S], given: dict[str, Any]) -> S:
    try:
        return what(**{key: value for key, value in given.items() if value is not None})
    except SettingsError as error:
        raise UserError(f"The environment: {error}.") from None
    except ValidationError as error:
        wrong = [f"--{str(e['loc'][0]).replace('_', '-')}: {e['msg'].lower()}" for e in error.errors()]
        raise UserError("; ".join(wrong)) from None


def key_values(pairs: list[str], flag: str = "--kafka", such_as: str = "security.protocol=SASL_SSL") -> dict[str, str]:
    """Parse ``key=value`` of the repeated `flag`."""
    out = {}
    for pair in pairs:
        key, sign, value = pair.partition("=")
        if not sign:
            raise UserError(f"{flag} {pair}: say key=value, such as {flag} {such_as}.")
        out[key.strip()] = value.strip()
    return out
