"""
A transport in memory that fills up: what Twisted's C{StringTransport} and
C{iosim} leave out.
"""

from __future__ import annotations

from typing import Any

from twisted.internet.address import IPv4Address
from twisted.internet.error import ConnectionAborted, ConnectionDone, ConnectionLost
from twisted.internet.interfaces import (
    IAddress,
    IHalfCloseableDescriptor,
    IProducer,
    IPushProducer,
    ITCPTransport,
)
from twisted.internet.protocol import Protocol
from twisted.python.failure import Failure
from zope.interface import implementer


@implementer(ITCPTransport, IPushProducer, IHalfCloseableDescriptor)
class WireTransport:
    """
    A TCP connection as the reactor runs it, one step at a time.

    Bytes go from C{unsent}, this side's memory, through C{kernel}, which has
    a fixed size, to C{received}, what the client has read. As in
    L{twisted.internet.abstract.FileDescriptor}: writing sends nothing by
    itself, more than C{bufferSize} unsent bytes pause the producer, and it is
    resumed only when nothing is unsent.

    @ivar writes: what was given to each write, in order.
    @ivar isReading: this side wants more from the client.
    @ivar finSent: the client sees the end of our stream.
    @ivar how: how the connection ended: C{closed}, C{aborted}, C{gone}.
    """

    bufferSize = 65536
    sendLimit = 131072

    def __init__(self, protocol: Any, kernelSize: int = 1 << 30, hostAddress: IAddress | None = None) -> None:
        self.kernelSize = kernelSize
        self.unsent = b""
        self.kernel = b""
        self.received = b""
        self.writes: list[bytes] = []
        self.pauses = 0
        self.isReading = True
        self.finSent = False
        self.disconnecting = False
        self.how: str | None = None
        self.noDelay = False
        self.producer: Any = None
        self._producerPaused = False
        self._isAborting = False
        self._writeClosing = False
        self._host = hostAddress or IPv4Address("TCP", "127.0.0.1", 14620)
        self.protocol: Protocol = protocol
        protocol.makeConnection(self)

    # What the client does.

    def send(self, data: bytes) -> None:
        """
        The client sends; the bytes arrive at once if anybody reads.
        """
        if self.isReading and self.how is None:
            self.protocol.dataReceived(data)

    def step(self) -> bool:
        """
        One turn of the reactor for this connection.

        @return: whether something happened.
        """
        if self.how is not None:
            return False
        if self._isAborting:
            self._lost("aborted", ConnectionAborted())
            return True
        room = min(self.kernelSize - len(self.kernel), self.sendLimit)
        moved, self.unsent = self.unsent[:room], self.unsent[room:]
        self.kernel += moved
        if self.unsent:
            return bool(moved)
        if self.producer is not None and self._producerPaused:
            self._producerPaused = False
            self.producer.resumeProducing()
            return True
        if self.disconnecting:
            self._lost("closed", ConnectionDone())
            return True
        if self._writeClosing and not self.finSent:
            self.finSent = True
            return True
        return bool(moved)

    def run(self) -> None:
        """
        Turn the reactor until the kernel is full or nothing is left to do.
        """
        while self.step():
            pass

    def read(self, size: int | None = None) -> bytes:
        """
        The client reads this many bytes, or all that it can get.
        """
        taken = b""
        while True:
            self.run()
            count = len(self.kernel) if size is None else min(size - len(taken), len(self.kernel))
            taken, self.kernel = taken + self.kernel[:count], self.kernel[count:]
            if not count:
                break
        self.received += taken
        return taken

    def leave(self, reason: BaseException | None = None) -> None:
        """
        The client goes: a FIN, or what else the reason says.
        """
        if self.how is None:
            if self.producer is not None:
                self.producer.stopProducing()
            self._lost("gone", reason or ConnectionLost())

    def _lost(self, how: str, reason: BaseException) -> None:
        self.how = how
        self.isReading = False
        self.unsent = b""
        self.producer = None
        self.protocol.connectionLost(Failure(reason))

    # ITransport and its relatives, as FileDescriptor does them.

    def write(self, data: bytes) -> None:
        if data and self.how is None and not self._isAborting and not self.finSent:
            self.writes.append(data)
            self.unsent += data
            if self.producer is not None and len(self.unsent) > self.bufferSize:
                self.pauses += 1
                self._producerPaused = True
                self.producer.pauseProducing()

    def writeSequence(self, iovec: Any) -> None:
        self.write(b"".join(iovec))

    def registerProducer(self, producer: IProducer, streaming: bool) -> None:
        assert self.producer is None and streaming
        self.producer = producer

    def unregisterProducer(self) -> None:
        self.producer = None

    def loseConnection(self) -> None:
        self.isReading = False
        self.disconnecting = True

    def loseWriteConnection(self) -> None:
        self._writeClosing = True

    def abortConnection(self) -> None:
        # The reactor tells the protocol in its next turn.
        self._isAborting = True
        self.isReading = False
        self.unsent = b""

    def pauseProducing(self) -> None:
        self.isReading = False

    def resumeProducing(self) -> None:
        if self.how is None and not self.disconnecting:
            self.isReading = True

    def stopProducing(self) -> None:
        self.loseConnection()

    def getPeer(self) -> IAddress:
        return IPv4Address("TCP", "127.0.0.1", 50000)

    def getHost(self) -> IAddress:
        return self._host

    def setTcpNoDelay(self, enabled: bool) -> None:
        self.noDelay = enabled

    def getTcpNoDelay(self) -> bool:
        return self.noDelay

    def setTcpKeepAlive(self, enabled: bool) -> None:
        """
        Nothing to keep alive.
        """

    def getTcpKeepAlive(self) -> bool:
        return False
