"""The manifest: which files, of which content, and which record of which file is offset o of partition p. Frozen, then hashed.

Its hash is the topic id. A *piece* is a stretch of a file; a *shard*, which is what Kafka calls a partition, is a large piece, or
small ones one after the other: a night of a hundred thousand files is no hundred thousand partitions.
"""

import hashlib
import json
import os
from bisect import bisect_right
from collections.abc import Iterable, Sequence
from functools import cached_property
from pathlib import Path
from typing import NamedTuple

from schemas.errors import UserError
from streamer.backfill.at_rest import Kind, Stretch

CLUSTER = "files"  # in place of a Kafka cluster's id
SHARD_BYTES = 256 << 20  # small pieces are put together up to these
SHARD_MESSAGES = 100_000


class Entry(NamedTuple):
    """A file of the manifest.

    Attributes
    ----------
    name
        From the folder that all files have in common.
    size
        Bytes.
    sha256
        Of its content, hex.
    kind
        See ``kinds``.
    """

    name: str
    size: int
    sha256: str
    kind: Kind


class Piece(NamedTuple):
    """Offsets of a partition, and where they are.

    Attributes
    ----------
    partition, offset
        Of its first message.
    file
        Number of its file in the manifest.
    stretch
        Of that file.
    record
        Number of its first message in that file.
    """

    partition: int
    offset: int
    file: int
    stretch: Stretch
    record: int

    @property
    def end(self) -> int:
        """One past its last offset."""
        return self.offset + self.stretch.messages


class Place(NamedTuple):
    """Where a message stands: record number `record`, from 0, of `file`."""

    file: str
    record: int


class Manifest:
    """Files in order, and their pieces in order of partition and offset. Never changes.

    Parameters
    ----------
    files, pieces
        Each file has a piece at least.
    """

    def __init__(self, files: Sequence[Entry], pieces: Sequence[Piece]) -> None:
        self.files, self.pieces = tuple(files), tuple(pieces)
        self.shards: dict[int, list[Piece]] = {}
        for piece in self.pieces:
            self.shards.setdefault(piece.partition, []).append(piece)

    @cached_property
    def topic_id(self) -> str:
        """32 hex digits of the hash of everything in it."""
        said = [[*map(list, self.files)], [[p.partition, p.offset, p.file, *p.stretch, p.record] for p in self.pieces]]
        return hashlib.sha256(json.dumps(said, separators=(",", ":")).encode()).hexdigest()[:32]

    @cached_property
    def ends(self) -> dict[int, int]:
        """Messages of each shard."""
        return {p: pieces[-1].end for p, pieces in self.shards.items()}

    @property
    def messages(self) -> int:
        """Of all shards."""
        return sum(self.ends.values())

    @property
    def nbytes(self) -> int:
        """Of all files."""
        return sum(entry.size for entry in self.files)

    def where(self, partition: int, offset: int) -> Place:
        """What offset `offset` of `partition` is.

        Raises
        ------
        KeyError
            There is no such partition or offset.
        """
        pieces = self.shards[partition]
        if not 0 <= offset < self.ends[partition]:
            raise KeyError(offset)
        k = bisect_right(pieces, offset, key=lambda piece: piece.offset) - 1
        while offset >= pieces[k].end:  # a file without messages begins at the same offset
            k -= 1
        return Place(self.files[pieces[k].file].name, pieces[k].record + offset - pieces[k].offset)

    def files_of(self, partitions: Iterable[int]) -> list[int]:
        """Numbers of the files that `partitions` are in."""
        return sorted({piece.file for p in partitions for piece in self.shards[p]})


def assembled(found: Iterable[tuple[Entry, Sequence[Stretch]]]) -> Manifest:
    """The manifest of files and their stretches, in this order."""
    files: list[Entry] = []
    pieces: list[Piece] = []
    partition, offset, nbytes = 0, 0, 0
    for entry, stretches in found:
        record = 0
        for stretch in stretches:
            size = entry.size // len(stretches)
            full = nbytes + size > SHARD_BYTES or offset + stretch.messages > SHARD_MESSAGES
            if pieces and full and offset:
                partition, offset, nbytes = partition + 1, 0, 0
            pieces.append(Piece(partition, offset, len(files), stretch, record))
            offset, record, nbytes = offset + stretch.messages, record + stretch.messages, nbytes + size
        files.append(entry)
    return Manifest(files, pieces)


def gathered(given: Sequence[Path]) -> tuple[Path, list[str]]:
    """The folder that `given` files and folders have in common, and the names of all files from there, sorted.

    What begins with a dot is left out of folders.

    Raises
    ------
    UserError
        One is missing, or there is no file in them.
    """
    missing = [path for path in given if not path.exists()]
    if missing:
        raise UserError(f"There is no file or folder {missing[0]}.")
    paths = sorted({Path(os.path.abspath(path)) for path in given})  # links keep their names
    folder = Path(os.path.commonpath([path.parent for path in paths]))
    found: set[Path] = set()
    for path in paths:
        found |= set(_walk(path)) if path.is_dir() else {path}
    names = sorted(path.relative_to(folder).as_posix() for path in found)
    if not names:
        raise UserError(f"There is no file in {', '.join(map(str, given))}.")
    return folder, names


def default_name(given: Sequence[Path]) -> str:
    """What the files are called: the name of the only one, or of the folder that they are in."""
    paths = sorted({Path(os.path.abspath(path)) for path in given})
    if len(paths) == 1:
        return paths[0].name if paths[0].is_dir() else paths[0].name.split(".")[0] or paths[0].name
    return Path(os.path.commonpath([path.parent for path in paths])).name or CLUSTER


def _walk(folder: Path) -> Iterable[Path]:
    for where, folders, names in os.walk(folder):
        folders[:] = [name for name in folders if not name.startswith(".")]
        yield from (Path(where) / name for name in names if not name.startswith("."))
