"""
Tests for L{openai_server.web.http} and L{openai_server.web.request}: raw
bytes in, raw bytes out.
"""

from __future__ import annotations

import gzip
import os
import tracemalloc
import zlib
from functools import partial

from backports import zstd
from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.internet.address import UNIXAddress
from twisted.internet.error import ConnectionDone, ConnectionLost
from twisted.internet.testing import StringTransport
from twisted.python.failure import Failure

from openai_server.errors import APIError, End
from openai_server.web.body import PackedBody
from openai_server.web.bodybudget import BodyBudget
from openai_server.web.http import BODY_SECONDS
from openai_server.web.mistakes import Bug
from openai_server.web.sendqueue import SLICE
from tests.web.support import BODY_LIMIT, Answer, Asked, WebCase, answersIn, get, post
from tests.web.transports import WireTransport


def chunked(pieces: list[bytes], *headers: str) -> bytes:
    """
    A POST whose body comes in these chunks.
    """
    lines = ["POST /v1/chat/completions HTTP/1.1", "Host: localhost", "Content-Type: application/json"]
    head = "\r\n".join([*lines, "Transfer-Encoding: chunked", *headers]).encode() + b"\r\n\r\n"
    return head + b"".join(b"%x\r\n%b\r\n" % (len(piece), piece) for piece in pieces) + b"0\r\n\r\n"


class RefusalTests(WebCase):
    """
    What is no proper request gets a JSON error, and its connection an end.
    """

    def refusal(self, data: bytes, status: int) -> tuple[Answer, WireTransport]:
        """
        Send bytes that are refused, followed by a good request, which must
        never be answered.
        """
        wire = self.connect()
        wire.send(data + get("/healthz"))
        (answer,) = answersIn(wire.read())
        self.assertEqual((answer.status, answer.error["type"]), (status, "invalid_request_error"), data[:80])
        self.assertEqual(answer.header("connection"), "close")
        self.assertTrue(wire.finSent)
        return answer, wire

    def test_malformedRequestLines(self) -> None:
        """
        C10: a line that is none of HTTP/1.x's, or another protocol's, is 400.
        """
        for line in (
            b"GET",
            b"GET /",
            b"GET / HTTP/0.9",
            b"GET / HTTP/2.0",
            b"GET / HTTP/1.2",
            b"GET /a b HTTP/1.1",
            b" GET / HTTP/1.1",
            b"G@T / HTTP/1.1",
            b"GET /\x00 HTTP/1.1",
            b"PRI * HTTP/2.0",
            b"\xff\xfe",
        ):
            self.refusal(line + b"\r\nHost: localhost\r\n\r\n", 400)

    def test_tlsToPlainPort(self) -> None:
        """
        C10: a TLS greeting is no HTTP, and refused at once without a traceback.
        """
        wire = self.connect()
        wire.send(b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(32))
        (answer,) = answersIn(wire.read())
        self.assertEqual(answer.status, 400)

    def test_tooLargeHead(self) -> None:
        """
        C9: a line beyond 16 KiB, more than 100 headers, and a head beyond
        32 KiB in all are 431.
        """
        long = b"X-A: " + b"a" * (17 * 1024) + b"\r\n"
        many = b"".join(b"X-%d: 1\r\n" % number for number in range(101))
        total = b"".join(b"X-%d: %b\r\n" % (number, b"a" * 1000) for number in range(34))
        for headers in (long, many, total):
            answer, _ = self.refusal(b"GET / HTTP/1.1\r\nHost: localhost\r\n" + headers + b"\r\n", 431)
            self.assertIsNone(answer.error["code"])
        self.refusal(b"GET /" + b"a" * 20000 + b" HTTP/1.1\r\nHost: localhost\r\n\r\n", 431)

    def test_endlessLineIsRefusedBeforeItEnds(self) -> None:
        """
        C9: nobody waits for the end of a line that is too long already.
        """
        wire = self.connect()
        wire.send(b"GET / HTTP/1.1\r\nX-A: " + b"a" * 33000)
        self.assertEqual([answer.status for answer in answersIn(wire.read())], [431])

    def test_tooLargeHeadOfHEAD(self) -> None:
        """
        Its answer has no body.
        """
        wire = self.connect()
        wire.send(get("/", "X-A: " + "a" * 20_000, method="HEAD"))
        head, _, body = wire.read().partition(b"\r\n\r\n")
        self.assertEqual((head[:12], body), (b"HTTP/1.1 431", b""))

    def test_hundredHeadersAreFine(self) -> None:
        """
        C9: the limits themselves are allowed.
        """
        headers = [f"X-{number}: 1" for number in range(99)]
        self.assertEqual(self.ask(get("/healthz", *headers)).status, 200)

    def test_keyOfAMegabyte(self) -> None:
        """
        C18: a key of 1 MB does not fit into a head, and is not echoed.
        """
        answer, _ = self.refusal(get("/v1/models", "Authorization: Bearer " + "k" * 1_000_000), 431)
        self.assertNotIn(b"kkk", answer.body)

    def test_hostHeaders(self) -> None:
        """
        C13: none, two, or one that is no host: 400.
        """
        for headers in (
            b"",
            b"Host: localhost\r\nHost: localhost\r\n",
            b"Host:\r\n",
            b"Host: a b\r\n",
            b"Host: a..b\r\n",
            b"Host: localhost:port\r\n",
            b"Host: local/host\r\n",
            b"Host: user@localhost\r\n",
            b"Host: [::1\r\n",
            b"Host: \xff\r\n",
            b"Host: " + b"a" * 64 + b"\r\n",
        ):
            self.refusal(b"GET /healthz HTTP/1.1\r\n" + headers + b"\r\n", 400)

    def test_targetsThatAreNoPaths(self) -> None:
        """
        C21, C33: absolute-form, authority-form (CONNECT) and C{OPTIONS *} are
        400, never a tunnel.
        """
        for line in (
            b"GET http://localhost/v1/models",
            b"CONNECT example.com:443",
            b"OPTIONS *",
            b"GET *",
            b"GET v1/models",
        ):
            self.refusal(line + b" HTTP/1.1\r\nHost: localhost\r\n\r\n", 400)

    def test_transferEncodings(self) -> None:
        """
        C33: an encoding that nobody here decodes is 400.
        """
        for value in ("gzip", "chunked, gzip", "gzip, chunked", "x"):
            data = f"POST /v1/models HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: {value}\r\n\r\n"
            self.refusal(data.encode(), 400)

    def test_expectations(self) -> None:
        """
        C33: any expectation but 100-continue is 417.
        """
        self.refusal(get("/healthz", "Expect: a-miracle"), 417)

    def test_hugeContentLength(self) -> None:
        """
        C12: a number of 5000 digits is 400 and no traceback.
        """
        length = b"Content-Length: " + b"9" * 5000
        self.refusal(b"POST /v1/models HTTP/1.1\r\nHost: localhost\r\n" + length + b"\r\n\r\n", 400)

    def test_twoLengths(self) -> None:
        """
        C11: two lengths, equal or not, and one beside chunked coding: nobody
        can say where the next request begins.
        """
        length, other, coding = "Content-Length: 2", "Content-Length: 3", "Transfer-Encoding: chunked"
        for headers in (
            (length, other),
            (length, length),
            ("Content-Length: 2, 2",),
            (length, coding),
            (coding, length),
            (coding, coding),
        ):
            head = "\r\n".join(("POST /v1/models HTTP/1.1", "Host: localhost", *headers))
            self.refusal(head.encode() + b"\r\n\r\n{}", 400)

    def test_brokenChunks(self) -> None:
        """
        A body that is not chunked as it says is 400.
        """
        self.refusal(chunked([]).removesuffix(b"0\r\n\r\n") + b"zz\r\n", 400)

    def test_contentEncodings(self) -> None:
        """
        Gzip, deflate and zstd are decoded; what else a body is packed in is named in a 415.
        """
        for encoding in ("br", "gzip, gzip", "compress"):
            answer, _ = self.refusal(post("/v1/models", b"{}", f"Content-Encoding: {encoding}"), 415)
            self.assertEqual(answer.error["code"], "unsupported_content_encoding")
            self.assertIn(encoding.replace(" ", "")[:4], answer.error["message"])

    def test_eachIsLoggedOnce(self) -> None:
        """
        I1: a refused request has one end, C{bad}.
        """
        self.refusal(b"GET\r\n", 400)
        self.refusal(get("/", "Expect: x"), 417)
        self.assertEqual(self.ends(), ["bad", "bad"])
        self.assertEqual([event["method"] for event in self.log()], ["other", "GET"])

    def test_nothingIsParsedAfterARefusal(self) -> None:
        """
        C11: what follows on the connection is thrown away, at once and later.
        """
        _, wire = self.refusal(b"NONSENSE\r\n\r\n", 400)
        wire.send(get("/healthz"))
        wire.send(b"a" * 20000)
        self.assertEqual(wire.read(), b"")

    def test_withoutHalfCloseTheConnectionIsLost(self) -> None:
        """
        A transport that cannot end one direction alone is closed politely.
        """
        channel = self.site.buildProtocol(None)
        transport = StringTransport()
        channel.makeConnection(transport)
        channel.dataReceived(b"NONSENSE\r\n\r\n")
        self.assertTrue(transport.disconnecting)
        self.assertEqual(answersIn(transport.value())[0].status, 400)
        channel.connectionLost(Failure(ConnectionDone()))

    @settings(deadline=None, max_examples=150)
    @given(st.binary(max_size=200), st.booleans())
    def test_anyBytes(self, data: bytes, hasLine: bool) -> None:
        """
        C10: whatever arrives, nothing raises and no HTML comes back.
        """
        wire = self.connect()
        wire.send((b"GET / HTTP/1.1\r\n" if hasLine else b"") + data + b"\r\n\r\n")
        self.assertNotIn(b"<", wire.read())
        wire.leave()
        self.wires.remove(wire)


class LargeBodyTests(WebCase):
    """
    Bodies beyond the cap are refused before they are stored, and their
    senders can read why.
    """

    def test_contentLengthOverTheCap(self) -> None:
        """
        C5: the head alone is enough for a 413; nobody is told to continue.
        """
        wire = self.connect()
        head = post("/v1/chat/completions", b"").replace(b"Length: 0", b"Length: %d" % (BODY_LIMIT + 1))
        wire.send(head.replace(b"\r\n\r\n", b"\r\nExpect: 100-continue\r\n\r\n"))
        received = wire.read()
        self.assertTrue(received.startswith(b"HTTP/1.1 413"))
        (answer,) = answersIn(received)
        self.assertEqual(answer.error["code"], "request_too_large")
        self.assertEqual(answer.header("connection"), "close")

    def refused(self) -> WireTransport:
        """
        A connection on which a 413 has just been sent.
        """
        wire = self.connect()
        wire.send(post("/v1/models", b"").replace(b"Length: 0", b"Length: 99999999"))
        wire.read()
        return wire

    def test_senderMayGoOnForAWhile(self) -> None:
        """
        C5: our side ends, theirs is read and thrown away, so that the answer
        is not lost in a reset.
        """
        wire = self.refused()
        self.assertTrue(wire.finSent)
        for _ in range(16):
            wire.send(b"a" * 65536)
        self.clock.advance(1.9)
        wire.run()
        self.assertIsNone(wire.how)
        wire.leave(ConnectionDone())
        self.assertEqual(self.ends(), ["bad"])

    def test_senderWhoDoesNotStopIsCut(self) -> None:
        """
        C5: after 1 MiB, or after two seconds.
        """
        wire = self.refused()
        for _ in range(17):
            wire.send(b"a" * 65536)
        wire.run()
        self.assertEqual(wire.how, "aborted")
        wire = self.refused()
        self.clock.advance(2)
        wire.run()
        self.assertEqual(wire.how, "aborted")

    def test_chunksOverTheCap(self) -> None:
        """
        C6: chunks are counted while they arrive; after the cap nothing is
        kept.
        """
        wire = self.connect()
        piece = b"a" * 65536
        wire.send(chunked([]).removesuffix(b"0\r\n\r\n"))
        for _ in range(BODY_LIMIT // 65536):
            wire.send(b"10000\r\n" + piece + b"\r\n")
        self.assertEqual(wire.unsent, b"")
        wire.send(b"10000\r\n" + piece + b"\r\n")
        (answer,) = answersIn(wire.read())
        self.assertEqual((answer.status, answer.error["code"]), (413, "request_too_large"))

    def test_allChunksInOneRead(self) -> None:
        """
        C6: the same when the decoder has more chunks at hand, and the last.
        """
        pieces = [b"a" * 400_000] * 4
        self.assertEqual([answer.status for answer in self.exchange(chunked(pieces))], [413])

    def test_manyLargeOnesAtOnce(self) -> None:
        """
        C34: the piece that is too much for all bodies together is 503, and when
        to come again; bodies that are complete or given up count no longer.
        """
        self.site.bodyBudget = budget = BodyBudget(100_000, 1)
        whole = post("/v1/chat/completions", b"x" * 90_000)
        first, second, third = (self.connect() for _ in range(3))
        for part in (whole[:30_000], whole[30_000:60_000]):
            first.send(part)
        for part in (whole[:30_000], whole[30_000:60_000]):
            second.send(part)
        (answer,) = answersIn(second.read())
        self.assertEqual((answer.status, answer.header("retry-after")), (503, "2"))
        first.send(whole[60_000:])
        (asked,) = self.chat.asked
        self.assertEqual(budget.held, 0)
        third.send(whole[:30_000])
        third.send(whole[30_000:60_000])
        self.assertGreater(budget.held, 0)
        third.leave()
        self.assertEqual(budget.held, 0)
        asked.answer.callback(b"{}")

    def test_exactlyTheCap(self) -> None:
        """
        C7: the cap itself is served, and kept in memory.
        """
        for data in (post("/v1/chat/completions", b"a" * BODY_LIMIT), chunked([b"a" * BODY_LIMIT])):
            before = len(os.listdir("/proc/self/fd")) if os.path.isdir("/proc/self/fd") else 0
            asked = self.begin(self.connect(), data)
            if before:
                self.assertEqual(len(os.listdir("/proc/self/fd")), before)
            self.assertEqual(asked.request.takeBody(), b"a" * BODY_LIMIT)

    def test_manyTinyChunks(self) -> None:
        """
        C8: a body of nothing but one-byte chunks is refused long before all
        of them are decoded.
        """
        wire = self.connect()
        wire.send(chunked([]).removesuffix(b"0\r\n\r\n"))
        sent = 0
        while not wire.unsent and sent < 200_000:
            wire.send(b"1\r\na\r\n" * 1000)
            sent += 1000
        self.assertEqual(sent, 11_000)
        self.assertEqual(answersIn(wire.read())[0].status, 400)

    def test_someTinyChunksAreFine(self) -> None:
        """
        C8: a client that sends a kilobyte letter by letter is served.
        """
        asked = self.begin(self.connect(), chunked([b"a"] * 1000))
        self.assertEqual(asked.request.takeBody(), b"a" * 1000)

    def test_continueIsSaid(self) -> None:
        """
        A client that waits for it is told to go on, and only then.
        """
        wire = self.connect()
        head, body = post("/v1/chat/completions", b"{}", "Expect: 100-continue").split(b"\r\n\r\n")
        wire.send(head + b"\r\n\r\n")
        self.assertEqual(wire.read(), b"HTTP/1.1 100 Continue\r\n\r\n")
        self.begin(wire, body)

    def test_continueIsSaidBehindAnotherAnswer(self) -> None:
        """
        Also when the head came together with an earlier request.
        """
        for isLater in (False, True):
            wire = self.connect()
            head, body = post("/v1/chat/completions", b"{}", "Expect: 100-continue").split(b"\r\n\r\n")
            wire.send((post() if isLater else get("/healthz")) + head + b"\r\n\r\n")
            if isLater:
                self.assertEqual(wire.read(), b"")
                self.chat.asked[-1].answer.callback(b"{}")
            self.assertTrue(wire.read().endswith(b"}HTTP/1.1 100 Continue\r\n\r\n"))
            self.begin(wire, body)

    def test_continueIsNotSaidForWhatIsThere(self) -> None:
        """
        A body that came with its head is waited for by nobody.
        """
        wire = self.connect()
        wire.send(post("/v1/chat/completions", b"{}", "Expect: 100-continue"))
        self.assertEqual(wire.read(), b"")


class MistakeTests(WebCase):
    """
    Mistakes of ours while a request is read.
    """

    def test_isNotTheClients(self) -> None:
        """
        The log says where it was made, and the client that it was ours.
        """
        self.site.bodyBudget = None  # type: ignore[assignment]
        answer = self.ask(post("/v1/chat/completions", gzip.compress(b"{}"), "Content-Encoding: gzip"))
        self.assertEqual((answer.status, answer.error["code"]), (500, "internal_error"))
        self.assertEqual(answer.header("connection"), "close")
        self.assertEqual(len(self.flushLoggedErrors(Bug)), 1)


class GzipTests(WebCase):
    """
    Compressed bodies.
    """

    def test_isDecoded(self) -> None:
        """
        However it is cut into pieces.
        """
        packed = gzip.compress(b'{"a":1}' * 1000)
        pieces = [packed[at : at + 7] for at in range(0, len(packed), 7)]
        asked = self.begin(self.connect(), chunked(pieces, "Content-Encoding: gzip"))
        self.assertEqual(asked.request.takeBody(), b'{"a":1}' * 1000)

    def test_decodedSizeIsCapped(self) -> None:
        """
        C5: a small body that swells beyond the cap is 413.
        """
        packed = gzip.compress(bytes(BODY_LIMIT + 1))
        self.assertLess(len(packed), 5000)
        answer = self.ask(post("/v1/models", packed, "Content-Encoding: gzip"))
        self.assertEqual((answer.status, answer.error["code"]), (413, "request_too_large"))

    def test_bombIsNotUnpacked(self) -> None:
        """
        C5: no more than the limit is ever decoded.
        """
        bomb = gzip.compress(bytes(50_000_000))
        body = PackedBody(1000, "gzip")
        tracemalloc.start()
        self.addCleanup(tracemalloc.stop)
        self.assertRaises(APIError, body.write, bomb)
        self.assertLess(tracemalloc.get_traced_memory()[1], 1_000_000)

    def test_decodedCapItself(self) -> None:
        """
        A body that swells to the cap exactly is served.
        """
        packed = gzip.compress(bytes(BODY_LIMIT))
        self.begin(self.connect(), post("/v1/chat/completions", packed, "Content-Encoding: GZip"))

    def test_brokenData(self) -> None:
        """
        Not gzip, cut off, or followed by something else: 400.
        """
        packed = gzip.compress(b"{}" * 100)
        for body in (b"nonsense", packed[:-1], packed + b"x", b""):
            answer = self.ask(post("/v1/models", body, "Content-Encoding: gzip"))
            self.assertEqual(answer.status, 400, body)


class ConnectionTests(WebCase):
    """
    What a connection does between requests.
    """

    def test_leavesInMidHead(self) -> None:
        """
        C4: a client that goes before its request is complete leaves no trace,
        at whatever byte and however it goes.
        """
        data = post("/v1/chat/completions", b'{"model":"echo"}')
        for at in range(len(data)):
            wire = self.connect()
            wire.send(data[:at])
            wire.leave(ConnectionDone() if at % 2 else ConnectionLost())
        self.assertEqual(self.chat.asked, [])
        self.assertEqual([event for event in self.events if event["log_level"].name != "debug"], [])

    def test_oneByteAtATime(self) -> None:
        """
        A request may arrive in any pieces.
        """
        wire = self.connect()
        for byte in post():
            wire.send(bytes([byte]))
        self.assertEqual(len(self.chat.asked), 1)

    def test_headAndBodyLeaveInOneWrite(self) -> None:
        """
        An answer costs one write.
        """
        wire = self.connect()
        wire.send(get())
        self.assertEqual(len(wire.writes), 1)
        self.assertTrue(wire.noDelay)

    def test_http10(self) -> None:
        """
        C31: HTTP/1.0 works, without a Host header too; the connection's end
        is the answer's.
        """
        for data in (get("/healthz", version="HTTP/1.0"), b"GET /healthz HTTP/1.0\r\n\r\n"):
            wire = self.connect()
            wire.send(data)
            (answer,) = answersIn(wire.read())
            self.assertEqual((answer.status, wire.how), (200, "closed"))

    def test_http10OnAUnixSocket(self) -> None:
        """
        C31: also where the server has no host name.
        """
        answer = self.ask(b"GET /healthz HTTP/1.0\r\n\r\n", UNIXAddress("/run/openai.sock"))
        self.assertEqual(answer.status, 200)

    def test_nextRequestAfterEachError(self) -> None:
        """
        C32: after an error the next request is served, or the connection was
        closed; the answers never mix.
        """
        for first, status in (
            (get("/nowhere"), 404),
            (get("/v1/models", method="DELETE"), 405),
            (get("/v1/embeddings"), 404),
            (get("//"), 404),
            (get("/v1/models", "Origin: http://evil.example"), 403),
            (post("/v1/chat/completions", b"x").replace(b"application/json", b"text/plain"), 415),
            (post("/v1/models", b"x" * 10, "Content-Encoding: br"), 415),
            (post("/v1/models", b"not gzip", "Content-Encoding: gzip"), 400),
            (get("/", "Expect: x"), 417),
            (b"NONSENSE\r\n\r\n", 400),
        ):
            wire = self.connect()
            wire.send(first)
            (answer,) = answersIn(wire.read())
            wire.send(get("/healthz"))
            rest = answersIn(wire.read())
            self.assertEqual(answer.status, status, first)
            if answer.header("connection") == "close":
                self.assertEqual(rest, [])
            else:
                self.assertEqual([(after.status, after.body) for after in rest], [(200, b'{"status":"ok"}')])

    def test_requestAfterOurClose(self) -> None:
        """
        K18: after an answer that ended the connection, nothing is read.
        """
        wire = self.connect()
        wire.send(get("/healthz", "Connection: close") + get("/healthz"))
        wire.send(get("/healthz"))
        answers = answersIn(wire.read())
        self.assertEqual([answer.header("connection") for answer in answers], ["close"])
        self.assertEqual(wire.how, "closed")

    def test_upgradesAreIgnored(self) -> None:
        """
        C33: WebSocket and h2c get a plain answer; TRACE is 405.
        """
        for upgrade in ("websocket", "h2c"):
            headers = (f"Upgrade: {upgrade}", "Connection: Upgrade", "HTTP2-Settings: AAMAAABk")
            self.assertEqual(self.ask(get("/v1/models", *headers)).status, 200)
        answer = self.ask(get("/v1/models", method="TRACE"))
        self.assertEqual((answer.status, answer.error["code"]), (405, "method_not_supported"))

    def test_bodyOfAnUpgrade(self) -> None:
        """
        C38: it is the request's, also where it looks like another one: Java's
        client asks for h2c with each POST.
        """
        upgrade = ("Upgrade: h2c", "Connection: Upgrade, HTTP2-Settings", "HTTP2-Settings: AAMAAABk")
        body = get("/healthz") * 900
        for data in (post("/v1/chat/completions", body, *upgrade), chunked([body, body], *upgrade)):
            asked = self.begin(self.connect(), data)
            self.assertEqual(asked.request.takeBody().replace(body, b""), b"")
        self.assertEqual(len(self.chat.asked), 2)

    def test_whatFollowsAnUpgradeInTheSameRead(self) -> None:
        """
        Is answered as behind any other request, however much it is.
        """
        body = b"b" * 20_000
        upgrade = ("Upgrade: h2c", "Connection: Upgrade")
        wire = self.connect()
        asked = self.begin(wire, get("/healthz", *upgrade) + post("/v1/chat/completions", body, *upgrade))
        asked.answer.callback(asked.request.takeBody())
        answers = answersIn(wire.read())
        self.assertEqual([answer.body for answer in answers], [b'{"status":"ok"}', body])

    def test_idleConnectionIsClosed(self) -> None:
        """
        A connection without a request is closed after 75 s.
        """
        wire = self.connect()
        wire.send(get("/healthz"))
        self.clock.advance(74)
        wire.run()
        self.assertIsNone(wire.how)
        self.clock.advance(1)
        wire.run()
        self.assertEqual(wire.how, "closed")

    def test_waitingRequestIsNotIdle(self) -> None:
        """
        A request may take as long as it likes.
        """
        wire = self.connect()
        self.begin(wire)
        self.clock.advance(3000)
        wire.run()
        self.assertIsNone(wire.how)


class RequestIdTests(WebCase):
    """
    Every answer has an id and a time.
    """

    def test_clientsIdIsKept(self) -> None:
        """
        Either header will do.
        """
        for header, given_ in (("x-request-id", "abc-DEF_1.2:3"), ("X-Client-Request-Id", "z" * 128)):
            answer = self.ask(get("/healthz", f"{header}: {given_}"))
            self.assertEqual(answer.header("x-request-id"), given_)

    def test_harmfulIdIsReplaced(self) -> None:
        """
        V6: an id that is too long or has other characters is not taken.
        """
        for given_ in ("a" * 129, "a b", 'a"b', "a{log_source}", "\x1b[2J", "é"):
            answer = self.ask(get("/healthz", f"x-request-id: {given_}"))
            self.assertRegex(answer.header("x-request-id") or "", r"\Areq_[0-9a-f]{24}\Z")

    def test_timeIsTold(self) -> None:
        """
        Milliseconds from the head of the request to the head of the answer.
        """
        wire = self.connect()
        asked = self.begin(wire)
        self.clock.advance(1.25)
        asked.answer.callback(b"{}")
        (answer,) = answersIn(wire.read())
        self.assertEqual(answer.header("openai-processing-ms"), "1250")


class PackedTests(WebCase):
    """
    Bodies in deflate and zstd.
    """

    def test_areDecoded(self) -> None:
        """
        Whole and in pieces.
        """
        body = b'{"a":1}' * 50_000
        for encoding, packed in (("deflate", zlib.compress(body)), ("zstd", zstd.compress(body))):
            pieces = [packed[at : at + 100] for at in range(0, len(packed), 100)]
            for data in (
                post("/v1/chat/completions", packed, f"Content-Encoding: {encoding}"),
                chunked(pieces, f"Content-Encoding: {encoding}"),
            ):
                asked = self.begin(self.connect(), data)
                self.assertEqual(asked.request.takeBody(), body)

    def test_broken(self) -> None:
        """
        Cut off, followed by something, or nonsense: 400.
        """
        for encoding, packed in (("deflate", zlib.compress(b"{}")), ("zstd", zstd.compress(b"{}"))):
            for body in (b"nonsense", packed[:-1], packed + b"x", b""):
                answer = self.ask(post("/v1/models", body, f"Content-Encoding: {encoding}"))
                self.assertEqual(answer.status, 400, (encoding, body))

    def test_bombs(self) -> None:
        """
        C5: nothing beyond the cap is unpacked.
        """
        bomb = bytes(50_000_000)
        for encoding, packed in (("deflate", zlib.compress(bomb)), ("zstd", zstd.compress(bomb))):
            answer = self.ask(post("/v1/models", packed, f"Content-Encoding: {encoding}"))
            self.assertEqual((answer.status, answer.error["code"]), (413, "request_too_large"))


class DeadlineTests(WebCase):
    """
    Slow senders, and connections beyond the cap.
    """

    def test_slowHead(self) -> None:
        """
        Ten seconds from its first byte, however steadily it drips.
        """
        wire = self.connect()
        for byte in b"GET / HTTP":
            wire.send(bytes([byte]))
            self.clock.advance(0.99)
        self.assertEqual(wire.read(), b"")
        self.clock.advance(0.2)
        (answer,) = answersIn(wire.read())
        self.assertEqual((answer.status, self.ends()), (408, ["cl-slow"]))

    def test_bodyWithoutProgress(self) -> None:
        """
        Thirty seconds of silence in the midst of a body.
        """
        wire = self.connect()
        wire.send(post(body=b"{}")[:-1])
        self.clock.advance(29)
        self.assertEqual(wire.read(), b"")
        self.clock.advance(1)
        (answer,) = answersIn(wire.read())
        self.assertEqual((answer.status, self.ends()), (408, ["cl-slow"]))

    def test_bodyBehindALongAnswer(self) -> None:
        """
        The time in which nothing of it was read is not counted.
        """
        wire = self.connect()
        body = post(body=b"{}")
        asked = self.begin(wire, post() + body[:-1])
        self.clock.advance(BODY_SECONDS + 1)
        asked.answer.callback(b"{}")
        self.clock.advance(1)
        self.begin(wire, body[-1:])

    def test_bodyThatDrips(self) -> None:
        """
        Three hundred seconds in all, whatever comes.
        """
        wire = self.connect()
        wire.send(post(body=b" " * 1000)[:-1000])
        received = b""
        while not received:
            self.assertLessEqual(self.clock.seconds(), 330)
            wire.send(b" ")
            self.clock.advance(10)
            received = wire.read()
        (answer,) = answersIn(received)
        self.assertEqual((answer.status, self.ends()), (408, ["cl-slow"]))

    def test_trailerThatNeverEnds(self) -> None:
        """
        C9: what comes behind the last chunk is no body, and is not kept.
        """
        head = chunked([b"{}"]).removesuffix(b"\r\n")
        for piece in (b"a" * 4096, b"X-T: 1\r\n" * 500):
            wire = self.connect()
            wire.send(head + b"X-T: ")
            sent = 0
            while not (received := wire.read()):
                self.assertLess(sent, 128 * 1024)
                wire.send(piece)
                sent += len(piece)
            self.assertEqual([answer.status for answer in answersIn(received)], [400])

    def test_twoNewcomersAtOnce(self) -> None:
        """
        Each of them has an idle connection make place for it.
        """
        self.site.maxConnections = 2
        idle = [self.connect(), self.connect()]
        self.connect()
        self.connect()
        for wire in idle:
            wire.run()
        self.assertEqual([wire.how for wire in idle], ["aborted", "aborted"])

    def test_connectionsBeyondTheCap(self) -> None:
        """
        An idle one makes place; when all are busy the new one is turned away.
        """
        self.site.maxConnections = 2
        busy, idle = self.connect(), self.connect()
        self.begin(busy)
        third = self.connect()
        idle.run()
        self.assertEqual(idle.how, "aborted")
        self.begin(third)
        self.assertIsNone(self.site.buildProtocol(None))
        for asked in self.chat.asked:
            asked.answer.callback(b"{}")

    def test_portsWait(self) -> None:
        """
        When all are busy nobody is let in until one of them is answered.
        """
        states: list[str] = []

        class Port:
            pauseProducing = partial(states.append, "waits")
            resumeProducing = partial(states.append, "listens")

        self.site.portsOpened([Port()])  # type: ignore[list-item]
        self.site.maxConnections = 2
        first, second = self.connect(), self.connect()
        asked = self.begin(first)
        self.assertEqual(states, [])
        self.begin(second)
        self.assertEqual(states, ["waits"])
        asked.answer.callback(b"{}")
        self.assertEqual(states, ["waits", "listens"])
        third = self.connect()
        first.run()
        self.assertEqual(first.how, "aborted")
        self.begin(third)
        self.assertEqual(states, ["waits", "listens", "waits"])
        second.leave()
        self.assertEqual(states, ["waits", "listens"] * 2)


class HalfCloseTests(WebCase):
    """
    A client that closes its side after the request.
    """

    def test_isAnsweredInFull(self) -> None:
        """
        It gets its answer, with nothing but interim responses before it, and
        then the end of the connection.
        """
        wire = self.connect()
        asked = self.begin(wire)
        asked.request.channel.readConnectionLost()
        self.clock.advance(1)
        asked.answer.callback(b'{"a":1}')
        received = wire.read()
        self.assertEqual(received.count(b"HTTP/1.1 102 Processing\r\n\r\n"), 2)
        self.assertTrue(received.endswith(b'{"a":1}'))
        self.assertEqual((wire.how, self.ends()), ("closed", ["ok"]))

    def test_isSeenToBeGone(self) -> None:
        """
        What is written to show that we are there is refused: the client left.
        """
        wire = self.connect()
        asked = self.begin(wire)
        asked.request.channel.readConnectionLost()
        wire.leave()
        self.assertEqual((asked.wasCancelled, self.ends()), (True, ["cl-gone"]))

    def test_betweenRequests(self) -> None:
        """
        Nothing is owed: the connection is closed.
        """
        wire = self.connect()
        wire.send(get("/healthz"))
        wire.protocol.readConnectionLost()  # type: ignore[attr-defined]
        wire.read()
        self.assertEqual(wire.how, "closed")


    def test_severalSentAhead(self) -> None:
        """
        C39: all are answered, and the last answer says that it is the last.
        """
        wire = self.connect()
        wire.send(post() + get("/healthz"))
        wire.send(post())
        wire.protocol.readConnectionLost()  # type: ignore[attr-defined]
        for asked in self.chat.asked:
            asked.answer.callback(b"{}")
            wire.run()
        answers = answersIn(wire.read().replace(b"HTTP/1.1 102 Processing\r\n\r\n", b""))
        self.assertEqual([answer.header("connection") for answer in answers], [None, None, "close"])
        self.assertEqual((wire.how, self.ends()), ("closed", ["ok"] * 3))

    def test_lastOneByItsOwnWord(self) -> None:
        """
        What follows a request that was said to be the last is not answered.
        """
        for said in ((), ("Upgrade: h2c", "Connection: Upgrade")):
            wire = self.connect()
            asked = self.begin(wire, post("/v1/chat/completions", b"{}", "Connection: close", *said) + get())
            wire.protocol.readConnectionLost()  # type: ignore[attr-defined]
            asked.answer.callback(b"{}")
            (answer,) = answersIn(wire.read().replace(b"HTTP/1.1 102 Processing\r\n\r\n", b""))
            self.assertEqual((answer.header("connection"), wire.how), ("close", "closed"))

    def test_halfARequestBehindIt(self) -> None:
        """
        It never becomes whole: what came before is answered, and then closed.
        """
        for half in (get()[:20], post(body=b"{}")[:-1]):
            for isTogether in (False, True):
                wire = self.connect()
                for piece in [post() + half] if isTogether else [post(), half]:
                    wire.send(piece)
                wire.protocol.readConnectionLost()  # type: ignore[attr-defined]
                wire.run()
                self.chat.asked[-1].answer.callback(b"{}")
                self.assertEqual(wire.read().count(b"HTTP/1.1 200 OK"), 1)
                self.assertEqual(wire.how, "closed")


class Owned:
    """
    The owner of a request, who notes what it is told.
    """

    def __init__(self) -> None:
        self.told: list[bool] = []

    def clientGone(self, end: End) -> None:
        raise AssertionError(end)

    def delivered(self, inGoodOrder: bool) -> None:
        self.told.append(inGoodOrder)


class DeliveryTests(WebCase):
    """
    When an answer counts as delivered.
    """

    def test_notWhileSomeOfItIsUnsent(self) -> None:
        """
        What the client sends meanwhile does not show that it has the answer.
        """
        wire = self.connect(kernelSize=1000)
        asked, owner = self.begin(wire), Owned()
        asked.request.owner = owner
        asked.answer.callback(b"z" * SLICE)
        wire.send(b"GET /healthz HTTP/1.1\r\n")
        self.assertEqual(owner.told, [])
        wire.read()
        wire.send(b"Host: localhost\r\n\r\n")
        self.assertEqual(owner.told, [True])

    def test_lostWithSomeOfItUnsent(self) -> None:
        """
        Nor does the end of the connection, in whatever order.
        """
        wire = self.connect(kernelSize=1000)
        asked, owner = self.begin(wire), Owned()
        asked.request.owner = owner
        asked.answer.callback(b"z" * SLICE)
        wire.leave(ConnectionDone())
        self.assertEqual(owner.told, [False])

    def test_eachOfSeveralSentAhead(self) -> None:
        """
        Every owner is told, also when no byte comes between two answers.
        """
        owners = [Owned(), Owned()]

        def own(asked: Asked) -> None:
            asked.request.owner = owners[len(self.chat.asked) - 1]
            asked.answer.callback(b"{}")

        self.chat.script = own
        wire = self.connect()
        wire.send(post() + post())
        self.assertEqual([owner.told for owner in owners], [[True], []])
        wire.leave(ConnectionDone())
        self.assertEqual([owner.told for owner in owners], [[True], [True]])


class PipelinedRefusalTests(WebCase):
    """
    A refusal that is not the first of its connection.
    """

    def test_comesBehindTheAnswersBeforeIt(self) -> None:
        """
        Whether these come at once or later; the connection ends with it.
        """
        for isLater in (False, True):
            wire = self.connect()
            first = post() if isLater else get("/healthz")
            wire.send(first + b"NOT HTTP\r\n\r\n")
            if isLater:
                self.assertEqual(wire.read(), b"")
                self.chat.asked[-1].answer.callback(b"{}")
            answers = answersIn(wire.read())
            self.assertEqual([answer.status for answer in answers], [200, 400])
            self.assertEqual(answers[1].header("connection"), "close")
            self.assertTrue(wire.finSent)


class SmugglingTests(WebCase):
    """
    Heads that two parsers could take for different requests.
    """

    def test_areRefused(self) -> None:
        """
        None of them is answered but with 400, and nothing behind it is.
        """
        head = b"POST /v1/chat/completions HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
        old = head.replace(b"HTTP/1.1", b"HTTP/1.0")
        for lines in (
            head + b"Transfer-Encoding: chunked\r\nContent-Length: 2\r\n",
            head + b"Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n",
            head + b"Transfer-Encoding: identity\r\n",
            head + b"Transfer-Encoding: gzip, chunked\r\n",
            head + b"Transfer-Encoding: chunked, identity\r\n",
            head + b"Transfer-Encoding:\r\n chunked\r\n",
            head + b"Content-Length: 2\r\nContent-Length: 3\r\n",
            head + b"Content-Length: +2\r\n",
            old + b"Transfer-Encoding: chunked\r\n",
        ):
            with self.subTest(lines=lines):
                wire = self.connect()
                wire.send(lines + b"\r\n2\r\n{}\r\n0\r\n\r\n" + get("/healthz"))
                self.assertEqual([answer.status for answer in answersIn(wire.read())], [400])
                self.assertEqual(self.chat.asked, [])

    def test_trailersWithBareLineFeeds(self) -> None:
        """
        A trailer that ends without its carriage return is 400, and what stands
        behind it is no request.
        """
        head = chunked([b"{}"])[: -len(b"0\r\n\r\n")]
        for end in (
            b"0\r\nA: b\n\r\n",
            b"0\r\nA: b\n\n",
            b"0\r\nA: b\r\n\n",
            b"0\n\r\n",
            b"0\r\n\n",
            b"0\n\n",
        ):
            with self.subTest(end=end):
                wire = self.connect()
                wire.send(head + end + get("/healthz"))
                self.assertEqual([answer.status for answer in answersIn(wire.read())], [400])
                self.assertEqual(self.chat.asked, [])

    def test_methodsInLowerCase(self) -> None:
        """
        They are no methods, and pass no check that goes by the method.
        """
        for method in (b"post", b"Post", b"pOST", b"get", b"options"):
            for data in (post(), post().replace(b"application/json", b"text/plain")):
                with self.subTest(method=method):
                    wire = self.connect()
                    wire.send(data.replace(b"POST", method, 1) + get("/healthz"))
                    self.assertEqual([answer.status for answer in answersIn(wire.read())], [400])
                    self.assertEqual(self.chat.asked, [])
