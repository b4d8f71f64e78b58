"""A message of a topic is looked at without a trace: no group, no offset."""

import json
from collections.abc import Callable

import pytest
from confluent_kafka import Producer
from confluent_kafka.admin import AdminClient

from schemas.encoder import encode_avro
from schemas.errors import TroubleError, UserError
from streamer.broker.server import Broker
from streamer.peek import GROUP, peek
from tests.made_galaxies import galaxies
from tests.streaming import send

pytestmark = pytest.mark.broker
Topic = Callable[..., str]


def kafka(broker: Broker) -> dict[str, str]:
    return {"bootstrap.servers": broker.bootstrap}


def groups(broker: Broker) -> set[str]:
    """All groups that the broker knows."""
    listed = AdminClient(kafka(broker)).list_consumer_groups(request_timeout=10).result()
    return {group.group_id for group in listed.valid}


def test_the_newest_and_any_other(broker: Broker, topic: Topic) -> None:
    name = topic(2)
    send(broker.bootstrap, name, {0: [b"a", b"b", None], 1: [b"x"]})
    newest = peek(name, 0, None, kafka(broker))
    assert (newest.payload, newest.offset, newest.begin, newest.end) == (None, 2, 0, 3)
    assert newest.timestamp_ms > 1_600_000_000_000
    assert peek(name, 0, 1, kafka(broker)).payload == b"b"
    assert peek(name, 1, None, kafka(broker)).payload == b"x"
    assert GROUP not in groups(broker)


def test_markers_are_no_messages(broker: Broker, topic: Topic) -> None:
    """A transaction leaves a marker behind its messages; an aborted one leaves nothing to read."""
    name = topic()
    producer = Producer({**kafka(broker), "transactional.id": f"t-{name}"})
    producer.init_transactions(20)
    producer.begin_transaction()
    producer.produce(name, b"kept")
    producer.commit_transaction(20)
    for _ in range(3):
        producer.begin_transaction()
        producer.produce(name, b"aborted")
        producer.flush(10)
        producer.abort_transaction(20)
    newest = peek(name, 0, None, kafka(broker))
    assert (newest.payload, newest.offset) == (b"kept", 0)
    assert newest.end == 8
    with pytest.raises(UserError, match="no message at offset 1: a transaction's marker"):
        peek(name, 0, 1, kafka(broker))


def test_what_is_not_there(broker: Broker, topic: Topic) -> None:
    name = topic(2)
    send(broker.bootstrap, name, {0: [b"a"]})
    for partition, offset, text in (
        (5, None, "partitions 0 to 1, not 5"),
        (1, None, "holds no message"),
        (0, 7, "offsets 0 to 0, not 7"),
    ):
        with pytest.raises(UserError, match=text):
            peek(name, partition, offset, kafka(broker))
    with pytest.raises(UserError, match="has no topic"):
        peek(name + "x", 0, None, kafka(broker))
    with pytest.raises(TroubleError, match="No broker answers"):
        peek(name, 0, None, {"bootstrap.servers": "127.0.0.1:1"}, 0.5)


def test_the_command(
    broker: Broker, topic: Topic, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    from streamer.cli.main import build

    name, before = topic(), groups(broker)
    send(broker.bootstrap, name, {0: [*encode_avro(galaxies(2), "lsst"), b"poison"]})

    def run(*words: str) -> tuple[int, str]:
        monkeypatch.setattr("sys.argv", ["slipher", "inspect", *words])
        code = build()(["inspect", *words, "--brokers", broker.bootstrap], standalone_mode=False)
        return int(code or 0), capsys.readouterr().out

    code, out = run(name, "--json")
    said = json.loads(out)
    assert code == 1
    assert (said["partition"], said["offset"], said["partition_end"]) == (0, 2, 3)
    assert said["refused"][0]["reason"] == "BAD_FRAMING"
    code, out = run(f"{name}:0:1")
    assert code == 0
    assert "offset 1 of 0 to 2" in " ".join(out.split())
    assert "object-1" in out
    assert groups(broker) == before
