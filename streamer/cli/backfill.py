"""`slipher backfill`: archived packets and tables at rest, through the same consumers as a topic."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from streamer.cli import options
from streamer.settings import BackfillSettings, backfill_settings

if TYPE_CHECKING:
    from rich.console import Console
    from rich.progress import Progress

    from streamer.backfill.crew import Done
    from streamer.backfill.plan import Backfill


@options.of(BackfillSettings)
def command(
    files: Annotated[
        list[Path],
        typer.Argument(
            help="Files and folders: Avro containers, single packets, tarballs of them; tables: Parquet, CSV, Arrow, FITS, HDF5.",
            show_default=False,
        ),
    ],
    given: options.Given,
    name: Annotated[
        str | None,
        typer.Option(
            help="What to call the files; stands in the rows for a topic. Default: the name of the only file or folder, or that "
            "of the folder around them.",
            show_default=False,
        ),
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Show the manifest, write nothing.")] = False,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="No progress, warnings only.")] = False,
) -> None:
    """Write redshift PDFs of archived packets or tables to a catalogue, once.

    A manifest is frozen first: every file with its hash, and which record is which offset. Stopped or killed, the same command
    goes on where it stood; when all is durable, it adds nothing. Ctrl-C commits what was read and leaves.
    """
    import gc
    import logging
    import signal

    import pyarrow as pa
    from rich.console import Console

    from schemas.errors import IntegrityError
    from streamer.backfill.crew import Crew
    from streamer.backfill.plan import durable, keep, prepare
    from streamer.cli.console import log_to_stderr

    settings = backfill_settings(**given)
    log_to_stderr(logging.WARNING, settings)
    out, console = Console(highlight=False), Console(stderr=True, highlight=False)
    with _bar(console, quiet, nbytes=True) as bar:
        task = bar.add_task("looking at the files", total=None)
        planned = prepare(
            settings,
            files,
            name,
            lambda nbytes: bar.update(task, total=nbytes),
            lambda nbytes: bar.advance(task, nbytes),
        )
    _show(planned, out)
    if dry_run:
        _show_files(planned, out)
        return
    if not planned.left:
        out.print("All of it is durable already: nothing to do.")
        return
    keep(planned)
    pa.set_cpu_count(1)  # one process a core: more threads in it would only contend
    gc.set_threshold(100_000, 20, 100)
    with _bar(console, quiet, nbytes=False) as bar:
        task = bar.add_task(planned.name, total=planned.archive.manifest.messages, completed=planned.durable)
        crew = Crew(planned, lambda progress: bar.update(task, completed=planned.durable + progress.messages))
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda number, frame: crew.stop())
        done = crew.run()
    _sum_up(planned, done, durable(planned), out)
    if done.stopped:
        first = min(done.stopped)
        raise IntegrityError(
            f"{len(done.stopped):,} of {len(planned.archive.manifest.shards):,} shards stopped, for their files are not those of "
            f"the manifest: {done.stopped[first]} Bring the file back, or give the new one another --name."
        )
    if durable(planned) < planned.archive.manifest.messages:
        raise typer.Exit(130)


def _show(planned: Backfill, out: Console) -> None:
    """What there is, in two lines."""
    manifest = planned.archive.manifest
    verb = "frozen now" if planned.new else "frozen before"
    out.print(
        f"{planned.name}: {manifest.messages:,} messages in {len(manifest.files):,} files ({manifest.nbytes / 1e6:,.1f} MB), "
        f"{len(manifest.shards):,} shards; manifest {manifest.topic_id}, {verb}.",
        soft_wrap=True,
    )
    if planned.durable:
        out.print(f"{planned.durable:,} of them are durable already for {planned.processing.model}.")


def _show_files(planned: Backfill, out: Console) -> None:
    """The manifest: where each stretch of each file will stand."""
    from rich.table import Column, Table

    manifest = planned.archive.manifest
    table = Table(
        "shard",
        "offsets",
        Column("file", overflow="fold"),
        "records",
        "kind",
        "bytes",
        "SHA-256",
        box=None,
        header_style="bold",
    )
    for piece in manifest.pieces:
        entry = manifest.files[piece.file]
        n = piece.stretch.messages
        table.add_row(
            str(piece.partition),
            f"{piece.offset}-{piece.end - 1}" if n else "none",
            entry.name,
            f"{piece.record}-{piece.record + n - 1}" if n else "none",
            entry.kind,
            f"{entry.size:,}",
            entry.sha256[:12],
        )
    out.print(table)


def _sum_up(planned: Backfill, done: Done, durable: int, out: Console) -> None:
    """What came of it."""
    total = planned.archive.manifest.messages
    said = done.progress
    out.print(f"{said.rows:,} rows of {said.messages:,} messages are durable, {said.exceptions}.")
    if durable < total:
        out.print(f"{durable:,} of {total:,} messages so far: run it again to go on.")


def _bar(console: Console, quiet: bool, nbytes: bool) -> Progress:
    """A bar of messages, or of bytes, of which only the part is of interest."""
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TaskProgressColumn,
        TextColumn,
        TimeElapsedColumn,
        TimeRemainingColumn,
    )

    count = TaskProgressColumn() if nbytes else MofNCompleteColumn()
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        count,
        TimeElapsedColumn(),
        TimeRemainingColumn(),
        console=console,
        disable=quiet,
        transient=nbytes,
    )
