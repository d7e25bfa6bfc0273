# -*- test-case-name: tests.web.test_site -*-
"""
The site: the factory of our connections, and how all of them come to an end.
"""

from __future__ import annotations

import resource
import sys
from collections.abc import Callable, Sequence
from typing import Final

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IAddress, IPushProducer, IReactorTime
from twisted.internet.protocol import Factory
from twisted.python.failure import Failure
from twisted.web.resource import IResource

from openai_server.accounts.account import Account
from openai_server.deadlines import Deadlines
from openai_server.errors import APIError, shuttingDown
from openai_server.reports import RequestReports
from openai_server.web.admission import Admission
from openai_server.web.bodybudget import BodyBudget
from openai_server.web.bursts import Bursts
from openai_server.web.http import HTTPConnection, SiteChannel, Upgrades
from openai_server.web.mistakes import errorFromMistake
from openai_server.web.refusals import Refusals
from openai_server.web.request import APIRequest
from openai_server.web.survivors import Survivors

#: Bytes that a request's body may have, decoded, unless the site says otherwise.
BODY_LIMIT: Final = 20 * 1024 * 1024
#: Bytes of all bodies that are being received.
BODY_BUDGET: Final = 256 * 1024 * 1024
#: Connections that may be open at once.
MAX_CONNECTIONS: Final = 4096
#: Files that are kept for everything else: the daemon, ports, logs, attachments.
SPARE_FILES: Final = 64


class APISite(Factory):
    """
    The factory of our connections, which knows what is open on them.

    @ivar admission: who may ask.
    @ivar clock: the time of everything that waits here.
    @ivar deadlines: those of all connections.
    @ivar bodyLimit: bytes that a request's body may have, decoded.
    @ivar bodyBudget: bytes of all bodies that are being received.
    @ivar upgrades: the other protocol that connections may change to.
    @ivar reports: who hears of the end of each request.
    @ivar isStopping: new requests are turned away.
    """

    noisy = False

    def __init__(
        self,
        root: IResource,
        clock: IReactorTime,
        *,
        admission: Admission,
        bodyLimit: int = BODY_LIMIT,
        bodyBudget: int = BODY_BUDGET,
        maxConnections: int = MAX_CONNECTIONS,
        upgrades: Upgrades | None = None,
        onStopping: Callable[[], None] = lambda: None,
        survivors: Survivors | None = None,
        reports: Sequence[RequestReports] = (),
        isTraced: bool = False,
    ) -> None:
        """
        @param root: answers every path; a leaf.
        @param maxConnections: how many may be open. When they are, idle ones
            are closed; when none is idle, nobody is let in until one is closed.
        @param upgrades: the other protocol that connections may change to.
        @param onStopping: turns away whoever still waits to be asked: what is
            cut later must start nothing.
        @param survivors: answers to wait for as if somebody read them.
        @param reports: who hears of the end of each request.
        @param isTraced: whether they want to know in which trace it is.
        """
        self.resource = root
        self.maxConnections = min(maxConnections, max(_fileLimit() - SPARE_FILES, 1))
        self._refusals = Refusals(clock)
        self.upgrades = upgrades
        self._onStopping = onStopping
        self.deadlines = Deadlines(clock)
        self.admission = admission
        self.clock = clock
        self.bodyLimit = bodyLimit
        self.bodyBudget = BodyBudget(bodyBudget, bodyLimit)
        self.reports = tuple(reports)
        self._isTraced = isTraced
        self.isStopping = False
        self._bursts = Bursts(clock, self._begin)
        self._channels: dict[SiteChannel, None] = {}
        self._ports: Sequence[IPushProducer] = ()
        self._isFull = False
        self._open: set[APIRequest] = set()
        self._survivors = Survivors() if survivors is None else survivors
        self._survivors.onNone = self._checkIdle
        self._waiting: list[Deferred[None]] = []
        self._leaving: list[Deferred[None]] = []

    # The end of all.

    def handOver(self) -> Deferred[None]:
        """
        Answer one more request on each connection, and then close it.

        @return: fires once no connection is left.
        """
        for channel in list(self._channels):
            channel.answerLast()
        left: Deferred[None] = Deferred()
        self._leaving.append(left)
        self._checkGone()
        return left

    def _checkGone(self) -> None:
        if not self._channels:
            leaving, self._leaving = self._leaving, []
            for left in leaving:
                left.callback(None)

    def stopAccepting(self) -> None:
        """
        Turn new requests away, and close the connections that have none.
        """
        self.isStopping = True
        self._onStopping()
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
        self._survivors.cut()

    def closeIdle(self) -> None:
        """
        Close each connection on which nothing is answered.
        """
        for channel in list(self._channels):
            if not channel.isAnswering:
                channel.loseConnection()
        if not self._channels:
            self.deadlines.stop()

    # Requests.

    def admitted(self, request: APIRequest) -> Account:
        """
        Judge a request by its head, before its body is read.

        @raise APIError: it is not let in.
        """
        try:
            return self.admission.admit(request)
        except APIError:
            raise
        except Exception:
            raise errorFromMistake(Failure(), request.requestId, request.route) from None

    def process(self, request: APIRequest) -> None:
        """
        Answer a request that was read.
        """
        if self._isTraced:
            request.traceparent = request.getHeader(b"traceparent")
        request.opened()
        self._checkRoom()
        self._bursts.take(request)

    def _begin(self, request: APIRequest) -> None:
        if request.hasEnded:
            # Its client is gone, or it was cut.
            return
        if request.refusal is not None:
            request.fail(request.refusal)
        elif self.isStopping:
            request.channel.persistent = False
            request.fail(shuttingDown())
        else:
            try:
                if request.account is None:
                    request.account = self.admitted(request)
                (request.answeredBy or self.resource.render)(request)
            except APIError as error:
                request.fail(error)
            except Exception:
                request.processingFailed(Failure())

    # What is open.

    @property
    def openConnections(self) -> int:
        """
        How many connections there are, those that became WebSockets included.
        """
        return len(self._channels)

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
        self._hasRoom()
        self._checkIdle()

    def portsOpened(self, ports: Sequence[IPushProducer]) -> None:
        """
        These are the ports that connections come in on: they are told to wait
        when there is no room.
        """
        self._ports = ports

    def channelOpened(self, channel: SiteChannel) -> None:
        """
        There is one connection more.
        """
        self._channels[channel] = None

    def _idleOne(self) -> SiteChannel | None:
        # The one that was opened first.
        return next((channel for channel in self._channels if channel.isIdle), None)

    def _checkRoom(self) -> None:
        if len(self._channels) >= self.maxConnections and not self._isFull and self._idleOne() is None:
            self._isFull = True
            self._refusals.note(self.maxConnections)
            for port in self._ports:
                port.pauseProducing()

    def _hasRoom(self) -> None:
        # A connection is gone, or about to be idle.
        if self._isFull:
            self._isFull = False
            for port in self._ports:
                port.resumeProducing()

    def channelClosed(self, channel: SiteChannel) -> None:
        """
        There is one connection less.
        """
        self._channels.pop(channel, None)
        self._hasRoom()
        if self._channels:
            self.deadlines.sortOut(len(self._channels))
        else:
            self.deadlines.stop()
        self._checkGone()

    def _checkIdle(self) -> None:
        if not self._open and not self._survivors:
            waiting, self._waiting = self._waiting, []
            for idle in waiting:
                idle.callback(None)

    def buildProtocol(self, addr: IAddress | None) -> HTTPConnection | None:
        """
        A connection for a client that has come, if there is room for it.
        """
        # Several may come in before the ports wait.
        if len(self._channels) >= self.maxConnections:
            idle = self._idleOne()
            if idle is None:
                self._refusals.note(self.maxConnections)
                return None
            idle.abort()
        return HTTPConnection(self)

    def acceptableProtocols(self) -> list[bytes]:
        """
        What is offered in a TLS handshake.
        """
        return [b"http/1.1"]


def _fileLimit() -> int:
    """
    Files and sockets that the system lets this process open.
    """
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return sys.maxsize if soft == resource.RLIM_INFINITY else soft


def _tooLate(request: APIRequest) -> APIError:
    if not request.mayHaveRun:
        return shuttingDown()
    why = "The server is shutting down and could not wait for the end of this answer."
    return APIError("shutting_down", why, mayRetry=False)
