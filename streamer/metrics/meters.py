"""Prometheus objects made out of the list in names.py. Each set has a registry of its own: no state is global."""

import threading
from collections.abc import Iterable, Iterator
from typing import Any

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, PlatformCollector, ProcessCollector
from prometheus_client.metrics_core import Metric as Family
from prometheus_client.registry import Collector

from streamer.metrics.names import Kind, Metric


class Meters:
    """The objects behind some of the list, to be given to prometheus-client's exposition as a registry.

    A gauge is there from its first use on: what nobody knows is absent, not 0.

    Parameters
    ----------
    metrics
        Those that this process exposes.
    process
        Whether CPU, memory and files of the process stand beside them.
    """

    def __init__(self, metrics: Iterable[Metric], process: bool = True) -> None:
        self.registry = CollectorRegistry()
        self._metrics = tuple(metrics)
        self._made: dict[Metric, Collector] = {}
        self._making = threading.Lock()
        for metric in self._metrics:
            if metric.kind is not Kind.GAUGE:
                self._made[metric] = self._make(metric)
        if process:
            ProcessCollector(registry=self.registry)
            PlatformCollector(registry=self.registry)

    def counter(self, metric: Metric) -> Counter:
        """Its counter, of all labels."""
        return self._of(metric, Counter)

    def gauge(self, metric: Metric) -> Gauge:
        """Its gauge, of all labels."""
        return self._of(metric, Gauge)

    def histogram(self, metric: Metric) -> Histogram:
        """Its histogram, of all labels."""
        return self._of(metric, Histogram)

    def collect(self) -> Iterator[Family]:
        """All of it, without the time at which each series began: that doubles their number and says what the scrapes say."""
        for family in self.registry.collect():
            family.samples = [s for s in family.samples if not s.name.endswith("_created")]
            yield family

    def _of(self, metric: Metric, kind: type[Any]) -> Any:
        with self._making:
            found = self._made.get(metric)
            if found is None:
                if metric not in self._metrics:
                    raise KeyError(f"{metric.name} is not exposed here")
                found = self._made[metric] = self._make(metric)
        if not isinstance(found, kind):
            raise TypeError(f"{metric.name} is a {metric.kind}")
        return found

    def _make(self, metric: Metric) -> Collector:
        if metric.kind is Kind.COUNTER:
            return Counter(metric.name, metric.about, metric.labels, registry=self.registry)
        if metric.kind is Kind.GAUGE:
            return Gauge(metric.name, metric.about, metric.labels, registry=self.registry)
        return Histogram(metric.name, metric.about, metric.labels, registry=self.registry, buckets=metric.buckets)
