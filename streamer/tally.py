"""Counts what became durable, and stops a deployment that refuses most of what it reads instead of dumping a night."""

from collections import deque
from collections.abc import Iterable
from typing import NamedTuple

import numpy as np

from consumers.worker import Output
from schemas.batch import Messages, Reason
from schemas.catalogue import REST
from schemas.errors import IntegrityError

WINDOW = 20_000  # messages over which the refused are counted
ENOUGH = 1_000  # messages before a ratio means anything


class Progress(NamedTuple):
    """What is durable so far, of this process."""

    rows: int
    messages: int
    refused: int  # messages refused whole; what is empty is none of them
    commits: int


class Tally:
    """Counts by partition until they are durable: what is discarded was never counted.

    Parameters
    ----------
    limit
        Part of the messages that may be refused; 1 = all.
    """

    def __init__(self, limit: float) -> None:
        self.durable = Progress(0, 0, 0, 0)
        self._limit = limit
        self._pending: dict[int, np.ndarray] = {}  # partition -> rows, messages, refused
        self._window: deque[tuple[int, int]] = deque()
        self._seen = self._refused = 0

    def count(self, messages: Messages, output: Output) -> None:
        """Take in a batch.

        Raises
        ------
        IntegrityError
            More than the limit of the last messages were refused.
        """
        refusals = output.refusals
        bad = (refusals.row == REST) & (refusals.reason != Reason.EMPTY)
        size = int(messages.partition.max(initial=-1)) + 1
        columns = (
            np.bincount(output.rows["kafka_partition"].to_numpy(), minlength=size),
            np.bincount(messages.partition, minlength=size),
            np.bincount(messages.partition[refusals.message[bad]], minlength=size),
        )
        for p in np.flatnonzero(columns[1]):
            self._pending[int(p)] = self._pending.get(int(p), 0) + np.array([c[p] for c in columns])
        if len(messages.payloads):
            self._judge(len(messages.payloads), int(bad.sum()), refusals.text[int(np.argmax(bad))] if bad.any() else "")

    def landed(self, partitions: Iterable[int]) -> None:
        """What was counted of `partitions` is durable."""
        rows, seen, refused = (
            int(k) for k in sum((self._pending.pop(p) for p in partitions if p in self._pending), np.zeros(3))
        )
        was = self.durable
        self.durable = Progress(was.rows + rows, was.messages + seen, was.refused + refused, was.commits + 1)

    def forget(self, partitions: Iterable[int]) -> None:
        """What was counted of `partitions` is discarded."""
        for p in partitions:
            self._pending.pop(p, None)

    def _judge(self, seen: int, refused: int, text: str) -> None:
        self._window.append((seen, refused))
        self._seen, self._refused = self._seen + seen, self._refused + refused
        while self._seen - self._window[0][0] >= WINDOW:
            gone_seen, gone_refused = self._window.popleft()
            self._seen, self._refused = self._seen - gone_seen, self._refused - gone_refused
        if self._seen >= ENOUGH and self._refused > self._limit * self._seen:
            raise IntegrityError(
                f"{self._refused:,} of the last {self._seen:,} messages were refused, the last with: {text}. "
                f"Is this the right topic for this model? What was not durable is not settled; mend it and start again, "
                f"or let it pass with --refused-limit 1."
            )
