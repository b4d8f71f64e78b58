"""What gave no row in the last day, and why, from the newest files of the exceptions ledger: each is read once."""

import datetime as dt
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from deltalake import DeltaTable

from schemas.batch import Reason
from streamer.reasons import MEANING

DAY = 86_400.0
BUDGET = 0.2  # seconds of a refresh
MOST_FILES = 5_000  # of the ledger's newest: a commit with refusals each 17 s for a day
_COLUMNS = ["reason", "offset_start", "offset_end", "kafka_row", "ingest_time"]
_QUIET = {Reason.NO_MESSAGE.name}  # offsets that never held a message: nothing was refused


_Counts = Counter[tuple[int, str]]  # offsets, or rows, by the hour in which they were listed and the reason


class Refusals:
    """The ledger of the last day, followed. One thread at a time.

    Parameters
    ----------
    root
        The catalogue.
    budget
        Seconds that a refresh may read.
    clock
        Seconds since 1970 UTC.
    """

    def __init__(self, root: Path, budget: float = BUDGET, clock: Callable[[], float] = time.time) -> None:
        self._folder, self._budget, self._clock = root / "exceptions", budget, clock
        self._table: DeltaTable | None = None
        self._known: dict[str, _Counts] = {}

    def refresh(self) -> dict[str, Any]:
        """Counts by reason, the most frequent first; ``whole`` is false while older files of the day are yet to be read.

        An entry of the ledger that covers a range counts each offset of it; a refused row of a message counts once.
        """
        if self._table is None:
            self._table = DeltaTable(str(self._folder))
        self._table.update_incremental()
        now = self._clock()
        paths = self._newest(now - DAY)
        until = time.monotonic() + self._budget
        self._known = {path: known for path, known in self._known.items() if path in paths}
        for number, path in enumerate([path for path in paths if path not in self._known]):
            if number and time.monotonic() >= until:
                break
            try:
                self._known[path] = self._read(path)
            except FileNotFoundError:  # compacted and vacuumed meanwhile
                continue
        since = int((now - DAY) // 3600)
        counts: Counter[str] = Counter()
        for known in self._known.values():
            for (hour, reason), n in known.items():
                if hour >= since:
                    counts[reason] += n
        return {
            "counts": [[reason, n, MEANING.get(reason, "")] for reason, n in counts.most_common()],
            "whole": len(self._known) == len(paths) and len(paths) < MOST_FILES,
        }

    def _newest(self, since: float) -> list[str]:
        """Paths of the live files that may hold an entry of later than `since`, newest first."""
        assert self._table is not None
        actions = pa.table(self._table.get_add_actions(flatten=True))
        newest = actions["max.ingest_time"] if "max.ingest_time" in actions.column_names else pa.nulls(len(actions))
        never = dt.datetime.max.replace(tzinfo=dt.UTC)  # without statistics it must be read
        held = [
            (time_ or never, path) for time_, path in zip(newest.to_pylist(), actions["path"].to_pylist(), strict=True)
        ]
        floor = dt.datetime.fromtimestamp(since, dt.UTC)
        return [path for time_, path in sorted(held, reverse=True) if time_ >= floor][:MOST_FILES]

    def _read(self, path: str) -> _Counts:
        with (self._folder / path).open("rb") as opened:
            rows = pq.read_table(opened, columns=_COLUMNS)
        hours = rows["ingest_time"].cast(pa.int64()).to_numpy() // 3_600_000_000
        spans = np.where(
            rows["kafka_row"].to_numpy() < 0, rows["offset_end"].to_numpy() - rows["offset_start"].to_numpy(), 1
        )
        counts: _Counts = Counter()
        for hour, reason, span in zip(hours.tolist(), rows["reason"].to_pylist(), spans.tolist(), strict=True):
            if reason not in _QUIET:
                counts[hour, reason] += span
        return counts
