"""The commit protocol, step by step: whoever crashes, sleeps or comes back, every offset is there once."""

from contextlib import suppress
from pathlib import Path

import pytest
from deltalake import DeltaTable, write_deltalake

from schemas.errors import IntegrityError
from streamer.sink.catalogue import ensure
from streamer.sink.delta import DeltaSink
from streamer.sink.ledger import Fenced, Ledger
from streamer.sink.verify import verify
from tests.fault_points import Killed
from tests.made_rows import IDENTITY, advance, batch, expected, no_first, now_ms, rows_of, stored

PARTITIONS = [0, 1, 2]
END = 60


@pytest.fixture
def root(tmp_path: Path) -> Path:
    ensure(tmp_path / "catalogue")
    return tmp_path / "catalogue"


def sink_of(root: Path, point=lambda step: None) -> DeltaSink:
    return DeltaSink(root, IDENTITY, now_ms, point)


def assert_story(root: Path, end: int = END) -> None:
    """Set equality with the story, and the tables' own proof."""
    rows, listed = stored(root)
    want_rows, want_listed = expected(PARTITIONS, end)
    assert rows == sorted(want_rows)
    assert listed == sorted(want_listed)
    report = verify(root)
    assert report.ok, report.lines()
    assert report.offsets == end * len(PARTITIONS)


def test_a_quiet_night(root: Path) -> None:
    sink = sink_of(root)
    advance(sink, END, 7, sink.claim(PARTITIONS, no_first))
    assert_story(root)


def test_positions_survive_checkpoints(root: Path) -> None:
    """45 commits pass two checkpoints: a fresh reader of the log finds the same positions."""
    sink = sink_of(root)
    advance(sink, 45, 1, sink.claim(PARTITIONS, no_first))
    assert (root / "rows" / "_delta_log" / "_last_checkpoint").exists()
    assert sink_of(root).claim(PARTITIONS, no_first) == dict.fromkeys(PARTITIONS, 45)


@pytest.mark.parametrize("step", range(1, 19))
@pytest.mark.parametrize("time", [1, 2])
def test_killed_at_every_step(root: Path, step: int, time: int) -> None:
    """A worker dies the `time`-th time it comes to `step`; another goes on."""
    seen = 0

    def point(number: int) -> None:
        nonlocal seen
        seen += number == step
        if number == step and seen == time:
            raise Killed

    doomed = sink_of(root, point)
    try:
        advance(doomed, END, 11, doomed.claim(PARTITIONS, no_first))
    except Killed:
        pass
    else:
        # steps 1 to 5 belong to the claim, which is made once; every other step must have been reached
        assert step <= 5
        assert time == 2
    heir = sink_of(root)
    advance(heir, END, 13, heir.claim(PARTITIONS, no_first))
    assert_story(root)


@pytest.mark.parametrize("step", range(6, 19))
def test_zombie_wakes_at_every_step(root: Path, step: int) -> None:
    """A worker sleeps at `step` while another claims and commits; when it wakes it may add nothing."""
    slept = False

    def point(number: int) -> None:
        nonlocal slept
        if number == step and not slept:
            slept = True
            heir = sink_of(root)
            advance(heir, 40, 9, heir.claim(PARTITIONS, no_first))

    zombie = sink_of(root, point)
    zombie.write(*batch(zombie.claim(PARTITIONS, no_first), dict.fromkeys(PARTITIONS, 20)))
    zombie.commit()
    last = sink_of(root)
    advance(last, END, 17, last.claim(PARTITIONS, no_first))
    assert slept
    assert_story(root)


@pytest.mark.parametrize("step", [2, 3, 4, 5])
def test_claims_that_cross(root: Path, step: int) -> None:
    """A rival claims while we claim: one owner in the end, and it is not the older one."""
    rival = sink_of(root)
    done = False

    def point(number: int) -> None:
        nonlocal done
        if number == step and not done:
            done = True
            rival.claim(PARTITIONS, no_first)

    late = sink_of(root, point)
    try:
        late.claim(PARTITIONS, no_first)
    except Fenced:
        assert not late.owned
    else:
        late.write(*batch(dict.fromkeys(PARTITIONS, 0), dict.fromkeys(PARTITIONS, 5)))
        assert late.commit() == ({}, set(PARTITIONS))
    advance(rival, END, 20, dict.fromkeys(PARTITIONS, 0))
    assert_story(root)


@pytest.mark.parametrize("lie", ["failed but landed", "never went out"])
def test_answers_that_lie(root: Path, lie: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The answer of a commit is ignored: only the log says what landed."""
    honest, calls = Ledger._swap, 0

    def shaken(self, table, adds, ids):
        nonlocal calls
        calls += 1
        if calls % 3:
            return honest(self, table, adds, ids)
        if lie == "failed but landed":
            honest(self, table, adds, ids)
        return False

    monkeypatch.setattr(Ledger, "_swap", shaken)
    sink = sink_of(root)
    advance(sink, END, 8, sink.claim(PARTITIONS, no_first))
    assert calls > 10
    assert_story(root)


def test_one_partition_is_fenced_the_others_land(root: Path) -> None:
    sink = sink_of(root)
    at = sink.claim(PARTITIONS, no_first)
    sink.write(*batch(at, dict.fromkeys(PARTITIONS, 20)))
    thief = sink_of(root)
    thief.claim([1], no_first)
    durable, fenced = sink.commit()
    assert durable == {0: 20, 2: 20}
    assert fenced == {1}
    assert sink.owned == {0, 2}
    advance(thief, END, 30, {1: 0})
    advance(sink, END, 30, {0: 20, 2: 20})
    assert_story(root)


def weakened(rule: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Take one rule away from the protocol."""
    if rule == "no comparison":  # the handle moves on between comparison and commit
        honest = Ledger._swap

        def swap(self, table, adds, ids):
            table.update_incremental()
            return honest(self, table, adds, ids)

        monkeypatch.setattr(Ledger, "_swap", swap)
    else:  # settled entries are not loaded at a claim
        from streamer.sink.settled import Settled

        monkeypatch.setattr(Ledger, "_listed", lambda self, positions: {p: Settled() for p in positions})


@pytest.mark.parametrize(("rule", "step"), [("no comparison", 16), ("settled entries not loaded", 12)])
def test_a_weakened_protocol_is_caught(root: Path, rule: str, step: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """The proof can fail: without a rule, a worker that sleeps (or dies) at `step` doubles something, and verify says so."""
    weakened(rule, monkeypatch)
    done = False

    def point(number: int) -> None:
        nonlocal done
        if number == step and not done:
            done = True
            if rule == "no comparison":
                heir = sink_of(root)
                advance(heir, 20, 20, heir.claim(PARTITIONS, no_first))
            else:
                raise Killed

    first = sink_of(root, point)
    first.write(*batch(first.claim(PARTITIONS, no_first), dict.fromkeys(PARTITIONS, 20)))
    with suppress(Killed, IntegrityError):
        first.commit()
    heir = sink_of(root)
    advance(heir, END, 20, heir.claim(PARTITIONS, no_first))
    assert done
    assert verify(root).doubled


@pytest.mark.parametrize("full", [True, False])
def test_a_full_vacuum_beside_a_suspended_writer_is_caught(root: Path, full: bool) -> None:
    """What a writer staged and has not yet named is nobody's garbage: a full vacuum takes it, a lite one leaves it."""

    def vacuum() -> None:
        table = DeltaTable(str(root / "rows"))
        table.vacuum(retention_hours=0, dry_run=False, enforce_retention_duration=False, full=full)

    done = False

    def point(number: int) -> None:
        nonlocal done
        if number == 16 and not done:
            done = True
            vacuum()

    sink = sink_of(root, point)
    advance(sink, END, 30, sink.claim(PARTITIONS, no_first))
    assert done
    if full:
        with pytest.raises(OSError):
            verify(root)
    else:
        assert_story(root)


def test_verify_sees_what_is_lost_and_doubled(root: Path) -> None:
    sink = sink_of(root)
    advance(sink, END, 30, sink.claim(PARTITIONS, no_first))
    write_deltalake(DeltaTable(str(root / "rows")), rows_of([(0, 30, 0), (0, END + 5, 0)]), mode="append")
    report = verify(root)
    assert any("offset 30 row 0" in line or "offsets 30 to 30 are listed" in line for line in report.doubled)
    assert any(f"offset {END + 5} row 0 lies outside" in line for line in report.doubled)
    DeltaTable(str(root / "rows")).delete("kafka_partition = 1")
    lost = verify(root).lost
    assert lost
    assert all("partition 1" in line for line in lost)


@pytest.mark.parametrize("at_once", [1, 150, 250])
def test_verify_of_more_rows_than_memory_holds(root: Path, at_once: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Read a partition, or two, at a time it finds what it finds at once."""
    import streamer.sink.verify as verification

    sink = sink_of(root)
    advance(sink, END, 30, sink.claim(PARTITIONS, no_first))
    write_deltalake(DeltaTable(str(root / "rows")), rows_of([(0, 30, 0), (2, END + 5, 0), (7, 1, 0)]), mode="append")
    DeltaTable(str(root / "rows")).delete("kafka_partition = 1")
    whole = verify(root)
    assert len(whole.lost) > 3
    assert {"1 rows belong to no claim"} < set(whole.doubled)
    monkeypatch.setattr(verification, "ROWS_AT_ONCE", at_once)
    assert verify(root) == whole


def test_the_statistics_find_an_object_and_hide_none(root: Path) -> None:
    sink = sink_of(root)
    advance(sink, END, 10, sink.claim(PARTITIONS, no_first))
    table = DeltaTable(str(root / "rows"))
    rows, _ = stored(root)
    p, o, r = rows[len(rows) // 2]
    found = table.to_pyarrow_table(filters=[("object_id", "=", f"{p}-{o}-{r}")], columns=["kafka_offset"])
    assert found["kafka_offset"].to_pylist() == [o]
    for name in ("object_id", "_healpix_29", "z_mode"):
        import pyarrow as pa

        actions = pa.table(table.get_add_actions(flatten=True))
        assert actions[f"min.{name}"].null_count == 0
        assert actions[f"max.{name}"].null_count == 0


def test_two_workers_begin_a_topic_at_its_end(root: Path) -> None:
    """The first claim ever says where every partition begins; a partition without a start is one that was added."""

    def first(partitions: list[int], known: bool) -> dict[int, int]:
        return dict.fromkeys(partitions, 0) if known else dict.fromkeys(range(4), 1_000)

    assert sink_of(root).claim([0, 1], first) == {0: 1_000, 1: 1_000}
    assert sink_of(root).claim([2, 3], first) == {2: 1_000, 3: 1_000}
    assert sink_of(root).claim([4], first) == {4: 0}


def test_whoever_builds_on_an_entry_makes_it_survive_a_power_cut(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Workers die between commit and fsync, and claim in turn: below what is confirmed no log entry is left unsynced."""
    import streamer.sink.tables as tables

    synced: set[Path] = set()
    honest = tables.fsync

    def fsync(path: Path) -> None:
        honest(path)
        synced.add(path)

    monkeypatch.setattr(tables, "fsync", fsync)
    for step in (3, 10, 17, 4):

        def point(number: int, step: int = step) -> None:
            if number == step:
                raise Killed

        with suppress(Killed):
            doomed = sink_of(root, point)
            advance(doomed, END, 60, doomed.claim(PARTITIONS, no_first))
    heir = sink_of(root)
    advance(heir, END + 66, 3, heir.claim(PARTITIONS, no_first))
    for table in ("rows", "exceptions"):
        entries = {path for path in (root / table / "_delta_log").iterdir() if path.suffix in (".json", ".parquet")}
        assert any(path.name.endswith(".checkpoint.parquet") for path in entries)
        assert entries - synced == set()


def test_verify_beside_a_writer_sees_one_version_of_the_rows(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A commit that lands while the tables are being read is no stray and no loss."""
    import streamer.sink.verify as verification
    from streamer.sink.appids import AppIds

    sink = sink_of(root)
    at, landed = {"now": advance(sink, 20, 10, sink.claim(PARTITIONS, no_first))}, []

    class Overtaken(AppIds):
        def refresh(self) -> None:
            super().refresh()
            at["now"] = advance(sink, END, 50, at["now"])
            landed.append(at["now"])

    with monkeypatch.context() as beside:
        beside.setattr(verification, "AppIds", Overtaken)
        report = verify(root)
    assert landed
    assert report.ok, report.lines()
    assert report.offsets == 20 * len(PARTITIONS)
    assert_story(root)
