"""Temporary homes of brokers: locked while their owner lives, swept by the next broker when it was killed."""

import fcntl
import os
import shutil
import tempfile
import time
from pathlib import Path
from typing import IO, NamedTuple

_PREFIX = "slipher-broker-"
_OWNER = "owner.lock"
_GRACE_S = 60.0  # younger homes are left alone: theirs may be the moment between making the file and locking it


class TemporaryHome(NamedTuple):
    """A directory that is ours until it is removed."""

    path: Path
    owner: IO[bytes]  # the open lock file; the kernel unlocks it when we die

    def remove(self) -> None:
        """Delete it with all that is in it."""
        shutil.rmtree(self.path, ignore_errors=True)
        self.owner.close()


def temporary_home() -> TemporaryHome:
    """A new home in the folder for temporary files. Homes whose owner was killed are removed on the way."""
    sweep(Path(tempfile.gettempdir()))
    path = Path(tempfile.mkdtemp(prefix=_PREFIX))
    owner = open(path / _OWNER, "wb")  # noqa: SIM115 - stays open: its lock says that we live
    fcntl.flock(owner, fcntl.LOCK_EX)
    return TemporaryHome(path, owner)


def sweep(folder: Path, grace: float = _GRACE_S) -> None:
    """Remove the temporary homes in a folder that are this user's and whose owner is dead."""
    for home in folder.glob(f"{_PREFIX}*"):
        try:
            age = time.time() - (home / _OWNER).stat().st_mtime
            if age < grace or home.stat().st_uid != os.getuid():
                continue
            with open(home / _OWNER, "rb") as owner:
                fcntl.flock(owner, fcntl.LOCK_EX | fcntl.LOCK_NB)
                shutil.rmtree(home, ignore_errors=True)
        except OSError:  # alive, already gone, or not ours
            continue
