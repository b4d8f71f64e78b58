"""Counts what became durable, and stops a deployment that refuses most of what it reads instead of dumping a night."""

from collections import deque
from collections.abc import Iterable
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from consumers.repeats import Repeats
from consumers.worker import Output
from schemas.batch import Int64, Messages, Reason
from schemas.catalogue import REST
from schemas.errors import IntegrityError

WINDOW = 20_000  # messages over which the refused are counted
ENOUGH = 1_000  # messages before a ratio means anything
_REASONS = max(Reason) + 1


class Progress(NamedTuple):
    """What is durable so far, of this process.

    Attributes
    ----------
    rows, messages
        Catalogue rows, and the messages read.
    refused
        Messages refused whole; what is empty is none of them.
    commits
        Of the table.
    repeated
        Rows whose alert id came before, at another offset: of the last 500,000 alerts or more that this process read.
    reasons
        Refusals of messages and of rows by name of the reason; what is empty is none of them.
    """

    rows: int = 0
    messages: int = 0
    refused: int = 0
    commits: int = 0
    repeated: int = 0
    reasons: dict[str, int] = {}  # noqa: RUF012 - a default nobody mutates

    def __add__(self, other: "Progress") -> "Progress":  # type: ignore[override]
        """Both together."""
        reasons = {
            reason.name: n
            for reason in Reason
            if (n := self.reasons.get(reason.name, 0) + other.reasons.get(reason.name, 0))
        }
        return Progress(
            self.rows + other.rows,
            self.messages + other.messages,
            self.refused + other.refused,
            self.commits + other.commits,
            self.repeated + other.repeated,
            reasons,
        )

    @property
    def exceptions(self) -> str:
        """What was out of the ordinary, for people."""
        why = ", ".join(f"{n:,} {name}" for name, n in sorted(self.reasons.items(), key=lambda item: -item[1]))
        twice = f", {self.repeated:,} repeated alert ids" if self.repeated else ""
        return f"{self.refused:,} messages refused{f' ({why})' if why else ''}{twice}"


class Tally:
    """Counts by partition until they are durable: what is discarded was never counted.

    Parameters
    ----------
    limit
        Part of the messages that may be refused; 1 = all.
    in_a_row
        Messages of one partition that may be refused one after another; 0 = any number. It sees what the ratio does not:
        one bad partition of many.
    """

    def __init__(self, limit: float, in_a_row: int = 0) -> None:
        self.durable = Progress()
        self._limit, self._in_a_row = limit, in_a_row
        self._run: dict[int, int] = {}  # partition -> refused messages since the last that was not
        self._pending: dict[int, np.ndarray] = {}  # partition -> rows, messages, refused, repeated, then by reason
        self._repeats = Repeats()
        self._window: deque[tuple[int, int]] = deque()
        self._seen = self._refused = 0

    def count(self, messages: Messages, output: Output) -> None:
        """Take in a batch.

        Raises
        ------
        IntegrityError
            More than the limit of the last messages were refused, or too many of a partition in a row.
        """
        refusals = output.refusals
        said = refusals.reason != Reason.EMPTY
        bad = (refusals.row == REST) & said
        size = int(messages.partition.max(initial=-1)) + 1
        partition = output.rows["kafka_partition"].to_numpy()
        again = self._repeats.count(output.rows["alert_id"], partition, output.rows["kafka_offset"].to_numpy())
        columns = [
            np.bincount(partition, minlength=size),
            np.bincount(messages.partition, minlength=size),
            np.bincount(messages.partition[refusals.message[bad]], minlength=size),
            np.bincount(partition[again], minlength=size),
        ]
        why = refusals.reason[said]
        whose = messages.partition[refusals.message[said]]
        columns += [np.bincount(whose[why == reason], minlength=size) for reason in range(_REASONS)]
        for p in np.flatnonzero(columns[1]):
            self._pending[int(p)] = self._pending.get(int(p), 0) + np.array([c[p] for c in columns])
        if len(messages.payloads):
            last = refusals.text[int(np.flatnonzero(bad)[-1])] if bad.any() else ""
            self._judge_runs(messages, refusals.message[bad], last)
            self._judge(len(messages.payloads), int(bad.sum()), last)

    def landed(self, partitions: Iterable[int]) -> None:
        """What was counted of `partitions` is durable."""
        found = [self._pending.pop(p) for p in partitions if p in self._pending]
        rows, messages, refused, repeated, *reasons = (int(k) for k in sum(found, np.zeros(4 + _REASONS)))
        named = {Reason(reason).name: n for reason, n in enumerate(reasons) if n}
        self.durable += Progress(rows, messages, refused, 1, repeated, named)

    def forget(self, partitions: Iterable[int]) -> None:
        """What was counted of `partitions` is discarded."""
        for p in partitions:
            self._pending.pop(p, None)
            self._run.pop(p, None)

    def _judge_runs(self, messages: Messages, refused: Int64, text: str) -> None:
        if not self._in_a_row:
            return
        bad = np.zeros(len(messages.payloads), bool)
        bad[refused] = True
        for p in np.unique(messages.partition).tolist():
            longest, self._run[p] = _runs(bad[messages.partition == p], self._run.get(p, 0))
            if longest > self._in_a_row:
                raise IntegrityError(
                    f"{longest:,} messages of partition {p} were refused one after another, the last with: {text}. "
                    f"Does its producer send what this model reads? What was not durable is not settled; mend it and start "
                    f"again, or let it pass with --refused-in-a-row 0."
                )

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


def _runs(bad: npt.NDArray[np.bool_], before: int) -> tuple[int, int]:
    """Longest run of True, and the one that `bad` ends with; `before` of them came just before it."""
    edges = np.concatenate([[-1 - before], np.flatnonzero(~bad), [len(bad)]])
    runs = np.diff(edges) - 1
    return int(runs.max()), int(runs[-1])
