"""The whole list of metrics: name, kind, labels, unit, buckets, one sentence. Nothing is exposed that does not stand here.

Workers say what they do, the supervisor how often it had to start them, and one monitor how far behind each model is: lag is
not a worker's to tell, for a worker that is down tells nothing. ``process_...`` (CPU, resident memory, open files) and
``python_info`` come beside them from prometheus-client.

Rules: what is not known is absent, never NaN; every label has a bound (``LABELS``); a counter counts from the start of its
process.
"""

from enum import StrEnum
from typing import NamedTuple


class Kind(StrEnum):
    """As Prometheus has them."""

    COUNTER = "counter"
    GAUGE = "gauge"
    HISTOGRAM = "histogram"


class Metric(NamedTuple):
    """One metric.

    Attributes
    ----------
    name
        As it is exposed.
    kind
        Counter, gauge or histogram.
    about
        One sentence.
    labels
        Names of its labels; their bounds stand in ``LABELS``.
    unit
        Of the value; empty where it is a state.
    buckets
        Upper bounds of a histogram's, rising, without the infinite one.
    """

    name: str
    kind: Kind
    about: str
    labels: tuple[str, ...] = ()
    unit: str = ""
    buckets: tuple[float, ...] = ()


# What a label can be, and how many values it has in one process.
LABELS = {
    "topic": "a topic that is read: one, or those that fit a pattern; gone when its reading ends",
    "model": "name of the model and the hash of its bundle: one a worker, in the monitor those that ever wrote",
    "partition": "of the topic; in the monitor only",
    "reason": "a name of schemas.batch.Reason, EMPTY left out: 11",
    "stage": "one of Stage: 8",
    "processing_id": "identity of the rows: one a worker",
    "kind": "kind of model: forest, forest+mlp, images",
    "version": "of slipher: one",
    "worker": "number of a worker under one supervisor: at most 256",
    "gpu": "index of a GPU that this process uses",
}


class Stage(StrEnum):
    """Where the time of a batch goes. ``process`` holds decode, estimate and rows; ``settle`` holds parquet and commit."""

    CONSUME = "consume"  # polling thread: from asking the source to a batch in columns, waiting for messages included
    PROCESS = "process"  # table thread: messages to rows and refusals
    DECODE = "decode"  # bytes to galaxies
    ESTIMATE = "estimate"  # galaxies to PDFs and points
    ROWS = "rows"  # galaxies and estimates to Arrow columns
    SETTLE = "settle"  # table thread: all of a commit, its proof that each offset is accounted for included
    PARQUET = "parquet"  # one file: encoded, compressed, written, fsynced
    COMMIT = "commit"  # one entry of a table's log


# A batch takes milliseconds at Rubin's rate and about a second when a backlog is worked off; a hanging disk, minutes.
SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0)
# From one alert to the most that is polled at once: streamer.source.kafka.BATCH_MESSAGES.
SIZES = (1.0, 3.0, 10.0, 30.0, 100.0, 300.0, 1_000.0, 3_000.0, 10_000.0, 20_000.0, 40_000.0)

_C, _G, _H = Kind.COUNTER, Kind.GAUGE, Kind.HISTOGRAM

# -- a worker ----------------------------------------------------------------------------------------------------------

MESSAGES = Metric(
    "slipher_messages_total",
    _C,
    "Messages read from Kafka, again where they had to be read again.",
    ("topic",),
    "messages",
)
BYTES = Metric("slipher_bytes_total", _C, "Bytes of the payloads of these messages.", ("topic",), "bytes")
SETTLED = Metric(
    "slipher_settled_messages_total",
    _C,
    "Messages that are durable: their rows, or their entries in the exceptions ledger.",
    ("topic",),
    "messages",
)
ROWS = Metric("slipher_rows_total", _C, "Catalogue rows that are durable.", ("topic", "model"), "rows")
REFUSED = Metric(
    "slipher_refused_total",
    _C,
    "Refusals of messages, and of rows of messages, that are durable; empty messages are none.",
    ("topic", "reason"),
    "refusals",
)
REPEATED = Metric(
    "slipher_repeated_total", _C, "Durable rows whose alert id came before at another offset.", ("topic",), "rows"
)
EXPIRED = Metric(
    "slipher_expired_total",
    _C,
    "Offsets that retention took before they were read: RETENTION_GAP in the exceptions ledger.",
    ("topic",),
    "offsets",
)
COMMITS = Metric("slipher_commits_total", _C, "Commits of rows and offsets.", ("topic",), "commits")
LAST_COMMIT = Metric(
    "slipher_last_commit_timestamp_seconds",
    _G,
    "When the last commit became durable, since 1970 UTC.",
    ("topic",),
    "seconds",
)
CONFLICTS = Metric(
    "slipher_commit_conflicts_total",
    _C,
    "Entries that a table's log did not take at once, because another writer's came first or its disk failed; tried again.",
    (),
    "entries",
)
FENCED = Metric(
    "slipher_fenced_partitions_total", _C, "Partitions found to have another owner at a commit.", (), "partitions"
)
STAGE_SECONDS = Metric(
    "slipher_stage_seconds",
    _H,
    "Wall-clock time of one batch, file or entry in a stage.",
    ("stage",),
    "seconds",
    SECONDS,
)
BATCH_MESSAGES = Metric("slipher_batch_messages", _H, "Messages of a batch.", (), "messages", SIZES)
IN_FLIGHT = Metric(
    "slipher_batches_in_flight", _G, "Batches read and not yet written to the pending commit.", (), "batches"
)
PENDING_ROWS = Metric("slipher_pending_rows", _G, "Rows that wait for the next commit.", (), "rows")
PENDING_BYTES = Metric(
    "slipher_pending_bytes", _G, "Bytes of exceptions that wait for the next commit, about.", (), "bytes"
)
STALLED = Metric(
    "slipher_stalled", _G, "1 while the worker waits for the world: a table, a disk, a registry, memory; else 0."
)
STALLS = Metric("slipher_stalls_total", _C, "Times that the worker began to wait for the world.", (), "stalls")
ASSIGNED = Metric(
    "slipher_assigned_partitions", _G, "Partitions that this worker has claimed and reads.", (), "partitions"
)
REBALANCES = Metric(
    "slipher_rebalances_total",
    _C,
    "Times that the consumer group gave this worker partitions or took some.",
    (),
    "rebalances",
)
ALIVE = Metric("slipher_alive", _G, "1 while neither thread of the worker is stuck, as /healthz says; else 0.")
READY = Metric("slipher_ready", _G, "1 where a message that came now would become a row, as /readyz says; else 0.")
BUSY = Metric(
    "slipher_busy_seconds",
    _G,
    "For how long the table thread has been at what it is doing now; 0 when it waits.",
    (),
    "seconds",
)
MODEL = Metric(
    "slipher_model_info",
    _G,
    "Always 1; what is loaded stands in the labels.",
    ("model", "processing_id", "kind", "version"),
)
MEMORY_LIMIT = Metric(
    "slipher_memory_limit_bytes",
    _G,
    "What the container or service may use (cgroup); absent without a limit.",
    (),
    "bytes",
)
GPU_MEMORY = Metric("slipher_gpu_memory_bytes", _G, "GPU memory in use, of all processes on it.", ("gpu",), "bytes")
GPU_MEMORY_LIMIT = Metric("slipher_gpu_memory_limit_bytes", _G, "Memory of the GPU.", ("gpu",), "bytes")

WORKER = (
    MESSAGES,
    BYTES,
    SETTLED,
    ROWS,
    REFUSED,
    REPEATED,
    EXPIRED,
    COMMITS,
    LAST_COMMIT,
    CONFLICTS,
    FENCED,
    STAGE_SECONDS,
    BATCH_MESSAGES,
    IN_FLIGHT,
    PENDING_ROWS,
    PENDING_BYTES,
    STALLED,
    STALLS,
    ASSIGNED,
    REBALANCES,
    ALIVE,
    READY,
    BUSY,
    MODEL,
    MEMORY_LIMIT,
    GPU_MEMORY,
    GPU_MEMORY_LIMIT,
)

# -- the supervisor of ``slipher run --workers N``, on the port after the last worker's ----------------------------------

RESTARTS = Metric(
    "slipher_worker_restarts_total", _C, "Times that a worker died and was started again.", ("worker",), "restarts"
)
WORKERS = Metric("slipher_workers_running", _G, "Worker processes that run now.", (), "workers")

SUPERVISOR = (RESTARTS, WORKERS)

# -- the monitor -------------------------------------------------------------------------------------------------------

_PARTITION = ("topic", "partition", "model")
_TOPIC = ("topic", "model")

LAG_MESSAGES = Metric("slipher_lag_messages", _G, "Messages that are not yet durable.", _PARTITION, "messages")
LAG_BYTES = Metric("slipher_lag_bytes", _G, "Bytes of the log that are not yet durable.", _PARTITION, "bytes")
LAG_SECONDS = Metric(
    "slipher_lag_seconds", _G, "Age of the oldest message not yet durable; 0 when caught up.", _PARTITION, "seconds"
)
PRODUCE_RATE = Metric(
    "slipher_produce_rate", _G, "Messages a second that arrive, over the window.", _PARTITION, "messages/s"
)
CONSUME_RATE = Metric(
    "slipher_consume_rate", _G, "Messages a second that become durable, over the window.", _PARTITION, "messages/s"
)
DRAIN_SECONDS = Metric(
    "slipher_drain_seconds",
    _G,
    "Until nothing is left, at these rates; 0 caught up, +Inf not draining.",
    _PARTITION,
    "seconds",
)
LOSS_SECONDS = Metric(
    "slipher_loss_seconds",
    _G,
    "Until retention takes the oldest message not yet durable; +Inf where it takes none.",
    _PARTITION,
    "seconds",
)
LAG_STATUS = Metric(
    "slipher_lag_status",
    _G,
    "0 ok, 1 warning, 2 falling behind, 3 stalled, 4 stopped, 5 rewound, 6 at risk of loss.",
    _PARTITION,
)
END_OFFSET = Metric(
    "slipher_end_offset", _G, "Where the log ends for a reader of committed messages.", _PARTITION, "offset"
)
DURABLE_OFFSET = Metric(
    "slipher_durable_offset", _G, "The next offset that the catalogue does not have.", _PARTITION, "offset"
)
TOPIC_LAG_MESSAGES = Metric(
    "slipher_topic_lag_messages", _G, "Messages that are not yet durable, of all partitions.", _TOPIC, "messages"
)
TOPIC_LAG_SECONDS = Metric(
    "slipher_topic_lag_seconds", _G, "Age of the oldest message not yet durable, of all partitions.", _TOPIC, "seconds"
)
TOPIC_DRAIN_SECONDS = Metric(
    "slipher_topic_drain_seconds",
    _G,
    "Until the slowest partition is caught up; +Inf where one is not draining.",
    _TOPIC,
    "seconds",
)
TOPIC_LOSS_SECONDS = Metric(
    "slipher_topic_loss_seconds",
    _G,
    "Until retention takes the first message not yet durable, of all partitions.",
    _TOPIC,
    "seconds",
)
LOOK_SECONDS = Metric(
    "slipher_monitor_look_seconds", _G, "How long the last look at broker and table took.", (), "seconds"
)
LAST_LOOK = Metric(
    "slipher_monitor_last_look_timestamp_seconds", _G, "When the last look succeeded, since 1970 UTC.", (), "seconds"
)
BROKER_UP = Metric("slipher_broker_up", _G, "1 where the broker answered the last look, else 0.")
TABLE_UP = Metric("slipher_table_up", _G, "1 where the catalogue answered the last look, else 0.")

MONITOR = (
    LAG_MESSAGES,
    LAG_BYTES,
    LAG_SECONDS,
    PRODUCE_RATE,
    CONSUME_RATE,
    DRAIN_SECONDS,
    LOSS_SECONDS,
    LAG_STATUS,
    END_OFFSET,
    DURABLE_OFFSET,
    TOPIC_LAG_MESSAGES,
    TOPIC_LAG_SECONDS,
    TOPIC_DRAIN_SECONDS,
    TOPIC_LOSS_SECONDS,
    LOOK_SECONDS,
    LAST_LOOK,
    BROKER_UP,
    TABLE_UP,
)

METRICS = WORKER + SUPERVISOR + MONITOR
