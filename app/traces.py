"""Spans over request, job, step and pipeline for OpenTelemetry; off unless the settings ask for them."""

from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from typing import TYPE_CHECKING, Any

from voxelight.models.errors import Unavailable

if TYPE_CHECKING:
    from opentelemetry.sdk.trace.export import SpanExporter
    from opentelemetry.trace import Tracer

_tracer: "Tracer | None" = None


class NotInstalled(Unavailable):
    """A package that is asked for is not there."""


def trace(exporter: "SpanExporter | None" = None) -> None:
    """Make spans from now on in this process.

    Parameters
    ----------
    exporter : where they go; without one, by OTLP over HTTP to where the variables of OpenTelemetry say

    Raises
    ------
    NotInstalled
        The packages are not there.
    """
    global _tracer
    try:
        from opentelemetry.sdk.resources import Resource
        from opentelemetry.sdk.trace import TracerProvider
        from opentelemetry.sdk.trace.export import BatchSpanProcessor, SimpleSpanProcessor

        if exporter is None:
            from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
    except ImportError as error:
        raise NotInstalled(
            f"traces asked for, and no package {error.name}",
            "OpenTelemetry with its exporter",
            "Install them: pip install 'voxelight[traces]'; or leave VOXELIGHT_TRACES out.",
        ) from None
    provider = TracerProvider(resource=Resource.create({"service.name": "voxelight"}))
    if exporter is None:
        provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
    else:
        provider.add_span_processor(SimpleSpanProcessor(exporter))
    _tracer = provider.get_tracer("voxelight")


def stop() -> None:
    """Make no more spans."""
    global _tracer
    _tracer = None


@contextmanager
def span(name: str, parent: str = "", **facts: Any) -> Iterator[None]:
    """Measure the block as a span below the one that it is in, or below `parent`, a W3C `traceparent`."""
    if _tracer is None:
        yield
        return
    context = _propagator().extract({"traceparent": parent}) if parent else None
    with _tracer.start_as_current_span(name, context=context) as current:
        current.set_attributes({f"voxelight.{key}": value for key, value in facts.items()})
        yield


def find_parent() -> str:
    """Return the `traceparent` of the span that this is in; empty where there is none."""
    if _tracer is None:
        return ""
    carrier: dict[str, str] = {}
    _propagator().inject(carrier)
    return carrier.get("traceparent", "")


@cache
def _propagator() -> Any:
    from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

    return TraceContextTextMapPropagator()
