# -*- test-case-name: tests.web.test_channel -*-
"""
One HTTP request: who asked what, how it ended.

Every request that was read has exactly one end code, one access event, and one
place among the site's open responses, from its last byte in to its last byte
out.
"""

from __future__ import annotations

import re
import time
from base64 import b16encode
from collections.abc import Mapping
from email.utils import formatdate
from functools import lru_cache
from http import HTTPStatus
from os import urandom
from typing import TYPE_CHECKING, Any, Final, Protocol

from klein.interfaces import IKleinRequest
from twisted.internet.defer import Deferred, succeed
from twisted.internet.interfaces import IAddress
from twisted.python.failure import Failure
from zope.interface import implementer

from openai_server.api.problem import errorBody
from openai_server.api.sse import errorEvent
from openai_server.errors import APIError, End, shuttingDown
from openai_server.log import EventLogger
from openai_server.web.body import Body, bodyFor, tooLarge
from openai_server.web.mistakes import errorFromMistake
from openai_server.web.outflow import Outflow
from openai_server.web.streaming import EventStream

if TYPE_CHECKING:
    from openai_server.web.admission import Account
    from openai_server.web.http import HTTPConnection
    from openai_server.web.site import APISite

_LABEL = rb"[A-Za-z0-9_-]{1,63}"
_HOST = re.compile(rb"(?:\[[0-9A-Fa-f:.]+\]|(?:" + _LABEL + rb"\.)*" + _LABEL + rb"\.?)(?::[0-9]{1,5})?")
_REQUEST_ID = re.compile(rb"[A-Za-z0-9._:=/+@-]{1,128}")
#: The first line of an answer by its status.
_STATUS_LINES: Final = {
    status.value: b"HTTP/1.1 %d %b\r\n" % (status.value, status.phrase.encode("ascii"))
    for status in HTTPStatus
}
_METHODS: Final = frozenset(b"GET HEAD POST PUT PATCH DELETE OPTIONS TRACE CONNECT".split())
_BODILESS: Final = frozenset({204, 304})

# Not an attribute of the request: events would carry it, and its query string.
_log = EventLogger()


@lru_cache(maxsize=256)
def _shown(name: bytes) -> bytes:
    """
    A header's name as it is usually written.
    """
    return b"-".join(word.capitalize() for word in name.split(b"-"))


class _Date:
    """
    The C{Date} header, made once a second.
    """

    def __init__(self) -> None:
        self._second = 0
        self._line = b""

    def line(self) -> bytes:
        """
        Return the header's line.
        """
        second = int(time.time())
        if second != self._second:
            self._second = second
            self._line = b"Date: %b\r\n" % formatdate(second, usegmt=True).encode("ascii")
        return self._line


class _RandomIds:
    """
    Ids of requests, whose random bytes are drawn in blocks.
    """

    def __init__(self) -> None:
        self._block = b""
        self._at = 0

    def next(self) -> str:
        """
        Return an id that was not given before.
        """
        at = self._at
        if at >= len(self._block):
            self._block, at = b16encode(urandom(12 * 256)).lower(), 0
        self._at = at + 24
        return "req_" + self._block[at : at + 24].decode("ascii")


_date = _Date()
_ids = _RandomIds()


class Owner(Protocol):
    """
    Who answers a request.
    """

    def clientGone(self, end: End) -> None:
        """
        The client is gone, or was cut, before its answer was complete.
        """

    def delivered(self, inGoodOrder: bool) -> None:
        """
        The answer was complete, and the client has it, or has left before it
        had all of it.
        """


@implementer(IKleinRequest)
class APIRequest:
    """
    One HTTP request.

    @ivar method: such as C{GET}.
    @ivar uri: the target as it came; C{path} is what stands before C{?}.
    @ivar prepath: for Klein: nothing.
    @ivar postpath: for Klein: the decoded segments of the path.
    @ivar mapper: Klein's, like C{branch_segments}.
    @ivar isReceived: whether all of it was read.
    @ivar isLast: whether its client wants the connection to end with it.
    @ivar refusal: what is wrong with it, when it was refused while it came.
    @ivar route: the template of the route that answers it.
    @ivar model: the model that was asked for, for the log.
    @ivar session: what its session is to the client, for the log.
    @ivar retry: how often the client had sent it before, for the log.
    @ivar account: whose it is, once it was admitted.
    @ivar mayHaveRun: whether a worker may have begun to act for it, so that it
        must not simply be asked again.
    @ivar owner: who answers it, and is told of the client's leaving.
    @ivar stream: the stream that answers it, if one does.
    @ivar hasFailed: whether it has been ended with an error.
    @ivar code: the status of the answer.
    @ivar sentLength: bytes of the answer's body.
    @ivar finished: whether the answer is complete.
    @ivar startedWriting: whether a byte of the answer was sent.
    """

    __slots__ = (
        "_began",
        "_body",
        "_end",
        "_framing",
        "_given",
        "_isAnswered",
        "_isGone",
        "_isOpen",
        "_received",
        "_requestId",
        "_whenOver",
        "_work",
        "account",
        "branch_segments",
        "channel",
        "clientproto",
        "code",
        "finished",
        "hasBody",
        "hasFailed",
        "headers",
        "isLast",
        "isReceived",
        "mapper",
        "mayHaveRun",
        "method",
        "model",
        "owner",
        "path",
        "postpath",
        "prepath",
        "refusal",
        "retry",
        "route",
        "sentLength",
        "session",
        "site",
        "startedWriting",
        "stream",
        "uri",
    )

    def __init__(self, channel: HTTPConnection, headers: list[tuple[bytes, bytes]]) -> None:
        """
        @param headers: names in lower case.
        """
        self.channel = channel
        self.site: APISite = channel.site
        self.method = b""
        self.uri = self.path = b""
        self.clientproto = b"HTTP/1.1"
        self.prepath: list[bytes] = []
        self.postpath: list[bytes] = []
        self.mapper: Any = None
        self.branch_segments = [""]
        self.isReceived = False
        self.isLast = False
        self.hasBody = False
        self.refusal: APIError | None = None
        self.route = "unmatched"
        self.model: str | None = None
        self.session: str | None = None
        self.retry = 0
        self.account: Account | None = None
        self.mayHaveRun = False
        self.owner: Owner | None = None
        self.stream: EventStream | None = None
        self.hasFailed = False
        self.code = 200
        self.sentLength = 0
        self.finished = False
        self.startedWriting = False
        #: Headers of the answer.
        self.headers: dict[bytes, bytes] = {}
        self._given: dict[bytes, list[bytes]] = {}
        for name, value in headers:
            self._given.setdefault(name, []).append(value)
        self._body: Body | None = None
        self._received = b""
        self._end: End | None = None
        self._framing = b""
        self._isAnswered = False
        self._isGone = False
        self._isOpen = False
        self._requestId = ""
        self._whenOver: list[Deferred[None]] | None = None
        self._work: Deferred[Any] | None = None
        self._began = self.site.clock.seconds()

    # The request.

    def getHeader(self, name: bytes) -> bytes | None:
        """
        Return the last header of this name.

        @param name: in lower case.
        """
        values = self._given.get(name)
        return values[-1] if values else None

    def valuesOf(self, name: bytes) -> list[bytes]:
        """
        Return all headers of this name.

        @param name: in lower case.
        """
        return self._given.get(name, [])

    @property
    def requestId(self) -> str:
        """
        The client's own id for this request where it is harmless, else ours.
        """
        if not self._requestId:
            given = self.getHeader(b"x-request-id") or self.getHeader(b"x-client-request-id") or b""
            isSafe = given and _REQUEST_ID.fullmatch(given) is not None
            self._requestId = given.decode("ascii") if isSafe else _ids.next()
        return self._requestId

    def takeBody(self) -> bytes:
        """
        Return the whole body, decoded. It can be taken once: an answer may
        take an hour, and the body is not kept for it.
        """
        received, self._received = self._received, b""
        return received

    @property
    def waitsForContinue(self) -> bool:
        """
        Whether the client sends its body only after a word from us.
        """
        expect = self.getHeader(b"expect") or b""
        return expect.lower() == b"100-continue" and self.clientproto == b"HTTP/1.1"

    def isSecure(self) -> bool:
        """
        Whether the connection is encrypted.
        """
        return self.channel.isSecure()

    def getHost(self) -> IAddress:
        """
        Return the address that the connection came in on.
        """
        host: IAddress = self.channel.transport.getHost()  # type: ignore[union-attr]
        return host

    def getClientAddress(self) -> IAddress:
        """
        Return the address of the connection's other end.
        """
        peer: IAddress = self.channel.transport.getPeer()  # type: ignore[union-attr]
        return peer

    def url_for(
        self,
        endpoint: str,
        values: Mapping[str, Any] | None = None,
        method: str | None = None,
        force_external: bool = False,
        append_unknown: bool = True,
    ) -> str:
        """
        Return the URL of another route, for Klein.
        """
        url: str = self.mapper.build(endpoint, values, method, force_external, append_unknown)
        return url

    def getRequestHostname(self) -> bytes:
        """
        A constant. Klein asks in order to build URLs, which nothing here
        does, and werkzeug's error for a bad name is raised where Klein does
        not catch it.
        """
        return b"localhost"

    def headReceived(self, method: bytes, target: bytes, version: bytes) -> None:
        """
        The head is complete. Whoever is not let in need not send a body.

        @raise APIError: the request is not wanted.
        """
        self.method, self.uri, self.clientproto = method, target, version
        self.path = target.split(b"?", 1)[0]
        given = self._given
        self._checkHead()
        length = given.get(b"content-length")
        isChunked = b"transfer-encoding" in given
        self.hasBody = isChunked or (length is not None and length != [b"0"])
        if self.hasBody:
            self._admit()
        if b"expect" in given and version == b"HTTP/1.1" and not self.waitsForContinue:
            raise APIError("expectation_failed", "The only expectation that is met here is 100-continue.")
        limit = self.site.bodyLimit
        if length is not None and (len(length[-1]) > 18 or int(length[-1]) > limit):
            raise tooLarge(limit)
        if self.hasBody or b"content-encoding" in given:
            self._body = bodyFor(b",".join(given.get(b"content-encoding", ())), limit)

    def _checkHead(self) -> None:
        # Neither absolute-form nor the forms of CONNECT and OPTIONS name anything here.
        if not self.path.startswith(b"/"):
            raise APIError("bad_request", "The request target is not a path.")
        if self.clientproto not in (b"HTTP/1.1", b"HTTP/1.0"):
            raise APIError("bad_request", "This is not HTTP/1.1.")
        given = self._given
        hosts = given.get(b"host", ())
        if (hosts or self.clientproto != b"HTTP/1.0") and (len(hosts) != 1 or not _HOST.fullmatch(hosts[0])):
            raise APIError("bad_request", "The request needs one valid Host header.")
        encodings = given.get(b"transfer-encoding")
        if encodings is not None and (
            self.clientproto == b"HTTP/1.0"
            or len(encodings) > 1
            or encodings[0].lower() != b"chunked"
            or b"content-length" in given
        ):
            raise APIError("bad_request", "The only transfer encoding that is taken here is chunked.")

    def _admit(self) -> None:
        try:
            self.account = self.site.admission.admit(self)
        except APIError:
            raise
        except Exception:
            raise errorFromMistake(Failure(), self.requestId, self.route) from None

    def bodyPieceReceived(self, data: bytes) -> None:
        """
        Take a piece of the body.

        @raise APIError: it is too large, or not what it says.
        """
        if self._body is not None:
            self._body.write(data)

    def bodyReceived(self) -> None:
        """
        The body is complete.

        @raise APIError: it cannot be decoded to its end.
        """
        if self._body is not None:
            self._received = self._body.complete()
            self._body = None

    def process(self) -> None:
        """
        Let the request in, if that has not been done, and have the site's
        resource answer.
        """
        self._isOpen = True
        self.site.requestOpened(self)
        if self.refusal is not None:
            self.fail(self.refusal)
            return
        if self.site.isStopping:
            self.channel.persistent = False
            self.fail(shuttingDown())
            return
        try:
            if self.account is None:
                self._admit()
            self.site.resource.render(self)
        except APIError as error:
            self.fail(error)
        except Exception:
            self.processingFailed(Failure())

    # The answer.

    @property
    def isOver(self) -> bool:
        """
        Whether nothing more can be answered: all is, or the client is gone.
        """
        return self.finished or self._isGone

    def doing(self, work: Deferred[Any]) -> Deferred[Any]:
        """
        Note what makes the answer; the client's leaving and L{cut} cancel it.
        """
        self._work = work
        return work

    def notifyFinish(self) -> Deferred[None]:
        """
        Fires when the answer is complete; fails when the client left before.
        """
        over: Deferred[None] = Deferred()
        if self._whenOver is None:
            self._whenOver = []
        self._whenOver.append(over)
        return over

    def whenOver(self) -> Deferred[None]:
        """
        Fires when L{isOver} is true. Never fails.
        """
        if self.isOver:
            return succeed(None)
        return self.notifyFinish().addErrback(lambda _: None)

    def setHeader(self, name: bytes | str, value: bytes | str) -> None:
        """
        Say a header of the answer.
        """
        key = name.encode("latin-1") if isinstance(name, str) else name
        self.headers[key.lower()] = value.encode("latin-1") if isinstance(value, str) else value

    def setResponseCode(self, code: int) -> None:
        """
        Say the status of the answer.
        """
        self.code = code

    def write(self, data: bytes) -> None:
        """
        Send a piece of the answer; the first one together with the head.
        """
        if self.isOver:
            return
        if self.startedWriting:
            if data and self._framing != b"none":
                self.sentLength += len(data)
                self.channel.transmit(self._framed(data))
            return
        self.startedWriting = True
        head = self._head()
        if data and self._framing != b"none":
            self.sentLength += len(data)
            head += self._framed(data)
        self.channel.transmit(head)

    def _framed(self, data: bytes) -> bytes:
        return b"%x\r\n%b\r\n" % (len(data), data) if self._framing == b"chunked" else data

    def _head(self) -> bytes:
        headers = self.headers
        if self.method == b"HEAD" or self.code in _BODILESS:
            self._framing = b"none"
        elif b"content-length" not in headers:
            if self.clientproto == b"HTTP/1.1":
                self._framing = b"chunked"
                headers[b"transfer-encoding"] = b"chunked"
            else:
                self.channel.persistent = False
        lines = [
            _STATUS_LINES.get(self.code) or b"HTTP/1.1 %d Unknown\r\n" % self.code,
            _date.line(),
            b"X-Request-Id: %b\r\nOpenai-Processing-Ms: %d\r\n"
            % (self.requestId.encode("ascii"), self._milliseconds()),
        ]
        lines += [b"%b: %b\r\n" % (_shown(name), value) for name, value in headers.items()]
        if not self.channel.persistent:
            lines.append(b"Connection: close\r\n")
        elif self.clientproto == b"HTTP/1.0":
            lines.append(b"Connection: keep-alive\r\n")
        lines.append(b"\r\n")
        self.headers = {}
        return b"".join(lines)

    @property
    def isAnswered(self) -> bool:
        """
        Whether all of the answer was given, be it on its way or sent.
        """
        return self._isAnswered or self.isOver or (self.stream is not None and self.stream.hasEnded)

    @property
    def hasBegun(self) -> bool:
        """
        Whether a byte of the answer was sent.
        """
        return self.startedWriting

    def begin(self, contentType: bytes) -> None:
        """
        Decide for a stream; the head leaves with its first bytes.
        """
        self.stream = EventStream(self, self._gone)
        self.stream.begin(contentType)

    def _gone(self, end: End) -> None:
        owner, self.owner = self.owner, None
        if owner is not None:
            owner.clientGone(end)

    def keepWarm(self, ping: bytes, interval: float) -> None:
        """
        Say something whenever the stream has been silent for a while.
        """
        assert self.stream is not None
        self.stream.keepWarm(ping, interval)

    def send(self, data: bytes) -> None:
        """
        Send some of a stream.
        """
        assert self.stream is not None
        self.stream.write(data)

    def complete(self) -> None:
        """
        End a stream well when the client has taken all of it.
        """
        assert self.stream is not None
        self.stream.finish()

    def answer(self, body: bytes, status: int = 200, contentType: bytes = b"application/json") -> None:
        """
        Answer with a whole body. A large one leaves as the client reads
        it; a client that reads nothing of it for ten seconds is cut.
        """
        self._isAnswered = True
        self.code = status
        headers = self.headers
        headers[b"content-type"] = contentType
        headers[b"cache-control"] = b"no-store"
        headers[b"content-length"] = b"%d" % len(body)
        Outflow(self).sendAll(body)

    def abort(self) -> None:
        """
        Cut the connection.
        """
        self.owner = None
        self.setEnd(End.CLIENT_GONE)
        self.channel.abort()

    def fail(self, error: APIError, event: bytes | None = None) -> None:
        """
        End this request with an error, in the way that is still open: as an
        answer before the first byte, as an event after it. The first failure
        counts; an answer that is complete stays as it is.
        """
        if self.isOver:
            return
        self.setEnd(error.kind.end)
        if not self.startedWriting:
            self.hasFailed = True
            if self.stream is not None:
                self.stream.discard()
            self._answerError(error)
        elif self.stream is not None and self.stream.isOpen:
            self.hasFailed = True
            self.stream.fail(errorEvent(error) if event is None else event)

    def _answerError(self, error: APIError) -> None:
        for name, value in error.headers.items():
            self.setHeader(name, value)
        if error.retryAfter is not None:
            self.setHeader(b"retry-after", str(error.retryAfter))
        if not error.mayRetry:
            self.headers[b"x-should-retry"] = b"false"
        self.answer(errorBody(error), error.kind.status)

    def cut(self, error: APIError) -> None:
        """
        End this request from outside, and what makes its answer. A client
        that is still taking a complete answer loses the rest of it.
        """
        # Ending the request forgets its work.
        work = self._work
        self.fail(error)
        if not self.hasFailed and not self.isOver:
            self.setEnd(error.kind.end)
            self.hasFailed = True
            self.channel.abort()
        self._gone(error.kind.end)
        if work is not None:
            work.cancel()

    def processingFailed(self, reason: Failure) -> Failure:
        """
        An exception that nobody expected: logged here, once; its text stays
        inside.
        """
        self.fail(errorFromMistake(reason, self.requestId, self.route))
        self._gone(End.BUG)
        return reason

    def finish(self) -> None:
        """
        The answer is complete. Klein says so once more of a path that it has
        no route for.
        """
        if self.isOver:
            return
        if not self.startedWriting:
            if b"content-length" not in self.headers and self.code not in _BODILESS:
                self.headers[b"content-length"] = b"0"
            self.write(b"")
        if self._framing == b"chunked":
            self.channel.transmit(b"0\r\n\r\n")
        self.setEnd(End.OK if self.code < 400 else End.BAD)
        self.finished = True
        if self.owner is not None and not self.hasFailed:
            owner, self.owner = self.owner, None
            self.channel.awaitDelivery(owner)
        self._close()
        self.channel.requestDone()

    def connectionLost(self, reason: Failure) -> None:
        """
        The client is gone before the answer was complete.
        """
        if self.finished:
            return
        self._isGone = True
        work = self._work
        if self.channel.outflow is not None:
            self.channel.outflow.close()
        if self.stream is not None:
            self.stream.connectionLost()
        owner, self.owner = self.owner, None
        if owner is not None and (self._isAnswered or self.stream is not None):
            # A stream that was not complete has told its owner already.
            owner.delivered(False)
        elif owner is not None:
            owner.clientGone(End.CLIENT_GONE)
        self.setEnd(End.CLIENT_GONE)
        if not self.startedWriting:
            # Nobody sees this status but the access log.
            self.code = 499
        self._close(reason)
        if work is not None:
            work.cancel()

    # The account of it.

    @property
    def end(self) -> End | None:
        """
        How it ended, when that is known.
        """
        return self._end

    def setEnd(self, end: End) -> None:
        """
        Say how this request ends. The first word counts.
        """
        if self._end is None:
            self._end = end

    def _milliseconds(self) -> int:
        return int((self.site.clock.seconds() - self._began) * 1000)

    def _close(self, reason: Failure | None = None) -> None:
        if not self._isOpen:
            return
        self._isOpen = False
        self._work = None
        assert self._end is not None
        _log.info(
            "{method} {route} {status} {end}",
            requestId=self.requestId,
            method=self.method.decode("ascii") if self.method in _METHODS else "other",
            route=self.route,
            status=self.code,
            end=self._end.value,
            ms=self._milliseconds(),
            bytes=self.sentLength,
            stream=self.stream is not None and self.stream.hasBegun,
            model=self.model,
            session=self.session,
            retry=self.retry or None,
        )
        self.site.requestClosed(self)
        waiting, self._whenOver = self._whenOver, None
        for over in waiting or ():
            if reason is None:
                over.callback(None)
            else:
                over.errback(reason)
