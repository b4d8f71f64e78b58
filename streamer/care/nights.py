"""Which nights are closed, and which of them are due for compaction."""

import datetime as dt
import json
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from deltalake import DeltaTable

from schemas.errors import UserError
from schemas.night import CLOSES_HOURS, DEFAULT, Rollover, closes_ms, night_index, rollover
from streamer.sink.datasets import whole


class Night(NamedTuple):
    """What a night holds by one model.

    Attributes
    ----------
    night, model
        Which.
    files, rows, bytes
        How much.
    closes
        When it is closed: what Kafka receives later is late.
    compacted
        True where all of its files are sorted ones of one compaction, with all columns of the table.
    """

    night: str
    model: str
    files: int
    rows: int
    bytes: int
    closes: dt.datetime
    compacted: bool


def nights(root: Path, hours: float = CLOSES_HOURS) -> list[Night]:
    """All nights of the catalogue at `root` by each model, sorted; `hours` after its end a night is closed."""
    table = DeltaTable(str(root / "rows"))
    actions = pa.table(table.get_add_actions(flatten=True))
    if not len(actions):
        return []
    rules = _rules(root)
    keys = ["partition.night", "partition.model"]
    named = [actions[key].cast(pa.string()).to_pylist() for key in keys]
    held: dict[tuple[str, str], list[int]] = {}
    for k, pair in enumerate(zip(*named, strict=True)):
        held.setdefault(pair, []).append(k)
    out = []
    for (night, model), which in sorted(held.items()):
        mine = actions.take(pa.array(which))
        rows, size = (pc.sum(mine[name]).as_py() or 0 for name in ("num_records", "size_bytes"))
        closes = _closes(night, rules.get(model, DEFAULT), hours)
        out.append(Night(night, model, len(mine), rows, size, closes, is_compacted(table, mine["path"].to_pylist())))
    return out


def compacted_name(table: DeltaTable) -> str:
    """What a file that compaction writes into `table` is called: it says how many columns it has, for they become more."""
    return f"sorted{len(table.schema().fields)}"


def is_compacted(table: DeltaTable, paths: list[str]) -> bool:
    """Whether the files of a night are those of one compaction, with all columns that `table` has now."""
    names = [path.rsplit("/", 1)[-1] for path in paths]
    if not all(name.startswith(f"care-{compacted_name(table)}-") for name in names):
        return False
    return len({name.split("-")[2] for name in names}) <= 1  # the numbers of their leases


def due(
    found: list[Night], now: dt.datetime, night: str | None = None, model: str | None = None
) -> tuple[list[Night], list[Night]]:
    """Of the nights `found`: (those that are closed and not compacted, those that are not closed yet).

    Raises
    ------
    UserError
        A `night` or `model` was asked for that is not there.
    """
    chosen = [one for one in found if night in (None, one.night) and model in (None, one.model)]
    if not chosen and (night is not None or model is not None):
        what = " and ".join(part for part in (night and f"the night {night}", model and f"the model {model}") if part)
        raise UserError(f"No rows of {what}: `slipher catalog info` says what is there.")
    closed = [one for one in chosen if one.closes <= now]
    return [one for one in closed if not one.compacted], [one for one in chosen if one.closes > now]


def _closes(night: str, rule: Rollover, hours: float) -> dt.datetime:
    try:
        index = np.array([night_index(night)], np.int32)
    except ValueError:  # no night of ours; nothing more will come to it
        return dt.datetime.fromtimestamp(0, dt.UTC)
    return dt.datetime.fromtimestamp(int(closes_ms(index, rule, hours)[0]) / 1000, dt.UTC)


def _rules(root: Path) -> dict[str, Rollover]:
    """The rule by which each model's nights begin: as its processing had it, else that of its survey."""
    table = whole(DeltaTable(str(root / "models")), root / "models", columns=["model", "survey", "settings"])
    out = {}
    for row in table.to_pylist():
        given = json.loads(row["settings"] or "{}").get("rollover")
        out[row["model"]] = Rollover(*given) if given else rollover(row["survey"])
    return out
