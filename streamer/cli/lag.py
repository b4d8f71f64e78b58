"""``slipher lag``: how far the catalogue is behind the broker, and how that will end."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from streamer.cli import options
from streamer.settings import BrokerSettings, settings

if TYPE_CHECKING:
    from collections.abc import Callable

    from rich.console import Console
    from rich.live import Live

    from streamer.lag.standing import Standing
    from streamer.lag.watch import Watch


@options.of(BrokerSettings)
def command(
    catalog: Annotated[Path, typer.Option(envvar="SLIPHER_CATALOG", help="Catalogue directory.", show_default=False)],
    given: options.Given,
    topic: options.OfTopic = None,
    model: options.OfModel = None,
    as_json: Annotated[
        bool,
        typer.Option(
            "--json", help="Write a JSON list, one object per partition and model; with --watch one list a line."
        ),
    ] = False,
    watch: Annotated[bool, typer.Option("--watch", help="Look again and again, until Ctrl-C.")] = False,
    every: Annotated[float, typer.Option(min=0.2, help="Seconds between looks of --watch.")] = 2.0,
    exit_code: Annotated[
        bool,
        typer.Option(
            "--exit-code",
            help="Say it by the exit code too: 0 ok; 1 warning, falling behind; 4 stalled, stopped, rewound, at risk of loss.",
        ),
    ] = False,
) -> None:
    """How far each model is behind on each partition: messages, seconds, rates, when it is caught up, when messages expire.

    Durable is what stands in the catalogue, not what the consumer group committed. Only broker and catalogue are asked:
    it works with all workers down. A model that was replaced is left out once it is retired
    (`slipher catalog retire`). docs/lag.md says what each number means.
    """
    import json
    import sys
    from contextlib import nullcontext
    from functools import partial

    from rich.console import Console
    from rich.live import Live

    from streamer.catalogue import open_catalogue
    from streamer.cli.lag_view import picture
    from streamer.lag import totals
    from streamer.lag.watch import Watch

    reached = settings(BrokerSettings, given)
    looks = Watch(open_catalogue(catalog), reached.brokers, reached.kafka, topic, model)
    console = Console(highlight=False, markup=False, emoji=False)
    try:
        if watch:
            with (
                Live(console=console, auto_refresh=False)
                if console.is_terminal and not as_json
                else nullcontext() as live
            ):
                show = _lines if as_json else partial(_draw, console, live)
                _watch(looks, every, show)
            return
        rows = looks.look()
        if as_json:
            sys.stdout.write(json.dumps([row.as_json() for row in rows], indent=1, allow_nan=False) + "\n")
        else:
            console.print(picture(rows, looks.lags, console.width, retired=looks.retired))
    finally:
        looks.close()
    if exit_code:
        raise typer.Exit(totals.exit_code(rows))


def _watch(looks: Watch, every: float, show: Callable[[Watch, list[Standing], str], None]) -> None:
    """Until Ctrl-C, which is how it is meant to end; trouble is said, and looked through."""
    import time
    from contextlib import suppress

    from schemas.errors import TroubleError
    from streamer.lag.words import duration

    rows: list[Standing] = []
    looked = time.monotonic()
    with suppress(KeyboardInterrupt):
        while True:
            begun, trouble = time.monotonic(), ""
            try:
                rows, looked = looks.look(), time.monotonic()
            except TroubleError as error:
                ago = f" What stands below is {duration(time.monotonic() - looked)} old." if rows else ""
                trouble = f"{error}{ago}"
            show(looks, rows, trouble)
            time.sleep(max(0.0, begun + every - time.monotonic()))


def _lines(looks: Watch, rows: list[Standing], trouble: str) -> None:
    """One JSON list a look; what is old is not said again."""
    import json
    import sys

    if trouble:
        sys.stderr.write(f"{trouble}\n")
    else:
        sys.stdout.write(json.dumps([row.as_json() for row in rows], allow_nan=False) + "\n")
        sys.stdout.flush()


def _draw(console: Console, live: Live | None, looks: Watch, rows: list[Standing], trouble: str) -> None:
    """One picture, over the last; below it where there is no terminal."""
    from rich.console import Group
    from rich.text import Text

    from streamer.cli.lag_view import picture

    lines = console.height if live else None
    seen = picture(rows, looks.lags, console.width, lines, looks.retired) if rows else Text()
    seen = Group(Text(trouble, "bold red"), seen) if trouble else seen
    if live is None:
        console.print(seen)
    else:
        live.update(seen, refresh=True)
