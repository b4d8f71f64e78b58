"""What the soak sends is what it takes it for, and its judge sees what is wrong."""

from pathlib import Path

import numpy as np
import pytest
from deltalake import write_deltalake

from benchmarks.soak_feed import Outcome, Read
from benchmarks.soak_judge import judge, produced
from benchmarks.soak_messages import UNKNOWN_ID, Form, Forms
from schemas.batch import Messages
from schemas.catalogue import REST
from schemas.native_decoder import NativeDecoder
from schemas.surveys.native import avro_schema
from schemas.wire.confluent import KnownSchemas
from streamer.sink.catalogue import ensure
from streamer.sink.entries import Exceptional, table_of
from tests.made_rows import IDENTITY, rows_of
from tests.streaming import now_mjd

NEW_ID = 77


def test_every_form_becomes_what_it_says() -> None:
    """Rows, refused rows and refused messages of each form, by the decoder that the workers use."""
    forms = Forms(now_mjd(), np.random.default_rng(1))
    n = len(forms.all)
    schemas = KnownSchemas([avro_schema("lsst")], {NEW_ID: avro_schema("lsst")})
    assert schemas.get(UNKNOWN_ID) is None
    messages = Messages(
        [forms.value(k, NEW_ID) for k in range(n)],
        np.zeros(n, np.int32),
        np.arange(n, dtype=np.int64),
        np.zeros(n, np.int64),
        {0: n},
    )
    galaxies, refusals = NativeDecoder("lsst", schemas).decode(messages)
    rows = set(zip(galaxies.message.tolist(), galaxies.row.tolist(), strict=True))
    assert rows == {(k, r) for k, form in enumerate(forms.all) for r in range(form.rows) if r != form.bad}
    listed = set(zip(refusals.message.tolist(), refusals.row.tolist(), strict=True))
    bad = {(k, form.bad) for k, form in enumerate(forms.all) if form.bad >= 0}
    assert listed == {(k, -1) for k, form in enumerate(forms.all) if form.rows == 0} | bad
    assert len(set(refusals.reason.tolist())) >= 6  # kinds of trouble
    drawn = [forms.draw(np.random.default_rng(k), new_schema=True) for k in range(5_000)]
    assert {id(g) for g in forms._groups for k in drawn if forms.all[k] in g} == {id(g) for g in forms._groups}


FORMS = [Form(b"alert", 1), Form(b"poison", 0), Form(b"stream", 3, bad=1)]
READ = {0: Read(np.array([0, 1, 2, 5]), np.array([0, 1, 2, 0]), np.arange(4, dtype=np.uint64))}
ROWS = [(0, 0, 0), (0, 2, 0), (0, 2, 2), (0, 5, 0)]
LISTED = [
    Exceptional(0, 1, 2, REST, "CORRUPT"),
    Exceptional(0, 2, 3, 1, "BAD_POSITION"),
    Exceptional(0, 3, 5, REST, "NO_MESSAGE"),
    Exceptional(0, 6, 7, REST, "NO_MESSAGE"),
]


def judged(root: Path, rows: list, listed: list[Exceptional], deleted: list | None = None) -> tuple[int, int]:
    ensure(root)
    write_deltalake(str(root / "rows"), rows_of(rows), mode="append")
    write_deltalake(str(root / "exceptions"), table_of(listed, IDENTITY, 0), mode="append")
    found = judge(root, IDENTITY.processing_id, READ, FORMS, {0: 7}, deleted or [])
    assert bool(found.lines) == bool(found.lost or found.doubled)
    return found.lost, found.doubled


@pytest.mark.parametrize(
    ("rows", "listed", "lost", "doubled"),
    [
        (ROWS, LISTED, 0, 0),
        (ROWS[1:], LISTED, 1, 0),
        ([*ROWS, (0, 2, 0)], LISTED, 0, 1),
        ([*ROWS, (0, 3, 0)], LISTED, 0, 1),
        ([*ROWS, (0, 2, 1)], LISTED, 0, 1),
        ([*ROWS, (0, 9, 0)], LISTED, 0, 1),
        (ROWS, LISTED[1:], 1, 0),
        (ROWS, [*LISTED, LISTED[1]], 0, 1),
        (ROWS, [*LISTED, Exceptional(0, 5, 6, REST, "CORRUPT")], 0, 1),
        (ROWS, LISTED[:3], 1, 0),
        (ROWS[:3], [*LISTED[:3], Exceptional(0, 5, 7, REST, "RETENTION_GAP")], 0, 2),
    ],
)
def test_the_judge_sees_what_is_lost_and_doubled(
    tmp_path: Path, rows: list, listed: list[Exceptional], lost: int, doubled: int
) -> None:
    """The last case: offsets that are said to have expired, and nobody deleted anything; 5 and 6 are no such offsets."""
    assert judged(tmp_path / "catalog", rows, listed) == (lost, doubled)


def test_the_judge_takes_for_expired_what_was_deleted(tmp_path: Path) -> None:
    """A row of a message may have been listed before the rest of it expired; a row that stands beside a gap is wrong."""
    gap = Exceptional(0, 2, 6, REST, "RETENTION_GAP")
    listed = [LISTED[0], LISTED[1], LISTED[3], gap]
    assert judged(tmp_path / "one", ROWS[:1], listed, [(0, 2, 6)]) == (0, 0)
    assert judged(tmp_path / "two", ROWS[:2], listed, [(0, 2, 6)]) == (0, 1)


def test_what_kafka_promised_is_checked_too() -> None:
    numbers = np.arange(4, dtype=np.uint64)
    nothing = np.empty(0, np.uint64)
    assert produced(Outcome(numbers, nothing, 4), READ) == []
    assert "lost 1" in produced(Outcome(np.arange(5, dtype=np.uint64), nothing, 5), READ)[0]
    assert "shows 1 messages of aborted" in produced(Outcome(nothing, numbers[:1], 4), READ)[0]
