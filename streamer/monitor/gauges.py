"""The lag of every partition as Prometheus reads it: the one exporter of lag, which is not a worker's to tell."""

from collections.abc import Callable, Iterator
from typing import TypeVar

from prometheus_client import CollectorRegistry, PlatformCollector, ProcessCollector
from prometheus_client.exposition import generate_latest
from prometheus_client.metrics_core import GaugeMetricFamily
from prometheus_client.registry import Collector

from streamer.lag.standing import Standing
from streamer.metrics import names
from streamer.metrics.names import Metric
from streamer.monitor.sampler import BROKER, TABLE, Seen
from streamer.monitor.totals import Total

T = TypeVar("T")

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


class Gauges(Collector):
    """What was seen last, when it is asked for. While broker or table is away the lags are absent: nobody knows them.

    Parameters
    ----------
    seen
        Gives the last look.
    """

    def __init__(self, seen: Callable[[], Seen]) -> None:
        self._seen = seen
        self._registry = CollectorRegistry()
        self._registry.register(self)
        ProcessCollector(registry=self._registry)
        PlatformCollector(registry=self._registry)
        self._text: tuple[int, bytes] = (-1, b"")

    def exposition(self) -> bytes:
        """All of it in Prometheus' text form. Made once a look: of a thousand partitions it is a megabyte."""
        number = self._seen().number
        if number != self._text[0]:
            self._text = number, generate_latest(self._registry)
        return self._text[1]

    def collect(self) -> Iterator[GaugeMetricFamily]:
        """The families of ``names.MONITOR``."""
        seen = self._seen()
        if not seen.away:
            yield from _families(OF_PARTITIONS, seen.standings, lambda s: (s.topic, str(s.partition), s.model))
            yield from _families(OF_TOPICS, seen.totals, lambda t: (t.topic, t.model))
        if seen.at is not None:
            yield GaugeMetricFamily(names.LOOK_SECONDS.name, names.LOOK_SECONDS.about, seen.took)
            yield GaugeMetricFamily(names.LAST_LOOK.name, names.LAST_LOOK.about, seen.at)
        if seen.number:
            for metric, who in ((names.BROKER_UP, BROKER), (names.TABLE_UP, TABLE)):
                yield GaugeMetricFamily(metric.name, metric.about, 0.0 if seen.is_away(who) else 1.0)


def _families(
    metrics: dict[Metric, Callable[[T], float | None]], rows: tuple[T, ...], labels: Callable[[T], tuple[str, ...]]
) -> Iterator[GaugeMetricFamily]:
    named = [(labels(row), row) for row in rows]
    for metric, value_of in metrics.items():
        family = GaugeMetricFamily(metric.name, metric.about, labels=metric.labels)
        for label, row in named:
            value = value_of(row)
            if value is not None:
                family.add_metric(label, value)
        yield family
