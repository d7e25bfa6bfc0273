# -*- test-case-name: tests.web.test_streaming -*-
"""
Answers that are streams of server-sent events.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TYPE_CHECKING, Final

from openai_server.clock import Deadline
from openai_server.errors import End
from openai_server.web.outflow import Outflow

if TYPE_CHECKING:
    from openai_server.web.request import APIRequest

#: Seconds: no client is pinged more often.
SHORTEST_INTERVAL: Final = 1.0

_STREAM_HEADERS: Final = {
    "Cache-Control": "no-cache, no-transform",
    "X-Accel-Buffering": "no",
}


def keepAliveInterval(request: APIRequest, setting: float) -> float:
    """
    Seconds of silence after which this client wants a sign of life: as set,
    but at most a third of the read timeout that it announces.

    @param setting: seconds.
    """
    try:
        announced = float(request.getHeader(b"x-stainless-read-timeout") or b"nan")
    except ValueError:
        return setting
    if not announced > 0:
        return setting
    return min(setting, max(announced / 3, SHORTEST_INTERVAL))


class EventStream:
    """
    An answer in server-sent events, on one request.

    Nothing is sent before the first L{write}: until then the request can
    still fail with a status. From then on only the stream speaks.
    """

    def __init__(self, request: APIRequest, onGone: Callable[[End], None]) -> None:
        """
        @param onGone: told once, in the same turn of the reactor, when the
            client leaves or is cut for being stuck before the stream's owner
            has ended it. Never told after that.
        """
        self._request = request
        self._onGone = onGone
        self._outflow = Outflow(request, self._gone)
        self._hasEnded = False
        self._ping: bytes = b""
        self._interval = math.inf
        self._silence: Deadline | None = None
        request.stream = self

    @property
    def hasBegun(self) -> bool:
        """
        Bytes have been sent.
        """
        return bool(self._request.startedWriting)

    @property
    def hasEnded(self) -> bool:
        """
        Its owner has ended it, or its client is gone.
        """
        return self._hasEnded

    @property
    def isOpen(self) -> bool:
        """
        Bytes have been sent, and more may follow.
        """
        return self.hasBegun and not self._hasEnded

    @property
    def queued(self) -> int:
        """
        Bytes that wait for the client here.
        """
        return self._outflow.queued

    def begin(self, contentType: bytes = b"text/event-stream; charset=utf-8") -> None:
        """
        Decide for a stream; the head leaves with the first event.
        """
        self._request.setHeader(b"Content-Type", contentType)
        self._request.setResponseCode(200)
        for name, value in _STREAM_HEADERS.items():
            self._request.setHeader(name, value)

    def keepWarm(self, ping: bytes, interval: float) -> None:
        """
        Say something whenever the stream has been silent for a while. Not
        before the first event, and not to a client that is behind anyway.

        @param ping: one whole event.
        @param interval: seconds.
        """
        self._ping, self._interval = ping, interval
        if self.isOpen:
            self._arm()

    def write(self, data: bytes) -> None:
        """
        Send one event or several whole ones, in one write. Does nothing when
        the stream has ended.
        """
        if self._hasEnded:
            return
        self._outflow.send(data)
        if self._silence is not None:
            self._silence.extend(self._interval)
        elif self._ping:
            self._arm()

    def probe(self) -> None:
        """
        Write something that no client minds.
        """
        if not (self._hasEnded or self._outflow.queued):
            self._outflow.send(self._ping or b":\n\n")

    def finish(self) -> None:
        """
        The answer is complete: end it well when the client has taken it.
        """
        if self._end():
            self._outflow.drainThen(self._request.finish)

    def fail(self, event: bytes) -> None:
        """
        The answer cannot be completed: say so, and close the connection
        without the last chunk, so that nobody takes it for complete.
        """
        if self._hasEnded:
            return
        self._outflow.send(event)
        self._end()
        self._outflow.drainThen(self._cut)

    def discard(self) -> None:
        """
        The request is answered in another way.
        """
        self._end()

    def connectionLost(self) -> None:
        """
        Told by the request: the client is gone.
        """
        self._gone(End.CLIENT_GONE)

    # Inside.

    def _cut(self) -> None:
        # Not abortConnection: what was written must still leave.
        self._request.channel.loseConnection()

    def _gone(self, end: End | None = None) -> None:
        if self._end():
            self._request.setEnd(end or End.CLIENT_STUCK)
            self._onGone(end or End.CLIENT_STUCK)

    def _end(self) -> bool:
        # Whether it was open until now.
        wasOpen, self._hasEnded = not self._hasEnded, True
        if self._silence is not None:
            self._silence.cancel()
            self._silence = None
        return wasOpen

    def _arm(self) -> None:
        if self._silence is not None:
            self._silence.cancel()
        self._silence = Deadline(self._request.site.clock, self._interval, self._silent)

    def _silent(self) -> None:
        self._silence = None
        if not self._outflow.queued:
            self._outflow.send(self._ping)
        if not self._hasEnded:
            self._arm()
