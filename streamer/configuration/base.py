"""What settings are made of: a field with its names, and values from flags before the environment before the file."""

import os
from typing import Annotated, Any, NamedTuple, TypeVar, cast, get_origin

from pydantic import TypeAdapter, ValidationError
from pydantic.fields import FieldInfo
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict, SettingsError

from schemas.errors import UserError
from streamer.configuration import secrets, toml_file
from streamer.source.client import refuse_ours

S = TypeVar("S", bound="Settings")

PREFIX = "SLIPHER_"


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
        """Flags, then the environment, then the file. Of dicts each key counts for itself, KEY and ``KEY.file`` as one."""
        return init_settings, _Weaker(env_settings), _Weaker(_FromFile(settings_cls))

    def __repr_args__(self) -> Any:
        """Secrets masked: whoever prints or logs settings shows none."""
        return [(name, secrets.shown(value, name)) for name, value in self.__dict__.items()]

    __str__ = BaseSettings.__repr__


class _Weaker(PydanticBaseSettingsSource):
    """A source less what a stronger one gives in the other form: of a password and a file that holds it the stronger counts."""

    def __init__(self, source: PydanticBaseSettingsSource) -> None:
        super().__init__(source.settings_cls)
        self._source = source

    def get_field_value(self, field: FieldInfo, field_name: str) -> tuple[Any, str, bool]:
        return self._source.get_field_value(field, field_name)

    def __call__(self) -> dict[str, Any]:
        out = {}
        for name, value in self._source().items():
            stronger = self.current_state.get(name)
            if isinstance(value, dict) and isinstance(stronger, dict):
                value = {key: some for key, some in value.items() if secrets.in_other_form(key) not in stronger}
            out[name] = value
        return out


class _FromFile(PydanticBaseSettingsSource):
    """What the file says of the fields of a class; it is read whole, so that what is wrong in it is said by every command."""

    def get_field_value(self, field: FieldInfo, field_name: str) -> tuple[Any, str, bool]:
        raise NotImplementedError  # of sources that answer field by field

    def __call__(self) -> dict[str, Any]:
        path = toml_file.which()
        if path is None:
            return {}
        from streamer.settings import keys  # all classes, which are made of this one

        values = toml_file.read(path, keys()).values
        return {name: value for name, value in values.items() if name in self.settings_cls.model_fields}


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


def checked(what: type[Settings], name: str, value: Any) -> Any:
    """`value` as one of the field `name`; raises ValueError or UserError."""
    field, annotated = what.model_fields[name], cast(Any, Annotated)
    try:
        TypeAdapter(annotated[field.annotation, field]).validate_python(value)
    except ValidationError as error:
        raise ValueError(_said(error.errors()[0])) from None
    if name == "kafka":
        refuse_ours(value)
    return value


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
