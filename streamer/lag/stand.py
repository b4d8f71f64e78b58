"""Where one partition is, as read at one look: before anything is made of it."""

from typing import NamedTuple

from streamer.lag.readers import Reader

Key = tuple[Reader, int]  # who reads which partition
Place = tuple[str, int]  # topic, partition


class Stand(NamedTuple):
    """A partition of which both sides are known.

    Attributes
    ----------
    key
        Who reads it.
    start, end
        Where its log begins and ends.
    durable
        Next offset of the reader; None where it was never claimed.
    """

    key: Key
    start: int
    durable: int | None
    end: int

    @property
    def place(self) -> Place:
        """Topic and partition."""
        return self.key[0].topic, self.key[1]

    @property
    def next(self) -> int:
        """First offset that is to be read and that the broker still has."""
        return max(self.durable or 0, self.start)
