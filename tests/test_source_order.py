"""What a batch of Kafka messages is sorted into, against the rule said message by message; and its columns."""

from concurrent.futures import Future
from types import SimpleNamespace

import numpy as np
import pytest
from confluent_kafka import OFFSET_INVALID, KafkaError, Message, TopicPartition
from confluent_kafka.admin import ListOffsetsResultInfo  # type: ignore[attr-defined]
from hypothesis import given
from hypothesis import strategies as st

from schemas.errors import TroubleError
from streamer.source.columns import columns
from streamer.source.connection import LogEnds, TopicIdentity
from streamer.source.kafka import KafkaSource

PARTITIONS = 3


@pytest.fixture(scope="module")
def source() -> KafkaSource:
    """Never started: it talks to nobody."""
    broker: dict[str, str] = {}
    topic = TopicIdentity("cluster", "galaxies", "lAY7wVzqTXqkC3mGyLsUog", PARTITIONS)
    return KafkaSource({**broker, "group.id": "order"}, topic.topic, LogEnds(broker, topic))


def message(partition: int, offset: int, value: bytes | None = b"galaxy", error: int | None = None) -> Message:
    failure = None if error is None else KafkaError(error)
    return Message("galaxies", partition, offset, None, value, None, failure, (1, 1_767_225_600_000 + offset))


def told(found: list[Message], due: dict[int, int]) -> tuple[list[Message], dict[int, int]]:
    """The rule: a message is taken if it is due or later, an end of a partition moves us on, never back."""
    taken, moved = [], {}
    for m in found:
        p, o = m.partition(), m.offset()
        if m.error() is None and p in due and o >= due[p]:
            taken.append(m)
            due[p] = o + 1
        if m.error() is not None and p in due and o > due[p]:
            due[p] = moved[p] = o
    return taken, moved


def test_an_end_that_is_no_offset_is_no_end(source: KafkaSource, monkeypatch: pytest.MonkeyPatch) -> None:
    """A broker that had just come back gave an end of -1001, no error beside it: a log that seemed to have lost everything."""
    answer: Future[ListOffsetsResultInfo] = Future()
    answer.set_result(ListOffsetsResultInfo(OFFSET_INVALID, -1, -1))
    given = {TopicPartition("galaxies", 1): answer}
    monkeypatch.setattr(source.ends, "_admin", SimpleNamespace(list_offsets=lambda *_args, **_more: given))
    for ask in (source.ends.earliest, source.ends.latest):
        with pytest.raises(TroubleError, match=r"does not say yet where galaxies begins and ends \(partitions \[1\]\)"):
            ask([1])


rising = st.lists(st.tuples(st.integers(0, PARTITIONS - 1), st.integers(1, 3)), max_size=30)
any_order = st.lists(st.tuples(st.integers(0, PARTITIONS), st.integers(0, 12), st.booleans()), max_size=12)


@given(rising)
def test_messages_in_order_are_all_taken(source: KafkaSource, steps: list[tuple[int, int]]) -> None:
    at = dict.fromkeys(range(PARTITIONS), 5)
    source._next = dict(at)
    found = []
    for p, step in steps:
        found.append(message(p, at[p] + step - 1))  # offsets are left out where a transaction was aborted
        at[p] += step
    taken, moved = source._sort_out(found)
    assert [id(m) for m in taken] == [id(m) for m in found]
    assert moved == {}
    assert source._next == at


@given(any_order)
def test_what_is_stale_is_left_out_and_ends_move_us_on(source: KafkaSource, drawn: list[tuple[int, int, bool]]) -> None:
    found = [message(p, o, error=KafkaError._PARTITION_EOF if end else None) for p, o, end in drawn]
    due = dict.fromkeys(range(PARTITIONS), 4)  # and the last partition is not ours
    source._next = dict(due)
    taken, moved = source._sort_out(found)
    expected, expected_moved = told(found, due)
    assert [id(m) for m in taken] == [id(m) for m in expected]
    assert moved == expected_moved
    assert source._next == due


def test_the_size_of_a_message_is_learnt_from_payloads_alone(source: KafkaSource) -> None:
    """An end of a partition carries a text, and a tombstone nothing: neither says how big the next packet is."""
    end = message(0, 9, b"the end", KafkaError._PARTITION_EOF)
    assert source._receiver.measure([end, message(0, 7, None)]) == 0.0
    assert source._receiver.fitting(7_000.0) == 1
    assert source._receiver.measure([message(0, 7, b"x" * 700), end, message(0, 8, None)]) == 700.0
    assert source._receiver.fitting(7_000.0) == 10
    assert source.bytes_read == 700


def test_messages_as_columns() -> None:
    found = [message(2, 11, b"a"), message(0, 3, None), message(2, 12, b"b")]
    made = columns(found, {}, {}, ())
    assert made.payloads == [b"a", None, b"b"]
    np.testing.assert_array_equal(made.partition, [2, 0, 2])
    np.testing.assert_array_equal(made.offset, [11, 3, 12])
    np.testing.assert_array_equal(made.timestamp_ms, 1_767_225_600_000 + made.offset)
