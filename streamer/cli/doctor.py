"""``slipher doctor``: is all there that a run needs?"""

from __future__ import annotations

from typing import Annotated

import typer

from streamer.cli import options
from streamer.settings import RunSettings


@options.of(RunSettings)
def command(
    given: options.Given,
    as_json: Annotated[bool, typer.Option("--json", help="Write a JSON list, one object a line.")] = False,
) -> None:
    """Is all there that a run with these settings needs? Each line says ok, or what to do.

    Settings, model, broker, credentials, topic, group, clock, registry, table, disk, and this machine. It changes nothing: a
    probe beside the table is written and removed. Exit 0: a run goes; 1: something is wrong.
    """
    import json
    import sys

    from streamer.doctor.examination import examined
    from streamer.doctor.finding import State

    found = examined(given)
    if as_json:
        told = [{"check": f.check, "state": f.state, "text": f.text, "mend": f.mend or None} for f in found]
        sys.stdout.write(json.dumps(told) + "\n")
    else:
        from rich.table import Table
        from rich.text import Text

        from streamer.cli.console import plain_console

        styles = {State.OK: "green", State.NOTE: "yellow", State.WRONG: "bold red", State.SKIPPED: "dim"}
        table = Table.grid(padding=(0, 2, 0, 0))
        table.add_column(no_wrap=True)
        table.add_column(style="bold", no_wrap=True)
        table.add_column(overflow="fold")
        for f in found:
            text = Text(f.text, "dim" if f.state is State.SKIPPED else "")
            table.add_row(
                Text(f.state, styles[f.state]), f.check, text.append(f"\n{f.mend}" if f.mend else "", "yellow")
            )
        plain_console().print(table)
    if any(f.state is State.WRONG for f in found):
        raise typer.Exit(1)
