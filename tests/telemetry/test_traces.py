"""
Tests for L{openai_server.telemetry.traces}, with the library's own exporter in
memory.
"""

from __future__ import annotations

import json
import logging
import signal
import sys
from collections.abc import Sequence
from pathlib import Path
from threading import Event
from typing import Any
from unittest import mock

import treq
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
    ExportTraceServiceRequest,
    ExportTraceServiceResponse,
)
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import SpanKind, StatusCode
from twisted.internet import reactor as _reactor
from twisted.internet.defer import Deferred
from twisted.logger import globalLogPublisher
from twisted.web.client import Agent, HTTPConnectionPool
from twisted.web.resource import Resource
from twisted.web.server import Site

from openai_server import __version__
from openai_server.config import Configuration
from openai_server.metrics import Counters
from openai_server.telemetry.families import KnownNames
from openai_server.telemetry.service import NoTraces, Telemetry
from openai_server.telemetry.traces import FLUSH_SECONDS, QUIET_SECONDS, Traces, spansURL
from tests.flow.support import FlowCase
from tests.program import launch
from tests.support import AsyncCase, SyncCase, TestClock
from tests.telemetry.support import Samples, ThreadReactor, requestReport, tracesInMemory
from tests.world import World

reactor: Any = _reactor

NOW = 1_780_000_000.0
TRACE, PARENT = "ab" * 16, "cd" * 8


class Collector(Resource):
    """
    Takes spans as OTLP.

    @ivar requests: what came.
    """

    isLeaf = True

    def __init__(self) -> None:
        super().__init__()
        self.requests: list[Any] = []

    def render_POST(self, request: Any) -> bytes:
        """
        Take some spans.
        """
        assert request.path == b"/v1/traces", request.path
        assert request.getHeader("content-type") == "application/x-protobuf"
        self.requests.append(ExportTraceServiceRequest.FromString(request.content.read()))
        return ExportTraceServiceResponse().SerializeToString()

    @property
    def spans(self) -> list[Any]:
        """
        All spans.
        """
        resources = [each for request in self.requests for each in request.resource_spans]
        return [span for each in resources for scope in each.scope_spans for span in scope.spans]

    @property
    def service(self) -> str:
        """
        Whose they say that they are.
        """
        attributes = self.requests[0].resource_spans[0].resource.attributes
        return str({each.key: each.value.string_value for each in attributes}["service.name"])


class TracesCase(SyncCase):
    """
    Traces that go nowhere.
    """

    def setUp(self) -> None:
        super().setUp()
        self.exporter = InMemorySpanExporter()
        self.reactor = ThreadReactor()
        self.clock = TestClock()
        self.traces = self.make(lambda: SimpleSpanProcessor(self.exporter))
        self.traces.startService()

    def make(self, processor: Any) -> Traces:
        """
        Return traces whose spans this takes.
        """
        models = KnownNames({"opus", "script"}.__contains__)
        return Traces(self.reactor, self.clock, processor, models, lambda: NOW)

    def stop(self) -> None:
        """
        Stop them, and wait for their thread.
        """
        stopped = self.traces.stopService()
        self.assertTrue(self.reactor.called.wait(10))
        self.successResultOf(stopped)

    @property
    def spans(self) -> Sequence[ReadableSpan]:
        """
        Those that were made.
        """
        return self.exporter.get_finished_spans()

    def span(self, **fields: Any) -> ReadableSpan:
        """
        Return the span of one request.
        """
        self.exporter.clear()
        self.traces.requestEnded(requestReport(**fields))
        (span,) = self.spans
        return span


class SpanTests(TracesCase):
    """
    One span for each request.
    """

    def tearDown(self) -> None:
        self.stop()

    def test_attributes(self) -> None:
        """
        What a request of a model was and came to, with its real times.
        """
        span = self.span()
        self.assertEqual((span.name, span.kind), ("chat opus", SpanKind.SERVER))
        self.assertEqual((span.start_time, span.end_time), ((NOW - 5.5) * 10**9, NOW * 10**9))
        self.assertEqual(
            dict(span.attributes or {}),
            {
                "http.request.method": "POST",
                "http.route": "/v1/chat/completions",
                "http.response.status_code": 200,
                "openai_server.request.id": "req_1",
                "openai_server.end": "ok",
                "gen_ai.operation.name": "chat",
                "gen_ai.provider.name": "hum",
                "gen_ai.request.model": "opus",
                "gen_ai.usage.input_tokens": 10,
                "gen_ai.usage.output_tokens": 21,
            },
        )
        ((name, at),) = [(event.name, event.timestamp) for event in span.events]
        self.assertEqual((name, at), ("first token", (NOW - 4) * 10**9))
        self.assertEqual(span.status.status_code, StatusCode.UNSET)
        resource = span.resource.attributes
        ours = (resource["service.name"], resource["service.version"])
        self.assertEqual(ours, ("openai-server", __version__))

    def test_requestOfNoModel(self) -> None:
        """
        It is called by its route.
        """
        span = self.span(route="/v1/models", method="GET", model=None, firstTokenSeconds=None)
        self.assertEqual((span.name, list(span.events)), ("GET /v1/models", []))
        self.assertNotIn("gen_ai.operation.name", span.attributes or {})

    def test_unknownModel(self) -> None:
        """
        Its name may be any text of a client's.
        """
        span = self.span(model="sk-secret")
        self.assertEqual(span.name, "chat other")
        self.assertNotIn("sk-secret", span.to_json())

    def test_ends(self) -> None:
        """
        What failed here or below is an error; what a client did is none.
        """
        for end, status, code in (
            ("up-error", 200, StatusCode.ERROR),
            ("bug", 500, StatusCode.ERROR),
            ("bad", 400, StatusCode.UNSET),
            ("cl-gone", 499, StatusCode.UNSET),
        ):
            span = self.span(end=end, status=status)
            self.assertEqual(span.status.status_code, code, end)
            self.assertEqual((span.attributes or {})["error.type"], end)

    def test_parent(self) -> None:
        """
        The span is the child of what the client says; what that does not want
        to be traced is not.
        """
        span = self.span(traceparent=f"00-{TRACE}-{PARENT}-01")
        assert span.parent is not None
        self.assertEqual(f"{span.parent.span_id:x} {span.context.trace_id:x}", f"{PARENT} {TRACE}")
        self.exporter.clear()
        self.traces.requestEnded(requestReport(traceparent=f"00-{TRACE}-{PARENT}-00"))
        self.assertEqual(self.spans, ())

    def test_badParent(self) -> None:
        """
        A header that is none of W3C's begins a trace.
        """
        for said in ("", "x", f"00-{TRACE}-{PARENT}", f"00-{'0' * 32}-{PARENT}-01", "\xff" * 55, "00-" * 99):
            self.assertIsNone(self.span(traceparent=said).parent, said)

    def test_libraryLog(self) -> None:
        """
        What the library complains of is in this server's log, and does not
        fill it.
        """
        logged: list[Any] = []
        globalLogPublisher.addObserver(logged.append)
        self.addCleanup(globalLogPublisher.removeObserver, logged.append)
        library = logging.getLogger("opentelemetry.sdk.x")
        for minute, words in ((0, "no %s"), (0.9, "still no %s"), (1, "again no %s")):
            record = library.makeRecord(library.name, logging.WARNING, "", 0, words, ("collector",), None)
            record.created = NOW + minute * QUIET_SECONDS
            library.handle(record)
        said = [event["said"] for event in logged if "said" in event]
        self.assertEqual(said, ["no collector", "again no collector"])


class StopTests(TracesCase):
    """
    What is left is sent at the stop.
    """

    def test_flush(self) -> None:
        """
        For a moment, in a thread; afterwards nothing is taken any more.
        """
        self.stop()
        with self.assertNoLogs("opentelemetry"):
            self.traces.requestEnded(requestReport())
        self.assertEqual(self.spans, ())
        self.assertEqual(logging.getLogger("opentelemetry").handlers, [])

    def test_collectorThatHangs(self) -> None:
        """
        (P30) Nobody waits for it for longer than that.
        """
        self.stop()
        self.reactor.called.clear()
        release = Event()

        class Hanging(SimpleSpanProcessor):
            def shutdown(self) -> None:
                release.wait(10)

        self.traces = self.make(lambda: Hanging(self.exporter))
        self.traces.startService()
        stopped: Deferred[None] = self.traces.stopService()
        self.clock.advance(FLUSH_SECONDS - 0.1)
        self.assertNoResult(stopped)
        self.clock.advance(0.1)
        self.successResultOf(stopped)
        release.set()
        self.assertTrue(self.reactor.called.wait(10))


class WorldTests(FlowCase):
    """
    Spans of a whole server's requests.
    """

    def test_noKeysAndTexts(self) -> None:
        """
        The parent is found, and no key and no word of anybody is in a span.
        """
        word, key = "Schibboleth", "sk-secret"
        traces, exporter = tracesInMemory(self, "script")
        world = World(self, reports=[traces], apiKey=key)
        headers = {"authorization": f"Bearer {key}", "traceparent": f"00-{TRACE}-{PARENT}-01"}
        world.script({"say": word}, user=word, stream=True, headers=headers)
        world.script({"say": word}, model=word, headers=headers)
        world.script({"say": word}, headers={"authorization": f"Bearer {word}"})
        world.advance(10)
        spans = exporter.get_finished_spans()
        found = {span.name: span.parent is not None for span in spans}
        self.assertEqual(found, {"chat script": True, "chat other": True, "POST unmatched": False})
        text = "".join(span.to_json() for span in spans)
        for secret in (key, word, word.lower(), "Bearer"):
            self.assertNotIn(secret, text)


class SettingTests(SyncCase):
    """
    What the setting means.
    """

    def test_off(self) -> None:
        """
        Nothing is imported, and nobody asks for headers.
        """
        with mock.patch.dict(sys.modules, {"openai_server.telemetry.traces": None}):
            telemetry = Telemetry(None, TestClock(), Configuration(), Counters())
        self.assertEqual((telemetry.isTraced, telemetry.reports), (False, [telemetry.figures]))

    def test_missing(self) -> None:
        """
        One line says what to install.
        """
        settings = Configuration(traces="otlp")
        with mock.patch.dict(sys.modules, {"openai_server.telemetry.traces": None}):
            error = self.assertRaises(NoTraces, Telemetry, None, TestClock(), settings, Counters())
        self.assertIn("pip install 'openai-server[otel]'", str(error))

    def test_where(self) -> None:
        """
        A collector's URL, with the path for spans or without, or what
        OpenTelemetry's own variables say.
        """
        for said in ("http://c:4318", "http://c:4318/", "http://c:4318/v1/traces"):
            self.assertEqual(spansURL(said), "http://c:4318/v1/traces", said)
        self.assertIsNone(spansURL("otlp"))


class ProgramTests(AsyncCase):
    """
    The whole program, scraped and traced over real sockets.
    """

    async def test_program(self) -> None:
        """
        The metrics are on their own port, where no key is asked for, and are
        still there while the last answer goes on. A collector gets a span of
        each request, the last ones when the program ends.
        """
        collector = Collector()
        port = reactor.listenTCP(0, Site(collector), interface="127.0.0.1")
        self.addCleanup(port.stopListening)
        home = Path(self.mktemp()).absolute()
        home.mkdir()
        arguments = ["--embedded", "--port=0", "--metrics=tcp:0:interface=127.0.0.1", "--traces=otlp"]
        program = launch(
            self,
            home,
            *arguments,
            OTEL_EXPORTER_OTLP_ENDPOINT=f"http://127.0.0.1:{port.getHost().port}",
            OTEL_SERVICE_NAME="mine",
            OPENAI_SERVER_API_KEY="sk-secret",
        )
        await program.whenSaid("connected to the daemon")
        said = next(json.loads(line)["message"] for line in program.lines if "metrics: " in line)
        headers = {"authorization": "Bearer sk-secret", "content-type": "application/json"}
        body = {"model": "echo", "messages": [{"role": "user", "content": "word " * 60}], "stream": True}
        agent = Agent(reactor, pool=HTTPConnectionPool(reactor, persistent=False))
        answer = await treq.post(
            f"{program.url}/v1/chat/completions", json=body, headers=headers, agent=agent
        )
        program.signal(signal.SIGTERM)
        await program.whenSaid("SIGTERM")
        scraped = await treq.get(said.partition(": ")[2], agent=agent)
        page = Samples(await scraped.text())
        self.assertEqual(page.get("openai_server_turns_now", state="live"), 1)
        self.assertTrue((await answer.content()).endswith(b"data: [DONE]\n\n"))
        self.assertEqual(await program.ended, 0)
        (span,) = collector.spans
        self.assertEqual((span.name, span.kind), ("chat echo", span.SPAN_KIND_SERVER))
        self.assertEqual(collector.service, "mine")
        self.assertNotIn("sk-secret", str(collector.requests))
