"""
What must not be in the log, nor come back to a client: keys, what people
write to models, and what the daemon says.
"""

from __future__ import annotations

import json
import sqlite3
import unicodedata
from contextlib import closing
from pathlib import Path
from typing import Any

from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from twisted.logger import LogEvent, formatEvent, globalLogPublisher
from twisted.python.failure import Failure

from openai_server.api.chat import dialect as chatDialect
from openai_server.audit import AuditLog
from openai_server.log import JSONLog, lineFromEvent
from openai_server.metrics import Counters
from openai_server.translate.output import Translation
from openai_server.web.mistakes import Bug
from tests.faults.support import FaultCase, asked, tool
from tests.support import RecordedOutput
from tests.telemetry.support import tracesInMemory
from tests.world import Client, World

KEY = "canary-key-5a1c"
QUERY = "canary-query-77e0"
HEADER = "canary-header-09bd"
PROMPT = "canary-prompt-e3f2"
TOOL = "canary-tool-4c6a"
DAEMON = "canary-daemon-b81f"
CANARIES = (KEY, QUERY, HEADER, PROMPT, TOOL, DAEMON)

#: What must never stand in a line of the log as it is.
NASTY = "a\r\nb\x1b[31m\x00\u2028\x85{log_source}{0}%s%(x)s\x7f"


def everythingIn(event: LogEvent) -> str:
    """
    All words of an event, whoever looks at it; of an exception that which is
    written.
    """
    values = [value for value in event.values() if not isinstance(value, Failure)]
    return "\n".join([lineFromEvent(event), formatEvent(event), *map(repr, values)])


class SecretCase(FaultCase):
    """
    A server with a key, and requests full of canaries.
    """

    def secretive(self, **settings: Any) -> World:
        """
        A world of which every log event is looked at, whatever its level, and
        its metrics, and a span of each request.
        """
        traces, exporter = tracesInMemory(self, "script")
        world = World(self, apiKey=KEY, reports=[traces], **settings)
        self.addCleanup(self.assertQuiet, world, exporter)
        return world

    def assertQuiet(self, world: World, exporter: InMemorySpanExporter) -> None:
        """
        No canary in any log event, nor in the metrics or a span.
        """
        page = world.telemetry.metrics.page("")[1].decode()
        spans = [span.to_json() for span in exporter.get_finished_spans()]
        self.assertIn("openai_server_requests_total{", page)
        self.assertTrue(spans)
        for said in (page, *spans):
            self.assertEqual([canary for canary in CANARIES if canary in said], [], said)
        self.assertTrue(any("requestId" in event for event in world.logged))
        for event in world.logged:
            said = everythingIn(event)
            self.assertEqual([canary for canary in CANARIES if canary in said], [], said)

    def ask(self, world: World, *steps: Any, key: str = KEY, **fields: Any) -> Client:
        """
        Ask with a canary in each place.
        """
        messages = [
            {"role": "system", "content": PROMPT},
            {"role": "user", "content": PROMPT},
            {"role": "assistant", "tool_calls": [call()]},
            {"role": "tool", "tool_call_id": "c1", "content": TOOL},
            asked(*steps),
        ]
        body = {"model": "script", "messages": messages, "tools": [tool(TOOL)], "user": HEADER, **fields}
        headers = {
            "authorization": f"Bearer {key}",
            "user_agent": HEADER,
            "cookie": HEADER,
            "referer": HEADER,
            "x_request_id": "req-1",
            "x_hum_session": HEADER,
            "idempotency_key": HEADER + str(len(world.clients)),
        }
        client = world.client().post(body, f"/v1/chat/completions?key={QUERY}", **headers)
        client.wire.read()
        return client


def call() -> dict[str, Any]:
    """
    A call of an earlier answer's.
    """
    return {"id": "c1", "type": "function", "function": {"name": TOOL, "arguments": json.dumps({"a": TOOL})}}


class AccountTests(SecretCase):
    """
    The same canaries, in what is kept of who asked and what it cost.
    """

    def test_ledgerAndAuditLog(self) -> None:
        """
        No text and no key is in the ledger or the audit log, and no key in the
        store's files, whatever happens to requests.
        """
        folder = Path(self.mktemp()).absolute()
        folder.mkdir()
        world = self.secretive(store=f"sqlite:///{folder}/store.db")
        audit = AuditLog(str(folder / "audit.jsonl"), world.clock, Counters(), world.machine.now)
        audit.startService()
        world.front.site.reports = (*world.front.site.reports, audit)
        for stream in (True, False):
            called = {"tool": TOOL, "args": {"a": TOOL}}
            self.ask(world, {"think": PROMPT}, {"say": PROMPT}, called, stream=stream)
            # Words of an answer are kept with it, whatever they are: no key among them here.
            self.ask(world, {"result_error": DAEMON}, stream=stream)
            self.ask(world, {"finish": {"finishReason": DAEMON}}, stream=stream)
            self.ask(world, {"say": PROMPT}, {"sleep": 5}, stream=stream).leave()
            self.ask(world, key=KEY + "x", stream=stream)
            world.advance(1)
        world.advance(60)
        world.stop()
        audit.stopService()
        [lines] = [path.read_bytes() for path in folder.glob("audit*")]
        self.assertEqual(lines.count(b"\n"), 10)
        with closing(sqlite3.connect(folder / "store.db")) as connection:
            rows = connection.execute("SELECT * FROM turns").fetchall()
        self.assertEqual(len(rows), 8)
        for canary in CANARIES:
            self.assertNotIn(canary, repr(rows))
            self.assertNotIn(canary.encode(), lines)
        for path in folder.iterdir():
            self.assertNotIn(KEY.encode(), path.read_bytes(), path)


class CanaryTests(SecretCase):
    """
    Six canaries, in everything that happens to requests (V7).
    """

    def test_answers(self) -> None:
        """
        Requests that go well, with reasoning, a call and its result (V7).
        """
        world = self.secretive()
        steps = [{"think": PROMPT}, {"say": PROMPT}, {"tool": TOOL, "args": {"a": TOOL}}, {"say": PROMPT}]
        for stream in (True, False):
            client = self.ask(world, *steps, stream=stream)
            world.advance(1)
            self.assertEqual((client.status, len(client.calls)), (200, 1))
        world.advance(60)
        self.assertEqual(world.ends, ["ok", "ok"])

    def test_faults(self) -> None:
        """
        Requests that fail in the worker, at the daemon, or whose client leaves,
        before and after the first byte (V7).
        """
        world = self.secretive()
        bad = {"line": '{"chi":"chunk","sid":7,"delta":"' + DAEMON + '"}'}
        stray = {"raw": {"chi": "chunk", "sid": "a-stranger", "delta": DAEMON}}
        log = {"raw": {"chi": "log", "message": DAEMON}}
        for before in ([], [{"say": PROMPT}]):
            for stream in (True, False):
                for after in (
                    [{"result_error": DAEMON + " " + KEY}],
                    [bad, stray, log, {"line": DAEMON}],
                    [{"finish": {"finishReason": DAEMON}}],
                    [{"exit": 1}],
                    [{"raw": {"chi": "session-ready", "tools": [DAEMON, "mcp__hum__" + DAEMON]}}],
                    [{"tool": DAEMON, "args": {"a": TOOL}}],
                ):
                    self.ask(world, *before, *after, stream=stream)
                    world.advance(1)
                self.ask(world, *before, {"silence": 1}, stream=stream).leave()
                world.advance(1)
                self.ask(world, *before, {"silence": 1}, stream=stream)
                world.advance(1)
                world.daemon.restart()
                world.advance(3)
        self.assertEqual(len(world.ends), 32)

    def test_refusals(self) -> None:
        """
        Requests that are refused: a wrong key, a bad body, a bad header, no
        such path. A wrong key is not repeated to the client, not even in part
        (V7).
        """
        world = self.secretive()
        wrong = self.ask(world, key=DAEMON)
        self.assertRefused(wrong, 401, "invalid_api_key")
        self.assertNotIn(b"canary", wrong.wire.received)
        for body in (
            {"model": PROMPT, "messages": PROMPT},
            {"model": "script", "messages": [{"role": PROMPT, "content": PROMPT}]},
            PROMPT.encode(),
        ):
            headers = {"authorization": f"Bearer {KEY}", "content_type": "application/json"}
            client = world.client().post(body, f"/v1/chat/completions?{QUERY}", **headers)
            client.wire.read()
            self.assertEqual(client.status, 400)
        client = world.client().post({}, f"/{QUERY}/x?{QUERY}", authorization=f"Bearer {KEY}")
        client.wire.read()
        self.assertEqual(client.status, 404)
        for raw in (
            f"GET /{QUERY} HTTP/1.1\r\nHost: {HEADER}!\r\n\r\n",
            f"{QUERY} {QUERY}\r\n\r\n",
            f"GET / HTTP/1.1\r\nHost: x\r\n{HEADER}\r\n\r\n",
        ):
            world.client().send(raw.encode())

    def test_daemonAway(self) -> None:
        """
        Requests while the daemon is away (V7).
        """
        world = self.secretive()
        world.daemon.crash()
        world.advance(1)
        for stream in (True, False):
            client = self.ask(world, stream=stream)
            self.assertRefused(client, 503, "daemon_unavailable", retryAfter="1")

    def test_mistakes(self) -> None:
        """
        Exceptions of ours with canaries in their text: the traceback that is
        logged names places alone, and the client is told nothing of it (V7, P8).
        """
        for owner, name in ((chatDialect, "inquiryFromBody"), (Translation, "feed"), (Translation, "finish")):
            for stream in (True, False):
                world = self.secretive()
                mending = self.patch(owner, name, mistake)
                client = self.ask(world, {"say": "something"}, stream=stream)
                world.advance(1)
                mending.restore()
                self.assertEqual(world.ends, ["bug"])
                self.assertNotIn(b"canary", client.content)
                (event,) = [event for event in world.logged if "log_failure" in event]
                self.assertIn(" mistake", lineFromEvent(event))
                self.flushLoggedErrors(ValueError, Bug)


def mistake(*args: object, **kwargs: object) -> None:
    """
    Raise an exception that tells everything.
    """
    raise ValueError(*CANARIES)


class InjectionTests(FaultCase):
    """
    Control characters and formats in whatever a client or the daemon says
    (V6).
    """

    def test_eachEventIsOneLine(self) -> None:
        """
        Each line of the log is one object of plain JSON (V6).
        """
        output = RecordedOutput()
        observer = JSONLog(lambda: output)
        globalLogPublisher.addObserver(observer)
        self.addCleanup(globalLogPublisher.removeObserver, observer)
        world = World(self)
        world.ask("hello", model=NASTY)
        world.ask("hello", model=NASTY, stream=True, tools=[tool(NASTY)])
        for words in (NASTY, "API Error: 429 " + NASTY):
            world.script({"result_error": words})
            world.script({"say": NASTY}, {"result_error": words}, stream=True)
        world.script({"finish": {"finishReason": NASTY}}, {"raw": {"chi": NASTY}}, {"line": "\x1b\x00"})
        world.script({"raw": {"chi": "session-ready", "tools": [NASTY, "mcp__hum__" + NASTY]}})
        world.client().post({"model": NASTY, "messages": NASTY}, user_agent=NASTY.replace("\r\n", " "))
        for raw in (
            b"GET /\x1b[31m%0d%0a{log_source}%s HTTP/1.1\r\nHost: 127.0.0.1\r\nX-Request-Id: \x1b{0}\r\n\r\n",
            b"\x1b\x00 {log_source} %s\r\n\r\n",
            b"GET / HTTP/1.1\r\nHost: {log_source}\x1b\r\n\r\n",
        ):
            world.client().send(raw)
        world.daemon.faults.protoVersion = NASTY
        world.daemon.restart()
        world.advance(3)
        world.ask("hello", model=NASTY)
        world.advance(8)
        lines = output.getvalue().split("\n")[:-1]
        self.assertGreater(len(lines), 10)
        for line in lines:
            self.assertEqual(
                [c for c in line if unicodedata.category(c).startswith(("C", "Z")) and c != " "], []
            )
            self.assertIsInstance(json.loads(line), dict)
        models = {event["model"] for event in map(json.loads, lines) if "model" in event}
        self.assertEqual(models, {NASTY, "script"})
        self.assertTrue(any("speaks version" in line for line in lines))
