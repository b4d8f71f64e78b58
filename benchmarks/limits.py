"""What each stage of the pipeline could cost at the least: the same objects through the one thing that it cannot do without."""

import statistics
import time
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
from confluent_kafka import Consumer, TopicPartition

from benchmarks.feed import ARROW_ROWS, PARTITIONS, SURVEY, Feed
from benchmarks.plain import KAFKA
from consumers.pdf_column import quantise, round_pdfs
from models.estimator import load
from models.photometry import photometry
from schemas import avro
from schemas.batch import Galaxies, Messages
from schemas.native_decoder import NativeDecoder, wants
from schemas.surveys.native import avro_schema
from streamer.source.receiver import CONSUME_MESSAGES

ROWS = 100_000  # a commit's
BATCH = 20_000  # rows of a poll
HEADER = 5  # bytes of a message before its record
PAGE = 1 << 20  # bytes that are compressed at once
REPEATS = 3

# What stands for each, in the words of the table.
KINDS = {
    "consume": "librdkafka's consume and value()",
    "decode": "the bare reader: the Avro program, Arrow's own IPC reader",
    "estimate": "the bare kernel: the trees' leaves summed on the grid",
    "rows": "the PDFs copied once",
    "parquet": "zstd of the PDFs alone",
}


class Fetched(NamedTuple):
    """The first messages of a topic, and what it cost to fetch all."""

    messages: Messages
    cost: float  # us of CPU per object


def limits(brokers: str, topic: Feed, bundle: Any, compact: bool = False) -> dict[str, float]:
    """Microseconds of CPU per object of each of `KINDS`, one thread, the middle of `REPEATS`."""
    fetched = fetch(brokers, topic)
    model: Any = load(bundle)
    galaxies, _ = NativeDecoder(model.survey).decode(fetched.messages)
    pdfs = _pdfs(model, galaxies)
    return {
        "consume": fetched.cost,
        "decode": _decode(topic, fetched.messages.payloads, model.bands),
        "estimate": _kernel(model, galaxies),
        "rows": _middle(lambda: pdfs.copy(), len(pdfs)),
        "parquet": _zstd(pdfs, compact),
    }


def fetch(brokers: str, topic: Feed) -> Fetched:
    """Read `topic` and do nothing with it; the messages of its first `ROWS` objects are kept, as if of one partition."""
    consumer = Consumer({**KAFKA, "bootstrap.servers": brokers, "group.id": "limits", "queued.min.messages": 100_000})
    each = ARROW_ROWS if topic.form == "arrow" else 1
    try:
        consumer.assign([TopicPartition(topic.topic, p, 0) for p in range(PARTITIONS)])
        payloads: list[bytes] = []
        found, cpu = 0, 0.0
        while found < topic.rows:
            began = time.thread_time()
            got = [m.value() for m in consumer.consume(CONSUME_MESSAGES, 0.2)]
            cpu += time.thread_time() - began
            found += each * len(got)
            payloads += got[: ROWS // each - len(payloads)]  # type: ignore[arg-type]
    finally:
        consumer.close()
    n = len(payloads)
    zeros, now = np.zeros(n, np.int32), np.full(n, 1_767_225_600_000, np.int64)
    messages = Messages(payloads, zeros, np.arange(n, dtype=np.int64), now, {0: n}, starts={0: 0})  # type: ignore[arg-type]
    return Fetched(messages, 1e6 * cpu / found)


def _decode(topic: Feed, payloads: list[Any], bands: tuple[str, ...]) -> float:
    if topic.form == "arrow":

        def read() -> None:
            for payload in payloads:
                pa.ipc.open_stream(payload).read_all()

        return _middle(read, len(payloads) * ARROW_ROWS)
    program = avro.compile_schema(avro_schema(SURVEY), wants(bands))
    return _middle(lambda: program.run(avro.buffers(payloads), HEADER), len(payloads))


def _kernel(model: Any, galaxies: Galaxies) -> float:
    seen = photometry(galaxies.flux, galaxies.flux_err, galaxies.band_state, galaxies.ebv, model._system)
    parts = [seen.features[first : first + BATCH] for first in range(0, len(galaxies), BATCH)]
    out = np.empty((BATCH, len(model.grid)), np.float32)

    def work() -> None:
        for part in parts:
            for row, counts in model._inference._counts(part):
                out[row] = counts[:, : len(model.grid)]

    return _middle(work, len(galaxies))


def _pdfs(model: Any, galaxies: Galaxies) -> np.ndarray:
    pdf: np.ndarray = model.estimate(galaxies).pdf
    return pdf[~np.isnan(pdf[:, 0])]


def _zstd(pdf: np.ndarray, compact: bool) -> float:
    rows = max(1, PAGE // (pdf.shape[1] * (1 if compact else 4)))
    if compact:
        stored = np.empty(pdf.shape, np.uint8)
        quantise(pdf, stored)
        pages = [stored[k : k + rows].copy() for k in range(0, len(pdf), rows)]
    else:
        round_pdfs(pdf)
        split = [pdf[k : k + rows].reshape(-1).view(np.uint8).reshape(-1, 4).T for k in range(0, len(pdf), rows)]
        pages = [np.ascontiguousarray(page) for page in split]
    codec = pa.Codec("zstd", compression_level=1)

    def work() -> None:
        for page in pages:
            codec.compress(page)

    return _middle(work, len(pdf))


def _middle(work: Callable[[], object], rows: int) -> float:
    """Microseconds of CPU per row of `work`, which is done once before."""
    work()
    spent = []
    for _ in range(REPEATS):
        began = time.thread_time()
        work()
        spent.append(time.thread_time() - began)
    return 1e6 * statistics.median(spent) / rows
