"""A model that was replaced is retired by a person, and is back as soon as it writes; the table may go away under a watch."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from deltalake import DeltaTable

from schemas.errors import TroubleError, UserError
from streamer.broker.server import Broker
from streamer.catalogue import open_catalogue
from streamer.cli.main import build as command_tree
from streamer.lag.readers import durable_offsets
from streamer.lag.table import TableReading
from streamer.retire import retire
from streamer.sink.appids import app_id
from streamer.sink.operations import recorded
from streamer.sink.verify import verify
from tests.catalogue_builder import TOPIC, TOPIC_ID, build
from tests.lag_scene import FOREST, IMAGE, Scene, bind, commit

Topic = Callable[..., str]
OLD, NEW = FOREST, IMAGE
NAME = "forest-lsst-01234567"


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A catalogue into which two models have read a topic."""
    build(tmp_path / "catalog", rows_a_night=20)
    return tmp_path / "catalog"


def asked(root: Path) -> set[str]:
    """Processing ids whose lag is asked for, by whoever reads it once."""
    return {reader.processing_id for reader, _ in durable_offsets(open_catalogue(root))}


def say(root: Path, undo: bool = False, model: str = NAME, topic: str | None = None) -> None:
    """At a time that stands still: the newest word holds nevertheless."""
    retire(root, model, topic, undo, "0.1.0", 1_000)


def slipher(monkeypatch: pytest.MonkeyPatch, *words: str) -> Result:
    monkeypatch.setattr("sys.argv", ["slipher", *words])  # the command tree imports only what is called
    return CliRunner().invoke(command_tree(), list(words))


def test_a_retired_model_has_no_lag_until_it_writes_again(root: Path) -> None:
    reading = TableReading(open_catalogue(root))

    def watched() -> set[str]:
        reading.refresh()
        assert set(reading.durable) >= {(reader, 0) for reader in reading.positions()}
        return {reader.processing_id for reader in reading.positions()}

    assert watched() == asked(root) == {OLD, NEW}
    proof = verify(root)
    say(root)
    assert watched() == asked(root) == {NEW}
    assert [reader.model for reader in reading.retired] == [NAME]
    assert verify(root) == proof
    say(root, undo=True)
    assert watched() == asked(root) == {OLD, NEW}
    for written in ({"offset": 61}, {"epoch": 1}):  # rows, or a worker that has only claimed it yet
        say(root)
        assert watched() == asked(root) == {NEW}
        commit(
            root, {app_id(NEW, TOPIC_ID, 0, "offset"): 60 + len(recorded(root))}, 2.0
        )  # another's commits change nothing
        assert watched() == asked(root) == {NEW}
        commit(root, {app_id(OLD, TOPIC_ID, 1, what): at for what, at in written.items()}, 3.0)
        assert watched() == asked(root) == {OLD, NEW}
        assert reading.retired == []


def test_of_one_topic_or_of_all(root: Path) -> None:
    bind(root, "other", "other-id", (OLD, NEW))
    commit(root, {app_id(who, "other-id", 0, "offset"): 7 for who in (OLD, NEW)}, 1.0)
    say(root, topic="other")
    left = {(reader.processing_id, reader.topic) for reader, _ in durable_offsets(open_catalogue(root))}
    assert left == {(OLD, TOPIC), (NEW, TOPIC), (NEW, "other")}
    say(root, model=OLD)  # by its processing id, and what is left
    assert asked(root) == {NEW}
    assert set(recorded(root)["kind"].to_pylist()) == {"retire"}
    say(root, undo=True, topic=TOPIC)
    assert {reader.topic for reader, _ in durable_offsets(open_catalogue(root)) if reader.processing_id == OLD} == {
        TOPIC
    }


def test_what_cannot_be_retired_is_said(root: Path) -> None:
    with pytest.raises(UserError, match=f"No model nobody has read a topic into .*It has {NAME}, image"):
        say(root, model="nobody")
    with pytest.raises(UserError, match=f"No model {NAME} has read other into"):
        say(root, topic="other")
    with pytest.raises(UserError, match="is not retired"):
        say(root, undo=True)
    say(root)
    with pytest.raises(UserError, match="is retired already"):
        say(root)


def test_a_catalogue_of_an_older_version_gains_the_table(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shutil.rmtree(root / "operations")
    reading = TableReading(open_catalogue(root))
    reading.refresh()
    done = slipher(monkeypatch, "catalog", "retire", str(root), "--model", NAME)
    assert (done.exit_code, done.stdout) == (0, f"{NAME} of {TOPIC} is retired, until it writes again.\n")
    reading.refresh()
    assert {reader.processing_id for reader in reading.positions()} == asked(root) == {NEW}


def test_only_one_model_may_be_asked_for(root: Path) -> None:
    for model, there in ((NAME, {OLD}), (NEW, {NEW}), ("nobody", set())):
        reading = TableReading(open_catalogue(root), model=model)
        reading.refresh()
        assert {reader.processing_id for reader in reading.positions()} == there


@pytest.mark.broker
def test_a_model_that_was_replaced_alarms_until_it_is_retired(
    broker: Broker, topic: Topic, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    scene = Scene(broker.bootstrap, topic(1), tmp_path, (OLD, NEW))
    scene.now -= 3600
    scene.send(5).durable({0: 5}, OLD).wait(60).send(4).durable({0: 9}, NEW)
    way = ["--catalog", str(tmp_path), "--brokers", broker.bootstrap, "--topic", scene.topic]
    assert slipher(monkeypatch, "lag", *way, "--exit-code").exit_code == 4
    assert slipher(monkeypatch, "lag", *way, "--exit-code", "--model", NEW).exit_code == 0
    assert (
        slipher(monkeypatch, "catalog", "retire", str(tmp_path), "--model", NAME, "--topic", scene.topic).exit_code == 0
    )
    said = slipher(monkeypatch, "lag", *way, "--exit-code")
    assert said.exit_code == 0, said.stdout
    assert "Caught up: 1 partition, nothing unread." in said.stdout
    assert said.stdout.splitlines()[-1].startswith(f"1 reader retired and left out: {NAME} of")
    assert [row["processing_id"] for row in json.loads(slipher(monkeypatch, "lag", *way, "--json").stdout)] == [NEW]
    nothing = slipher(monkeypatch, "lag", *way, "--exit-code", "--model", NAME)
    assert nothing.exit_code == 0
    assert "Nothing is read" in nothing.stdout
    scene.durable({0: 6}, OLD)  # rolled back
    assert {row.processing_id for row in scene.look()} == {OLD, NEW}


def test_a_table_that_goes_away_is_missed_and_found_again(root: Path) -> None:
    reading = TableReading(open_catalogue(root))
    reading.refresh()
    before = reading.positions()
    for gone in (root / "rows", root / "rows" / "_delta_log", root):
        gone.rename(root.parent / "elsewhere")
        for _ in range(2):
            with pytest.raises(TroubleError, match="is its disk mounted"):
                reading.refresh()
        (root.parent / "elsewhere").rename(gone)
        reading.refresh()
        assert reading.positions() == before, gone


def test_entries_that_were_cleaned_up_are_not_missed(root: Path) -> None:
    reading = TableReading(open_catalogue(root))
    reading.refresh()
    before = reading.positions()
    DeltaTable(str(root / "rows")).create_checkpoint()
    for entry in (root / "rows" / "_delta_log").glob("*.json"):
        entry.unlink()
    reading.refresh()
    assert reading.positions() == before


def test_a_table_that_was_put_back_is_followed_from_there(root: Path) -> None:
    reading = TableReading(open_catalogue(root))
    shutil.copytree(root, root.parent / "backup")
    bind(root, "later", "later-id", (OLD,))
    for offset in (70, 80, 90):
        commit(root, {app_id(OLD, TOPIC_ID, 0, "offset"): offset, app_id(OLD, "later-id", 0, "offset"): 5}, 1.0)

    def mine() -> dict[str, int]:
        reading.refresh()
        return {reader.topic: held[0] for reader, held in reading.positions().items() if reader.processing_id == OLD}

    assert mine() == {TOPIC: 90, "later": 5}
    shutil.rmtree(root)
    (root.parent / "backup").rename(root)
    assert mine() == {TOPIC: 60}
    commit(root, {app_id(OLD, TOPIC_ID, 0, "offset"): 65}, 2.0)
    assert mine() == {TOPIC: 65}
