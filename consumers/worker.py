"""The contract of a worker: messages in, catalogue rows and refusals out. What it is given it answers for in full."""

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import NamedTuple, Protocol

import pyarrow as pa

from schemas.batch import Messages, Refusals
from schemas.processing import Processing

Stopwatch = Callable[[str], AbstractContextManager[None]]  # of a stage by name: decode, estimate, rows
_NOTHING: AbstractContextManager[None] = nullcontext()


def untimed(stage: str) -> AbstractContextManager[None]:
    """A ``Stopwatch`` that nobody reads."""
    return _NOTHING


DEPTH = 2  # of a worker that begins nothing early


class Output(NamedTuple):
    """What a worker makes of a batch of messages."""

    rows: pa.Table  # schemas.catalogue.ROWS
    refusals: Refusals  # indices are those of the messages given


class Worker(Protocol):
    """Decoder, estimator and row builder in one.

    ``process`` is pure and never raises for a bad message: every message is in ``rows`` or in ``refusals``. It may take
    long (a GPU batch), so the caller must not call it from the thread that polls Kafka. The caller may not assume that rows
    come in the order of the messages.
    """

    @property
    def processing(self) -> Processing:
        """The identity that its rows carry."""
        ...

    @property
    def depth(self) -> int:
        """Batches that may be read and not yet processed: one at work and one waiting, more where a worker begins them early."""
        ...

    def begin(self, messages: Messages) -> None:
        """A batch was read and goes to ``process`` in its turn, or a part of it does, or nothing: who can, begins now.

        Called from the thread that polls: it may not wait, nor raise for what a batch is to blame for.
        """
        ...

    def process(self, messages: Messages) -> Output:
        """Turn `messages` into rows and refusals."""
        ...

    def close(self) -> None:
        """Give back threads and devices, at once; nothing is asked of it any more."""
        ...
