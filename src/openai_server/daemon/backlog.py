# -*- test-case-name: tests.daemon.test_protocol -*-
"""
What was written and is not sent yet.
"""

from __future__ import annotations

import socket
from typing import Final, Protocol

from twisted.internet.interfaces import IPushProducer
from zope.interface import implementer

#: Bytes that may wait for a daemon that does not read, before prompts are refused.
OUTBOUND_LIMIT: Final = 8 * 1024 * 1024


class Transport(Protocol):
    """
    What is used of a transport of Twisted's.
    """

    def write(self, data: bytes) -> None: ...

    def registerProducer(self, producer: IPushProducer, streaming: bool) -> None: ...

    def unregisterProducer(self) -> None: ...

    def pauseProducing(self) -> None: ...

    def resumeProducing(self) -> None: ...

    def loseConnection(self) -> None: ...

    def abortConnection(self) -> None: ...


@implementer(IPushProducer)
class Backlog:
    """
    The way out of one connection: bytes go to the socket at once while nothing
    waits before them, and else to the transport, which says when it is empty.

    @ivar isOver: whether more is waiting than a prompt should be added to.
    @ivar isEmpty: whether the transport holds nothing, as far as it is known.
    """

    __slots__ = ("_socket", "_transport", "isEmpty", "isOver", "size")

    def __init__(self, transport: Transport, handle: socket.socket | None) -> None:
        """
        @param handle: the transport's socket, or None when it has none; then
            all bytes go to the transport.
        """
        self.size = 0
        self.isEmpty = True
        self.isOver = False
        self._transport = transport
        self._socket = handle
        # A pull producer is told whenever the buffer is empty; a push producer
        # only after it had been paused.
        transport.registerProducer(self, handle is None)

    def send(self, data: bytes) -> None:
        """
        Send these bytes behind all earlier ones.
        """
        if self._socket is not None and self.isEmpty:
            try:
                sent = self._socket.send(data)
            except OSError:
                # It would block; or it is broken, as the transport will find.
                sent = 0
            if sent == len(data):
                return
            data = data[sent:]
            self.isEmpty = False
        # While a transport without a socket is silent, it has taken all but its
        # own small buffer.
        self.size = len(data) if self.isEmpty else self.size + len(data)
        self._transport.write(data)
        self.isOver = self.size > OUTBOUND_LIMIT and not self.isEmpty

    def close(self) -> None:
        """
        Close the connection when all is sent.
        """
        # A transport with a producer would wait for it, and never close.
        self._transport.unregisterProducer()
        self._socket = None
        self._transport.loseConnection()

    def pauseProducing(self) -> None:
        """
        Note that the transport's buffer is full.
        """
        self.isEmpty = False
        self.isOver = self.size > OUTBOUND_LIMIT

    def resumeProducing(self) -> None:
        """
        Note that the transport's buffer is empty.
        """
        self.isEmpty = True
        self.isOver = False
        self.size = 0

    def stopProducing(self) -> None:
        """
        The connection is gone.
        """
        self._socket = None
