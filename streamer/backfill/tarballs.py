"""Tarballs of packets, compressed or not: each member is a file of packets. ZTF publishes a night as one."""

import bz2
import gzip
import lzma
import sys
import tarfile
import zlib
from collections.abc import Callable, Iterator
from typing import IO, Any

from schemas.batch import Reason
from streamer.backfill.at_rest import Fault, FileAtRest, Item, Items, Stretch, unreadable
from streamer.backfill.packets import GZIP, STRETCH_BYTES, Packets, count

MOST_MEMBER = 1 << 30  # bytes
_BROKEN = (tarfile.TarError, EOFError, OSError, zlib.error, lzma.LZMAError)
_OPENERS: dict[bytes, Any] = {GZIP: gzip.open, b"BZh": bz2.open, b"\xfd7zXZ\x00": lzma.open}


class _Member(tarfile.TarInfo):
    """Remembers what ``tarfile`` steps over in silence: headers that are none, and whether the end was marked."""

    @classmethod
    def fromtarfile(cls, tarfile_: tarfile.TarFile) -> "_Member":
        try:
            return super().fromtarfile(tarfile_)
        except tarfile.EOFHeaderError:  # type: ignore[attr-defined]
            tarfile_.ended = True  # type: ignore[attr-defined]
            raise
        except (tarfile.InvalidHeaderError, tarfile.TruncatedHeaderError):  # type: ignore[attr-defined]
            tarfile_.nonsense = True  # type: ignore[attr-defined]
            raise


def cut(file: FileAtRest) -> list[Stretch]:
    """The stretches of a tarball: of whole members; one where it is compressed, for nobody can begin in its middle."""
    whole = _compression(file) is not None
    stretches: list[Stretch] = []
    begin = messages = 0
    for at, found in _members(file, 0, len(file)):
        if not whole and isinstance(found, tuple) and at - begin >= STRETCH_BYTES:
            stretches.append(Stretch(begin, at, messages))
            begin, messages = at, 0
        messages += count(found[1]) if isinstance(found, tuple) else 1
    return [*stretches, Stretch(begin, len(file), messages)]


def items(file: FileAtRest, begin: int, end: int, skip: int, packets: Packets) -> Items:
    """The messages of the members between the bytes `begin` and `end`, but for the first `skip`."""
    for _, found in _members(file, begin, end):
        if not isinstance(found, tuple):
            if not skip:
                yield Item(None, Fault(Reason.CORRUPT, found))
            skip = max(skip - 1, 0)
            continue
        name, data = found
        n = count(data) if skip else 0
        if skip and n <= skip:
            skip -= n
            yield None
            continue
        yield from packets.items(data, 0, len(data), skip, name)
        skip = 0


def unpacked(file: FileAtRest, size: int) -> bytes:
    """The first `size` bytes of a file, out of its compression; none where it is broken."""
    opener = _compression(file)
    if opener is None:
        return file[0:size]
    try:
        with open(file.path, "rb") as raw, opener(raw) as stream:
            data: bytes = stream.read(size)
            return data
    except _BROKEN as error:
        if isinstance(error, OSError) and error.errno is not None:
            raise unreadable(file.path, error) from error
        return b""


class _Counted:
    """A file that says how much of it was read."""

    def __init__(self, raw: IO[bytes], on_read: Callable[[int], None]) -> None:
        self._raw, self._on_read = raw, on_read

    def read(self, size: int = -1) -> bytes:
        data = self._raw.read(size)
        self._on_read(len(data))
        return data


def _compression(file: FileAtRest) -> Any:
    start = file[0:6]
    return next((opener for magic, opener in _OPENERS.items() if start.startswith(magic)), None)


def _members(file: FileAtRest, begin: int, end: int) -> Iterator[tuple[int, tuple[str, bytes] | str]]:
    """(first byte, (name, content)) of each member that is a file, or what of the tarball cannot be read."""
    opener = _compression(file)
    last, limit = "its begin", sys.maxsize if opener else end  # offsets are those of what is decompressed
    with open(file.path, "rb") as raw:
        raw.seek(begin)
        counted = _Counted(raw, file.on_read)
        stream: Any = opener(counted) if opener else counted
        try:
            with tarfile.open(fileobj=stream, mode="r|", tarinfo=_Member, ignore_zeros=True) as tar:
                tar.ended = tar.nonsense = False  # type: ignore[attr-defined]
                while begin + tar.offset < limit:
                    member = tar.next()
                    tar.members = []  # type: ignore[attr-defined]  # it would keep them all
                    if tar.nonsense:  # type: ignore[attr-defined]
                        tar.nonsense = False  # type: ignore[attr-defined]
                        yield begin + tar.offset, f"what follows {last} in the tarball is no header of a member"
                        tar.ended = member is None  # type: ignore[attr-defined]  # said already
                    if member is None:
                        break
                    tar.ended = False  # type: ignore[attr-defined]
                    at = begin + member.offset
                    if at >= limit:
                        return
                    if not member.isfile():
                        continue
                    last = member.name
                    if member.size > MOST_MEMBER:
                        yield at, f"{last} has {member.size} bytes, more than the bound of {MOST_MEMBER}"
                        continue
                    content = tar.extractfile(member)
                    assert content is not None
                    yield at, (last, content.read())
                if not tar.ended and end >= len(file):  # type: ignore[attr-defined]
                    yield end, f"the tarball ends without its end mark, after {last}"
        except _BROKEN as error:
            if isinstance(error, OSError) and error.errno is not None:
                raise unreadable(file.path, error) from error
            yield end, f"the tarball cannot be read on after {last}: {error or type(error).__name__}"
