"""
WebSocket connections: handshakes, frames, limits, and whatever a client may
send instead.
"""

from __future__ import annotations

import base64
import json
import re
import struct
from collections.abc import Sequence
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from openai_server.api.dialect import Dialect
from openai_server.api.responses.dialect import ResponsesDialect
from openai_server.store.memory import Bounds, MemoryStore
from openai_server.web.bodybudget import BodyBudget
from openai_server.web.http import EARLY_BYTES
from openai_server.web.kept import KeptAnswers
from openai_server.web.mistakes import Bug
from openai_server.web.sealing import SealingKey
from openai_server.web.sockets import ResponsesSockets
from tests.web.sockets import ACCEPT, KEY, SocketClient, handshake
from tests.web.support import BODY_LIMIT, Asked, WebCase, answersIn, get, post
from tests.web.test_http_fuzz import GOOD

_INTERIM = re.compile(rb"HTTP/1\.1 10[02] [A-Za-z]+\r\n\r\n")
_VARIABLE = re.compile(rb"(?:Date|X-Request-Id|Openai-Processing-Ms): [^\r]*\r\n")

MASK = b"\x01\x02\x03\x04"


def frame(
    payload: bytes, opcode: int = 1, *, isLast: bool = True, isMasked: bool = True, rsv: int = 0
) -> bytes:
    """
    A frame as a client sends it, or as none would.
    """
    first = (0x80 if isLast else 0) | rsv << 4 | opcode
    size, mask = len(payload), 0x80 if isMasked else 0
    if size < 126:
        head = struct.pack("!BB", first, mask | size)
    elif size < 1 << 16:
        head = struct.pack("!BBH", first, mask | 126, size)
    else:
        head = struct.pack("!BBQ", first, mask | 127, size)
    if not isMasked:
        return head + payload
    return head + MASK + bytes(byte ^ MASK[at % 4] for at, byte in enumerate(payload))


def create(**members: Any) -> bytes:
    """
    A message that asks for a response.
    """
    return json.dumps({"type": "response.create", "model": "m", "input": "x", **members}).encode()


class SocketCase(WebCase):
    """
    A test whose site has WebSockets. Responses are answered by the test, or at
    once with their own bodies as an event.
    """

    def setUp(self) -> None:
        super().setUp()
        store = MemoryStore(self.clock, Bounds(10, 1 << 20, 1e6))
        kept = KeptAnswers(store, SealingKey())
        admit = self.site.admission.admit
        sockets = ResponsesSockets(self.chat, ResponsesDialect(), kept, admit, keeps=True)  # type: ignore[arg-type]
        self.site.upgrades = sockets
        self.addCleanup(lambda: self.assertEqual(self.site.bodyBudget.held, 0))

    def dialects(self) -> dict[str, Dialect]:
        """
        Chat, and what WebSockets speak.
        """
        return {**super().dialects(), "/v1/responses": ResponsesDialect()}

    def echo(self, asked: Asked) -> None:
        """
        Answer with the request's own body in an event.
        """
        stream = asked.stream()
        body = asked.request.takeBody()
        stream.write(b'data: {"type":"echo","body":%b}\n\n' % body)
        stream.finish()
        asked.answer.callback(None)

    def socket(self, *headers: str, path: str = "/v1/responses", kernelSize: int = 1 << 30) -> SocketClient:
        """
        A client whose handshake was answered.
        """
        return SocketClient(self.connect(kernelSize), lambda: None, path, *headers)

    def assertClosed(self, client: SocketClient, code: int) -> None:
        """
        The server has closed with this code, and ends when its client does; a
        moment later where that cannot be understood any more.
        """
        self.assertEqual(client.code, code, client.reason)
        self.assertIsNone(client.wire.how)
        client.raw(frame(struct.pack("!H", code), 8))
        if client.wire.how is None:
            self.clock.advance(2)
            client.read()
        self.assertEqual(client.wire.how, "closed")


class HandshakeTests(SocketCase):
    """
    Who gets a WebSocket.
    """

    def test_accept(self) -> None:
        """
        The key is answered as RFC 6455 has it.
        """
        client = self.socket()
        self.assertIn(f"Sec-Websocket-Accept: {ACCEPT}\r\n".encode(), client.head)
        self.assertTrue(client.head.startswith(b"HTTP/1.1 101 Switching Protocols\r\n"))
        self.assertEqual(self.ends(), ["ok"])

    def test_atEveryByte(self) -> None:
        """
        The handshake, and a message behind it, cut at every byte; and all in
        one read.
        """
        self.chat.script = self.echo
        data = handshake() + frame(create())
        head = len(handshake())
        received = set()
        for pieces in (
            [data],
            [bytes([byte]) for byte in data],
            *([data[:at], data[at:]] for at in range(1, len(data))),
        ):
            wire = self.connect()
            for piece in pieces:
                wire.send(piece)
            answer = wire.read().partition(b"\r\n\r\n")
            received.add((answer[0].split(b"\r\n")[0], answer[2]))
            wire.leave()
            self.wires.remove(wire)
        self.assertEqual(len(received), 1, received)
        (only,) = received
        self.assertIn(b'"type":"echo"', only[1])
        self.assertGreater(len(data), head)

    def test_behindOtherRequests(self) -> None:
        """
        What was asked before is answered first.
        """
        self.chat.script = self.echo
        wire = self.connect()
        wire.send(get("/healthz") + handshake() + frame(create()))
        received = wire.read()
        first, _, rest = received.partition(b'{"status":"ok"}')
        self.assertTrue(first.startswith(b"HTTP/1.1 200 OK"))
        self.assertTrue(rest.startswith(b"HTTP/1.1 101 "))
        self.assertIn(b'"type":"echo"', rest)

    def test_deliveryOfTheOneBefore(self) -> None:
        """
        The owner of a stream that was complete before is told that its client
        has it.
        """
        told: list[bool] = []

        def script(asked: Asked) -> None:
            asked.delivered = told.append  # type: ignore[method-assign]
            stream = asked.stream()
            stream.write(b"data: {}\n\n")
            stream.finish()
            asked.answer.callback(None)

        self.chat.script = script
        wire = self.connect()
        wire.send(post() + handshake())
        wire.leave()
        self.assertEqual(told, [True])

    def test_behindARunningOne(self) -> None:
        """
        Frames behind a handshake that waits are not read as requests.
        """
        wire = self.connect()
        asked = self.begin(wire, post())
        wire.send(handshake() + frame(create()))
        wire.send(get("/healthz"))
        asked.answer.callback(b"{}")
        received = wire.read()
        self.assertEqual(received.count(b"HTTP/1.1 "), 2)
        self.assertNotIn(b"status", received)

    def test_refusedHandshake(self) -> None:
        """
        C40: a wrong one is told what is wrong, and what comes behind it is neither
        frames nor a request.
        """
        for data, status in (
            (handshake(version="8"), 426),
            (handshake(version="13, 8"), 426),
            (handshake(key=""), 400),
            (handshake(key="short"), 400),
            (handshake(key=base64.b64encode(bytes(17)).decode()), 400),
            (handshake("/v1/responses", f"Sec-WebSocket-Key: {KEY}"), 400),
        ):
            wire = self.connect()
            wire.send(data + get("/healthz"))
            wire.send(get("/healthz"))
            (answer,) = answersIn(wire.read())
            self.assertEqual((answer.status, answer.header("connection")), (status, "close"))
            self.assertEqual(answer.error["type"], "invalid_request_error")
            self.assertEqual(answer.header("sec-websocket-version"), "13" if status == 426 else None)
            self.assertEqual(wire.how, "closed")

    def test_otherwiseIgnored(self) -> None:
        """
        Other paths, methods, protocols and versions of HTTP are answered
        as if there were no WebSocket, and so is what follows.
        """
        upgrade = handshake().decode()
        for data, status in (
            (upgrade.replace("/v1/responses", "/v1/models"), 200),
            (upgrade.replace("/v1/responses", "/v1/responses/"), 101),
            (upgrade.replace("/v1/responses", "/v1/responses//"), 404),
            (upgrade.replace("/v1/responses", "/v1/chat/completions"), 405),
            (upgrade.replace("Upgrade: websocket", "Upgrade: h2c"), 405),
            (upgrade.replace("Connection: keep-alive, Upgrade", "Connection: keep-alive"), 405),
            (upgrade.replace("Upgrade: websocket\r\n", ""), 405),
            (upgrade.replace("GET", "PUT"), 405),
            (upgrade.replace("\r\n\r\n", "\r\nContent-Length: 0\r\n\r\n"), 101),
            (upgrade.replace("\r\n\r\n", "\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"), 405),
            (upgrade.replace("\r\n\r\n", "\r\nContent-Length: 2\r\n\r\n{}"), 405),
        ):
            answers = None
            wire = self.connect()
            wire.send(data.encode() + get("/healthz"))
            received = wire.read()
            self.assertEqual(received[9:12], b"%d" % status, data)
            if status == 101:
                continue
            answers = answersIn(received)
            self.assertEqual([answer.status for answer in answers], [status, 200], data)
        wire = self.connect()
        wire.send(upgrade.replace("keep-alive", "close").encode())
        self.assertEqual(wire.read()[9:12], b"405")

    def test_tooMuchAhead(self) -> None:
        """
        Who sends very much before there is an answer is cut.
        """
        wire = self.connect()
        self.begin(wire, post())
        wire.send(handshake())
        wire.send(bytes(EARLY_BYTES + 1))
        wire.run()
        self.assertEqual(wire.how, "aborted")

    def test_halfClosed(self) -> None:
        """
        Who sends nothing more gets no WebSocket for long.
        """
        wire = self.connect()
        asked = self.begin(wire, post())
        wire.send(handshake())
        wire.protocol.readConnectionLost()  # type: ignore[attr-defined]
        asked.answer.callback(b"{}")
        wire.run()
        self.assertEqual(wire.how, "aborted")

    def test_whileStopping(self) -> None:
        """
        No WebSocket is opened any more.
        """
        wire = self.connect()
        asked = self.begin(wire, post())
        wire.send(handshake())
        self.site.stopAccepting()
        asked.answer.callback(b"{}")
        self.assertNotIn(b"HTTP/1.1 101", wire.read())


class KeyTests(SocketCase):
    """
    Who is let in.
    """

    apiKey = "right"
    corsOrigins = ("https://good.example",)

    def test_admission(self) -> None:
        """
        The key, and the origin of a page, are judged as those of a request are,
        before anything is said of the handshake.
        """
        for headers, status in (
            ((), b"401"),
            (("Authorization: Bearer wrong",), b"401"),
            (("Authorization: Bearer right", "Origin: https://evil.example"), b"403"),
            (("Authorization: Bearer right", "Origin: https://good.example"), b"101"),
            (("api-key: right",), b"101"),
        ):
            for version in ("13", "8"):
                wire = self.connect()
                wire.send(handshake("/v1/responses", *headers, version=version))
                expected = b"426" if (status, version) == (b"101", "8") else status
                self.assertEqual(wire.read()[9:12], expected)

    def test_accountOfAllRequests(self) -> None:
        """
        Is that of the handshake.
        """
        client = self.socket("Authorization: Bearer right")
        client.say(create())
        client.say(create(stream_id="b"))
        names = {asked.account.name for asked in self.chat.asked}
        self.assertEqual((len(self.chat.asked), len(names)), (2, 1))
        self.assertNotEqual(names, {"anonymous"})


class OpenTests(SocketCase):
    """
    Without a key the host is judged.
    """

    def test_host(self) -> None:
        """
        A page that got here by rebinding its name is kept out.
        """
        wire = self.connect()
        wire.send(handshake().replace(b"Host: localhost", b"Host: evil.example"))
        self.assertEqual(wire.read()[9:12], b"421")


class FrameTests(SocketCase):
    """
    What a client sends.
    """

    def setUp(self) -> None:
        super().setUp()
        self.chat.script = self.echo

    def test_fragments(self) -> None:
        """
        A message in any pieces, with pings and pongs between them, is one.
        """
        client = self.socket()
        message = create(input="é" * 3)
        for at in range(0, len(message), 3):
            piece = message[at : at + 3]
            client.raw(frame(b"p", 9) + frame(piece, 0 if at else 1, isLast=False) + frame(b"", 10))
        client.raw(frame(b"", 0))
        self.assertEqual(client.last["body"]["input"], "é" * 3)
        self.clock.advance(60)
        client.read()
        self.assertIsNone(client.code)

    def test_pong(self) -> None:
        """
        Of the pings of one read the last is answered.
        """
        client = self.socket()
        before = len(client.wire.received)
        client.wire.send(frame(b"a", 9) + frame(b"b", 9))
        client.wire.read()
        self.assertEqual(client.wire.received[before:], b"\x8a\x01b")

    def test_compressionIsNotUsed(self) -> None:
        """
        It is not agreed on, and so it is an error.
        """
        client = self.socket("Sec-WebSocket-Extensions: permessage-deflate")
        self.assertNotIn(b"extensions", client.head.lower())
        client.raw(frame(create(), rsv=4))
        self.assertClosed(client, 1002)

    def test_protocolErrors(self) -> None:
        """
        C41: 1002, 1003 and 1007, whatever runs.
        """
        self.chat.script = lambda asked: None
        for data, code in (
            (frame(b"{}", isMasked=False), 1002),
            (frame(b"{}", 3), 1002),
            (frame(b"{}", 11), 1002),
            (frame(b"{}", 0), 1002),
            (frame(b"{}", rsv=1), 1002),
            (frame(b"{", isLast=False) + frame(b"}", 1), 1002),
            (frame(b"p" * 126, 9), 1002),
            (frame(b"p", 9, isLast=False), 1002),
            (frame(b"x", 8), 1002),
            (frame(struct.pack("!H", 1005), 8), 1002),
            (frame(struct.pack("!H", 999), 8), 1002),
            (frame(struct.pack("!H", 1000) + b"\xff", 8), 1007),
            (frame(b"\xff"), 1007),
            (frame(b'{"a":"\xc3'), 1007),
            (frame(b"\xc3", isLast=False) + frame(b"(", 0), 1007),
            (frame(b"\xed\xa0\x80"), 1007),
            (frame(create(), 2), 1003),
            (frame(b"", 2, isLast=False), 1003),
        ):
            client = self.socket()
            client.say(create())
            client.raw(data + frame(create()))
            asked = self.chat.asked.pop()
            self.assertTrue(asked.wasCancelled, data)
            self.assertClosed(client, code)

    def test_closeOfTheClient(self) -> None:
        """
        Is answered with its code, and nothing behind it is read.
        """
        for payload, code in ((b"", 1005), (b"\x03\xe8bye", 1000), (b"\x0f\xa0", 4000)):
            client = self.socket()
            client.raw(frame(payload, 8) + frame(create()))
            self.assertEqual((client.code, client.wire.how), (code, "closed"))
            self.assertEqual(client.events, [])

    def test_tooLarge(self) -> None:
        """
        C42: a message beyond the limit, in whatever frames, is told so and
        closed as soon as that is clear; one that just fits is read.
        """
        size = len(create(input=""))
        client = self.socket()
        client.raw(frame(create(input="x" * (BODY_LIMIT - size))))
        self.assertEqual(client.last["type"], "echo")
        whole = frame(create(input="x" * (BODY_LIMIT - size + 1)))
        half = b"x" * (BODY_LIMIT // 2 + 1)
        for data in (whole, frame(half, isLast=False) + frame(half, 0)):
            client = self.socket()
            client.raw(data)
            self.assertEqual((client.last["type"], client.last["status"]), ("error", 413))
            self.assertClosed(client, 1009)
        self.assertEqual(self.ends()[-1], "bad")

    def test_tooManyPieces(self) -> None:
        """
        Frames with nothing in them come to an end.
        """
        client = self.socket()
        client.raw(frame(b"", isLast=False))
        for _ in range(11):
            client.raw(frame(b"", 0, isLast=False) * 1000)
        self.assertEqual(client.last["status"], 400)
        self.assertClosed(client, 1008)

    def test_budget(self) -> None:
        """
        All messages and bodies together have their budget, also while they
        wait.
        """
        self.chat.script = lambda asked: None
        self.site.bodyBudget = BodyBudget(BODY_LIMIT, BODY_LIMIT)
        client, other = self.socket(), self.socket()
        client.say(create())
        client.say(create(input="x" * (BODY_LIMIT // 2)))
        self.assertGreater(self.site.bodyBudget.held, BODY_LIMIT // 2)
        other.say(create(input="x" * (BODY_LIMIT // 2)))
        self.assertEqual((other.last["type"], other.last["status"]), ("error", 503))
        self.assertClosed(other, 1013)
        client.wire.leave()
        self.assertEqual(self.site.bodyBudget.held, 0)

    def test_tooMuchAhead(self) -> None:
        """
        So many requests wait, and so many bytes, and no more.
        """
        self.chat.script = lambda asked: None
        for count, size in ((65, 0), (2, BODY_LIMIT // 2)):
            client = self.socket()
            client.say(create())
            for _ in range(count - 1):
                client.say(create(input="x" * size))
            self.assertIsNone(client.code)
            client.say(create(input="x" * size))
            self.assertClosed(client, 1008)
        self.chat.script = self.echo
        client = self.socket()
        for count in range(3):
            client.say(create(input="x" * (BODY_LIMIT // 2)))
            self.assertEqual(len(client.events), count + 1)

    def test_late(self) -> None:
        """
        A message that stands still for 30 s, or takes longer than 300 s.
        """
        client = self.socket()
        client.raw(frame(b"{", isLast=False))
        self.clock.advance(29)
        client.raw(frame(b" ", 0, isLast=False) + frame(b"p", 9))
        self.clock.advance(29)
        client.raw(frame(b"p", 9))
        client.read()
        self.assertIsNone(client.code)
        self.clock.advance(2)
        client.read()
        self.assertEqual(client.last["status"], 408)
        self.assertClosed(client, 1008)
        client = self.socket()
        for at in range(20):
            client.raw(frame(b"{" if at == 0 else b" ", min(at, 1) ^ 1, isLast=False))
            self.clock.advance(15)
        client.read()
        self.assertEqual(client.last["status"], 408)
        self.assertClosed(client, 1008)
        self.assertEqual(self.ends()[-1], "cl-slow")

    def test_closeThatIsNotAnswered(self) -> None:
        """
        Comes to an end all the same: in 2 s, or when too much comes; and when
        the client does not even read, 10 s later.
        """
        client = self.socket()
        client.raw(frame(b"", 2))
        client.raw(frame(create()) * 10)
        self.assertEqual((client.code, client.wire.how, client.events), (1003, None, []))
        self.clock.advance(2)
        client.read()
        self.assertEqual(client.wire.how, "closed")
        client = self.socket()
        client.raw(frame(b"", 2))
        for _ in range(17):
            client.raw(bytes(65536))
        self.assertEqual(client.wire.how, "aborted")
        client = self.socket(kernelSize=1000)
        client.wire.kernelSize = 0
        client.wire.send(frame(b"", 2))
        for _ in range(3):
            self.clock.advance(5)
            client.wire.run()
        self.assertEqual(client.wire.how, "aborted")


class OutTests(SocketCase):
    """
    What a client gets, and how fast.
    """

    def test_pings(self) -> None:
        """
        Every 20 s, but not to a client that is behind.
        """
        client = self.socket(kernelSize=200_000)
        for _ in range(5):
            self.clock.advance(20)
            client.read()
        self.assertEqual(client.pings, 5)
        self.clock.advance(15)
        client.say(create())
        stream = self.chat.asked[0].stream()
        stream.write(b'data: {"type":"x","x":"%b"}\n\n' % (b"x" * 600_000))
        client.wire.run()
        before = stream.queued
        self.assertGreater(before, 0)
        self.clock.advance(6)
        self.assertEqual(stream.queued, before)
        client.read()
        self.assertEqual(client.pings, 5)
        stream.finish()
        self.chat.asked[0].answer.callback(None)

    def test_silentStreams(self) -> None:
        """
        Say nothing but pings, whatever their words are.
        """
        client = self.socket()
        client.say(create())
        asked = self.chat.asked[0]
        stream = asked.stream()
        stream.keepWarm(b'data: {"type":"keepalive"}\n\n', 5.0)
        stream.write(b'data: {"type":"a"}\n\n: comment\n\n')
        for _ in range(4):
            self.clock.advance(5)
        client.read()
        self.assertEqual((client.types(), client.pings), (["a"], 1))
        stream.finish()
        asked.answer.callback(None)

    def test_slowLanes(self) -> None:
        """
        Answers of two lanes that end while their client is behind are both
        known to be over when it has read them.
        """
        client = self.socket(kernelSize=1000)
        for lane in "ab":
            client.wire.send(frame(create(stream_id=lane)))
        first, second = self.chat.asked
        for asked in (first, second):
            stream = asked.stream()
            stream.write(b'data: {"type":"x","x":"%b"}\n\n' % (b"x" * 150_000))
            stream.finish()
            asked.answer.callback(None)
        self.assertEqual(self.site.openResponses, 2)
        client.read()
        self.assertEqual((self.site.openResponses, self.ends()), (0, ["ok"] * 3))
        self.assertEqual((client.types("a"), client.types("b")), (["x"], ["x"]))

    def test_stuck(self) -> None:
        """
        Who reads nothing is cut, in all lanes.
        """
        client = self.socket(kernelSize=1000)
        for lane in "ab":
            client.wire.send(frame(create(stream_id=lane)))
        for asked in self.chat.asked:
            asked.stream().write(b'data: {"type":"x","x":"%b"}\n\n' % (b"x" * 150_000))
        client.wire.run()
        self.clock.advance(10.5)
        client.wire.run()
        self.assertEqual((client.wire.how, self.ends()), ("aborted", ["ok", "cl-stuck", "cl-stuck"]))
        self.assertEqual([asked.wasCancelled for asked in self.chat.asked], [True, True])

    def test_stuckBehindTheEnd(self) -> None:
        """
        Who takes nothing of an answer that is complete is cut after 10 s.
        """
        self.chat.script = self.echo
        client = self.socket(kernelSize=1000)
        for _ in range(2):
            client.wire.send(frame(create(input="x" * 40_000)))
        client.wire.run()
        self.assertEqual(self.ends(), ["ok"] * 3)
        self.clock.advance(9)
        client.wire.run()
        self.assertIsNone(client.wire.how)
        self.clock.advance(1)
        client.wire.run()
        self.assertEqual(client.wire.how, "aborted")

    def test_unexpected(self) -> None:
        """
        A mistake of ours is an error without details, and logged.
        """
        self.chat.script = lambda asked: asked.answer.errback(RuntimeError("secret"))
        client = self.socket()
        client.say(create())
        self.assertEqual((client.last["status"], client.last["error"]["code"]), (500, "internal_error"))
        self.assertNotIn("secret", str(client.last))
        self.assertEqual(len(self.flushLoggedErrors(Bug)), 1)
        client.say(create())
        self.assertEqual(len(client.events), 2)
        self.flushLoggedErrors(Bug)


class RoomTests(SocketCase):
    """
    When there are too many connections.
    """

    def test_idleOnesGo(self) -> None:
        """
        A WebSocket without a request makes room; one with a request does not.
        """
        self.site.maxConnections = 2
        idle, busy = self.socket(), self.socket()
        busy.say(create())
        third = self.connect()
        third.send(get("/healthz"))
        self.assertEqual(third.read()[9:12], b"200")
        idle.wire.run()
        self.assertEqual((idle.wire.how, busy.wire.how), ("aborted", None))


class FuzzTests(SocketCase):
    """
    Whatever a client sends.
    """

    def answersTo(self, pieces: Sequence[bytes]) -> tuple[list[Any], int | None]:
        """
        Return the events that these pieces lead to, and the code of the close.
        """
        self.chat.script = self.echo
        client = self.socket()
        for piece in pieces:
            client.wire.send(piece)
            client.wire.run()
        client.read()
        self.clock.advance(2)
        client.wire.leave()
        self.wires.remove(client.wire)
        self.chat.asked.clear()
        return client.events, client.code

    PARTS = (
        frame(create()),
        frame(create(stream_id="a")),
        frame(create(input="é" * 200)),
        frame(b"{"),
        frame(b'{"type":', isLast=False) + frame(b"ping", 9) + frame(b'"response.create"}', 0),
        frame(b"ping", 9),
        frame(b"pong", 10),
        frame(b"\xff"),
        frame(b"", 2),
        frame(b"x", 5),
        frame(b"{}", isMasked=False),
        frame(b"{}", rsv=2),
        frame(struct.pack("!H", 1000), 8),
        frame(b"x", 8),
    )

    @settings(deadline=None, max_examples=300)
    @given(st.lists(st.sampled_from(PARTS), max_size=8), st.data())
    def test_cut(self, parts: list[bytes], chosen: st.DataObject) -> None:
        """
        The same bytes lead to the same, wherever they are cut.
        """
        data = b"".join(parts)
        cuts = sorted(chosen.draw(st.lists(st.integers(0, len(data)), max_size=8)))
        pieces = [data[at:end] for at, end in zip([0, *cuts], [*cuts, len(data)], strict=True)]
        self.assertEqual(self.answersTo([piece for piece in pieces if piece]), self.answersTo([data]))

    @settings(deadline=None, max_examples=150)
    @given(
        st.lists(st.sampled_from(sorted(GOOD)), max_size=3),
        st.sampled_from(["13", "8"]),
        st.lists(st.sampled_from([frame(create()), get("/healthz"), frame(b"", 2)]), max_size=3),
        st.data(),
    )
    def test_behindRequests(
        self, names: list[str], version: str, parts: list[bytes], chosen: st.DataObject
    ) -> None:
        """
        Requests, a handshake, and whatever follows it, in any pieces: what
        comes behind the handshake is never read as a request.
        """
        requests = [GOOD[name] for name in names]
        data = b"".join([*requests, handshake(version=version), *parts])
        cuts = sorted(chosen.draw(st.lists(st.integers(0, len(data)), max_size=8)))
        pieces = [data[at:end] for at, end in zip([0, *cuts], [*cuts, len(data)], strict=True)]
        received = self.received([piece for piece in pieces if piece])
        self.assertEqual(received, self.received([data]))
        self.assertEqual(len(re.findall(rb"HTTP/1\.1 \d", received)), len(requests) + 1)

    def received(self, pieces: Sequence[bytes]) -> bytes:
        """
        Return what a client gets that sends these pieces, without what differs
        each time.
        """
        self.chat.script = lambda asked: (
            self.echo(asked) if asked.request.method == b"GET" else asked.answer.callback(b"{}")
        )
        wire = self.connect()
        for piece in pieces:
            wire.send(piece)
            wire.run()
        received = wire.read()
        wire.leave()
        self.wires.remove(wire)
        return _VARIABLE.sub(b"", _INTERIM.sub(b"", received))

    def test_cutAtEveryByte(self) -> None:
        """
        One of each kind, in two pieces and byte by byte.
        """
        for part in self.PARTS:
            whole = self.answersTo([part])
            self.assertEqual(self.answersTo([bytes([byte]) for byte in part]), whole)
            for at in range(1, len(part)):
                self.assertEqual(self.answersTo([part[:at], part[at:]]), whole)

    @settings(deadline=None, max_examples=300)
    @given(
        st.lists(st.sampled_from(PARTS), min_size=1, max_size=5),
        st.lists(st.tuples(st.integers(0, 2000), st.integers(0, 255)), max_size=6),
        st.binary(max_size=40),
    )
    def test_mutated(self, parts: list[bytes], changes: list[tuple[int, int]], rest: bytes) -> None:
        """
        Changed and random bytes are answered with errors and closes that there
        are; nothing is left, and nothing is logged as a mistake.
        """
        data = bytearray(b"".join(parts))
        for at, byte in changes:
            data[at % len(data)] = byte
        events, code = self.answersTo([bytes(data) + rest])
        self.assertTrue({event["type"] for event in events} <= {"echo", "error"})
        for event in events:
            if event["type"] == "error":
                self.assertIn(event["status"], (400, 413))
        self.assertTrue(code is None or 1000 <= code < 5000)
        self.assertEqual(self.site.openResponses, 0)
