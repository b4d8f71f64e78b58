"""Memory of PDFs: given out again only when nobody can see it any more, and never more of it than was needed."""

import gc
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from models import lending
from models.lending import Lender

ROWS, POINTS = 2_000, 301  # 2.4 MB


def address(array: np.ndarray) -> int:
    return int(array.ctypes.data)


def test_memory_comes_back_with_the_last_view() -> None:
    lender = Lender()
    first = lender.empty(ROWS, POINTS)
    assert first.shape == (ROWS, POINTS)
    assert first.dtype == np.float32
    assert first.flags.c_contiguous
    assert first.flags.writeable
    at = address(first)
    view = first[5:7, 3]
    del first
    assert address(lender.empty(ROWS, POINTS)) != at
    column = pa.array(view.base.reshape(-1))  # Arrow holds on to it as well
    del view
    assert address(lender.empty(ROWS, POINTS)) != at
    del column
    gc.collect()
    assert at in {address(lender.empty(ROWS, POINTS)) for _ in range(3)}


def test_small_and_huge_arrays_are_not_kept() -> None:
    lender = Lender()
    for rows in (1, 100, lending.LARGEST // POINTS // 4 + 1):
        assert lender.empty(rows, POINTS).shape == (rows, POINTS)
    assert lender._most == 0


@given(st.lists(st.tuples(st.integers(870, 9_000), st.integers(0, 3)), max_size=30))
@settings(max_examples=50, deadline=None)
def test_no_more_memory_than_was_lent_at_once(asked: list[tuple[int, int]]) -> None:
    lender = Lender()
    held: list[np.ndarray] = []
    for k, (rows, drop) in enumerate(asked):
        held = held[drop:]
        array = lender.empty(rows, POINTS)
        array[0, 0] = array[-1, -1] = k
        held.append(array)
        assert sum(map(len, lender._kept)) + lender._lent <= lender._most
        spans = sorted((address(a), address(a) + a.nbytes) for a in held)
        assert all(before[1] <= after[0] for before, after in pairwise(spans))


def test_many_threads_never_share() -> None:
    lender = Lender()

    def work(thread: int) -> bool:
        for k in range(60):
            array = lender.empty(ROWS + k, POINTS)
            array[:] = thread
            if not (array == thread).all():
                return False
        return True

    with ThreadPoolExecutor(4) as pool:
        assert all(pool.map(work, range(4)))


def test_what_waits_is_let_go_where_memory_is_short(monkeypatch: pytest.MonkeyPatch) -> None:
    lender = Lender()
    for rows in (ROWS, 2 * ROWS):
        lender.empty(rows, POINTS)
    empty = np.empty

    def short(size: int, kind: type) -> np.ndarray:
        if lender._kept:
            raise MemoryError
        return empty(size, kind)

    monkeypatch.setattr(lending.np, "empty", short)
    assert lender.empty(4 * ROWS, POINTS).shape == (4 * ROWS, POINTS)
