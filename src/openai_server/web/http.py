# -*- test-case-name: tests.web.test_channel -*-
"""
HTTP/1.x connections: bytes to requests by llhttp, with our limits, our
deadlines, our errors, and an end that a client can read.

Requests of one connection are answered one at a time, in order. What a client
sends ahead is parsed when its turn comes; beyond L{EARLY_BYTES} it is cut.

A refused request gets a JSON error, after which our side is closed and what
the client still sends is read and thrown away for a moment: closing at once
would reset the connection, and take the error with it.

A connection that was upgraded is handed over: from then on all that is told of
it goes to its L{Successor}.
"""

from __future__ import annotations

from typing import Any, Final, Protocol

from httptools import HttpParserCallbackError, HttpParserError, HttpParserUpgrade, HttpRequestParser
from twisted.internet.error import ConnectionDone
from twisted.internet.interfaces import (
    IAddress,
    IDelayedCall,
    IHalfCloseableDescriptor,
    IHalfCloseableProtocol,
    ISSLTransport,
    ITCPTransport,
)
from twisted.internet.protocol import Protocol as TwistedProtocol
from twisted.internet.protocol import connectionDone
from twisted.python.failure import Failure
from zope.interface import implementer

from openai_server.accounts.account import Account
from openai_server.deadlines import Alarm, Deadlines
from openai_server.errors import APIError
from openai_server.outlet import socketOf
from openai_server.web.admission import isOpen
from openai_server.web.bodybudget import BodyBudget
from openai_server.web.httprequest import SWITCHING_PROTOCOLS, HTTPRequest
from openai_server.web.interfaces import Owner
from openai_server.web.mistakes import errorFromMistake
from openai_server.web.peers import INTERNET, endSilentPeers
from openai_server.web.request import APIRequest, OpenResponses
from openai_server.web.sendqueue import STILL_SECONDS, SendQueue

#: Bytes of a request line or header, of a whole head, and headers of a request.
LINE_BYTES: Final = 16 * 1024
HEAD_BYTES: Final = 32 * 1024
MAX_HEADERS: Final = 100
#: Seconds after which a connection without a request is closed; for a whole
#: head, from its first byte; without progress of a body, and for a whole one.
IDLE_SECONDS: Final = 75.0
HEAD_SECONDS: Final = 10.0
BODY_PROGRESS_SECONDS: Final = 30.0
BODY_SECONDS: Final = 300.0
#: Seconds, and bytes, for which a refused client may go on sending.
LINGER_SECONDS: Final = 2.0
LINGER_BYTES: Final = 1024 * 1024
#: Bytes that a client may send ahead while its request is answered.
EARLY_BYTES: Final = 16 * 1024
#: Seconds between two signs to a client that has closed its side.
PROBE_SECONDS: Final = 1.0


class SiteChannel(Protocol):
    """
    A connection as its site sees it, whatever is spoken on it.

    @ivar persistent: whether it stays open after the answer.
    """

    persistent: bool

    @property
    def isIdle(self) -> bool:
        """
        Whether it is open and nothing of a request was read that is not
        answered.
        """

    @property
    def isAnswering(self) -> bool:
        """
        Whether a whole request was read, and its answer is not complete.
        """

    def answerLast(self) -> None:
        """
        Close behind the next answer; at once where nobody waits to ask.
        """

    def loseConnection(self) -> None:
        """
        Close when everything is sent.
        """

    def abort(self) -> None:
        """
        Cut the connection, whatever is unsent.
        """


class Successor(Protocol):
    """
    Who reads a connection after its upgrade: it is told what L{HTTPConnection}
    would have been told.
    """

    def dataReceived(self, data: bytes) -> None: ...

    def readConnectionLost(self) -> None: ...

    def connectionLost(self, reason: Failure = ...) -> None: ...

    def stuck(self) -> None:
        """
        The client reads nothing.
        """


class Upgrades(Protocol):
    """
    What connections change to that are upgraded.
    """

    def takes(self, request: HTTPRequest) -> bool:
        """
        Return whether a request without a body, which asks for another
        protocol, is L{open}'s to answer. If not, it is answered as if it had
        not asked.
        """

    def open(self, request: HTTPRequest) -> None:
        """
        Answer a request that was let in: with 101, and its connection is
        handed over; or with an error, and it is closed.
        """

    def successor(self, channel: HTTPConnection, request: HTTPRequest) -> Successor:
        """
        Return who reads a connection from now on.
        """


class ConnectionSite(OpenResponses, Protocol):
    """
    What connections have in common.

    @ivar deadlines: when they are looked at.
    @ivar bodyBudget: what all bodies together may hold while they come.
    @ivar upgrades: the other protocol that they may change to.
    """

    deadlines: Deadlines
    bodyBudget: BodyBudget
    upgrades: Upgrades | None

    def channelOpened(self, channel: HTTPConnection) -> None:
        """
        There is one connection more.
        """

    def channelClosed(self, channel: HTTPConnection) -> None:
        """
        There is one connection less.
        """

    def admitted(self, request: HTTPRequest) -> Account:
        """
        Judge a request by its head, before its body is read.

        @raise APIError: it is not let in.
        """

    def process(self, request: APIRequest) -> None:
        """
        Answer a request that was read.
        """


@implementer(IHalfCloseableProtocol)
class HTTPConnection(TwistedProtocol):
    """
    One HTTP/1.x connection.

    @ivar site: the site that it belongs to.
    @ivar persistent: whether it stays open after the answer.
    @ivar requests: the one that is received or answered, and those behind it
        that came in the same read.
    @ivar queue: the way to the client.
    @ivar alarm: the one wait that it has at a time.
    """

    queue: SendQueue

    def __init__(self, site: ConnectionSite) -> None:
        self.site = site
        self.persistent = True
        self.requests: list[HTTPRequest] = []
        self.alarm = Alarm(site.deadlines)
        self._parser: Any = None
        self._incoming: HTTPRequest | None = None
        self._isReceiving = False
        self._isHeadTimed = False
        self._isHeadAlone = False
        self._headers: list[tuple[bytes, bytes]] = []
        self._url = b""
        self._unread = 0
        self._most = 0
        self._bodyBegan = 0.0
        self._isAnswering = False
        self._isRefused = False
        self._isClosing = False
        self._isLooping = False
        self._hasEnded = False
        self._early = b""
        self._probing: IDelayedCall | None = None
        self._delivering: Owner | None = None
        self._successor: Successor | None = None

    # The connection.

    def connectionMade(self) -> None:
        """
        Let the site know of this connection.
        """
        transport: Any = self.transport
        endSilentPeers(transport)
        handle = socketOf(transport)
        # In Twisted 24.10 a Unix socket's transport claims to be TCP's.
        if ITCPTransport.providedBy(transport) and (handle is None or handle.family in INTERNET):
            transport.setTcpNoDelay(True)
        self.queue = SendQueue(transport, handle, self.site.clock, self._stuck)
        self.site.channelOpened(self)
        self.alarm.begin(IDLE_SECONDS, self.loseConnection)

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        """
        The connection is gone.
        """
        if self._successor is not None:
            self._successor.connectionLost(reason)
            return
        # A transport that we closed has sent all that it held.
        isSent = self._isClosing or not self.queue.isPaused
        self._isClosing = True
        self.alarm.isOver = True
        self.alarm.cancel()
        if self._probing is not None:
            self._probing.cancel()
        self._parser = None
        self._delivered(isSent and reason.check(ConnectionDone) is not None)
        self.queue.clear()
        if self._incoming is not None:
            self._incoming.releaseBody()
        requests, self.requests = self.requests, []
        for request in requests:
            request.connectionLost(reason)
        self.site.channelClosed(self)

    def readConnectionLost(self) -> None:
        """
        The client sends nothing more. It may still read, or be gone, which
        nothing shows but its system's refusal of what is written: so something
        is written until it is answered.
        """
        self._hasEnded = True
        if self._successor is not None:
            self._successor.readConnectionLost()
        elif self._isClosing:
            transport: Any = self.transport
            transport.loseConnection()
        elif self._isAnswering:
            self.persistent = self.persistent and not self._isLastOne
            self._probe()
        else:
            self.loseConnection()

    @property
    def _isLastOne(self) -> bool:
        # Of a client that sends no more.
        return self._hasEnded and len(self.requests) == 1 and not self._early

    def _probe(self) -> None:
        self._probing = None
        if self._isClosing or not self.requests:
            return
        request = self.requests[0]
        if request.startedWriting:
            if request.isStream:
                request.probe()
        elif request.clientproto == b"HTTP/1.1":
            self.queue.send(b"HTTP/1.1 102 Processing\r\n\r\n")
        else:
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
        if self._delivering is not None and not self.queue.isPaused:
            self._delivered(True)
        if self._successor is not None:
            self._successor.dataReceived(data)
        elif self._isRefused:
            self._unread += len(data)
            if self._unread > LINGER_BYTES:
                self.abort()
        elif self._isAnswering:
            self._keepEarly(data)
        elif not self._isClosing:
            self._feed(data)
            self._proceed()

    def _keepEarly(self, data: bytes) -> None:
        # Whoever stops reading does not notice that the client goes.
        self._early += data
        if len(self._early) > EARLY_BYTES:
            self.abort()

    def _feed(self, data: bytes) -> None:
        self._unread += len(data)
        # At most so many are of a head, whatever ends in this read.
        self._most += len(data)
        while data:
            data = self._parse(data)
        if not self._isReceiving:
            self._most = 0

    def _parse(self, data: bytes) -> bytes:
        """
        Return what follows the head of a request for another protocol, where
        it is answered as if nothing had been said. What follows one that may
        get another protocol is kept for that, and never read as a request.
        """
        parser = self._parser
        if parser is None:
            parser = self._parser = HttpRequestParser(self)
        try:
            parser.feed_data(data)
        except HttpParserUpgrade as upgrade:
            self._parser = None
            rest = data[upgrade.args[0] :]
            if self._incoming is None:
                if not self._isUpgrade(self.requests[-1]):
                    return rest
                self._keepEarly(rest)
                return b""
            # The parser takes the body for the other protocol: another head makes it one.
            return b"POST / HTTP/1.1\r\n" + self._incoming.framingLine() + b"\r\n" + rest
        except HttpParserCallbackError as error:
            self._refuse(self._errorFrom(error.__context__))
        except HttpParserError:
            # Behind a request that was said to be the last, nothing counts.
            if self._incoming is not None or not (self.requests and self.requests[-1].isLast):
                self._refuse(_invalid())
        return b""

    def _isUpgrade(self, request: HTTPRequest) -> bool:
        upgrades = self.site.upgrades
        if upgrades is None or request.refusal is not None or not upgrades.takes(request):
            return False
        request.answeredBy = upgrades.open
        return True

    def _errorFrom(self, why: BaseException | None) -> APIError:
        if why is None or isinstance(why, APIError):
            return why or _invalid()
        request = self._incoming
        return errorFromMistake(Failure(why), request.requestId if request else "", "unmatched")

    def _waitForMore(self) -> None:
        if self._incoming is None:
            if self._unread > HEAD_BYTES:
                self._refuse(_headTooLarge())
            elif not self._isHeadTimed:
                self._isHeadTimed = True
                self.alarm.begin(HEAD_SECONDS, self._headIsLate)
        elif self._unread > HEAD_BYTES:
            # Trailers and the extensions of chunks, which nobody reads.
            self._refuse(APIError("bad_request", "The body comes with too much that is no body."))
        else:
            if self._incoming.waitsForContinue:
                self._incoming.waitsForContinue = False
                self.queue.send(b"HTTP/1.1 100 Continue\r\n\r\n")
            left = self._bodyBegan + BODY_SECONDS - self.site.clock.seconds()
            self.alarm.begin(min(BODY_PROGRESS_SECONDS, max(left, 0.0)), self._bodyIsLate)

    def _headIsLate(self) -> None:
        self._refuse(APIError("request_timeout", "The head of the request did not come in time."))

    def _bodyIsLate(self) -> None:
        self._refuse(APIError("request_timeout", "The body of the request did not come in time."))

    # What the parser finds. An exception in here ends the parsing.

    def on_message_begin(self) -> None:
        """
        A request begins.
        """
        self._isReceiving = True
        self._isHeadTimed = False

    def on_url(self, url: bytes) -> None:
        """
        Take a piece of the request's target.
        """
        self._url += url

    def on_header(self, name: bytes, value: bytes) -> None:
        """
        Take a header, or a trailer, which nobody reads.
        """
        self._headers.append((name, value))

    def on_headers_complete(self) -> None:
        """
        Judge the head before any byte of the body is asked for.
        """
        parser, headers, url = self._parser, self._headers, self._url
        self._headers, self._url = [], b""
        if self._incoming is not None:
            # A second head for the same body.
            return
        request = HTTPRequest(self.site, self, headers)
        request.method = parser.get_method()
        self.requests.append(request)
        self._incoming = request
        if self._most > LINE_BYTES or len(headers) > MAX_HEADERS:
            _checkSize(url, headers)
        self._unread = 0
        request.isLast = not parser.should_keep_alive()
        version = parser.get_http_version()
        if version not in ("1.1", "1.0"):
            raise APIError("bad_request", "This is not HTTP/1.1.")
        request.headReceived(url, version == "1.0")
        if request.brings:
            account = self.site.admitted(request)
            if isOpen(request):
                raise APIError("request_too_large", "Nothing takes a body here.")
            request.expectBody(account, self.site.bodyBudget)
            self._bodyBegan = self.site.clock.seconds()
            self._isHeadAlone = parser.should_upgrade()

    def on_body(self, data: bytes) -> None:
        """
        Take a piece of the body.
        """
        self._unread = 0
        if self._incoming is not None:
            self._incoming.bodyPieceReceived(data)

    def on_message_complete(self) -> None:
        """
        The request is complete.
        """
        if self._isHeadAlone:
            self._isHeadAlone = False
            return
        if self._headers:
            # Trailers, which nobody reads.
            _checkSize(b"", self._headers)
            self._headers = []
        if self._incoming is not None:
            self._incoming.bodyReceived()
            self._incoming = None
        self._isReceiving = False
        self._unread = 0

    # One request after the other.

    def _proceed(self) -> None:
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
                    request = self.requests[0]
                    isLast = request.isLast or request.refusal is not None or self._isLastOne
                    if isLast or request.answeredBy is not None:
                        self.persistent = False
                    self._isHeadTimed = False
                    self.alarm.cancel()
                    self.site.process(request)
                elif self._early:
                    data, self._early = self._early, b""
                    self._feed(data)
                else:
                    break
        finally:
            self._isLooping = False
        if self._successor is not None:
            return
        if self._hasEnded and not self._isAnswering:
            self.loseConnection()
        elif self.isIdle:
            self.alarm.begin(IDLE_SECONDS, self.loseConnection)
        elif self._isReceiving and not self._isAnswering:
            self._waitForMore()

    def requestDone(self) -> None:
        """
        The answer is written; how much of it the client has read is another
        matter, and has a bound.
        """
        request = self.requests.pop(0)
        self._isAnswering = False
        if request.code == SWITCHING_PROTOCOLS and not self._isClosing:
            self._handOver(request)
            return
        if self._incoming is not None:
            # Nothing of its body was read meanwhile.
            self._bodyBegan = self.site.clock.seconds()
        if not self.persistent:
            self.loseConnection()
            return
        self.queue.watchRest()
        self._proceed()

    def _handOver(self, request: HTTPRequest) -> None:
        """
        Let another protocol have this connection, and what was read behind the
        request for it.
        """
        assert self.site.upgrades is not None
        self._delivered(not self.queue.isPaused)
        self.alarm.isOver = True
        self.alarm.cancel()
        if self._probing is not None:
            self._probing.cancel()
            self._probing = None
        self._successor = self.site.upgrades.successor(self, request)
        self.site.channelClosed(self)
        early, self._early = self._early, b""
        if early:
            self._successor.dataReceived(early)
        if self._hasEnded:
            self._successor.readConnectionLost()

    def _refuse(self, error: APIError) -> None:
        """
        Answer the request that is being received with an error, and parse
        nothing more from this client.
        """
        if self._isRefused:
            return
        self._isRefused = True
        self._early, self._parser, self._unread = b"", None, 0
        request, self._incoming = self._incoming, None
        self._isReceiving = False
        if request is None:
            request = HTTPRequest(self.site, self, [])
            self.requests.append(request)
        request.releaseBody()
        request.refusal = error
        request.isReceived = True
        self._proceed()

    # What the client gets.

    @property
    def isIdle(self) -> bool:
        """
        Whether it is open and nothing of a request was read that is not
        answered.
        """
        return not (self.requests or self._isReceiving or self._early or self._isClosing)

    @property
    def isAnswering(self) -> bool:
        """
        Whether a whole request was read, and its answer is not complete.
        """
        return self._isAnswering

    def answerLast(self) -> None:
        """
        Answer one more request, and close.
        """
        self.persistent = False

    def awaitDelivery(self, owner: Owner) -> None:
        """
        An answer is complete. Its owner is told when the client is known to
        have it, because the connection goes on or is closed in good order, or
        to have left before.
        """
        self._delivered(not self.queue.isPaused)
        self._delivering = owner

    def _delivered(self, inGoodOrder: bool) -> None:
        owner, self._delivering = self._delivering, None
        if owner is not None:
            owner.delivered(inGoodOrder)

    def _stuck(self) -> None:
        if self._successor is not None:
            self._successor.stuck()
            return
        if self._isAnswering:
            self.requests[0].clientStuck()
        self.abort()

    # Closing.

    def loseConnection(self) -> None:
        """
        Close when everything is sent, and in L{STILL_SECONDS} at the latest. A
        client that was refused gets our end of stream first and may go on
        sending for L{LINGER_SECONDS}.
        """
        if self._isClosing:
            return
        self._isClosing = True
        transport: Any = self.transport
        self.queue.detach()
        if self._isRefused and self._canHalfClose() and not self._hasEnded:
            transport.resumeProducing()
            transport.loseWriteConnection()
            self.alarm.begin(LINGER_SECONDS, self.abort)
        else:
            self.alarm.begin(STILL_SECONDS, self.abort)
            transport.loseConnection()

    def abort(self) -> None:
        """
        Cut the connection, whatever is unsent.
        """
        self._isClosing = True
        transport: Any = self.transport
        transport.abortConnection()

    def _canHalfClose(self) -> bool:
        # A TLS transport claims what the TCP transport below it can do.
        return bool(IHalfCloseableDescriptor.providedBy(self.transport)) and not self.isSecure()

    def isSecure(self) -> bool:
        """
        Whether the connection is encrypted.
        """
        return bool(ISSLTransport.providedBy(self.transport))

    def getHost(self) -> IAddress:
        """
        Return the address that the connection came in on.
        """
        transport: Any = self.transport
        address: IAddress = transport.getHost()
        return address

    def getPeer(self) -> IAddress:
        """
        Return the address of the connection's other end.
        """
        transport: Any = self.transport
        address: IAddress = transport.getPeer()
        return address


def _checkSize(url: bytes, headers: list[tuple[bytes, bytes]]) -> None:
    size = len(url) + sum([len(name) + len(value) + 4 for name, value in headers])
    longest = max([len(url), *(len(value) for _, value in headers)])
    if len(headers) > MAX_HEADERS or longest > LINE_BYTES or size > HEAD_BYTES:
        raise _headTooLarge()


def _headTooLarge() -> APIError:
    return APIError("headers_too_large", "The request line and headers are too large.")


def _invalid() -> APIError:
    return APIError("bad_request", "This is not a valid HTTP/1.1 request.")
