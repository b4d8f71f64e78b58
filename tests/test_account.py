"""Accounting: what a batch settles is everything, or nothing is committed."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from consumers.worker import Output
from schemas.batch import Messages, Reason, Refusals
from schemas.catalogue import REST
from schemas.errors import IntegrityError
from streamer.sink.account import assert_settled, exceptions_of, without_settled
from streamer.sink.entries import Exceptional
from streamer.sink.settled import Settled
from tests.made_rows import NOW, rows_of

START, END = 100, 140
offsets = st.integers(START, END - 1)
# What each offset holds: a marker, a refused message, or a message of some rows, the first of them refused or not
contents = st.lists(
    st.sampled_from(["marker", "refused", "rows", "rows, one refused", "all rows refused"]),
    min_size=END - START,
    max_size=END - START,
)
settled_sets = st.tuples(
    st.lists(st.tuples(offsets, st.integers(1, 5)), max_size=4),
    st.sets(st.tuples(offsets, st.integers(0, 1)), max_size=6),
)


def made(contents: list[str]) -> tuple[Messages, Output]:
    places = [START + k for k, what in enumerate(contents) if what != "marker"]
    rows, refused = [], []
    for index, offset in enumerate(places):
        what = contents[offset - START]
        if what == "refused":
            refused.append((index, -1))
        else:
            bad = {"rows": (), "rows, one refused": (0,), "all rows refused": (0, 1)}[what]
            refused += [(index, r) for r in bad]
            rows += [(0, offset, r) for r in (0, 1) if r not in bad]
    n, k = len(places), len(refused)
    messages = Messages(
        [b"x"] * n,
        np.zeros(n, np.int32),
        np.array(places, np.int64),
        np.full(n, NOW, np.int64),
        {0: END},
        (),
        {0: START},
    )
    refusals = Refusals(
        np.array([i for i, _ in refused], np.int64),
        np.array([r for _, r in refused], np.int32),
        np.full(k, Reason.CORRUPT, np.uint8),
        ["why"] * k,
        np.full(k, -1, np.int64),
    )
    return messages, Output(rows_of(rows), refusals)


def settled_of(ranges: list[tuple[int, int]], rows: set[tuple[int, int]]) -> Settled:
    settled, at = Settled(), START
    for first, length in sorted(ranges):  # ranges of the ledger never overlap
        if first >= at:
            settled.add(first, min(first + length, END), REST)
            at = min(first + length, END)
    for offset, row in rows:
        if not settled.whole(np.array([offset]))[0]:
            settled.add(offset, offset + 1, row)
    return settled


@given(contents, settled_sets)
def test_rows_and_list_settle_every_identity_once(contents: list[str], before: tuple) -> None:
    """Against a naive twin: each (offset, row) is in rows, newly listed, or settled before; never in two of them."""
    settled = settled_of(*before)
    messages, output = made(contents)
    end, listed = exceptions_of(0, START, messages, output, settled)
    rows = without_settled(output.rows, 0, settled)
    held = list(zip(rows["kafka_offset"].to_pylist(), rows["kafka_row"].to_pylist(), strict=True))
    assert end == END
    for k, what in enumerate(contents):
        offset = START + k
        whole = sum(e.start <= offset < e.end for e in listed if e.row == REST) + sum(
            a <= offset < b for a, b in settled.ranges
        )
        if what in ("marker", "refused"):
            assert whole == 1
            continue
        for row in (0, 1):
            single = sum(e.start == offset and e.row == row for e in listed) + ((offset, row) in settled.rows)
            assert held.count((offset, row)) + single + whole == 1
    assert_settled(0, START, END, np.unique(rows["kafka_offset"].to_numpy()), listed, settled)


@given(contents, offsets)
def test_an_offset_gone_missing_is_found(contents: list[str], missing: int) -> None:
    """Drop everything of one offset: the assertion names it."""
    messages, output = made(contents)
    _, listed = exceptions_of(0, START, messages, output, Settled())
    held = np.unique(output.rows["kafka_offset"].to_numpy())
    without: list[Exceptional] = []
    for e in listed:
        if e.start <= missing < e.end:
            without += [e._replace(end=missing)] if e.start < missing else []
            without += [e._replace(start=missing + 1)] if missing + 1 < e.end else []
        else:
            without.append(e)
    with pytest.raises(IntegrityError, match=f"offset {missing}:"):
        assert_settled(0, START, END, held[held != missing], without, Settled())


def test_a_batch_dropped_on_the_way_is_no_gap() -> None:
    messages, output = made(["rows"] * (END - START))
    with pytest.raises(IntegrityError, match=f"begins at offset {START} where {START - 5} is due"):
        exceptions_of(0, START - 5, messages, output, Settled())


def test_an_offset_that_comes_again_is_refused() -> None:
    messages, output = made(["rows"] * (END - START))
    again = messages._replace(offset=messages.offset - (messages.offset == START + 3))
    with pytest.raises(IntegrityError, match="came again"):
        exceptions_of(0, START, again, output, Settled())


def test_what_retention_took_is_listed_as_such() -> None:
    messages, output = made(["rows"] * (END - START))
    messages = messages._replace(starts={0: 40}, gaps=((0, 40, START),))
    _, listed = exceptions_of(0, 40, messages, output, Settled())
    assert [(e.start, e.end, e.reason) for e in listed] == [(40, START, "RETENTION_GAP")]


@given(contents, st.lists(st.tuples(offsets, st.integers(1, 9)), max_size=3), settled_sets)
def test_gaps_anywhere_are_listed_once_and_told_apart(
    contents: list[str], gaps: list[tuple[int, int]], before: tuple
) -> None:
    """What retention took may lie behind messages of the same batch, several times."""
    taken = {o for first, length in gaps for o in range(first, min(first + length, END))}
    contents = ["marker" if START + k in taken else what for k, what in enumerate(contents)]
    messages, output = made(contents)
    messages = messages._replace(gaps=tuple((0, first, min(first + length, END)) for first, length in gaps))
    settled = settled_of(*before)
    _, listed = exceptions_of(0, START, messages, output, settled)
    known = {o for a, b in settled.ranges for o in range(a, b)}
    for offset in range(START, END):
        mine = [e.reason for e in listed if e.row == REST and e.start <= offset < e.end and e.reason != "CORRUPT"]
        if offset in known or contents[offset - START] != "marker":
            assert mine == []
        else:
            assert mine == ["RETENTION_GAP" if offset in taken else "NO_MESSAGE"]


def test_what_is_listed_twice_is_refused() -> None:
    twice = [Exceptional(0, START, END, REST, "RETENTION_GAP"), Exceptional(0, START + 3, END, REST, "NO_MESSAGE")]
    with pytest.raises(IntegrityError, match="listed twice"):
        assert_settled(0, START, END, np.empty(0, np.int64), twice, Settled())


@given(st.lists(st.tuples(st.integers(0, 60), st.integers(1, 9)), max_size=12), st.integers(0, 70), st.integers(0, 70))
def test_settled_ranges_against_a_set(added: list[tuple[int, int]], at: int, until: int) -> None:
    """Merged ranges and bisection answer as a set of offsets does, also after some are forgotten."""
    settled, naive = Settled(), set()
    for k, (first, length) in enumerate(added):
        if k % 3 == 2:  # rows of a replay come many at once, with holes between
            many = np.arange(first, first + 3 * length, 2)
            settled.add_offsets(many)
            naive |= set(many.tolist())
            continue
        settled.add(first, first + length, REST)
        naive |= set(range(first, first + length))
    every = np.arange(100)
    assert settled.whole(every).tolist() == [o in naive for o in every]
    holes = {o for a, b in settled.holes(at, until) for o in range(a, b)}
    assert holes == {o for o in range(at, until) if o not in naive}
    settled.forget_below(at)
    assert settled.whole(every[at:]).tolist() == [o in naive for o in every[at:]]
