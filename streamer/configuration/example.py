"""An example of ``slipher.toml``, made from the settings: every key, its meaning, its default; and the list for a document."""

import json
import textwrap
from typing import Any

from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined

from streamer.configuration.base import PREFIX
from streamer.configuration.origins import heading
from streamer.settings import fields, flag_of, is_table, keys

TABLES = {
    "kafka": ['security.protocol = "SASL_SSL"', 'sasl.mechanism = "SCRAM-SHA-512"', 'sasl.username = "slipher"',
              'sasl.password.file = "/run/secrets/kafka-password"  # what this file holds is the password'],
    "registry": ['basic.auth.user.info.file = "/run/secrets/registry-user"'],
    "storage": ['aws_region = "eu-west-1"', 'aws_secret_access_key.file = "/run/secrets/storage-key"'],
}  # fmt: skip


def example() -> str:
    """The text of the file: all of it is commented out, so it holds as it is."""
    sections: dict[str, list[str]] = {}
    for name, (_, field) in fields().items():
        section = heading(field, name)
        lines = sections.setdefault(section, [])
        lines += [f"# {line}" for line in textwrap.wrap(_about(field), 110)]
        if is_table(field):
            lines += [f"# {line}" for line in TABLES.get(section, [])]
        else:
            key = keys()[name].key.removeprefix(f"{section}.")
            lines.append(f"# {key} = {_toml(field)}")
        lines.append("")
    out = [
        "# Settings of slipher. A command's flags hold before the environment (SLIPHER_...), and that before this file.",
        "# `slipher config show` says what holds, and where each value comes from.",
        "",
        *sections.pop("", []),
    ]
    for section, lines in sections.items():
        out += [f"[{section}]", *lines]
    return "\n".join(out).rstrip() + "\n"


def listed() -> list[tuple[str, str, str, str, str]]:
    """Every setting: key of the file, flag, variable, default, meaning."""
    out = []
    for name, (what, field) in fields().items():
        key = keys()[name].key
        out.append(
            (
                f"[{key}]" if is_table(field) else key,
                flag_of(what, name),
                f"{PREFIX}{name.upper()}",
                "" if is_table(field) or _default(field) in (None, "", []) else str(_default(field)),
                _about(field),
            )
        )
    return out


def markdown_row(entry: tuple[str, str, str, str, str]) -> str:
    """An entry of `listed` as a row of the table in docs/configuration.md."""
    key, flag, variable, default, about = entry
    return f"| `{key}` | `{flag}` | `{variable}` | {f'`{default}`' if default else ''} | {about.replace('|', chr(92) + '|')} |"


def _about(field: FieldInfo) -> str:
    return str(field.description or "")


def _default(field: FieldInfo) -> Any:
    return None if field.default is PydanticUndefined else field.default


def _toml(field: FieldInfo) -> str:
    """The default as TOML writes it, or something that shows the kind of value."""
    default = _default(field)
    if default is None or default == "":
        return "[]" if "list" in str(field.annotation) else '""' if "int" not in str(field.annotation) else "0"
    return json.dumps(default)
