# -*- test-case-name: tests.daemon.test_backlog -*-
"""
The way out of one connection.

Bytes go to the socket itself while the transport holds none: the transport
would wait for the next turn of the reactor, and ask the system twice. What the
socket does not take is the transport's, which tells when it has sent all of it.
"""

from __future__ import annotations

import socket
from typing import Any, Protocol

from twisted.internet.interfaces import IPushProducer
from zope.interface import implementer


class Transport(Protocol):
    """
    What is used of a transport of Twisted's.
    """

    def write(self, data: bytes) -> None: ...

    def registerProducer(self, producer: Any, streaming: bool) -> None: ...

    def unregisterProducer(self) -> None: ...


def socketOf(transport: Any) -> socket.socket | None:
    """
    Return the socket below a transport that sends its bytes as they are; None
    under TLS, and where there is no socket.
    """
    handle = transport.getHandle() if hasattr(transport, "getHandle") else None
    return handle if isinstance(handle, socket.socket) else None


@implementer(IPushProducer)
class Outlet:
    """
    Sends at once what can be sent.

    @ivar isPaused: whether the transport has more to send than it wants to hold;
        with a socket, whether it holds anything.
    """

    __slots__ = ("_socket", "_transport", "isPaused")

    def __init__(self, transport: Transport, handle: socket.socket | None) -> None:
        """
        @param handle: the transport's socket, or None when it has none; then
            all bytes go to the transport.
        """
        self.isPaused = False
        self._transport = transport
        self._socket = handle
        # A pull producer is told whenever the buffer is empty; a push producer
        # only after it had been paused.
        transport.registerProducer(self, handle is None)

    def put(self, data: bytes) -> int:
        """
        Send these bytes behind all earlier ones.

        @return: how many of them went to the transport.
        """
        if self._socket is not None and not self.isPaused:
            try:
                sent = self._socket.send(data)
            except OSError:
                # It would block; or it is broken, as the transport will find.
                sent = 0
            if sent == len(data):
                return 0
            self.isPaused = True
            data = data[sent:]
        self._transport.write(data)
        return len(data)

    def detach(self) -> None:
        """
        Let go of the transport, which would not close while it has a producer.
        """
        self._socket = None
        self._transport.unregisterProducer()

    def pauseProducing(self) -> None:
        """
        Note that the transport's buffer is full.
        """
        self.isPaused = True

    def resumeProducing(self) -> None:
        """
        Note that the transport's buffer is empty.
        """
        self.isPaused = False

    def stopProducing(self) -> None:
        """
        The connection is gone.
        """
        self._socket = None
