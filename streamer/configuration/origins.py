"""Where the value of each setting comes from: a flag, the environment, a line of the file, a default."""

import difflib
import os
from typing import Any, Literal, NamedTuple

from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined
from pydantic_settings import EnvSettingsSource, SettingsError

from schemas.errors import UserError
from streamer.configuration import secrets, toml_file
from streamer.configuration.base import PREFIX
from streamer.settings import Settings, fields, flag_of, is_table, keys, named

Kind = Literal["flag", "environment", "file", "default", "missing"]

# Variables that are no settings: of the broker that `slipher broker` starts, of caches, of tests, of the command itself.
OTHERS = (
    "AVX512",
    "BROKER_HOME",
    "CACHE",
    "CONFIG",
    "DEBUG",
    "JAVA",
    "MAVEN_URL",
    "MONITOR_TOKEN",
    "SKY_CURVES",
    "TEST_DATA",
)


class Origin(NamedTuple):
    """A setting, its value, and where that comes from.

    Attributes
    ----------
    key
        In the file.
    value
        As it may be shown: secrets are masked. None = there is none.
    kind, where
        Where it comes from: a flag, a variable, ``slipher.toml:12``, or "" for a default.
    """

    key: str
    value: Any
    kind: Kind
    where: str


def origins(flags: dict[str, Any]) -> list[Origin]:
    """Every setting with its origin, as a command with `flags` would have it; of a section each of its keys.

    Raises
    ------
    UserError
        The file or the environment is not what it should be.
    """
    path = toml_file.which()
    file = toml_file.read(path, keys()) if path else None
    out: list[Origin] = []
    for name, (what, field) in fields().items():
        given: list[tuple[Kind, str, Any]] = []  # first one first
        if name in flags:
            given.append(("flag", flag_of(what, name), flags[name]))
        found = _environment(what, name)
        if found is not None:
            given.append(("environment", f"{PREFIX}{name.upper()}", found))
        if file and name in file.values:
            given.append(("file", "", file.values[name]))
        key = keys()[name].key
        out += _table(name, key, given, file) if is_table(field) else [_one(name, key, field, given, file)]
    return out


def misspelt() -> list[tuple[str, str]]:
    """Variables of the environment that look like one of ours and are none, each with the nearest that there is.

    One that is like none is let pass: Kubernetes gives every container variables that begin with the names of its services.
    """
    there = [f"{PREFIX}{name}" for name in (*(name.upper() for name in fields()), *OTHERS)]
    out = []
    for name in sorted(os.environ):
        if name.startswith(PREFIX) and name not in there and (near := difflib.get_close_matches(name, there, 1, 0.85)):
            out.append((name, near[0]))
    return out


def _environment(what: type[Settings], name: str) -> Any:
    """The value that the environment gives, None where it gives none."""
    field = what.model_fields[name]
    try:
        source = EnvSettingsSource(what)
        value, _, is_complex = source.get_field_value(field, name)
        return source.prepare_field_value(name, field, value, is_complex) if value not in (None, "") else None
    except (SettingsError, ValueError):
        raise UserError(f'{PREFIX}{name.upper()} is no JSON: of several values, say {{"key": "value"}}.') from None


def _one(
    name: str, key: str, field: FieldInfo, given: list[tuple[Kind, str, Any]], file: toml_file.ConfigFile | None
) -> Origin:
    if given:
        kind, where, value = given[0]
        where = file.place(name) if file and kind == "file" else where
        return Origin(key, secrets.shown(value, name), kind, where)
    if name == "brokers":
        from streamer.broker.resident import running

        here = running()
        return Origin(key, here.bootstrap if here else None, "default" if here else "missing", "")
    if field.is_required():
        return Origin(key, None, "missing", "")
    default = field.get_default(call_default_factory=True, validated_data={})
    return Origin(key, None if default is PydanticUndefined else default, "default", "")


def _table(name: str, key: str, given: list[tuple[Kind, str, Any]], file: toml_file.ConfigFile | None) -> list[Origin]:
    out: dict[str, Origin] = {}
    if name == "storage":  # its variables are those that Delta's library reads itself
        held = {some.lower(): value for some, value in os.environ.items() if some.startswith("AWS_")}
        given = sorted([*given, ("environment", "", held)], key=lambda item: item[0] != "flag")
    for kind, where, values in given:
        for within, value in values.items():
            if within in out or secrets.in_other_form(within) in out:
                continue
            at = file.place(name, within) if file and kind == "file" else where or within.upper()
            out[within] = Origin(f"{key}.{within}", secrets.shown(value, within), kind, at)
    return list(out.values())


def heading(field: FieldInfo, name: str) -> str:
    """The section of the file in which the setting stands, "" for none."""
    key = named(field).key or name
    return key if is_table(field) else key.rpartition(".")[0]
