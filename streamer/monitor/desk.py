"""Everything that is read of the catalogue for the page, in one thread of its own: the event loop never waits for a disk."""

import asyncio
import contextlib
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from deltalake.exceptions import DeltaError

from schemas.batch import Reason
from schemas.errors import SlipherError
from streamer.catalogue import Catalogue, open_catalogue
from streamer.monitor.night import Night, models_shown, shown
from streamer.monitor.refusals import Refusals

T = TypeVar("T")

SEARCHED = 3_000_000  # rows of the newest files that a search looks through
MOST_ROWS = 40  # of an object that are drawn
PATIENCE = 20.0  # seconds that an answer may take
LONGEST_ID = 256  # characters


class Desk:
    """Answers from the catalogue.

    Parameters
    ----------
    root
        The catalogue.
    truth
        True redshifts, columns object_id and z; or None.
    clock
        Seconds since 1970 UTC.
    """

    def __init__(self, root: Path, truth: pa.Table | None = None, clock: Callable[[], float] = time.time) -> None:
        self._root, self._truth, self._clock = root, truth, clock
        self._thread = ThreadPoolExecutor(1, "catalogue")
        self._catalogue: Catalogue | None = None
        self._night: Night | None = None
        self._refusals = Refusals(root, clock=clock)
        self.tonight: dict[str, Any] = {
            "version": 0,
            "night": None,
            "models": [],
            "newest": [],
            "refusals": None,
            "trouble": None,
        }

    @property
    def expired(self) -> int | None:
        """Offsets of the last day that retention took unread; None where the ledger was not read yet."""
        refusals = self.tonight["refusals"]
        if refusals is None:
            return None
        return sum(n for reason, n, _ in refusals["counts"] if reason == Reason.RETENTION_GAP.name)

    @property
    def behind(self) -> bool:
        """Whether there are files that were not read yet."""
        return self._night is not None and self._night.unread > 0

    async def refresh(self) -> bool:
        """Read on, for part of a second; whether ``tonight`` changed."""
        try:
            fresh = await self._ask(self._read)
        except (SlipherError, DeltaError, OSError, TimeoutError) as error:
            fresh = self.tonight | {"trouble": str(error) or "the catalogue does not answer"}
        changed = fresh != self.tonight
        if changed:
            self.tonight = fresh | {"version": self.tonight["version"] + 1}
        return changed

    async def find(self, object_id: str) -> dict[str, Any]:
        """Rows of an object, newest first, and how far was looked.

        Raises
        ------
        SlipherError, OSError, TimeoutError, deltalake.exceptions.DeltaError
            The catalogue does not answer.
        """
        return await self._ask(lambda: self._find(object_id))

    def close(self) -> None:
        """Take no more questions."""
        self._thread.shutdown(wait=False, cancel_futures=True)

    async def _ask(self, what: Callable[[], T]) -> T:
        loop = asyncio.get_running_loop()
        return await asyncio.wait_for(loop.run_in_executor(self._thread, what), PATIENCE)

    def _opened(self) -> Catalogue:
        if self._catalogue is None:
            self._catalogue = open_catalogue(self._root)
            self._night = Night(self._catalogue, self._truth)
        return self._catalogue

    def _read(self) -> dict[str, Any]:
        catalogue = self._opened()
        catalogue.refresh()
        assert self._night is not None
        night = self._night.refresh() or {"night": None, "models": []}
        return night | {
            "version": self.tonight["version"],
            "newest": self._night.newest(),
            "registered": models_shown(catalogue.models()),
            "refusals": self._refusals.refresh(),
            "trouble": None,
        }

    def _find(self, object_id: str) -> dict[str, Any]:
        catalogue = self._opened()
        with contextlib.suppress(DeltaError, OSError):  # what was seen last is better than nothing
            catalogue.refresh()
        files = catalogue.may_hold(object_id)["rows"].to_numpy()
        rows = catalogue.find(object_id, most=SEARCHED)
        whole = bool(np.sum(files) <= SEARCHED)
        found = shown(rows.slice(0, MOST_ROWS), catalogue.models())
        held = int(pc.sum(catalogue.files()["rows"]).as_py() or 0)
        return {
            "object_id": object_id,
            "rows": found,
            "more": max(len(rows) - MOST_ROWS, 0),
            "whole": whole,
            "held": held,
        }
