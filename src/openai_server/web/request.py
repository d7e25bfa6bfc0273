# -*- test-case-name: tests.web.test_channel -*-
"""
One HTTP request: who asked what, how it ended.

Every request that was read has exactly one end code, one access event, and one
place among the site's open responses, from its last byte in to its last byte
out.
"""

from __future__ import annotations

import re
import secrets
from collections.abc import Coroutine
from http import HTTPStatus
from typing import TYPE_CHECKING, Any, Protocol
from urllib.parse import unquote_to_bytes

from twisted.internet.defer import Deferred, succeed
from twisted.logger import Logger
from twisted.python.failure import Failure
from twisted.web import http, server

from openai_server.api.sse import errorEvent
from openai_server.errors import APIError, End, shuttingDown
from openai_server.web.answers import answerError, answerJSON
from openai_server.web.body import Body, bodyFor, tooLarge
from openai_server.web.mistakes import errorFromMistake
from openai_server.web.streaming import EventStream

if TYPE_CHECKING:
    from openai_server.web.admission import Account
    from openai_server.web.channel import APIChannel
    from openai_server.web.outflow import Outflow
    from openai_server.web.site import APISite

_LABEL = rb"[A-Za-z0-9_-]{1,63}"
_HOST = re.compile(rb"(?:\[[0-9A-Fa-f:.]+\]|(?:" + _LABEL + rb"\.)*" + _LABEL + rb"\.?)(?::[0-9]{1,5})?")
_REQUEST_ID = re.compile(rb"[A-Za-z0-9._:=/+@-]{1,128}")
#: The words of status lines. Twisted's own table lacks some.
_PHRASES = {status.value: status.phrase.encode("ascii") for status in HTTPStatus}
_METHODS = frozenset(b"GET HEAD POST PUT PATCH DELETE OPTIONS TRACE CONNECT".split())

# Not an attribute of the request: events would carry it, and its query string.
_log = Logger()


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


class APIRequest(server.Request):
    """
    One HTTP request.

    @ivar route: the template of the route that answers it.
    @ivar model: the model that was asked for, for the log.
    @ivar session: what its session is to the client, for the log.
    @ivar retry: how often the client had sent it before, for the log.
    @ivar stream: the stream that answers it, if one does.
    @ivar outflow: what hands out the bytes of a long answer.
    @ivar account: whose it is, once it was admitted.
    @ivar mayHaveRun: a worker may have begun to act for it, so that it must
        not simply be asked again.
    @ivar hasFailed: it has been ended with an error.
    @ivar content: its body, when its head was accepted.
    """

    defaultContentType = None
    channel: APIChannel
    site: APISite
    route = "unmatched"
    model: str | None = None
    session: str | None = None
    retry: int = 0
    owner: Owner | None = None
    stream: EventStream | None = None
    outflow: Outflow | None = None
    account: Account | None = None
    mayHaveRun = False
    hasFailed = False
    content: Body

    _end: End | None = None
    _isAnswered = False
    _isOpen = False
    _work: Deferred[bytes | None] | None = None
    _requestId = ""
    _body: Body

    def __init__(self, channel: APIChannel, queued: object = 0) -> None:
        super().__init__(channel, queued, parsePOSTFormSubmission=False)
        self.site = channel.site
        self.clientproto = b"HTTP/1.1"
        self._began = self.site.clock.seconds()

    # The request.

    @property
    def requestId(self) -> str:
        """
        The client's own id for this request where it is harmless, else ours.
        """
        if not self._requestId:
            given = self.getHeader(b"x-request-id") or self.getHeader(b"x-client-request-id") or b""
            isSafe = _REQUEST_ID.fullmatch(given) is not None
            self._requestId = given.decode("ascii") if isSafe else f"req_{secrets.token_hex(12)}"
        return self._requestId

    def takeBody(self) -> bytes:
        """
        The whole body, decoded. It can be taken once: an answer may take an
        hour, and the body is not kept for it.
        """
        body = self.content.getvalue()
        self.content.close()
        return body

    @property
    def waitsForContinue(self) -> bool:
        """
        The client sends its body only after a word from us.
        """
        expect = self.getHeader(b"expect") or b""
        return expect.lower() == b"100-continue" and self.clientproto == b"HTTP/1.1"

    def getRequestHostname(self) -> bytes:
        """
        A constant. Klein asks in order to build URLs, which nothing here
        does, and werkzeug's error for a bad name is raised where Klein does
        not catch it.
        """
        return b"localhost"

    def headReceived(self, method: bytes, target: bytes, version: bytes, length: int | None) -> None:
        """
        The head is complete. Whoever is not let in need not send a body.

        @param length: bytes of the body, None when it is chunked.
        @raise APIError: the body is not wanted.
        """
        self.method, self.uri, self.clientproto = method, target, version
        self.path = target.split(b"?", 1)[0]
        self._checkTarget()
        self._checkHost()
        if length != 0:
            self._admit()
        if self.getHeader(b"expect") is not None and version == b"HTTP/1.1" and not self.waitsForContinue:
            raise APIError("expectation_failed", "The only expectation that is met here is 100-continue.")
        if length is not None and length > self.site.bodyLimit:
            raise tooLarge(self.site.bodyLimit)
        encodings = self.requestHeaders.getRawHeaders(b"content-encoding") or []
        # Kept back until gotLength: a refused request has no content.
        self._body = bodyFor(b",".join(encodings), self.site.bodyLimit)

    def _admit(self) -> None:
        try:
            self.account = self.site.admission.admit(self)
        except APIError:
            raise
        except Exception:
            raise errorFromMistake(Failure(), self.requestId, self.route) from None

    def _checkTarget(self) -> None:
        # Neither absolute-form nor the forms of CONNECT and OPTIONS name anything here.
        if not self.path.startswith(b"/"):
            raise APIError("bad_request", "The request target is not a path.")

    def _checkHost(self) -> None:
        hosts = self.requestHeaders.getRawHeaders(b"host") or []
        if not hosts and self.clientproto == b"HTTP/1.0":
            return
        if len(hosts) != 1 or not _HOST.fullmatch(hosts[0]):
            raise APIError("bad_request", "The request needs one valid Host header.")

    def gotLength(self, length: int | None) -> None:
        """
        A body is about to come. It stays in memory, whatever its size.
        """
        self.content = self._body

    def handleContentChunk(self, data: bytes) -> None:
        """
        A piece of the body.
        """
        if self.finished:
            return
        try:
            self.content.write(data)
        except APIError as error:
            self.channel.refuse(error)

    def bodyReceived(self) -> None:
        """
        The body is complete.

        @raise APIError: it cannot be decoded to its end.
        """
        self.content.complete()

    def requestReceived(self, command: bytes, path: bytes, version: bytes) -> None:
        """
        The request is complete. Queries and forms are not parsed: nothing
        reads them.
        """
        self.args = {}
        self.process()

    def process(self) -> None:
        """
        Let the request in, if that has not been done, and have the site's
        resource answer.
        """
        self.prepath = []
        self.postpath = [unquote_to_bytes(segment) for segment in self.path[1:].split(b"/")]
        self._open()
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
        Nothing more can be answered: all is, or the client is gone.
        """
        return bool(self.finished or self._disconnected)

    def doing(self, work: Coroutine[Any, Any, bytes | None]) -> Deferred[bytes | None]:
        """
        Start what makes the answer; L{cut} cancels it.
        """
        self._work = Deferred.fromCoroutine(work)
        return self._work

    def whenOver(self) -> Deferred[None]:
        """
        Fires when L{isOver} is true. Never fails.
        """
        if self.isOver:
            return succeed(None)
        return self.notifyFinish().addErrback(lambda _: None)

    def setResponseCode(self, code: int, message: bytes | None = None) -> None:
        """
        Say the status of the answer.
        """
        super().setResponseCode(code, message or _PHRASES.get(code))

    def write(self, data: bytes) -> None:
        """
        Send a piece of the answer; the first one together with the head.
        """
        if self.startedWriting or self.isOver:
            super().write(data)
            return
        self._stamp()
        super().write(data)
        self.channel.flushHead()

    def _stamp(self) -> None:
        headers = self.responseHeaders
        headers.setRawHeaders(b"Date", [http.datetimeToString()])
        headers.setRawHeaders(b"x-request-id", [self.requestId.encode("ascii")])
        headers.setRawHeaders(b"openai-processing-ms", [b"%d" % self._milliseconds()])
        if not self.channel.persistent:
            headers.setRawHeaders(b"Connection", [b"close"])

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
        return bool(self.startedWriting)

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

    def answer(self, body: bytes, status: int = 200) -> None:
        """
        Answer with a whole JSON body.
        """
        self._isAnswered = True
        answerJSON(self, body, status)

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
            self._failWithStatus(error)
        elif self.stream is not None and self.stream.isOpen:
            self.hasFailed = True
            self.stream.fail(errorEvent(error) if event is None else event)

    def _failWithStatus(self, error: APIError) -> None:
        if self.stream is not None:
            self.stream.discard()
        answerError(self, error)

    def refuse(self, error: APIError) -> None:
        """
        End this request before all of it was read.
        """
        self._open()
        self.fail(error)

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
        self.setEnd(End.OK if self.code < 400 else End.BAD)
        super().finish()
        self._close()
        if self.owner is not None and not self.hasFailed:
            owner, self.owner = self.owner, None
            owner.delivered(True)

    def connectionLost(self, reason: Failure) -> None:
        """
        The client is gone before the answer was complete.
        """
        if self.outflow is not None:
            self.outflow.close()
        if self.stream is not None:
            self.stream.connectionLost()
        owner, self.owner = self.owner, None
        if owner is not None:
            if self.isAnswered:
                owner.delivered(False)
            else:
                owner.clientGone(End.CLIENT_GONE)
        self.setEnd(End.CLIENT_GONE)
        if not self.startedWriting:
            # Nobody sees this status but the access log.
            self.code = 499
        super().connectionLost(reason)
        self._close()

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

    def _open(self) -> None:
        self._isOpen = True
        self.site.requestOpened(self)

    def _close(self) -> None:
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
