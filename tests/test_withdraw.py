"""Withdrawal: exactly the rows of a night by a model go, the proof adds up, whoever crashes or writes beside it."""

import shutil
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import pyarrow.compute as pc
import pytest
from deltalake import DeltaTable

from schemas.catalogue import REST
from schemas.errors import UserError
from streamer.care.leases import LeaseLost
from streamer.care.withdraw import Withdrawn, withdraw
from streamer.sink.catalogue import ensure
from streamer.sink.claim import Region
from streamer.sink.delta import DeltaSink
from streamer.sink.ledger import Fenced
from streamer.sink.operations import Operation, record, recorded
from streamer.sink.verify import verify
from tests.fault_points import Killed, die, once
from tests.made_rows import IDENTITY, advance, batch, expected, no_first, now_ms, rows_of, stored, story
from tests.test_cli_catalog import run

NIGHT, MODEL = "2026-05-02", "forest-lsst-01234567"  # of three nights: every third offset
PARTITIONS = [0, 1]
END = 30
POINTS = range(1, 7)
BETWEEN = 45  # a moment of a claim that has no number: between its two readings
Point = Callable[[int], None]


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three catalogues to copy: without rows, read by a live worker, and by a replay."""
    folder = tmp_path_factory.mktemp("withdraw")
    ensure(folder / "empty")
    for name, fill in (("live", lambda root: go_on(root, END)), ("replayed", lambda root: replay(root, 0, END))):
        fill(shutil.copytree(folder / "empty", folder / name))
    return folder


@pytest.fixture
def empty(made: Path, tmp_path: Path) -> Path:
    return shutil.copytree(made / "empty", tmp_path / "catalogue")


@pytest.fixture
def root(made: Path, tmp_path: Path) -> Path:
    return shutil.copytree(made / "live", tmp_path / "catalogue")


@pytest.fixture
def replayed(made: Path, tmp_path: Path) -> Path:
    return shutil.copytree(made / "replayed", tmp_path / "catalogue")


def go_on(root: Path, end: int) -> None:
    sink = DeltaSink(root, IDENTITY, now_ms)
    advance(sink, end, 15, sink.claim(PARTITIONS, no_first))


def replay(root: Path, start: int, end: int, step: int = 15) -> None:
    operation = Operation("1" * 32, "replay", MODEL, IDENTITY)
    regions = [(p, start, end) for p in PARTITIONS]
    record(root, operation, "begun", regions, {}, now_ms())
    sink = DeltaSink(root, IDENTITY, now_ms, regions={p: Region(start, end) for p in PARTITIONS})
    advance(sink, end, step, sink.claim(PARTITIONS, no_first))
    record(root, operation, "done", regions, {}, now_ms())


def take_out(root: Path, point: Point = lambda step: None, night: str = NIGHT) -> Withdrawn:
    return withdraw(root, night, MODEL, "a bad flat field", "test", now_ms, point)


def is_gone(offset: int) -> bool:
    return offset % 3 == 1


def assert_withdrawn(root: Path, end: int = END, begun: int = END) -> None:
    """Of the story up to `end`, the rows of the night below `begun` are listed instead; everything else is as it was."""
    rows, listed = expected(PARTITIONS, end)
    gone = {r for r in rows if is_gone(r[1]) and r[1] < begun}
    have_rows, have_listed = stored(root)
    assert have_rows == sorted(rows - gone)
    assert have_listed == sorted([*listed, *{(p, o, REST) for p, o, _ in gone}])
    report = verify(root)
    assert report.ok, report.lines()


def test_exactly_the_rows_of_the_night_go_and_each_offset_is_listed(root: Path) -> None:
    rows = {r for r in expected(PARTITIONS, END)[0] if is_gone(r[1])}
    done = take_out(root)
    assert done == (len(rows), len({(p, o) for p, o, _ in rows}), 0)
    assert_withdrawn(root)
    table = DeltaTable(str(root / "exceptions")).to_pyarrow_table()
    texts = table.filter(pc.equal(table["reason"], "WITHDRAWN"))["text"].to_pylist()
    assert set(texts) == {"withdrawn: a bad flat field"}
    told = recorded(root).to_pylist()
    assert sorted((t["kind"], t["state"], t["kafka_partition"], t["night"]) for t in told) == [
        ("withdraw", state, p, NIGHT) for state in ("begun", "done") for p in PARTITIONS
    ]
    with pytest.raises(UserError, match=f"no rows of the night {NIGHT}"):
        take_out(root)


@pytest.mark.parametrize("step", POINTS)
def test_a_withdrawal_killed_at_every_step_is_finished_by_another(root: Path, step: int) -> None:
    before = stored(root)
    with pytest.raises(Killed):
        take_out(root, once(step, die))
    report = verify(root)
    if step <= 3:
        assert stored(root) == before
        assert report.ok
    elif step <= 5:
        assert stored(root)[0] == before[0]
        assert any("unfinished withdrawal, run it again" in line for line in report.doubled), report.lines()
    if step < 6:
        take_out(root)
    assert_withdrawn(root)


@pytest.mark.parametrize("step", [1, 2, 3, 5])
def test_of_two_withdrawals_at_once_one_is_fenced(root: Path, step: int) -> None:
    """While one sleeps at `step`, another does all of it."""
    with pytest.raises(LeaseLost):
        take_out(root, once(step, lambda: take_out(root)))
    assert_withdrawn(root)


@pytest.mark.parametrize("step", [1, 4])
def test_live_rows_that_come_meanwhile_stand(root: Path, step: int) -> None:
    done = take_out(root, once(step, lambda: go_on(root, 60)))
    more = [r for r in expected(PARTITIONS, 60)[0] if is_gone(r[1]) and r[1] >= END]
    assert done.left == len(more)
    assert_withdrawn(root, 60)
    assert take_out(root).rows == len(more)
    assert_withdrawn(root, 60, 60)


def test_a_live_worker_that_goes_on_is_not_disturbed(root: Path) -> None:
    sink = DeltaSink(root, IDENTITY, now_ms)
    positions = sink.claim(PARTITIONS, no_first)
    take_out(root)
    advance(sink, 60, 30, positions)
    assert sink.owned == set(PARTITIONS)
    assert_withdrawn(root, 60)


def meanwhile(sink: DeltaSink, claim_step: int, what: Callable[[], object]) -> None:
    """Do `what` at a step of the next claim; at BETWEEN, after it has read E anew and before it reads R."""
    if claim_step != BETWEEN:
        sink.ledger.point = once(claim_step, what)
        return
    ids, calls = sink.ledger.in_rows, []
    honest = ids.refresh

    def refresh() -> None:
        if calls == [4]:
            calls.append(5)
            what()
        honest()

    ids.refresh = refresh  # type: ignore[method-assign]
    sink.ledger.point = once(4, lambda: calls.append(4))


@pytest.mark.parametrize("claim_step", [1, 3, BETWEEN, 5])
@pytest.mark.parametrize("lane", ["replay", "first live worker"])
def test_who_claims_meanwhile_never_brings_back_what_was_withdrawn(replayed: Path, claim_step: int, lane: str) -> None:
    """A replay wrote the rows. They are withdrawn while another replay, or the first live worker, claims these offsets."""
    root, regions = replayed, {p: Region(0, END) for p in PARTITIONS}
    sink = DeltaSink(root, IDENTITY, now_ms, regions=regions if lane == "replay" else None)
    meanwhile(sink, claim_step, lambda: take_out(root))
    with suppress(Fenced):
        advance(sink, END, 15, sink.claim(PARTITIONS, no_first))
    if lane == "replay":
        replay(root, 0, END)
    else:
        go_on(root, END)
    assert_withdrawn(root)


def test_a_live_worker_on_its_way_there_claims_anew(replayed: Path) -> None:
    root = replayed
    sink = DeltaSink(root, IDENTITY, now_ms)
    positions = advance(sink, 10, 10, sink.claim(PARTITIONS, no_first))
    take_out(root)
    assert advance(sink, END, END, positions) == {}  # fenced
    go_on(root, END)
    assert_withdrawn(root)


def test_a_message_with_rows_in_two_nights_loses_those_of_one(empty: Path) -> None:
    root = empty
    offset = next(o for o in range(100) if isinstance(story(0, o), tuple) and story(0, o) == (3, ()) and o % 3 == 0)
    messages, output = batch({0: offset}, {0: offset + 1})
    nights = ["2026-05-01", NIGHT, NIGHT]
    rows = output.rows.set_column(0, output.rows.schema.field("night"), [nights])
    sink = DeltaSink(root, IDENTITY, now_ms)
    sink.claim([0], lambda partitions, known: dict.fromkeys(partitions, offset))
    sink.write(messages, output._replace(rows=rows))
    sink.commit()
    assert take_out(root) == (2, 1, 0)
    assert stored(root) == ([(0, offset, 0)], [(0, offset, 1), (0, offset, 2)])
    assert verify(root).ok
    assert take_out(root, night="2026-05-01") == (1, 1, 0)
    assert verify(root).ok
    assert stored(root)[0] == []


def test_another_processing_is_not_touched_and_may_be_replayed_there(root: Path) -> None:
    other = IDENTITY._replace(processing_id="fedcba9876543210")
    sink = DeltaSink(root, other, now_ms)
    sink.claim([0], no_first)
    messages, output = batch({0: 0}, {0: 12})
    rows = rows_of(
        [(0, o, r) for o, r in zip(*(output.rows[k].to_pylist() for k in ("kafka_offset", "kafka_row")), strict=True)],
        nights=3,
        identity=other,
    )
    rows = rows.set_column(1, rows.schema.field("model"), [["forest-lsst-fedcba98"] * len(rows)])
    sink.write(messages, output._replace(rows=rows))
    sink.commit()
    before = len(stored(root)[0])
    done = take_out(root)
    assert len(stored(root)[0]) == before - done.rows
    assert verify(root).ok


def test_the_command_asks_first(root: Path) -> None:
    words = ["catalog", "withdraw", root, "--night", NIGHT, "--model", MODEL]
    before = stored(root)
    assert run(*words).exit_code == 1  # nobody answers
    assert stored(root) == before
    text = run(*words, "--why", "a bad flat field", "--yes").output
    assert "messages are withdrawn" in text
    assert_withdrawn(root)
    assert "nothing to withdraw" in str(run(*words, "--yes").exception)
