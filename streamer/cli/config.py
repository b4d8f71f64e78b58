"""``slipher config``: the settings that hold, and where each came from; an example file."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from streamer.cli import options
from streamer.cli.console import group, plain_console
from streamer.settings import RunSettings

app = group("The settings that hold, and where each came from; an example file.")


@app.command()
@options.of(RunSettings)
def show(
    given: options.Given,
    as_json: Annotated[bool, typer.Option("--json", help="Write a JSON list, one object a setting.")] = False,
) -> None:
    """Every setting as a run with these options would have it: value, and the flag, variable or line of the file it is from.

    Secrets are masked. Exit 2: the file or a variable has a mistake.
    """
    import json
    import sys

    from streamer.configuration.origins import misspelt, origins

    found = origins(given)
    if as_json:
        told = [{"key": o.key, "value": o.value, "from": o.kind, "where": o.where or None} for o in found]
        sys.stdout.write(json.dumps(told, default=str) + "\n")
    else:
        from rich.table import Table
        from rich.text import Text

        table = Table(box=None, padding=(0, 2, 0, 0), header_style="dim")
        table.add_column("setting", style="bold", no_wrap=True)
        table.add_column("value", overflow="fold")
        table.add_column("from", overflow="fold")
        for o in found:
            value = "" if o.value is None else ", ".join(o.value) if isinstance(o.value, list) else str(o.value)
            style = {"default": "dim", "missing": "yellow"}.get(o.kind, "green")
            table.add_row(o.key, Text(value, "dim" if o.kind == "default" else ""), Text(o.where or o.kind, style))
        plain_console().print(table)
    for name, near in misspelt():
        sys.stderr.write(f"slipher: {name} in the environment is no setting. Did you mean {near}?\n")


@app.command()
def init(
    file: Annotated[Path, typer.Argument(help="File to write.")] = Path("slipher.toml"),
) -> None:
    """Write an example file: every setting with its meaning and default, commented out."""
    from schemas.errors import UserError
    from streamer.configuration.example import example

    try:
        with file.open("x") as out:
            out.write(example())
    except FileExistsError:
        raise UserError(f"{file} is there already: it is left as it is.") from None
    except OSError as error:
        raise UserError(f"{file} cannot be written: {error.strerror}.") from None
    plain_console().print(f"{file} is written: take the # from what you change.", soft_wrap=True)


@app.command("keys")
def keys_(
    markdown: Annotated[bool, typer.Option("--markdown", help="As the table of docs/configuration.md.")] = False,
) -> None:
    """Every setting there is: key of the file, flag, variable, default and meaning."""
    import sys

    from streamer.configuration.example import listed, markdown_row

    if markdown:
        sys.stdout.write("\n".join(map(markdown_row, listed())) + "\n")
        return
    from rich.table import Table

    table = Table("key", "flag", "variable", "default", "meaning", box=None, padding=(0, 2, 0, 0), header_style="dim")
    for entry in listed():
        table.add_row(*entry)
    plain_console().print(table)
