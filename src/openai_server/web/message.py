# -*- test-case-name: tests.web.test_websocket -*-
"""
A message of a WebSocket as a request: answered like a POST, but in events.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from openai_server.api.responses.websocket import (
    CreateEvent,
    errorEventFrom,
    eventsIn,
    inLane,
    isLast,
)
from openai_server.web.httprequest import HTTPRequest
from openai_server.web.interfaces import StreamWords
from openai_server.web.lanememory import LaneMemory, Remembered
from openai_server.web.request import APIRequest, Channel, OpenResponses

#: Headers of the handshake that are of one request, and not of all that follow.
_OF_ONE_REQUEST: Final = frozenset({b"idempotency-key", b"x-stainless-retry-count"})


class MessageRequest(APIRequest):
    """
    One request of a L{WebSocketConnection<openai_server.web.websocket.WebSocketConnection>}.
    What the handshake said in its headers holds for it, and what would be
    headers of the answer is not said.

    @ivar lane: the lane that it is answered in.
    @ivar event: what it asks; None where that could not be read.
    @ivar size: bytes of its message.
    @ivar memory: what its connection knows of responses.
    @ivar parent: what it goes on from that is not stored.
    @ivar lastEvent: the last event of its answer, once there is one.
    """

    __slots__ = ("_frame", "_handshake", "event", "lane", "lastEvent", "memory", "parent", "size")

    def __init__(
        self,
        site: OpenResponses,
        channel: Channel,
        handshake: HTTPRequest,
        memory: LaneMemory,
        frame: Callable[[bytes], bytes],
    ) -> None:
        """
        @param memory: the connection's.
        @param frame: makes a frame of an event.
        """
        super().__init__(site, channel, handshake.method, handshake.path)
        self.query = handshake.query
        self.account = handshake.account
        self.requestId = self.nameFrom(None)
        self.route = handshake.route
        self.lane: str | None = None
        self.event: CreateEvent | None = None
        self.size = 0
        self.parent: Remembered | None = None
        self.lastEvent: bytes | None = None
        self.memory = memory
        self._handshake = handshake
        self._frame = frame

    def getHeader(self, name: bytes) -> bytes | None:
        """
        Return the last header of this name.
        """
        return None if name in _OF_ONE_REQUEST else self._handshake.getHeader(name)

    def valuesOf(self, name: bytes) -> list[bytes]:
        """
        Return all headers of this name.
        """
        return [] if name in _OF_ONE_REQUEST else self._handshake.valuesOf(name)

    def takeBody(self) -> bytes:
        """
        Return the body of the POST that asks the same.
        """
        assert self.event is not None
        body, self.event.body = self.event.body, b""
        return body

    def begin(self, words: StreamWords, interval: float = 0.0) -> None:
        """
        Decide for a stream. It may be silent: the connection itself gives signs
        of life.
        """
        super().begin(words)

    def beginning(self, data: bytes) -> bytes:
        """
        Return the first events of a stream; or the event of an error, which is
        the whole answer.
        """
        if self.isStream:
            return self.framed(data)
        return self._framed(errorEventFrom(data, self.code, self.headers))

    def framed(self, data: bytes) -> bytes:
        """
        Return these events of a stream, each in a frame of its own.
        """
        return b"".join([self._framed(event) for event in eventsIn(data)])

    def _framed(self, event: bytes) -> bytes:
        if isLast(event):
            self.lastEvent = event
        return self._frame(inLane(event, self.lane))

    def ending(self) -> bytes:
        """
        Return nothing: the last event says that it is the last.
        """
        return b""
