# -*- test-case-name: tests.web.test_site -*-
"""
The site: the factory of our connections, and how all of them come to an end.
"""

from __future__ import annotations

from typing import Final

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorTime
from twisted.web import http, server
from twisted.web.resource import IResource

from openai_server.errors import APIError, shuttingDown
from openai_server.web.admission import Admission
from openai_server.web.channel import APIChannel
from openai_server.web.request import APIRequest

__all__ = ["BODY_LIMIT", "APIRequest", "APISite"]

#: Bytes that a request's body may have, decoded, unless the site says otherwise.
BODY_LIMIT: Final = 20 * 1024 * 1024


class APISite(server.Site):
    """
    The factory of our connections, which knows what is open on them.

    @ivar admission: who may ask.
    @ivar clock: the time of everything that waits here.
    @ivar bodyLimit: bytes that a request's body may have, decoded.
    @ivar isStopping: new requests are turned away.
    """

    # Twisted declares the types of its own defaults here.
    protocol = APIChannel  # type: ignore[assignment]
    requestFactory = APIRequest  # type: ignore[assignment]
    noisy = False

    def __init__(
        self,
        resource: IResource,
        reactor: IReactorTime,
        clock: IReactorTime,
        *,
        admission: Admission,
        bodyLimit: int = BODY_LIMIT,
        idleTimeout: float = 60,
    ) -> None:
        """
        @param resource: answers every path; a leaf.
        @param idleTimeout: seconds after which a connection without a request
            is closed.
        """
        super().__init__(resource, reactor=reactor, timeout=idleTimeout, parsePOSTFormSubmission=False)
        self.admission = admission
        self.clock = clock
        self.bodyLimit = bodyLimit
        self.isStopping = False
        self._channels: set[APIChannel] = set()
        self._open: set[APIRequest] = set()
        self._waiting: list[Deferred[None]] = []

    # The end of all.

    def stopAccepting(self) -> None:
        """
        Turn new requests away, and close the connections that have none.
        """
        self.isStopping = True
        for channel in list(self._channels):
            if channel.isAnswering:
                channel.persistent = False
            elif channel.isIdle:
                channel.loseConnection()

    def whenIdle(self) -> Deferred[None]:
        """
        Fires when no response is open, at once when none is.
        """
        idle: Deferred[None] = Deferred()
        self._waiting.append(idle)
        self._checkIdle()
        return idle

    def cut(self) -> None:
        """
        End each open response with an error that says why.
        """
        for request in list(self._open):
            request.cut(_tooLate(request))

    def closeIdle(self) -> None:
        """
        Close each connection on which nothing is answered.
        """
        for channel in list(self._channels):
            if not channel.isAnswering:
                channel.loseConnection()

    # What is open.

    @property
    def openResponses(self) -> int:
        """
        How many requests are answered now.
        """
        return len(self._open)

    def requestOpened(self, request: APIRequest) -> None:
        """
        A response is owed.
        """
        self._open.add(request)

    def requestClosed(self, request: APIRequest) -> None:
        """
        A response is complete or given up.
        """
        self._open.discard(request)
        self._checkIdle()

    def channelOpened(self, channel: APIChannel) -> None:
        """
        There is one connection more.
        """
        self._channels.add(channel)

    def channelClosed(self, channel: APIChannel) -> None:
        """
        There is one connection less.
        """
        self._channels.discard(channel)

    def _checkIdle(self) -> None:
        if not self._open:
            waiting, self._waiting = self._waiting, []
            for idle in waiting:
                idle.callback(None)

    # What Twisted's site would do and this one does not.

    def startFactory(self) -> None:
        """
        Open no log file, and run no timer for its dates.
        """

    def stopFactory(self) -> None:
        """
        Nothing to close.
        """

    def log(self, request: http.Request) -> None:
        """
        Requests log themselves, also those that were never finished.
        """

    def acceptableProtocols(self) -> list[bytes]:
        """
        What is offered in a TLS handshake.
        """
        return [b"http/1.1"]


def _tooLate(request: APIRequest) -> APIError:
    if not request.mayHaveRun:
        return shuttingDown()
    why = "The server is shutting down and could not wait for the end of this answer."
    return APIError("shutting_down", why, mayRetry=False)
