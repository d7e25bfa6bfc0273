"""
An HTTP client on plain sockets that notes when each byte came, and checks
afterwards, outside of what is measured, that each answer is whole and its own.
"""

from __future__ import annotations

import json
import selectors
import socket
import time
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress

import msgspec

from benchmarks.question import TIME_ON_WIRE, Question

MODEL = "bench"

#: Seconds after which an answer is lost, and bytes that are sent at once.
PATIENCE = 60.0
_PORTION = 256 * 1024


class LoadError(Exception):
    """
    An answer is not what was asked for: no figure of this run can be trusted.
    """


class _Delta(msgspec.Struct):
    content: str | None = None


class _Choice(msgspec.Struct):
    delta: _Delta = msgspec.field(default_factory=_Delta)
    message: _Delta = msgspec.field(default_factory=_Delta)
    finish_reason: str | None = None


class _Completion(msgspec.Struct):
    choices: list[_Choice]


_completion = msgspec.json.Decoder(_Completion).decode


class Exchange:
    """
    One request and its answer.

    @ivar reads: (monotonic seconds, bytes) of each read.
    """

    def __init__(self, request: bytes, question: Question | None = None, isStream: bool = False) -> None:
        self.question = question
        self.isStream = isStream
        self.unsent: memoryview = memoryview(request)
        self.sentAt = 0.0
        self.reads: list[tuple[float, bytes]] = []
        self.isDone = False
        self._tail = b""
        self._head: bytes | None = b""
        # Bytes of the body that are missing; None while chunks say the end.
        self._missing: int | None = None

    @property
    def received(self) -> bytes:
        """
        Everything that came.
        """
        return b"".join(data for _, data in self.reads)

    def receive(self, now: float, data: bytes) -> None:
        """
        Note what came, and whether the answer is whole.
        """
        self.reads.append((now, data))
        if self._head is not None:
            data = self._receiveHead(data)
        if self._head is None and self._missing is None:
            self._tail = (self._tail + data)[-7:]
            self.isDone = self._tail == b"\r\n0\r\n\r\n"
        elif self._head is None and self._missing is not None:
            self._missing -= len(data)
            self.isDone = self._missing <= 0

    def _receiveHead(self, data: bytes) -> bytes:
        head, end, rest = ((self._head or b"") + data).partition(b"\r\n\r\n")
        if not end:
            self._head = head
            return b""
        self._head = None
        length = _header(head, b"content-length")
        self._missing = None if length is None else int(length)
        return rest

    def check(self) -> None:
        """
        @raise LoadError: the answer is not a success, not whole, or not the
            answer to its question.
        """
        head, _, body = self.received.partition(b"\r\n\r\n")
        if not head.startswith(b"HTTP/1.1 200 "):
            raise LoadError(f"the answer is {head[:100]!r} {body[:300]!r}")
        if _header(head, b"transfer-encoding") == b"chunked":
            body = unchunked(body)
        if self.question is None:
            json.loads(body)
            return
        read = textOfResponse if body.startswith(b"event: ") else textOfStream
        text = read(body) if self.isStream else _completion(body).choices[0].message.content or ""
        if not self.question.isAnsweredBy(text):
            raise LoadError(f"{self.question} was answered with {text[:200]!r}, {len(text)} characters")

    def firstTokenAfter(self) -> float:
        """
        @return: seconds from the request to the first token.
        @raise LoadError: none came.
        """
        assert self.question is not None
        tag, seen = self.question.tag.encode(), b""
        for now, data in self.reads:
            seen += data
            if tag in seen:
                return now - self.sentAt
        raise LoadError(f"no token for {self.question}")

    def arrivals(self) -> list[tuple[float, float]]:
        """
        @return: of each paced token, the seconds at which the daemon sent it
            and at which it came.
        """
        found, rest = [], b""
        for now, data in self.reads:
            data = rest + data
            end = 0
            for match in TIME_ON_WIRE.finditer(data):
                found.append((int(match[1]) / 1e6, now))
                end = match.end()
            # A token may be cut by the end of a read.
            rest = data[max(end, len(data) - 24) :]
        return found


class Connection:
    """
    One connection that sends each request when the answer to the one before is
    whole.
    """

    def __init__(self, port: int, exchanges: Iterable[Exchange]) -> None:
        self.socket = socket.create_connection(("127.0.0.1", port), PATIENCE)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.socket.setblocking(False)
        self._waiting = deque(exchanges)
        self.done: list[Exchange] = []
        self.current: Exchange | None = None
        self.next()

    @property
    def isDone(self) -> bool:
        """
        All its exchanges are over.
        """
        return self.current is None

    @property
    def isSending(self) -> bool:
        """
        A part of the request is not written yet.
        """
        return self.current is not None and bool(self.current.unsent)

    def next(self) -> None:
        """
        Go on to the next exchange, if there is one.
        """
        self.current = self._waiting.popleft() if self._waiting else None

    def send(self) -> None:
        """
        Write as much of the request as the socket takes.
        """
        assert self.current is not None
        self.current.sentAt = self.current.sentAt or time.monotonic()
        with suppress(BlockingIOError):
            self.current.unsent = self.current.unsent[self.socket.send(self.current.unsent[:_PORTION]) :]

    def receive(self) -> None:
        """
        Read what is there.

        @raise LoadError: the server closed the connection in an answer.
        """
        data = self.socket.recv(1 << 18)
        if self.current is None:
            raise LoadError(f"an answer to nothing: {data[:200]!r}")
        if not data:
            raise LoadError(f"the connection was closed after {self.current.received[-300:]!r}")
        self.current.receive(time.monotonic(), data)
        if self.current.isDone:
            self.done.append(self.current)
            self.next()


def isOver(connection: Connection) -> bool:
    """
    Its last answer is whole.
    """
    return connection.isDone


def hasFirstToken(connection: Connection) -> bool:
    """
    The first token of its question has come.
    """
    exchange = connection.current
    assert exchange is not None and exchange.question is not None
    return exchange.question.tag.encode() in exchange.received


def drive(connections: Sequence[Connection], isSettled: Callable[[Connection], bool] = isOver) -> None:
    """
    Send and receive until each connection is settled.

    @raise LoadError: that takes longer than L{PATIENCE}.
    """
    deadline = time.monotonic() + PATIENCE
    with selectors.DefaultSelector() as selector:
        for connection in connections:
            selector.register(connection.socket, selectors.EVENT_READ | selectors.EVENT_WRITE, connection)
        unsettled = set(connections)
        while unsettled:
            for key, mask in selector.select(max(0.0, deadline - time.monotonic())):
                _serve(selector, key.data, mask)
                if not key.data.isSending and isSettled(key.data):
                    unsettled.discard(key.data)
                    selector.unregister(key.data.socket)
            if time.monotonic() >= deadline:
                raise LoadError(f"{len(unsettled)} of {len(connections)} answers are missing")


def _serve(selector: selectors.BaseSelector, connection: Connection, mask: int) -> None:
    if mask & selectors.EVENT_READ:
        connection.receive()
    if connection.isSending:
        connection.send()
    wanted = selectors.EVENT_READ | (selectors.EVENT_WRITE if connection.isSending else 0)
    if selector.get_key(connection.socket).events != wanted:
        selector.modify(connection.socket, wanted, connection)


def close(connections: Iterable[Connection]) -> None:
    """
    Close them all.
    """
    for connection in connections:
        connection.socket.close()


def ask(question: Question, isStream: bool, padding: int = 0) -> Exchange:
    """
    A chat completion.

    @param padding: bytes of text behind the question.
    """
    return _askAfter([], question, question.text + "x" * padding, isStream)


def converse(questions: Iterable[Question]) -> list[Exchange]:
    """
    Chat completions without streaming, each of which shows those before it.
    """
    messages: list[dict[str, str]] = []
    found = []
    for question in questions:
        found.append(_askAfter(messages, question, question.text, False))
        messages += [
            {"role": "user", "content": question.text},
            {"role": "assistant", "content": "".join(map(question.delta, range(question.tokens)))},
        ]
    return found


def _askAfter(messages: list[dict[str, str]], question: Question, text: str, isStream: bool) -> Exchange:
    said = {"model": MODEL, "messages": [*messages, {"role": "user", "content": text}], "stream": isStream}
    body = json.dumps(said).encode()
    head = f"POST /v1/chat/completions HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: {len(body)}\r\n"
    return Exchange(head.encode() + b"Content-Type: application/json\r\n\r\n" + body, question, isStream)


def askResponse(question: Question, isKept: bool = False) -> Exchange:
    """
    A streamed response. Beside a chat completion it is not kept: that is not
    either.
    """
    said = {"model": MODEL, "input": question.text, "stream": True, "store": isKept}
    body = json.dumps(said).encode()
    head = f"POST /v1/responses HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: {len(body)}\r\n"
    return Exchange(head.encode() + b"Content-Type: application/json\r\n\r\n" + body, question, True)


def listModels() -> Exchange:
    """
    The list of models.
    """
    return Exchange(b"GET /v1/models HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n")


def unchunked(body: bytes) -> bytes:
    """
    The content of a chunked body.

    @raise LoadError: it is not chunked, or not whole.
    """
    pieces, position = [], 0
    while True:
        end = body.find(b"\r\n", position)
        if end < 0:
            raise LoadError("a chunked body without its end")
        size = int(body[position:end], 16)
        if size == 0:
            return b"".join(pieces)
        pieces.append(body[end + 2 : end + 2 + size])
        position = end + 2 + size + 2


def textOfStream(body: bytes) -> str:
    """
    The text of a whole stream.

    @raise LoadError: the stream is not one of a chat completion, or was cut.
    """
    *events, done, nothing = body.split(b"\n\n")
    if (done, nothing) != (b"data: [DONE]", b""):
        raise LoadError(f"the stream ends with {body[-200:]!r}")
    texts, reasons = [], []
    for event in events:
        if not event.startswith(b"data: {") or b"\n" in event:
            raise LoadError(f"{event[:200]!r} is no event")
        for choice in _completion(event[6:]).choices:
            texts.append(choice.delta.content or "")
            reasons += [choice.finish_reason] if choice.finish_reason else []
    if reasons != ["stop"]:
        raise LoadError(f"the stream finished with {reasons}")
    return "".join(texts)


def textOfResponse(body: bytes) -> str:
    """
    The text of a whole stream of the Responses API.

    @raise LoadError: the stream is none, was cut, or its events are not
        numbered without a gap.
    """
    *events, done, nothing = body.split(b"\n\n")
    if (done, nothing) != (b"data: [DONE]", b""):
        raise LoadError(f"the stream ends with {body[-200:]!r}")
    told = [json.loads(event.partition(b"\ndata: ")[2]) for event in events]
    if [event["sequence_number"] for event in told] != list(range(len(told))):
        raise LoadError("the events of a stream are not numbered one by one")
    if told[-1]["type"] != "response.completed":
        raise LoadError(f"the stream finished with {told[-1]['type']}")
    return "".join([event["delta"] for event in told if event["type"] == "response.output_text.delta"])


def _header(head: bytes, name: bytes) -> bytes | None:
    for line in head.split(b"\r\n")[1:]:
        key, _, value = line.partition(b":")
        if key.strip().lower() == name:
            return value.strip().lower()
    return None
