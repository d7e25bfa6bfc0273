# -*- test-case-name: tests.web.test_mounted -*-
"""
The routes in a site of somebody else's: twisted.web's requests, made to fit.

twisted.web reads the whole body before anybody is asked, and bounds neither
connections nor heads: hardening and speed are our own connections'.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from twisted.internet.interfaces import IAddress
from twisted.python.failure import Failure
from twisted.web.resource import Resource
from twisted.web.server import NOT_DONE_YET

from openai_server.api.problem import errorBody
from openai_server.deadlines import Alarm
from openai_server.errors import shuttingDown
from openai_server.web.body import bodyFor, tooLarge
from openai_server.web.interfaces import Owner
from openai_server.web.request import APIRequest
from openai_server.web.sendqueue import SendQueue
from openai_server.web.site import APISite


class MountedChannel:
    """
    What an answer needs of the connection of one request of twisted.web's.
    """

    def __init__(self, inner: Any, site: APISite) -> None:
        """
        @param inner: a L{twisted.web.server.Request}.
        """
        self.persistent = True
        self.alarm = Alarm(site.deadlines)
        self.queue = SendQueue(inner, None, site.clock, self._stuck)
        self.request: MountedRequest | None = None
        self._inner = inner

    def _stuck(self) -> None:
        if self.request is not None:
            self.request.clientStuck()
        self.abort()

    def isSecure(self) -> bool:
        """
        Whether the connection is encrypted.
        """
        return bool(self._inner.isSecure())

    def getHost(self) -> IAddress:
        """
        Return the address that the connection came in on.
        """
        address: IAddress = self._inner.getHost()
        return address

    def getPeer(self) -> IAddress:
        """
        Return the address of the connection's other end.
        """
        address: IAddress = self._inner.getClientAddress()
        return address

    def awaitDelivery(self, owner: Owner) -> None:
        """
        Nobody tells more of a connection of twisted.web's than that it has
        room for all of the answer.
        """
        owner.delivered(not self.queue.isPaused)

    def requestDone(self) -> None:
        """
        The answer is written.
        """
        self._end()
        self._inner.finish()

    def loseConnection(self) -> None:
        """
        Close when everything is sent.
        """
        self._end()
        self._inner.loseConnection()

    def abort(self) -> None:
        """
        Cut the connection, whatever is unsent.
        """
        self._end()
        transport = self._inner.transport
        getattr(transport, "abortConnection", transport.loseConnection)()

    def _end(self) -> None:
        if not self.alarm.isOver:
            self.alarm.isOver = True
            self.alarm.cancel()
            self.queue.detach()


class MountedRequest(APIRequest):
    """
    One request of a site of somebody else's.
    """

    __slots__ = ("_inner",)

    channel: MountedChannel

    def __init__(self, site: APISite, inner: Any) -> None:
        """
        @param inner: a L{twisted.web.server.Request}.
        """
        channel = MountedChannel(inner, site)
        target, _, query = inner.uri.partition(b"?")
        segments = target.split(b"/")
        path = b"/" + b"/".join(segments[1 + len(inner.prepath) :])
        super().__init__(site, channel, inner.method, path)
        self.query = query
        channel.request = self
        self._inner = inner
        self.requestId = self.nameFrom(
            self.getHeader(b"x-request-id") or self.getHeader(b"x-client-request-id")
        )
        inner.notifyFinish().addErrback(self._left)

    def _left(self, reason: Failure) -> None:
        self.channel.alarm.isOver = True
        self.channel.alarm.cancel()
        self.channel.queue.clear()
        self.connectionLost(reason)

    def getHeader(self, name: bytes) -> bytes | None:
        """
        Return the last header of this name.
        """
        values = self.valuesOf(name)
        return values[-1] if values else None

    def valuesOf(self, name: bytes) -> list[bytes]:
        """
        Return all headers of this name.
        """
        values: list[bytes] = self._inner.requestHeaders.getRawHeaders(name, [])
        return values

    def takeBody(self) -> bytes:
        """
        Return the whole body, decoded.

        @raise APIError: it is too large, or not what it says.
        """
        limit = self.site.bodyLimit
        received: bytes = self._inner.content.read(limit + 1)
        if len(received) > limit:
            raise tooLarge(limit)
        body = bodyFor(b",".join(self.valuesOf(b"content-encoding")), limit)
        body.write(received)
        return body.complete()

    def beginning(self, data: bytes) -> bytes:
        """
        Give the head to twisted.web, and return this piece of the body.
        """
        inner = self._inner
        inner.setResponseCode(self.code)
        said = {
            **self.headers,
            b"x-request-id": self.requestId.encode("ascii"),
            b"openai-processing-ms": b"%d" % self.milliseconds(),
        }
        for name, value in said.items():
            inner.responseHeaders.setRawHeaders(name, [value])
        return self.framed(data)

    def framed(self, data: bytes) -> bytes:
        """
        Return a piece of the body.
        """
        return data if self.hasBody else b""

    def ending(self) -> bytes:
        """
        Return nothing: twisted.web ends the answer.
        """
        return b""


class MountedResource(Resource):
    """
    All routes, for a tree of resources.
    """

    isLeaf = True

    def __init__(self, currentSite: Callable[[], APISite | None]) -> None:
        """
        @param currentSite: gives what the routes belong to; None as long as
            they are not served.
        """
        super().__init__()
        self._currentSite = currentSite

    def render(self, request: Any) -> Any:
        """
        Have a request of twisted.web's answered.
        """
        site = self._currentSite()
        if site is None:
            error = shuttingDown()
            request.setResponseCode(error.kind.status)
            request.setHeader(b"content-type", b"application/json")
            request.setHeader(b"retry-after", str(error.retryAfter).encode())
            return errorBody(error)
        site.process(MountedRequest(site, request))
        return NOT_DONE_YET
