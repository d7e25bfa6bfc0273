# -*- test-case-name: tests.web.test_streaming -*-
"""
Answers that outlast one write, and clients that read them slowly.

The daemon is never made to wait for a client, so what a client has not read
piles up here, within bounds. A client is I{stuck}, and cut, when

  - events go on coming while more than L{QUEUE_BYTES} wait for it, for
    L{QUEUE_SECONDS}; one event may be as large as it likes, or
  - it takes nothing for L{STILL_SECONDS} while more than L{STILL_BYTES} wait,
    or while anything waits of an answer that is complete.

The transport says only when it has sent everything it holds. It is therefore
given no more than a slice at a time while it holds something: each slice
taken is progress.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Final

from twisted.internet.interfaces import IPushProducer
from zope.interface import implementer

from openai_server.clock import Clock, Deadline
from openai_server.errors import End

if TYPE_CHECKING:
    from openai_server.web.site import APIRequest

QUEUE_BYTES: Final = 256 * 1024
QUEUE_SECONDS: Final = 1.0
STILL_BYTES: Final = 64 * 1024
STILL_SECONDS: Final = 10.0

#: Bytes given to the transport at a time while it holds others: as many as
#: make it say when it has sent them.
SLICE: Final = 64 * 1024

#: Seconds: no client is pinged more often.
SHORTEST_INTERVAL: Final = 1.0

_STREAM_HEADERS: Final = {
    "Content-Type": "text/event-stream; charset=utf-8",
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


@implementer(IPushProducer)
class Outflow:
    """
    The bytes of one answer on their way out, no faster than the client reads.

    @ivar queued: bytes that wait here; what the transport holds is not counted.
    """

    def __init__(self, request: APIRequest, onStuck: Callable[[], None] | None = None) -> None:
        """
        @param onStuck: called when the client is stuck, after its connection
            was aborted.
        """
        self.queued = 0
        self._request = request
        self._clock: Clock = request.site.clock
        self._onStuck = onStuck
        self._pieces: deque[bytes] = deque()
        self._isPaused = False
        self._isRegistered = False
        self._whenDrained: Callable[[], None] | None = None
        self._full: Deadline | None = None
        self._still: Deadline | None = None

    # What the answer's maker does.

    def sendAll(self, body: bytes) -> None:
        """
        Send a whole body and finish the request.
        """
        if len(body) <= SLICE:
            self._request.write(body)
            self._request.finish()
        else:
            self.send(body)
            self.drainThen(self._request.finish)

    def send(self, data: bytes) -> None:
        """
        Send these bytes, or queue them behind others.
        """
        if not self._isRegistered:
            self._register()
        if not self._pieces and not self._isPaused and len(data) <= SLICE:
            self._request.write(data)
            return
        if self.queued > QUEUE_BYTES and self._full is None:
            self._full = Deadline(self._clock, QUEUE_SECONDS, self._stuck)
        self._queue(data)
        self._flow()

    def drainThen(self, whenDrained: Callable[[], None]) -> None:
        """
        Nothing more will be sent: call this when the transport has the last
        byte.
        """
        self._whenDrained = whenDrained
        self._stop(self._full)
        if self._pieces:
            self._watch()
        else:
            self._drained()

    def close(self) -> None:
        """
        Forget what is queued, and every timer.
        """
        self._pieces.clear()
        self.queued = 0
        self._stop(self._full)
        self._stop(self._still)
        self._whenDrained = None
        if self._isRegistered and not self._request.isOver:
            self._request.unregisterProducer()
        self._isRegistered = False

    # What the transport says.

    def pauseProducing(self) -> None:
        """
        The transport holds enough.
        """
        self._isPaused = True

    def resumeProducing(self) -> None:
        """
        The transport has sent all that it held.
        """
        self._isPaused = False
        self._flow()

    def stopProducing(self) -> None:
        """
        The connection is being lost; the request hears of it next.
        """
        self._isPaused = True

    # Inside.

    def _register(self) -> None:
        self._isRegistered = True
        self._request.outflow = self
        # An answer before this one may still fill the transport.
        self._isPaused = self._request.channel.isPaused
        self._request.registerProducer(self, True)

    def _queue(self, data: bytes) -> None:
        self._pieces.extend(data[at : at + SLICE] for at in range(0, len(data), SLICE))
        self.queued += len(data)

    def _flow(self) -> None:
        # Writing may pause us before it returns.
        before = self.queued
        while self._pieces and not self._isPaused:
            self._request.write(self._nextSlice())
        if self.queued < before and self._still is not None:
            self._still.extend(STILL_SECONDS)
        if self.queued <= QUEUE_BYTES:
            self._stop(self._full)
            self._full = None
        if self._pieces:
            self._watch()
        elif before:
            self._drained()

    def _nextSlice(self) -> bytes:
        pieces = [self._pieces.popleft()]
        size = len(pieces[0])
        while self._pieces and size + len(self._pieces[0]) <= SLICE:
            pieces.append(self._pieces.popleft())
            size += len(pieces[-1])
        self.queued -= size
        return b"".join(pieces)

    def _drained(self) -> None:
        self._stop(self._still)
        self._still = None
        whenDrained = self._whenDrained
        if whenDrained is not None:
            self.close()
            whenDrained()

    def _watch(self) -> None:
        if self._still is None and (self._whenDrained is not None or self.queued > STILL_BYTES):
            self._still = Deadline(self._clock, STILL_SECONDS, self._stuck)

    def _stuck(self) -> None:
        self._still = None
        if self._whenDrained is None and self.queued <= STILL_BYTES:
            return
        request = self._request
        request.setEnd(End.CLIENT_STUCK)
        self.close()
        request.channel.abort()
        if self._onStuck is not None:
            self._onStuck()

    @staticmethod
    def _stop(deadline: Deadline | None) -> None:
        if deadline is not None:
            deadline.cancel()


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

    def begin(self, headers: Mapping[str, str]) -> None:
        """
        Decide for a stream; the head leaves with the first event.

        @param headers: further headers of the answer.
        """
        self._request.setResponseCode(200)
        for name, value in headers.items():
            self._request.setHeader(name, value)
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

    def abort(self, end: End) -> None:
        """
        Cut the connection at once.
        """
        if self._end():
            self._request.setEnd(end)
            self._outflow.close()
            self._request.channel.abort()

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
