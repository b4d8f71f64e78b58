"""Many series at once say of each row what a plain reading of its known looks says."""

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from streamer.lag.sheet import SHORTEST, UNKNOWN, Sheet

KNOWN = list[tuple[float, int]]  # looks that knew a row: time, offset
ROWS = st.integers(0, 12).flatmap(
    lambda looks: st.lists(
        st.lists(st.just(UNKNOWN) | st.integers(0, 9), min_size=looks, max_size=looks), min_size=1, max_size=4
    )
)
RISING = ROWS.map(
    lambda rows: [[offset if offset == UNKNOWN else max(row[: k + 1]) for k, offset in enumerate(row)] for row in rows]
)


def sheet_of(rows: list[list[int]], step: float = 7.0) -> tuple[Sheet, list[KNOWN]]:
    at = step * np.arange(len(rows[0]))
    known = [[(float(t), offset) for t, offset in zip(at, row, strict=True) if offset != UNKNOWN] for row in rows]
    return Sheet.of(at, np.array(rows, np.int64).reshape(len(rows), -1)), known


def said(numbers: np.ndarray) -> list[float | None]:
    return [None if np.isnan(number) else float(number) for number in numbers]


def rate(known: KNOWN) -> float | None:
    if len(known) < 2 or known[-1][0] - known[0][0] < SHORTEST:
        return None
    return max(0.0, (known[-1][1] - known[0][1]) / (known[-1][0] - known[0][0]))


def moved(known: KNOWN) -> float | None:
    others = [k for k, (_, offset) in enumerate(known) if offset != known[-1][1]]
    return known[others[-1] + 1][0] if others else None


def ahead(known: KNOWN, other: KNOWN) -> int:
    """Where both are as they were at the last look before, should one of them not have known it."""
    if not known or not other:
        return UNKNOWN
    when = max(known[0][0], other[0][0])
    there, here = ([offset for at, offset in looks if at <= when][-1] for looks in (known, other))
    return max(there - here, 0)


@settings(max_examples=60)
@given(ROWS, st.data())
def test_each_row_is_what_its_known_looks_say(rows: list[list[int]], data: st.DataObject) -> None:
    sheet, known = sheet_of(rows)
    assert said(sheet.rate()) == pytest.approx([rate(of) for of in known])
    assert sheet.fell().tolist() == [any(b < a for (_, a), (_, b) in pairwise(of)) for of in known]
    assert said(sheet.moved()) == [moved(of) for of in known]
    assert said(sheet.first()[0]) == [of[0][0] if of else None for of in known]
    assert sheet.first()[1].tolist() == [of[0][1] if of else UNKNOWN for of in known]
    last, _, greatest = sheet.leaps()
    assert last.tolist() == [of[-1][1] if of else UNKNOWN for of in known]
    steps = [[b - a for (_, a), (_, b) in pairwise(of)] for of in known]
    assert greatest.tolist() == [max([0, *of]) for of in steps]
    order = data.draw(st.permutations(range(len(rows))))
    less = sheet.rows(np.array(order))
    assert sheet.ahead(less).tolist() == [ahead(of, known[k]) for of, k in zip(known, order, strict=True)]


@settings(max_examples=60)
@given(RISING, st.integers(-1, 10))
def test_a_log_passed_an_offset_between_two_looks_that_knew_it(rows: list[list[int]], offset: int) -> None:
    sheet, known = sheet_of(rows)
    seen = sheet.passed(np.full(len(rows), offset))
    for k, of in enumerate(known):
        before = [look for look in of if look[1] <= offset]
        after = [look for look in of if look[1] > offset]
        assert said(seen.before)[k] == (before[-1][0] if before else None)
        assert said(seen.after)[k] == (after[0][0] if after else None)
        if before and after:
            share = (offset - before[-1][1]) / (after[0][1] - before[-1][1])
            assert seen.between[k] == pytest.approx(before[-1][0] + share * (after[0][0] - before[-1][0]))
        else:
            assert np.isnan(seen.between[k])


def test_where_a_log_grew_past_an_offset() -> None:
    sheet, _ = sheet_of([[5, 5, 15, 15]] * 4, step=10)
    seen = sheet.passed(np.array([3, 5, 10, 15]))
    assert said(seen.before) == [None, 10, 10, 30]
    assert said(seen.after) == [0, 20, 20, None]
    assert said(seen.between) == [None, 10, 15, None]
    assert said(sheet.moved()) == [20] * 4
    assert said(sheet.rate()) == pytest.approx([1 / 3] * 4)


def test_what_a_look_did_not_know_is_as_it_was_before() -> None:
    """The time is that of the look that knew it: a log may have grown while nobody could see it."""
    sheet, _ = sheet_of([[UNKNOWN, 4, UNKNOWN, UNKNOWN, 6]], step=10)
    assert sheet.value.tolist() == [[UNKNOWN, 4, 4, 4, 6]]
    assert sheet.at[0, 1:].tolist() == [10, 10, 10, 40]
    assert said(sheet.passed(np.array([5])).before) == [10]
