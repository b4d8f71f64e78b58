"""Replays and retries in a lane of their own: whoever crosses whom, every offset is there once."""

import shutil
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest

from schemas.batch import Messages
from schemas.catalogue import REST
from streamer.sink.catalogue import ensure
from streamer.sink.claim import Claims, Region
from streamer.sink.delta import DeltaSink
from streamer.sink.ledger import Fenced
from streamer.sink.operations import Kind, Operation, State, record, recorded
from streamer.sink.verify import verify
from tests.fault_points import Killed, die, once
from tests.made_rows import IDENTITY, advance, batch, expected, now_ms, rows_of, stored, story

PARTITIONS = [0]  # one: that several stand in one commit is tested in test_ledger.py
END = 26  # enough to hold a refused message, an empty one and refused rows
STEPS = range(1, 19)
Point = Callable[[int], None]


@pytest.fixture(scope="module")
def empty(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("lanes") / "catalogue"
    ensure(made)
    note(made, "begun", 0, END)
    return made


@pytest.fixture
def root(tmp_path: Path, empty: Path) -> Path:
    """A catalogue without rows in which a replay is recorded to have begun; a copy costs less than five tables."""
    shutil.copytree(empty, tmp_path / "catalogue")
    return tmp_path / "catalogue"


def note(root: Path, state: State, start: int, end: int, kind: Kind = "replay") -> None:
    operation = Operation("0" * 32, kind, "forest-lsst-01234567", IDENTITY)
    record(root, operation, state, [(p, start, end) for p in PARTITIONS], {}, now_ms())


def live(root: Path, point: Point = lambda step: None) -> DeltaSink:
    return DeltaSink(root, IDENTITY, now_ms, point)


def replaying(root: Path, point: Point = lambda step: None, start: int = 0, end: int = END) -> DeltaSink:
    return DeltaSink(root, IDENTITY, now_ms, point, {p: Region(start, end) for p in PARTITIONS})


def from_offset(start: int) -> Callable[[list[int], bool], dict[int, int]]:
    return lambda partitions, known: dict.fromkeys(partitions, start)


def replay(root: Path, point: Point = lambda step: None, start: int = 0, end: int = END, step: int = 13) -> None:
    """A whole replay: claimed, and worked off to where the claim says that it ends."""
    sink = replaying(root, point, start, end)
    positions = sink.claim(PARTITIONS, from_offset(0))
    advance(sink, max(sink.ledger.own[p].end or 0 for p in PARTITIONS), step, positions)


def follow(root: Path, start: int, point: Point = lambda step: None, end: int = END) -> None:
    """A live worker, from `start` on if it is the first."""
    sink = live(root, point)
    advance(sink, end, 18, sink.claim(PARTITIONS, from_offset(start)))


def assert_story(root: Path, start: int = 0, end: int = END) -> None:
    """Set equality with the story from `start` on, and the tables' own proof, once the replay is recorded to be done."""
    note(root, "done", start, end)
    rows, listed = stored(root)
    want_rows, want_listed = expected(PARTITIONS, end)
    assert rows == sorted(r for r in want_rows if r[1] >= start)
    assert listed == sorted(r for r in want_listed if r[1] >= start)
    report = verify(root)
    assert report.ok, report.lines()
    assert report.offsets == (end - start) * len(PARTITIONS)


def test_a_second_replay_adds_nothing(root: Path) -> None:
    replay(root)
    assert_story(root)
    replay(root, step=9)
    assert_story(root)


def test_a_replay_fills_only_below_the_live_start(root: Path) -> None:
    follow(root, 17)
    replay(root, start=5)
    assert_story(root, start=5)
    replay(root, start=0)
    assert_story(root)


def test_a_live_worker_fills_the_holes_that_a_replay_left(root: Path) -> None:
    """Rule b: where a replay came first, its rows ahead of the position stay, and nothing is written twice."""
    replay(root, start=8, end=14)
    replay(root, start=18, end=20)
    sink = live(root)
    positions = sink.claim(PARTITIONS, from_offset(0))
    assert positions == dict.fromkeys(PARTITIONS, 0)
    advance(sink, 11, 6, positions)
    follow(root, 0)  # a later owner, in the middle of the replayed range
    assert_story(root)


@pytest.mark.parametrize("step", STEPS)
def test_a_replay_killed_at_every_step_goes_on(root: Path, step: int) -> None:
    with pytest.raises(Killed):
        replay(root, once(step, die))
    replay(root, step=20)
    assert_story(root)


@pytest.mark.parametrize("step", STEPS)
def test_a_replay_that_sleeps_at_every_step_wakes_to_nothing(root: Path, step: int) -> None:
    """While one replay sleeps at `step`, another does all of it."""
    with suppress(Fenced):
        replay(root, once(step, lambda: replay(root, step=20)))
    replay(root)
    assert_story(root)


@pytest.mark.parametrize(("step", "start"), [*((step, 0) for step in STEPS), (5, 15), (8, 15), (12, 15), (16, 15)])
def test_the_first_live_claim_meets_a_replay_at_every_step(root: Path, step: int, start: int) -> None:
    """A live worker begins at `start` and reads to the end, while a replay of all that sleeps at `step`."""
    with suppress(Fenced):
        replay(root, once(step, lambda: follow(root, start)))
    replay(root)
    assert_story(root)


@pytest.mark.parametrize("step", [*range(1, 7), 9, 12, 15, 16, 17])
def test_a_replay_meets_the_first_live_claim_at_every_step(root: Path, step: int) -> None:
    """A replay comes and goes while the first live worker sleeps at `step` of its claim or its first commits."""
    with suppress(Fenced):
        follow(root, 15, once(step, lambda: replay(root)))
    follow(root, 15)
    replay(root)
    assert_story(root)


@pytest.mark.parametrize("step", [2, 3, 4, 5])
def test_a_replay_that_began_meets_the_first_live_claim(root: Path, step: int) -> None:
    """A replay that holds its claim commits, and is claimed again, between the steps of the first live claim."""
    sink = replaying(root)
    positions = sink.claim(PARTITIONS, from_offset(0))
    sink.write(*batch(positions, dict.fromkeys(PARTITIONS, 12)))

    def meanwhile() -> None:
        sink.commit()
        at = sink.claim(PARTITIONS, from_offset(0))
        sink.write(*batch(at, {p: min(18, sink.ledger.own[p].end or 0) for p in PARTITIONS}))
        sink.commit()

    with suppress(Fenced):
        follow(root, 5, once(step, meanwhile))
    follow(root, 5)
    replay(root)
    assert_story(root)


def test_live_workers_and_replays_do_not_fence_each_other(root: Path) -> None:
    """But for the first claim: afterwards either lane goes on while the other claims."""
    worker = live(root)
    at = worker.claim(PARTITIONS, from_offset(15))
    sink = replaying(root, end=15)
    past = sink.claim(PARTITIONS, from_offset(0))
    worker.write(*batch(at, dict.fromkeys(PARTITIONS, 20)))
    assert worker.commit() == (dict.fromkeys(PARTITIONS, 20), set())
    follow(root, 15)
    advance(sink, 15, 8, past)
    assert sink.owned == set(PARTITIONS)
    assert_story(root)


@pytest.mark.parametrize("rule", ["a: the first live claim fences replays", "b: a live claim reads a replay's rows"])
def test_without_a_rule_something_is_doubled(root: Path, rule: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without one of the rules that keep the lanes apart the tables double something, and verify says so."""
    if rule[0] == "a":
        monkeypatch.setattr(Claims, "_raised", lambda self, partitions: {self._app(p, "epoch"): p for p in partitions})
        with suppress(Fenced):
            replay(root, once(15, lambda: follow(root, 0)))
    else:
        replay(root)
        monkeypatch.setattr(Claims, "_standing", lambda self, bounds: iter(()))
        follow(root, 0)
    assert verify(root).doubled


# -- retries ---------------------------------------------------------------------------------------------------------------


def retry(root: Path, asked: set[tuple[int, int]], partition: int = 0, point: Point = lambda step: None) -> None:
    """Write now one row for each (offset, row) of `asked` that stands open; row REST is mended to a message of one row."""
    start, end = min(o for o, _ in asked), max(o for o, _ in asked) + 1
    operation = Operation("1" * 32, "retry", "forest-lsst-01234567", IDENTITY)
    record(root, operation, "begun", [(partition, o, o + 1) for o, _ in asked], {}, now_ms())
    sink = DeltaSink(root, IDENTITY, now_ms, point, {partition: Region(start, end, frozenset(asked))})
    sink.claim([partition], from_offset(0))
    offsets = np.array(sorted({o for o, _ in asked}), np.int64)
    n = len(offsets)
    places = np.full(n, partition, np.int32), offsets, np.full(n, now_ms(), np.int64)
    messages = Messages([b"mended"] * n, *places, {partition: end}, (), {partition: start})
    _, nothing = batch({}, {})
    rows = rows_of([(partition, o, max(r, 0)) for o, r in sorted(asked)])
    sink.write(messages, nothing._replace(rows=rows))
    sink.commit()


def open_entries(partition: int, below: int) -> tuple[list[int], list[tuple[int, int]]]:
    """(offsets refused whole, rows refused one by one) of the story."""
    told = {o: story(partition, o) for o in range(below)}
    singles = [(o, r) for o, what in told.items() if isinstance(what, tuple) for r in what[1]]
    return [o for o, what in told.items() if what == "refused"], singles


@pytest.mark.parametrize("step", [4, 15, 17])  # of the claim, before and after its only commit
def test_a_retry_writes_what_is_open_once(root: Path, step: int) -> None:
    """Refused messages and single rows, mended: each lands once, killed at any step and run twice."""
    follow(root, 0)
    before, listed = stored(root)
    whole, singles = open_entries(0, END)
    assert whole
    assert singles
    asked = {(o, REST) for o in whole} | set(singles)
    with pytest.raises(Killed):
        retry(root, asked, point=once(step, die))
    for _ in range(2):
        retry(root, asked)
        rows, still_listed = stored(root)
        assert rows == sorted([*before, *((0, o, max(r, 0)) for o, r in asked)])
        assert still_listed == listed
    assert verify(root).ok, verify(root).lines()


def test_a_retry_leaves_alone_what_a_live_worker_may_still_write(root: Path) -> None:
    """From the live start on only what is listed is open: the rest is, or will be, a live worker's."""
    follow(root, 10)
    before, _ = stored(root)
    good = next(o for o in range(10, END) if isinstance(story(0, o), tuple))
    retry(root, {(good, REST), (END + 3, REST), (4, REST)})
    rows, _ = stored(root)
    assert rows == sorted([*before, (0, 4, 0)])
    assert verify(root).ok


# -- operations and the proof ----------------------------------------------------------------------------------------------


def test_a_replay_that_is_done_must_have_settled_all(root: Path) -> None:
    replay(root, end=20)
    note(root, "done", 0, 25)
    assert [line.split(": ")[1] for line in verify(root).lost] == ["offsets 20 to 24 are neither rows nor listed"]


def test_rows_outside_every_range_are_strays(root: Path) -> None:
    sink = replaying(root, start=END - 5, end=END + 5)  # it claims more than was recorded
    advance(sink, END + 5, 10, sink.claim(PARTITIONS, from_offset(0)))
    report = verify(root)
    assert report.doubled
    assert all(f"lies outside [0, {END})" in line for line in report.doubled)


def test_a_row_at_a_refused_offset_needs_a_retry(root: Path) -> None:
    from deltalake import DeltaTable, write_deltalake

    follow(root, 0)
    whole, _ = open_entries(0, END)
    write_deltalake(DeltaTable(str(root / "rows")), rows_of([(0, whole[0], 0)]), mode="append")
    assert [f"offset {whole[0]} row 0 stands, and is listed" in line for line in verify(root).doubled] == [True]
    note(root, "begun", whole[0], whole[0] + 1, "retry")
    assert verify(root).ok


def test_a_catalogue_of_an_older_version_has_no_operations(root: Path) -> None:
    follow(root, 0)
    shutil.rmtree(root / "operations")
    assert len(recorded(root)) == 0
    assert verify(root).ok
    ensure(root)
    assert_story(root)


def test_operations_are_recorded_as_they_were_said(root: Path) -> None:
    note(root, "done", 3, 7)
    kept = recorded(root).sort_by("state")
    assert kept["state"].to_pylist() == ["begun", "done"]
    assert kept["offset_end"].to_pylist() == [END, 7]
    assert set(kept["model"].to_pylist()) == {"forest-lsst-01234567"}
