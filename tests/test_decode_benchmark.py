"""The messages of the decoding benchmark, and that we read of them what the peers read."""

import importlib.util
from collections.abc import Callable

import numpy as np
import pytest

from benchmarks import decode, decode_data, decode_kafka, decode_memory, decode_peers, fuzz
from benchmarks.decode_data import Case
from schemas import avro

CASES: dict[str, Callable[[], Case]] = {
    "flat": lambda: decode_data.flat(30)[0],
    "every field": lambda: decode_data.flat(30)[1],
    "ztf": lambda: decode_data.ztf_made(6),
}
RUBIN = pytest.mark.skipif(decode_data.rubin_schema() is None, reason="lsst-alert-packet is not installed")


@pytest.mark.parametrize("name", CASES)
def test_every_wanted_value_is_the_library_s(name: str) -> None:
    case = CASES[name]()
    decode._check(case, decode._ours(case))


@RUBIN
@pytest.mark.parametrize("which", [0, 1])
def test_rubin_s_packets_weigh_what_they_weigh(which: int) -> None:
    case = decode_data.rubin(6)[which]
    decode._check(case, decode._ours(case))
    assert 60_000 < case.nbytes < 70_000


def test_flat_records_weigh_what_the_case_says() -> None:
    case = decode_data.flat(200)[0]
    assert len(case.schema["fields"]) == 48
    assert 205 < case.nbytes < 225


def test_a_wrong_value_is_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    case = decode_data.flat(30)[0]
    read = decode._ours(case)

    def wrong(messages: list[bytes]) -> decode.Batch:
        found = read(messages)
        column = found[0][1].columns["flux_r"]
        assert isinstance(column, np.ndarray)
        column[-1] += 1
        return found

    with pytest.raises(RuntimeError, match="flux_r"):
        decode._check(case, wrong)


def test_the_projected_library_reads_what_is_wanted_and_no_more() -> None:
    for case in (decode_data.flat(3)[0], decode_data.ztf_made(3)):
        read = decode_peers.fastavro_projected(case)
        assert read is not None
        record = read(case.messages)[0]
        record = record[0] if case.container else record
        assert set(record) == {want.path.split(".")[0] for want in case.wants if want.path.split(".")[0] in record}
        assert len(record) >= len({want.path.split(".")[0] for want in case.wants}) - 1
        whole = decode_peers.fastavro_records(case)(case.messages)[0]
        whole = whole[0] if case.container else whole
        for want in case.wants:
            assert decode.at(record, want.path.split(".")) == decode.at(whole, want.path.split("."))


def test_all_ways_give_one_matrix() -> None:
    case = decode_data.flat(decode_kafka.ARROW_ROWS)[0]
    decode_kafka._agree(
        case,
        {
            "slipher": decode_kafka._engine(case),
            "slipher, Arrow batches": decode_kafka._arrow(case),
            "fastavro": decode_kafka._library(case),
        },
    )


def test_memory_is_bounded_by_the_bytes_of_the_messages(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(decode_memory, "BYTES", 200_000)
    monkeypatch.setattr(decode_memory, "BOMB", 20_000_000)
    integers, texts, claims, bomb = (result.ours for result in decode_memory.hostile())
    assert integers < 20
    assert texts < 40
    assert claims < 2
    assert bomb < 2.1 * avro.container.RATIO  # a buffer that grows is copied once


def test_a_fuzz_is_counted_whole() -> None:
    found = {result.case: result.ours for result in fuzz.run(quick=True, count=3_000, seed=3)}
    assert found.pop("messages") == 3_000
    assert sum(found.values()) == 3_000
    assert found["TRAILING"] > 0


def test_peers_that_are_not_installed_are_left_out() -> None:
    found = decode_peers.peers(decode_data.flat(5)[0], lambda _: None)
    assert {"fastavro", "fastavro, projected"} <= set(found)
    for name in ("cavro", "pyruhvro"):
        assert (name in found) == (importlib.util.find_spec(name) is not None)
