"""``slipher catalog compact``, ``vacuum``, ``history`` and ``migrate``: care for the tables of a catalogue."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from streamer.cli.console import CATALOG, plain_console

if TYPE_CHECKING:
    from rich.console import Console


DRY = typer.Option(False, "--dry-run", help="Only say what would be done.")


def compact(
    catalog: Path = CATALOG,
    night: str | None = typer.Option(
        None, "--night", metavar="DATE", help="Only this night.", show_default="all closed"
    ),
    model: str | None = typer.Option(None, "--model", help="Only this model.", show_default="all"),
    hours: float = typer.Option(12.0, "--hours", min=0, help="A night is closed so long after its end."),
    file_rows: int = typer.Option(1_000_000, "--file-rows", min=1_000, help="Most rows in a file."),
    memory: int = typer.Option(
        128, "--memory", min=16, metavar="MB", help="Rows held at once; the process takes some eight times that."
    ),
    scratch: Path | None = typer.Option(
        None, "--scratch", help="Where more than memory is sorted.", show_default="in CATALOG"
    ),
    brokers: str | None = typer.Option(
        None, "--brokers", help="Ask this Kafka, too, that all it received by then is durable.", show_default=False
    ),
    dry_run: bool = DRY,
) -> None:
    """Put closed nights into few files, sorted by object. Safe beside live workers; a late row makes a night due again."""
    import datetime as dt

    from schemas.errors import UserError
    from streamer.care.compaction import Settings, compact
    from streamer.care.durable import not_durable
    from streamer.care.leases import LeaseLost
    from streamer.care.nights import due, nights
    from streamer.catalogue import open_catalogue
    from streamer.cli.console import interrupt_on_sigterm
    from streamer.settings import BrokerSettings
    from streamer.settings import settings as known

    kafka = known(BrokerSettings, {"brokers": brokers}).kafka if brokers else {}
    catalogue = open_catalogue(catalog)
    ready, still_open = due(nights(catalog, hours), dt.datetime.now(dt.UTC), night, model)
    if night is not None and still_open:
        when = max(one.closes for one in still_open)
        raise UserError(
            f"The night {night} is not closed before {when:%Y-%m-%d %H:%M} UTC; --hours says how long to wait."
        )
    console = plain_console()
    settings = Settings(file_rows, memory << 20, scratch)
    lost = []
    interrupt_on_sigterm()
    for one in ready:
        behind = not_durable(catalogue, one.model, one.closes, brokers, kafka) if brokers else []
        if behind:
            console.print(f"{one.night}  {one.model}: not yet: {behind[0]}", soft_wrap=True)
            continue
        head = f"{one.night}  {one.model}  {one.rows:,} rows"
        if dry_run:
            console.print(f"{head} in {one.files:,} files, {one.bytes / 1e6:,.1f} MB", soft_wrap=True)
            continue
        with progress(console, head, 2 * one.rows) as advance:
            try:
                done = compact(catalog, one.night, one.model, settings, advance)
            except LeaseLost as error:
                lost.append(error)
                continue
        if done:
            console.print(
                f"{head}: {done.files_before:,} files are {done.files:,}, {done.bytes_before / 1e6:,.1f} MB are "
                f"{done.bytes / 1e6:,.1f}",
                soft_wrap=True,
            )
        else:
            console.print(f"{head}: another command has just done it", soft_wrap=True)
    if not ready:
        console.print("Nothing to compact." + (f" {len(still_open)} are not closed yet." if still_open else ""))
    if lost:
        raise lost[0]


def vacuum(
    catalog: Path = CATALOG,
    keep: float = typer.Option(24.0, "--keep", metavar="HOURS", min=0, help="What was replaced since then stays."),
    dry_run: bool = DRY,
) -> None:
    """Delete files that were replaced, and those that were staged by workers who can commit them no more."""
    from streamer.care.vacuum import vacuum as sweep
    from streamer.catalogue import open_catalogue

    open_catalogue(catalog)
    console = plain_console()
    total = 0
    for swept in sweep(catalog, keep, dry_run):
        total += swept.bytes
        if swept.replaced or swept.staged or swept.waiting:
            console.print(
                f"{swept.table}: {len(swept.replaced):,} replaced and {len(swept.staged):,} abandoned files, "
                f"{swept.bytes / 1e6:,.1f} MB; {len(swept.waiting):,} staged ones may yet be committed",
                soft_wrap=True,
            )
    console.print(f"{total / 1e6:,.1f} MB {'would go' if dry_run else 'are free'}.")


def history(
    catalog: Path = CATALOG,
    n: int = typer.Option(20, "-n", min=1, help="How many commits."),
    table: str | None = typer.Option(None, "--table", help="Only this one: rows, exceptions ...", show_default="all"),
) -> None:
    """Who committed what: claims, rows, exceptions, replays, compactions, withdrawals, newest first."""
    from rich.table import Table

    from streamer.care.history import history as read
    from streamer.catalogue import open_catalogue

    open_catalogue(catalog)
    out = Table(box=None, pad_edge=False, header_style="bold")
    for name in ("time (UTC)", "table", "version", "what", "rows", "files"):
        out.add_column(name, justify="right" if name in ("version", "rows") else "left", no_wrap=True)
    out.add_column("of", overflow="fold")
    for commit in read(catalog, n, table):
        files = f"+{commit.added}" * bool(commit.added) + f" -{commit.removed}" * bool(commit.removed)
        rows = f"{commit.rows:,}" if commit.added else ""
        about = " ".join(filter(None, [commit.who, commit.detail]))
        out.add_row(f"{commit.time:%m-%d %H:%M:%S}", commit.table, str(commit.version), commit.what, rows, files, about)
    plain_console().print(out)


def migrate(catalog: Path = CATALOG, dry_run: bool = DRY) -> None:
    """Give a catalogue of an older version the columns of this one, under live workers; its rows have null there."""
    from streamer.care.migration import migrate as add
    from streamer.catalogue import open_catalogue

    open_catalogue(catalog)
    console = plain_console()
    added = add(catalog, dry_run)
    for table, columns in added.items():
        console.print(f"{table}: {', '.join(columns)} {'would be' if dry_run else 'were'} added", soft_wrap=True)
    console.print("Compact its nights, so that every file has all columns." if added else "Nothing is missing.")


@contextmanager
def progress(console: Console, text: str, total: int) -> Iterator[Callable[[int], None]]:
    """A bar while something goes on, on a terminal only; gives the call that advances it."""
    from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn

    columns = (TextColumn("{task.description}"), BarColumn(), TaskProgressColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as bars:
        task = bars.add_task(text, total=total)
        yield lambda n: bars.advance(task, n)
