"""A file at rest: bytes that must not change while they are read."""

import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Literal, NamedTuple

from schemas.batch import Reason
from schemas.errors import IntegrityError, TroubleError

Kind = Literal["packets", "tarball", "parquet", "table"]
_MOST = 1 << 30  # bytes that one call reads
_WINDOW = 1 << 20  # bytes looked through at a time


class Changed(IntegrityError):
    """The file is not the one of the manifest: its shard stops."""


class Fault(NamedTuple):
    """Why a record cannot be had: what the ledger says of it."""

    reason: Reason
    text: str
    byte: int = -1


class Item(NamedTuple):
    """One record of a file: a message, or why there is none; and its name, where it has one."""

    payload: bytes | None
    fault: Fault | None = None
    name: str = ""


class Stretch(NamedTuple):
    """Some of a file: where it begins and ends (bytes, or row groups), and how many messages it has."""

    begin: int
    end: int
    messages: int


class Look(NamedTuple):
    """What the file system says of a file: enough to know that nobody wrote to it since it was hashed."""

    size: int
    mtime_ns: int


Items = Iterator[Item | None]  # None: something was stepped over


def look(path: Path) -> Look:
    """At a file; ``Changed`` where it is gone."""
    try:
        found = path.stat()
    except OSError as error:
        raise Changed(f"{path} cannot be read ({error.strerror}).") from None
    return Look(found.st_size, found.st_mtime_ns)


def unreadable(path: Path, error: OSError) -> TroubleError:
    """That a disk or a server is in the way: never the file's fault, so never an entry of the ledger."""
    return TroubleError(f"{path} cannot be read ({error.strerror}). Nothing is lost: run it again when it can.")


class FileAtRest:
    """An open file of the manifest, also as bytes (``schemas.avro.blocks.Stored``) that are not in memory.

    Parameters
    ----------
    path
        Where it is.
    frozen
        How it looked when it was hashed.
    on_read
        Called with the bytes that were read of a tarball since the last call.

    Raises
    ------
    Changed
        It looks otherwise, or is gone.
    """

    def __init__(self, path: Path, frozen: Look, on_read: Callable[[int], None] = lambda n: None) -> None:
        self.path, self._frozen, self.on_read = path, frozen, on_read
        try:
            self.file = open(path, "rb")  # noqa: SIM115 - closed by ``close``
        except OSError as error:
            raise Changed(f"{path} cannot be read ({error.strerror}).") from None
        self.check()

    def __enter__(self) -> "FileAtRest":
        """Itself."""
        return self

    def __exit__(self, *why: Any) -> None:
        """Close."""
        self.file.close()

    def check(self) -> None:
        """``Changed`` where somebody wrote to it meanwhile."""
        if look(self.path) != self._frozen:
            raise Changed(f"{self.path} changed after its manifest was frozen.")

    def __len__(self) -> int:
        """Its bytes."""
        return self._frozen.size

    def __getitem__(self, where: slice) -> bytes:
        """Some of its bytes."""
        begin, end, _ = where.indices(self._frozen.size)
        parts = []
        while begin < end:
            try:
                part = os.pread(self.file.fileno(), min(end - begin, _MOST), begin)
            except OSError as error:
                raise unreadable(self.path, error) from error
            if not part:
                raise Changed(f"{self.path} changed after its manifest was frozen: it ends at byte {begin}.")
            parts.append(part)
            begin += len(part)
        return parts[0] if len(parts) == 1 else b"".join(parts)

    def find(self, what: bytes, start: int) -> int:
        """Where `what` begins next, -1 = nowhere."""
        at = start
        while at < self._frozen.size:
            found = self[at : at + _WINDOW + len(what)].find(what)
            if found >= 0:
                return at + found
            at += _WINDOW
        return -1
