# -*- test-case-name: tests.web.test_channel -*-
"""
One HTTP request: how it is answered, how it ended.

Every request that was read has exactly one end code, one access event, and one
place among the site's open responses, from its last byte in to its last byte
out. What is read and written in which form is said by two kinds of it:
L{HTTPRequest<openai_server.web.httprequest.HTTPRequest>} on our own
connections, and L{MountedRequest<openai_server.web.mounted.MountedRequest>} in
a site of somebody else's.
"""

from __future__ import annotations

import re
from base64 import b16encode
from collections.abc import Callable, Iterable, Mapping, Sequence
from http import HTTPMethod
from os import urandom
from typing import Any, Final, Protocol

from klein.interfaces import IKleinRequest
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IAddress, IReactorTime
from twisted.python.failure import Failure
from zope.interface import implementer

from openai_server.accounts.account import Account
from openai_server.api.output import Usage
from openai_server.api.problem import errorBody
from openai_server.deadlines import Alarm
from openai_server.errors import APIError, End
from openai_server.log import EventLogger
from openai_server.reports import RequestReport, RequestReports
from openai_server.web.interfaces import Owner, StreamWords
from openai_server.web.mistakes import errorFromMistake
from openai_server.web.sendqueue import SendQueue

_REQUEST_ID = re.compile(rb"[A-Za-z0-9._:=/+@-]{1,128}")
_METHODS: Final = {method.value.encode(): method.value for method in HTTPMethod}
_BODILESS: Final = frozenset({101, 204, 304})

# Not an attribute of the request: events would carry it, and its query string.
_log = EventLogger()


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


_ids = _RandomIds()


class Channel(Protocol):
    """
    The connection of a request, as far as its answer needs it.

    @ivar persistent: whether it stays open after the answer.
    @ivar queue: the way to the client.
    @ivar alarm: a wait that the answer may use while it lasts.
    """

    persistent: bool
    queue: SendQueue
    alarm: Alarm

    def isSecure(self) -> bool:
        """
        Whether the connection is encrypted.
        """

    def getHost(self) -> IAddress: ...

    def getPeer(self) -> IAddress: ...

    def awaitDelivery(self, owner: Owner) -> None:
        """
        An answer is complete. Its owner is told when the client is known to
        have it, because the connection goes on or is closed in good order, or
        to have left before.
        """

    def requestDone(self) -> None:
        """
        The answer is written; how much of it the client has read is another
        matter.
        """

    def loseConnection(self) -> None:
        """
        Close when everything is sent.
        """

    def abort(self) -> None:
        """
        Cut the connection, whatever is unsent.
        """


class OpenResponses(Protocol):
    """
    Who counts what is being answered.
    """

    @property
    def clock(self) -> IReactorTime: ...

    @property
    def bodyLimit(self) -> int:
        """
        Bytes that a request's body may have, decoded.
        """

    @property
    def reports(self) -> Sequence[RequestReports]:
        """
        Who hears of the end of each request.
        """

    def requestOpened(self, request: APIRequest) -> None:
        """
        A response is owed.
        """

    def requestClosed(self, request: APIRequest) -> None:
        """
        A response is complete or given up.
        """


@implementer(IKleinRequest)
class APIRequest:
    """
    A L{Request<openai_server.web.interfaces.Request>}, and what Klein and the
    connection need beside that.

    @ivar site: what counts it while it is answered.
    @ivar answeredBy: what answers it where no route does.
    @ivar refusal: what is wrong with it, when it was refused while it came.
    @ivar code: the status of the answer.
    @ivar headers: of the answer, names in lower case, until its head is sent.
    @ivar sentLength: bytes of the answer's body.
    @ivar isStream: whether the answer is one.
    @ivar finished: whether the answer is complete.
    """

    __slots__ = (
        "_began",
        "_end",
        "_finishing",
        "_hasEnded",
        "_interval",
        "_isGone",
        "_isOpen",
        "_isTimed",
        "_over",
        "_words",
        "_work",
        "account",
        "answeredBy",
        "branch_segments",
        "channel",
        "code",
        "finished",
        "firstOutputAt",
        "hasFailed",
        "headers",
        "isStream",
        "mapper",
        "mayHaveRun",
        "method",
        "model",
        "owner",
        "path",
        "postpath",
        "prepath",
        "query",
        "refusal",
        "requestId",
        "retry",
        "route",
        "sentLength",
        "session",
        "site",
        "startedWriting",
        "traceparent",
        "usage",
    )

    # For Klein.
    branch_segments: list[str]
    mapper: Any
    postpath: list[bytes]
    prepath: list[bytes]

    def __init__(self, site: OpenResponses, channel: Channel, method: bytes, path: bytes) -> None:
        self.site = site
        self.channel = channel
        self.method = method
        self.path = path
        self.query = b""
        self.requestId = ""
        self.answeredBy: Callable[[Any], None] | None = None
        self.refusal: APIError | None = None
        self.route = "unmatched"
        self.model: str | None = None
        self.session: str | None = None
        self.retry = 0
        self.account: Account | None = None
        self.mayHaveRun = False
        self.firstOutputAt: float | None = None
        self.usage: Usage | None = None
        self.traceparent: bytes | None = None
        self.owner: Owner | None = None
        self.hasFailed = False
        self.code = 200
        self.headers: dict[bytes, bytes] = {}
        self.sentLength = 0
        self.isStream = False
        self.finished = False
        self.startedWriting = False
        self._began = site.clock.seconds()
        self._end: End | None = None
        self._hasEnded = False
        self._isGone = False
        self._isOpen = False
        self._isTimed = False
        self._interval = 0.0
        self._over: list[Deferred[None]] | None = None
        self._finishing: list[Deferred[None]] | None = None
        self._words: StreamWords | None = None
        self._work: Deferred[Any] | None = None

    # What the kinds of it know.

    def getHeader(self, name: bytes) -> bytes | None:
        """
        Return the last header of this name.

        @param name: in lower case.
        """
        raise NotImplementedError

    def valuesOf(self, name: bytes) -> list[bytes]:
        """
        Return all headers of this name.

        @param name: in lower case.
        """
        raise NotImplementedError

    def takeBody(self) -> bytes:
        """
        Return the whole body, decoded. It can be taken once: an answer may
        take an hour, and the body is not kept for it.
        """
        raise NotImplementedError

    def beginning(self, data: bytes) -> bytes:
        """
        Return what is sent first: the head with this piece of the body.
        """
        raise NotImplementedError

    def framed(self, data: bytes) -> bytes:
        """
        Return a piece of the body as it is sent.
        """
        raise NotImplementedError

    def ending(self) -> bytes:
        """
        Return what is sent last.
        """
        raise NotImplementedError

    # The request.

    @property
    def clock(self) -> IReactorTime:
        """
        The time of everything that waits here.
        """
        return self.site.clock

    def nameFrom(self, given: bytes | None) -> str:
        """
        Return the client's own id for this request where it is harmless, else
        one of ours.
        """
        isSafe = given is not None and _REQUEST_ID.fullmatch(given) is not None
        return given.decode("ascii") if isSafe and given is not None else _ids.next()

    def isSecure(self) -> bool:
        """
        Whether the connection is encrypted.
        """
        return self.channel.isSecure()

    def getHost(self) -> IAddress:
        """
        Return the address that the connection came in on.
        """
        return self.channel.getHost()

    def getClientAddress(self) -> IAddress:
        """
        Return the address of the connection's other end.
        """
        return self.channel.getPeer()

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

    # The answer.

    def opened(self) -> None:
        """
        The request is answered from now on.
        """
        self._isOpen = True
        self.site.requestOpened(self)

    @property
    def isOver(self) -> bool:
        """
        Whether nothing more can be answered: all is, or the client is gone.
        """
        return self.finished or self._isGone

    @property
    def hasEnded(self) -> bool:
        """
        Whether all of the answer was given, be it on its way or sent, or will
        never be.
        """
        return self._hasEnded or self._isGone

    def doing(self, work: Deferred[Any]) -> None:
        """
        Note what makes the answer; the client's leaving and L{cut} cancel it.
        """
        self._work = work

    def notifyFinish(self) -> Deferred[None]:
        """
        Fires when the answer is complete; fails when the client left before.
        For Klein.
        """
        finished: Deferred[None] = Deferred()
        self._finishing = [*(self._finishing or ()), finished]
        return finished

    def whenOver(self) -> Deferred[None]:
        """
        Fires when L{isOver} is true. Never fails.
        """
        over: Deferred[None] = Deferred()
        if self.isOver:
            over.callback(None)
        elif self._over is None:
            self._over = [over]
        else:
            self._over.append(over)
        return over

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

    @property
    def hasBody(self) -> bool:
        """
        Whether the answer can have a body.
        """
        return self.method != b"HEAD" and self.code not in _BODILESS

    def begin(self, words: StreamWords, interval: float = 0.0) -> None:
        """
        Decide for a stream; the head leaves with its first bytes.

        @param ping: what is said whenever the stream has been silent for a
            while; empty for nothing.
        @param interval: for how long, in seconds.
        """
        self.isStream = True
        headers = self.headers
        headers[b"content-type"] = words.streamType
        headers[b"cache-control"] = b"no-cache, no-transform"
        headers[b"x-accel-buffering"] = b"no"
        self._words = words
        self._interval = interval

    def write(self, data: bytes) -> None:
        """
        Send a piece of the answer; the first one together with the head.
        """
        if self._hasEnded or self._isGone:
            return
        if self.startedWriting:
            self.sentLength += len(data)
            self.channel.queue.send(self.framed(data))
        else:
            self.channel.queue.send(self._next(data))
        if self._isTimed:
            self.channel.alarm.putOff(self._interval)
        elif self._interval:
            self._isTimed = True
            self.channel.alarm.begin(self._interval, self._silent)

    def _next(self, data: bytes) -> bytes:
        self.sentLength += len(data)
        if self.startedWriting:
            return self.framed(data)
        self.startedWriting = True
        return self.beginning(data)

    def complete(self, data: bytes) -> None:
        """
        Send the last of a stream, and end it well.
        """
        if self._hasEnded or self._isGone:
            return
        self._endStream()
        queue = self.channel.queue
        queue.send(self._next(data) + self.ending() if data else self.ending())
        queue.whenSent(self._finished)

    def answer(self, body: bytes, status: int = 200, contentType: bytes = b"application/json") -> None:
        """
        Answer with a whole body. A large one leaves as the client reads
        it; a client that reads nothing of it for ten seconds is cut.
        """
        self._hasEnded = True
        self.code = status
        if status not in _BODILESS:
            headers = self.headers
            headers[b"content-type"] = contentType
            headers.setdefault(b"cache-control", b"no-store")
            headers[b"content-length"] = b"%d" % len(body)
        queue = self.channel.queue
        queue.send(self._next(body))
        queue.whenSent(self._finished)

    def abort(self) -> None:
        """
        Cut the connection.
        """
        self.owner = None
        self.setEnd(End.CLIENT_GONE)
        self.channel.abort()

    def fail(self, error: APIError) -> None:
        """
        End this request with an error, in the way that is still open: as an
        answer before the first byte, as an event after it. The first failure
        counts; an answer that is complete stays as it is.

        @param event: the error as the stream has it.
        """
        if self.isOver:
            return
        self.setEnd(error.kind.end)
        if not self.startedWriting:
            self.hasFailed = True
            self.isStream = False
            self.headers.pop(b"x-accel-buffering", None)
            self.headers.pop(b"cache-control", None)
            self._answerError(error)
        elif self.isStream and not self._hasEnded:
            self.hasFailed = True
            self._endStream()
            assert self._words is not None
            queue, said = self.channel.queue, self.framed(self._words.error(error))
            if self._words.errorIsEnd:
                queue.send(said + self.ending())
                queue.whenSent(self._finished)
            else:
                # Not complete: the last chunk is missing, and so nobody takes
                # the answer for complete. What was written must still leave.
                queue.send(said)
                queue.whenSent(self.channel.loseConnection)

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
        self._lose(error.kind.end)
        if work is not None:
            work.cancel()

    def processingFailed(self, reason: Failure) -> Failure:
        """
        An exception that nobody expected: logged here, once; its text stays
        inside.
        """
        self.fail(errorFromMistake(reason, self.requestId, self.route))
        self._lose(End.BUG)
        return reason

    def finish(self) -> None:
        """
        The answer is complete. Klein says so once more of a path that it has
        no route for.
        """
        if not (self._hasEnded or self.isOver):
            if not self.startedWriting and self.hasBody:
                self.headers[b"content-length"] = b"0"
            self._hasEnded = True
            self.channel.queue.send(self._next(b"") if not self.startedWriting else self.ending())
            self._finished()

    # Silence.

    def probe(self) -> None:
        """
        Write something to a stream that no client minds.
        """
        if not (self._hasEnded or self.channel.queue.queued) and self._words is not None:
            self.channel.queue.send(self.framed(self._words.keepAlive() or b":\n\n"))

    def _silent(self) -> None:
        queue, words = self.channel.queue, self._words
        # Nothing to a client that is behind anyway.
        if not queue.queued and words is not None and (said := words.keepAlive()):
            self.sentLength += len(said)
            queue.send(self.framed(said))
        if not self._hasEnded:
            self.channel.alarm.begin(self._interval, self._silent)

    # The end.

    def _endStream(self) -> None:
        self._hasEnded = True
        if self._isTimed:
            self._isTimed = False
            self.channel.alarm.cancel()

    def _finished(self) -> None:
        if self.isOver:
            return
        self.setEnd(End.OK if self.code < 400 else End.BAD)
        self.finished = True
        if self.owner is not None and not self.hasFailed:
            owner, self.owner = self.owner, None
            self.channel.awaitDelivery(owner)
        self._close()
        self.channel.requestDone()

    def _lose(self, end: End) -> None:
        owner, self.owner = self.owner, None
        if owner is not None:
            owner.clientGone(end)

    def clientStuck(self) -> None:
        """
        The client reads nothing, and its connection is about to be cut.
        """
        self.setEnd(End.CLIENT_STUCK)
        if not self._hasEnded:
            self._endStream()
            self._lose(End.CLIENT_STUCK)

    def connectionLost(self, reason: Failure) -> None:
        """
        The client is gone before the answer was complete.
        """
        if self.finished:
            return
        self._isGone = True
        work, owner, self.owner = self._work, self.owner, None
        if owner is not None and self._hasEnded:
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

    def setEnd(self, end: End) -> None:
        """
        Say how this request ends. The first word counts.
        """
        if self._end is None:
            self._end = end

    def milliseconds(self) -> int:
        """
        Return for how long it has been here.
        """
        return int((self.site.clock.seconds() - self._began) * 1000)

    def _tell(self, reports: Iterable[RequestReports]) -> None:
        report = self._report()
        for each in reports:
            try:
                each.requestEnded(report)
            except Exception:
                _log.failure("a request could not be noted")

    def _report(self) -> RequestReport:
        assert self._end is not None
        first, usage, traceparent = self.firstOutputAt, self.usage, self.traceparent
        return RequestReport(
            requestId=self.requestId,
            account="" if self.account is None else self.account.label,
            method=_METHODS.get(self.method, "other"),
            route=self.route,
            status=self.code,
            end=self._end.word,
            model=self.model,
            seconds=self.site.clock.seconds() - self._began,
            firstTokenSeconds=None if first is None else first - self._began,
            inputTokens=None if usage is None else usage.input,
            outputTokens=None if usage is None else usage.output,
            traceparent=None if traceparent is None else traceparent.decode("latin-1"),
        )

    def _close(self, reason: Failure | None = None) -> None:
        if not self._isOpen:
            return
        self._isOpen = False
        self._work = None
        assert self._end is not None
        _log.info(
            "{method} {route} {status} {end}",
            requestId=self.requestId,
            method=_METHODS.get(self.method, "other"),
            route=self.route,
            status=self.code,
            end=self._end.word,
            ms=self.milliseconds(),
            bytes=self.sentLength,
            stream=self.isStream and self.startedWriting,
            model=self.model,
            session=self.session,
            retry=self.retry or None,
        )
        if reports := self.site.reports:
            self._tell(reports)
        self.site.requestClosed(self)
        finishing, self._finishing = self._finishing, None
        for each in finishing or ():
            if reason is None:
                each.callback(None)
            else:
                each.errback(reason)
        over, self._over = self._over, None
        for each in over or ():
            each.callback(None)
