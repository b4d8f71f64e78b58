"""Logs for people and for programs: the same sentences, fields beside them, no secrets, one line an entry."""

import ast
import io
import json
import logging
import os
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamer.broker.server import Broker
from streamer.in_order import InOrder
from streamer.logs import FIELDS, LogFormat, passed_on, set_up, working_at
from tests.streaming import alerts, engine, send, spread

log = logging.getLogger("streamer.somewhere")
Say = Callable[..., io.StringIO]


@pytest.fixture
def say() -> Iterator[Say]:
    """Set logging up towards a text; afterwards it is as it was."""
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level

    def start(form: LogFormat = "json", *secrets: str, level: int = logging.INFO) -> io.StringIO:
        stream = io.StringIO()
        set_up(level, form, secrets, stream)
        return stream

    yield start
    root.handlers[:] = handlers
    root.setLevel(level)


def lines(stream: io.StringIO) -> list[dict[str, object]]:
    return [json.loads(line) for line in stream.getvalue().splitlines()]


def test_a_line_of_json_holds_the_sentence_and_what_it_speaks_of(say: Say) -> None:
    stream = say()
    with working_at(topic="alerts", model="forest-lsst-01234567"):
        log.warning("partition %d: offsets %d to %d expired", 3, 10, 19, extra={"partition": 3, "first_offset": 10})
    log.info("done")
    log.debug("not said")
    first, second = lines(stream)
    assert first.pop("time", "").endswith("+00:00")  # type: ignore[attr-defined]
    assert first == {
        "level": "WARNING",
        "logger": "streamer.somewhere",
        "message": "partition 3: offsets 10 to 19 expired",
        "topic": "alerts",
        "model": "forest-lsst-01234567",
        "partition": 3,
        "first_offset": 10,
        "process": os.getpid(),
    }
    assert "topic" not in second


def test_people_read_the_sentence_alone(say: Say) -> None:
    stream = say("human")
    with working_at(topic="alerts"):
        log.warning("partition %d is lost", 3, extra={"partition": 3})
    assert stream.getvalue()[8:] == " WARNING partition 3 is lost\n"


@given(st.text(), st.dictionaries(st.sampled_from(sorted(set(FIELDS) - {"process"})), st.text() | st.integers()))
def test_whatever_is_said_is_one_line_of_json(text: str, fields: dict[str, object]) -> None:
    stream, root = io.StringIO(), logging.getLogger()
    handlers, level = root.handlers[:], root.level
    try:
        set_up(logging.INFO, "json", stream=stream)
        log.info("%s", text, extra=fields)
    finally:
        root.handlers[:] = handlers
        root.setLevel(level)
    line = stream.getvalue()
    assert line.count("\n") == 1
    assert line.endswith("\n")
    said = json.loads(line)
    if "://" not in text:
        assert said["message"] == text


@pytest.mark.parametrize("form", ["human", "json"])
def test_no_secret_is_said(say: Say, form: LogFormat) -> None:
    stream = say(form, "hunter2", "hunter2-long")
    log.info("the broker refuses user me with hunter2-long", extra={"group": "hunter2"})
    log.warning("no answer from http://me:pa%%ss@registry:8081/schemas", extra={"topic": "s3://key:hunter2@bucket"})
    try:
        raise ValueError("sasl.password=hunter2")
    except ValueError:
        log.exception("it failed")
    text = stream.getvalue()
    assert "hunter2" not in text
    assert "pa%ss" not in text
    assert "http://********@registry:8081/schemas" in text
    assert "ValueError: sasl.password=********" in text


def test_the_table_thread_works_at_what_its_teller_works_at(say: Say) -> None:
    stream, table = say(), InOrder("table")
    with working_at(topic="alerts"):
        table.submit(log.info, "from the table thread").result(10)
    table.submit(log.info, "still").result(10)
    assert table.end(10)
    other = threading.Thread(target=log.info, args=("from another",))
    other.start()
    other.join()
    assert [line.get("topic") for line in lines(stream)] == ["alerts", "alerts", None]


def test_a_supervisor_passes_on_what_workers_say() -> None:
    assert passed_on("12:00:00 INFO hello", 2, "human") == "[2] 12:00:00 INFO hello"
    said = json.loads(passed_on('{"level": "INFO", "message": "hello"}', 2, "json"))
    assert said == {"level": "INFO", "message": "hello", "worker": 2}
    for line in ("Traceback (most recent call last):", '{"half', "{not json}", ""):
        said = json.loads(passed_on(line, 2, "json"))
        assert (said["message"], said["worker"]) == (line, 2)


def test_fields_that_are_used_are_listed() -> None:
    """What a log call gives and no list names would never be seen."""
    for path in sorted((Path(__file__).parent.parent / "streamer").rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
                for word in node.keywords:
                    if word.arg == "extra" and isinstance(word.value, ast.Dict):
                        keys = {key.value for key in word.value.keys if isinstance(key, ast.Constant)}
                        assert keys <= set(FIELDS), f"{path}:{node.lineno}"


@pytest.mark.broker
def test_a_worker_names_topic_model_and_partitions(
    broker: Broker, topic: Callable[..., str], tmp_path: Path, say: Say
) -> None:
    name = topic(partitions=2)
    send(broker.bootstrap, name, spread(alerts(6)[1], 2))
    stream = say()
    made = engine(broker.bootstrap, name, tmp_path / "catalog")
    made.run()
    said = lines(stream)
    assigned = next(line for line in said if str(line["message"]).startswith("assigned"))
    assert (assigned["topic"], assigned["model"], assigned["partitions"]) == (
        name,
        made.worker.processing.model,
        [0, 1],
    )
    claimed = next(line for line in said if str(line["message"]).startswith("claimed"))
    assert claimed["positions"] == {"0": 0, "1": 0}
