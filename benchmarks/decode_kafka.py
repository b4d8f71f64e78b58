"""Out of Kafka into a float32 matrix of photometry, one process: our engine on Avro and on Arrow batches, fastavro on Avro.

All consume alike. The clock runs from the first message to the last row of the matrix; the broker is on the same cores.
"""

import gc
import io
import json
import time
from collections.abc import Callable, Iterator
from operator import itemgetter
from typing import Any

import fastavro
import numpy as np
import pyarrow as pa
from confluent_kafka import Consumer, Message, TopicPartition
from rich.console import Console

from benchmarks.decode_data import HEADER, Case, flat
from benchmarks.report import Result, compared
from schemas import avro
from schemas.batch import Float32
from schemas.wire import arrow_ipc
from streamer.broker.server import Broker
from streamer.publish import make_topic, publish

PARTITIONS = 8
ARROW_ROWS = 2_000  # of a message
BATCH = 20_000  # messages that become rows together
CONSUME = 2_000  # messages of one call
COLUMNS = tuple(f"{name}_{band}" for band in "ugrizy" for name in ("flux", "fluxErr"))
CONSUMER = {
    "group.id": "decode",
    "enable.auto.commit": False,
    "fetch.queue.backoff.ms": 10,
    "queued.min.messages": 100_000,
    "queued.max.messages.kbytes": 65_536,
    "log_level": 3,
}

Matrix = Callable[[list[bytes]], Float32]
WAYS = {"slipher": "avro", "slipher, Arrow batches": "arrow", "fastavro": "avro"}


def run(quick: bool, console: Console) -> list[Result]:
    """Rates of every way in turn, by the clock and by the CPU that the process spent."""
    rows, peer_rows, repeats = (100_000, 20_000, 2) if quick else (1_000_000, 60_000, 5)
    made = 50_000  # different messages: the topic repeats them
    case = flat(min(rows, made))[0]
    case = case._replace(wants=[want for want in case.wants if want.path in COLUMNS])
    matrix: dict[str, Matrix] = {
        "slipher": _engine(case),
        "slipher, Arrow batches": _arrow(case),
        "fastavro": _library(case),
    }
    clock: dict[str, list[float]] = {way: [] for way in WAYS}
    cpu: dict[str, list[float]] = {way: [] for way in WAYS}
    before = gc.get_threshold()
    with Broker() as broker:
        _publish(case, rows, broker.bootstrap)
        _agree(case, matrix)
        gc.set_threshold(100_000, 20, 100)  # a message is an object: all ways gain from this
        try:
            for _ in range(repeats):
                for way, topic in WAYS.items():
                    wanted = peer_rows if way == "fastavro" else rows
                    seconds, spent = _read(broker.bootstrap, topic, matrix[way], wanted)
                    clock[way].append(wanted / seconds)
                    cpu[way].append(wanted / spent)
        finally:
            gc.set_threshold(*before)
    name = f"Kafka to a float32 matrix, {case.nbytes:,.0f} B a record"
    results = [compared(name, "objects/s", clock), compared(f"{name}, by CPU", "objects/s", cpu)]
    for result in results:
        told = ", ".join(f"{who} {rate:,.0f} ({result.ratios[who]:.2f}x)" for who, rate in result.peers.items())
        console.print(f"{result.case}: {result.ours:,.0f}; {told}", soft_wrap=True)
    return results


def _publish(case: Case, rows: int, brokers: str) -> None:
    kafka = {"bootstrap.servers": brokers}
    for topic in ("avro", "arrow"):
        make_topic(topic, PARTITIONS, kafka)

    def again() -> Iterator[bytes]:
        for k in range(rows):
            yield case.messages[k % len(case.messages)]

    publish(again(), "avro", kafka)
    batches = _batches(case)
    publish((batches[k % len(batches)] for k in range(rows // ARROW_ROWS)), "arrow", kafka)


def _batches(case: Case) -> list[bytes]:
    """The same records in Arrow streams, the columns that we want of a record."""
    memory = avro.buffers(case.messages)
    columns: Any = avro.compile_schema(case.schema, case.wants).run(memory, len(HEADER)).columns
    table = pa.table({path: pa.array(column) for path, column in columns.items()})
    return [
        arrow_ipc.write(batch, "lz4")
        for batch in table.combine_chunks().to_batches(ARROW_ROWS)
        if batch.num_rows == ARROW_ROWS
    ]


def _engine(case: Case) -> Matrix:
    program = avro.compile_schema(case.schema, case.wants)

    def matrix(payloads: list[bytes]) -> Float32:
        decoded = program.run(avro.buffers(payloads), len(HEADER))
        if decoded.status.any():
            raise RuntimeError("a message was refused")
        out = np.empty((len(payloads), len(COLUMNS)), np.float32)
        for k, name in enumerate(COLUMNS):
            out[:, k] = decoded.columns[name]
        return out

    return matrix


def _arrow(case: Case) -> Matrix:
    wanted = pa.schema([pa.field(name, pa.float32()) for name in COLUMNS])

    def matrix(payloads: list[bytes]) -> Float32:
        out = np.empty((len(payloads) * ARROW_ROWS, len(COLUMNS)), np.float32)
        first = 0
        for payload in payloads:
            for batch in arrow_ipc.read(payload, wanted, {}, ARROW_ROWS, {}):
                for k in range(len(COLUMNS)):
                    out[first : first + batch.num_rows, k] = batch.column(k).to_numpy()
                first += batch.num_rows
        return out

    return matrix


def _library(case: Case) -> Matrix:
    parsed = fastavro.parse_schema(json.loads(json.dumps(case.schema)))
    photometry = itemgetter(*COLUMNS)

    def matrix(payloads: list[bytes]) -> Float32:
        rows = []
        for payload in payloads:
            stream = io.BytesIO(payload)
            stream.seek(len(HEADER))
            record: Any = fastavro.schemaless_reader(stream, parsed, None)
            rows.append(photometry(record))
        return np.array(rows, np.float32)

    return matrix


def _agree(case: Case, matrix: dict[str, Matrix]) -> None:
    """All ways give the same matrix."""
    some = case.messages[:ARROW_ROWS]
    expected = matrix["fastavro"](some)
    for way, payloads in (("slipher", some), ("slipher, Arrow batches", _batches(case)[:1])):
        if not np.array_equal(matrix[way](payloads), expected):
            raise RuntimeError(f"{way} gives another matrix than fastavro")


def _read(brokers: str, topic: str, matrix: Matrix, rows: int) -> tuple[float, float]:
    """(seconds, seconds of CPU) from the first message on."""
    each = ARROW_ROWS if topic == "arrow" else 1
    consumer = Consumer({**CONSUMER, "bootstrap.servers": brokers})
    consumer.assign([TopicPartition(topic, p, 0) for p in range(PARTITIONS)])
    try:
        payloads: list[bytes] = []
        done, begun, cpu = 0, 0.0, 0.0
        while done < rows:
            wanted = min(BATCH, rows - done) // each
            got = consumer.consume(min(CONSUME, wanted - len(payloads)), 0.2)
            if got and not begun:
                begun, cpu = time.perf_counter(), time.process_time()
            if any(map(Message.error, got)):
                raise RuntimeError("Kafka gave an error instead of a message")
            payloads += map(Message.value, got)  # type: ignore[arg-type]
            if len(payloads) >= wanted:
                done += len(matrix(payloads))
                payloads = []
        return time.perf_counter() - begun, time.process_time() - cpu
    finally:
        consumer.close()
