# -*- test-case-name: tests.embedded.test_connection -*-
"""
One bee's connection, as the embedded daemon keeps it.
"""

from __future__ import annotations

import socket
from collections.abc import Mapping
from typing import Any, Final, Protocol

from twisted.internet import protocol
from twisted.internet.interfaces import IPushProducer
from twisted.python.failure import Failure
from zope.interface import implementer

from openai_server.embedded.lines import lineFromMembers, toneFromLine

#: Tones that wait for a client that does not read; more are lost.
QUEUE_LENGTH: Final = 1024

#: Bytes that the kernel keeps for a client: about as many tones as with the
#: real daemon, which writes each by itself.
_SEND_BUFFER: Final = 32 * 1024

#: Bytes of a line: a bound for the sake of this process.
MAX_LINE: Final = 128 * 1024 * 1024


class ConnectionHost(Protocol):
    """
    What a connection needs of its daemon.
    """

    def clientConnected(self, client: BeeConnection) -> None:
        """
        Take a new client.
        """

    def clientLost(self, client: BeeConnection) -> None:
        """
        Forget a client that is gone.
        """

    def toneReceived(self, tone: dict[str, Any], client: BeeConnection) -> None:
        """
        Do what a client's tone asks for.
        """


@implementer(IPushProducer)
class BeeConnection(protocol.Protocol):
    """
    A client's connection: lines in, lines out, and the queue that loses tones
    when the client does not read. It never waits for the client.

    @ivar number: 1 for the first client of this daemon.
    @ivar manifest: what its latest hello said, or None before that.
    @ivar owned: the sids that it owns, in the order in which it took them.
    @ivar lostTones: how many tones found the queue full.
    @ivar isCrowded: whether the client does not keep up, so that what is sent
        now has to wait.
    """

    def __init__(self, host: ConnectionHost, number: int) -> None:
        self.number = number
        self.manifest: Mapping[str, Any] | None = None
        self.owned: dict[str, None] = {}
        self.lostTones = 0
        self.isConnected = False
        self.isCrowded = False
        self._host = host
        self._partial: list[bytes] = []
        self._size = 0
        self._queue: list[bytes] = []

    def connectionMade(self) -> None:
        assert self.transport is not None
        self.isConnected = True
        handle = getattr(self.transport, "getHandle", lambda: None)()
        if isinstance(handle, socket.socket):
            handle.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, _SEND_BUFFER)
        self.transport.registerProducer(self, True)  # type: ignore[attr-defined]
        self._host.clientConnected(self)

    def connectionLost(self, reason: Failure = protocol.connectionDone) -> None:
        self._queue.clear()
        if self.isConnected:
            self.isConnected = False
            self._host.clientLost(self)

    def dataReceived(self, data: bytes) -> None:
        *lines, last = data.split(b"\n")
        if lines:
            lines[0] = b"".join([*self._partial, lines[0]])
            self._partial, self._size = [], 0
        for line in lines:
            if not self.lineReceived(line):
                return
        self._partial.append(last)
        self._size += len(last)
        if self._size > MAX_LINE:
            self.disconnect()

    def lineReceived(self, line: bytes) -> bool:
        """
        Take a line, here without its newline.

        @return: whether lines after it are to be read.
        """
        try:
            tone = toneFromLine(line)
        except UnicodeDecodeError:
            assert self.transport is not None
            self.transport.loseConnection()
            return False
        if tone is not None:
            self.toneReceived(tone)
        return self.isConnected

    def toneReceived(self, tone: dict[str, Any]) -> None:
        """
        Take a tone.
        """
        self._host.toneReceived(tone, self)

    def send(self, lines: list[bytes]) -> None:
        """
        Send lines, each with its newline; those that find the queue full are lost.
        """
        if not self.isConnected:
            return
        if self.isCrowded:
            room = QUEUE_LENGTH - len(self._queue)
            self._queue += lines[:room]
            self.lostTones += len(lines[room:])
        else:
            self.write(lines)

    def sendTone(self, **members: Any) -> None:
        """
        Send one tone.
        """
        self.send([lineFromMembers(members)])

    def write(self, lines: list[bytes]) -> None:
        """
        Give lines to the transport.
        """
        assert self.transport is not None
        self.transport.write(b"".join(lines))

    def disconnect(self) -> None:
        """
        Cut this connection, as when the daemon dies: what was not yet sent is lost.
        """
        assert self.transport is not None
        self.connectionLost()
        self.transport.abortConnection()  # type: ignore[attr-defined]

    # The transport's word on whether the client reads.

    def pauseProducing(self) -> None:
        self.isCrowded = True

    def resumeProducing(self) -> None:
        self.isCrowded = False
        queue, self._queue = self._queue, []
        if queue:
            self.write(queue)

    def stopProducing(self) -> None:
        self.isCrowded = True
