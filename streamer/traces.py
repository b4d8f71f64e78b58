"""Traces for OpenTelemetry: a span for each poll, batch and commit, with topic, partitions and offsets. Off, nothing is imported.

Where they go, how many are kept and what they are called by is OpenTelemetry's own to say (``OTEL_...``): by default to a
collector on this machine, over HTTP.
"""

from __future__ import annotations

import os
import socket
import threading
import time
from collections.abc import Collection, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

from schemas.batch import Messages
from schemas.errors import UserError
from schemas.processing import Processing
from streamer.metrics.names import Stage
from streamer.observer import Lookout, Observer

if TYPE_CHECKING:
    from opentelemetry.sdk.trace import SpanProcessor
    from opentelemetry.trace import SpanContext, Tracer

ENDPOINTS = ("OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT")
CLOSE_SECONDS = 2.0  # for the last spans to be handed over: a collector that is away must hold nobody up
SPANS = {Stage.SETTLE: "commit", Stage.COMMIT: "log entry"}  # names of stages that are spans of another name


def wanted(environment: Mapping[str, str] = os.environ) -> bool:
    """Whether the environment says where traces go."""
    off = environment.get("OTEL_SDK_DISABLED", "").lower() == "true"
    return not off and any(environment.get(name) for name in ENDPOINTS)


class Traces(Lookout):
    """Traces of a process that reads topics.

    Parameters
    ----------
    processor
        What spans are handed to; None = in batches to a collector, as OpenTelemetry's environment says.

    Raises
    ------
    UserError
        OpenTelemetry is not installed.
    """

    def __init__(self, processor: SpanProcessor | None = None) -> None:
        try:
            from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
            from opentelemetry.sdk.resources import Resource
            from opentelemetry.sdk.trace import TracerProvider
            from opentelemetry.sdk.trace.export import BatchSpanProcessor
        except ImportError:
            raise UserError("--traces needs OpenTelemetry: pip install 'slipher[traces]'.") from None
        about = {"service.version": version("slipher"), "service.instance.id": f"{socket.gethostname()}-{os.getpid()}"}
        if not os.environ.get("OTEL_SERVICE_NAME"):
            about["service.name"] = "slipher"
        self._provider = TracerProvider(resource=Resource.create(about), shutdown_on_exit=False)
        self._provider.add_span_processor(processor or BatchSpanProcessor(OTLPSpanExporter()))
        self._tracer = self._provider.get_tracer("slipher", version("slipher"))
        self._model = ""

    def loaded(self, processing: Processing, kind: str) -> None:
        """The model is there."""
        self._model = processing.model

    def observer(self, topic: str) -> Observer:
        """Makes spans of the engine that reads `topic`."""
        return Spans(self._tracer, topic, self._model)

    def close(self) -> None:
        """Hand over what is left, within ``CLOSE_SECONDS``."""
        closing = threading.Thread(target=self._provider.shutdown, name="closing traces", daemon=True)
        closing.start()
        closing.join(CLOSE_SECONDS)


class Spans(Observer):
    """Of one engine."""

    def __init__(self, tracer: Tracer, topic: str, model: str) -> None:
        self._tracer = tracer
        self._about = {"messaging.system": "kafka", "messaging.destination.name": topic, "slipher.model": model}
        self._polled: dict[tuple[int, int], SpanContext] = {}  # by partition and end, of batches not yet processed

    def polled(self, messages: Messages, seconds: float) -> None:
        end = time.time_ns()
        span = self._tracer.start_span(
            "poll", attributes=self._of(messages, "poll"), start_time=end - int(seconds * 1e9)
        )
        span.end(end)
        if len(self._polled) > 1_000:  # they were given up, with their partitions
            self._polled.clear()
        self._polled |= dict.fromkeys(messages.ends.items(), span.get_span_context())

    def timed(self, stage: str, messages: Messages | None = None) -> AbstractContextManager[None]:
        return self._span(stage, messages)

    @contextmanager
    def _span(self, stage: str, messages: Messages | None) -> Iterator[None]:
        from opentelemetry.trace import Link

        name = SPANS.get(Stage(stage), stage)
        attributes = self._about if messages is None else self._of(messages, name)
        ends = messages.ends.items() if messages is not None else ()
        polls = {context.span_id: context for key in ends if (context := self._polled.pop(key, None)) is not None}
        links = [Link(context) for context in polls.values()]
        with self._tracer.start_as_current_span(name, attributes=attributes, links=links):
            yield

    def landed(self, durable: Mapping[int, int], fenced: Collection[int]) -> None:
        from opentelemetry.trace import get_current_span

        get_current_span().set_attributes(
            {
                "messaging.operation.name": "commit",
                "slipher.partitions": sorted(durable),
                "slipher.offsets.end": [durable[p] for p in sorted(durable)],
                "slipher.partitions.fenced": sorted(fenced),
            }
        )

    def _of(self, messages: Messages, operation: str) -> dict[str, Any]:
        partitions = sorted(messages.ends)
        return {
            **self._about,
            "messaging.operation.name": operation,
            "messaging.batch.message_count": len(messages.payloads),
            "slipher.partitions": partitions,
            "slipher.offsets.first": [messages.starts.get(p, -1) for p in partitions],
            "slipher.offsets.end": [messages.ends[p] for p in partitions],
        }
