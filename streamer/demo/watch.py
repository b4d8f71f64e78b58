"""Watches a night happen: what is published, what is durable, how far behind, how fast."""

import time
from collections import deque
from pathlib import Path
from typing import NamedTuple

from rich.console import Group, RenderableType
from rich.progress_bar import ProgressBar
from rich.table import Table

from streamer.sink.appids import AppIds

WINDOW = 3.0  # seconds over which the rate of the moment is taken


class Glance(NamedTuple):
    """One look."""

    at: float
    published: int
    durable: int


class Watch:
    """Counts durable offsets of a topic in a catalogue, against what was published.

    Parameters
    ----------
    catalogue
        Its directory.
    topic_id
        The topic.
    total
        Messages that will be published.
    """

    def __init__(self, catalogue: Path, topic_id: str, total: int) -> None:
        from deltalake import DeltaTable

        self._ids = AppIds(DeltaTable(str(catalogue / "rows")), catalogue / "rows")
        self._topic_id, self._total = topic_id, total
        self._glances: deque[Glance] = deque()
        self.published = 0
        self.first_durable = 0.0
        self.begun = time.monotonic()

    def look(self) -> Glance:
        """Read the table's log."""
        self._ids.refresh()
        ours = [(app, v) for app, v in self._ids.versions.items() if app.split("/")[2] == self._topic_id]
        durable = sum(v if app.endswith("/offset") else 0 for app, v in ours)
        glance = Glance(time.monotonic(), self.published, durable)
        if durable and not self.first_durable:
            self.first_durable = glance.at
        self._glances.append(glance)
        while len(self._glances) > 2 and glance.at - self._glances[0].at > WINDOW:
            self._glances.popleft()
        return glance

    def rate(self) -> float:
        """Durable messages a second, over the last seconds."""
        first, last = self._glances[0], self._glances[-1]
        return (last.durable - first.durable) / (last.at - first.at) if last.at > first.at else 0.0

    def picture(self, glance: Glance) -> RenderableType:
        """What a person sees."""
        table = Table.grid(padding=(0, 2))
        table.add_column(style="bold")
        table.add_column(justify="right", min_width=9)
        table.add_column()
        for name, value, style in (("published", glance.published, "cyan"), ("durable", glance.durable, "green")):
            table.add_row(
                name,
                f"{value:,}",
                ProgressBar(self._total, value, width=44, complete_style=style, finished_style=style),
            )
        lag, rate = max(glance.published - glance.durable, 0), self.rate()
        left = (
            f"caught up in {lag / rate:.0f} s at this rate"
            if rate > 0 and lag
            else "caught up"
            if not lag
            else "workers are starting"
        )
        table.add_row("lag", f"{lag:,}", ProgressBar(self._total, lag, width=44, complete_style="yellow"))
        table.add_row("rate", f"{rate:,.0f}/s", f"{left}, {glance.at - self.begun:.0f} s in")
        return Group(table)
