"""Every alert: when it fires, what it means, what a person does about it. ``slipher metrics rules`` writes them for Prometheus.

An alert is here only if somebody can do something about it. How urgent it is says ``severity``: *critical* wakes a person,
*warning* is for the next morning or the person on shift, *info* is for whoever looks. Each has a section of its name in
docs/runbook.md.

Expressions compare with ``Inf`` where a time is infinite, and are silent where a number is not known: what is not known is not
exported at all. Series of workers bear ``job="slipher-worker"``, those of the monitor ``job="slipher-monitor"``.
"""

from typing import NamedTuple

WORKER, MONITOR = 'job="slipher-worker"', 'job="slipher-monitor"'

LATE_S = 300  # of lag: 60 times the default interval of commits, and the time of some eight visits of a survey
DAY_S = 86_400
NIGHT_S = 8 * 3600  # a backlog that lasts longer meets the next night
MEMORY = 0.85  # of what the container may use: a tree worker takes less than 1 GB whatever waits, and is given 2 GiB
REFUSED = 0.01  # of the messages; a worker stops by itself at half of them
SLOW_COMMIT_S = 10  # a worker that is told to leave has ten seconds

# slipher_lag_status, as streamer.lag.standing.Status orders them
STALLED, STOPPED, REWOUND, AT_RISK = 3, 4, 5, 6


class Alert(NamedTuple):
    """One alert.

    Attributes
    ----------
    name
        Also the title of its section in the runbook.
    expr
        PromQL; fires for each series that it returns.
    hold
        How long it must be true, in Prometheus' words.
    severity
        critical, warning or info.
    summary
        One line for a pager; a Prometheus template.
    meaning
        What is the case, in the words of the person who is woken.
    action
        What to do first; the runbook has the rest.
    """

    name: str
    expr: str
    hold: str
    severity: str
    summary: str
    meaning: str
    action: str

    @property
    def anchor(self) -> str:
        """Of its section in docs/runbook.md."""
        return self.name.lower()


KEEPING_UP = (
    Alert(
        "SlipherFallingBehind",
        f"slipher_topic_lag_seconds > {LATE_S}",
        "5m",
        "warning",
        "{{ $labels.topic }} by {{ $labels.model }} is {{ $value | humanizeDuration }} behind",
        "The oldest alert that is not yet in the catalogue has waited for more than five minutes, for five minutes now.",
        "Look at `slipher lag`: all partitions alike means too few workers; one partition means that it is stuck.",
    ),
    Alert(
        "SlipherNotDraining",
        f"slipher_topic_drain_seconds == Inf and slipher_topic_lag_seconds > {LATE_S // 5}",
        "10m",
        "critical",
        "{{ $labels.topic }} by {{ $labels.model }} does not drain: alerts come faster than rows are made",
        "There is a backlog, and at the present rates it will never be gone.",
        "Start more workers, up to one a partition; where there are as many, see the runbook on faster ones.",
    ),
    Alert(
        "SlipherBacklogMeetsNextNight",
        f"slipher_topic_drain_seconds > {NIGHT_S} < Inf",
        "30m",
        "warning",
        "the backlog of {{ $labels.topic }} by {{ $labels.model }} will take {{ $value | humanizeDuration }}",
        "The backlog shrinks, but it will not be gone when the next night begins.",
        "Start more workers for the day.",
    ),
    Alert(
        "SlipherLossAhead",
        f"slipher_topic_loss_seconds < slipher_topic_drain_seconds and slipher_topic_loss_seconds < {DAY_S}"
        " unless slipher_topic_loss_seconds > slipher_topic_lag_seconds",  # most of the retention is left
        "5m",
        "critical",
        "{{ $labels.topic }}: alerts expire unread in {{ $value | humanizeDuration }}, before {{ $labels.model }} reads them",
        "Kafka will delete alerts that are not in the catalogue within a day, half of their time is gone, and at the present rate"
        " they are not read before.",
        "Lengthen the topic's retention now (`kafka-configs.sh --alter`), then make it drain.",
    ),
    Alert(
        "SlipherLossAtRisk",
        f"max by (topic, model) (slipher_lag_status == {AT_RISK})",
        "1m",
        "critical",
        "{{ $labels.topic }} by {{ $labels.model }}: `slipher lag` says at risk of loss",
        "The oldest alerts that are not in the catalogue are about to be deleted by Kafka.",
        "Lengthen the topic's retention at once; look whether the workers run.",
    ),
    Alert(
        "SlipherMessagesExpired",
        # Of a worker that was just started there is no increase: what it found first was there before its first scrape.
        "sum by (topic) (increase(slipher_expired_total[30m]) > 0"
        " or (slipher_expired_total unless slipher_expired_total offset 30m)) > 0",
        "0m",
        "critical",
        "{{ $labels.topic }}: alerts expired before they were read",
        "Kafka deleted alerts that no worker had read. Their offsets are listed as RETENTION_GAP.",
        "Find which: `slipher dead-letters list CATALOG --reason RETENTION_GAP`; archived alerts can be backfilled.",
    ),
    Alert(
        "SlipherPartitionStalled",
        f"slipher_lag_status == {STALLED}",
        "5m",
        "critical",
        "{{ $labels.topic }}[{{ $labels.partition }}] by {{ $labels.model }} is stalled",
        "The partition has an owner and a backlog, and nothing of it becomes durable.",
        "Look what its worker says: a stall names what it waits for.",
    ),
    Alert(
        "SlipherPartitionStopped",
        f"slipher_lag_status == {STOPPED}",
        "5m",
        "critical",
        "{{ $labels.topic }}[{{ $labels.partition }}] by {{ $labels.model }} is read by nobody",
        "There is a backlog, and nothing was committed for long: no worker reads this partition.",
        "Look whether the workers run, and whether their group has this partition.",
    ),
    Alert(
        "SlipherPartitionRewound",
        f"slipher_lag_status == {REWOUND}",
        "2m",
        "critical",
        "{{ $labels.topic }}[{{ $labels.partition }}] by {{ $labels.model }}: the log ends before what is durable",
        "The log is shorter than what was read of it: the topic was recreated, restored, or Kafka lost acknowledged messages.",
        "Stop, find out which of these it was, and only then `slipher catalog rebind`.",
    ),
)

WORKERS = (
    Alert(
        "SlipherNoWorkers",
        f"absent(up{{{WORKER}}} == 1)",
        "2m",
        "critical",
        "no worker answers",
        "Prometheus reaches no worker at all. Nothing is lost: alerts wait in Kafka, as long as it keeps them.",
        "Start workers; look why they ended.",
    ),
    Alert(
        "SlipherWorkerDown",
        f"up{{{WORKER}}} == 0",
        "2m",
        "warning",
        "worker {{ $labels.instance }} does not answer",
        "One worker is gone, or hangs. The others have taken its partitions, or will within the session timeout.",
        "Look at its last words; exit codes 2 and 3 want a person.",
    ),
    Alert(
        "SlipherWorkerStalled",
        "slipher_stalled == 1",
        "5m",
        "warning",
        "worker {{ $labels.instance }} waits for the world",
        "A worker waits for what its log names: a registry, a disk, memory, a broker. It gives up no partition and no message.",
        "Mend what it names; it goes on by itself.",
    ),
    Alert(
        "SlipherWorkerStuck",
        "slipher_alive == 0",
        "1m",
        "critical",
        "worker {{ $labels.instance }} is stuck",
        "A thread of the worker has been at one thing for so long that /healthz says no: a kernel, a commit, a disk that hangs.",
        "Its /healthz says at what. Whatever runs it should start it again; else kill it, nothing is lost.",
    ),
    Alert(
        "SlipherWorkerNotReady",
        "slipher_ready == 0 unless slipher_stalled == 1",
        "15m",
        "warning",
        "worker {{ $labels.instance }} runs and is not ready",
        "A worker is alive, and does not read: no partition, no answer of the broker or of the table.",
        "Ask its /readyz: it says which.",
    ),
    Alert(
        "SlipherWorkerRestarts",
        f"changes(process_start_time_seconds{{{WORKER}}}[1h]) > 3 or increase(slipher_worker_restarts_total[1h]) > 3",
        "0m",
        "warning",
        "a worker at {{ $labels.instance }} was started again {{ $value | humanize }} times within an hour",
        "A worker dies and is started again, and again. Under `--workers`, five deaths in a row end them all.",
        "Its last words before each death; often memory (exit 137), or a disk.",
    ),
    Alert(
        "SlipherWorkerMemory",
        f"process_resident_memory_bytes{{{WORKER}}} / on (instance) slipher_memory_limit_bytes > {MEMORY}",
        "5m",
        "warning",
        "worker {{ $labels.instance }} takes {{ $value | humanizePercentage }} of the memory that it may use",
        "A worker takes more than it should ever need, and nears the limit of its container.",
        "Let it be killed if it must: nothing is lost. Smaller --commit-rows takes less; report what it was reading.",
    ),
    Alert(
        "SlipherRebalancing",
        f"increase(slipher_rebalances_total{{{WORKER}}}[15m]) > 10",
        "5m",
        "warning",
        "the group of {{ $labels.instance }} rebalanced {{ $value | humanize }} times in 15 minutes",
        "Members come and go, or take longer than max.poll.interval.ms, and each time some work is thrown away.",
        "Look for a worker that restarts, and for *a batch took longer than max.poll.interval.ms*.",
    ),
    Alert(
        "SlipherIdleWorker",
        "slipher_assigned_partitions == 0",
        "1h",
        "info",
        "worker {{ $labels.instance }} has no partition",
        "There are more workers than partitions, or this one reads another topic than it should.",
        "Take it away, or add partitions.",
    ),
)

TABLE = (
    Alert(
        "SlipherRefusals",
        "sum by (topic, reason) (rate(slipher_refused_total[10m]))"
        " / on (topic) group_left () sum by (topic) (rate(slipher_messages_total[10m]))"
        f" > {REFUSED}",
        "10m",
        "warning",
        "{{ $value | humanizePercentage }} of {{ $labels.topic }} is refused: {{ $labels.reason }}",
        "More than one message in a hundred gives no row. Each is kept, with its reason.",
        "`slipher dead-letters list CATALOG`, then `slipher inspect` one of them: a new schema, another survey, a bad producer?",
    ),
    Alert(
        "SlipherCommitsStopped",
        f"slipher_pending_rows{{{WORKER}}} > 0 unless on (instance) sum by (instance) (increase(slipher_commits_total[10m])) > 0",
        "10m",
        "critical",
        "worker {{ $labels.instance }} holds rows and commits nothing",
        "Rows were made, and for twenty minutes none of them became durable.",
        "A commit that hangs, or another writer all the time: its log and /healthz say which.",
    ),
    Alert(
        "SlipherCommitConflicts",
        "sum(increase(slipher_commit_conflicts_total[15m])) > sum(increase(slipher_commits_total[15m]))",
        "15m",
        "warning",
        "more entries of the table's log are refused than commits succeed",
        "Writers meet at the table all the time, or its disk fails: on average each commit is tried more than twice.",
        "Fewer, larger commits: --commit-seconds 10 to 30; docs/operations.md says where one table ends.",
    ),
    Alert(
        "SlipherSlowCommits",
        'histogram_quantile(0.99, sum by (le) (rate(slipher_stage_seconds_bucket{stage="commit"}[15m])))'
        f" > {SLOW_COMMIT_S}",
        "15m",
        "warning",
        "the slowest commits take {{ $value | humanizeDuration }}",
        "One commit in a hundred takes longer than a worker has to leave: it would be left for the next start.",
        "Look at the disk (fsync), at the number of files (`slipher catalog info`), compact closed nights.",
    ),
)

WATCH = (
    Alert(
        "SlipherMonitorDown",
        f"absent(up{{{MONITOR}}} == 1)",
        "5m",
        "warning",
        "the monitor does not answer",
        "Nobody measures lag: every alert about it is silent.",
        "Start `slipher monitor` again; `slipher lag` answers meanwhile.",
    ),
    Alert(
        "SlipherMonitorBlind",
        "time() - slipher_monitor_last_look_timestamp_seconds > 120",
        "2m",
        "warning",
        "the monitor last saw broker and table {{ $value | humanizeDuration }} ago",
        "The monitor runs and sees nothing: the lag that it shows is old.",
        "SlipherBrokerAway and SlipherTableAway say which; else its log.",
    ),
    Alert(
        "SlipherBrokerAway",
        "slipher_broker_up == 0",
        "2m",
        "critical",
        "the broker does not answer the monitor",
        "Kafka is away, or refuses the monitor. Workers wait, and go on by themselves.",
        "Is Kafka up, are certificate and password still good?",
    ),
    Alert(
        "SlipherTableAway",
        "slipher_table_up == 0",
        "2m",
        "critical",
        "the monitor cannot read the catalogue",
        "The disk or store of the catalogue is away, or its log is damaged. Workers stall and lose nothing.",
        "Is it mounted? `slipher catalog info`; on *torn* see docs/reliability.md.",
    ),
)

GROUPS = {"slipher-lag": KEEPING_UP, "slipher-workers": WORKERS, "slipher-table": TABLE, "slipher-monitor": WATCH}
ALERTS: tuple[Alert, ...] = tuple(alert for group in GROUPS.values() for alert in group)
