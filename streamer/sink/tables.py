"""The two tables of the protocol as one worker holds them: a handle and the application ids of each, and the swap."""

import logging
import time
import uuid
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pyarrow.compute as pc
from deltalake import CommitProperties, DeltaTable, Transaction
from deltalake.exceptions import CommitFailedError, DeltaError
from deltalake.transaction import AddAction

from schemas.batch import Int64
from schemas.catalogue import ROW_PARTITIONS
from schemas.errors import TroubleError
from streamer.metrics.names import Stage
from streamer.observer import Observer
from streamer.sink.appids import AppIds, app_id
from streamer.sink.datasets import dataset
from streamer.sink.entries import Identity
from streamer.sink.settled import Settled
from streamer.sink.staging import fsync

log = logging.getLogger(__name__)

SWAP_TRIES = (
    200  # a conflict costs milliseconds and the winner is another worker's success; an error that stays is no conflict
)
UNSYNCED = 100  # entries that may not be fsynced yet: a checkpoint every 20 holds those before


class Lane(NamedTuple):
    """A way into the tables with its own owners: what runs in one lane never fences the other.

    Attributes
    ----------
    prefix
        Of the names of its numbers among the application ids.
    letter
        Before the epoch in the names of its files.
    """

    prefix: str
    letter: str


LIVE = Lane("", "e")
REPLAY = Lane("replay-", "r")  # replays and retries: one at a time for each processing, topic and partition


class Fenced(Exception):
    """These partitions have another owner; their part of the batch is not ours to write."""

    def __init__(self, partitions: Iterable[int]) -> None:
        self.partitions = set(partitions)
        super().__init__(sorted(self.partitions))


class Claim:
    """One partition as its owner remembers it. `end`: where a replay ends; a live worker's partition has no end."""

    def __init__(self, epoch: int, seq: int, position: int, settled: Settled, end: int | None = None) -> None:
        self.epoch, self.seq, self.position, self.settled, self.end = epoch, seq, position, settled, end


class Tables:
    """R and E through one handle each, in one lane.

    Parameters
    ----------
    root
        Directory of the catalogue.
    identity
        Processing and topic.
    lane
        Whose numbers these are.
    now_ms
        The clock: ms since 1970 UTC.
    point
        Called with the number of each step; tests make it kill, stop or lie.

    Attributes
    ----------
    observer
        Told of each file and each entry; the engine's.
    """

    observer = Observer()

    def __init__(
        self, root: Path, identity: Identity, lane: Lane, now_ms: Callable[[], int], point: Callable[[int], None]
    ) -> None:
        self.root, self.identity, self.lane, self.now_ms, self.point = root, identity, lane, now_ms, point
        self.rows, self.exceptions = DeltaTable(str(root / "rows")), DeltaTable(str(root / "exceptions"))
        self.in_rows, self.in_exceptions = (
            AppIds(self.rows, root / "rows"),
            AppIds(self.exceptions, root / "exceptions"),
        )
        self.own: dict[int, Claim] = {}
        self._last_error: Exception | None = None
        self._synced = {"rows": -1, "exceptions": -1}  # versions up to which the logs survive a power cut

    def position(self, partition: int) -> int:
        """Every offset below it is settled (of a replay: every one from the beginning of its region on)."""
        offset = self.in_rows.get(self._app(partition, "offset"))
        return offset if offset is not None else self._get(self.in_rows, partition, "start")

    def discard(self, partitions: Iterable[int]) -> None:
        """Stop owning `partitions`. Always safe."""
        for p in list(partitions):
            self.own.pop(p, None)

    def _swap(self, table: DeltaTable, adds: list[AddAction], ids: dict[str, int]) -> bool:
        """One commit through `table`, whose version must be that of the comparison. True where it surely landed."""
        by = list(ROW_PARTITIONS) if table is self.rows else []
        transactions = [Transaction(app, version) for app, version in ids.items()]
        try:
            with self.observer.timed(Stage.COMMIT):
                table.create_write_transaction(
                    adds,
                    "append",
                    table.schema(),
                    partition_by=by,
                    commit_properties=CommitProperties(app_transactions=transactions),
                )
            return True
        except (CommitFailedError, DeltaError, OSError) as error:
            log.debug("commit not confirmed, looking again: %s", error)
            self.observer.conflict()
            self._last_error = error
            time.sleep(0.002)  # gives the winner's log entry time to be readable; correctness does not rest on it
            return False

    def _stuck(self, name: str) -> TroubleError:
        text = f"{self.root / name} accepts no commit after {SWAP_TRIES} tries: {self._last_error}."
        return TroubleError(f"{text} Nothing is lost: start again when it can be written.")

    def _fsync_log(self, name: str, after: int) -> None:
        """Make the log up to version `after` survive a power cut, others' entries too: a truncated one breaks the table.

        What a killed worker left is not fsynced, and our own entries stand on it: only the last of all may ever be torn.
        """
        folder = self.root / name / "_delta_log"
        for version in range(max(self._synced[name], after - UNSYNCED) + 1, after + 1):
            for kind in ("json", "checkpoint.parquet"):
                with suppress(
                    FileNotFoundError
                ):  # no checkpoint is due, or the entry was cleaned up: a checkpoint holds it
                    fsync(folder / f"{version:020d}.{kind}")
        fsync(folder)
        self._synced[name] = after

    def _standing(self, bounds: dict[int, tuple[int, int]]) -> Iterator[tuple[int, Int64, Int64]]:
        """(partition, offsets, rows in message) of the rows of R inside [start, end) of each partition, a piece at a time."""
        where = (pc.field("processing_id") == self.identity.processing_id) & (
            pc.field("topic_id") == self.identity.topic_id
        )
        where &= pc.field("kafka_partition").isin(sorted(bounds))
        where &= pc.field("kafka_offset") >= min(a for a, _ in bounds.values())
        where &= pc.field("kafka_offset") < max(b for _, b in bounds.values())
        keys = ["kafka_partition", "kafka_offset", "kafka_row"]
        for batch in dataset(self.rows, self.root / "rows").to_batches(columns=keys, filter=where):
            partition, offset, row = (batch[key].to_numpy().astype(np.int64) for key in keys)
            for p in np.unique(partition).tolist():
                inside = (partition == p) & (offset >= bounds[p][0]) & (offset < bounds[p][1])
                yield p, offset[inside], row[inside]

    def _app(self, partition: int, what: str, lane: Lane | None = None) -> str:
        lane = lane or self.lane
        return app_id(self.identity.processing_id, self.identity.topic_id, partition, lane.prefix + what)

    def _get(self, ids: AppIds, partition: int, what: str) -> int:
        return ids.get(self._app(partition, what)) or 0

    def _name(self, partition: int) -> str:
        who, epoch = self.identity, self.own[partition].epoch
        return f"{who.processing_id}-{who.topic_id}-p{partition}-{self.lane.letter}{epoch}-{uuid.uuid4().hex}"
