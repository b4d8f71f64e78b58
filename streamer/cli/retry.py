"""``slipher dead-letters retry``: open dead letters through a model once more."""

from __future__ import annotations

from pathlib import Path

import typer

from streamer.cli.console import CATALOG


def command(
    catalog: Path = CATALOG,
    model: Path = typer.Option(..., "--model", envvar="SLIPHER_MODEL", help="Model bundle.", show_default=False),
    reason: str | None = typer.Option(None, "--reason", help="Only this reason, such as UNKNOWN_SCHEMA."),
    night: str | None = typer.Option(None, "--night", metavar="DATE", help="Only messages sent in this night."),
    since: str | None = typer.Option(None, "--since", metavar="TIME", help="Only what was listed from this time on."),
    alerts: str | None = typer.Option(None, "--alerts", help="What the messages are, as of `slipher run`."),
    framing: str | None = typer.Option(None, "--framing", help="As of `slipher run`."),
    schema: list[str] | None = typer.Option(None, "--schema", help="FILE, or ID=FILE, as of `slipher run`."),
    dust_map: Path | None = typer.Option(None, "--dust-map", help="HEALPix map of E(B-V), FITS."),
    dust_column: str | None = typer.Option(None, "--dust-column", help="Its column, where that is not clear."),
    registry: str | None = typer.Option(
        None, "--registry", envvar="SLIPHER_REGISTRY", help="Schema registry, http://HOST:PORT."
    ),
    registry_setting: list[str] | None = typer.Option(
        None, "--registry-setting", help="Credentials for the registry, key=value; may be repeated."
    ),
    pdf: str | None = typer.Option(None, "--pdf", envvar="SLIPHER_PDF", help="plain or compact."),
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
    from streamer.run import now_ms, plan
    from streamer.settings import key_values, run_settings

    made = plan(
        run_settings(
            brokers="none",  # nothing is read from Kafka
            topic="dead letters",
            model=model,
            catalog=catalog,
            alerts=alerts,
            framing=framing,
            schema_file=schema or None,
            dust_map=dust_map,
            dust_column=dust_column,
            registry=registry,
            registry_setting=key_values(registry_setting or [], "--registry-setting", "ssl.ca.location=FILE") or None,
            pdf=pdf,
        )
    )
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
