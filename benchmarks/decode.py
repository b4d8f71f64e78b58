"""Alerts to columns beside every peer that is installed: rates of one core, time of a new schema, memory; and out of Kafka."""

import os
import time
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import pyarrow as pa
from rich.console import Console

from benchmarks import decode_data, decode_kafka, decode_memory, decode_peers
from benchmarks.avro_fuzz import at, same, value_at
from benchmarks.decode_data import HEADER, Case
from benchmarks.report import Result, compared, middle
from schemas import avro

CHECKED = 40  # messages compared with the library before any clock starts
ENOUGH = 0.3  # seconds that make a measurement
BATCH = 20_000  # messages that a source gives at once, at most
MAX_BYTES, MAX_ROWS = 64 << 20, 1 << 20


class Size(NamedTuple):
    """How much."""

    flat: int  # messages
    rubin: int
    ztf: int
    peer: int  # flat messages a peer is given at once
    peer_large: int  # packets
    repeats: int


FULL = Size(100_000, 1_000, 1_000, 5_000, 25, 5)
QUICK = Size(20_000, 100, 100, 1_000, 10, 2)


def run(quick: bool) -> list[Result]:
    """All cases, ours and the peers' in turn. Times are of the process's CPU, so one core's."""
    size = QUICK if quick else FULL
    console = Console(stderr=True)
    os.environ.setdefault("POLARS_MAX_THREADS", "1")
    pa.set_cpu_count(1)
    console.print(f"peers: {decode_peers.installed()}", soft_wrap=True)
    results: list[Result] = []
    for case in _cases(size, console):
        read = _ours(case)
        _check(case, read)
        results.append(_rates(case, read, size, console))
        if not case.container:
            results.append(_compile(case, size.repeats))
        results.append(decode_memory.of_messages(case.name, read, case.messages[:2000]))
        del case, read
    results += decode_memory.hostile()
    return results + decode_kafka.run(quick, console)


def _cases(size: Size, console: Console) -> Iterator[Case]:
    yield from decode_data.flat(size.flat)
    rubin = decode_data.rubin(size.rubin)
    if not rubin:
        console.print("Rubin left out: the package lsst-alert-packet is not installed")
    yield from rubin
    yield decode_data.ztf_made(size.ztf)
    real = decode_data.ztf_real(size.ztf)
    if real is None:
        console.print("real ZTF containers left out: SLIPHER_TEST_DATA names no folder with alerts/ztf_real")
    else:
        yield real


Batch = list[tuple[avro.Buffers, avro.Decoded]]


def _ours(case: Case) -> Callable[[list[bytes]], Batch]:
    if case.container:
        containers = avro.Containers(case.wants, MAX_BYTES, MAX_ROWS)

        def unpack(messages: list[bytes]) -> Batch:
            found, refused = containers.read(messages)
            if refused:
                raise RuntimeError(f"a container was refused: {refused[0][1]}")
            return [(r.buffers, r.program.run(r.buffers, r.start, r.exact)) for r in found]

        return unpack
    program = avro.compile_schema(case.schema, case.wants)

    def read(messages: list[bytes]) -> Batch:
        memory = avro.buffers(messages)
        return [(memory, program.run(memory, len(HEADER)))]

    return read


def _check(case: Case, read: Callable[[list[bytes]], Batch]) -> None:
    """Every wanted value of the first messages is what fastavro reads."""
    messages = case.messages[:CHECKED]
    theirs = decode_peers.fastavro_records(case)(messages)
    records = [record for each in theirs for record in each] if case.container else theirs
    read(messages)  # the header of a container is known from here on, as in a stream
    ((_, decoded),) = read(messages)
    if decoded.status.any() or len(decoded.status) != len(records):
        raise RuntimeError(f"{case.name}: a good message was refused")
    for i, record in enumerate(records):
        for want in case.wants:
            expected = at(record, want.path.split("."))
            if want.kind == "present":
                expected = int(expected is not None)
            found = value_at(decoded.columns[want.path], want, i, messages[i])
            if not same(found, expected):
                raise RuntimeError(f"{case.name}: {want.path} is {found!r:.80}, not {expected!r:.80}")


def _rates(case: Case, read: Callable[[list[bytes]], Any], size: Size, console: Console) -> Result:
    work: dict[str, Callable[[list[bytes]], Any]] = {"slipher": read}
    work |= decode_peers.peers(case, console.print)
    few = size.peer if case.nbytes < 10_000 else size.peer_large
    rates: dict[str, list[float]] = {who: [] for who in work}
    for _ in range(size.repeats):
        for who, each in work.items():
            rates[who].append(_rate(each, case.messages, BATCH if who == "slipher" else few))
    result = compared(f"{case.name}, {case.nbytes:,.0f} B", "messages/s", rates)
    told = ", ".join(f"{who} {value:,.0f} ({result.ratios[who]:.1f}x)" for who, value in result.peers.items())
    console.print(f"{result.case}: {result.ours:,.0f}; {told}", soft_wrap=True)
    return result


def _rate(work: Callable[[list[bytes]], Any], messages: list[bytes], batch: int) -> float:
    """Messages per second of CPU: batches after one another, from the first again after the last."""
    starts = range(0, len(messages), batch)
    done, spent = 0, 0.0
    while spent < ENOUGH:
        for start in starts:
            some = messages[start : start + batch]
            began = time.process_time()
            work(some)
            spent += time.process_time() - began
            done += len(some)
            if spent >= ENOUGH:
                break
    return done / spent


def _compile(case: Case, repeats: int) -> Result:
    """From a schema that was never seen to the first record of it, the kernels compiled before."""
    taken = []
    for _ in range(3 * repeats):
        began = time.process_time()
        program = avro.compile_schema(case.schema, case.wants)
        program.run(avro.buffers(case.messages[:1]), len(HEADER))
        taken.append(1e3 * (time.process_time() - began))
    median, spread = middle(taken)
    return Result(f"{case.name}: a new schema to its first record", median, "ms", spread=spread, higher_is_better=False)
