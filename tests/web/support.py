"""
A web room in memory: the site with all its routes, fakes for what it asks,
connections fed with bytes, and what its log said.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from treq.testing import StubTreq
from twisted.internet.address import IPv4Address
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IAddress
from twisted.logger import LogEvent, globalLogPublisher

from openai_server.accounts.account import Account
from openai_server.accounts.keyring import KeyRing
from openai_server.api.chat.dialect import ChatDialect
from openai_server.api.dialect import Dialect
from openai_server.api.sse import STREAM_TYPE, errorEvent
from openai_server.errors import APIError, End
from openai_server.web.admission import Admission
from openai_server.web.request import APIRequest
from openai_server.web.routes import Routes
from openai_server.web.site import APISite
from tests.support import SyncCase, TestClock
from tests.web.transports import WireTransport

BODY_LIMIT = 1000_000


class Words:
    """
    What a stream says beside what a test writes.
    """

    streamType = STREAM_TYPE
    errorIsEnd = False

    def __init__(self) -> None:
        self.ping = b""
        self.event: bytes | None = None

    def keepAlive(self) -> bytes:
        """
        Return the sign of life.
        """
        return self.ping

    def error(self, error: APIError) -> bytes:
        """
        Return a test's own words, or the error's.
        """
        return errorEvent(error) if self.event is None else self.event


class Stream:
    """
    The stream that a test answers with, and what is seen of it.
    """

    def __init__(self, request: APIRequest) -> None:
        self._request = request
        self.words = Words()
        request.begin(self.words)

    def keepWarm(self, ping: bytes, interval: float) -> None:
        """
        Have it break its silence, from the next piece on.
        """
        self.words.ping = ping
        self._request.begin(self.words, interval)

    def write(self, data: bytes) -> None:
        """
        Send a piece.
        """
        self._request.write(data)

    def finish(self) -> None:
        """
        End it well.
        """
        self._request.complete(b"")

    def fail(self, event: bytes) -> None:
        """
        End it with this event.
        """
        self.words.event = event
        self._request.fail(APIError("worker_error", "It failed."))

    @property
    def queued(self) -> int:
        """
        Bytes that wait for the client.
        """
        return self._request.channel.queue.queued

    @property
    def hasBegun(self) -> bool:
        """
        Bytes have been sent.
        """
        return self._request.startedWriting

    @property
    def hasEnded(self) -> bool:
        """
        Nothing more can be sent.
        """
        return self._request.hasEnded

    @property
    def isOpen(self) -> bool:
        """
        Bytes have been sent, and more may follow.
        """
        return self.hasBegun and not self.hasEnded


class Asked:
    """
    One chat completion that waits for its test to answer it.

    @ivar answer: fire it with a body, None, anything, or a failure.
    @ivar gone: how its client went.
    @ivar onGone: called then.
    @ivar wasCancelled: the work saw C{CancelledError}.
    """

    def __init__(self, request: APIRequest, account: Account) -> None:
        self.request = request
        self.account = account
        self.answer: Deferred[Any] = Deferred()
        self.gone: list[End] = []
        self.wasCancelled = False
        self.onGone: Callable[[], None] = lambda: None

    def stream(self) -> Stream:
        """
        Answer with a stream.
        """
        self.request.owner = self
        self.request.setHeader("x-hum-session", "s1")
        return Stream(self.request)

    def clientGone(self, end: End) -> None:
        """
        Note how the client went.
        """
        self.gone.append(end)
        self.onGone()

    def delivered(self, inGoodOrder: bool) -> None:
        """
        Nothing to note.
        """


class RecordingChat:
    """
    Keeps the completions that it is asked for.

    @ivar script: called with each L{Asked} at once.
    """

    def __init__(self) -> None:
        self.asked: list[Asked] = []
        self.script: Callable[[Asked], None] = lambda asked: None

    def answer(self, request: APIRequest, dialect: Dialect) -> Deferred[None]:
        """
        Keep the request until the test answers it.
        """
        assert request.account is not None
        assert isinstance(request, APIRequest)
        asked = Asked(request, request.account)
        asked.answer = Deferred(lambda _: setattr(asked, "wasCancelled", True))
        self.asked.append(asked)
        self.script(asked)

        async def answered() -> None:
            body: bytes | None = await asked.answer
            if body is not None:
                request.answer(body)

        answering = Deferred.fromCoroutine(answered())
        request.doing(answering)
        return answering


class FixedModels:
    """
    Models that never change.
    """

    def __init__(self, ids: Sequence[str] = ("echo", "vendor/large")) -> None:
        self._ids = ids

    def ids(self) -> Sequence[str]:
        """
        See L{openai_server.web.models.OfferedModels.ids}.
        """
        return self._ids

    def created(self, model: str) -> int:
        """
        See L{openai_server.web.models.OfferedModels.created}.
        """
        return 1700000000

    def isKnown(self, model: str) -> bool:
        """
        See L{openai_server.web.models.OfferedModels.isKnown}.
        """
        return model in self._ids


@dataclass
class Answer:
    """
    One HTTP answer, as bytes say it.
    """

    status: int
    headers: dict[str, list[str]]
    body: bytes

    @property
    def json(self) -> Any:
        """
        The body's value.
        """
        return json.loads(self.body)

    @property
    def error(self) -> dict[str, Any]:
        """
        The error object; the whole shape of an error answer is checked.
        """
        assert self.headers["content-type"] == ["application/json"], self.headers
        assert self.headers["content-length"] == [str(len(self.body))]
        assert self.headers["cache-control"] == ["no-store"]
        error: dict[str, Any] = self.json["error"]
        assert set(error) == {"message", "type", "param", "code"}, error
        return error

    def header(self, name: str) -> str | None:
        """
        The one value of a header.
        """
        values = self.headers.get(name)
        return None if values is None else ", ".join(values)


def answersIn(received: bytes) -> list[Answer]:
    """
    Split what a client got into answers with C{Content-Length} (or without a
    body); every one must have its request id and its time.
    """
    answers = []
    while received:
        head, _, received = received.partition(b"\r\n\r\n")
        lines = head.decode("latin-1").split("\r\n")
        status = int(lines[0].split(" ")[1])
        if status == 100:
            continue
        headers: dict[str, list[str]] = {}
        for line in lines[1:]:
            name, _, value = line.partition(": ")
            headers.setdefault(name.lower(), []).append(value)
        assert "x-request-id" in headers and "openai-processing-ms" in headers, lines
        size = int(headers.get("content-length", ["0"])[0])
        body, received = received[:size], received[size:]
        answers.append(Answer(status, headers, body))
    return answers


def post(
    path: str = "/v1/chat/completions", body: bytes = b"{}", *headers: str, version: str = "HTTP/1.1"
) -> bytes:
    """
    The bytes of a POST with a JSON body.
    """
    lines = [
        f"POST {path} {version}",
        "Host: localhost",
        "Content-Type: application/json",
        f"Content-Length: {len(body)}",
        *headers,
    ]
    return "\r\n".join(lines).encode("latin-1") + b"\r\n\r\n" + body


def get(path: str = "/v1/models", *headers: str, method: str = "GET", version: str = "HTTP/1.1") -> bytes:
    """
    The bytes of a request without a body.
    """
    lines = [f"{method} {path} {version}", "Host: localhost", *headers]
    return "\r\n".join(lines).encode("latin-1") + b"\r\n\r\n"


def ring(apiKey: str | None = None) -> KeyRing:
    """
    The key of the settings, or none.
    """
    return KeyRing(b"secret", lambda: 0.0, apiKey)


class WebCase(SyncCase):
    """
    A test with a site of its own. Afterwards nothing may be left: no timer,
    no open response, no connection; and every request that was answered has
    logged one end.

    @ivar apiKey: the key of the site.
    """

    apiKey: str | None = None
    allowedHosts: Sequence[str] = ()
    corsOrigins: Sequence[str] = ()

    def setUp(self) -> None:
        super().setUp()
        self.clock = TestClock()
        self.chat = RecordingChat()
        self.whyNotReady: str | None = None
        self.events: list[LogEvent] = []
        self.wires: list[WireTransport] = []
        globalLogPublisher.addObserver(self.events.append)
        self.addCleanup(globalLogPublisher.removeObserver, self.events.append)
        admission = Admission(ring(self.apiKey), self.allowedHosts, self.corsOrigins)
        self.routes = Routes(self.chat, self.dialects(), FixedModels(), admission, lambda: self.whyNotReady)
        self.site = APISite(
            self.routes.resource(), self.clock, admission=admission, bodyLimit=BODY_LIMIT
        )
        self.addCleanup(self.assertNothingLeft)

    def dialects(self) -> dict[str, Dialect]:
        """
        What is spoken at which path.
        """
        return {"/v1/chat/completions": ChatDialect()}

    def assertNothingLeft(self) -> None:
        """
        Hang up everywhere and look for leftovers.
        """
        for wire in self.wires:
            wire.run()
            wire.leave()
        self.assertEqual(self.clock.getDelayedCalls(), [])
        self.assertEqual(self.site.openResponses, 0)
        self.assertEqual(len({entry["requestId"] for entry in self.log()}), len(self.log()))

    def connect(self, kernelSize: int = 1 << 30, hostAddress: IAddress | None = None) -> WireTransport:
        """
        A client's connection.
        """
        channel = self.site.buildProtocol(IPv4Address("TCP", "127.0.0.1", 50000))
        wire = WireTransport(channel, kernelSize, hostAddress)
        self.wires.append(wire)
        return wire

    def exchange(self, data: bytes, hostAddress: IAddress | None = None) -> list[Answer]:
        """
        Send bytes on a connection of their own and read the answers.
        """
        wire = self.connect(hostAddress=hostAddress)
        wire.send(data)
        return answersIn(wire.read())

    def ask(self, data: bytes, hostAddress: IAddress | None = None) -> Answer:
        """
        Send one request and read its answer.
        """
        (answer,) = self.exchange(data, hostAddress)
        return answer

    def begin(self, wire: WireTransport, data: bytes | None = None) -> Asked:
        """
        Send a chat completion, which stays open.
        """
        before = len(self.chat.asked)
        wire.send(data or post())
        self.assertEqual(len(self.chat.asked), before + 1)
        return self.chat.asked[-1]

    def stub(self) -> StubTreq:
        """
        treq, talking to this site in memory.
        """
        stub = StubTreq(self.routes.resource())
        # A StubTreq builds a plain Site around a resource; this one is ours.
        stub._agent._serverFactory = self.site
        return stub

    def timers(self) -> list[Any]:
        """
        The calls to come, but for that of the connections in common.
        """
        calls: Any = self.clock.getDelayedCalls()
        return [call for call in calls if getattr(call.func, "__self__", None) is not self.site.deadlines]

    def log(self) -> list[LogEvent]:
        """
        The access events so far.
        """
        return [event for event in self.events if "end" in event and "ms" in event]

    def ends(self) -> list[str]:
        """
        The end codes so far.
        """
        return [event["end"] for event in self.log()]
