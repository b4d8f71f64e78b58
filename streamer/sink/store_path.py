"""A path in an S3-compatible object store that answers as one of a directory does."""

from __future__ import annotations

import fnmatch
import io
import os
from collections.abc import Iterator
from functools import cache
from pathlib import PurePosixPath
from typing import IO, TYPE_CHECKING, Any, NamedTuple, cast

from schemas.errors import UserError

if TYPE_CHECKING:
    from obstore.store import ObjectStore

SCHEME = "s3:"
_AHEAD = 1 << 20  # bytes: a question to the store costs more than they do


class Stat(NamedTuple):
    """Of a file: bytes, and when it was written, s since 1970 UTC."""

    st_size: int
    st_mtime: float


class StorePath(PurePosixPath):
    """A path in an object store, with those methods of ``pathlib.Path`` that the catalogue needs.

    There are no directories in such a store: one is there where something is under it, and making one does nothing. What is
    written is durable and seen by all once the call returns.
    """

    __slots__ = ()

    def __str__(self) -> str:
        text = super().__str__()
        return f"s3://{text[len(SCHEME) + 1 :]}" if text.startswith(SCHEME) else text

    def __fspath__(self) -> str:
        return str(self)

    def open(self, mode: str = "r", encoding: str | None = None) -> IO[Any]:
        """As of a file: ``rb`` and ``r``, and ``wb`` and ``xb``, which is not refused where the file is there."""
        if mode in ("wb", "xb"):
            return _Upload(self)
        if mode == "rb":
            return cast(IO[Any], io.BufferedReader(_Download(self), _AHEAD))
        return io.StringIO(self.read_text(encoding or "utf-8"))

    def read_bytes(self) -> bytes:
        """All of it."""
        import obstore

        store, key = self.there()
        with _missing(self):
            return bytes(obstore.get(store, key).bytes())

    def read_text(self, encoding: str = "utf-8") -> str:
        """All of it, decoded."""
        return self.read_bytes().decode(encoding)

    def touch(self) -> None:
        """Make an empty file."""
        import obstore

        store, key = self.there()
        with _missing(self):
            obstore.put(store, key, b"")

    def unlink(self, missing_ok: bool = False) -> None:
        """Delete it; the store does not say whether it was there."""
        import obstore

        store, key = self.there()
        with _missing(self):
            obstore.delete(store, key)

    def stat(self) -> Stat:
        """Size and time."""
        import obstore

        store, key = self.there()
        with _missing(self):
            about = obstore.head(store, key)
        return Stat(about["size"], about["last_modified"].timestamp())

    def exists(self) -> bool:
        """Whether it is there, as a file or a directory."""
        try:
            self.stat()
        except FileNotFoundError:
            return self.is_dir()
        return True

    def is_dir(self) -> bool:
        """Whether something is under it."""
        import obstore

        store, key = self.there()
        with _missing(self):
            return any(bool(part) for part in obstore.list(store, prefix=f"{key}/", chunk_size=1))

    def is_file(self) -> bool:
        """Whether it is a file."""
        try:
            self.stat()
        except FileNotFoundError:
            return False
        return True

    def mkdir(self, parents: bool = False, exist_ok: bool = False) -> None:
        """Nothing: a store needs no directories."""

    def iterdir(self) -> Iterator[StorePath]:
        """What stands directly under it."""
        import obstore

        store, key = self.there()
        with _missing(self):
            held = obstore.list_with_delimiter(store, prefix=f"{key}/")
        names = [entry["path"] for entry in held["objects"]] + list(held["common_prefixes"])
        for name in sorted(names):
            yield self / PurePosixPath(name).name

    def glob(self, pattern: str) -> Iterator[StorePath]:
        """Paths under it that fit `pattern`, segment by segment."""
        first, _, rest = pattern.partition("/")
        for child in self.iterdir():
            if fnmatch.fnmatchcase(child.name, first):
                yield from child.glob(rest) if rest else [child]

    def rglob(self, pattern: str) -> Iterator[StorePath]:
        """Files at any depth under it whose name fits `pattern`."""
        import obstore

        store, key = self.there()
        for part in obstore.list(store, prefix=f"{key}/"):
            for about in part:
                found = StorePath(*self.parts[:2], about["path"])
                if fnmatch.fnmatchcase(found.name, pattern):
                    yield found

    def there(self) -> tuple[ObjectStore, str]:
        """The store, and the key in it."""
        return bucket(self.parts[1]), "/".join(self.parts[2:])


class _Download(io.RawIOBase):
    """A file that is read from a store, a range at a time."""

    def __init__(self, path: StorePath) -> None:
        self._path, self._at, self._size = path, 0, path.stat().st_size

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._at

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        self._at = offset + {os.SEEK_SET: 0, os.SEEK_CUR: self._at, os.SEEK_END: self._size}[whence]
        return self._at

    def readinto(self, into: Any) -> int:
        import obstore

        end = min(self._at + len(into), self._size)
        if end <= self._at:
            return 0
        store, key = self._path.there()
        with _missing(self._path):
            got = bytes(obstore.get_range(store, key, start=self._at, end=end))
        into[: len(got)] = got
        self._at += len(got)
        return len(got)


class _Upload(io.BytesIO):
    """A file that is written to a store when it is closed; where its ``with`` ends in an error it is not."""

    def __init__(self, path: StorePath) -> None:
        super().__init__()
        self._path = path

    def close(self) -> None:
        if not self.closed:
            import obstore

            store, key = self._path.there()
            with _missing(self._path), self.getbuffer() as held:
                obstore.put(store, key, held)
        super().close()

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: object) -> None:
        if error is not None:
            super().close()
        self.close()


class _missing:
    """Errors of the store as those of a disk: what is not there, and all else."""

    def __init__(self, path: StorePath) -> None:
        self._path = path

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: object) -> None:
        if error is None or isinstance(error, FileNotFoundError) or not isinstance(error, Exception):
            return
        from obstore.exceptions import BaseError, NotFoundError

        if isinstance(error, NotFoundError):
            raise FileNotFoundError(f"{self._path} is not there") from error
        if isinstance(error, BaseError):
            raise OSError(f"{self._path}: {str(error).splitlines()[0]}") from error


@cache
def bucket(name: str) -> ObjectStore:
    """The store of that name, by the options in the environment.

    Raises
    ------
    UserError
        The package for it is missing.
    """
    try:
        from obstore.store import S3Store
    except ImportError:
        raise UserError(
            "A catalogue in an object store needs the package obstore: pip install 'slipher[s3]'."
        ) from None
    return S3Store(name)
