"""
Property tests for what parses the bytes of clients: L{openai_server.web.http},
L{openai_server.web.httprequest} and L{openai_server.web.body}.

However a client's bytes are cut into pieces, the answers are the same.
"""

from __future__ import annotations

import gzip
import re
from collections.abc import Sequence

from hypothesis import given, settings
from hypothesis import strategies as st

from openai_server.errors import APIError, End
from openai_server.web.http import LINE_BYTES, MAX_HEADERS
from openai_server.web.request import APIRequest
from tests.web.support import BODY_LIMIT, Asked, WebCase, Words, get, post
from tests.web.transports import WireTransport

_CHAT = b"POST /v1/chat/completions HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
_CHUNKED = _CHAT + b"Transfer-Encoding: chunked\r\n"
_INTERIM = re.compile(rb"HTTP/1.1 10[02] [A-Za-z]+\r\n\r\n")
_VARIABLE = re.compile(rb"(?:X-Request-Id|Openai-Processing-Ms|Date): [^\r]*\r\n")
_KEPT = re.compile(rb"Connection: (?:close|keep-alive)\r\n")

_UPGRADE = ("Connection: Upgrade, HTTP2-Settings", "Upgrade: h2c")
_UPGRADE_LINES = (_UPGRADE[0].encode(), _UPGRADE[1].encode())

#: Requests behind which the connection goes on.
GOOD = {
    "models": get(),
    "health": get("/healthz", "Connection: keep-alive"),
    "head": get("/healthz", method="HEAD"),
    "nothing": get("/nothing"),
    "method": get("/v1/chat/completions"),
    "preflight": get("/v1/models", method="OPTIONS"),
    "old": get("/healthz", "Connection: keep-alive", version="HTTP/1.0"),
    "upgrade": get("/healthz", *_UPGRADE),
    "upgradeLength": post("/v1/chat/completions", b"GET / HTTP/1.1\r\n\r\n", *_UPGRADE),
    "upgradeEmpty": post("/v1/chat/completions", b"", *_UPGRADE),
    "upgradeChunks": _CHUNKED + b"%b\r\n%b\r\n\r\n3\r\nabc\r\n0\r\nX-A: b\r\n\r\n" % _UPGRADE_LINES,
    "length": post(body=b'{"a": "0123456789"}'),
    "empty": post(body=b""),
    "expect": post("/v1/chat/completions", b'{"b":1}', "Expect: 100-continue"),
    "chunks": _CHUNKED + b"\r\n3\r\nabc\r\n2\r\nde\r\n0\r\n\r\n",
    "extended": _CHUNKED + b"\r\n3;n=v\r\nabc\r\nA\r\n0123456789\r\n0;last\r\n\r\n",
    "trailers": _CHUNKED + b"Trailer: X-A\r\n\r\n3\r\nabc\r\n0\r\nX-A: b\r\nHost: elsewhere\r\n\r\n",
    "awaited": _CHUNKED + b"Expect: 100-continue\r\n\r\n4\r\nabcd\r\n0\r\n\r\n",
    "packed": post("/v1/chat/completions", gzip.compress(b"abc" * 99), "Content-Encoding: gzip"),
}
#: Requests that are the last of their connection.
LAST = {
    "close": get("/healthz", "Connection: close"),
    "upgradeClose": post("/v1/chat/completions", b"{}", "Connection: Upgrade, close", "Upgrade: h2c"),
    "upgradeCoding": post("/v1/chat/completions", b"abc", "Content-Encoding: br", *_UPGRADE),
    "upgradeNothing": post("/v1/chat/completions", b"", "Content-Encoding: gzip", *_UPGRADE),
    "upgradeBroken": _CHUNKED + b"%b\r\n%b\r\n\r\n3\r\nabcdef\r\n0\r\n\r\n" % _UPGRADE_LINES,
    "connect": get("localhost:80", method="CONNECT"),
    "oldest": get("/healthz", version="HTTP/1.0"),
    "nonsense": b"NONSENSE\r\n\r\n",
    "hostless": b"GET / HTTP/1.1\r\n\r\n",
    "bareNewline": b"GET /healthz HTTP/1.1\nHost: localhost\n\n",
    "folded": get("/healthz", "X-A: b\r\n c"),
    "brokenChunk": _CHUNKED + b"\r\n3\r\nabcdef\r\n0\r\n\r\n",
    "brokenTrailer": _CHUNKED + b"\r\n3\r\nabc\r\n0\r\nX-A: b\n\r\n",
    "twoFramings": _CHUNKED + b"Content-Length: 5\r\n\r\n0\r\n\r\n",
    "identity": _CHAT + b"Transfer-Encoding: identity\r\n\r\n{}",
    "tooLarge": post(body=b"").replace(b"Length: 0", b"Length: %d" % (BODY_LIMIT + 1)),
    "expectation": post("/v1/chat/completions", b"{}", "Expect: miracles"),
    "unpackable": post("/v1/chat/completions", b"abc", "Content-Encoding: gzip"),
    "coding": post("/v1/chat/completions", b"abc", "Content-Encoding: br"),
}
#: Those that are too long to be cut at every byte.
LONG = {
    "longLine": get("/healthz", "X-A: " + "a" * LINE_BYTES),
    "longHead": get("/healthz", *(f"X-{number}: {'a' * 400}" for number in range(90))),
    "manyHeaders": get("/healthz", *(f"X-{number}: a" for number in range(MAX_HEADERS))),
    "manyTrailers": _CHUNKED + b"\r\n0\r\n" + b"X-A: b\r\n" * (MAX_HEADERS + 1) + b"\r\n",
}
ALL = {**GOOD, **LAST, **LONG}


class CutCase(WebCase):
    """
    A test in which chat completions are answered with their own bodies.
    """

    def setUp(self) -> None:
        super().setUp()
        self.chat.script = self.echo
        self.waiting: list[Asked] = []
        self.isLater = False

    def echo(self, asked: Asked) -> None:
        """
        Answer with the request's own body, now or later.
        """
        if self.isLater:
            self.waiting.append(asked)
        else:
            asked.answer.callback(asked.request.takeBody())

    def answersTo(
        self, pieces: Sequence[bytes], isLater: bool = False, halfCloses: bool = False
    ) -> tuple[bytes, bool]:
        """
        Return what a client gets that sends these pieces, without what differs
        each time, and whether the connection has ended.

        @param isLater: whether completions are answered when all was sent.
        @param halfCloses: whether the client closes its side when all was sent.
        """
        self.isLater = isLater
        wire = self.connect()
        for piece in pieces:
            wire.send(piece)
            wire.run()
        if halfCloses and wire.how is None:
            wire.protocol.readConnectionLost()  # type: ignore[attr-defined]
        while self.waiting:
            asked = self.waiting.pop(0)
            asked.answer.callback(asked.request.takeBody())
            wire.run()
        received = _INTERIM.sub(b"", wire.read())
        hasEnded = wire.finSent or wire.how is not None
        wire.leave()
        self.wires.remove(wire)
        return _VARIABLE.sub(b"", received), hasEnded


class CutTests(CutCase):
    """
    The same bytes, cut here or there.
    """

    def test_atEveryByte(self) -> None:
        """
        C37: one request in two pieces, or each byte alone, is answered as in one.
        """
        for name, data in {**GOOD, **LAST}.items():
            with self.subTest(name=name):
                whole = self.answersTo([data])
                self.assertEqual(whole[1], name in LAST)
                self.assertTrue(whole[0].startswith(b"HTTP/1.1 "))
                for at in range(1, len(data)):
                    self.assertEqual(self.answersTo([data[:at], data[at:]]), whole, at)
                self.assertEqual(self.answersTo([bytes([byte]) for byte in data]), whole)

    @settings(deadline=None, max_examples=150)
    @given(
        st.lists(st.sampled_from(sorted(GOOD)), min_size=1, max_size=5),
        st.sampled_from(["", *sorted({**LAST, **LONG})]),
        st.booleans(),
        st.booleans(),
        st.data(),
    )
    def test_pipelined(
        self, names: list[str], last: str, isLater: bool, halfCloses: bool, chosen: st.DataObject
    ) -> None:
        """
        Several requests in any pieces are answered like one after the other,
        whether their answers take time or not, and whether their client closes
        its side behind them or not.
        """
        requests = [ALL[name] for name in (*names, last) if name]
        data = b"".join(requests)
        cuts = sorted(chosen.draw(st.lists(st.integers(0, len(data)), max_size=8)))
        pieces = [data[at:end] for at, end in zip([0, *cuts], [*cuts, len(data)], strict=True)]
        alone = [self.answersTo([request]) for request in requests]
        expected = b"".join(received for received, _ in alone)
        # Whoever sends so much ahead is cut.
        isLater = isLater and last not in LONG
        received, hasEnded = self.answersTo([piece for piece in pieces if piece], isLater, halfCloses)
        if halfCloses:
            # The last answer may say so.
            received, expected = _KEPT.sub(b"", received), _KEPT.sub(b"", expected)
        self.assertEqual((received, hasEnded), (expected, halfCloses or alone[-1][1]))


class CountingOwner:
    """
    The owner of a stream, who counts what it is told.
    """

    def __init__(self) -> None:
        self.told: list[str] = []

    def clientGone(self, end: End) -> None:
        self.told.append("gone")

    def delivered(self, inGoodOrder: bool) -> None:
        self.told.append("delivered")


STEPS = ["small", "large", "finish", "fail", "cut", "leave", "halfClose", "read", "wait", "more", "abort"]


class OwnerTests(WebCase):
    """
    Whatever happens to a stream, and in whatever order.
    """

    @settings(deadline=None, max_examples=200)
    @given(st.lists(st.sampled_from(STEPS), max_size=10), st.booleans(), st.booleans(), st.booleans())
    def test_isToldOnce(self, steps: list[str], isOld: bool, isSmall: bool, isWhole: bool) -> None:
        """
        Its owner is told once how it went, one end is logged, and nothing is
        left of it. Whoever ends it with an error or aborts it knows that.
        """
        wire = self.connect(kernelSize=3000 if isSmall else 1 << 30)
        asked = self.begin(wire, post(version="HTTP/1.0" if isOld else "HTTP/1.1"))
        request, owner = asked.request, CountingOwner()
        request.owner = owner
        words = Words()
        words.ping, words.errorIsEnd = b":ping\n\n", isWhole
        request.begin(words, 5.0)
        for step in steps:
            self.take(step, request, wire)
        wire.read()
        if not (request.hasEnded or wire.how):
            request.complete(b"end")
        wire.read()
        wire.leave()
        self.wires.remove(wire)
        self.assertLessEqual(len(owner.told), 1)
        if not {"abort", "fail"} & set(steps):
            self.assertEqual(len(owner.told), 1)
        self.assertEqual([entry["requestId"] for entry in self.log()].count(request.requestId), 1)
        self.assertEqual((self.site.openResponses, self.clock.getDelayedCalls()), (0, []))

    def take(self, step: str, request: APIRequest, wire: WireTransport) -> None:
        """
        Do one of the steps, in so far as it can be done.
        """
        match step:
            case "small" | "large":
                request.write(b"s" if step == "small" else b"l" * 100_000)
            case "finish":
                request.complete(b"end")
            case "fail" | "cut":
                error = APIError("worker_error", "It failed.")
                request.fail(error) if step == "fail" else request.cut(error)
            case "leave":
                wire.leave()
            case "halfClose" if wire.isReading:
                wire.isReading = False
                wire.protocol.readConnectionLost()  # type: ignore[attr-defined]
            case "read":
                wire.read(5000)
            case "wait":
                self.clock.advance(6)
                wire.run()
            case "more":
                wire.send(get("/healthz"))
            case "abort":
                request.abort()
