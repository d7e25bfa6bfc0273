"""
Tests for L{openai_server.web.mounted}: the routes in a site of twisted.web's.
"""

from __future__ import annotations

import gzip
import json
from typing import Any

from treq.testing import StubTreq
from twisted.internet.address import IPv4Address
from twisted.internet.error import ConnectionLost
from twisted.web.resource import Resource
from twisted.web.server import Site

from openai_server.errors import APIError, End
from openai_server.web.mounted import MountedResource
from openai_server.web.sendqueue import STILL_BYTES
from tests.web.support import BODY_LIMIT, Asked, WebCase, get, post
from tests.web.transports import WireTransport

HEADERS = {"content-type": "application/json"}


class MountedCase(WebCase):
    """
    The routes below C{/openai} in a site of somebody else's.
    """

    def setUp(self) -> None:
        super().setUp()
        root = Resource()
        self.mounted = MountedResource(lambda: self.site)
        root.putChild(b"openai", self.mounted)
        self.root = root

    def assertNothingLeft(self) -> None:
        """
        Nobody stops the deadlines of a site that has no connections.
        """
        self.site.closeIdle()
        super().assertNothingLeft()


class TreqTests(MountedCase):
    """
    What treq sees.
    """

    def setUp(self) -> None:
        super().setUp()
        self.treq = StubTreq(self.root)

    def send(self, method: str, path: str, **kwargs: Any) -> Any:
        """
        Send a request and give its response, which may still be open.
        """
        asked = self.treq.request(method, f"http://localhost/openai{path}", **kwargs)
        self.treq.flush()
        return self.successResultOf(asked)

    def textOf(self, response: Any) -> bytes:
        """
        The whole body.
        """
        text = response.content()
        self.treq.flush()
        return bytes(self.successResultOf(text))

    def test_models(self) -> None:
        """
        A route answers with its headers, also one that has a variable.
        """
        response = self.send("GET", "/v1/models")
        self.assertEqual((response.code, json.loads(self.textOf(response))["object"]), (200, "list"))
        self.assertTrue(response.headers.hasHeader("x-request-id"))
        response = self.send("GET", "/v1/models/vendor%2Flarge")
        self.assertEqual(json.loads(self.textOf(response))["id"], "vendor/large")
        self.assertEqual(self.ends(), ["ok", "ok"])

    def test_errors(self) -> None:
        """
        Errors are OpenAI's: no path, a wrong method, a body that is too large.
        """
        for method, path, status, code in (
            ("GET", "/v1/nothing", 404, "unknown_url"),
            ("GET", "/v1/chat/completions", 405, "method_not_supported"),
        ):
            response = self.send(method, path)
            self.assertEqual(response.code, status)
            self.assertEqual(json.loads(self.textOf(response))["error"]["code"], code)

    def test_body(self) -> None:
        """
        The body comes decoded, and within its limit.
        """
        taken: list[bytes] = []

        def take(asked: Asked) -> None:
            taken.append(asked.request.takeBody())
            asked.answer.callback(b"{}")

        self.chat.script = take
        packed = {**HEADERS, "content-encoding": "gzip"}
        self.send("POST", "/v1/chat/completions", data=gzip.compress(b'{"a":1}'), headers=packed)
        self.assertEqual(taken, [b'{"a":1}'])
        large = self.send("POST", "/v1/chat/completions", data=b" " * (BODY_LIMIT + 1), headers=HEADERS)
        self.assertEqual((large.code, len(taken)), (413, 1))

    def test_stream(self) -> None:
        """
        Chunks come as they are written, and the stream ends well.
        """
        asking = self.treq.post("http://localhost/openai/v1/chat/completions", data=b"{}", headers=HEADERS)
        self.treq.flush()
        (asked,) = self.chat.asked
        stream = asked.stream()
        stream.write(b"data: 1\n\n")
        self.treq.flush()
        response: Any = self.successResultOf(asking)
        pieces: list[bytes] = []
        reading = response.collect(pieces.append)
        self.treq.flush()
        self.assertEqual(pieces, [b"data: 1\n\n"])
        self.assertEqual(response.headers.getRawHeaders("x-hum-session"), ["s1"])
        stream.write(b"data: 2\n\n")
        self.treq.flush()
        self.assertEqual(pieces[1:], [b"data: 2\n\n"])
        stream.finish()
        asked.answer.callback(None)
        self.treq.flush()
        self.successResultOf(reading)
        self.assertEqual(self.ends(), ["ok"])

    def test_errorBeforeTheFirstByte(self) -> None:
        """
        It is a status, with the headers that belong to it.
        """
        self.chat.script = lambda asked: asked.answer.errback(APIError("line_full", "Full.", retryAfter=3))
        response = self.send("POST", "/v1/chat/completions", data=b"{}", headers=HEADERS)
        self.assertEqual((response.code, response.headers.getRawHeaders("retry-after")), (429, ["3"]))
        self.assertEqual(self.ends(), ["shed"])

    def test_notServed(self) -> None:
        """
        Before the start and after the stop, and while it drains.
        """
        root = Resource()
        root.putChild(b"openai", MountedResource(lambda: None))
        self.treq = StubTreq(root)
        response = self.send("GET", "/v1/models")
        self.assertEqual((response.code, response.headers.getRawHeaders("retry-after")), (503, ["1"]))
        self.site.stopAccepting()
        self.treq = StubTreq(self.root)
        self.assertEqual(self.send("GET", "/v1/models").code, 503)


class WireTests(MountedCase):
    """
    What a connection shows.
    """

    def open(self, kernelSize: int = 1 << 30) -> WireTransport:
        """
        A connection of a plain site, on which a completion was asked for.
        """
        site = Site(self.root)
        channel: Any = site.buildProtocol(IPv4Address("TCP", "127.0.0.1", 50000))
        wire = WireTransport(channel, kernelSize)
        wire.send(post("/openai/v1/chat/completions"))
        self.addCleanup(self.site.closeIdle)
        self.addCleanup(wire.leave)
        return wire

    def test_clientLeaves(self) -> None:
        """
        The owner is told, and the work is cancelled.
        """
        wire = self.open()
        (asked,) = self.chat.asked
        asked.stream().write(b"data: 1\n\n")
        wire.leave(ConnectionLost())
        self.assertEqual((asked.gone, asked.wasCancelled), ([End.CLIENT_GONE], True))
        self.assertEqual(self.ends(), ["cl-gone"])

    def test_failedStream(self) -> None:
        """
        It has its error event and no end, and the connection is closed.
        """
        wire = self.open()
        (asked,) = self.chat.asked
        stream = asked.stream()
        stream.write(b"data: 1\n\n")
        stream.fail(b"data: error\n\n")
        received = wire.read()
        self.assertIn(b"data: error\n\n", received)
        self.assertFalse(received.endswith(b"0\r\n\r\n"))
        self.assertEqual((wire.how, self.ends()), ("closed", ["up-error"]))

    def test_failedStreamThatIsWhole(self) -> None:
        """
        It has its end where its error says all.
        """
        wire = self.open()
        (asked,) = self.chat.asked
        stream = asked.stream()
        stream.words.errorIsEnd = True
        stream.write(b"data: 1\n\n")
        stream.fail(b"data: error\n\n")
        received = wire.read()
        self.assertIn(b"data: error\n\n", received)
        self.assertTrue(received.endswith(b"0\r\n\r\n"))
        self.assertEqual(self.ends(), ["up-error"])

    def test_stuckClient(self) -> None:
        """
        A client that takes nothing is cut here, too.
        """
        wire = self.open(kernelSize=4096)
        (asked,) = self.chat.asked
        stream = asked.stream()
        stream.write(b"y" * STILL_BYTES)
        stream.write(b"z" * (2 * STILL_BYTES))
        wire.run()
        self.assertGreater(stream.queued, STILL_BYTES)
        self.clock.advance(10)
        wire.run()
        self.assertEqual((asked.gone, self.ends(), wire.how), ([End.CLIENT_STUCK], ["cl-stuck"], "aborted"))

    def test_keepAlive(self) -> None:
        """
        Silence is broken, until the end.
        """
        wire = self.open()
        (asked,) = self.chat.asked
        stream = asked.stream()
        stream.keepWarm(b"data: ping\n\n", 15)
        stream.write(b"data: 1\n\n")
        self.clock.advance(15)
        self.assertIn(b"data: ping", wire.read())
        stream.finish()
        self.clock.advance(30)
        self.assertTrue(wire.read().endswith(b"0\r\n\r\n"))
        wire.send(get("/openai/healthz"))
        self.assertIn(b'{"status":"ok"}', wire.read())
