"""The file of settings, ``slipher.toml``: which it is, what it says, and in which line."""

import datetime as dt
import difflib
import os
import tomllib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from schemas.errors import UserError

VARIABLE = "SLIPHER_CONFIG"
USUAL = Path("slipher.toml")

Check = Callable[[Any], Any]  # gives the value back, or raises a ValueError or UserError whose text says what is wrong


class Key(NamedTuple):
    """A setting as the file has it.

    Attributes
    ----------
    name
        Of the setting.
    key
        In the file, such as ``commit.rows``; of a `table` the section.
    table
        Whether it is a section of free keys, which pass through.
    check
        Of a value.
    """

    name: str
    key: str
    table: bool
    check: Check


class ConfigFile(NamedTuple):
    """What a file says.

    Attributes
    ----------
    path
        The file.
    values
        By the setting's name; of a table a dict.
    text
        The file's.
    keys
        By the setting's name.
    """

    path: Path
    values: dict[str, Any]
    text: str
    keys: Mapping[str, Key]

    def place(self, name: str, within: str = "") -> str:
        """Where the setting `name` stands, of a table its key `within`: ``slipher.toml:12``."""
        line = lines(self.text).get(_path(self.keys[name].key, within))
        return f"{told(self.path)}:{line}" if line else told(self.path)


def which() -> Path | None:
    """The file that holds: SLIPHER_CONFIG, else ``slipher.toml`` in this directory, else none."""
    if given := os.environ.get(VARIABLE):
        return Path(given)
    return USUAL if USUAL.is_file() else None


def told(path: Path) -> str:
    """The path as a person in this directory would write it."""
    try:
        return str(path.relative_to(Path.cwd()))
    except ValueError:
        return str(path)


def use(path: Path) -> None:
    """Let `path` hold, for this process and those that it starts."""
    os.environ[VARIABLE] = str(path.absolute())


def read(path: Path, keys: Mapping[str, Key]) -> ConfigFile:
    """Read the file at `path` for the settings `keys`.

    Raises
    ------
    UserError
        It cannot be read, is no TOML, has a key that is none, or a value that is not what it should be; the sentence names
        the line, and the nearest key.
    """
    try:
        text = path.read_text()
        content = tomllib.loads(text)
    except OSError as error:
        raise UserError(f"The file of settings {told(path)} cannot be read: {error.strerror}.") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise UserError(f"{told(path)} is no TOML: {error}.") from None
    out = ConfigFile(path, {}, text, keys)
    tables = {key.key: key for key in keys.values() if key.table}
    plain = {key.key: key for key in keys.values() if not key.table}
    sections = {key.partition(".")[0] for key in plain if "." in key}
    wrong: list[str] = []
    for key, value in _flat(content):
        head, _, rest = key.partition(".")
        if key in plain:
            _take(out, plain[key], value, "", wrong)
        elif head in tables and rest:
            _take(out, tables[head], value, rest, wrong)
        elif isinstance(value, dict) and (key in tables or key in sections):
            pass  # an empty section
        else:
            line = lines(text).get(tuple(key.split("."))) or _header(text, key)
            there = [*plain, *(name for name in tables if not rest)]
            raise UserError(
                f"{told(path)}{f':{line}' if line else ''}: there is no setting {key}.{_nearest(key, there)}"
            )
    if wrong:
        raise UserError("; ".join(wrong))
    return out


def lines(text: str) -> dict[tuple[str, ...], int]:
    """The line in which each value of a TOML file begins, by its path.

    The file is parsed line after line: the line with which a value is there ends it, and it begins after what was whole before.
    """
    found: dict[tuple[str, ...], int] = {}
    rows, begun = text.split("\n"), 1
    for n in range(1, len(rows) + 1):
        row = rows[n - 1].strip()
        if begun == n and (not row or row.startswith("#")):
            begun = n + 1
            continue
        try:
            content = tomllib.loads("\n".join(rows[:n]))
        except tomllib.TOMLDecodeError:
            continue  # in the midst of a value
        for key, _ in _flat(content):
            found.setdefault(tuple(key.split(".")), begun)
        begun = n + 1
    return found


def _take(file: ConfigFile, key: Key, value: Any, within: str, wrong: list[str]) -> None:
    full = f"{key.key}.{within}" if within else key.key
    try:
        if key.table:
            if isinstance(value, dict | list):
                raise ValueError("one value is wanted here")
            file.values.setdefault(key.name, {}).update(key.check({within: _as_text(value)}))
        else:
            value = value.isoformat() if isinstance(value, dt.datetime | dt.date) else value
            file.values[key.name] = key.check(value)
    except (ValueError, UserError) as error:
        file.values.setdefault(key.name, value)
        wrong.append(f"{file.place(key.name, within)}: {full}: {error}")


def _flat(content: Mapping[str, Any], before: str = "") -> list[tuple[str, Any]]:
    """Values by their dotted keys: a key with dots is the same with quotation marks and without."""
    out: list[tuple[str, Any]] = []
    for key, value in content.items():
        if isinstance(value, dict) and value:
            out += _flat(value, f"{before}{key}.")
        else:
            out.append((before + key, value))
    return out


def _path(key: str, within: str) -> tuple[str, ...]:
    return tuple(f"{key}.{within}".split(".") if within else key.split("."))


def _header(text: str, key: str) -> int | None:
    """Line of the first value that stands under `key`."""
    head = tuple(key.split("."))
    return min((line for path, line in lines(text).items() if path[: len(head)] == head), default=None)


def _as_text(value: Any) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


def _nearest(key: str, there: list[str]) -> str:
    near = difflib.get_close_matches(key, there, n=1, cutoff=0.5)
    if not near:  # the last word alone: commit_row, rows
        last = {name.replace(".", "_"): name for name in there}
        near = [last[name] for name in difflib.get_close_matches(key.replace(".", "_"), last, n=1, cutoff=0.5)]
    return f" Did you mean {near[0]}?" if near else " `slipher config init` writes all that there are."
