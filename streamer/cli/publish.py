"""`slipher publish`: a photometry table to a topic, as alerts."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from streamer.cli import options
from streamer.settings import WireSettings, settings

if TYPE_CHECKING:
    from rich.console import Console
    from rich.progress import Progress

    from schemas.photometry_table import PhotometryTable
    from schemas.writing import Encode, Record

_MESSAGE = 900_000  # bytes of stamps in an Arrow message: brokers refuse more than 1 MiB unless they are told otherwise


class Format(StrEnum):
    """What a galaxy is written as."""

    native = "native"
    arrow = "arrow"
    elasticc = "elasticc"


class Framing(StrEnum):
    """What stands around Avro: as `slipher run --framing` has it."""

    confluent = "confluent-avro"
    container = "container"
    avro = "avro"


@options.of(WireSettings)
def command(
    table: Annotated[Path, typer.Argument(help="Parquet, CSV, Feather or HDF5.", show_default=False)],
    topic: Annotated[str, typer.Option(help="Topic to publish to.", show_default=False)],
    given: options.Given,
    survey: Annotated[
        str | None,
        typer.Option(help="Survey whose bands the table has.", show_default="what the table says, else lsst"),
    ] = None,
    form: Annotated[
        Format,
        typer.Option(
            "--format",
            help="native: slipher's own Avro. arrow: the same columns, many galaxies a message, the fastest. elasticc: "
            "packets like ELAsTiCC's, with magnitudes of a host.",
        ),
    ] = Format.native,
    framing: Annotated[
        Framing,
        typer.Option(
            help="Of Avro. confluent-avro: a schema id before each galaxy; with --registry the schema is registered there as "
            "TOPIC-value, else the id is its fingerprint. container: Avro files with their schema. avro: nothing at all, "
            "readers need the schema.",
        ),
    ] = Framing.confluent,
    rows: Annotated[
        int | None,
        typer.Option(
            min=1,
            help="Galaxies in an Arrow message (2000, with stamps fewer), or in a container (1).",
            show_default=False,
        ),
    ] = None,
    compression: Annotated[
        str | None,
        typer.Option(
            help="Of an Arrow message: lz4 (default), zstd, null. Of a container: null (default), deflate, snappy, zstandard.",
            show_default=False,
        ),
    ] = None,
    rate: Annotated[
        float | None, typer.Option(min=1e-3, help="Galaxies per second at most.", show_default=False)
    ] = None,
    limit: Annotated[
        int | None, typer.Option(min=1, help="Only the first so many galaxies.", show_default=False)
    ] = None,
    repeat: Annotated[int, typer.Option(min=1, help="The table so many times over, as new alerts: a long night.")] = 1,
    partitions: Annotated[
        int | None,
        typer.Option(min=1, help="Make the topic with so many partitions, if it is missing.", show_default=False),
    ] = None,
    synthetic_sky: Annotated[
        bool, typer.Option("--synthetic-sky", help="Invent positions for galaxies that have none.")
    ] = False,
) -> None:
    """Publish a photometry table to a topic as alerts.

    The columns are flux_u, flux_err_u, ... in nJy or mag_u, mag_err_u, ... in AB magnitudes; object_id, ra and dec in
    degrees; ebv if it is known. Stamps, as `slipher simulate` writes them, are sent too. An alert happens when
    it is made; with --rate when it is due, so that a long night is one.
    """
    import numpy as np
    from rich.console import Console

    from schemas import photometry_table, stamp_columns, table_alerts, table_metadata
    from schemas.night import rollover
    from schemas.writing import avro_schema
    from streamer.publish import PublishInterrupted, due_times, make_topic, publish
    from streamer.registry.connection import Connection
    from streamer.registry.register import register

    console = Console(stderr=True, highlight=False)
    bands = table_metadata.bands_for(table, survey)
    reached = settings(WireSettings, given)
    connection = reached.kafka | {"bootstrap.servers": reached.brokers}
    size = rows or (2000 if form is Format.arrow else 1)
    codec = compression or ("lz4" if form is Format.arrow else "null")
    _check(form, framing, rows, compression)
    encode = _encode(form, framing, bands.survey, size, codec, None)

    found = photometry_table.read(table, bands, stamps=form is not Format.elasticc)
    if limit is not None:
        found = found.take(np.arange(min(limit, len(found))))
    if form is Format.arrow and rows is None and found.stamps is not None:
        size = stamp_columns.rows_within(found.stamps, _MESSAGE)
        encode = _encode(form, framing, bands.survey, size, codec, None)
    lost = int(table_alerts.without_position(found).sum())
    found = table_alerts.placed(found, np.random.default_rng() if synthetic_sky else None)
    if lost:
        console.print(f"{lost:,} galaxies without a position get an invented one (--synthetic-sky).", style="yellow")
    if form is Format.elasticc:
        _say_what_is_lost(found, console)
    if reached.registry and form is not Format.arrow and framing is Framing.confluent:
        to = Connection(reached.registry, reached.registry_setting)
        number = register(to, f"{topic}-value", avro_schema(_record(form), bands.survey))
        encode = _encode(form, framing, bands.survey, size, codec, number)
        console.print(f"The schema has the id {number} at {to.address}, subject {topic}-value.", style="dim")
    elif reached.registry:
        console.print("The registry is not used: these messages bring their schema, or have no id of it.", style="dim")
    if partitions is not None and make_topic(topic, partitions, connection):
        console.print(f"Made the topic {topic} with {partitions} partitions.", style="dim")

    pace = None if rate is None else rate / size
    when = due_times(pace, rollover(bands.survey).scale)
    payloads = table_alerts.messages(found, bands, when, encode, size, repeat)
    wanted = repeat * len(found)
    with _progress(console) as progress:
        task = progress.add_task(topic, total=wanted)
        try:
            done = publish(
                payloads,
                topic,
                connection,
                rate=pace,
                on_progress=lambda sent: progress.update(task, completed=min(sent * size, wanted)),
            )
            interrupted = False
        except PublishInterrupted as stop:
            done, interrupted = stop.published, True
    out = Console(highlight=False)
    galaxies = min(done.messages * size, wanted)
    out.print(
        f"{'Interrupted: ' if interrupted else ''}{galaxies:,} galaxies of {wanted:,} in {done.messages:,} messages "
        f"({done.nbytes / 1e6:,.1f} MB) in {done.seconds:.1f} s."
    )
    for partition, count in done.counts.items():
        out.print(f"  partition {partition}: {count:,} messages, end offset {done.ends[partition]:,}", style="dim")
    if interrupted:
        raise typer.Exit(130)


def _check(form: Format, framing: Framing, rows: int | None, compression: str | None) -> None:
    """Options that go together."""
    from schemas.errors import UserError

    if form is Format.arrow:
        if framing is not Framing.confluent:  # what it is by default
            raise UserError(f"--framing {framing}: that is for Avro, and --format arrow is none.")
    elif framing is not Framing.container:
        for flag, given in (("rows", rows), ("compression", compression)):
            if given is not None:
                raise UserError(f"--{flag} is for --format arrow and --framing container: here a message is a galaxy.")


def _record(form: Format) -> Record:
    return "elasticc" if form is Format.elasticc else "native"


def _encode(form: Format, framing: Framing, survey: str, rows: int, codec: str, schema_id: int | None) -> Encode:
    from schemas.writing import arrow_encode, avro_encode

    if form is Format.arrow:
        return arrow_encode(survey, rows, codec)
    return avro_encode(_record(form), survey, framing.value, schema_id, codec, rows)


def _say_what_is_lost(table: PhotometryTable, console: Console) -> None:
    """ELAsTiCC's packets say less than a table."""
    import numpy as np

    from schemas.batch import BandState
    from schemas.elasticc_alerts import magnitudes, number

    observed = table.band_state != BandState.NOT_OBSERVED
    lost = int((observed & magnitudes(table.flux, table.flux_err, table.band_state).missing).sum())
    if lost:
        console.print(
            f"{lost:,} of {int(observed.sum()):,} bands have no magnitude (no detection, or a flux that is not positive): "
            "they are sent as 999, and read as not observed.",
            style="yellow",
        )
    renamed = int(np.sum([str(number(name)) != name for name in table.object_id]))
    if renamed:
        console.print(f"{renamed:,} object ids are no numbers: each is sent as a hash of it.", style="yellow")


def _progress(console: Console) -> Progress:
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    return Progress(
        TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn(), console=console
    )
