"""Traces: a span for each poll, batch and commit of a real worker; nothing of OpenTelemetry is loaded while they are off."""

import json
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import StatusCode

import streamer.traces
from schemas.errors import UserError
from streamer.broker.server import Broker
from streamer.metrics.station import Station
from streamer.observer import Lookout, together
from streamer.run import build
from streamer.traces import Traces, wanted
from tests.streaming import alerts, send, settings, spread

Topic = Callable[..., str]


@pytest.mark.broker
def test_a_worker_in_spans(broker: Broker, topic: Topic, tmp_path: Path) -> None:
    name, exporter, station = topic(partitions=2), InMemorySpanExporter(), Station()
    send(broker.bootstrap, name, spread(alerts(30)[1], 2))
    traces = Traces(SimpleSpanProcessor(exporter))
    made = settings(broker.bootstrap, name, tmp_path / "catalog")
    engine = build(made, until_end=True, lookout=together([station, traces]))
    engine.run()
    traces.close()
    spans: dict[str, list[ReadableSpan]] = {}
    for span in exporter.get_finished_spans():
        spans.setdefault(span.name, []).append(span)
    assert set(spans) == {"poll", "process", "decode", "estimate", "rows", "commit", "parquet", "log entry"}
    polls = {span.context.span_id: span for span in spans["poll"] if span.context}
    for span in spans["process"]:
        assert span.attributes is not None
        assert span.attributes["messaging.system"] == "kafka"
        assert span.attributes["messaging.destination.name"] == name
        assert span.attributes["slipher.model"] == engine.worker.processing.model
        (link,) = span.links
        poll = polls[link.context.span_id]
        assert poll.attributes is not None
        for key in ("slipher.partitions", "slipher.offsets.first", "slipher.offsets.end"):
            assert poll.attributes[key] == span.attributes[key]
        assert poll.end_time is not None
        assert span.start_time is not None
        assert poll.end_time - 5_000_000 <= span.start_time  # by two clocks

    def attribute(name: str, key: str) -> list[object]:
        return [span.attributes[key] for span in spans[name] if span.attributes]

    assert sum(attribute("process", "messaging.batch.message_count")) == 30  # type: ignore[call-overload]
    ends: dict[int, int] = {}
    for span in spans["commit"]:
        assert span.attributes is not None
        ends |= dict(zip(span.attributes["slipher.partitions"], span.attributes["slipher.offsets.end"], strict=True))  # type: ignore[arg-type]
        assert span.attributes["slipher.partitions.fenced"] == ()
    assert ends == {0: 15, 1: 15}
    inside = {span.context.span_id: span.name for group in spans.values() for span in group if span.context}
    parents = {
        name: {inside[span.parent.span_id] for span in spans[name] if span.parent}
        for name in ("decode", "estimate", "rows", "parquet")
    }
    assert parents == {"decode": {"process"}, "estimate": {"process"}, "rows": {"process"}, "parquet": {"commit"}}
    assert all(span.resource.attributes["service.name"] == "slipher" for span in spans["poll"])
    # the other listener heard the same
    assert station.meters.registry.get_sample_value("slipher_settled_messages_total", {"topic": name}) == 30


def test_what_fails_in_a_span_is_said_there() -> None:
    exporter = InMemorySpanExporter()
    observer = Traces(SimpleSpanProcessor(exporter)).observer("t")
    with pytest.raises(OSError), observer.timed("settle"), observer.timed("parquet"):
        raise OSError(28, "No space left on device")
    assert [(span.name, span.status.status_code) for span in exporter.get_finished_spans()] == [
        ("parquet", StatusCode.ERROR),
        ("commit", StatusCode.ERROR),
    ]


def test_a_collector_that_is_away_holds_nobody_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", "http://127.0.0.1:9")
    monkeypatch.setattr(streamer.traces, "CLOSE_SECONDS", 0.5)
    traces = Traces()
    with traces.observer("t").timed("settle"):
        pass
    began = time.monotonic()
    traces.close()
    assert time.monotonic() - began < 5


@pytest.mark.parametrize(
    ("environment", "on"),
    [
        ({}, False),
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": "http://collector:4318"}, True),
        ({"OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": "http://collector:4318/v1/traces"}, True),
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": "http://collector:4318", "OTEL_SDK_DISABLED": "true"}, False),
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": ""}, False),
    ],
)
def test_the_environment_turns_them_on(environment: dict[str, str], on: bool) -> None:
    assert wanted(environment) is on


def test_without_opentelemetry_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "opentelemetry.sdk.trace", None)
    with pytest.raises(UserError, match=r"slipher\[traces\]"):
        Traces()


def test_off_nothing_is_loaded() -> None:
    code = (
        "import sys, json, streamer.run, streamer.follow, streamer.cli.run, streamer.traces\n"
        "print(json.dumps([m for m in sys.modules if m.split('.')[0] in ('opentelemetry', 'prometheus_client')]))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert json.loads(done.stdout) == []


def test_of_none_nobody_listens() -> None:
    assert type(together([])) is Lookout
    observer = together([]).observer("t")
    with observer.at("settle"), observer.timed("process"):
        observer.stepped()
