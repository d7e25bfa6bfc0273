# -*- test-case-name: tests.web.test_channel -*-
"""
HTTP/1.x connections: bytes to requests by llhttp, with our limits, our
deadlines, our errors, and an end that a client can read.

Requests of one connection are answered one at a time, in order. What a client
sends ahead is parsed when its turn comes; beyond L{EARLY_BYTES} it is cut.

A refused request gets a JSON error, after which our side is closed and what
the client still sends is read and thrown away for a moment: closing at once
would reset the connection, and take the error with it.

Bytes go out through the socket itself while the transport holds none: the
transport would wait for the next turn of the reactor, and ask the system
twice. What the socket does not take is the transport's, which tells when it
has sent all of it.
"""

from __future__ import annotations

import socket
from collections import deque
from typing import TYPE_CHECKING, Any, Final

from httptools import HttpParserCallbackError, HttpParserError, HttpParserUpgrade, HttpRequestParser
from twisted.internet.error import ConnectionDone
from twisted.internet.interfaces import (
    IDelayedCall,
    IHalfCloseableDescriptor,
    IHalfCloseableProtocol,
    IPullProducer,
    ISSLTransport,
    ITCPTransport,
)
from twisted.internet.protocol import Protocol, connectionDone
from twisted.python.failure import Failure
from zope.interface import implementer

from openai_server.clock import Deadline, Timeout
from openai_server.errors import APIError
from openai_server.web.request import APIRequest, Owner

if TYPE_CHECKING:
    from openai_server.web.outflow import Outflow
    from openai_server.web.site import APISite

#: Bytes of a request line or header, of a whole head, and headers of a request.
LINE_BYTES: Final = 16 * 1024
HEAD_BYTES: Final = 32 * 1024
MAX_HEADERS: Final = 100
#: Seconds, and bytes, for which a refused client may go on sending.
LINGER_SECONDS: Final = 2.0
LINGER_BYTES: Final = 1024 * 1024
#: Bytes that a client may send ahead while its request is answered.
EARLY_BYTES: Final = 16 * 1024
#: Seconds that a client has for the rest of an answer that is complete.
FLUSH_SECONDS: Final = 10.0
#: Seconds between two signs to a client that has closed its side.
PROBE_SECONDS: Final = 1.0
#: Seconds that a whole body may take.
BODY_SECONDS: Final = 300.0
_INTERNET: Final = (socket.AF_INET, socket.AF_INET6)
#: Socket options by which a client that vanished is noticed within 45 s:
#: milliseconds without acknowledgement, seconds of silence before the first
#: probe and between two, probes.
_SILENCE_OPTIONS: Final = {
    "TCP_USER_TIMEOUT": 45_000,
    "TCP_KEEPIDLE": 15,
    "TCP_KEEPINTVL": 10,
    "TCP_KEEPCNT": 3,
}


def _handleOf(transport: Any) -> Any:
    return transport.getHandle() if hasattr(transport, "getHandle") else None


def endSilentPeers(transport: Any) -> None:
    """
    Have the system end a TCP connection whose client is gone without a word,
    be it that bytes of ours stay unacknowledged or that none are under way.
    Other transports, and systems without these options, are left alone.
    """
    # Under TLS, and under nothing else, the transport has one of its own.
    tcp = _handleOf(getattr(transport, "transport", transport))
    if not isinstance(tcp, socket.socket) or tcp.family not in _INTERNET:
        return
    tcp.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for name, value in _SILENCE_OPTIONS.items():
        if hasattr(socket, name):
            tcp.setsockopt(socket.IPPROTO_TCP, getattr(socket, name), value)


@implementer(IHalfCloseableProtocol, IPullProducer)
class HTTPConnection(Protocol):
    """
    One HTTP/1.x connection.

    @ivar site: the site that it belongs to.
    @ivar persistent: whether it stays open after the answer.
    @ivar requests: the one that is received or answered, and those behind it
        that came in the same read.
    @ivar outflow: what hands out the bytes of the present answer.
    @ivar isPaused: whether the transport has more to send than it wants to hold.
    """

    def __init__(self, site: APISite) -> None:
        self.site = site
        self.persistent = True
        self.requests: deque[APIRequest] = deque()
        self.outflow: Outflow | None = None
        self.isPaused = False
        self._parser: Any = None
        self._receiving: APIRequest | None = None
        self._headBytes = self._headerBytes = 0
        self._headers: list[tuple[bytes, bytes]] = []
        self._url = b""
        self._isAnswering = False
        self._isRefused = False
        self._isClosing = False
        self._isLooping = False
        self._hasEnded = False
        self._discarded = 0
        self._early = b""
        self._wait: Timeout | None = None
        self._bodyBegan = 0.0
        self._lastData = 0.0
        self._sinceBody = 0
        self._closing: Deadline | None = None
        self._probing: IDelayedCall | None = None
        self._delivering: Owner | None = None
        self._socket: socket.socket | None = None

    # The connection.

    def connectionMade(self) -> None:
        """
        Let the site know of this connection.
        """
        transport: Any = self.transport
        endSilentPeers(transport)
        handle = _handleOf(transport)
        isSocket = isinstance(handle, socket.socket)
        # In Twisted 24.10 a Unix socket's transport claims to be TCP's.
        if ITCPTransport.providedBy(transport) and not (isSocket and handle.family not in _INTERNET):
            transport.setTcpNoDelay(True)
        if isSocket:
            self._socket = handle
        else:
            transport.registerProducer(self, True)
        self.site.channelOpened(self)
        self._wait = self.site.idleTimes.begin(self.loseConnection)

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        """
        The connection is gone.
        """
        self._stopWaiting()
        if self._closing is not None:
            self._closing.cancel()
        self.site.channelClosed(self)
        if self._probing is not None:
            self._probing.cancel()
        self._parser = None
        self._isClosing = True
        if self._delivering is not None:
            self._delivered(reason.check(ConnectionDone) is not None and not self.isPaused)
        requests, self.requests = self.requests, deque()
        for request in requests:
            request.connectionLost(reason)

    def readConnectionLost(self) -> None:
        """
        The client sends nothing more. It may still read, or be gone, which
        nothing shows but its system's refusal of what is written: so something
        is written until it is answered.
        """
        self._hasEnded = True
        transport: Any = self.transport
        if self._isClosing:
            transport.loseConnection()
        elif self._receiving is not None or not self._isAnswering:
            self.loseConnection()
        else:
            self._probe()

    def _probe(self) -> None:
        self._probing = None
        if self._isClosing or not self.requests:
            return
        self.persistent = False
        request = self.requests[0]
        if request.stream is not None and request.stream.isOpen:
            request.stream.probe()
        elif not request.startedWriting and request.clientproto == b"HTTP/1.1":
            self.transmit(b"HTTP/1.1 102 Processing\r\n\r\n")
        elif not request.startedWriting:
            self.abort()
            return
        self._probing = self.site.clock.callLater(PROBE_SECONDS, self._probe)

    def writeConnectionLost(self) -> None:
        """
        Our side is closed.
        """

    # What the client sends.

    def dataReceived(self, data: bytes) -> None:
        """
        Parse, keep for later, or throw away what follows on a refusal.
        """
        if self._delivering is not None and not self.isPaused:
            self._delivered(True)
        if self._isRefused:
            self._discarded += len(data)
            if self._discarded > LINGER_BYTES:
                self.abort()
        elif self._isAnswering:
            self._keepEarly(data)
        elif not self._isClosing:
            self._feed(data)
            self._next()

    def _keepEarly(self, data: bytes) -> None:
        # Whoever stops reading does not notice that the client goes.
        self._early += data
        if len(self._early) > EARLY_BYTES:
            self.abort()

    def _feed(self, data: bytes) -> None:
        if self._parser is None:
            self._parser = HttpRequestParser(self)
        request = self._receiving
        if request is None:
            if not self._headBytes:
                self._stopWaiting()
                self._wait = self.site.headTimes.begin(self._headIsLate)
            self._headBytes += len(data)
        else:
            self._lastData = self.site.clock.seconds()
            self._sinceBody += len(data)
        try:
            self._parser.feed_data(data)
        except HttpParserUpgrade as upgrade:
            # Nobody is upgraded: the next request follows as if nothing had been said.
            self._parser = None
            rest = data[upgrade.args[0] :]
            if rest and not self._isRefused:
                self._keepEarly(rest)
        except HttpParserCallbackError as error:
            self._refuseParsed(error.__context__)
        except HttpParserError:
            # Behind a request that was said to be the last, nothing counts.
            if self._receiving is not None or not (self.requests and self.requests[-1].isLast):
                self._refuseParsed(None)
        else:
            if self._receiving is None and self._headBytes > HEAD_BYTES:
                self.refuse(_headTooLarge())
            elif self._receiving is not None and self._sinceBody > HEAD_BYTES:
                # Trailers and the extensions of chunks, which nobody reads.
                self.refuse(APIError("bad_request", "The body comes with too much that is no body."))

    def _refuseParsed(self, why: BaseException | None) -> None:
        if self._isRefused:
            return
        if isinstance(why, APIError):
            self.refuse(why)
        else:
            self.refuse(APIError("bad_request", "This is not a valid HTTP/1.1 request."))

    # What the parser finds. An exception in here ends the parsing.

    def on_url(self, url: bytes) -> None:
        """
        Take a piece of the request's target.
        """
        self._url += url
        if len(self._url) > LINE_BYTES:
            raise _headTooLarge()

    def on_header(self, name: bytes, value: bytes) -> None:
        """
        Take a header, or a trailer, which nobody reads.
        """
        if self._receiving is not None:
            return
        headers = self._headers
        headers.append((name.lower(), value))
        self._headerBytes += len(name) + len(value) + 4
        if len(headers) > MAX_HEADERS or len(value) > LINE_BYTES or self._headerBytes > HEAD_BYTES:
            raise _headTooLarge()

    def on_headers_complete(self) -> None:
        """
        Judge the head before any byte of the body is asked for.
        """
        parser = self._parser
        request = APIRequest(self, self._headers)
        url, self._url, self._headers = self._url, b"", []
        self._headBytes = self._headerBytes = 0
        self.requests.append(request)
        self._receiving = request
        request.isLast = not parser.should_keep_alive()
        version = b"HTTP/" + parser.get_http_version().encode()
        request.headReceived(parser.get_method(), url, version)
        self._stopWaiting()
        if request.hasBody:
            self._bodyBegan = self._lastData = self.site.clock.seconds()
            self._sinceBody = 0
            self._wait = self.site.bodyTimes.begin(self._bodyIsLate)
            if request.waitsForContinue and len(self.requests) == 1:
                self.transmit(b"HTTP/1.1 100 Continue\r\n\r\n")

    def on_body(self, data: bytes) -> None:
        """
        Take a piece of the body.
        """
        if self._receiving is not None:
            self._sinceBody = 0
            self._receiving.bodyPieceReceived(data)

    def on_message_complete(self) -> None:
        """
        The request is complete.
        """
        request = self._receiving
        if request is not None:
            request.bodyReceived()
            request.isReceived = True
            self._receiving = None
        self._stopWaiting()

    # Deadlines.

    def _headIsLate(self) -> None:
        self._wait = None
        self.refuse(APIError("request_timeout", "The head of the request did not come in time."))

    def _bodyIsLate(self) -> None:
        self._wait = None
        now = self.site.clock.seconds()
        isProgressing = now - self._lastData < self.site.bodyTimes.duration
        if isProgressing and now - self._bodyBegan < BODY_SECONDS:
            self._wait = self.site.bodyTimes.begin(self._bodyIsLate)
        else:
            self.refuse(APIError("request_timeout", "The body of the request did not come in time."))

    def _stopWaiting(self) -> None:
        if self._wait is not None:
            self._wait.cancel()
            self._wait = None

    # One request after the other.

    def _next(self) -> None:
        """
        Answer the next request that is complete, and those behind it as long
        as nothing has to wait.
        """
        if self._isLooping:
            return
        self._isLooping = True
        try:
            while not (self._isAnswering or self._isClosing):
                if self.requests and self.requests[0].isReceived:
                    self._isAnswering = True
                    if self.requests[0].isLast or self.requests[0].refusal is not None:
                        self.persistent = False
                    self.requests[0].process()
                elif self._early:
                    data, self._early = self._early, b""
                    self._feed(data)
                else:
                    break
        finally:
            self._isLooping = False
        if self._wait is None and not (self.requests or self._headBytes or self._isClosing):
            self._wait = self.site.idleTimes.begin(self.loseConnection)

    def requestDone(self) -> None:
        """
        The answer is written; how much of it the client has read is another
        matter, and has a bound.
        """
        self.requests.popleft()
        self._isAnswering = False
        self.outflow = None
        if not self.persistent:
            self.loseConnection()
            return
        if self.isPaused:
            self._closeWithin(FLUSH_SECONDS)
        if self._hasEnded and not self.requests:
            self.loseConnection()
        else:
            self._next()

    # Refusing.

    def refuse(self, error: APIError) -> None:
        """
        Answer the request that is being received with an error, and parse
        nothing more from this client.
        """
        self._isRefused = True
        self._stopWaiting()
        self._early, self._parser = b"", None
        request, self._receiving = self._receiving, None
        if request is None:
            request = APIRequest(self, [])
            self.requests.append(request)
        request.refusal = error
        request.isReceived = True
        self._next()

    # What the client gets.

    @property
    def isIdle(self) -> bool:
        """
        Whether it is open and nothing of a request was read that is not
        answered.
        """
        return not (self.requests or self._headBytes or self._early or self._isClosing)

    @property
    def isAnswering(self) -> bool:
        """
        Whether a whole request was read, and its answer is not complete.
        """
        return self._isAnswering

    def transmit(self, data: bytes) -> None:
        """
        Send these bytes, now if that is possible.
        """
        transport: Any = self.transport
        if self._socket is not None and not self.isPaused:
            try:
                sent = self._socket.send(data)
            except OSError:
                # Full, or broken: the transport finds out.
                sent = 0
            if sent == len(data):
                return
            data = data[sent:]
            transport.write(data)
            # It asks for more at once, and again when all is sent. It never says
            # that it is full.
            transport.registerProducer(self, False)
            self.pauseProducing()
        else:
            transport.write(data)

    def awaitDelivery(self, owner: Owner) -> None:
        """
        An answer is complete. Its owner is told when the client is known to
        have it, because the connection goes on or is closed in good order, or
        to have left before.
        """
        if self._delivering is not None:
            self._delivered(not self.isPaused)
        self._delivering = owner

    def _delivered(self, inGoodOrder: bool) -> None:
        owner, self._delivering = self._delivering, None
        if owner is not None:
            owner.delivered(inGoodOrder)

    def pauseProducing(self) -> None:
        """
        The transport holds enough.
        """
        self.isPaused = True
        if self.outflow is not None:
            self.outflow.pauseProducing()

    def resumeProducing(self) -> None:
        """
        The transport has sent all that it held.
        """
        if not self.isPaused:
            return
        self.isPaused = False
        transport: Any = self.transport
        if self._socket is not None:
            transport.unregisterProducer()
        if self._closing is not None and not self._isClosing:
            self._closing.cancel()
            self._closing = None
        if self.outflow is not None:
            self.outflow.resumeProducing()

    def stopProducing(self) -> None:
        """
        The connection is being lost.
        """

    # Closing.

    def loseConnection(self) -> None:
        """
        Close when everything is sent, and in L{FLUSH_SECONDS} at the latest. A
        client that was refused gets our end of stream first and may go on
        sending for L{LINGER_SECONDS}.
        """
        if self._isClosing:
            return
        self._isClosing = True
        self._stopWaiting()
        transport: Any = self.transport
        if self._socket is None:
            transport.unregisterProducer()
        if self._isRefused and self._canHalfClose() and not self._hasEnded:
            transport.resumeProducing()
            transport.loseWriteConnection()
            self._closeWithin(LINGER_SECONDS)
        else:
            self._closeWithin(FLUSH_SECONDS)
            transport.loseConnection()

    def abort(self) -> None:
        """
        Cut the connection, whatever is unsent.
        """
        self._isClosing = True
        transport: Any = self.transport
        transport.abortConnection()

    def _closeWithin(self, seconds: float) -> None:
        if self._closing is not None:
            self._closing.cancel()
        self._closing = Deadline(self.site.clock, seconds, self.abort)

    def _canHalfClose(self) -> bool:
        # A TLS transport claims what the TCP transport below it can do.
        transport = self.transport
        return bool(IHalfCloseableDescriptor.providedBy(transport)) and not self.isSecure()

    def isSecure(self) -> bool:
        """
        Whether the connection is encrypted.
        """
        return bool(ISSLTransport.providedBy(self.transport))


def _headTooLarge() -> APIError:
    return APIError("headers_too_large", "The request line and headers are too large.")
