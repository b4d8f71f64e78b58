"""Vacuum: deletes files that no version of the last day names, and none that a sleeping writer may yet commit.

Two kinds of files are of no use: those that a compaction or a withdrawal replaced (the log names them still: Delta's lite
vacuum), and those that a writer staged and never committed. Of the latter Delta's full vacuum takes all that are old, and a
writer that was suspended for a day then commits names of nothing: the table cannot be read any more. So only those go whose
name carries an epoch, or the number of a lease, that has been superseded: the fence refuses their commit for ever.
"""

import logging
import re
import shutil
import time
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

from deltalake import DeltaTable
from deltalake.exceptions import CommitFailedError, DeltaError, TableNotFoundError

from schemas.errors import TroubleError
from streamer.care.leases import lease_id
from streamer.sink.appids import AppIds, app_id

log = logging.getLogger(__name__)

TRIES = 5  # of a table that others commit to
KEEP_HOURS = 24.0  # readers of an older version are given so long
_LANES = {
    "e": "epoch",
    "r": "replay-epoch",
}  # the letter before the epoch in a name, and the application id of that epoch
_WRITER = re.compile(
    r"(?P<processing>[^-]+)-(?P<topic>.+)-p(?P<partition>\d+)-(?P<lane>[er])(?P<epoch>\d+)-[0-9a-f]{32}"
)
_CARE = re.compile(r"care-\w+-n(?P<number>\d+)-[0-9a-f]{32}")
_FOLDERS = re.compile(r"night=(?P<night>[^/]+)/model=(?P<model>[^/]+)/")


class Swept(NamedTuple):
    """What a vacuum of one table deleted, or would.

    Attributes
    ----------
    table
        Its name.
    replaced, staged
        Files of either kind, paths below the table's folder.
    waiting
        Staged files that are left: their writer may live and sleep.
    bytes
        Of `replaced` and `staged`.
    """

    table: str
    replaced: list[str]
    staged: list[str]
    waiting: list[str]
    bytes: int


def vacuum(root: Path, keep_hours: float = KEEP_HOURS, dry_run: bool = False) -> list[Swept]:
    """Clean up all tables of the catalogue at `root`; safe beside live, sleeping and dying writers.

    Parameters
    ----------
    root
        The catalogue's directory.
    keep_hours
        Files replaced or staged within so many hours stay.
    dry_run
        Only say what would go.

    Raises
    ------
    TroubleError
        A table accepts no commit, or a file cannot be deleted.
    """
    out = []
    for folder in sorted(path.parent for path in root.glob("*/_delta_log")):
        try:
            out.append(_again(folder, keep_hours, dry_run))
        except TableNotFoundError:
            continue
        except (DeltaError, CommitFailedError, OSError) as error:
            raise TroubleError(f"{folder} cannot be vacuumed: {error}. Nothing that is needed was deleted.") from error
    if not dry_run:
        _forget_scratch(root, keep_hours)
    return out


def superseded(path: str, ids: Mapping[str, int]) -> bool:
    """Whether the writer of the staged file at `path`, below its table's folder, is fenced for ever, as `ids` stand."""
    folders, name = _FOLDERS.search(path), path.rsplit("/", 1)[-1].removesuffix(".parquet")
    if found := _WRITER.fullmatch(name):
        what = _LANES[found["lane"]]
        app = app_id(found["processing"], found["topic"], int(found["partition"]), what)
        return ids.get(app, 0) > int(found["epoch"])
    if (found := _CARE.fullmatch(name)) and folders:
        app = lease_id(folders["night"], folders["model"])
        return ids.get(app, 0) > int(found["number"])
    return False  # not a name of ours


def _again(folder: Path, keep_hours: float, dry_run: bool) -> Swept:
    """Once more where a column was added, or a night rewritten, under it."""
    for _ in range(TRIES - 1):
        with suppress(CommitFailedError):
            return _vacuum(folder, keep_hours, dry_run)
    return _vacuum(folder, keep_hours, dry_run)


def _vacuum(folder: Path, keep_hours: float, dry_run: bool) -> Swept:
    hours = int(keep_hours)
    table = DeltaTable(str(folder))
    # The ids are those of the version whose files are spared: what is superseded there no later version can name.
    ids = AppIds(table, folder)
    ids.refresh()
    listed = table.vacuum(hours, dry_run=True, enforce_retention_duration=False)
    replaced = [path for path in listed if (folder / path).exists()]  # the log remembers them for a week
    unnamed = set(table.vacuum(hours, dry_run=True, enforce_retention_duration=False, full=True)) - set(listed)
    staged = sorted(path for path in unnamed if superseded(path, ids.versions))
    staged = [path for path in staged if _age_hours(folder / path) >= keep_hours]
    size = sum((folder / path).stat().st_size for path in [*replaced, *staged])
    if not dry_run:
        for path in staged:
            (folder / path).unlink(missing_ok=True)
        if replaced:
            table.vacuum(hours, dry_run=False, enforce_retention_duration=False)
    return Swept(folder.name, sorted(replaced), staged, sorted(unnamed - set(staged)), size)


def _age_hours(path: Path) -> float:
    try:
        return (time.time() - path.stat().st_mtime) / 3600
    except FileNotFoundError:
        return 0.0


def _forget_scratch(root: Path, keep_hours: float) -> None:
    """Spilled rows of compactions that were killed: a running one is younger than the hours kept, or writes there."""
    for folder in root.glob(".compacting-*"):
        if min(_age_hours(path) for path in [folder, *folder.rglob("*")]) >= max(keep_hours, 1.0):
            shutil.rmtree(folder, ignore_errors=True)
