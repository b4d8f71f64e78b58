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

    def process(self, messages: Messages) -> Output:
        """Turn `messages` into rows and refusals."""
        ...
