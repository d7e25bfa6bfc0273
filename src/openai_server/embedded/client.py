# -*- test-case-name: tests.embedded.test_client -*-
"""
One bee's connection, as the embedded daemon keeps it.
"""

from __future__ import annotations

import socket
from collections.abc import Iterator, Mapping
from typing import Any, Final, Protocol

from twisted.internet import protocol
from twisted.internet.interfaces import IDelayedCall, IPushProducer, IReactorTime
from twisted.python.failure import Failure
from zope.interface import implementer

from openai_server.embedded.lines import lineFromMembers, toneFromLine
from openai_server.embedded.settings import Faults

#: Tones that wait for a client that does not read; more are lost.
QUEUE_LENGTH: Final = 1024

#: Bytes that the kernel keeps for a client: about as many tones as with the
#: real daemon, which writes each by itself.
_SEND_BUFFER: Final = 32 * 1024

#: Bytes of a line: a bound for the sake of this process.
MAX_LINE: Final = 128 * 1024 * 1024


class Observer(Protocol):
    """
    Sees all that passes between the daemon and its clients. Connections are
    named by their number: 1 for the first that this daemon object accepted.
    """

    def connected(self, connection: int) -> None:
        """
        A client has connected.
        """

    def lineReceived(self, line: bytes, connection: int) -> None:
        """
        A client has sent a line, here without its newline.
        """

    def toneSent(self, line: bytes, connection: int) -> None:
        """
        A line goes to a client.
        """


class Host(Protocol):
    """
    What a connection needs of its daemon.
    """

    @property
    def clock(self) -> IReactorTime:
        """
        What it waits with.
        """

    @property
    def faults(self) -> Faults:
        """
        What is wrong just now.
        """

    @property
    def observer(self) -> Observer | None:
        """
        Who sees all that passes.
        """

    def clientConnected(self, client: Client) -> None:
        """
        A client is there.
        """

    def clientLost(self, client: Client) -> None:
        """
        A client is gone.
        """

    def lineSeen(self, line: bytes, client: Client) -> None:
        """
        A client has sent a line, whatever it holds.
        """

    def toneReceived(self, tone: dict[str, Any], client: Client) -> None:
        """
        A client has sent a tone.
        """


@implementer(IPushProducer)
class Client(protocol.Protocol):
    """
    A client's connection: lines in, lines out, and the queue that loses tones
    when the client does not read. It never waits for the client.

    @ivar number: 1 for the first client of this daemon.
    @ivar manifest: what its latest hello said, or None before that.
    @ivar owned: the sids that it owns, in the order in which it took them.
    @ivar lostTones: how many tones found the queue full.
    """

    def __init__(self, host: Host, number: int) -> None:
        self.number = number
        self.manifest: Mapping[str, Any] | None = None
        self.owned: dict[str, None] = {}
        self.lostTones = 0
        self.isConnected = False
        self._host = host
        self._partial: list[bytes] = []
        self._size = 0
        self._isPaused = False
        self._queue: list[bytes] = []
        self._pieces: Iterator[int] = iter(())
        self._trickle = b""
        self._trickling: IDelayedCall | None = None

    @property
    def isCrowded(self) -> bool:
        """
        The client does not keep up: what is sent now has to wait.
        """
        return self._isPaused

    def connectionMade(self) -> None:
        """
        See L{protocol.Protocol.connectionMade}.
        """
        assert self.transport is not None
        if self._host.faults.closeOnConnect:
            self.transport.loseConnection()
            return
        self.isConnected = True
        self._pieces = iter(self._host.faults.pieces)
        self._narrow()
        self.transport.registerProducer(self, True)  # type: ignore[attr-defined]
        self._host.clientConnected(self)

    def connectionLost(self, reason: Failure = protocol.connectionDone) -> None:
        """
        See L{protocol.Protocol.connectionLost}.
        """
        self._stop()
        if self.isConnected:
            self.isConnected = False
            self._host.clientLost(self)

    def dataReceived(self, data: bytes) -> None:
        """
        See L{protocol.Protocol.dataReceived}.
        """
        *lines, last = data.split(b"\n")
        if lines:
            lines[0] = b"".join([*self._partial, lines[0]])
            self._partial, self._size = [], 0
        for line in lines:
            if not self._lineReceived(line):
                return
        self._partial.append(last)
        self._size += len(last)
        if self._size > MAX_LINE:
            self.disconnect()

    def send(self, lines: list[bytes]) -> None:
        """
        Send lines, each with its newline; those that find the queue full are lost.
        """
        if not self.isConnected:
            return
        if self._host.faults.dropTone is not None:
            lines = [line for line in lines if not self._host.faults.dropTone(line)]
        if self._host.faults.rewrite is not None:
            lines = [piece for line in lines for piece in self._host.faults.rewrite(line)]
        if self._isPaused:
            room = QUEUE_LENGTH - len(self._queue)
            self._queue += lines[:room]
            self.lostTones += len(lines[room:])
        else:
            self._write(lines)

    def sendTone(self, **members: Any) -> None:
        """
        Send one tone.
        """
        self.send([lineFromMembers(members)])

    def disconnect(self) -> None:
        """
        Cut this connection, as when the daemon dies: what was not yet sent is lost.
        """
        assert self.transport is not None
        self.connectionLost()
        self.transport.abortConnection()  # type: ignore[attr-defined]

    def stopReading(self) -> None:
        """
        Read nothing more from this client: its sent bytes pile up on its side.
        """
        assert self.transport is not None
        self.transport.pauseProducing()  # type: ignore[attr-defined]

    def goOnReading(self) -> None:
        """
        Read from this client again.
        """
        assert self.transport is not None
        self.transport.resumeProducing()  # type: ignore[attr-defined]

    # The transport's word on whether the client reads.

    def pauseProducing(self) -> None:
        """
        The client does not read: tones wait in the queue from now on.
        """
        self._isPaused = True

    def resumeProducing(self) -> None:
        """
        The client reads again: what has waited goes out.
        """
        self._isPaused = False
        queue, self._queue = self._queue, []
        if queue:
            self._write(queue)

    def stopProducing(self) -> None:
        """
        The connection is closing.
        """
        self._isPaused = True

    # Inside.

    def _narrow(self) -> None:
        handle = getattr(self.transport, "getHandle", lambda: None)()
        if isinstance(handle, socket.socket):
            handle.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, _SEND_BUFFER)

    def _lineReceived(self, line: bytes) -> bool:
        self._host.lineSeen(line, self)
        try:
            tone = toneFromLine(line)
        except UnicodeDecodeError:
            assert self.transport is not None
            self.transport.loseConnection()
            return False
        if tone is not None:
            self._host.toneReceived(tone, self)
        return self.isConnected

    def _write(self, lines: list[bytes]) -> None:
        assert self.transport is not None
        if self._host.observer is not None:
            for line in lines:
                self._host.observer.toneSent(line, self.number)
        data = b"".join(lines)
        if self._trickling is None:
            size = next(self._pieces, None)
            if size is None:
                self.transport.write(data)
                return
            self._trickling = self._host.clock.callLater(0, self._writePiece, size)
        self._trickle += data

    def _writePiece(self, size: int) -> None:
        assert self.transport is not None
        self._trickling = None
        piece, self._trickle = self._trickle[:size], self._trickle[size:]
        self.transport.write(piece)
        if self._trickle:
            following = next(self._pieces, len(self._trickle))
            self._trickling = self._host.clock.callLater(0, self._writePiece, following)

    def _stop(self) -> None:
        self._queue.clear()
        self._trickle = b""
        if self._trickling is not None:
            self._trickling.cancel()
            self._trickling = None
