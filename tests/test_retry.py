"""Retries: what is mended gives its rows once, where they belong; poison stays; killed, doubled or beside others."""

import json
import shutil
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from consumers.rows import Provenance, RowBuilder
from consumers.tree import TreeWorker
from schemas.batch import Messages
from schemas.catalogue import EXCEPTIONS, PAYLOAD_BOUND, REST
from schemas.encoder import encode_arrow
from schemas.errors import TroubleError
from schemas.surveys.native import avro_schema
from streamer import dead_letters
from streamer.broker.server import Broker
from streamer.care.withdraw import withdraw
from streamer.catalogue import open_catalogue
from streamer.retry import Retried, retry
from streamer.run import Method, method
from streamer.sink.catalogue import ensure, register
from streamer.sink.delta import DeltaSink
from streamer.sink.entries import Identity
from streamer.sink.operations import recorded
from streamer.sink.verify import verify
from tests.catalogue_builder import append
from tests.made_rows import NOW, now_ms, stored
from tests.streaming import Identity as Place
from tests.streaming import alerts, assert_once, finish, identities, send, settings, small_model
from tests.test_cli_catalog import run, said

TOPIC_ID = "AAAAAAAAAAAAAAAAAAAAAA"
UNKNOWN = b"\x00\x00\x00\x00\x07"  # Confluent's header with an id that only --schema 7=FILE tells
ARROW, POISON = 4, 2


@pytest.fixture(scope="module")
def messages() -> list[bytes]:
    """Good, unknown schema, poison, unknown schema, an Arrow stream with one bad row of four, an unknown one, good."""
    galaxies, good = alerts(8)
    some = replace(galaxies, dec=np.where(np.arange(8) == 2, 91.0, galaxies.dec))
    arrow = encode_arrow(some, "lsst", rows=4)[0]
    unknown = [UNKNOWN + good[k][5:] for k in (1, 3, 5)]
    return [good[0], unknown[0], b"garbage", unknown[1], arrow, unknown[2], good[6]]


@pytest.fixture
def schema(tmp_path: Path) -> str:
    path = tmp_path / "schema.avsc"
    path.write_text(json.dumps(avro_schema("lsst")))
    return f"7={path}"


GOOD = {(0, 0, 0), (0, 6, 0)} | {(0, ARROW, r) for r in (0, 1, 3)}
MENDED = {(0, o, 0) for o in (1, 3, 5)}
LISTED = {(0, o, REST) for o in (1, 2, 3, 5)} | {(0, ARROW, 2)}


def made(catalog: Path, **more: object) -> Method:
    return method(settings("none", "none", catalog, **more))


def live(catalog: Path, payloads: list[bytes], start: int = 0, **more: object) -> None:
    """What a live worker makes of `payloads`, from `start` on."""
    ensure(catalog)
    the = made(catalog, **more)
    register(catalog, the.processing, list("ugrizy"), [float(z) for z in the.estimator.grid], {}, NOW)
    identity = Identity(the.processing.id, "cluster", "alerts", TOPIC_ID, "test")
    origin = Provenance(the.processing, "cluster", "alerts", TOPIC_ID, "test")
    worker = TreeWorker(
        the.alerts.decoder(), the.estimator, RowBuilder(origin, the.alerts.night, now_ms, the.settings.pdf)
    )
    sink = DeltaSink(catalog, identity, now_ms)
    [position] = sink.claim([0], lambda partitions, known: {0: start}).values()
    offsets = np.arange(position, len(payloads))
    batch = Messages(
        payloads[position:],
        np.zeros(len(offsets), np.int32),
        offsets,
        np.full(len(offsets), NOW),
        {0: len(payloads)},
        (),
        {0: position},
    )
    sink.write(batch, worker.process(batch))
    sink.commit()


@pytest.fixture(scope="module")
def once_made(messages: list[bytes], tmp_path_factory: pytest.TempPathFactory) -> Path:
    catalog = tmp_path_factory.mktemp("retry") / "catalogue"
    live(catalog, messages)
    return catalog


@pytest.fixture
def catalog(once_made: Path, tmp_path: Path) -> Path:
    return shutil.copytree(once_made, tmp_path / "catalogue")


def again(
    catalog: Path, point: Callable[[int], None] = lambda step: None, dry_run: bool = False, **more: object
) -> Retried:
    return retry(made(catalog, **more), lambda table: table, now_ms, dry_run, point=point)


def rows_by_model(catalog: Path) -> dict[str, set[Place]]:
    table = open_catalogue(catalog).scan(["model", "kafka_partition", "kafka_offset", "kafka_row"]).read_all()
    out: dict[str, set[Place]] = {}
    for row in table.to_pylist():
        out.setdefault(row["model"], set()).add((row["kafka_partition"], row["kafka_offset"], row["kafka_row"]))
    return out


def open_letters(catalog: Path) -> set[tuple[int, int]]:
    table = dead_letters.chosen(dead_letters.letters(open_catalogue(catalog)), state="open").to_pylist()
    return {(letter["offset_start"], letter["kafka_row"]) for letter in table}


def test_what_is_mended_lands_once_and_poison_stays(catalog: Path, schema: str) -> None:
    assert_once(catalog, GOOD, LISTED)
    assert again(catalog) == Retried(5, 0, 0, 5, 0, 0, 0)  # nothing is mended yet
    assert again(catalog, dry_run=True, schema_file=[schema]) == Retried(5, 0, 0, 2, 0, 0, 3)
    assert_once(catalog, GOOD, LISTED)
    assert again(catalog, schema_file=[schema]) == Retried(5, 3, 3, 2, 0, 0, 0)
    assert_once(catalog, GOOD | MENDED, LISTED)
    assert open_letters(catalog) == {(POISON, REST), (ARROW, 2)}
    before = versions(catalog)
    assert again(catalog, schema_file=[schema]) == Retried(2, 0, 0, 2, 0, 0, 0)
    assert versions(catalog) == before  # nothing to write: nothing written
    told = recorded(catalog).to_pylist()
    assert {(t["kind"], t["state"], t["offset_start"], t["offset_end"]) for t in told} == {
        ("retry", state, o, o + 1) for state in ("begun", "done") for o in (1, 3, 5)
    }


def versions(catalog: Path) -> list[int]:
    from deltalake import DeltaTable

    return [DeltaTable(str(catalog / name)).version() for name in ("rows", "exceptions", "operations")]


def test_another_processing_answers_with_rows_of_its_own(catalog: Path, schema: str) -> None:
    """Its id has no live reading: the messages that answer a letter are written whole, others not at all."""
    done = again(catalog, schema_file=[schema], pdf="compact")
    assert done == Retried(5, 3, 3, 2, 0, 0, 0)
    one, two = (made(catalog, pdf=form).processing.model for form in ("plain", "compact"))
    assert rows_by_model(catalog) == {one: GOOD, two: MENDED}
    assert verify(catalog).ok
    assert open_letters(catalog) == {(POISON, REST), (ARROW, 2)}
    assert again(catalog, schema_file=[schema]).answered == 0  # the letters are closed, whoever answered
    live(
        catalog, [b""] * 2, pdf="compact", schema_file=[schema]
    )  # its first live worker comes later, and leaves them alone
    assert rows_by_model(catalog) == {one: GOOD, two: MENDED}
    assert verify(catalog).ok


def test_offsets_that_a_live_worker_is_to_read_are_left_to_it(
    catalog: Path, messages: list[bytes], schema: str
) -> None:
    more = {"schema_file": [schema], "pdf": "compact"}
    live(catalog, messages[:3], start=3, **more)  # it has begun at 3 and read nothing yet
    assert again(catalog, **more) == Retried(5, 1, 1, 2, 0, 0, 2)
    live(catalog, messages, **more)
    model = made(catalog, pdf="compact").processing.model
    assert rows_by_model(catalog)[model] == {r for r in GOOD | MENDED if r[1] >= 3 or r[1] == 1}
    assert verify(catalog).ok


def test_a_message_with_bad_rows_is_listed_by_the_other_processing_too(
    messages: list[bytes], tmp_path: Path, schema: str
) -> None:
    """The whole message was refused, and now only one row of it is."""
    catalog = tmp_path / "catalogue"
    live(catalog, [messages[ARROW]])
    who = {"processing_id": "another", "topic_id": TOPIC_ID, "kafka_partition": 1, "offset_start": 5, "offset_end": 6}
    entry = {
        "cluster_id": "cluster",
        "topic": "alerts",
        "kafka_row": REST,
        "reason": "CORRUPT",
        "text": "",
        "byte_position": -1,
    }
    kept = {
        "payload": messages[ARROW],
        "payload_size": len(messages[ARROW]),
        "ingest_time": NOW,
        "slipher_version": "test",
    }
    append(catalog / "exceptions", pa.Table.from_pylist([who | entry | kept], EXCEPTIONS))
    assert again(catalog) == Retried(2, 1, 3, 1, 0, 0, 0)
    rows, listed = stored(catalog)
    assert [r for r in rows if r[0] == 1] == [(1, 5, r) for r in (0, 1, 3)]
    assert [r for r in listed if r[0] == 1] == [(1, 5, REST), (1, 5, 2)]
    assert verify(catalog).ok


class Killed(BaseException):
    """Stands for SIGKILL: memory is gone, the tables stay as they are."""


def at(step: int, what: Callable[[], object]) -> Callable[[int], None]:
    done: list[int] = []

    def point(number: int) -> None:
        if number == step and not done:
            done.append(number)
            what()

    return point


def die() -> None:
    raise Killed


@pytest.mark.parametrize(
    ("step", "pdf"), [(1, "plain"), (5, "plain"), (14, "plain"), (17, "plain"), (3, "compact"), (17, "compact")]
)
def test_killed_at_every_step_and_run_again(catalog: Path, schema: str, step: int, pdf: str) -> None:
    with pytest.raises(Killed):
        again(catalog, at(step, die), schema_file=[schema], pdf=pdf)
    again(catalog, schema_file=[schema], pdf=pdf)
    assert stored(catalog) == (sorted(GOOD | MENDED), sorted(LISTED))
    assert verify(catalog).ok, verify(catalog).lines()


@pytest.mark.parametrize("step", [1, 4, 13, 16])
def test_of_two_at_once_one_writes(catalog: Path, schema: str, step: int) -> None:
    """While one sleeps at `step`, another does all of it."""
    with suppress(TroubleError):
        again(catalog, at(step, lambda: again(catalog, schema_file=[schema])), schema_file=[schema])
    assert stored(catalog) == (sorted(GOOD | MENDED), sorted(LISTED))
    assert verify(catalog).ok


def test_a_rival_is_a_sentence(catalog: Path, schema: str) -> None:
    with pytest.raises(TroubleError, match=r"took over partitions \[0\]\. Nothing is lost or doubled"):
        again(catalog, at(14, lambda: again(catalog, schema_file=[schema])), schema_file=[schema])


def test_what_was_withdrawn_no_retry_brings_back(catalog: Path, messages: list[bytes], schema: str) -> None:
    again(catalog, schema_file=[schema])
    [night] = set(open_catalogue(catalog).scan(["night"]).read_all()["night"].to_pylist())
    model = made(catalog).processing.model
    withdraw(catalog, night, model, "wrong", "test", now_ms)
    assert open_letters(catalog) == {(o, REST) for o in (1, 2, 3, 5)} | {(ARROW, 2)}
    assert again(catalog, schema_file=[schema]) == Retried(5, 0, 0, 2, 0, 0, 3)
    assert stored(catalog)[0] == []
    assert verify(catalog).ok
    assert again(catalog, schema_file=[schema], pdf="compact").answered == 3
    assert verify(catalog).ok


def test_messages_kept_in_part_or_not_at_all_are_counted(catalog: Path, schema: str) -> None:
    who = {
        "processing_id": "another",
        "topic_id": TOPIC_ID,
        "kafka_partition": 0,
        "kafka_row": REST,
        "cluster_id": "cluster",
    }
    entry = {
        "topic": "alerts",
        "reason": "CORRUPT",
        "text": "",
        "byte_position": -1,
        "ingest_time": NOW,
        "slipher_version": "",
    }
    cut = {"offset_start": 50, "offset_end": 51, "payload": b"x" * 50, "payload_size": PAYLOAD_BOUND + 1}
    gone = {"offset_start": 51, "offset_end": 52, "payload": None, "payload_size": 40}
    append(catalog / "exceptions", pa.Table.from_pylist([who | entry | cut, who | entry | gone], EXCEPTIONS))
    assert again(catalog, schema_file=[schema]) == Retried(7, 3, 3, 2, 1, 1, 0)
    assert verify(catalog).ok


def test_the_command_says_what_came_of_it(catalog: Path, schema: str) -> None:
    words = ["dead-letters", "retry", catalog, "--model", small_model(), "--schema", schema]
    assert "3 would give a row" in said(*words, "--dry-run")
    assert "nothing to try" in said(*words, "--reason", "TOO_LARGE")
    text = said(*words, "--reason", "UNKNOWN_SCHEMA")
    assert "3 open dead letters tried" in text
    assert "3 are answered: 3 rows written" in text
    assert "2 were refused again and stay open" in said(*words)
    assert "no reason NONE" in str(run(*words, "--reason", "NONE").exception)
    assert stored(catalog) == (sorted(GOOD | MENDED), sorted(LISTED))


@pytest.mark.broker
def test_end_to_end(
    broker: Broker, topic: Callable[..., str], tmp_path: Path, messages: list[bytes], schema: str
) -> None:
    """A night with a schema that nobody knew: it goes on; the schema comes; the letters are retried; the night goes on."""
    name, catalog = topic(2), tmp_path / "catalog"
    send(broker.bootstrap, name, {0: messages, 1: [messages[0]] * 5})
    finish(broker, name, catalog)
    others = identities({1: 5}) - identities({})
    rows = GOOD | {r for r in others if r[0] == 1}
    assert_once(catalog, rows, LISTED)
    words = ["dead-letters", "retry", catalog, "--model", small_model(), "--schema", schema]
    for _ in range(2):
        said(*words)
        assert_once(catalog, rows | MENDED, LISTED)
    send(broker.bootstrap, name, {0: messages[:2]})
    finish(broker, name, catalog)
    assert_once(catalog, rows | MENDED | {(0, 7, 0)}, LISTED | {(0, 8, REST)})
    said(*words)
    assert_once(catalog, rows | MENDED | {(0, 7, 0), (0, 8, 0)}, LISTED | {(0, 8, REST)})
