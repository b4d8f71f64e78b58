"""``slipher dead-letters``: messages, and rows of messages, that could not become catalogue rows, and why."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from streamer.cli import retry
from streamer.cli.console import CATALOG, group, plain_console

if TYPE_CHECKING:
    import pyarrow as pa
    from rich.console import RenderableType

app = group("Messages that could not be read, and why: list, show, export, retry.")

REASON = typer.Option(None, "--reason", help="Only this reason, such as CORRUPT.", show_default=False)
NIGHT = typer.Option(
    None, "--night", metavar="DATE", help="Only messages sent in this observing night, YYYY-MM-DD.", show_default=False
)
SINCE = typer.Option(
    None, "--since", metavar="TIME", help="Only what was listed from this time on, ISO, UTC.", show_default=False
)
OPEN = typer.Option(False, "--open", help="Only letters that no row has answered yet.")
CLOSED = typer.Option(False, "--closed", help="Only letters that a row has answered since.")


@app.command("list")
def list_(
    catalog: Path = CATALOG,
    n: int = typer.Option(30, "-n", min=1, help="Most entries to list, the newest."),
    reason: str | None = REASON,
    night: str | None = NIGHT,
    since: str | None = SINCE,
    open_: bool = OPEN,
    closed: bool = CLOSED,
) -> None:
    """What was refused, oldest first. An entry keeps its number; it is open until a row of its identity exists."""
    from rich.table import Table
    from rich.text import Text

    from streamer import dead_letters
    from streamer.catalogue import open_catalogue

    everything = dead_letters.letters(open_catalogue(catalog))
    console = plain_console()
    some = narrowed(everything, reason, night, since, open_, closed)
    if not len(some):
        console.print(
            "Nothing was refused." if not len(everything) else f"No dead letter fits: there are {len(everything):,}."
        )
        return
    table = Table(box=None, padding=(0, 1), header_style="dim")
    table.add_column("no", justify="right", style="bold")
    for name in ("topic", "where", "reason", "state"):
        table.add_column(name, no_wrap=True)
    table.add_column("why", ratio=1, style="dim")
    for entry in some.slice(max(len(some) - n, 0)).to_pylist():
        state = Text(entry["state"], "yellow" if entry["state"] == dead_letters.OPEN else "green")
        table.add_row(str(entry["number"]), entry["topic"], _where(entry), entry["reason"], state, entry["text"])
    console.print(table)
    if len(some) > n:
        console.print(f" {len(some) - n:,} older entries are not listed: -n {len(some)} lists all.", style="dim")


@app.command()
def show(
    catalog: Path = CATALOG,
    which: str = typer.Argument(
        ..., metavar="N|PARTITION:OFFSET", help="A number of the list, or a place.", show_default=False
    ),
    bytes_: int = typer.Option(256, "--bytes", min=0, help="Most bytes of the payload to show."),
) -> None:
    """One refused message: reason, sentence, where it stands, whether it is open, and its bytes."""
    from schemas.errors import UserError
    from streamer import dead_letters
    from streamer.catalogue import open_catalogue

    catalogue = open_catalogue(catalog)
    some = dead_letters.named(dead_letters.letters(catalogue), which)
    if not len(some):
        raise UserError(
            f"{catalog} lists nothing under {which}: `slipher dead-letters list {catalog}` shows what there is."
        )
    console = plain_console()
    for letter in some.to_pylist():
        console.print(_panel(letter, dead_letters.payload_of(catalogue, letter), bytes_))


@app.command()
def export(
    catalog: Path = CATALOG,
    out: Path = typer.Argument(
        ..., metavar="OUT", help="A directory to make, or a file X.parquet or X.arrow.", show_default=False
    ),
    reason: str | None = REASON,
    night: str | None = NIGHT,
    since: str | None = SINCE,
    open_: bool = OPEN,
    closed: bool = CLOSED,
) -> None:
    """Write refused messages out: a file each, as received, with manifest.json; or one Parquet or Arrow table."""
    from streamer import dead_letters, letter_files
    from streamer.catalogue import open_catalogue
    from streamer.run import now_ms

    catalogue = open_catalogue(catalog)
    some = narrowed(dead_letters.letters(catalogue), reason, night, since, open_, closed)
    done = letter_files.export(catalogue, some, out, now_ms())
    console = plain_console()
    console.print(str(out), soft_wrap=True, style="bold")
    console.print(f"{done.letters:,} dead letters, {done.messages:,} messages, {done.size / 1e6:,.2f} MB.")
    if done.cut:
        console.print(f"Of {done.cut:,} messages the ledger keeps only the first MiB.", style="yellow")


app.command("retry")(retry.command)


def narrowed(
    table: pa.Table, reason: str | None, night: str | None, since: str | None, open_: bool = False, closed: bool = False
) -> pa.Table:
    """The letters of `table` that the options fit.

    Raises
    ------
    UserError
        An option is not what it should be.
    """
    import datetime as dt

    from schemas.errors import UserError
    from streamer import dead_letters

    time = None
    if since is not None:
        try:
            time = dt.datetime.fromisoformat(since)
        except ValueError:
            raise UserError(f"--since {since} is no time: say it as 2026-05-01T22:00.") from None
        time = time if time.tzinfo else time.replace(tzinfo=dt.UTC)
    if open_ and closed:
        raise UserError("--open and --closed together fit nothing: give one of them.")
    state = dead_letters.OPEN if open_ else dead_letters.CLOSED if closed else None
    return dead_letters.chosen(table, reason, night, time, state)


def _where(entry: dict[str, Any]) -> str:
    first, end = entry["offset_start"], entry["offset_end"]
    place = f"{entry['kafka_partition']}:{first}" + (f"–{end - 1}" if end - first > 1 else "")
    return place + (f" row {entry['kafka_row']}" if entry["kafka_row"] >= 0 else "")


def _panel(entry: dict[str, Any], payload: bytes | None, most: int) -> RenderableType:
    from rich.console import Group
    from rich.panel import Panel
    from rich.table import Table
    from rich.text import Text

    from streamer.cli.hexdump import hexdump
    from streamer.dead_letters import CLOSED, OPEN, is_cut
    from streamer.reasons import MEANING

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
    if entry["state"]:
        facts.add_row(
            "state",
            {OPEN: "open: no row answers it yet", CLOSED: "closed: a row of its identity exists"}[entry["state"]],
        )
    parts: list[RenderableType] = [facts, Text()]
    if payload is None:
        parts.append(Text("no payload", "dim"))
    else:
        cut = is_cut(payload, entry["payload_size"])
        held = f", cut: the first {len(payload):,} are kept" if cut else ""
        parts.append(Text(f"payload, {entry['payload_size']:,} bytes{held}", "dim"))
        parts.append(hexdump(payload, most, entry["byte_position"]))
    return Panel(
        Group(*parts),
        title=Text(f"dead letter {entry['number']}", "bold"),
        title_align="left",
        padding=(0, 1),
        width=80,
    )
