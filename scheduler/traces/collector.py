"""Spans on their way to a collector that speaks OTLP over HTTP, with the OpenTelemetry SDK."""

from __future__ import annotations

import logging
import re
from typing import TYPE_CHECKING

from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import SERVICE_NAME, Resource
from opentelemetry.sdk.trace import SpanProcessor, TracerProvider
from opentelemetry.sdk.trace.export import SpanExportResult
from opentelemetry.sdk.trace.id_generator import IdGenerator
from opentelemetry.sdk.trace.sampling import ALWAYS_ON
from opentelemetry.trace import (
    Link,
    NonRecordingSpan,
    SpanContext,
    Status,
    StatusCode,
    TraceFlags,
    set_span_in_context,
)

from simherd.runtime.tracing import trace_id

if TYPE_CHECKING:
    from collections.abc import Sequence

    from opentelemetry.sdk.trace import ReadableSpan

    from scheduler.traces.spans import Span

#: Where OTLP takes traces, below the endpoint.
_PATH = "/v1/traces"
#: Seconds for one request, retries included.
_TIMEOUT_S = 5.0
#: W3C Trace Context: version, trace, span, flags.
_TRACEPARENT = re.compile(r"[0-9a-f]{2}-([0-9a-f]{32})-([0-9a-f]{16})-[0-9a-f]{2}")


class _Ids(IdGenerator):
    """Gives out the ids that the next span is to have."""

    trace = span = 0

    def generate_trace_id(self) -> int:
        """See `IdGenerator`."""
        return self.trace

    def generate_span_id(self) -> int:
        """See `IdGenerator`."""
        return self.span


class _Ended(SpanProcessor):
    """Gathers the spans that have ended."""

    def __init__(self) -> None:
        self.spans: list[ReadableSpan] = []

    def on_end(self, span: ReadableSpan) -> None:
        """See `SpanProcessor`."""
        self.spans.append(span)


class Collector:
    """The collector at an endpoint; for one thread."""

    def __init__(self, endpoint: str) -> None:
        # It says of every try that it failed; the caller says so once, with the tasks.
        logging.getLogger("opentelemetry").setLevel(logging.CRITICAL)
        self._exporter = OTLPSpanExporter(endpoint.rstrip("/") + _PATH, timeout=_TIMEOUT_S)
        self._ids, self._ended = _Ids(), _Ended()
        provider = TracerProvider(
            resource=Resource.create({SERVICE_NAME: "simherd"}),
            id_generator=self._ids,
            sampler=ALWAYS_ON,
            shutdown_on_exit=False,
        )
        provider.add_span_processor(self._ended)
        self._tracer = provider.get_tracer("simherd")

    def send(self, spans: Sequence[Span]) -> bool:
        """Send spans; return whether they were accepted."""
        for span in spans:
            self._make(span)
        made, self._ended.spans = self._ended.spans, []
        return self._exporter.export(made) is SpanExportResult.SUCCESS

    def close(self) -> None:
        """Give up what is being sent."""
        self._exporter.shutdown()  # type: ignore[no-untyped-call]

    def _make(self, span: Span) -> None:
        self._ids.trace, self._ids.span = int(trace_id(span.task_id), 16), int(span.id, 16)
        parent = None
        if span.parent is not None:
            parent = NonRecordingSpan(_context(self._ids.trace, int(span.parent, 16)))
        made = self._tracer.start_span(
            span.name,
            context=set_span_in_context(parent) if parent is not None else None,
            attributes=span.attributes,
            links=_links(span.caused_by),
            start_time=_ns(span.start),
        )
        for moment in span.moments:
            made.add_event(moment.name, moment.attributes, _ns(moment.at))
        if span.good is not None:
            status = Status(StatusCode.OK) if span.good else Status(StatusCode.ERROR, span.said)
            made.set_status(status)
        made.end(_ns(span.end))


def _context(trace: int, span: int) -> SpanContext:
    return SpanContext(trace, span, is_remote=True, trace_flags=TraceFlags(TraceFlags.SAMPLED))


def _links(caused_by: str | None) -> list[Link]:
    found = _TRACEPARENT.fullmatch(caused_by or "")
    if found is None:
        return []
    cause = _context(int(found[1], 16), int(found[2], 16))
    return [Link(cause)] if cause.is_valid else []


def _ns(at: float) -> int:
    return round(at * 1e9)
