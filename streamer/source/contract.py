"""The contract of a source."""

from collections.abc import Callable
from typing import NamedTuple, Protocol

from schemas.batch import Messages


class Callbacks(NamedTuple):
    """What a source calls when partitions come and go, from the thread that polls.

    ``assigned`` returns the position from which each partition is to be read; partitions it leaves out are not read until
    ``resume`` says where.
    ``revoked`` returns when what was read of them is durable or discarded. ``lost``: they have another reader already.
    """

    assigned: Callable[[list[int]], dict[int, int]]
    revoked: Callable[[list[int]], None]
    lost: Callable[[list[int]], None]


class Source(Protocol):
    """Yields batches with their offsets. All calls from one thread; it never decides what is durable.

    The caller may not assume that a batch holds every partition, nor that a batch polled before a callback is still its own
    to settle after it.
    """

    def start(self, callbacks: Callbacks) -> None:
        """Join; assignments arrive during ``poll``."""
        ...

    def poll(self, seconds: float) -> Messages | None:
        """The next batch, or None after `seconds`."""
        ...

    @property
    def at_end(self) -> bool:
        """True where each partition was read to where it ended when it was assigned."""
        ...

    @property
    def member(self) -> bool:
        """Whether it has been told which partitions to read; they may be none."""
        ...

    @property
    def bytes_read(self) -> int:
        """Bytes of the payloads that came so far."""
        ...

    def hint(self, durable: dict[int, int]) -> None:
        """Tell the broker what is durable, for its lag tools; nobody reads it back."""
        ...

    def keep_alive(self) -> None:
        """Stay a member while nobody polls; callbacks may arrive. What comes is kept for the next ``poll``."""
        ...

    def resume(self, positions: dict[int, int]) -> None:
        """Read assigned partitions on, or at last, from `positions`, forgetting what was fetched of them."""
        ...

    def close(self, seconds: float) -> None:
        """Leave, within `seconds`. No callback is called any more."""
        ...
