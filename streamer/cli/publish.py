"""`slipher publish`: a photometry table to a topic, as alerts."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from rich.console import Console
    from rich.progress import Progress


class Format(StrEnum):
    """How a message is written."""

    avro = "avro"
    arrow = "arrow"


def command(
    table: Annotated[Path, typer.Argument(help="Parquet, CSV, Feather or HDF5.", show_default=False)],
    topic: Annotated[str, typer.Option(help="Topic to publish to.", show_default=False)],
    survey: Annotated[str, typer.Option(help="Survey whose bands the table has.")] = "lsst",
    brokers: Annotated[
        str | None,
        typer.Option(help="Bootstrap servers. Default: the broker of `slipher broker start`. [env: SLIPHER_BROKERS]"),
    ] = None,
    form: Annotated[Format, typer.Option("--format", help="One galaxy a message, or many.")] = Format.avro,
    rows: Annotated[int, typer.Option(min=1, help="Galaxies in an Arrow message.")] = 2000,
    rate: Annotated[
        float | None, typer.Option(min=1e-3, help="Galaxies per second at most.", show_default=False)
    ] = None,
    limit: Annotated[
        int | None, typer.Option(min=1, help="Only the first so many galaxies.", show_default=False)
    ] = None,
    partitions: Annotated[
        int | None,
        typer.Option(min=1, help="Make the topic with so many partitions, if it is missing.", show_default=False),
    ] = None,
    synthetic_sky: Annotated[
        bool, typer.Option("--synthetic-sky", help="Invent positions for galaxies that have none.")
    ] = False,
    kafka: Annotated[
        list[str] | None,
        typer.Option(help="Further librdkafka settings, key=value; may be repeated.", show_default=False),
    ] = None,
) -> None:
    """Publish a photometry table to a topic as alerts.

    The columns are flux_u, flux_err_u, ... in nJy or mag_u, mag_err_u, ... in AB magnitudes; object_id, ra and dec in
    degrees; ebv if it is known. The time of every alert is now.
    """
    import time

    import numpy as np
    from rich.console import Console

    from schemas import photometry_table, table_alerts
    from schemas.bands import BAND_SETS
    from schemas.errors import UserError
    from schemas.night import mjd_of, rollover
    from streamer.cli.console import default_brokers
    from streamer.publish import PublishInterrupted, make_topic, publish
    from streamer.settings import key_values

    console = Console(stderr=True, highlight=False)
    if survey not in BAND_SETS:
        raise UserError(f"No survey is called {survey}: --survey knows {', '.join(sorted(BAND_SETS))}.")
    bands = BAND_SETS[survey]
    servers = brokers or default_brokers()
    if not servers:
        raise UserError("No broker is known: give --brokers, or start one here with `slipher broker start`.")
    settings = key_values(kafka or []) | {"bootstrap.servers": servers}

    found = photometry_table.read(table, bands)
    if limit is not None:
        found = found.take(np.arange(min(limit, len(found))))
    lost = int(table_alerts.without_position(found).sum())
    found = table_alerts.placed(found, np.random.default_rng() if synthetic_sky else None)
    if lost:
        console.print(f"{lost:,} galaxies without a position get an invented one (--synthetic-sky).", style="yellow")
    if partitions is not None and make_topic(topic, partitions, settings):
        console.print(f"Made the topic {topic} with {partitions} partitions.", style="dim")

    size = rows if form is Format.arrow else 1
    mjd = np.full(len(found), mjd_of(time.time_ns() // 1_000_000, rollover(survey).scale))
    payloads = table_alerts.payloads(found, bands, mjd, form.value, rows)
    with _progress(console) as progress:
        task = progress.add_task(topic, total=len(found))
        try:
            done = publish(
                payloads,
                topic,
                settings,
                rate=None if rate is None else rate / size,
                on_progress=lambda sent: progress.update(task, completed=min(sent * size, len(found))),
            )
            interrupted = False
        except PublishInterrupted as stop:
            done, interrupted = stop.published, True
    out = Console(highlight=False)
    galaxies = min(done.messages * size, len(found))
    out.print(
        f"{'Interrupted: ' if interrupted else ''}{galaxies:,} galaxies of {len(found):,} in {done.messages:,} messages "
        f"({done.nbytes / 1e6:,.1f} MB) in {done.seconds:.1f} s."
    )
    for partition, count in done.counts.items():
        out.print(f"  partition {partition}: {count:,} messages, end offset {done.ends[partition]:,}", style="dim")
    if interrupted:
        raise typer.Exit(130)


def _progress(console: Console) -> Progress:
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    return Progress(
        TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn(), console=console
    )
