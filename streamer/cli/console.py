"""What several commands need of the terminal: logs on stderr, and the broker a person most likely means."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

if TYPE_CHECKING:
    from rich.console import Console

    from streamer.settings import LogSettings


def _place(catalog: Path) -> Path:
    from streamer.sink.store import place

    return place(catalog)


CATALOG: Path = typer.Argument(
    ..., metavar="CATALOG", help="The catalogue: a directory, or s3://BUCKET/PATH.", show_default=False, callback=_place
)


def group(text: str) -> Any:
    """A command with sub-commands: what ``app`` of its file is."""
    return typer.Typer(
        no_args_is_help=True, pretty_exceptions_enable=False, add_completion=False, rich_markup_mode="rich", help=text
    )


def log_to_stderr(level: int, settings: LogSettings) -> None:
    """Set up logging for a command as `settings` have it, which also say what never to say."""
    from streamer.logs import secrets_of, set_up

    given = [value for value in vars(settings).values() if isinstance(value, dict)]
    store = {key: value for key, value in os.environ.items() if key.startswith("AWS_")}
    set_up(level, settings.log_format, secrets_of(store, *given))


def plain_console() -> Console:
    """For what catalogues hold: text, no markup, no emoji."""
    from rich.console import Console

    return Console(highlight=False, markup=False, emoji=False)


def interrupt_on_sigterm() -> None:
    """SIGTERM ends the command as Ctrl-C does: what it was at is undone."""
    import signal

    signal.signal(signal.SIGTERM, signal.default_int_handler)
