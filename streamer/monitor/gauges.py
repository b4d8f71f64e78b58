"""The lag of every partition as Prometheus reads it: the one exporter of lag, which is not a worker's to tell."""

import math
from collections.abc import Callable, Iterable, Iterator

from prometheus_client import CollectorRegistry, PlatformCollector, ProcessCollector
from prometheus_client.exposition import generate_latest

from streamer.lag.standing import Standing
from streamer.lag.totals import Total
from streamer.metrics import names
from streamer.metrics.names import Metric
from streamer.monitor.sampler import BROKER, TABLE, Seen

OF_PARTITIONS: dict[Metric, Callable[[Standing], float | None]] = {
    names.LAG_MESSAGES: lambda s: s.lag,
    names.LAG_BYTES: lambda s: s.lag_bytes,
    names.LAG_SECONDS: lambda s: s.lag_seconds,
    names.PRODUCE_RATE: lambda s: s.produce_rate,
    names.CONSUME_RATE: lambda s: s.consume_rate,
    names.DRAIN_SECONDS: lambda s: s.drain_seconds,
    names.LOSS_SECONDS: lambda s: s.loss_seconds,
    names.LAG_STATUS: lambda s: s.status.rank,
    names.END_OFFSET: lambda s: s.end,
    names.DURABLE_OFFSET: lambda s: s.durable,
}
OF_TOPICS: dict[Metric, Callable[[Total], float | None]] = {
    names.TOPIC_LAG_MESSAGES: lambda t: t.lag,
    names.TOPIC_LAG_SECONDS: lambda t: t.lag_seconds,
    names.TOPIC_DRAIN_SECONDS: lambda t: t.drain_seconds,
    names.TOPIC_LOSS_SECONDS: lambda t: t.loss_seconds,
}


class Gauges:
    """What was seen last, when it is asked for. While broker or table is away the lags are absent: nobody knows them.

    Of three models on a thousand partitions that is 30,000 lines: the client library takes 0.3 s for those, which is more than
    the looks themselves cost. So the lines of lag are written here, and the library writes those of the process.

    Parameters
    ----------
    seen
        Gives the last look.
    """

    def __init__(self, seen: Callable[[], Seen]) -> None:
        self._seen = seen
        self._process = CollectorRegistry()
        ProcessCollector(registry=self._process)
        PlatformCollector(registry=self._process)
        self._text: tuple[int, bytes] = (-1, b"")

    def exposition(self) -> bytes:
        """``names.MONITOR`` and the process in Prometheus' text form, made once a look."""
        seen = self._seen()
        if seen.number != self._text[0]:
            self._text = seen.number, "".join(_families(seen)).encode() + generate_latest(self._process)
        return self._text[1]


def _families(seen: Seen) -> Iterator[str]:
    if not seen.away:
        partitions = [(_labels(topic=s.topic, partition=str(s.partition), model=s.model), s) for s in seen.standings]
        for metric, of_partition in OF_PARTITIONS.items():
            yield _family(metric, ((labels, of_partition(s)) for labels, s in partitions))
        topics = [(_labels(topic=t.topic, model=t.model), t) for t in seen.totals]
        for metric, of_topic in OF_TOPICS.items():
            yield _family(metric, ((labels, of_topic(t)) for labels, t in topics))
    if seen.at is not None:
        yield _family(names.LOOK_SECONDS, [("", seen.took)])
        yield _family(names.LAST_LOOK, [("", seen.at)])
    if seen.number:
        for metric, who in ((names.BROKER_UP, BROKER), (names.TABLE_UP, TABLE)):
            yield _family(metric, [("", 0.0 if seen.is_away(who) else 1.0)])


def _family(metric: Metric, samples: Iterable[tuple[str, float | None]]) -> str:
    name = metric.name
    about = metric.about.replace("\\", r"\\").replace("\n", r"\n")
    lines = [f"# HELP {name} {about}", f"# TYPE {name} {metric.kind}"]
    lines += [f"{name}{labels} {_number(value)}" for labels, value in samples if value is not None]
    return "\n".join(lines) + "\n"


def _number(value: float) -> str:
    return "+Inf" if value == math.inf else repr(float(value))


def _labels(**labels: str) -> str:
    return "{" + ",".join(f'{name}="{_escaped(value)}"' for name, value in labels.items()) + "}"


def _escaped(value: str) -> str:
    return value.replace("\\", r"\\").replace("\n", r"\n").replace('"', r"\"")
