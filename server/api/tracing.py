"""Spans: of a request, of the stages of its work, and of work that no request encloses."""

from collections.abc import Mapping, Sequence
from typing import Final

from opentelemetry import trace
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from pipeline.timing import StageTime, seconds_of
from server.metrics import OTHER

_CONTEXT: Final = TraceContextTextMapPropagator()
_HEADER: Final = "traceparent"
_PREFIX: Final = "face_detailer"

Told = Mapping[str, str | int]
"""Fields of a line in the log."""


def traceparent() -> str | None:
    """The request that is being served, as W3C's Trace Context names it; None: it has no span."""
    carrier: dict[str, str] = {}
    _CONTEXT.inject(carrier)
    return carrier.get(_HEADER)


def trace_request(
    method: str,
    route: str | None,
    status: int,
    told: Told,
    stages: Sequence[StageTime],
    *,
    has_query: bool,
) -> None:
    """Say in the span of the request that is being served, if it has one, what the log says of it.
    Its URL may hold secrets otherwise. `route`: None where nothing is served.
    """
    span = trace.get_current_span()
    if not span.is_recording():
        return
    if route is not None:
        # Not known yet where it was refused before its route was looked for.
        span.update_name(f"{method} {route}")
        span.set_attribute("http.route", route)
    span.set_attribute("url.path", route or OTHER)
    span.set_attribute("http.response.status_code", status)
    if has_query:
        span.set_attribute("url.query", "")
    _describe(span, told, stages)


def trace_job(
    begun_ns: int, parent: str | None, told: Told, stages: Sequence[StageTime], *, failed: bool
) -> None:
    """A span from `begun_ns` (nanoseconds since 1970) until now, below the request `parent`."""
    context = _CONTEXT.extract({} if parent is None else {_HEADER: parent})
    tracer = trace.get_tracer(_PREFIX)
    span = tracer.start_span("stored request", context, start_time=begun_ns)
    if span.is_recording():
        _describe(span, told, stages)
        if failed:
            span.set_status(trace.StatusCode.ERROR)
    span.end()


def _describe(span: trace.Span, told: Told, stages: Sequence[StageTime]) -> None:
    """Fields and seconds as attributes, and a span below for each time through a stage, wherever
    that was.
    """
    for name, value in told.items():
        span.set_attribute(f"{_PREFIX}.{name}", value)
    for name, seconds in seconds_of(stages).items():
        span.set_attribute(f"{_PREFIX}.seconds.{name}", seconds)
    tracer, below = trace.get_tracer(_PREFIX), trace.set_span_in_context(span)
    for stage in stages:
        tracer.start_span(stage.name, below, start_time=stage.begun_ns).end(stage.ended_ns)
