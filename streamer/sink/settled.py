"""What the exceptions ledger already says of the offsets ahead of a position. What it lists is settled for ever."""

from typing import NamedTuple

from schemas.catalogue import REST


class Exceptional(NamedTuple):
    """One entry of the exceptions ledger: offsets [start, end) of a partition, or one row of one offset."""

    partition: int
    start: int
    end: int
    row: int  # REST, or the row of offset `start`
    reason: str
    text: str = ""
    byte: int = -1
    payload: bytes | None = None
    payload_size: int = 0
    timestamp_ms: int = -1


class Settled:
    """Entries listed ahead of a partition's position: an earlier owner wrote them and died before its rows were durable."""

    def __init__(self) -> None:
        self.rows: set[tuple[int, int]] = set()
        self.ranges: list[tuple[int, int]] = []

    def __bool__(self) -> bool:
        return bool(self.rows or self.ranges)

    def add(self, start: int, end: int, row: int) -> None:
        """Take in one entry."""
        if row == REST:
            self.ranges.append((start, end))
        else:
            self.rows.add((start, row))

    def whole(self, offset: int) -> bool:
        """True where the rest of `offset` is listed: nothing of it may be written any more."""
        return any(start <= offset < end for start, end in self.ranges)

    def holes(self, start: int, end: int) -> list[tuple[int, int]]:
        """[start, end) less the ranges already listed."""
        out, at = [], start
        for first, last in sorted(r for r in self.ranges if r[1] > start and r[0] < end):
            if first > at:
                out.append((at, first))
            at = max(at, last)
        return out + ([(at, end)] if at < end else [])

    def forget_below(self, offset: int) -> None:
        """Drop what is behind the durable position."""
        if self:
            self.rows = {entry for entry in self.rows if entry[0] >= offset}
            self.ranges = [r for r in self.ranges if r[1] > offset]
