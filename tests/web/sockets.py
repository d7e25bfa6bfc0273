"""
The client's end of a WebSocket, in memory.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

from wsproto.connection import Connection, ConnectionState, ConnectionType
from wsproto.events import CloseConnection, Event, Message, Ping, TextMessage

from tests.web.transports import WireTransport

#: RFC 6455's own example.
KEY = "dGhlIHNhbXBsZSBub25jZQ=="
ACCEPT = "s3pPLMBiTxaQ9kYGzzhZRbK+xOo="


def handshake(path: str = "/v1/responses", *headers: str, version: str = "13", key: str = KEY) -> bytes:
    """
    The bytes of a request for a WebSocket.
    """
    lines = [
        f"GET {path} HTTP/1.1",
        "Host: localhost",
        "Connection: keep-alive, Upgrade",
        "Upgrade: websocket",
        f"Sec-WebSocket-Version: {version}",
        f"Sec-WebSocket-Key: {key}",
        *headers,
    ]
    return "\r\n".join(lines).encode("latin-1") + b"\r\n\r\n"


class SocketClient:
    """
    A client, and what it has read.

    @ivar head: the answer to its handshake.
    @ivar events: what came in messages.
    @ivar pings: how many pings came.
    @ivar code: with which the server closes; None as long as it does not.
    @ivar reason: why.
    """

    def __init__(
        self,
        wire: WireTransport,
        flush: Callable[[], None] = lambda: None,
        path: str = "/v1/responses",
        *headers: str,
    ) -> None:
        """
        @param flush: lets everything happen that follows from what was sent.
        """
        self.wire = wire
        self.head = b""
        self.events: list[Any] = []
        self.pings = 0
        self.code: int | None = None
        self.reason: str | None = None
        self._flush = flush
        self._frames = Connection(ConnectionType.CLIENT)
        self._text = ""
        self._taken = 0
        self.raw(handshake(path, *headers))

    def frame(self, event: Event) -> bytes:
        """
        The bytes of something to be sent.
        """
        return bytes(self._frames.send(event))

    def raw(self, data: bytes) -> None:
        """
        Send bytes, and read what comes.
        """
        self.wire.send(data)
        self._flush()
        self.read()

    def say(self, text: str | bytes) -> None:
        """
        Send a message.
        """
        data = text if isinstance(text, str) else text.decode()
        self.raw(self.frame(TextMessage(data=data)))

    def create(self, input: Any = None, model: str = "script", **members: Any) -> None:
        """
        Ask for a response.
        """
        asked = {"type": "response.create", "model": model, **members}
        self.say(json.dumps(asked if input is None else {**asked, "input": input}))

    def close(self, code: int = 1000) -> None:
        """
        Close, as a client does.
        """
        self.raw(self.frame(CloseConnection(code=code)))

    def read(self, size: int | None = None) -> None:
        """
        Take in what the server has sent.
        """
        self.wire.read(size)
        if not self.head:
            end = self.wire.received.find(b"\r\n\r\n")
            if end < 0:
                return
            self._taken = end + 4
            self.head = self.wire.received[: self._taken]
        data, self._taken = self.wire.received[self._taken :], len(self.wire.received)
        if self.head.startswith(b"HTTP/1.1 101 ") and self._frames.state is not ConnectionState.CLOSED:
            self._frames.receive_data(data)
            for event in self._frames.events():
                self._take(event)

    def _take(self, event: Event) -> None:
        if isinstance(event, Message):
            self._text += str(event.data)
            if event.message_finished:
                self.events.append(json.loads(self._text))
                self._text = ""
        elif isinstance(event, Ping):
            self.pings += 1
        elif isinstance(event, CloseConnection):
            self.code, self.reason = event.code, event.reason

    def types(self, lane: str | None = None) -> list[str]:
        """
        The types of the events of a lane.
        """
        self.read()
        return [event["type"] for event in self.events if event.get("stream_id") == lane]

    @property
    def last(self) -> Any:
        """
        The last event.
        """
        return self.events[-1]

    @property
    def response(self) -> Any:
        """
        The response of the last event.
        """
        return self.last["response"]
