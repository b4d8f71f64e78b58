"""A topic that was recreated is read only after a person said so; what it was before stays."""

from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from confluent_kafka.admin import AdminClient
from confluent_kafka.cimpl import NewTopic
from deltalake import DeltaTable

from schemas.errors import IntegrityError, UserError
from streamer.broker.server import Broker
from streamer.catalogue import open_catalogue
from streamer.cli.main import build as command_tree
from streamer.lag.watch import Watch
from streamer.rebind import rebind
from streamer.sink.catalogue import bind, bindings, ensure
from streamer.sink.catalogue import rebind as rebind_one
from streamer.sink.verify import verify
from tests.streaming import alerts, engine, finish, send, wait_until

pytestmark = pytest.mark.broker
Topic = Callable[..., str]


def recreate(broker: Broker, name: str, partitions: int) -> None:
    admin = AdminClient({"bootstrap.servers": broker.bootstrap, "log_level": 0})
    admin.delete_topics([name])[name].result(20)
    wait_until(lambda: name not in admin.list_topics(timeout=5).topics)
    admin.create_topics([NewTopic(name, partitions, 1)])[name].result(20)
    wait_until(lambda: len(getattr(admin.list_topics(timeout=5).topics.get(name), "partitions", ())) == partitions)


def run(words: list[str], monkeypatch: pytest.MonkeyPatch) -> Result:
    monkeypatch.setattr("sys.argv", ["slipher", *words])  # the command tree imports only what is called
    return CliRunner().invoke(command_tree(), words)


def test_a_recreated_topic_is_read_after_a_person_said_so(
    broker: Broker, topic: Topic, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Exit 3 until then, with or without --start; afterwards all of it is read, whatever --start says."""
    name, catalog = topic(1), tmp_path / "catalog"
    _, values = alerts(40)
    send(broker.bootstrap, name, {0: values[:20]})
    finish(broker, name, catalog)
    recreate(broker, name, 2)
    send(broker.bootstrap, name, {0: values[20:30], 1: values[30:]})
    for start in ("", "earliest"):
        with pytest.raises(IntegrityError, match=f"slipher catalog rebind .* --topic {name} --all"):
            engine(broker.bootstrap, name, catalog, start=start).run()
    words = ["catalog", "rebind", str(catalog), "--topic", name, "--brokers", broker.bootstrap]
    assert "--model MODEL, or --all" in str(run(words, monkeypatch).exception)
    said = run([*words, "--all"], monkeypatch)
    assert said.exit_code == 0, said.output
    assert f"{name} (" in said.output
    assert "is read anew, from its beginning" in said.output
    assert [who.changed for who in rebind(catalog, name, None, broker.bootstrap)] == [False]
    engine(broker.bootstrap, name, catalog, start="latest").run()
    rows = DeltaTable(str(catalog / "rows")).to_pyarrow_table(columns=["topic_id", "kafka_partition", "kafka_offset"])
    found = [(row["topic_id"], row["kafka_partition"], row["kafka_offset"]) for row in rows.to_pylist()]
    old, new = (row["topic_id"] for row in open_catalogue(catalog).topics().to_pylist())
    expected = [(old, 0, o) for o in range(20)] + [(new, p, o) for p in range(2) for o in range(10)]
    assert sorted(found) == sorted(expected)
    report = verify(catalog)
    assert report.ok, report.lines()
    assert {row.lag for row in Watch(open_catalogue(catalog), broker.bootstrap, topic=name).look()} == {0}


def test_who_may_be_rebound(broker: Broker, topic: Topic, tmp_path: Path) -> None:
    name, other, catalog = topic(1), topic(1), tmp_path / "catalog"
    finish(broker, name, catalog)
    with pytest.raises(UserError, match="has no model nobody"):
        rebind(catalog, name, "nobody", broker.bootstrap)
    with pytest.raises(UserError, match="No model has read"):
        rebind(catalog, other, None, broker.bootstrap)
    with pytest.raises(UserError, match="has no topic"):
        rebind(catalog, "is-not-there", None, broker.bootstrap)
    model = open_catalogue(catalog).models()["model"][0].as_py()
    assert rebind(catalog, name, model, broker.bootstrap)[0].model == model


def test_the_newest_binding_holds_though_the_clock_was_set_back(tmp_path: Path) -> None:
    ensure(tmp_path)
    assert not bind(tmp_path, "p", "c", "t", "first", 5_000_000)
    assert rebind_one(tmp_path, "p", "c", "t", "second", 1_000)
    assert not rebind_one(tmp_path, "p", "c", "t", "second", 1_000)
    assert bind(tmp_path, "p", "c", "t", "second", 2_000)
    with pytest.raises(IntegrityError):
        bind(tmp_path, "p", "c", "t", "first", 9_000_000)
    assert [topic_id for _, topic_id in bindings(tmp_path, "p", "c", "t")] == ["first", "second"]
