"""`slipher inspect`: what is this message, and what would become of it?"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from streamer.cli import options
from streamer.settings import BrokerSettings, NoBroker, RegistrySettings, WireSettings, part

if TYPE_CHECKING:
    from schemas.inspection.inspect import Inspection, Options
    from streamer.peek import Peeked

_MOST_BYTES = 1 << 30  # of a file: far more than any message


@options.of(WireSettings)
def command(
    what: Annotated[
        str,
        typer.Argument(
            metavar="FILE|TOPIC[:PARTITION[:OFFSET]]",
            help="A message as a file (- = standard input), or where Kafka has it. By default partition 0, newest message.",
            show_default=False,
        ),
    ],
    given: options.Given,
    alerts: Annotated[
        str | None,
        typer.Option(
            help="What it is: native, lsst, ztf, elasticc. Default: a guess by schema and fields.", show_default=False
        ),
    ] = None,
    framing: Annotated[str, typer.Option(help="auto, confluent-avro, container, avro, arrow or json.")] = "auto",
    schema: Annotated[
        Path | None,
        typer.Option(
            help="Avro schema, for a message without header or of an id that nobody knows.", show_default=False
        ),
    ] = None,
    row: Annotated[int | None, typer.Option(min=0, help="Show this row of several whole.", show_default=False)] = None,
    n: Annotated[int, typer.Option("-n", min=1, help="Most rows to list.")] = 20,
    as_json: Annotated[bool, typer.Option("--json", help="Write one JSON object, for programs.")] = False,
    png: Annotated[Path | None, typer.Option(help="Draw the cutouts into this file.", show_default=False)] = None,
) -> None:
    """What is this message: framing, schema, survey, the galaxy it would give, or exactly why it would be refused.

    Nothing is left behind: of a topic, no consumer group is joined and no offset committed. Exit 0: all of it gives
    galaxies; 1: some or all of it would be refused; 2: the command is wrong; 75: broker or registry are away.
    """
    import json
    import sys

    from rich.console import Console

    from schemas.inspection.inspect import inspect
    from streamer.inspection import described

    known = _options(alerts, framing, schema, part(RegistrySettings, given))
    payload, name, place = _message(what, given)
    found = inspect(payload, known, -1 if place is None else place.timestamp_ms)
    said = described(found, name, place)
    if row is not None and not any(entry["row"] == row for entry in [*said["rows"], *said["refused"]]):
        from schemas.errors import UserError

        raise UserError(f"--row {row}: there is no such row; {name} has {len(said['rows']) + len(said['refused'])}.")
    drawn = ""
    if png is not None:
        drawn = _draw(found, row, png)
        said["png"] = str(png) if drawn else None
    if as_json:
        sys.stdout.write(json.dumps(said, allow_nan=False) + "\n")
    else:
        from streamer.cli.inspection_view import view

        console = Console(highlight=False, markup=False, emoji=False)
        for piece in view(said, payload, row, n):
            console.print(piece)
        if png is not None:
            console.print(f" {drawn or f'No cutouts to draw: {png} is not written.'}", style="dim")
    if said["verdict"] == "refused":
        raise typer.Exit(1)


def _options(alerts: str | None, framing: str, schema: Path | None, asked: RegistrySettings) -> Options:
    from schemas import elasticc_alerts
    from schemas.avro.schema_files import read_schema
    from schemas.errors import UserError
    from schemas.inspection.inspect import Options
    from schemas.surveys.native import known_avro_schemas
    from schemas.wire.confluent import KnownSchemas, SchemaSource
    from schemas.wire.framing import FRAMINGS

    if framing not in FRAMINGS:
        raise UserError(f"No framing is called {framing!r}: there are {', '.join(FRAMINGS)}.")
    if framing == "avro" and schema is None:
        raise UserError("The framing avro is Avro without any header: give the schema, --schema FILE.avsc.")
    bare = None if schema is None else read_schema(schema)
    sources: list[SchemaSource] = [KnownSchemas([*known_avro_schemas(), elasticc_alerts.AVRO_SCHEMA])]
    if asked.registry:
        from streamer.registry import client

        sources.append(client.registry(asked.registry, asked.registry_setting))
    return Options(_InTurn(sources, bare), framing, bare if framing == "avro" else None, alerts or "")


class _InTurn:
    """The sources one after the other, and what a person gave for an id that none of them knows."""

    def __init__(self, sources: list[Any], given: Any) -> None:
        self._sources, self._given = sources, given

    def get(self, schema_id: int) -> dict[str, Any] | None:
        for source in self._sources:
            if (schema := source.get(schema_id)) is not None:
                found: dict[str, Any] = schema
                return found
        given: dict[str, Any] | None = self._given
        return given


def _message(what: str, given: options.Given) -> tuple[bytes | None, str, Peeked | None]:
    """The message, what it is called, and where Kafka has it."""
    import sys

    from schemas.errors import UserError

    if what == "-":
        return sys.stdin.buffer.read(_MOST_BYTES), "standard input", None
    path = Path(what)
    if path.exists():
        return _file(path), what, None
    topic, *where = what.split(":")
    if "/" in what or len(where) > 2 or not all(word.isdecimal() for word in where):
        raise UserError(f"There is no file {what}, and no topic is called so: say FILE, or TOPIC:PARTITION:OFFSET.")
    from streamer.peek import peek

    try:
        asked = part(BrokerSettings, given)
    except NoBroker:
        raise UserError(
            f"There is no file {what}; if it is a topic, say which broker has it: --brokers HOST:PORT."
        ) from None
    numbers = [int(word) for word in where]
    connection = asked.kafka | {"bootstrap.servers": asked.brokers}
    found = peek(topic, numbers[0] if numbers else 0, numbers[1] if len(numbers) > 1 else None, connection)
    return found.payload, topic, found


def _file(path: Path) -> bytes:
    from schemas.errors import UserError

    try:
        if path.is_file() and path.stat().st_size > _MOST_BYTES:
            raise UserError(f"{path} has {path.stat().st_size:,} bytes: no message is that large.")
        return path.read_bytes()
    except OSError as error:
        raise UserError(f"{path} cannot be read: {error.strerror}.") from None


def _draw(found: Inspection, row: int | None, png: Path) -> str:
    """Draw what cutouts there are; what to say of it, "" where there are none."""
    from streamer.cutout_picture import MOST_ROWS, draw, native_row, packet_row

    rows = []
    for i in range(len(found.galaxies)):
        if row not in (None, int(found.galaxies.row[i])):
            continue
        name = f"{found.galaxies.object_id[i].as_py()}   alert {found.galaxies.alert_id[i].as_py()}"
        if found.galaxies.stamps is not None:
            rows.append(native_row(name, found.galaxies, i))
        elif any(found.cutouts[i].values()):
            rows.append(packet_row(name, found.cutouts[i]))
    if rows:
        draw(rows[:MOST_ROWS], png)
    some = "" if len(rows) <= MOST_ROWS else f" of the first {MOST_ROWS} galaxies of {len(rows)}; --row K draws another"
    return f"{png} has the cutouts{some}." if rows else ""
