# -*- test-case-name: tests.web.test_streaming -*-
"""
Bytes on their way out, and clients that read them slowly.

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

from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING, Final

from twisted.internet.abstract import FileDescriptor
from twisted.internet.interfaces import IReactorTime

from openai_server.clock import Deadline
from openai_server.errors import End

if TYPE_CHECKING:
    from openai_server.web.request import APIRequest

QUEUE_BYTES: Final = 256 * 1024
QUEUE_SECONDS: Final = 1.0
STILL_BYTES: Final = 64 * 1024
STILL_SECONDS: Final = 10.0

#: Bytes given to the transport at a time while it holds others: just enough
#: to pause us, and so to be told when they are sent.
SLICE: Final = FileDescriptor.bufferSize + 1


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
        self._clock: IReactorTime = request.site.clock
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
        if self._isRegistered and self._request.channel.outflow is self:
            self._request.channel.outflow = None
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

    # Inside.

    def _register(self) -> None:
        self._isRegistered = True
        self._request.channel.outflow = self
        # An answer before this one may still fill the transport.
        self._isPaused = self._request.channel.isPaused

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
        if self._whenDrained is None and self.queued <= STILL_BYTES:
            self._still = None
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
