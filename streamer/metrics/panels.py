"""What the dashboard shows, row by row: a person on shift reads it from the top and may stop at the first row that is green.

Here are the questions and their queries; ``dashboard.py`` makes Grafana's JSON of them.
"""

from typing import NamedTuple


class Query(NamedTuple):
    """PromQL, and what its lines are called."""

    expr: str
    legend: str


class Panel(NamedTuple):
    """One picture.

    Attributes
    ----------
    kind
        stat (one number now), lines (over time), states (over time, as colours).
    unit
        Of Grafana: s, ops, bytes, percentunit, short.
    warn, alarm
        From which value on it is yellow, and red; where `alarm` is less, from which value down.
    """

    title: str
    about: str
    queries: tuple[Query, ...]
    unit: str = "short"
    kind: str = "lines"
    width: int = 8  # of 24
    warn: float | None = None
    alarm: float | None = None
    stacked: bool = False
    infinite: str = ""  # what an infinite number means, in a stat


class Row(NamedTuple):
    """Panels under one title."""

    title: str
    panels: tuple[Panel, ...]


_T = 'topic=~"$topic"'
_TM = 'topic=~"$topic",model=~"$model"'
_W = 'job="slipher-worker"'


def _one(expr: str, legend: str) -> tuple[Query, ...]:
    return (Query(expr, legend),)


NOW = Row(
    "Is it keeping up?",
    (
        Panel(
            "Alerts firing",
            "Each has a section in the runbook.",
            _one('count(ALERTS{alertname=~"Slipher.+",alertstate="firing"}) or vector(0)', ""),
            kind="stat",
            width=3,
            warn=1,
            alarm=3,
        ),
        Panel(
            "Behind",
            "Age of the oldest alert that is not in the catalogue.",
            _one(f"max(slipher_topic_lag_seconds{{{_TM}}})", ""),
            "s",
            "stat",
            4,
            120,
            300,
        ),
        Panel(
            "Messages to go",
            "A visit is 10,000 at once: look at seconds rather.",
            _one(f"sum(slipher_topic_lag_messages{{{_TM}}})", ""),
            "short",
            "stat",
            4,
        ),
        Panel(
            "Gone in",
            "Until the slowest partition is caught up, at present rates; infinite: it does not drain.",
            _one(f"max(slipher_topic_drain_seconds{{{_TM}}})", ""),
            "s",
            "stat",
            4,
            1800,
            28_800,
            infinite="never",
        ),
        Panel(
            "Kafka keeps it for",
            "Until the oldest alert that is not in the catalogue is deleted; infinite: there is none, or it is never deleted.",
            _one(f"min(slipher_topic_loss_seconds{{{_TM}}})", ""),
            "s",
            "stat",
            4,
            86_400,
            3600,
            infinite="ever",
        ),
        Panel("Workers", "That answer.", _one(f"sum(up{{{_W}}})", ""), "short", "stat", 2, 1, 0),
        Panel(
            "Broker, table",
            "1: both answered the monitor's last look.",
            _one("min(slipher_broker_up) * min(slipher_table_up)", ""),
            "short",
            "stat",
            3,
            1,
            0,
        ),
    ),
)

LAG = Row(
    "Lag",
    (
        Panel(
            "Seconds behind",
            "By topic and model; the alert is at 300.",
            _one(f"slipher_topic_lag_seconds{{{_TM}}}", "{{topic}} {{model}}"),
            "s",
            warn=120,
            alarm=300,
        ),
        Panel(
            "Arriving and becoming durable",
            "Messages a second of all partitions. Where the first line is above the second, lag grows.",
            (
                Query(f"sum by (topic) (slipher_produce_rate{{{_TM}}})", "arriving {{topic}}"),
                Query(f"sum by (topic, model) (slipher_consume_rate{{{_TM}}})", "durable {{topic}} {{model}}"),
            ),
            "ops",
        ),
        Panel(
            "Time to drain, time to loss",
            "Where the time to loss is below the time to drain, alerts will be lost.",
            (
                Query(f"slipher_topic_drain_seconds{{{_TM}}} < Inf", "drained {{topic}} {{model}}"),
                Query(f"slipher_topic_loss_seconds{{{_TM}}} < Inf", "lost {{topic}} {{model}}"),
            ),
            "s",
        ),
        Panel(
            "Status of partitions",
            "0 ok, 1 warning, 2 falling behind, 3 stalled, 4 stopped, 5 rewound, 6 at risk of loss.",
            _one(f"slipher_lag_status{{{_TM}}}", "{{topic}}[{{partition}}] {{model}}"),
            kind="states",
            width=24,
            warn=1,
            alarm=3,
        ),
        Panel(
            "The ten partitions furthest behind",
            "Seconds. One above the others: it is stuck. All alike: too few workers.",
            _one(f"topk(10, slipher_lag_seconds{{{_TM}}})", "{{topic}}[{{partition}}] {{model}}"),
            "s",
            width=12,
        ),
        Panel(
            "Slowest of them to drain, first of them to lose",
            "Seconds, by partition.",
            (
                Query(f"topk(5, slipher_drain_seconds{{{_TM}}} < Inf)", "drained {{topic}}[{{partition}}] {{model}}"),
                Query(f"bottomk(5, slipher_loss_seconds{{{_TM}}} < Inf)", "lost {{topic}}[{{partition}}] {{model}}"),
            ),
            "s",
            width=12,
        ),
        Panel(
            "Messages behind, by partition",
            "The ten with most.",
            _one(f"topk(10, slipher_lag_messages{{{_TM}}})", "{{topic}}[{{partition}}] {{model}}"),
        ),
        Panel(
            "Bytes behind",
            "Where the broker says sizes.",
            _one(f"sum by (topic, model) (slipher_lag_bytes{{{_TM}}})", "{{topic}} {{model}}"),
            "bytes",
        ),
        Panel(
            "Offsets",
            "Ends of the logs, and what is durable of them, summed over partitions: the gap is the lag.",
            (
                Query(f"sum by (topic, model) (slipher_end_offset{{{_TM}}})", "end {{topic}} {{model}}"),
                Query(f"sum by (topic, model) (slipher_durable_offset{{{_TM}}})", "durable {{topic}} {{model}}"),
            ),
        ),
    ),
)

ROWS = Row(
    "Messages and rows",
    (
        Panel(
            "Messages and rows a second",
            "Read, settled (rows or listed), and rows that are durable.",
            (
                Query(f"sum by (topic) (rate(slipher_messages_total{{{_T}}}[$__rate_interval]))", "read {{topic}}"),
                Query(
                    f"sum by (topic) (rate(slipher_settled_messages_total{{{_T}}}[$__rate_interval]))",
                    "settled {{topic}}",
                ),
                Query(
                    f"sum by (topic, model) (rate(slipher_rows_total{{{_TM}}}[$__rate_interval]))",
                    "rows {{topic}} {{model}}",
                ),
            ),
            "ops",
        ),
        Panel(
            "Refused, by reason",
            "A second. Each is kept, with its reason; what expired unread is listed, and gone.",
            (
                Query(
                    f"sum by (topic, reason) (rate(slipher_refused_total{{{_T}}}[$__rate_interval])) > 0",
                    "{{reason}} {{topic}}",
                ),
                Query(
                    f"sum by (topic) (rate(slipher_expired_total{{{_T}}}[$__rate_interval])) > 0", "expired {{topic}}"
                ),
            ),
            "ops",
            stacked=True,
        ),
        Panel(
            "Bytes read a second",
            "Payloads.",
            _one(f"sum by (topic) (rate(slipher_bytes_total{{{_T}}}[$__rate_interval]))", "{{topic}}"),
            "Bps",
        ),
        Panel(
            "Repeated alerts",
            "Rows a second whose alert came before at another offset.",
            _one(f"sum by (topic) (rate(slipher_repeated_total{{{_T}}}[$__rate_interval]))", "{{topic}}"),
            "ops",
        ),
        Panel(
            "Commits, and entries tried again",
            "A second, all workers. More conflicts than commits: docs/operations.md, where one table ends.",
            (
                Query("sum(rate(slipher_commits_total[$__rate_interval]))", "commits"),
                Query("sum(rate(slipher_commit_conflicts_total[$__rate_interval]))", "conflicts"),
                Query("sum(rate(slipher_fenced_partitions_total[$__rate_interval]))", "fenced partitions"),
            ),
            "ops",
        ),
        Panel(
            "Since the last commit",
            "Seconds; by day it grows, for nothing comes.",
            _one(f"time() - max by (topic) (slipher_last_commit_timestamp_seconds{{{_T}}})", "{{topic}}"),
            "s",
        ),
    ),
)

TIME = Row(
    "Where the time goes",
    (
        Panel(
            "Seconds a second, by stage",
            "Of all workers. process holds decode, estimate, rows; settle holds parquet, commit; consume waits for messages too.",
            _one("sum by (stage) (rate(slipher_stage_seconds_sum[$__rate_interval]))", "{{stage}}"),
            "s",
        ),
        Panel(
            "Slowest in a hundred, by stage",
            "Of batches, files or entries.",
            _one(
                "histogram_quantile(0.99, sum by (stage, le) (rate(slipher_stage_seconds_bucket[$__rate_interval])))",
                "{{stage}}",
            ),
            "s",
        ),
        Panel(
            "Messages a batch",
            "Mean. Small batches when caught up, large ones while a backlog is worked off.",
            _one(
                "sum(rate(slipher_batch_messages_sum[$__rate_interval]))"
                " / sum(rate(slipher_batch_messages_count[$__rate_interval]))",
                "mean",
            ),
        ),
    ),
)

WORKERS = Row(
    "Workers",
    (
        Panel(
            "CPU",
            "Cores a worker; one at most is its own, the client's threads take a little more.",
            _one(f"rate(process_cpu_seconds_total{{{_W}}}[$__rate_interval])", "{{instance}}"),
        ),
        Panel(
            "Memory",
            "Resident, and the least that a container may use.",
            (
                Query(f"process_resident_memory_bytes{{{_W}}}", "{{instance}}"),
                Query("min(slipher_memory_limit_bytes)", "limit"),
            ),
            "bytes",
        ),
        Panel(
            "Waiting, stuck, not ready",
            "By worker; nothing is drawn for one that is well.",
            (
                Query("slipher_stalled == 1", "waits {{instance}}"),
                Query("slipher_alive == bool 0 > 0", "stuck {{instance}}"),
                Query("slipher_ready == bool 0 > 0", "not ready {{instance}}"),
            ),
        ),
        Panel("Partitions", "Claimed and read.", _one("slipher_assigned_partitions", "{{instance}}"), stacked=True),
        Panel(
            "On the way",
            "Rows that wait for a commit; batches before that, in thousands.",
            (
                Query("slipher_pending_rows", "rows {{instance}}"),
                Query("slipher_batches_in_flight * 1000", "batches x 1000 {{instance}}"),
            ),
        ),
        Panel(
            "Exceptions that wait for a commit",
            "Bytes.",
            _one("slipher_pending_bytes", "{{instance}}"),
            "bytes",
        ),
        Panel(
            "Rebalances, stalls, deaths",
            "In the last ten minutes.",
            (
                Query("sum(increase(slipher_rebalances_total[10m]))", "rebalances"),
                Query("sum(increase(slipher_stalls_total[10m]))", "stalls"),
                Query("sum(increase(slipher_worker_restarts_total[10m]))", "started again"),
                Query(f"sum(changes(process_start_time_seconds{{{_W}}}[10m]))", "containers started again"),
            ),
        ),
        Panel(
            "Busy with one thing",
            "Seconds for which the table thread has been at it; minutes mean that it hangs.",
            _one("slipher_busy_seconds", "{{instance}}"),
            "s",
        ),
        Panel(
            "Models",
            "Workers that run, by model, processing and version.",
            (
                Query(
                    "count by (model, processing_id, kind, version) (slipher_model_info)",
                    "{{model}} {{processing_id}} {{version}}",
                ),
                Query("sum(slipher_workers_running)", "under a supervisor"),
            ),
        ),
        Panel(
            "GPU memory",
            "Of all processes on it, and what there is.",
            (
                Query("slipher_gpu_memory_bytes", "{{instance}} {{gpu}}"),
                Query("slipher_gpu_memory_limit_bytes", "limit {{instance}} {{gpu}}"),
            ),
            "bytes",
        ),
        Panel(
            "The monitor",
            "How long a look takes, and how long ago the last was.",
            (
                Query("slipher_monitor_look_seconds", "a look"),
                Query("time() - slipher_monitor_last_look_timestamp_seconds", "since the last"),
            ),
            "s",
        ),
    ),
)

BOARD = (NOW, LAG, ROWS, TIME, WORKERS)
