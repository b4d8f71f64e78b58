"""A source of files at rest: the shards of a frozen manifest are its partitions, the number of a record is its offset."""

import logging
import time
from collections.abc import Callable, Iterator, Sequence

import numpy as np

from schemas.batch import Messages
from streamer.backfill.at_rest import Changed, Fault, FileAtRest, Item
from streamer.backfill.freeze import Archive
from streamer.backfill.kinds import Manner, items, miscounted
from streamer.source.contract import Callbacks

log = logging.getLogger(__name__)

BATCH_MESSAGES = 20_000
BATCH_BYTES = 8 << 20  # a packet has 60 kB: fewer would leave the kernels little to do at a time
CLAIM_SHARDS = 64  # claimed together: a claim costs two commits, however many they are
STEPS = 64  # stepped over before the engine is asked whether to go on


class FilesSource:
    """A ``Source`` over shards of an archive, one after the other. There is no group: who is given a shard reads all of it.

    Attributes
    ----------
    faults, names
        What a batch cannot say, by partition and offset: why there is no message, and the name of a member of a tarball.
        Whoever has worked on them takes them out.
    stopped
        Shards that are not read to their end, and why.

    Parameters
    ----------
    archive
        The files.
    shards
        Those to read, in this order.
    manner
        How.
    wait
        Sleeps for some seconds.
    """

    bytes_read = 0  # who has the files knows their sizes

    def __init__(
        self, archive: Archive, shards: Sequence[int], manner: Manner, wait: Callable[[float], None] = time.sleep
    ) -> None:
        self._archive, self._manner, self._wait = archive, manner, wait
        self._ends = archive.manifest.ends
        self._left = list(shards)
        self._due: set[int] = set()  # shards that the engine was told of and that are not read to their end
        self._positions: dict[int, int] = {}  # of those that are claimed
        self._open: Reading | None = None
        self.faults: dict[tuple[int, int], Fault] = {}
        self.names: dict[tuple[int, int], str] = {}
        self.stopped: dict[int, str] = {}

    def start(self, callbacks: Callbacks) -> None:
        """Shards are claimed when they are due."""
        self._callbacks = callbacks

    def poll(self, seconds: float) -> Messages | None:
        """The next batch, of one shard: up to `BATCH_MESSAGES` messages or about `BATCH_BYTES`; None where there is none yet."""
        if self._open is None:
            partition = self._next()
            if partition is None:  # all is read, or the claim takes its time
                self._wait(seconds)
                return None
            self._open = Reading(self._archive, partition, self._positions[partition], self._manner)
        reading = self._open
        try:
            found = reading.batch()
        except Changed as error:
            self._stop(reading.partition, str(error))
            return None
        start = self._positions[reading.partition]
        end = start + len(found)
        self._positions[reading.partition] = end
        if end >= self._ends[reading.partition]:
            self._done(reading.partition)
        return self._columns(reading.partition, start, found) if found else None

    @property
    def at_end(self) -> bool:
        """True where all shards were read to their end, or stopped."""
        return not self._left and not self._due

    @property
    def member(self) -> bool:
        """There is no group to wait for."""
        return True

    def hint(self, durable: dict[int, int]) -> None:
        """Nobody wants to know."""

    def keep_alive(self) -> None:
        """There is no membership to keep."""

    def resume(self, positions: dict[int, int]) -> None:
        """Read claimed shards on, or at last, from `positions`."""
        if self._open is not None and self._open.partition in positions:
            self._close()
        for p, at in positions.items():
            if at >= self._ends[p] or p in self.stopped:
                self._done(p)
            else:
                self._due.add(p)
                self._positions[p] = at

    def close(self, seconds: float) -> None:
        """Close the file."""
        self._close()

    def _next(self) -> int | None:
        """A claimed shard that is to be read."""
        if not self._due and self._left:
            due, self._left = self._left[:CLAIM_SHARDS], self._left[CLAIM_SHARDS:]
            self._due.update(due)
            self.resume(self._callbacks.assigned(due))
        return next(iter(self._positions), None)

    def _stop(self, partition: int, text: str) -> None:
        offset = self._positions[partition]
        log.error(
            "shard %d stops at offset %d: %s", partition, offset, text, extra={"partition": partition, "offset": offset}
        )
        self.stopped[partition] = text
        self._done(partition)

    def _done(self, partition: int) -> None:
        if self._open is not None and self._open.partition == partition:
            self._close()
        self._due.discard(partition)
        self._positions.pop(partition, None)

    def _close(self) -> None:
        if self._open is not None:
            self._open.close()
            self._open = None

    def _columns(self, partition: int, start: int, found: list[Item]) -> Messages:
        n = len(found)
        for offset, item in enumerate(found, start):
            if item.fault is not None:
                self.faults[partition, offset] = item.fault
            if item.name:
                self.names[partition, offset] = item.name
        return Messages(
            payloads=[item.payload for item in found],
            partition=np.full(n, partition, np.int32),
            offset=np.arange(start, start + n),
            timestamp_ms=np.full(n, -1, np.int64),  # a file has no time of its messages: nights are those of events
            ends={partition: start + n},
            starts={partition: start},
        )


class Reading:
    """One shard that is being read.

    Parameters
    ----------
    archive, manner
        As in ``FilesSource``.
    partition, position
        The shard, and the first offset that is wanted.
    """

    def __init__(self, archive: Archive, partition: int, position: int, manner: Manner) -> None:
        self.partition = partition
        self._archive, self._manner = archive, manner
        self._file: FileAtRest | None = None
        self._items = self._all(position)

    def batch(self) -> list[Item]:
        """The next messages; none while it is stepping over others, or at the end.

        Raises
        ------
        Changed
            A file is not that of the manifest: what was read of it since the last batch is not to be believed.
        """
        found: list[Item] = []
        room, steps = BATCH_BYTES, STEPS
        while room > 0 and steps > 0 and len(found) < BATCH_MESSAGES:
            item = next(self._items, _END)
            if item is _END:
                break
            if item is None:
                steps -= 1
                continue
            assert isinstance(item, Item)
            found.append(item)
            room -= len(item.payload or b"")
        if self._file is not None:
            self._file.check()
        return found

    def close(self) -> None:
        """Close the file."""
        self._items.close()  # type: ignore[attr-defined]

    def _all(self, position: int) -> Iterator[Item | None]:
        manifest = self._archive.manifest
        for piece in manifest.shards[self.partition]:
            if piece.end <= position:
                continue
            if piece.file in self._archive.changed:
                raise Changed(self._archive.changed[piece.file])
            entry, read = manifest.files[piece.file], max(position - piece.offset, 0)
            with FileAtRest(self._archive.folder / entry.name, self._archive.looks[piece.file]) as self._file:
                for item in items(self._file, entry.kind, piece.stretch, piece.record, read, self._manner):
                    read += item is not None
                    if read > piece.stretch.messages:
                        break
                    yield item
                self._file.check()
                if read != piece.stretch.messages:
                    raise miscounted(self._file.path, piece.stretch.messages, read)
            self._file = None


_END = object()
