"""The command `slipher`: finds the command's file by name and turns errors into sentences.

Commands are listed here with their one line of help and imported only when called, so that ``slipher --help`` answers at
once. A command's file holds either ``app`` (a ``typer.Typer`` with sub-commands) or ``command`` (one function).
"""

import os
import sys
from pathlib import Path
from typing import Any, NoReturn

COMMANDS: dict[str, tuple[str, str]] = {
    "demo": ("streamer.cli.demo", "A night end to end on this machine: Kafka, alerts, workers, catalogue, pictures."),
    "run": ("streamer.cli.run", "Consume a topic and write calibrated redshift PDFs to a catalogue."),
    "backfill": ("streamer.cli.backfill", "Archived packets and tables at rest, through the same consumers, once."),
    "simulate": ("streamer.cli.simulate", "A simulated sky: galaxies with stamps, their photometry and the truth."),
    "train": ("streamer.cli.train", "Train a photo-z model on a table with redshifts."),
    "evaluate": ("streamer.cli.evaluate", "Measure a model on galaxies with known redshifts; a report with pictures."),
    "model": ("streamer.cli.model", "Look at a model bundle."),
    "publish": ("streamer.cli.publish", "Publish a photometry table to a topic as alerts."),
    "inspect": ("streamer.cli.inspect", "What is this message? The galaxy it would give, or why it would be refused."),
    "replay": ("streamer.cli.replay", "Run a past night again, with another model or for what is missing."),
    "compare": ("streamer.cli.compare", "Two models over the same night: shifts, flags gained and lost, pictures."),
    "blend": ("streamer.cli.blend", "A forest and an image model as one, by a weight that held-out galaxies choose."),
    "catalog": (
        "streamer.cli.catalog",
        "Look at a catalogue, prove it whole, care for it: info, show, verify, compact ...",
    ),
    "plot": ("streamer.cli.plot", "Pictures of a night."),
    "lag": ("streamer.cli.lag", "End, durable and lag of each partition."),
    "monitor": ("streamer.cli.monitor", "Tonight at a glance, in a browser; and metrics of lag for Prometheus."),
    "metrics": (
        "streamer.cli.metrics",
        "What is counted and measured; alert rules for Prometheus, a dashboard for Grafana.",
    ),
    "dead-letters": (
        "streamer.cli.dead_letters",
        "Messages that could not be read, and why: list, show, export, retry.",
    ),
    "config": ("streamer.cli.config", "The settings that hold, and where each came from; an example file."),
    "doctor": ("streamer.cli.doctor", "Is all there that a run needs? Each line says ok, or what to do."),
    "broker": ("streamer.cli.broker", "An Apache Kafka on this machine: start, stop, status."),
}


VARIABLE = "SLIPHER_CONFIG"  # streamer.configuration.toml_file imports more than the help needs
LOOK_THEMSELVES = ("config", "doctor")  # a file with a mistake in it is what they are for


def build() -> Any:
    """The click command tree, its leaves not yet imported."""
    import typer
    from typer.core import TyperGroup

    class Lazy(TyperGroup):
        """A group whose commands are imported when they are called."""

        def list_commands(self, ctx: Any) -> list[str]:
            return list(COMMANDS)

        def get_command(self, ctx: Any, name: str) -> Any:
            if name not in COMMANDS:
                return None
            if ctx.resilient_parsing or _only_listing():
                return _placeholder(name)
            return _load(name)

    app = typer.Typer(
        cls=Lazy,
        no_args_is_help=True,
        rich_markup_mode="rich",
        pretty_exceptions_enable=False,
        add_completion=False,
        context_settings={"help_option_names": ["-h", "--help"]},
        help="Streaming photometric redshifts: Kafka in, calibrated redshift PDFs out, every offset accounted for once.",
    )

    @app.callback(invoke_without_command=True)
    def root(
        context: typer.Context,
        debug: bool = typer.Option(False, "--debug", help="Show tracebacks."),
        version: bool = typer.Option(False, "--version", help="Print the version."),
        storage: list[str] = typer.Option(
            [], "--storage", metavar="KEY=VALUE", help="Option of the catalogue's object store; may be repeated."
        ),
        config: Path | None = typer.Option(
            None, "--config", metavar="FILE", help="File of settings; default: slipher.toml in this directory."
        ),
    ) -> None:
        if version:
            from importlib.metadata import version as installed

            sys.stdout.write(f"slipher {installed('slipher')}\n")
            raise typer.Exit
        if config is not None:
            os.environ[VARIABLE] = str(config.absolute())
        given = any(map(os.environ.get, (VARIABLE, "SLIPHER_STORAGE"))) or os.path.exists("slipher.toml")
        if storage or (given and context.invoked_subcommand not in LOOK_THEMSELVES):
            from streamer.settings import key_values, use_storage

            use_storage(key_values(storage, "--storage", "aws_endpoint_url=http://127.0.0.1:9000"))
        if debug:
            os.environ["SLIPHER_DEBUG"] = "1"

    return typer.main.get_command(app)


def _only_listing() -> bool:
    """True while the top-level help is drawn: no word is a command."""
    return not any(word in COMMANDS for word in sys.argv[1:])


def _placeholder(name: str) -> Any:
    import click

    return click.Command(name, help=COMMANDS[name][1], short_help=COMMANDS[name][1])


def _load(name: str) -> Any:
    from streamer.cli.console import loaded

    return loaded(COMMANDS[name][0], name)


def main() -> NoReturn:
    """Entry point: run the command, say what went wrong, and end the process with its code.

    The interpreter is not taken down. Arrow and Delta's library read ahead in threads of their own, and one that lets go of a
    Python object while the interpreter goes away under it aborts the process ("terminate called without an active exception",
    status -6) or hangs it: after all work is done and durable, and now and then, so a good compaction looked like a dead one.
    """
    leave(status())


def leave(code: int) -> NoReturn:
    """What ends of processes are for (registered functions, logs, what is not written yet), and then the end."""
    import atexit
    import contextlib
    import logging

    atexit._run_exitfuncs()
    logging.shutdown()
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(OSError, ValueError):  # nobody reads any more: no news at this point
            stream.flush()
    os._exit(code)


def status() -> int:
    """Run the command; an error becomes one sentence on stderr. Returns the exit code."""
    from schemas.errors import SlipherError

    try:
        build()(standalone_mode=True)
    except SystemExit as end:
        if isinstance(end.code, str):
            _say(end.code)
            return 1
        if isinstance(getattr(end.__context__, "__cause__", None), KeyboardInterrupt):  # which typer turns into 130
            _say("Interrupted.")
        return end.code or 0
    except SlipherError as error:
        if os.environ.get("SLIPHER_DEBUG"):
            raise
        _say(str(error))
        return error.exit_code
    except KeyboardInterrupt:
        _say("Interrupted.")
        return 130
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    except Exception as error:
        if os.environ.get("SLIPHER_DEBUG"):
            raise
        _say(f"{type(error).__name__}: {error}\nThis is a fault in slipher: `slipher --debug ...` shows the traceback.")
        return 1
    return 0


def _say(text: str) -> None:
    sys.stderr.write(f"slipher: {text}\n")
