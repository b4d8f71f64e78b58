"""Lag as a picture for the terminal: one sentence, a table with trends, what is wrong where."""

from collections.abc import Callable, Sequence

import numpy as np
from rich.console import Group, RenderableType
from rich.text import Text

from schemas.batch import Float64
from streamer.lag.measures import INFINITE
from streamer.lag.readers import Reader
from streamer.lag.standing import Standing, Status
from streamer.lag.totals import Total, totals, verdict, worst
from streamer.lag.words import count, duration, rate

COLOURS = {
    Status.OK: "green",
    Status.WARNING: "yellow",
    Status.FALLING_BEHIND: "dark_orange",
    Status.STALLED: "red",
    Status.STOPPED: "red",
    Status.REWOUND: "bold red",
    Status.AT_RISK: "bold red",
}
WIDE = 120  # columns from which on offsets are shown
TREND = 16  # characters of a trend
LEAST_TREND = 5  # below which there is none
REASONS = 6  # sentences below the table
_BARS = "▁▂▃▄▅▆▇█"


def picture(
    rows: Sequence[Standing],
    trend: Callable[[Standing], Float64] = lambda row: np.zeros(0),
    width: int = WIDE,
    lines: int | None = None,
    retired: Sequence[Reader] = (),
) -> RenderableType:
    """All that `slipher lag` shows.

    Parameters
    ----------
    rows
        Standings, sorted by topic and model.
    trend
        Lags at earlier looks.
    width, lines
        Of the terminal. Where not all partitions fit, the worst are shown; None shows all.
    retired
        Readers that were left out.
    """
    status = worst(rows)
    head = Text(verdict(rows), COLOURS[status] if status is not Status.OK else "bold green")
    shown = list(rows)
    sums = totals(rows)
    room = None if lines is None else max(3, lines - 3 * len(sums) - REASONS - 5 - bool(retired))
    left: list[RenderableType] = []
    if room is not None and len(shown) > room:
        chosen = sorted(shown, key=lambda row: (row.status.rank, row.lag or 0), reverse=True)[:room]
        left = [Text(f"... and {count(len(shown) - room, 'partition')} that {_fare(shown, chosen)}", "dim")]
        shown = sorted(chosen, key=lambda row: (row.topic, row.model, row.partition))
    return Group(head, Text(), _tables(shown, sums, trend, width), *left, *_reasons(rows), *_left_out(retired))


def spark(values: Float64, width: int = TREND) -> str:
    """A line of bars against the greatest value; the newest is on the right."""
    if not len(values):
        return ""
    if len(values) > width:
        values = values[np.linspace(0, len(values) - 1, width).round().astype(int)]
    top = float(values.max())
    return "".join(_BARS[0 if top <= 0 else min(7, int(8 * value / top))] for value in values.tolist())


def time_left(seconds: float | None, never: str) -> str:
    """A time in words, `never` for infinity, a dash where it is not known."""
    return "–" if seconds is None else never if seconds == INFINITE else duration(seconds)


def _tables(
    rows: Sequence[Standing], sums: Sequence[Total], trend: Callable[[Standing], Float64], width: int
) -> RenderableType:
    """A table for each topic and model, their columns one below the other."""
    wide = width >= WIDE
    most = TREND if wide else TREND // 2
    names = ["partition", *(("durable", "end") if wide else ()), "lag", "behind", "in", "out", "gone in", "expires in"]
    groups = []
    for total in sums:
        mine = [row for row in rows if (row.topic, row.model) == (total.topic, total.model)]
        lines = [
            [str(row.partition), *([_offset(row.durable), _offset(row.end)] if wide else []), *_numbers(row)]
            for row in mine
        ]
        bars = [spark(trend(row), most) for row in mine]
        statuses = [row.status for row in mine]
        if total.partitions > 1:
            lines.append(["all", *([""] * 2 if wide else []), *_numbers(total)])
            bars.append("")
            statuses.append(total.status)
        groups.append((total, lines, bars, statuses))
    widths = [
        max(len(line[k]) for line in [names, *(line for group in groups for line in group[1])])
        for k in range(len(names))
    ]
    left = width - sum(widths) - 2 * len(widths) - 3 - max((len(row.status) for row in rows), default=0)
    room = 0 if left < LEAST_TREND else min(left, most)  # the status is worth more than the trend
    parts: list[RenderableType] = []
    for total, lines, bars, statuses in groups:
        parts.append(Text.assemble((total.topic, "bold"), "  ", (total.model, "cyan")))
        parts.append(_table([names, *lines], widths, ["trend", *bars], room, statuses))
    return Group(*parts)


def _table(
    lines: Sequence[Sequence[str]], widths: Sequence[int], bars: Sequence[str], room: int, statuses: Sequence[Status]
) -> Text:
    """One text for all lines, the head first. rich's own table takes 2 ms a line, which of 3,000 partitions is six seconds."""
    text = Text(no_wrap=True, overflow="ellipsis")
    bars = [bar[max(0, len(bar) - room) :] for bar in bars] if room else [""] * len(bars)
    for k, (line, bar) in enumerate(zip(lines, bars, strict=True)):
        cells = "  ".join(cell.rjust(width) for cell, width in zip(line, widths, strict=True))
        style = "dim" if not k else "bold" if line[0] == "all" else ""
        text.append(f" {cells}  ", style or None)
        if k:
            text.append(
                f"{bar:{room}}{'  ' * bool(room)}{statuses[k - 1]}", f"{style} {COLOURS[statuses[k - 1]]}".strip()
            )
        else:
            text.append(bar, style)
        text.append("\n" if k + 1 < len(lines) else "")
    return text


def _numbers(row: Standing | Total) -> list[str]:
    behind = "–" if row.lag_seconds is None else duration(row.lag_seconds)
    rates = ["–" if r is None else rate(r) for r in (row.produce_rate, row.consume_rate)]
    gone = time_left(row.drain_seconds, "never") if row.lag else ""
    expires = time_left(row.loss_seconds, "") if row.lag or row.loss_seconds == 0 else ""
    return [_offset(row.lag), behind if row.lag else "", *rates, gone, expires]


def _offset(value: int | None) -> str:
    return "–" if value is None else f"{value:,}"


def _fare(rows: Sequence[Standing], chosen: Sequence[Standing]) -> str:
    rest = set(rows) - set(chosen)
    bad = sum(row.status is not Status.OK for row in rest)
    return f"are no better ({bad} of them not ok)" if bad else "are ok"


def _reasons(rows: Sequence[Standing]) -> list[RenderableType]:
    """What is wrong with which partitions, the worst first: the same sentence once."""
    found: dict[tuple[int, str, str, str], list[int]] = {}
    for row in sorted(rows, key=lambda row: -row.status.rank):
        if row.status is not Status.OK:
            found.setdefault((row.status.rank, row.topic, row.model, row.why), []).append(row.partition)
    lines: list[RenderableType] = [Text()] if found else []
    for (rank, topic, model, why), partitions in list(found.items())[:REASONS]:
        which = ", ".join(map(str, partitions[:8])) + (" ..." if len(partitions) > 8 else "")
        status = list(Status)[rank]
        lines.append(Text.assemble((str(status), COLOURS[status]), f"  {topic} {which} ({model}): {why}"))
    if len(found) > REASONS:
        lines.append(Text(f"... and {len(found) - REASONS} more", "dim"))
    return lines


def _left_out(retired: Sequence[Reader]) -> list[RenderableType]:
    if not retired:
        return []
    some = ", ".join(f"{reader.model} of {reader.topic}" for reader in retired[:3]) + " ..." * (len(retired) > 3)
    return [
        Text(f"{count(len(retired), 'reader')} retired and left out: {some}", "dim", no_wrap=True, overflow="ellipsis")
    ]
