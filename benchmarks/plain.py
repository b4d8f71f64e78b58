"""The plain way with well-known libraries: the peers of the pipeline benchmark.

``plain`` is what one writes in an afternoon: consume, fastavro or Arrow IPC, NumPy features, scikit-learn's own ``apply``, PDFs
from a dense histogram per leaf, gathered tree by tree, and ``write_deltalake`` as it comes. ``numpy`` is the same from a careful
hand: batches of the size that was fastest, vectorised where a dict would do, and no dictionaries of floating point numbers,
which cost as much as the rest of the writing. ``scipy`` makes the PDFs by one product of two sparse matrices, of less work and
memory. All do less than slipher: no smoothing, no recalibration, no risk point, no flags, no refusals, no fsync, and a crash
loses or doubles rows.
"""

import gc
import io
import time
from collections.abc import Callable
from operator import itemgetter
from pathlib import Path
from typing import Any, Literal, NamedTuple

import joblib  # comes with scikit-learn
import numpy as np
import pyarrow as pa
from scipy import sparse  # comes with scikit-learn

from benchmarks.crew import Outcome
from benchmarks.stages import Stages

ROWS_PER_WRITE = 50_000  # the batch that was fastest for a careful hand
PLAIN_ROWS = 10_000  # one that anybody may choose
ZERO_POINT = 31.4
POGSON = 2.5 / np.log(10)
KAFKA = {"enable.auto.commit": False, "fetch.queue.backoff.ms": 10, "log_level": 3}
NAMES = ("object_id", "ra", "dec", "mjd")
SCHEMA = pa.schema(
    [("object_id", pa.string())]
    + [(name, pa.float64()) for name in ("ra", "dec", "mjd", "z_lo", "z_median", "z_hi", "z_mode")]
    + [("z_mean", pa.float32()), ("partition", pa.int64()), ("offset", pa.int64())]
    + [("pdf", pa.list_(pa.float32())), ("night", pa.string())]
)


Way = Literal["plain", "numpy", "scipy"]


class System(NamedTuple):
    """How fluxes become features."""

    bands: tuple[str, ...]
    reference: int
    softening: np.ndarray  # nJy, [B]
    dust: np.ndarray  # A_band / E(B-V), [B]


class Model(NamedTuple):
    """A forest of scikit-learn and what its leaves hold."""

    system: System
    forest: Any
    first: np.ndarray  # number of each tree's first node among those of all trees, int32[T]
    density: Any  # CSR [nodes, G]: what a row in that node adds to a PDF
    grid: np.ndarray


def features(flux: np.ndarray, ebv: np.ndarray, system: System) -> np.ndarray:
    """Reference magnitude and colours, float32[n, B]; NaN where a band is missing."""
    flux = flux * 10 ** (0.4 * system.dust * np.nan_to_num(ebv)[:, None])
    magnitude = ZERO_POINT - POGSON * (np.arcsinh(flux / (2 * system.softening)) + np.log(system.softening))
    colours = magnitude[:, :-1] - magnitude[:, 1:]
    return np.concatenate([magnitude[:, [system.reference]], colours], axis=1).astype(np.float32)


def train(
    flux: np.ndarray, ebv: np.ndarray, z: np.ndarray, system: System, trees: int, min_leaf: int, grid: np.ndarray
) -> Model:
    """Extra trees on the rows given (NaN flux = band missing), with the distribution of redshifts in every leaf."""
    from sklearn.ensemble import ExtraTreesRegressor

    x = features(flux, ebv, system)
    forest = ExtraTreesRegressor(trees, min_samples_leaf=min_leaf, max_features=1.0, random_state=1, n_jobs=-1)
    forest.fit(x, z)
    nodes = np.array([tree.tree_.node_count for tree in forest.estimators_])
    first = (np.cumsum(nodes) - nodes).astype(np.int32)
    bins = np.clip(np.rint((z - grid[0]) / (grid[1] - grid[0])), 0, len(grid) - 1).astype(int)
    node = (forest.apply(x) + first).ravel()
    counts = sparse.coo_matrix(
        (np.ones(len(node)), (node, np.repeat(bins, trees))), shape=(nodes.sum(), len(grid))
    ).tocsr()
    weight = 1 / (np.maximum(counts.sum(1), 1) * trees * (grid[1] - grid[0]))
    return Model(system, forest, first, counts.multiply(weight).tocsr().astype(np.float32), grid)


def estimator(model: Model, way: Way) -> Callable[[np.ndarray], np.ndarray]:
    """Rows of features to PDFs, float32[n, G]."""

    def sparsely(x: np.ndarray) -> np.ndarray:
        n, trees = len(x), len(model.first)
        node = (model.forest.apply(x) + model.first).astype(np.int32).ravel()
        rows = np.arange(0, len(node) + 1, trees, dtype=np.int32)
        chosen = sparse.csr_matrix((np.ones(len(node), np.float32), node, rows), (n, model.density.shape[0]))
        found: np.ndarray = (chosen @ model.density).toarray()
        return found

    if way == "scipy":
        return sparsely
    ends = [*model.first[1:], model.density.shape[0]]
    dense = [model.density[first:end].toarray() for first, end in zip(model.first, ends, strict=True)]

    def densely(x: np.ndarray) -> np.ndarray:
        leaves = model.forest.apply(x)
        pdf = np.zeros((len(x), len(model.grid)), np.float32)
        for t, histograms in enumerate(dense):
            pdf += histograms[leaves[:, t]]
        return pdf

    return densely


def points(pdf: np.ndarray, grid: np.ndarray) -> dict[str, np.ndarray]:
    """Mode, mean, median and a 68 % interval."""
    step = grid[1] - grid[0]
    cumulative = pdf.cumsum(1)
    last = len(grid) - 1
    levels = (("z_lo", 0.16), ("z_median", 0.5), ("z_hi", 0.84))
    found = {name: grid[np.minimum((cumulative < level / step).sum(1), last)] for name, level in levels}
    return found | {"z_mode": grid[pdf.argmax(1)], "z_mean": (pdf @ grid.astype(np.float32)) * step}


def make_table(table: Path) -> None:
    """An empty table for it to append to, so that two writers do not both make it."""
    from deltalake import DeltaTable

    DeltaTable.create(str(table), SCHEMA, partition_by=["night"])


class Task(NamedTuple):
    """What one process is to do.

    Attributes
    ----------
    brokers, topic, partitions, rows
        What to read: at least so many rows of these partitions.
    form
        Of the messages: ``avro``, one row each, or ``arrow``.
    schema
        The writer's Avro schema.
    table
        Where to append, from `make_table`.
    model
        A `Model`, as joblib wrote it.
    way
        How PDFs are made, and how carefully the rest.
    threads
        Of the forest and of Arrow.
    warm_up
        A few messages: all but the writing is done with them once, and forgotten.
    """

    brokers: str
    topic: str
    partitions: list[int]
    rows: int
    form: str
    schema: Any
    table: Path
    model: Path
    way: Way
    threads: int
    warm_up: list[bytes]


def prepare(task: Task) -> Callable[[], Outcome]:
    """A loop that reads, estimates, and appends to the Delta table."""
    import fastavro
    from confluent_kafka import Consumer, TopicPartition
    from deltalake import ColumnProperties, DeltaTable, WriterProperties, write_deltalake

    pa.set_cpu_count(task.threads)
    gc.set_threshold(100_000, 20, 100)  # ten thousands of short-lived dicts: it gains from this what slipher does
    model: Model = joblib.load(task.model)
    model.forest.n_jobs = task.threads
    parsed = fastavro.parse_schema(task.schema)
    bands, pdfs = model.system.bands, estimator(model, task.way)
    careful = task.way != "plain"
    tuned = WriterProperties(
        compression="ZSTD",
        compression_level=1,
        default_column_properties=ColumnProperties(dictionary_enabled=False),
    )
    how: dict[str, Any] = {"writer_properties": tuned} if careful else {}
    batch = ROWS_PER_WRITE if careful else PLAIN_ROWS
    stages = Stages()

    def rows_of(payloads: list[bytes]) -> tuple[dict[str, Any], np.ndarray]:
        if task.form == "avro":
            columns, flux, ebv, counts = _avro(payloads, parsed, bands, careful)
        else:
            columns, flux, ebv, counts = _arrow(payloads, bands)
        stages.mark("decode")
        x = features(flux, ebv, model.system)
        stages.mark("features")
        pdf = pdfs(x)
        stages.mark("estimate")
        columns |= points(pdf, model.grid)
        stages.mark("points")
        offsets = np.arange(0, pdf.size + 1, len(model.grid), dtype=np.int32)
        columns["pdf"] = pa.ListArray.from_arrays(offsets, pdf.reshape(-1))
        return columns, counts

    per_message = rows_of(task.warm_up)[1][0]
    consumer = Consumer({**KAFKA, "bootstrap.servers": task.brokers, "group.id": "plain"})
    consumer.list_topics(task.topic, 10.0)  # connects now: its start-up is not what we measure
    stages.seconds.clear()

    def go() -> Outcome:
        consumer.assign([TopicPartition(task.topic, p, 0) for p in task.partitions])
        target = DeltaTable(str(task.table))
        rows, begun, cpu = 0, 0.0, time.process_time()
        stages.restart()
        while rows < task.rows:
            wanted = -(-min(batch, task.rows - rows) // per_message)
            messages: list[Any] = []
            while len(messages) < wanted:
                messages += [m for m in consumer.consume(wanted - len(messages), 0.2) if m.error() is None]
                begun = begun or (time.perf_counter() if messages else 0.0)
            stages.mark("consume")
            columns, counts = rows_of([m.value() for m in messages])
            columns["partition"] = np.repeat([m.partition() for m in messages], counts)
            columns["offset"] = np.repeat([m.offset() for m in messages], counts)
            columns["night"] = _nights(np.asarray(columns["mjd"]))
            made = pa.table([columns[field.name] for field in SCHEMA], schema=SCHEMA)
            write_deltalake(target, made, mode="append", **how)
            stages.mark("write")
            rows += len(made)
        ended = time.perf_counter()
        consumer.close()
        return Outcome(rows, begun, ended, dict(stages.seconds), time.process_time() - cpu)

    return go


def _avro(
    payloads: list[bytes], schema: Any, bands: tuple[str, ...], careful: bool
) -> tuple[dict[str, Any], Any, Any, Any]:
    import fastavro

    records: list[Any] = [fastavro.schemaless_reader(io.BytesIO(p[5:]), schema, None) for p in payloads]
    columns: dict[str, Any] = {name: [r[name] for r in records] for name in NAMES}
    ebv = np.array([r["ebv"] for r in records])
    if careful:
        fluxes = itemgetter(*(f"flux_{band}" for band in bands))
        flux = np.array([fluxes(r) for r in records])
    else:
        flux = np.array([[r[f"flux_{band}"] for band in bands] for r in records])
    return columns, flux, ebv, np.ones(len(records), int)


def _arrow(payloads: list[bytes], bands: tuple[str, ...]) -> tuple[dict[str, Any], Any, Any, Any]:
    tables = [pa.ipc.open_stream(p).read_all() for p in payloads]
    table = pa.concat_tables(tables)
    columns: dict[str, Any] = {name: table[name] for name in NAMES}
    flux = np.stack([table[f"flux_{band}"].to_numpy() for band in bands], axis=1)
    return columns, flux, table["ebv"].to_numpy(), np.array([len(t) for t in tables])


def _nights(mjd: np.ndarray) -> pa.Array:
    """Names of the nights, which begin at noon UTC."""
    days, which = np.unique(np.floor(mjd - 0.5).astype(int), return_inverse=True)
    return pa.array((np.datetime64("1858-11-17") + days).astype(str).tolist()).take(pa.array(which))
