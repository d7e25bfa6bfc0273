# -*- test-case-name: tests.telemetry.test_traces -*-
"""
A span for each request, for OpenTelemetry. This is the one module that knows
its library, which is an extra: it is imported when traces are wanted.

A span is made when its request has ended, of what is reported then: before
that it costs nothing. A thread of the library's sends spans on.

Names of attributes are those of its semantic conventions for HTTP and for
generative AI. No text of a prompt or an answer is in a span.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from threading import Thread
from typing import Any, Final

from opentelemetry.context import Context
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import OTELResourceDetector, Resource
from opentelemetry.sdk.trace import SpanProcessor, TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.trace import SpanKind, Status, StatusCode
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator
from opentelemetry.util.types import AttributeValue
from twisted.application.service import Service
from twisted.internet.defer import Deferred, TimeoutError
from twisted.internet.interfaces import IReactorFromThreads, IReactorTime
from twisted.logger import Logger
from twisted.python.failure import Failure

from openai_server import __version__
from openai_server.reports import RequestReport
from openai_server.telemetry.families import KnownNames
from openai_server.telemetry.reported import OPERATIONS, PROVIDER

#: The setting that leaves all to the variables that OpenTelemetry has.
BY_ENVIRONMENT: Final = "otlp"
#: Seconds in which what is left is sent at a stop.
FLUSH_SECONDS: Final = 1.5
#: Seconds between two lines of the library's in the log.
QUIET_SECONDS: Final = 60.0

_SPANS: Final = "/v1/traces"
#: Ends that are nobody's fault here.
_NO_ERRORS: Final = frozenset({"ok", "bad", "auth", "host", "cl-slow", "cl-gone", "cl-stuck"})


class LibraryLog(logging.Handler):
    """
    Takes the library's words to this server's log, from whatever thread: a
    collector that is away is complained of every few seconds, and that is
    said once in a while.
    """

    _log = Logger()

    def __init__(self, reactor: IReactorFromThreads) -> None:
        super().__init__(logging.WARNING)
        self._reactor = reactor
        self._quietUntil = 0.0

    def emit(self, record: logging.LogRecord) -> None:
        """
        Log one thing that it said.
        """
        if record.created < self._quietUntil:
            return
        self._quietUntil = record.created + QUIET_SECONDS
        said = record.getMessage()[:500]
        self._reactor.callFromThread(self._log.warn, "traces: {said}", said=said)


class Traces(Service):
    """
    Makes spans of requests, and has them sent.
    """

    _log = Logger()

    def __init__(
        self,
        reactor: Any,
        clock: IReactorTime,
        processor: Callable[[], SpanProcessor],
        models: KnownNames,
        now: Callable[[], float] = time.time,
    ) -> None:
        """
        @param processor: makes what takes the spans; it may begin a thread.
        @param models: those that are told from each other.
        @param now: the wall clock, in seconds since 1970.
        """
        self._reactor = reactor
        self._clock = clock
        self._processor = processor
        self._models = models
        self._now = now
        self._propagator = TraceContextTextMapPropagator()
        self._libraryLog = LibraryLog(reactor)
        ours = {"service.name": "openai-server", "service.version": __version__}
        self._provider = TracerProvider(
            resource=Resource.create(ours).merge(OTELResourceDetector().detect()), shutdown_on_exit=False
        )
        self._tracer = self._provider.get_tracer("openai_server", __version__)

    def startService(self) -> None:
        """
        Take spans from now on.
        """
        super().startService()
        library = logging.getLogger("opentelemetry")
        library.addHandler(self._libraryLog)
        library.propagate = False
        self._provider.add_span_processor(self._processor())

    def stopService(self) -> Deferred[None]:
        """
        Send what is left, for a moment.

        @return: fires when that is done, or given up.
        """
        super().stopService()
        flushed: Deferred[None] = Deferred()
        Thread(target=self._flush, args=(flushed,), daemon=True, name="traces-flush").start()
        flushed.addTimeout(FLUSH_SECONDS, self._clock)
        return flushed.addErrback(self._notFlushed).addBoth(self._stopped)

    def _flush(self, flushed: Deferred[None]) -> None:
        # In a thread: it waits for the network.
        try:
            self._provider.shutdown()
        finally:
            self._reactor.callFromThread(self._flushedNow, flushed)

    @staticmethod
    def _flushedNow(flushed: Deferred[None]) -> None:
        if not flushed.called:
            flushed.callback(None)

    def _notFlushed(self, failure: Failure) -> None:
        failure.trap(TimeoutError)
        self._log.warn("the last traces could not be sent in {seconds} s", seconds=FLUSH_SECONDS)

    def _stopped(self, result: None) -> None:
        library = logging.getLogger("opentelemetry")
        library.removeHandler(self._libraryLog)
        library.propagate = True

    def requestEnded(self, report: RequestReport) -> None:
        """
        Make the span of a request.
        """
        if not self.running:
            return
        end = self._now()
        begun = end - report.seconds
        operation = None if report.model is None else OPERATIONS.get(report.route)
        name = f"{report.method} {report.route}"
        attributes: dict[str, AttributeValue] = {
            "http.request.method": report.method,
            "http.route": report.route,
            "http.response.status_code": report.status,
            "openai_server.request.id": report.requestId,
            "openai_server.end": report.end,
        }
        if report.end != "ok":
            attributes["error.type"] = report.end
        if operation is not None:
            model = self._models.of(report.model or "")
            name = f"{operation} {model}"
            attributes |= _ofModel(operation, model, report)
        span = self._tracer.start_span(
            name, self._parent(report), SpanKind.SERVER, attributes, start_time=_nanoseconds(begun)
        )
        if report.firstTokenSeconds is not None:
            span.add_event("first token", timestamp=_nanoseconds(begun + report.firstTokenSeconds))
        if report.end not in _NO_ERRORS:
            span.set_status(Status(StatusCode.ERROR))
        span.end(_nanoseconds(end))

    def _parent(self, report: RequestReport) -> Context:
        said = {} if report.traceparent is None else {"traceparent": report.traceparent}
        return self._propagator.extract(said, Context())


def _ofModel(operation: str, model: str, report: RequestReport) -> dict[str, AttributeValue]:
    attributes: dict[str, AttributeValue] = {
        "gen_ai.operation.name": operation,
        "gen_ai.provider.name": PROVIDER,
        "gen_ai.request.model": model,
    }
    if report.inputTokens is not None and report.outputTokens is not None:
        attributes["gen_ai.usage.input_tokens"] = report.inputTokens
        attributes["gen_ai.usage.output_tokens"] = report.outputTokens
    return attributes


def _nanoseconds(seconds: float) -> int:
    return int(seconds * 1_000_000_000)


def spansURL(setting: str) -> str | None:
    """
    Return where spans are posted to; None: where the variables say.

    @param setting: the collector's URL, or L{BY_ENVIRONMENT}.
    """
    return None if setting == BY_ENVIRONMENT else setting.rstrip("/").removesuffix(_SPANS) + _SPANS


def tracesTo(setting: str, reactor: Any, clock: IReactorTime, models: KnownNames) -> Traces:
    """
    Return what sends spans where a setting says.
    """
    url = spansURL(setting)
    return Traces(reactor, clock, lambda: BatchSpanProcessor(OTLPSpanExporter(url)), models)
