# -*- test-case-name: tests.web.test_channel -*-
"""
The HTTP connection: twisted.web's channel with our limits, our errors, and an
end that a client can read.

Twisted answers a malformed request with a bare status line and closes at once;
a client that is still sending then gets a reset in place of the answer. Here
every refusal is a JSON error, after which our side is closed and what the
client still sends is read and thrown away for a moment.
"""

from __future__ import annotations

import socket
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Final

from twisted.internet.interfaces import IHalfCloseableDescriptor
from twisted.internet.protocol import connectionDone
from twisted.python.failure import Failure
from twisted.web.http import HTTPChannel
from twisted.web.http_headers import Headers

from openai_server.clock import Deadline
from openai_server.errors import APIError

if TYPE_CHECKING:
    from openai_server.web.request import APIRequest
    from openai_server.web.site import APISite

#: Seconds, and bytes, for which a refused client may go on sending.
LINGER_SECONDS: Final = 2.0
LINGER_BYTES: Final = 1024 * 1024
#: Bytes that a client may send ahead while its request is answered.
EARLY_BYTES: Final = 16 * 1024
#: Socket options by which a client that vanished is noticed within 45 s:
#: milliseconds without acknowledgement, seconds of silence before the first
#: probe and between two, probes.
_SILENCE_OPTIONS: Final = {
    "TCP_USER_TIMEOUT": 45_000,
    "TCP_KEEPIDLE": 15,
    "TCP_KEEPINTVL": 10,
    "TCP_KEEPCNT": 3,
}
#: Seconds that a client has for the rest of an answer that is complete.
FLUSH_SECONDS: Final = 10.0


def endSilentPeers(transport: Any) -> None:
    """
    Have the system end a TCP connection whose client is gone without a word,
    be it that bytes of ours stay unacknowledged or that none are under way.
    Other transports, and systems without these options, are left alone.
    """
    # Under TLS, and under nothing else, the transport has one of its own.
    connection = getattr(transport, "transport", transport)
    tcp = getattr(connection, "socket", None)
    if not isinstance(tcp, socket.socket) or tcp.family not in (socket.AF_INET, socket.AF_INET6):
        return
    tcp.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for name, value in _SILENCE_OPTIONS.items():
        if hasattr(socket, name):
            tcp.setsockopt(socket.IPPROTO_TCP, getattr(socket, name), value)


class APIChannel(HTTPChannel):
    """
    One HTTP/1.x connection.

    @ivar site: the site it belongs to.
    @ivar requests: at most one request, the one that is received or answered.
    """

    #: Bytes of one line; lines of a request's head; bytes of the whole head.
    MAX_LENGTH = 16 * 1024
    maxHeaders = 100
    totalHeadersSize = 32 * 1024

    site: APISite
    requests: list[APIRequest]
    requestFactory: Any
    # A transport of TCP, TLS or a Unix socket; what each can do is asked.
    transport: Any
    _networkProducer: Any

    _isRefused = False
    _discarded = 0
    _early = 0
    _head = b""
    _closing: Deadline | None = None

    # What the client sends.

    def connectionMade(self) -> None:
        """
        Let the site know of this connection.
        """
        super().connectionMade()
        endSilentPeers(self.transport)
        self.site.channelOpened(self)

    def dataReceived(self, data: bytes) -> None:
        """
        Parse, or throw away what follows on a request that was refused.
        """
        if self._isRefused:
            self._discard(len(data))
        else:
            super().dataReceived(data)

    def lineReceived(self, line: bytes) -> None:
        """
        A line of a request's head.
        """
        if self._isRefused:
            return
        if self._receivedHeaderSize + len(line) > self.totalHeadersSize:
            self._refuseHead()
        else:
            super().lineReceived(line)

    def lineLengthExceeded(self, line: bytes) -> None:
        """
        Refuse a request with an endless line in its head.
        """
        if not self._isRefused:
            self._refuseHead()

    def headerReceived(self, line: bytes) -> bool:
        """
        One header. False: the request is refused.
        """
        if self._isRefused:
            return False
        if self._receivedHeaderCount >= self.maxHeaders:
            self._refuseHead()
            return False
        try:
            return bool(super().headerReceived(line))
        except ValueError:
            # int() of a Content-Length with thousands of digits.
            self._respondToBadRequestAndDisconnect()
            return False

    def allHeadersReceived(self) -> None:
        """
        Judge the head before any byte of the body is asked for.
        """
        request = self.requests[-1]
        self.persistent = self.checkPersistence(request, self._version)
        try:
            request.headReceived(self._command, self._path, self._version, self.length)
        except APIError as error:
            self.refuse(error)
            return
        request.gotLength(self.length)
        if request.waitsForContinue:
            self._send100Continue()

    def rawDataReceived(self, data: bytes) -> None:
        """
        A piece of the body, or of the next request while one is answered:
        not much is kept of that. Twisted would stop reading, and then not
        notice that the client goes; for a client that reads nothing it would
        keep everything.
        """
        if self._isRefused:
            return
        if self._handlingRequest:
            self._early += len(data)
            if self._early > EARLY_BYTES:
                self.abort()
                return
        super().rawDataReceived(data)

    def allContentReceived(self) -> None:
        """
        The request is complete, unless it was refused on the way.
        """
        if self._isRefused:
            return
        try:
            self.requests[-1].bodyReceived()
        except APIError as error:
            self.refuse(error)
        else:
            super().allContentReceived()

    # Refusing.

    def refuse(self, error: APIError) -> None:
        """
        Answer the request that is being received with an error, and parse
        nothing more from this client.
        """
        self._isRefused = True
        self.persistent = False
        if not self.requests:
            self.requests.append(self.requestFactory(self, 0))
        self.requests[-1].refuse(error)

    def _refuseHead(self) -> None:
        self.refuse(APIError("headers_too_large", "The request line and headers are too large."))

    def _respondToBadRequestAndDisconnect(self) -> None:
        # Twisted's one way out for everything that is malformed.
        if not self._isRefused:
            self.refuse(APIError("bad_request", "This is not a valid HTTP/1.1 request."))

    def _discard(self, size: int) -> None:
        self._discarded += size
        if self._discarded > LINGER_BYTES:
            self.abort()

    # What the client gets.

    @property
    def isPaused(self) -> bool:
        """
        The transport has more to send than it wants to hold.
        """
        return bool(self._waitingForTransport)

    @property
    def isIdle(self) -> bool:
        """
        Nothing of a request has been read that is not answered.
        """
        return not self.requests and not self._buffer

    @property
    def isAnswering(self) -> bool:
        """
        A whole request was read, and its answer is not complete.
        """
        return bool(self._handlingRequest and self.requests)

    def writeHeaders(self, version: bytes, code: bytes, reason: bytes, headers: Headers) -> None:
        """
        Keep the head until the first bytes of the body, so that both leave in
        one write; L{flushHead} sends it alone.
        """
        lines = [b"%b %b %b\r\n" % (version, code, reason)]
        for name, values in headers.getAllRawHeaders():
            lines += [b"%b: %b\r\n" % (name, value) for value in values]
        self._head = b"".join(lines) + b"\r\n"

    def flushHead(self) -> None:
        """
        Send a head that has no body, or not yet.
        """
        if self._head:
            self.write(b"")

    def write(self, data: bytes) -> None:
        """
        Send these bytes, and the head before them.
        """
        head, self._head = self._head, b""
        self.transport.write(head + data)

    def writeSequence(self, iovec: Sequence[bytes]) -> None:
        """
        Send these bytes in one write, and the head before them.
        """
        head, self._head = self._head, b""
        self.transport.writeSequence([head, *iovec] if head else iovec)

    def requestDone(self, request: Any) -> None:
        """
        The answer is written; how much of it the client has read is another
        matter, and has a bound.
        """
        self._early = 0
        if self.isPaused and self.persistent:
            self._closeWithin(FLUSH_SECONDS)
        super().requestDone(request)

    def resumeProducing(self) -> None:
        """
        The client has read everything so far.
        """
        if self._closing is not None:
            self._closing.cancel()
            self._closing = None
        super().resumeProducing()

    # Closing.

    def loseConnection(self) -> None:
        """
        Close when everything is sent, and in L{FLUSH_SECONDS} at the latest. A
        client that was refused gets our end of stream first and may go on
        sending for L{LINGER_SECONDS}.
        """
        if self._isRefused and self._canHalfClose():
            self._networkProducer.unregisterProducer()
            self._networkProducer.resumeProducing()
            self.transport.loseWriteConnection()
            self._closeWithin(LINGER_SECONDS)
        else:
            self._closeWithin(FLUSH_SECONDS)
            super().loseConnection()

    def abort(self) -> None:
        """
        Cut the connection, whatever is unsent.
        """
        self._networkProducer.unregisterProducer()
        self.transport.abortConnection()

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        """
        The connection is gone.
        """
        if self._closing is not None:
            self._closing.cancel()
        self.site.channelClosed(self)
        super().connectionLost(reason)

    def _closeWithin(self, seconds: float) -> None:
        if self._closing is not None:
            self._closing.cancel()
        self._closing = Deadline(self.site.clock, seconds, self.abort)

    def _canHalfClose(self) -> bool:
        # A TLS transport claims what the TCP transport below it can do; its
        # own loseConnection goes on reading until the peer has closed.
        return bool(IHalfCloseableDescriptor.providedBy(self.transport)) and not self.isSecure()
