"""Repeated alert ids are counted once each, however batches are cut, in bounded memory; the summary says them."""

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from consumers import repeats
from consumers.repeats import Repeats
from streamer.tally import Progress


def twin(rows: list[tuple[str, int, int]], full: int) -> list[bool]:
    """The same with dictionaries: two generations of at most `full` names."""
    young: dict[str, tuple[int, int]] = {}
    old: dict[str, tuple[int, int]] = {}
    out = []
    for name, partition, offset in rows:
        place = (partition, offset)
        if not name:
            out.append(False)
            continue
        if name not in young:
            if len(young) >= full:
                young, old = {}, young
            young[name] = old.get(name, place)
        out.append(young[name] != place)
    return out


def count(counter: Repeats, rows: list[tuple[str, int, int]]) -> list[bool]:
    names, partition, offset = (list(column) for column in zip(*rows, strict=True)) if rows else ([], [], [])
    ids = pa.chunked_array([pa.array(names[:1], pa.string()), pa.array(names[1:], pa.string())])
    return counter.count(ids, np.array(partition, np.int32), np.array(offset, np.int64)).tolist()


NAMES = ["", "αβ", *map(str, range(12))]
ROW = st.integers(0, len(NAMES) * 3 * 3 - 1).map(
    lambda k: (NAMES[k % len(NAMES)], k // len(NAMES) % 3, (0, 1, 1 << 40)[k % 3])
)


@settings(max_examples=400, deadline=None)
@given(st.lists(ROW, max_size=60), st.integers(1, 30))
def test_it_counts_as_dictionaries_do(rows: list[tuple[str, int, int]], size: int) -> None:
    with pytest.MonkeyPatch.context() as small:
        small.setattr(repeats, "SLOTS", 8)
        small.setattr(repeats, "FULL", 4)
        counter = Repeats()
        found = [flag for at in range(0, len(rows), size) for flag in count(counter, rows[at : at + size])]
    assert found == twin(rows, 4)


def test_what_is_read_again_from_the_same_offset_is_no_repetition() -> None:
    counter = Repeats()
    first, again = [("x", 0, 7)], [("x", 0, 9), ("x", 1, 7)]
    assert count(counter, first + again) == [False, True, True]
    assert count(counter, first) == [False]
    assert count(counter, again) == [True, True]  # after a partition was given up and read again, say


def test_two_rows_of_one_message_repeat_nothing() -> None:
    assert count(Repeats(), [("x", 0, 7), ("x", 0, 7)]) == [False, False]


def test_a_night_is_remembered() -> None:
    counter = Repeats()
    n = 400_000
    ids = pa.chunked_array([pa.array(np.arange(n) + 2_000_000_000_000_000_000).cast(pa.string())])
    zero, at = np.zeros(n, np.int32), np.arange(n, dtype=np.int64)
    assert not counter.count(ids, zero, at).any()
    assert counter.count(ids, zero, at + n).all()
    assert not counter.count(ids, zero, at).any()
    sliced = ids.slice(1000, 5)
    assert counter.count(sliced, zero[:5], at[:5]).all()


def test_counts_of_several_topics_add_up() -> None:
    total = Progress(1, 2, 1, 1, 3, {"CORRUPT": 1}) + Progress(1, 1, 0, 1, 0, {"LACKS_FIELD": 2, "CORRUPT": 3})
    assert total == Progress(2, 3, 1, 2, 3, {"LACKS_FIELD": 2, "CORRUPT": 4})
    assert total.exceptions == "1 messages refused (4 CORRUPT, 2 LACKS_FIELD), 3 repeated alert ids"
    assert Progress().exceptions == "0 messages refused"
