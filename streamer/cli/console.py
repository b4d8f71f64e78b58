"""What several commands need of the terminal: logs on stderr, and the broker a person most likely means."""

from __future__ import annotations

import inspect
import os
from collections.abc import Mapping
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


def group(text: str, later: Mapping[str, tuple[str, str]] | None = None) -> Any:
    """A command with sub-commands: what ``app`` of its file is.

    Parameters
    ----------
    text
        Its help.
    later
        Sub-commands that are imported when they are called: by name their module, which has ``command``, and their help.
    """
    from typer.core import TyperCommand, TyperGroup

    others = later or {}

    class Group(TyperGroup):
        """Lists all of them, and imports the one that is called."""

        def list_commands(self, ctx: Any) -> list[str]:
            return [*super().list_commands(ctx), *others]

        def get_command(self, ctx: Any, name: str) -> Any:
            if name in others:
                return TyperCommand(name, help=others[name][1], short_help=others[name][1])
            return super().get_command(ctx, name)

        def resolve_command(self, ctx: Any, args: list[str]) -> Any:
            if args and args[0] in others:
                return args[0], loaded(others[args[0]][0], args[0]), args[1:]
            return super().resolve_command(ctx, args)

    return typer.Typer(
        cls=Group,
        no_args_is_help=True,
        pretty_exceptions_enable=False,
        add_completion=False,
        rich_markup_mode="rich",
        help=text,
    )


def loaded(module: str, name: str) -> Any:
    """The command in `module`, which holds ``app``, a group, or ``command``, one function."""
    import importlib

    holds = importlib.import_module(module)
    if hasattr(holds, "app"):
        app = holds.app
    else:
        app = typer.Typer(pretty_exceptions_enable=False, add_completion=False, rich_markup_mode="rich")
        app.command(name, help=holds.command.__doc__)(holds.command)
    command = typer.main.get_command(app)
    command.name = name
    for each in (command, *getattr(command, "commands", {}).values()):
        each.help = _flowing(each.help)
    return command


def _flowing(text: str | None) -> str | None:
    """Help as a docstring has it, a paragraph one line: the terminal breaks lines where it ends, not where the source does."""
    if text is None:
        return None
    parts = inspect.cleandoc(text).split("\n\n")
    return "\n\n".join(part if "\n " in part else part.replace("\n", " ") for part in parts)


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
