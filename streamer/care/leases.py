"""The care lease: one at a time may rewrite what a night holds by one model, and live writers need not stop for it.

Two application ids in the rows table, per night and model:

    slipher/care/<night>/<model>        number of the lease, raised by whoever takes it: an older holder is fenced
    slipher/care/<night>/<model>/done   number of the lease whose rewriting landed last

Take                                                                    invariant kept
 1. refresh, commit number + 1. It may fail: look again                 two holders have two numbers
 2. refresh; the number must be ours. The files of the night as of      what is rewritten is what this version holds
    this version are ours to replace
Replace
 3. commit {number, done} with the new files and the removal of         a holder fenced since then is refused by the log, and
    exactly those files, through a handle of that version, or of a      a file that a late row added meanwhile is not removed
    newer one that holds the same files of the night
 4. ignore the answer, refresh and look: done = ours = landed           a lost answer is neither failure nor success
 5. a holder never unlinks what it staged, once it has tried to         it may have landed before the fence
    commit it
"""

import logging
import time
import uuid
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
from deltalake import CommitProperties, DeltaTable, Transaction
from deltalake.exceptions import CommitFailedError, DeltaError
from deltalake.transaction import AddAction

from schemas.catalogue import ROW_PARTITIONS
from schemas.errors import TroubleError
from streamer.sink.appids import AppIds
from streamer.sink.staging import fsync

log = logging.getLogger(__name__)

TRIES = 50  # a conflict costs milliseconds; an error that stays is none
_PREFIX = "slipher/care"


class LeaseLost(TroubleError):
    """Another command took the care lease of this night: what we staged is not in the table, and nothing else happened."""


def lease_id(night: str, model: str) -> str:
    """Application id of the lease of a night by a model."""
    return f"{_PREFIX}/{night}/{model}"


class Lease:
    """The right to rewrite the rows of `night` by `model`, as of one version of the table.

    Attributes
    ----------
    night, model
        What may be rewritten.
    number
        Of this lease: it only rises.
    table
        Handle of the version whose files may be replaced. Read the rows through it, and never advance it.
    versions
        The table's application ids at that version.
    files
        The night's files at that version: path (below the table's folder), rows, bytes and the flattened statistics.
    """

    def __init__(
        self, root: Path, night: str, model: str, number: int, table: DeltaTable, versions: dict[str, int]
    ) -> None:
        self.root, self.night, self.model, self.number, self.table = root, night, model, number, table
        self.versions = versions
        self.files = live_files(table, night, model)

    def name(self, what: str) -> str:
        """A name, without suffix, for a file to be staged: a sweep can tell from it when no commit can name it any more."""
        return f"care-{what}-n{self.number}-{uuid.uuid4().hex}"

    def replace(
        self,
        adds: list[AddAction],
        about: str,
        also: Callable[[dict[str, int]], dict[str, int]] = lambda versions: {},
    ) -> int:
        """Put `adds` in the place of ``files``, in one commit; returns its version, or a later one.

        Parameters
        ----------
        adds
            Files staged under the rows table's folder; none removes the night's rows.
        about
            A word for the table's history: compact, withdraw.
        also
            Given the application ids at the version that the commit goes through: those that it sets beside the lease's own.

        Raises
        ------
        LeaseLost
            Another holder came, something else rewrote these files, or late rows and another change of the table came both:
            they stand as they were.
        TroubleError
            The table accepts no commit.
        """
        handle, versions = self.table, self.versions
        error: Exception | None = None
        before = handle.version()
        for _ in range(TRIES):
            error = None
            try:
                _commit(handle, adds, self, about, also(versions))
            except (CommitFailedError, DeltaError, OSError) as failure:
                error = failure
                log.debug("replacement not confirmed, looking again: %s", failure)
            ids = AppIds(DeltaTable(str(self.root / "rows")), self.root / "rows")
            ids.refresh()
            app = lease_id(self.night, self.model)
            if ids.get(f"{app}/done") == self.number:
                sync_log(self.root / "rows", before, ids.table.version())
                return int(ids.table.version())
            if ids.get(app) != self.number:
                raise LeaseLost(
                    f"Another command took over the night {self.night} by {self.model}; this one changed nothing there."
                )
            # The lease is ours still: the conflict was another one, such as a column added.
            now = set(live_files(ids.table, self.night, self.model)["path"].to_pylist())
            mine = set(self.files["path"].to_pylist())
            if mine - now:
                raise LeaseLost(
                    f"Something else rewrote the night {self.night} by {self.model} meanwhile; this command changed nothing."
                )
            if now == mine:
                handle, versions = ids.table, ids.versions
            elif isinstance(error, CommitFailedError):
                # A newer handle would remove the late rows too, and through this one the log will always refuse it.
                raise LeaseLost(
                    f"Late rows came to the night {self.night} by {self.model} while the table changed in another way "
                    f"({error}). This command changed nothing; run it again."
                )
            time.sleep(0.01)
        raise TroubleError(f"{self.root / 'rows'} accepts no commit after {TRIES} tries: {error}. Nothing was changed.")


def take(root: Path, night: str, model: str) -> Lease:
    """Take the care lease of `night` by `model` in the catalogue at `root`. An earlier holder is fenced by it.

    Raises
    ------
    TroubleError
        The table accepts no commit, or others take the lease over and over.
    """
    table = DeltaTable(str(root / "rows"))
    ids = AppIds(table, root / "rows")
    app = lease_id(night, model)
    error: Exception | None = None
    for _ in range(TRIES):
        ids.refresh()
        number = (ids.get(app) or 0) + 1
        before = table.version()
        try:
            properties = CommitProperties(
                app_transactions=[Transaction(app, number)], custom_metadata={"slipher": "care lease"}
            )
            table.create_write_transaction(
                [], "append", table.schema(), partition_by=list(ROW_PARTITIONS), commit_properties=properties
            )
        except (CommitFailedError, DeltaError, OSError) as failure:
            # Whether it landed after all does not matter: a number that two might think theirs is never used.
            error = failure
            time.sleep(0.01)
            continue
        ids.refresh()
        sync_log(root / "rows", before, table.version())
        if ids.get(app) == number:
            return Lease(root, night, model, number, table, dict(ids.versions))
    raise TroubleError(f"The care lease of {night} by {model} cannot be had after {TRIES} tries: {error}.")


def live_files(table: DeltaTable, night: str, model: str) -> pa.Table:
    """The files of `night` by `model` at the version of `table`: path, rows, bytes, and what the log knows of their columns."""
    actions = pa.table(table.get_add_actions(flatten=True))
    mine = pc.and_(
        pc.equal(actions["partition.night"].cast(pa.string()), night),
        pc.equal(actions["partition.model"].cast(pa.string()), model),
    )
    return actions.filter(mine).rename_columns({"num_records": "rows", "size_bytes": "bytes"})


def sync_log(folder: Path, before: int, after: int) -> None:
    """Make the log entries (before, after] survive a power cut: a truncated one makes the table unreadable."""
    entries = folder / "_delta_log"
    for version in range(before + 1, after + 1):
        with suppress(FileNotFoundError):  # cleaned up: a checkpoint holds it
            fsync(entries / f"{version:020d}.json")
    fsync(entries)


def _commit(handle: DeltaTable, adds: list[AddAction], lease: Lease, about: str, also: dict[str, int]) -> None:
    app = lease_id(lease.night, lease.model)
    numbers = {app: lease.number, f"{app}/done": lease.number} | also
    transactions = [Transaction(name, number) for name, number in numbers.items()]
    handle.create_write_transaction(
        adds,
        "overwrite",
        handle.schema(),
        partition_by=list(ROW_PARTITIONS),
        partition_filters=[("night", "=", lease.night), ("model", "=", lease.model)],
        commit_properties=CommitProperties(app_transactions=transactions, custom_metadata={"slipher": about}),
    )
