"""The claim: how a worker, a replay or a retry becomes the one owner of partitions. Steps 1 to 4 of the protocol in ledger.py.

The *live* lane reads a partition from its ``start`` on, for ever. The *replay* lane fills a region that is given, below
that start, and knows these numbers in R beside its ``replay-epoch``:

    replay-offset   every offset of the region at hand below it is settled; set back by each claim
    replay-end      no replay of this partition ever wrote at or beyond it

Two rules keep the lanes apart, whatever crashes or crosses:

 a. a replay stays below the live start, which it reads under its own epoch. Setting that start raises the replay's epoch in
    both tables, as a claim would: a replay that has not seen the start is fenced, and one that claims later sees it
 b. a live claim reads as settled the rows that stand between its position and ``replay-end``: where a replay came first,
    the live worker fills the holes
"""

from collections.abc import Callable, Mapping
from typing import NamedTuple

import numpy as np

from schemas.batch import Reason
from schemas.catalogue import REST
from streamer.sink.datasets import whole
from streamer.sink.settled import Settled
from streamer.sink.tables import LIVE, REPLAY, SWAP_TRIES, Claim, Fenced, Tables

First = Callable[[list[int], bool], dict[int, int]]


class Region(NamedTuple):
    """What a replay or a retry may write of one partition.

    Attributes
    ----------
    start, end
        Offsets [start, end).
    reopened
        None: a replay, which fills what is neither rows nor listed. Else a retry, which writes exactly these (offset, row)
        and nothing else, although the exceptions ledger lists them; row REST is a whole message. Those that stand in the
        rows table already stay as they are.
    """

    start: int
    end: int
    reopened: frozenset[tuple[int, int]] | None = None


class Claims(Tables):
    """Claims partitions.

    Parameters
    ----------
    regions
        None in the live lane; in the replay lane by partition.
    """

    regions: Mapping[int, Region] | None = None

    def claim(self, partitions: list[int], first: First) -> dict[int, int]:
        """Own `partitions`; returns their positions.

        `first(partitions, known)` says where live partitions begin that have no start yet; `known` is True where others of
        the topic have. Where none has, it answers for all partitions of the topic, so that a partition without a start is
        always one that was added later. Raises ``Fenced`` when a rival's claim overtakes this one.
        """
        self.discard(partitions)
        for _ in range(SWAP_TRIES):  # step 1
            self.in_exceptions.refresh()
            self.in_rows.refresh()
            self.point(1)
            raised = self._raised(partitions)
            mine = {app: max(self.in_exceptions.get(app) or 0, self.in_rows.get(app) or 0) + 1 for app in raised}
            if self._swap(self.exceptions, [], mine):
                break
        else:
            raise self._stuck("exceptions")
        starts = self._starts(partitions, first)
        self.point(2)
        for _ in range(SWAP_TRIES):  # step 2
            self.in_rows.refresh()
            self.point(3)
            late = [p for app, p in raised.items() if (self.in_rows.get(app) or 0) > mine[app]]
            if late:
                raise Fenced(late)
            if all(self.in_rows.get(app) == epoch for app, epoch in mine.items()):
                break  # landed, whatever the answer was
            self._swap(self.rows, [], mine | self._begins(partitions, starts))
        else:
            raise self._stuck("rows")
        self.point(4)
        self.in_exceptions.refresh()  # step 3
        self.in_rows.refresh()
        epochs = {p: mine[self._app(p, "epoch")] for p in partitions}
        lost = [
            p
            for p, epoch in epochs.items()
            if self._get(self.in_exceptions, p, "epoch") != epoch or self._get(self.in_rows, p, "epoch") != epoch
        ]
        if lost:
            raise Fenced(lost)
        self.point(5)
        positions = {p: self.position(p) for p in partitions}  # step 4
        settled = self._settled(positions)
        for p in partitions:
            seq = self._get(self.in_exceptions, p, "seq")
            self.own[p] = Claim(epochs[p], seq, positions[p], settled[p], self._end(p))
        return positions

    def _raised(self, partitions: list[int]) -> dict[str, int]:
        """The epochs that this claim raises, with their partitions: its own, and rule a."""
        raised = {self._app(p, "epoch"): p for p in partitions}
        if self.lane is LIVE:
            raised |= {self._app(p, "epoch", REPLAY): p for p in partitions if self._live_start(p) is None}
        return raised

    def _begins(self, partitions: list[int], starts: dict[int, int]) -> dict[str, int]:
        """What a claim sets in R beside epochs: starts that are not set yet, or where a replay begins."""
        if self.regions is None:
            return {self._app(p, "start"): at for p, at in starts.items() if self._live_start(p) is None}
        out = {}
        for p in partitions:
            end = self._end(p) or 0
            out[self._app(p, "offset")] = min(self.regions[p].start, end)
            out[self._app(p, "end")] = max(self._get(self.in_rows, p, "end"), end)
        return out

    def _starts(self, partitions: list[int], first: First) -> dict[int, int]:
        unseen = [p for p in partitions if self._live_start(p) is None]
        if self.lane is REPLAY or not unseen:
            return {}
        prefix = f"slipher/{self.identity.processing_id}/{self.identity.topic_id}/"
        known = any(app.startswith(prefix) and app.endswith("/start") for app in self.in_rows.versions)
        return first(unseen, known)

    def _live_start(self, partition: int) -> int | None:
        return self.in_rows.get(self._app(partition, "start", LIVE))

    def _end(self, partition: int) -> int | None:
        """Where the region ends: for a replay not beyond the live start. A retry may: see ``_reopened``."""
        if self.regions is None:
            return None
        region, start = self.regions[partition], self._live_start(partition)
        return region.end if start is None or region.reopened is not None else min(region.end, start)

    # -- what is settled for ever --------------------------------------------------------------------------------------

    def _settled(self, positions: dict[int, int]) -> dict[int, Settled]:
        """Ahead of each position: what E lists, and the rows that the replay lane left there (rule b, or an earlier run)."""
        settled = self._listed(positions)
        bounds, retried = {}, {}
        for p, at in positions.items():
            end = self.in_rows.get(self._app(p, "end", REPLAY)) if self.regions is None else self._end(p)
            if end is not None and end > at:
                bounds[p] = (at, end)
            if self.regions is not None and self.regions[p].reopened is not None:
                retried[p] = self.regions[p].reopened or frozenset()
                settled[p] = self._reopened(self.regions[p], retried[p], settled[p], self._live_start(p))
        if retried:
            self._keep_withdrawn(settled, {p: positions[p] for p in retried})
        for p, offsets, rows in self._standing(bounds) if bounds else ():
            if p not in retried:  # all rows of a message land in one commit: one of them stands for all
                settled[p].add_offsets(np.unique(offsets))
                continue
            for offset, row in zip(offsets.tolist(), rows.tolist(), strict=True):
                settled[p].add(offset, offset + 1, REST if (offset, REST) in retried[p] else row)
        return settled

    @staticmethod
    def _reopened(region: Region, asked: frozenset[tuple[int, int]], listed: Settled, start: int | None) -> Settled:
        """All of a retry's region less what it may write. From the live start on that is only what E lists: a live worker
        leaves it alone for ever."""
        out, at = Settled(), region.start
        singly = {offset for offset, _ in listed.rows}
        for offset in sorted({offset for offset, _ in asked}):
            if start is None or offset < start or offset in singly or listed.whole(np.array([offset]))[0]:
                out.add(at, offset, REST)
                at = offset + 1
        out.add(at, region.end, REST)
        for offset, row in listed.rows - asked:
            out.add(offset, offset + 1, row)
        return out

    def _keep_withdrawn(self, settled: dict[int, Settled], positions: dict[int, int]) -> None:
        """What a person took out no retry brings back."""
        for p, withdrawn in self._listed(positions, Reason.WITHDRAWN).items():
            for start, end in withdrawn.ranges:
                settled[p].add(start, end, REST)
            settled[p].rows |= withdrawn.rows

    def _listed(self, positions: dict[int, int], reason: Reason | None = None) -> dict[int, Settled]:
        """What E lists ahead of each position: all of it, or for one reason."""
        out = {p: Settled() for p in positions}
        columns = ["kafka_partition", "offset_start", "offset_end", "kafka_row"]
        table = whole(
            self.exceptions,
            self.root / "exceptions",
            columns=columns,
            filters=([("reason", "=", reason.name)] if reason is not None else [])
            + [
                ("processing_id", "=", self.identity.processing_id),
                ("topic_id", "=", self.identity.topic_id),
                ("kafka_partition", "in", list(positions)),
                ("offset_end", ">", min(positions.values())),
            ],
        )
        for p, start, end, row in zip(*(table[c].to_pylist() for c in columns), strict=True):
            if end > positions[p]:
                out[p].add(max(start, positions[p]), end, row)
        return out
