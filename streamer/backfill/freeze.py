"""Freezes a manifest: hashes and cuts every file, several at a time."""

import hashlib
import os
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple, TypeVar

from schemas.errors import TroubleError
from streamer.backfill.at_rest import Changed, FileAtRest, Look, Stretch, look, unreadable
from streamer.backfill.kinds import cut, kind
from streamer.backfill.manifest import Entry, Manifest, assembled

CHUNK = 4 << 20  # bytes hashed at a time
A = TypeVar("A")
B = TypeVar("B")
MOST_THREADS = 8  # hashing and unpacking run outside of Python's lock


class Archive(NamedTuple):
    """A manifest and the files on this machine.

    Attributes
    ----------
    folder
        Where the names of the manifest begin.
    manifest
        What is read.
    looks
        How each file looked when it was hashed just now, by number; those that were not hashed now are not read.
    changed
        Sentences on files that are not those of the manifest, by number.
    """

    folder: Path
    manifest: Manifest
    looks: dict[int, Look]
    changed: dict[int, str]


def freeze(folder: Path, names: Sequence[str], on_bytes: Callable[[int], None] = lambda n: None) -> Archive:
    """The manifest of the files `names` in `folder`.

    Parameters
    ----------
    folder, names
        As ``gathered`` gives them.
    on_bytes
        Called with the bytes hashed or cut since the last call, from several threads: each byte is both.

    Raises
    ------
    TroubleError
        A file changed while it was looked at, or cannot be read.
    """

    def one(name: str) -> tuple[Entry, list[Stretch], Look]:
        path = folder / name
        try:
            seen = look(path)
            with FileAtRest(path, seen, on_bytes) as file:
                digest = _sha256(path, on_bytes)
                what = kind(file)
                stretches = cut(file, what)
                if what != "tarball":
                    on_bytes(seen.size)
                file.check()
        except Changed as error:
            raise TroubleError(f"{error} Is it still being written? Begin when it is at rest.") from None
        return Entry(name, seen.size, digest, what), stretches, seen

    found = _each(one, names)
    manifest = assembled((entry, stretches) for entry, stretches, _ in found)
    return Archive(folder, manifest, {k: seen for k, (_, _, seen) in enumerate(found)}, {})


def found_again(
    folder: Path, manifest: Manifest, numbers: Sequence[int], on_bytes: Callable[[int], None] = lambda n: None
) -> Archive:
    """The files `numbers` of a manifest that was frozen before, hashed again: those that changed are not read."""

    def one(number: int) -> Look | str:
        entry = manifest.files[number]
        path = folder / entry.name
        try:
            seen = look(path)
            same = seen.size == entry.size and _sha256(path, on_bytes) == entry.sha256 and look(path) == seen
        except Changed as error:
            return str(error)
        return seen if same else f"{path} changed after its manifest was frozen."

    answers = dict(zip(numbers, _each(one, numbers), strict=True))
    looks = {number: answer for number, answer in answers.items() if isinstance(answer, Look)}
    return Archive(folder, manifest, looks, {n: text for n, text in answers.items() if isinstance(text, str)})


def total(folder: Path, names: Iterable[str]) -> int:
    """Bytes of the files."""
    return sum(look(folder / name).size for name in names if (folder / name).exists())


def _each(what: Callable[[A], B], many: Sequence[A]) -> list[B]:
    threads = min(MOST_THREADS, os.cpu_count() or 1)
    with ThreadPoolExecutor(threads, thread_name_prefix="freeze") as pool:
        futures = [pool.submit(what, one) for one in many]
        try:
            return [future.result() for future in futures]
        except BaseException:
            pool.shutdown(cancel_futures=True)
            raise


def _sha256(path: Path, on_bytes: Callable[[int], None]) -> str:
    digest = hashlib.sha256()
    try:
        with open(path, "rb", buffering=0) as file:
            while chunk := file.read(CHUNK):
                digest.update(chunk)
                on_bytes(len(chunk))
    except OSError as error:
        raise unreadable(path, error) from error
    return digest.hexdigest()
