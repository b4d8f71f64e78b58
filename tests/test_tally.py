"""What is counted before it is durable, and the two limits that stop a deployment instead of dumping a night."""

from itertools import groupby

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from consumers.worker import Output
from schemas.batch import Messages, Reason, Refusals
from schemas.catalogue import ROWS
from schemas.errors import IntegrityError
from streamer.tally import ENOUGH, Tally


def told(bad: list[tuple[int, bool]], reason: Reason = Reason.CORRUPT) -> tuple[Messages, Output]:
    """A batch of one-byte messages, (partition, refused) each, and what a worker says of them; good ones give no row."""
    which = np.array([k for k, (_, refused) in enumerate(bad) if refused], np.int64)
    n = len(bad)
    messages = Messages(
        [b"x"] * n,
        np.array([p for p, _ in bad], np.int32),
        np.arange(n, dtype=np.int64),
        np.full(n, -1, np.int64),
        {p: n for p, _ in bad},
    )
    texts = [f"message {k}" for k in which]
    row, code = np.full(len(which), -1, np.int32), np.full(len(which), reason, np.uint8)
    return messages, Output(ROWS.empty_table(), Refusals(which, row, code, texts, np.full(len(which), -1, np.int64)))


def count(tally: Tally, bad: list[tuple[int, bool]], reason: Reason = Reason.CORRUPT) -> None:
    tally.count(*told(bad, reason))


def test_the_ratio_names_its_limit_and_the_last_sentence() -> None:
    tally = Tally(0.5, 0)
    count(tally, [(0, True)] * (ENOUGH - 1))  # too few to mean anything
    with pytest.raises(IntegrityError, match=r"1,000 of the last 1,000 .* message 0\. .* --refused-limit 1") as caught:
        count(tally, [(0, True)])
    assert caught.value.exit_code == 3


def test_a_bad_partition_of_many_stops_by_its_run() -> None:
    """One partition of twenty: the ratio never sees it."""
    tally = Tally(0.5, 100)
    for _ in range(5):
        count(tally, [(p, p == 7) for p in range(20) for _ in range(20)])
    with pytest.raises(
        IntegrityError, match=r"120 messages of partition 7 were .* message 159\. .* --refused-in-a-row 0"
    ) as caught:
        count(tally, [(p, p == 7) for p in range(20) for _ in range(20)])
    assert caught.value.exit_code == 3


def test_what_ends_a_run() -> None:
    tally = Tally(1, 10)
    count(tally, [(0, True)] * 10)
    count(tally, [(0, False)])
    count(tally, [(0, True)] * 10)
    tally.forget([0])  # read again by its next owner, perhaps by this process
    count(tally, [(0, True)] * 10)
    count(tally, [(0, True)] * 5, Reason.EMPTY)  # a tombstone is no refusal
    count(tally, [(0, True)] * 10)
    with pytest.raises(IntegrityError, match="11 messages"):
        count(tally, [(0, True)])
    unlimited = Tally(1, 0)
    count(unlimited, [(0, True)] * 50_000)


@given(st.lists(st.lists(st.tuples(st.integers(0, 2), st.booleans()), max_size=30), max_size=5), st.integers(1, 8))
def test_runs_against_counting_one_by_one(batches: list[list[tuple[int, bool]]], limit: int) -> None:
    tally, stopped = Tally(1, limit), False
    try:
        for bad in batches:
            count(tally, bad)
    except IntegrityError:
        stopped = True
    longest = 0
    for p in range(3):
        mine = [refused for bad in batches for q, refused in bad if q == p]
        longest = max([longest, *(len(list(run)) for refused, run in groupby(mine) if refused)])
    assert stopped == (longest > limit)
