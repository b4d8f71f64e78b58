"""``slipher dead-letters retry``: open dead letters through a model once more."""

from __future__ import annotations

from pathlib import Path

import typer

from streamer.cli import options
from streamer.cli.console import CATALOG
from streamer.settings import ProcessingSettings, settings


@options.of(ProcessingSettings, but=("catalog",))
def command(
    given: options.Given,
    catalog: Path = CATALOG,
    reason: str | None = typer.Option(None, "--reason", help="Only this reason, such as UNKNOWN_SCHEMA."),
    night: str | None = typer.Option(None, "--night", metavar="DATE", help="Only messages sent in this night."),
    since: str | None = typer.Option(None, "--since", metavar="TIME", help="Only what was listed from this time on."),
    dry_run: bool = typer.Option(False, "--dry-run", help="Only say what would come of it."),
) -> None:
    """Try open dead letters again, after what was wrong has been mended.

    Messages come from the ledger, not from Kafka. With the model and options that refused them, their rows go where they
    belong; with others, the rows stand beside the old ones under the other model's name. What is refused again stays listed.
    Killed or run twice, every row is there once.
    """
    from rich.progress import Progress

    from streamer import retry
    from streamer.cli.console import plain_console
    from streamer.cli.dead_letters import narrowed
    from streamer.run import method, now_ms

    made = method(settings(ProcessingSettings, {**given, "catalog": catalog}))
    console = plain_console()
    with Progress(console=console, transient=True, disable=not console.is_terminal) as bars:
        bar = bars.add_task("messages", total=None)
        done = retry.retry(
            made,
            lambda table: narrowed(table, reason, night, since),
            now_ms,
            dry_run,
            lambda n, of: bars.update(bar, completed=n, total=of),
        )
    if not done.letters:
        console.print("No open dead letter fits: there is nothing to try.")
        return
    console.print(f"{done.letters:,} open dead letters tried with {made.processing.model}.")
    if dry_run:
        console.print(f"{done.left:,} would give a row; nothing was written.", style="bold")
    else:
        console.print(f"{done.answered:,} are answered: {done.rows:,} rows written.", style="bold")
    for n, text in (
        (done.refused, "were refused again and stay open."),
        (
            done.left if not dry_run else 0,
            "a live worker of this model is to read itself, or their rows were withdrawn.",
        ),
        (
            done.cut,
            "are kept only in part: `slipher replay --offsets` reads the whole message while the broker has it.",
        ),
        (done.gone, "have no message in the ledger."),
    ):
        if n:
            console.print(f"{n:,} {text}", style="yellow")
