"""An inspected message for the terminal: what it is, the galaxy it would give, or why it would be refused."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from rich.console import RenderableType
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from schemas.bands import BAND_SETS
from schemas.flags import DESCRIPTIONS, Flag
from streamer.cli.hexdump import hexdump
from streamer.reasons import MEANING

FRAMINGS = {
    "confluent-avro": "Confluent Avro: 00, schema id, record",
    "container": "Avro object container",
    "arrow": "Arrow IPC stream",
    "json": "JSON",
    "avro": "Avro without any header",
}
_BYTES = 96  # of the payload around the trouble
_KEYS = 9  # columns of the words on the left
_LISTED = 5  # missing fields named


def view(said: dict[str, Any], payload: bytes | None, row: int | None, most: int) -> Iterator[RenderableType]:
    """What ``streamer.inspection.described`` says, piece by piece.

    Parameters
    ----------
    said
        The message.
    payload
        Its bytes.
    row
        The row to show whole; None = the only one, or none of several.
    most
        Rows to list.
    """
    yield _headline(said)
    yield Padding(_facts(said), (1, 0, 1, 1))
    rows, refused = said["rows"], said["refused"]
    shown = [entry for entry in rows if entry["row"] == row] if row is not None else rows
    wrong = [entry for entry in refused if row is None or entry["row"] in (row, -1)]
    if row is None and len(rows) + len(refused) > 1:
        yield Padding(_list(rows, refused, most), (0, 0, 1, 1))
    elif len(shown) == 1:
        yield Padding(_galaxy(shown[0]), (0, 0, 1, 1))
    for entry in wrong[: 1 if row is None else None]:
        yield Padding(_trouble(entry, said, payload), (0, 0, 1, 1))
    yield _verdict(said)


def _headline(said: dict[str, Any]) -> Text:
    text = Text.assemble(" ", (said["source"], "bold"))
    if "offset" in said:
        text.append(f"  partition {said['partition']}, offset {said['offset']:,}", "bold")
        text.append(f" of {said['partition_begin']:,} to {said['partition_end'] - 1:,}", "dim")
    size = "a tombstone: no value" if said["bytes"] is None else f"{said['bytes']:,} bytes"
    text.append(f"   {size}")
    if said.get("timestamp_ms", -1) >= 0:
        from datetime import UTC, datetime

        when = datetime.fromtimestamp(said["timestamp_ms"] / 1000, UTC)
        text.append(f"   sent {when:%Y-%m-%d %H:%M:%S} UTC", "dim")
    return text


def _facts(said: dict[str, Any]) -> Table:
    facts = Table.grid(padding=(0, 1))
    facts.add_column(style="dim", no_wrap=True, min_width=_KEYS)
    facts.add_column(overflow="fold")
    facts.add_row("framing", _framing(said["framing"]))
    if said["framing"]["looks_like"]:
        facts.add_row("", Text(f"It looks like {said['framing']['looks_like']}.", "yellow"))
    facts.add_row("schema", _schema(said))
    facts.add_row("survey", _survey(said["survey"]))
    if said["survey"]:
        facts.add_row("fields", _fields(said["survey"]))
    return facts


def _framing(framing: dict[str, Any]) -> Text:
    if framing["name"] is None:
        return Text("none that is known", "bold red")
    text = Text(FRAMINGS[framing["name"]])
    records, blocks = framing["records"], framing["blocks"]
    if framing["codec"]:
        text.append(f", codec {framing['codec']}")
    if records is not None and blocks is not None:
        many = "batch" if framing["name"] == "arrow" else "block"
        text.append(f"; {_count(records, 'record')} in {_count(blocks, many)}")
    elif framing["name"] == "json" and records is not None:
        text.append(f"; {_count(records, 'row')}")
    if framing["note"]:
        text.append(f"\n{framing['note']}", "yellow")
    return text


def _schema(said: dict[str, Any]) -> Text:
    schema = said["schema"]
    parts = []
    if schema["id"] is not None:
        parts.append(f"id {schema['id']}")
    if schema["name"]:
        parts.append(schema["name"])
    if schema["version"]:
        parts.append(f"version {schema['version']}")
    if schema["fields"]:
        parts.append(f"{_count(len(schema['fields']), 'field')} on top")
    return Text(", ".join(parts)) if parts else Text("unknown", "dim")


def _survey(survey: dict[str, Any] | None) -> Text:
    if survey is None:
        return Text("unknown", "dim")
    bands = " ".join(BAND_SETS[survey["bands_of"]].bands)
    what = f"{survey['bands_of']} ({bands})"
    by = {"given": "as you say", "name": "by the name of its schema", "fields": "by its fields"}.get(survey["by"] or "")
    if by is None:
        return Text.assemble(("none that slipher reads", "bold red"), f"; the nearest is {survey['alerts']}")
    text = Text.assemble((survey["alerts"], "bold"), f" alerts, {by}; ")
    if survey["alerts"] == "native":
        return text.append(f"galaxies of {what}")
    return text.append(f"hosts with photometry of {what}" if survey["hosts"] else "they carry no host galaxy")


def _fields(survey: dict[str, Any]) -> Text:
    found, missing, needed = survey["found"], survey["missing"], survey["needed"]
    text = Text(f"{len(found)} of {len(found) + len(missing) + len(needed)} found")
    for fields, words, style in ((needed, "without these no galaxy", "bold red"), (missing, "not sent", "yellow")):
        if fields:
            some = ", ".join(list(fields)[:_LISTED])
            more = f" and {len(fields) - _LISTED} more" if len(fields) > _LISTED else ""
            text.append(f"\n{words}: {some}{more}", style)
    return text


def _galaxy(row: dict[str, Any]) -> Table:
    facts = Table.grid(padding=(0, 1))
    facts.add_column(style="dim", no_wrap=True, min_width=_KEYS)
    facts.add_column(overflow="fold")
    alert = f"   alert {row['alert_id']}" if row["alert_id"] else ""
    facts.add_row("galaxy", Text.assemble((row["object_id"], "bold"), (alert, "dim")))
    facts.add_row("position", f"ra {row['ra']:.6f}°  dec {row['dec']:+.6f}°")
    facts.add_row("time", _time(row))
    facts.add_row("E(B−V)", Text("unknown", "yellow") if row["ebv"] is None else f"{row['ebv']:.4f} mag")
    facts.add_row("", "")
    facts.add_row("bands", _bands(row["bands"]))
    facts.add_row("", "")
    facts.add_row("flags", _flags(row["flags"]))
    if row["cutouts"]:
        sizes = (f"{name} {'–' if size is None else f'{size:,} bytes'}" for name, size in row["cutouts"].items())
        facts.add_row("cutouts", ", ".join(sizes))
    if row["stamp"]:
        stamp = row["stamp"]
        facts.add_row(
            "stamp", f"{stamp['width']} x {stamp['height']} pixels of {stamp['scale']:g} arcsec, in every band"
        )
    return facts


def _time(row: dict[str, Any]) -> str:
    if row["mjd"] is None:
        return f"unknown; night {row['night']}"
    return f"MJD {row['mjd']:.6f} {row['time_scale'].upper()} = {row['utc'] or 'no date'}, night {row['night']}"


def _bands(bands: dict[str, dict[str, Any]]) -> RenderableType:
    if all(band["state"] == "NOT_OBSERVED" for band in bands.values()):
        return Text(f"none observed of {' '.join(bands)}", "yellow")
    table = Table(box=None, padding=(0, 1, 0, 0), header_style="dim")
    for name, justify in (("", "left"), ("AB mag", "right"), ("flux, nJy", "right"), ("state", "left")):
        table.add_column(name, justify=justify, no_wrap=True)  # type: ignore[arg-type]
    for name, band in bands.items():
        state = band["state"].replace("_", " ").lower()
        style = "" if band["state"] == "MEASURED" else "dim"
        table.add_row(
            Text(name, "bold"),
            _pair(band["mag"], band["mag_err"], 3),
            _pair(band["flux"], band["flux_err"], 1),
            state,
            style=style,
        )
    return table


def _pair(value: float | None, error: float | None, digits: int) -> str:
    if value is None:
        return "–"
    return f"{value:,.{digits}f} ± {'–' if error is None else f'{error:,.{digits}f}'}"


def _flags(flags: list[str]) -> RenderableType:
    if not flags:
        return Text("none", "dim")
    table = Table.grid(padding=(0, 2, 0, 0))
    for name in flags:
        table.add_row(Text(name, "yellow"), Text(DESCRIPTIONS[Flag[name]], "dim"))
    return table


def _list(rows: list[dict[str, Any]], refused: list[dict[str, Any]], most: int) -> RenderableType:
    """Rows and refusals in their order, a line each."""
    table = Table(box=None, padding=(0, 1), header_style="dim")
    bands = list(rows[0]["bands"]) if rows else []
    for name, justify in (("row", "right"), ("object", "left"), *((band, "right") for band in bands), ("", "left")):
        table.add_column(name, justify=justify, no_wrap=name != "")  # type: ignore[arg-type]
    lines: list[tuple[int, list[str | Text]]] = []
    for row in rows:
        magnitudes: list[str | Text] = ["–" if b["mag"] is None else f"{b['mag']:.2f}" for b in row["bands"].values()]
        lines.append(
            (row["row"], [str(row["row"]), row["object_id"], *magnitudes, Text(" ".join(row["flags"]), "yellow")])
        )
    for entry in refused:
        number = "all" if entry["row"] < 0 else str(entry["row"])
        why = Text(f"{entry['reason']}: {entry['text']}", "red")
        lines.append((entry["row"], [number, "refused", *[""] * len(bands), why]))
    lines.sort(key=lambda line: line[0])
    for _, cells in lines[:most]:
        table.add_row(*cells)
    if len(lines) > most:
        table.add_row("", f"{len(lines) - most:,} more: -n {len(lines)}", style="dim")
    return table


def _trouble(entry: dict[str, Any], said: dict[str, Any], payload: bytes | None) -> Table:
    facts = Table.grid(padding=(0, 1))
    facts.add_column(style="dim", no_wrap=True, min_width=_KEYS)
    facts.add_column(overflow="fold")
    where = "" if entry["row"] < 0 else f"row {entry['row']}: "
    facts.add_row("refused", Text.assemble(where, (entry["reason"], "bold red"), f"  {MEANING[entry['reason']]}"))
    facts.add_row("why", entry["text"])
    if entry["byte"] >= 0 and payload is not None:
        packed = said["framing"]["codec"] not in (None, "null") and entry["reason"] == "CORRUPT"
        facts.add_row(
            "byte",
            f"{entry['byte']:,}"
            + (" of a block, once decompressed, or of the container" if packed else f" of {len(payload):,}"),
        )
        if not packed:
            facts.add_row("", hexdump(payload, _BYTES, entry["byte"]))
    elif payload:
        facts.add_row("begins", hexdump(payload, 32, -1))
    hint = _hint(entry, said)
    if hint:
        facts.add_row("", Text(hint, "yellow"))
    return facts


def _hint(entry: dict[str, Any], said: dict[str, Any]) -> str:
    if entry["reason"] == "UNKNOWN_SCHEMA" and said["schema"]["id"] is not None and not said["schema"]["name"]:
        return "Give the schema: --registry URL, or --schema FILE.avsc."
    return ""


def _verdict(said: dict[str, Any]) -> Text:
    rows, refused = len(said["rows"]), len(said["refused"])
    if not refused:
        blind = sum("NO_HOST_PHOTOMETRY" in row["flags"] or "NO_PHOTOMETRY" in row["flags"] for row in said["rows"])
        text = Text(f" {_count(rows, 'galaxy', 'galaxies')}", "bold green")
        if blind:
            text.append(
                f": {'no' if blind == rows else f'{blind:,} without a'} redshift, there is no photometry", "yellow"
            )
        return text
    if not rows:
        return Text(" Refused: no galaxy.", "bold red")
    return Text(f" {_count(rows, 'galaxy', 'galaxies')}, {refused:,} refused", "bold yellow")


def _count(n: int, one: str, many: str = "") -> str:
    return f"{n:,} {one if n == 1 else many or one + 's' * (not one.endswith('ch')) + 'es' * one.endswith('ch')}"
