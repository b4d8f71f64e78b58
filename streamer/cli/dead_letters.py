"""``slipher dead-letters``: messages, and rows of messages, that could not become catalogue rows, and why."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from streamer.cli.console import CATALOG, group

if TYPE_CHECKING:
    import pyarrow as pa
    from rich.console import RenderableType

app = group("Messages that could not be read, and why.")

_LISTED = ["topic", "kafka_partition", "offset_start", "offset_end", "kafka_row", "reason", "text"]


@app.command("list")
def list_(
    catalog: Path = CATALOG,
    n: int = typer.Option(30, "-n", min=1, help="Most entries to list, the newest."),
    reason: str | None = typer.Option(None, "--reason", help="Only this reason, such as CORRUPT.", show_default=False),
) -> None:
    """What was refused, oldest first. An entry keeps its number."""
    from rich.console import Console
    from rich.table import Table

    entries = _entries(catalog, _LISTED)
    console = Console(highlight=False, markup=False, emoji=False)
    numbered = [(k, entry) for k, entry in enumerate(entries.to_pylist(), 1) if reason in (None, entry["reason"])]
    if not numbered:
        console.print("Nothing was refused." if reason is None else f"Nothing was refused as {reason}.")
        return
    table = Table(box=None, padding=(0, 1), header_style="dim")
    table.add_column("no", justify="right", style="bold")
    for name in ("topic", "where", "reason"):
        table.add_column(name, no_wrap=True)
    table.add_column("why", ratio=1, style="dim")
    for k, entry in numbered[-n:]:
        table.add_row(str(k), entry["topic"], _where(entry), entry["reason"], entry["text"])
    console.print(table)
    if len(numbered) > n:
        console.print(
            f" {len(numbered) - n:,} older entries are not listed: -n {len(numbered)} lists all.", style="dim"
        )


@app.command()
def show(
    catalog: Path = CATALOG,
    which: str = typer.Argument(
        ..., metavar="N|PARTITION:OFFSET", help="A number of the list, or a place.", show_default=False
    ),
    bytes_: int = typer.Option(256, "--bytes", min=0, help="Most bytes of the payload to show."),
) -> None:
    """One refused message: reason, sentence, where it stands, and its bytes."""
    from rich.console import Console

    from schemas.catalogue import EXCEPTIONS
    from schemas.errors import UserError

    entries = _entries(catalog, [name for name in EXCEPTIONS.names if name != "payload"])
    chosen = _chosen(entries, which)
    if not chosen:
        raise UserError(
            f"{catalog} lists nothing under {which}: `slipher dead-letters list {catalog}` shows what there is."
        )
    console = Console(highlight=False, markup=False, emoji=False)
    records = entries.to_pylist()
    for k in chosen:
        console.print(_panel(k + 1, records[k], _payload(catalog, records[k]), bytes_))


def _payload(catalog: Path, entry: dict[str, Any]) -> bytes | None:
    """The payload of one entry: the others' are not read."""
    from streamer.catalogue import open_catalogue

    near = open_catalogue(catalog).exceptions(
        [entry["reason"]], None, (entry["kafka_partition"], entry["offset_start"])
    )
    return next((row["payload"] for row in near.to_pylist() if all(row[name] == entry[name] for name in entry)), None)


def _entries(catalog: Path, columns: list[str]) -> pa.Table:
    from streamer.catalogue import open_catalogue
    from streamer.cli.reasons import REFUSED

    return open_catalogue(catalog).exceptions(REFUSED, columns)


def _chosen(entries: pa.Table, which: str) -> list[int]:
    """Indices of the entries that `which` names."""
    from schemas.errors import UserError

    partition, colon, offset = which.partition(":")
    if not partition.isdigit() or (colon and not offset.isdigit()):
        raise UserError(
            f"{which} names no entry: give a number of the list, such as 3, or partition:offset, such as 0:1234."
        )
    if not colon:
        return [int(which) - 1] if 1 <= int(which) <= len(entries) else []
    at = int(offset)
    return [
        k
        for k, entry in enumerate(entries.to_pylist())
        if entry["kafka_partition"] == int(partition) and entry["offset_start"] <= at < entry["offset_end"]
    ]


def _where(entry: dict[str, Any]) -> str:
    first, end = entry["offset_start"], entry["offset_end"]
    place = f"{entry['kafka_partition']}:{first}" + (f"–{end - 1}" if end - first > 1 else "")
    return place + (f" row {entry['kafka_row']}" if entry["kafka_row"] >= 0 else "")


def _panel(number: int, entry: dict[str, Any], payload: bytes | None, most: int) -> RenderableType:
    from rich.console import Group
    from rich.panel import Panel
    from rich.table import Table
    from rich.text import Text

    from streamer.cli.hexdump import hexdump
    from streamer.cli.reasons import MEANING

    facts = Table.grid(padding=(0, 1))
    facts.add_column(style="dim", no_wrap=True)
    facts.add_column(overflow="fold")
    facts.add_row("reason", Text.assemble((entry["reason"], "bold red"), f"  {MEANING.get(entry['reason'], '')}"))
    facts.add_row("why", entry["text"])
    facts.add_row("where", f"{entry['topic']}[{entry['kafka_partition']}] {_where(entry).partition(':')[2]}")
    facts.add_row("", Text(f"topic id {entry['topic_id']}, cluster {entry['cluster_id']}", "dim"))
    if entry["kafka_timestamp"] is not None:
        facts.add_row("sent", f"{entry['kafka_timestamp']:%Y-%m-%d %H:%M:%S} UTC")
    facts.add_row("listed", f"{entry['ingest_time']:%Y-%m-%d %H:%M:%S} UTC by processing {entry['processing_id']}")
    parts: list[RenderableType] = [facts, Text()]
    if payload is None:
        parts.append(Text("no payload", "dim"))
    else:
        held = "" if entry["payload_size"] == len(payload) else f", {len(payload):,} of them kept"
        parts.append(Text(f"payload, {entry['payload_size']:,} bytes{held}", "dim"))
        parts.append(hexdump(payload, most, entry["byte_position"]))
    return Panel(
        Group(*parts), title=Text(f"dead letter {number}", "bold"), title_align="left", padding=(0, 1), width=80
    )
