"""The history of a catalogue: who committed what and when, from the tables' logs, in words."""

import datetime as dt
import json
import re
from collections import defaultdict
from pathlib import Path
from typing import Any, NamedTuple

from deltalake import DeltaTable

from streamer.sink.datasets import whole

_APP = re.compile(r"slipher/(?P<processing>[^/]+)/(?P<topic>.+)/(?P<partition>\d+)/(?P<what>[a-z-]+)")
_CARE = re.compile(r"slipher/care/(?P<night>[^/]+)/(?P<model>[^/]+)")


class Commit(NamedTuple):
    """One entry of a table's log.

    Attributes
    ----------
    table, version, time
        Which; `time` by the clock of the one that wrote it.
    what
        claim, rows, exceptions, replay ..., care lease, compact, withdraw, add column, vacuum ...
    who
        The model, or the night and model, that it is about; empty where the log does not say.
    rows
        Rows in the files that were added.
    added, removed
        Numbers of files.
    bytes
        Of the files that were added.
    detail
        Partitions and their offsets, columns, or the operation as Delta calls it.
    """

    table: str
    version: int
    time: dt.datetime
    what: str
    who: str
    rows: int
    added: int
    removed: int
    bytes: int
    detail: str


def history(root: Path, limit: int = 20, table: str | None = None) -> list[Commit]:
    """The last `limit` commits of the catalogue at `root`, newest first; of one `table` or of all.

    Entries that the log has forgotten (they are kept for a week, and until a checkpoint holds them) are not there.
    """
    models = whole(DeltaTable(str(root / "models")), root / "models", columns=["processing_id", "model"]).to_pylist()
    names = {row["processing_id"]: row["model"] for row in models}
    commits = []
    for folder in sorted(path.parent for path in root.glob("*/_delta_log")):
        if table in (None, folder.name):
            entries = sorted((folder / "_delta_log").glob("[0-9]*.json"), reverse=True)[:limit]
            commits += [_commit(folder.name, entry, names) for entry in entries]
    return sorted(commits, key=lambda commit: (commit.time, commit.version), reverse=True)[:limit]


def _commit(table: str, entry: Path, names: dict[str, str]) -> Commit:
    actions: dict[str, list[dict[str, Any]]] = defaultdict(list)
    for line in entry.read_text(encoding="utf-8").splitlines():
        for kind, action in json.loads(line).items():
            actions[kind].append(action)
    info = actions["commitInfo"][0] if actions["commitInfo"] else {}
    what, who, detail = _told(info, {a["appId"]: a["version"] for a in actions["txn"]}, names, bool(actions["add"]))
    time = dt.datetime.fromtimestamp(info.get("timestamp", 0) / 1000, dt.UTC)
    rows = sum(json.loads(add.get("stats") or "{}").get("numRecords", 0) for add in actions["add"])
    size = sum(add["size"] for add in actions["add"])
    return Commit(
        table, int(entry.stem), time, what, who, rows, len(actions["add"]), len(actions["remove"]), size, detail
    )


def _told(info: dict[str, Any], apps: dict[str, int], names: dict[str, str], adds: bool) -> tuple[str, str, str]:
    """(what, who, detail) of a commit."""
    operation = str(info.get("operation", "")).lower()
    care = next((found for app in apps if (found := _CARE.match(app))), None)
    if care:
        return str(info.get("slipher", "care")), f"{care['night']} {care['model']}", ""
    numbers: dict[str, dict[int, int]] = defaultdict(dict)
    who = set()
    for app, version in apps.items():
        if found := _APP.fullmatch(app):
            who.add(names.get(found["processing"], found["processing"]))
            numbers[found["what"]][int(found["partition"])] = version
    if not numbers:
        if operation == "add column":
            fields = json.loads(info.get("operationParameters", {}).get("fields", "[]"))
            return operation, "", ", ".join(field["name"] for field in fields)
        return operation if operation != "write" else "rows" if adds else "write", "", ""
    lane = "replay " if any(what.startswith("replay-") for what in numbers) and "epoch" not in numbers else ""
    told = {what.removeprefix("replay-") if lane else what: at for what, at in numbers.items()}
    by = ", ".join(sorted(who))
    if "seq" in told:
        return f"{lane}exceptions", by, _places(told["seq"], "seq")
    if "offset" in told and (adds or "start" not in told):
        return f"{lane}rows", by, _places(told["offset"], "to")
    return f"{lane}claim", by, _places(told.get("epoch", {}), "epoch")


def _places(numbers: dict[int, int], word: str) -> str:
    """Partitions with a number each, in a few words."""
    if not numbers:
        return ""
    if len(numbers) > 4 or len(set(numbers.values())) == 1:
        low, high = min(numbers.values()), max(numbers.values())
        what = f"{low}" if low == high else f"{low} ... {high}"
        which = ", ".join(map(str, sorted(numbers))) if len(numbers) <= 4 else f"{len(numbers)} of them"
        return f"partition{'s' if len(numbers) > 1 else ''} {which} {word} {what}"
    return ", ".join(f"partition {p} {word} {n}" for p, n in sorted(numbers.items()))
