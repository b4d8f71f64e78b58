"""`slipher replay`: a night of the past again, beside the nights that are read live."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from streamer.cli import options
from streamer.settings import RunSettings, run_settings

if TYPE_CHECKING:
    from rich.progress import Progress

    from streamer.replay.plan import Replay, Summary


@options.of(RunSettings, but=("catalog", "start", "group", "workers"))
def command(
    catalog: Annotated[Path, typer.Argument(metavar="CATALOG", help="The catalogue's directory.", show_default=False)],
    given: options.Given,
    night: Annotated[
        str | None,
        typer.Option(
            help="The night YYYY-MM-DD: the offsets of its rows in the catalogue, or Kafka's times around it."
        ),
    ] = None,
    since: Annotated[str | None, typer.Option("--from", help="From this time on, by Kafka's clock.")] = None,
    until: Annotated[str | None, typer.Option("--to", help="Up to this time.")] = None,
    offsets: Annotated[
        list[str] | None,
        typer.Option(help="PARTITION:FIRST-LAST, both offsets included; may be repeated, once a partition."),
    ] = None,
    max_rate: Annotated[
        float | None, typer.Option(min=0.001, help="Rows a second at most.", show_default="no limit")
    ] = None,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="No progress, warnings only.")] = False,
) -> None:
    """Run offsets of the past through a model again, beside the rows that are there.

    Another model, or other decoder options, give rows of their own beside the old ones. The same ones fill only what is
    missing, so stopped or killed, the same command goes on, and when all is there it adds nothing. Live workers are not
    disturbed: a replay has no consumer group, and it waits while those who read the topic live fall behind.
    """
    import logging
    import signal

    import pyarrow as pa

    from streamer.cli.console import log_to_stderr
    from streamer.metrics.serving import watched
    from streamer.replay.bounds import Asked
    from streamer.replay.plan import build

    settings = run_settings(**given, catalog=catalog)
    log_to_stderr(logging.WARNING, settings)
    pa.set_cpu_count(1)
    with watched(settings) as lookout:
        replay = build(settings, Asked(night, since, until, tuple(offsets or ())), max_rate, lookout=lookout)
        for name in (signal.SIGTERM, signal.SIGINT):
            signal.signal(name, lambda number, frame: replay.stop())
        _introduce(replay, quiet)
        with _bar(replay, quiet):
            summary = replay.run()
    _conclude(replay, summary)


def _introduce(replay: Replay, quiet: bool) -> None:
    import sys

    found = replay.found
    if not quiet:
        count = sum(end - start for start, end in found.bounds.values())
        sys.stderr.write(
            f"{replay.model}: {count:,} offsets of {len(found.bounds)} partitions of {replay.identity.topic}\n"
        )
    if found.late:
        sys.stderr.write(
            f"{found.late:,} rows of that night came more than a day after it: they are not in these offsets; see --offsets.\n"
        )
    for p in found.cut:
        sys.stderr.write(
            f"partition {p}: its log begins later than asked for, and what expired before has no times; see --offsets.\n"
        )


def _bar(replay: Replay, quiet: bool) -> Progress:
    """A bar on stderr that follows the replay; it says whom the replay waits for."""
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        ProgressColumn,
        Task,
        TextColumn,
        TimeRemainingColumn,
    )
    from rich.text import Text

    class Waiting(ProgressColumn):
        def render(self, task: Task) -> Text:
            behind = replay.live.behind
            return Text(f"waits for {', '.join(behind)}" if behind else "", "yellow")

    bar = Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("offsets"),
        TimeRemainingColumn(),
        Waiting(),
        console=Console(stderr=True, highlight=False, markup=False, emoji=False),
        disable=quiet,
        speed_estimate_period=60,
    )
    task = bar.add_task(replay.asked.night or "replay", total=None)
    totals: list[int] = []

    def said(progress: object, left: int) -> None:
        totals.append(left)
        bar.update(task, total=totals[0], completed=totals[0] - left)

    replay.on_progress = said
    return bar


def _conclude(replay: Replay, summary: Summary) -> None:
    import sys

    done, out = summary.progress, sys.stdout
    out.write(f"{done.rows:,} rows added, of {done.messages:,} messages, {done.exceptions}.\n")
    if summary.before:
        out.write(f"{summary.before:,} of {summary.offsets:,} offsets were there already.\n")
    for p, start, end in summary.gaps:
        out.write(f"partition {p}: offsets {start} to {end - 1} expired before this; they are listed as such.\n")
    for p, (start, end) in sorted(replay.found.bounds.items()):
        settled = max(start, replay.sink.ends.get(p, end))
        if settled < end:
            out.write(f"partition {p}: from offset {settled} on this very model reads live; left to its workers.\n")
    if not summary.whole:
        out.write("Stopped before the end: the same command goes on.\n")
