"""What the rows table says: how far each reader has come, and when it came there. Read from the log, an entry at a time.

The table itself is never opened: of its log only the transactions and the times of the commits are wanted, and a look costs
the entries that are new.
"""

import json
import time
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import NamedTuple

import pyarrow.parquet as pq

from schemas.errors import TroubleError, UserError
from streamer.catalogue import Catalogue, open_catalogue
from streamer.lag.readers import Reader, Who, app_parts, readers
from streamer.lag.retired import Mark, marks, still_retired

PAST_SECONDS = (
    0.5  # spent on reading backwards at most: some thousand entries on a disk, a few dozen in an object store
)


class Entry(NamedTuple):
    """One commit: its version, when it was made (seconds since 1970 UTC, by the clock of who made it), its transactions."""

    version: int
    at: float | None
    ids: dict[str, int]


class LogTail:
    """Follows the log of a Delta table.

    Parameters
    ----------
    folder
        The table's directory.
    """

    def __init__(self, folder: Path) -> None:
        self._log = folder / "_delta_log"
        self.version = -1

    def lost(self) -> bool:
        """Whether the entry that was read last is no more: the table is away, or was put back to an older one.

        An entry that a checkpoint stands for may have been cleaned up; that is no loss.
        """
        return self.version >= 0 and not self._path(self.version).exists() and self._checkpoint() < self.version

    def new(self) -> Iterator[Entry]:
        """Entries since the last call; those that a checkpoint stands for come as one, without a time.

        Raises
        ------
        TroubleError
            The log cannot be read, or an entry is not whole.
        """
        try:
            if self.version < 0 or not self._path(self.version + 1).exists():
                newest = self._checkpoint()
                if newest > self.version:  # the first look, or the entries before it were cleaned up while we slept
                    yield Entry(newest, None, self._checkpointed(newest))
                    self.version = newest
            while (entry := self._entry(self.version + 1)) is not None:
                self.version = entry.version
                yield entry
            if self.version < 0:
                raise TroubleError(f"{self._log.parent} has no log: is its disk mounted?")
        except OSError as error:
            raise TroubleError(f"{self._log} cannot be read ({error.strerror or error}).") from None

    def past(self, since: float) -> list[Entry]:
        """Entries that were made after `since`, and the one before them, oldest first: of those that are still there, as many
        as can be read in `PAST_SECONDS`."""
        out: list[Entry] = []
        version, deadline = self.version, time.monotonic() + PAST_SECONDS
        while version >= 0 and time.monotonic() < deadline and (entry := self._entry(version)) is not None:
            out.append(entry)
            if entry.at is not None and entry.at < since:
                break
            version -= 1
        return out[::-1]

    def _path(self, version: int) -> Path:
        return self._log / f"{version:020d}.json"

    def _entry(self, version: int) -> Entry | None:
        try:
            lines = self._path(version).read_bytes().splitlines()
        except FileNotFoundError:
            return None
        at, ids = None, {}
        wanted = [
            line for line in lines if line.startswith((b'{"txn"', b'{"commitInfo"'))
        ]  # not what it adds: most of it
        try:
            for action in json.loads(b"[%s]" % b",".join(wanted)):  # in one call: a commit may move 1,000 partitions
                if transaction := action.get("txn"):
                    ids[transaction["appId"]] = transaction["version"]
                elif made := action.get("commitInfo"):
                    at = made["timestamp"] / 1e3
        except (ValueError, KeyError):
            raise TroubleError(f"{self._path(version)} is torn: `slipher catalog verify` says what to do.") from None
        return Entry(version, at, ids)

    def _checkpoint(self) -> int:
        try:
            return int(json.loads((self._log / "_last_checkpoint").read_text())["version"])
        except FileNotFoundError:
            return -1

    def _checkpointed(self, version: int) -> dict[str, int]:
        with (self._log / f"{version:020d}.checkpoint.parquet").open("rb") as checkpoint:
            transactions = pq.read_table(checkpoint, columns=["txn"])["txn"]
        return {t["appId"]: t["version"] for t in transactions.drop_null().to_pylist()}


class Moves(NamedTuple):
    """Where a partition stood, over time: commit times (seconds since 1970 UTC) and next offsets, oldest first."""

    at: list[float]
    offset: list[int]


class TableReading:
    """Positions of the readers of a catalogue, as new entries of its log move them.

    Parameters
    ----------
    catalogue
        As it was opened; a topic or model that is registered later is found.
    topic, model
        Only these; None is all.

    Attributes
    ----------
    durable
        Next offset by (reader, partition), whoever is retired.
    retired
        Readers that a person has retired, and that have written nothing since.
    written
        When the last commit moved it, seconds since 1970 UTC; not there where that is older than the entries that were read.
    alive
        When a reader last committed or claimed anything.
    since
        From when on every commit was read: what is not in `written` moved before.
    """

    def __init__(self, catalogue: Catalogue, topic: str | None = None, model: str | None = None) -> None:
        self.root, self._topic, self._model = catalogue.root, topic, model
        self._tail = LogTail(self.root / "rows")
        self.durable: dict[tuple[Reader, int], int] = {}
        self.written: dict[tuple[Reader, int], float] = {}
        self.alive: dict[Reader, float] = {}
        self.since: float | None = None
        self.retired: list[Reader] = []
        self._doubtful = True  # whether those have to be found anew
        self._keys: dict[str, tuple[Reader, int, str] | None] = {}
        self._ids: dict[str, int] = {}
        self._versions: dict[str, int] = {}  # empty: what is known of readers is to be read again
        self._know(catalogue)

    def refresh(self) -> None:
        """Read what is new; of a table that was put back to an older one, all.

        Raises
        ------
        TroubleError
            The table cannot be read, or is not there any more.
        """
        try:
            if self._tail.lost():
                self._tail = LogTail(self.root / "rows")
                self._ids, self.durable, self._versions = {}, {}, {}
            elif any(self._moved(name) for name in self._versions):
                self._know_again()
            for entry in self._tail.new():
                self._ids.update(entry.ids)
                self._take(entry)
            if not self._versions:
                self._know_again()
        except OSError as error:
            raise TroubleError(f"{self.root} cannot be read ({error.strerror or error}).") from None
        if self._doubtful:
            out = still_retired(self._marks, self._ids)
            self.retired = [reader for who, reader in self._readers.items() if who in out]
            self._doubtful = False

    def positions(self) -> dict[Reader, dict[int, int]]:
        """Next offset by partition of each reader that is not retired, the reader that was bound last at the end."""
        out: dict[Reader, dict[int, int]] = {reader: {} for reader in self._readers.values()}
        for (reader, partition), offset in self.durable.items():
            out[reader][partition] = offset
        return {reader: held for reader, held in out.items() if held and reader not in self.retired}

    def past(self, since: float) -> dict[tuple[Reader, int], Moves]:
        """How the partitions moved from `since` on, where the log still says so; to be called once, after ``refresh``."""
        entries = self._tail.past(since)
        out: dict[tuple[Reader, int], Moves] = {}
        for entry in entries:
            if entry.at is None:
                continue
            self.since = entry.at if self.since is None else self.since
            self._take(entry, remember=False)
            for app, version in entry.ids.items():
                key = self._key(app)
                if key is not None and key[2] == "offset":
                    moves = out.setdefault(key[:2], Moves([], []))
                    moves.at.append(entry.at)
                    moves.offset.append(version)
        return out

    def let_go(self, gone: Collection[Reader]) -> None:
        """Forget when readers wrote whose topics are gone. Where they stood is kept: such a topic may be there again."""
        if not gone:
            return
        self.alive = {reader: at for reader, at in self.alive.items() if reader not in gone}
        self.written = {key: at for key, at in self.written.items() if key[0] not in gone}
        self._keys = {app: key for app, key in self._keys.items() if key is not None and key[0] not in gone}

    def _take(self, entry: Entry, remember: bool = True) -> None:
        for app, version in entry.ids.items():
            key = self._key(app)
            if key is None:
                continue
            reader, partition, what = key
            self._doubtful |= bool(self._marks) and reader.who in self._marks
            if entry.at is not None:
                self.alive[reader] = max(entry.at, self.alive.get(reader, 0.0))
            if what == "offset":
                if entry.at is not None:
                    self.written[reader, partition] = entry.at
                if remember:
                    self.durable[reader, partition] = version
            elif what == "start" and remember:
                self.durable.setdefault((reader, partition), version)

    def _key(self, app: str) -> tuple[Reader, int, str] | None:
        """Reader, partition and name of an application id; None where it is not of a reader that is looked at."""
        if app not in self._keys:
            parts = app_parts(app)
            reader = self._readers.get(parts[0]) if parts else None
            self._keys[app] = (reader, parts[1], parts[2]) if parts and reader else None
        return self._keys[app]

    def _know(self, catalogue: Catalogue) -> None:
        self._versions = {name: catalogue.version(name) for name in ("models", "topics", "operations")}
        self._readers: dict[Who, Reader] = readers(catalogue, self._topic, self._model)
        self._marks: dict[Who, Mark] = marks(catalogue.operations())
        self._doubtful = True

    def _know_again(self) -> None:
        try:
            self._know(open_catalogue(self.root))
        except UserError as error:  # nobody's mistake: it was there when we began
            raise TroubleError(str(error)) from None
        self._keys, self.durable = {}, {}
        self._take(Entry(self._tail.version, None, self._ids))

    def _moved(self, name: str) -> bool:
        return (self.root / name / "_delta_log" / f"{self._versions[name] + 1:020d}.json").exists()
