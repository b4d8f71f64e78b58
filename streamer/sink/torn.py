"""A log entry that a power cut tore: recognised, so that a person is told what it is and what to do."""

import json
from pathlib import Path

from schemas.errors import IntegrityError


def refuse_torn(root: Path, tables: list[str]) -> None:
    """Look at the last log entry of each of `tables` under `root`.

    An entry is fsynced before anybody is told of what it holds, and whoever builds on another's entry fsyncs that one too: so
    only the last can be torn, and only one that nobody relies on. It is not removed here, for a worker on another machine may
    hold it in memory, whole.

    Raises
    ------
    IntegrityError
        It is torn. The sentence names the file, and says that what it held will be read again.
    """
    for name in tables:
        last = max((root / name / "_delta_log").glob("[0-9]*.json"), default=None)
        if last is not None and not _whole(last):
            raise IntegrityError(
                f"The last entry of the log of {root / name} is torn, as by a power cut: {last}. It was never confirmed, so "
                f"nobody relies on it. Stop all workers, remove this file and start again: what it held is read again."
            )


def _whole(entry: Path) -> bool:
    try:
        lines = entry.read_bytes().splitlines()
        return bool(lines) and all(isinstance(json.loads(line), dict) for line in lines)
    except FileNotFoundError:  # cleaned up at this moment: an old one
        return True
    except ValueError:
        return False
