"""A night on which no alert may fire, and what is changed in it to make each of them fire, and which then do.

Values are one a minute for two hours. A case is laid over the good night, so every other alert is shown to stay silent on it.
"""

from typing import NamedTuple

MINUTES = 120
Series = dict[str, str]


def flat(value: float | str) -> str:
    return " ".join([str(value)] * (MINUTES + 1))


def rising(a_minute: float) -> str:
    return f"0+{a_minute}x{MINUTES}"


def steps(before: float | str, after: float | str, at: int) -> str:
    """`before` until minute `at`, `after` from then on."""
    return " ".join([str(before)] * at + [str(after)] * (MINUTES + 1 - at))


def _worker(instance: str) -> Series:
    who = f'job="slipher-worker",instance="{instance}"'
    return {
        f"up{{{who}}}": flat(1),
        f"process_start_time_seconds{{{who}}}": flat(1000),
        f"process_resident_memory_bytes{{{who}}}": flat(700_000_000),
        f"slipher_memory_limit_bytes{{{who}}}": flat(2_147_483_648),
        f"slipher_alive{{{who}}}": flat(1),
        f"slipher_ready{{{who}}}": flat(1),
        f"slipher_stalled{{{who}}}": flat(0),
        f"slipher_assigned_partitions{{{who}}}": flat(2),
        f"slipher_pending_rows{{{who}}}": flat(5_000),
        f"slipher_rebalances_total{{{who}}}": flat(2),
        f'slipher_messages_total{{topic="alerts",{who}}}': rising(60_000),
        f'slipher_refused_total{{topic="alerts",reason="CORRUPT",{who}}}': rising(60),
        f'slipher_commits_total{{topic="alerts",{who}}}': rising(12),
        f"slipher_commit_conflicts_total{{{who}}}": rising(3),
        f'slipher_stage_seconds_bucket{{stage="commit",le="0.1",{who}}}': rising(20),
        f'slipher_stage_seconds_bucket{{stage="commit",le="10",{who}}}': rising(24),
        f'slipher_stage_seconds_bucket{{stage="commit",le="60",{who}}}': rising(24),
        f'slipher_stage_seconds_bucket{{stage="commit",le="+Inf",{who}}}': rising(24),
    }


_W1 = 'job="slipher-worker",instance="w1"'
_M = 'job="slipher-monitor",instance="m"'
_TOPIC = f'topic="alerts",model="forest-lsst-1",{_M}'


def partition(number: int) -> str:
    return f'topic="alerts",partition="{number}",model="forest-lsst-1",{_M}'


def topic(metric: str) -> str:
    return f"slipher_topic_{metric}{{{_TOPIC}}}"


def w1(metric: str, *more: str) -> str:
    return f"{metric}{{{','.join([*more, _W1])}}}"


# Lag of seconds, retention of two hours: it never becomes infinite, and that is no danger.
GOOD_NIGHT: Series = {
    **_worker("w1"),
    **_worker("w2"),
    f"up{{{_M}}}": flat(1),
    topic("lag_messages"): flat(600),
    topic("lag_seconds"): flat(3),
    topic("drain_seconds"): flat(4),
    topic("loss_seconds"): flat(7_197),
    f"slipher_lag_status{{{partition(0)}}}": flat(0),
    f"slipher_lag_status{{{partition(1)}}}": flat(1),
    f"slipher_monitor_last_look_timestamp_seconds{{{_M}}}": rising(60),
    f"slipher_broker_up{{{_M}}}": flat(1),
    f"slipher_table_up{{{_M}}}": flat(1),
}


class Case(NamedTuple):
    """What is changed (None = the series is not there), which alerts fire at minute `at`, what the pager says of the first."""

    what: str
    change: dict[str, str | None]
    at: int
    fires: dict[str, list[str]]  # name -> the labels of each that fires, less severity
    summary: str


_T = 'topic="alerts",model="forest-lsst-1"'

CASES = [
    Case(
        "lag grows to ten minutes, and it drains",
        {topic("lag_seconds"): flat(600), topic("drain_seconds"): flat(900)},
        30,
        {"SlipherFallingBehind": [_TOPIC]},
        "alerts by forest-lsst-1 is 10m 0s behind",
    ),
    Case(
        "a burst that is gone after four minutes",
        {topic("lag_seconds"): " ".join(["600"] * 4 + ["3"] * (MINUTES - 3))},
        8,
        {},
        "",
    ),
    Case(
        "a backlog of two minutes that does not drain",
        {topic("lag_seconds"): flat(120), topic("drain_seconds"): flat("Inf"), topic("loss_seconds"): flat(600_000)},
        30,
        {"SlipherNotDraining": [_TOPIC]},
        "alerts by forest-lsst-1 does not drain: alerts come faster than rows are made",
    ),
    Case(
        "not draining, with seconds of lag: alerts came a moment ago",
        {topic("drain_seconds"): flat("Inf"), topic("loss_seconds"): flat(600_000)},
        60,
        {},
        "",
    ),
    Case(
        "a backlog that takes ten hours",
        {topic("drain_seconds"): flat(36_000), topic("loss_seconds"): flat(600_000)},
        60,
        {"SlipherBacklogMeetsNextNight": [_TOPIC]},
        "the backlog of alerts by forest-lsst-1 will take 10h 0m 0s",
    ),
    Case(
        "what is left expires in an hour, and takes two",
        {topic("lag_seconds"): flat(601_200), topic("drain_seconds"): flat(7_200), topic("loss_seconds"): flat(3_600)},
        30,
        {"SlipherLossAhead": [_TOPIC], "SlipherFallingBehind": [_TOPIC]},
        "alerts: alerts expire unread in 1h 0m 0s, before forest-lsst-1 reads them",
    ),
    Case(
        "alerts are kept for two hours, and four minutes of them wait and do not shrink",
        {topic("lag_seconds"): flat(240), topic("drain_seconds"): flat("Inf"), topic("loss_seconds"): flat(6_960)},
        9,
        {},
        "",
    ),
    Case(
        "alerts that expire before they are read, and nobody knows how old they are",
        {topic("lag_seconds"): None, topic("drain_seconds"): flat(7_200), topic("loss_seconds"): flat(3_600)},
        30,
        {"SlipherLossAhead": [_TOPIC]},
        "alerts: alerts expire unread in 1h 0m 0s, before forest-lsst-1 reads them",
    ),
    Case(
        "what is left expires in an hour, and nothing is known of rates",
        {topic("lag_seconds"): None, topic("drain_seconds"): None, topic("loss_seconds"): flat(3_600)},
        30,
        {},
        "",
    ),
    Case(
        "the lag's own rules say at risk, for two partitions",
        {f"slipher_lag_status{{{partition(0)}}}": flat(6), f"slipher_lag_status{{{partition(1)}}}": flat(6)},
        30,
        {"SlipherLossAtRisk": [_T]},
        "alerts by forest-lsst-1: `slipher lag` says at risk of loss",
    ),
    Case(
        "messages expired",
        {w1("slipher_expired_total", 'topic="alerts"'): steps(0, 1, 40)},
        45,
        {"SlipherMessagesExpired": ['topic="alerts"']},
        "alerts: alerts expired before they were read",
    ),
    Case(
        "workers come back after a weekend, and find a gap before they are scraped",
        {w1("slipher_expired_total", 'topic="alerts"'): steps("_", 50, 20)},
        48,
        {"SlipherMessagesExpired": ['topic="alerts"']},
        "alerts: alerts expired before they were read",
    ),
    Case(
        "a gap of an hour ago, in a worker that lives",
        {w1("slipher_expired_total", 'topic="alerts"'): steps("_", 50, 20)},
        80,
        {},
        "",
    ),
    Case(
        "a worker that finds no gap",
        {w1("slipher_expired_total", 'topic="alerts"'): steps("_", 0, 20)},
        30,
        {},
        "",
    ),
    Case(
        "a partition stalls",
        {f"slipher_lag_status{{{partition(1)}}}": flat(3)},
        30,
        {"SlipherPartitionStalled": [partition(1)]},
        "alerts[1] by forest-lsst-1 is stalled",
    ),
    Case(
        "a partition is read by nobody",
        {f"slipher_lag_status{{{partition(0)}}}": flat(4)},
        30,
        {"SlipherPartitionStopped": [partition(0)]},
        "alerts[0] by forest-lsst-1 is read by nobody",
    ),
    Case(
        "a log ends before what is durable",
        {f"slipher_lag_status{{{partition(0)}}}": steps(0, 5, 50)},
        53,
        {"SlipherPartitionRewound": [partition(0)]},
        "alerts[0] by forest-lsst-1: the log ends before what is durable",
    ),
    Case(
        "no worker is there at all",
        dict.fromkeys({**_worker("w1"), **_worker("w2")}),
        30,
        {"SlipherNoWorkers": [""]},
        "no worker answers",
    ),
    Case(
        "one of two workers does not answer",
        {w1("up"): steps(1, 0, 20)} | {name: None for name in _worker("w1") if not name.startswith("up")},
        30,
        {"SlipherWorkerDown": [_W1]},
        "worker w1 does not answer",
    ),
    Case(
        "a worker waits for a disk; it is not ready, and that is said once",
        {w1("slipher_stalled"): flat(1), w1("slipher_ready"): flat(0), w1("slipher_pending_rows"): flat(0)},
        60,
        {"SlipherWorkerStalled": [_W1]},
        "worker w1 waits for the world",
    ),
    Case(
        "a kernel hangs",
        {w1("slipher_alive"): steps(1, 0, 20)},
        30,
        {"SlipherWorkerStuck": [_W1]},
        "worker w1 is stuck",
    ),
    Case(
        "a worker runs and does not read",
        {w1("slipher_ready"): flat(0)},
        30,
        {"SlipherWorkerNotReady": [_W1]},
        "worker w1 runs and is not ready",
    ),
    Case(
        "a container is started again every ten minutes",
        {w1("process_start_time_seconds"): " ".join(str(m // 10 * 600) for m in range(MINUTES + 1))},
        90,
        {"SlipherWorkerRestarts": [_W1]},
        "a worker at w1 was started again 6 times within an hour",
    ),
    Case(
        "a supervisor starts a worker every ten minutes",
        {w1("slipher_worker_restarts_total", 'worker="2"'): " ".join(str(m // 10) for m in range(MINUTES + 1))},
        90,
        {"SlipherWorkerRestarts": [f'worker="2",{_W1}']},
        "a worker at w1 was started again 6 times within an hour",
    ),
    Case(
        "a worker takes 2 of 2 GiB",
        {w1("process_resident_memory_bytes"): flat(1_932_735_283)},
        30,
        {"SlipherWorkerMemory": ['instance="w1"']},
        "worker w1 takes 90% of the memory that it may use",
    ),
    Case(
        "a worker of 1.9 GB on a machine of its own, without a limit",
        {w1("process_resident_memory_bytes"): flat(1_932_735_283), w1("slipher_memory_limit_bytes"): None},
        30,
        {},
        "",
    ),
    Case(
        "a group that never comes to rest",
        {w1("slipher_rebalances_total"): rising(2)},
        60,
        {"SlipherRebalancing": [_W1]},
        "the group of w1 rebalanced 30 times in 15 minutes",
    ),
    Case(
        "a worker too many",
        {w1("slipher_assigned_partitions"): flat(0)},
        90,
        {"SlipherIdleWorker": [_W1]},
        "worker w1 has no partition",
    ),
    Case(
        "one message in twenty is of an unknown schema",
        {w1("slipher_refused_total", 'topic="alerts"', 'reason="UNKNOWN_SCHEMA"'): rising(6_000)},
        60,
        {"SlipherRefusals": ['topic="alerts",reason="UNKNOWN_SCHEMA"']},
        "5% of alerts is refused: UNKNOWN_SCHEMA",
    ),
    Case(
        "no commit of one worker succeeds",
        {w1("slipher_commits_total", 'topic="alerts"'): flat(7)},
        60,
        {"SlipherCommitsStopped": [_W1]},
        "worker w1 holds rows and commits nothing",
    ),
    Case(
        "alerts cease to come by day: nothing is pending, nothing is committed",
        {
            w1("slipher_commits_total", 'topic="alerts"'): flat(7),
            w1("slipher_pending_rows"): flat(0),
            w1("slipher_messages_total", 'topic="alerts"'): flat(10_000),
        },
        60,
        {},
        "",
    ),
    Case(
        "writers meet all the time",
        {w1("slipher_commit_conflicts_total"): rising(40)},
        60,
        {"SlipherCommitConflicts": [""]},
        "more entries of the table's log are refused than commits succeed",
    ),
    Case(
        "commits of half a minute",
        {w1("slipher_stage_seconds_bucket", 'stage="commit"', 'le="10"'): rising(20)},
        60,
        {"SlipherSlowCommits": [""]},
        "the slowest commits take 54s",
    ),
    Case(
        "the monitor is gone",
        {name: None for name in GOOD_NIGHT if _M in name},
        30,
        {"SlipherMonitorDown": [""]},
        "the monitor does not answer",
    ),
    Case(
        "the monitor sees nothing for ten minutes",
        {f"slipher_monitor_last_look_timestamp_seconds{{{_M}}}": flat(600)},
        20,
        {"SlipherMonitorBlind": [_M]},
        "the monitor last saw broker and table 10m 0s ago",
    ),
    Case(
        "Kafka is away",
        {f"slipher_broker_up{{{_M}}}": steps(1, 0, 20)},
        30,
        {"SlipherBrokerAway": [_M]},
        "the broker does not answer the monitor",
    ),
    Case(
        "the disk of the catalogue is away",
        {f"slipher_table_up{{{_M}}}": steps(1, 0, 20)},
        30,
        {"SlipherTableAway": [_M]},
        "the monitor cannot read the catalogue",
    ),
]
