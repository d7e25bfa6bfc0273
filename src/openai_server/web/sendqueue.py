# -*- test-case-name: tests.web.test_streaming -*-
"""
Bytes on their way to one client, and clients that read them slowly.

The daemon is never made to wait for a client, so what a client has not read
piles up here, within bounds. A client is I{stuck}, and cut, when

  - more goes on coming while over L{QUEUE_BYTES} wait for it, for
    L{QUEUE_SECONDS}; one event may be as large as it likes, or
  - it takes nothing for L{STILL_SECONDS} while more than L{STILL_BYTES} wait,
    or while anything waits of an answer that is complete.

The transport says only when it has sent everything it holds. It is therefore
given no more than a slice at a time while it holds something: each slice
taken is progress.
"""

from __future__ import annotations

import socket
from collections import deque
from collections.abc import Callable, Sequence
from typing import Final

from twisted.internet.abstract import FileDescriptor
from twisted.internet.interfaces import IReactorTime

from openai_server.clock import Deadline
from openai_server.outlet import Outlet, Transport

QUEUE_BYTES: Final = 256 * 1024
QUEUE_SECONDS: Final = 1.0
STILL_BYTES: Final = 64 * 1024
STILL_SECONDS: Final = 10.0

#: Bytes given to the transport at a time while it holds others: just enough
#: to pause us, and so to be told when they are sent.
SLICE: Final = FileDescriptor.bufferSize + 1


class SendQueue(Outlet):
    """
    The bytes of one connection on their way out, no faster than its client
    reads.

    @ivar queued: bytes that wait here; what the transport holds is not counted.
    """

    __slots__ = ("_clock", "_full", "_onStuck", "_pieces", "_still", "_whenSent", "queued")

    def __init__(
        self,
        transport: Transport,
        handle: socket.socket | None,
        clock: IReactorTime,
        onStuck: Callable[[], None],
    ) -> None:
        """
        @param handle: the transport's socket, if it has one.
        @param onStuck: called when the client is stuck.
        """
        self.queued = 0
        self._clock = clock
        self._onStuck = onStuck
        # A deque of its own for each connection would be most of this object.
        self._pieces: deque[bytes] | tuple[()] = ()
        self._whenSent: Sequence[Callable[[], None]] = ()
        self._full: Deadline | None = None
        self._still: Deadline | None = None
        super().__init__(transport, handle)

    def send(self, data: bytes) -> None:
        """
        Send these bytes, or queue them behind others.
        """
        if self.isPaused or self._pieces or len(data) > SLICE:
            self._queue(data)
        else:
            self.put(data)

    def whenSent(self, sent: Callable[[], None]) -> None:
        """
        Nothing follows for the present: call this once the transport has the
        last byte, and give its client L{STILL_SECONDS} for the rest. Several
        may wait for that.
        """
        self._stopFull()
        if self._pieces:
            self._whenSent = [*self._whenSent, sent]
            self._watch()
        else:
            sent()

    def watchRest(self) -> None:
        """
        Give the client L{STILL_SECONDS} for what the transport holds.
        """
        if self.isPaused and self._still is None:
            self._still = Deadline(self._clock, STILL_SECONDS, self._stuck)

    def clear(self) -> None:
        """
        Forget what waits here, and every timer.
        """
        self._pieces = ()
        self.queued = 0
        self._whenSent = ()
        self._stopFull()
        self._stopStill()

    def resumeProducing(self) -> None:
        """
        The transport has sent all that it held.
        """
        self.isPaused = False
        if self._pieces:
            self._flow()
        elif self._still is not None:
            self._stopStill()

    # Inside.

    def _queue(self, data: bytes) -> None:
        if self.queued > QUEUE_BYTES and self._full is None:
            self._full = Deadline(self._clock, QUEUE_SECONDS, self._stuck)
        pieces = deque(self._pieces) if not self._pieces else self._pieces
        assert isinstance(pieces, deque)
        self._pieces = pieces
        pieces.extend(data[at : at + SLICE] for at in range(0, len(data), SLICE))
        self.queued += len(data)
        self._flow()

    def _flow(self) -> None:
        # Putting may pause us before it returns.
        before = self.queued
        while self._pieces and not self.isPaused:
            self.put(self._nextSlice())
        if self.queued < before and self._still is not None:
            self._still.extend(STILL_SECONDS)
        if self.queued <= QUEUE_BYTES:
            self._stopFull()
        if self._pieces:
            self._watch()
        else:
            self._pieces = ()
            self._stopStill()
            waiting, self._whenSent = self._whenSent, ()
            for sent in waiting:
                sent()

    def _nextSlice(self) -> bytes:
        waiting = self._pieces
        assert isinstance(waiting, deque)
        pieces = [waiting.popleft()]
        size = len(pieces[0])
        while waiting and size + len(waiting[0]) <= SLICE:
            pieces.append(waiting.popleft())
            size += len(pieces[-1])
        self.queued -= size
        return b"".join(pieces)

    def _watch(self) -> None:
        if self._still is None and (self._whenSent or self.queued > STILL_BYTES):
            self._still = Deadline(self._clock, STILL_SECONDS, self._hasBeenStill)

    def _hasBeenStill(self) -> None:
        if not self._whenSent and self.queued <= STILL_BYTES:
            self._still = None
        else:
            self._stuck()

    def _stuck(self) -> None:
        self.clear()
        self._onStuck()

    def _stopFull(self) -> None:
        if self._full is not None:
            self._full.cancel()
            self._full = None

    def _stopStill(self) -> None:
        if self._still is not None:
            self._still.cancel()
            self._still = None
