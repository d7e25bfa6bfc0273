# -*- test-case-name: tests.test_service -*-
"""
The top service: what starts and stops in which order.

Start: the ports (with the privileges that the process may still have), then
the rooms are joined from below: the store, the embedded daemon if there is one,
the daemon's registry, the link, the HTTP side.

Stop: new requests are refused, the ports close, open answers may go on until
the drain time is over, the rest is told and cut, idle connections close, and
the link goes, with the cancellations that were written to it; the store is
closed last.
L{twisted.application.service.MultiService} would stop all of them at once.

A port of systemd's is closed first, since whoever still comes is the next
process's, and those who were let in already get their answers.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Final, Protocol

from twisted.application.service import IService, Service
from twisted.internet.defer import Deferred, gatherResults, maybeDeferred
from twisted.internet.error import CannotListenError
from twisted.internet.interfaces import IListeningPort, IProtocolNegotiationFactory, IReactorTime
from twisted.internet.protocol import Protocol as TwistedProtocol
from twisted.internet.protocol import ServerFactory
from twisted.logger import Logger
from twisted.python.failure import Failure
from zope.interface import implementer

from openai_server.clock import Deadline
from openai_server.greeting import Bound
from openai_server.ports import isPassed, listen

#: Seconds for a step of the shutdown that nobody set a time for.
STEP_TIMEOUT: Final = 1.0

#: Seconds in which a client that was let in sends its request.
HANDOVER_TIMEOUT: Final = 1.0

#: For any other step, once the operator has asked a second time.
HURRIED_TIMEOUT: Final = 0.2


class StartError(Exception):
    """
    The server cannot start. The text is one line that says why.
    """


class Front(Protocol):
    """
    The HTTP side: a protocol factory that can be stopped in good order.
    """

    def buildProtocol(self, addr: Any, /) -> Any:
        """
        A connection was made.
        """

    def portsOpened(self, ports: Sequence[Any]) -> None:
        """
        These ports may be told to wait, when there are too many connections.
        """

    def handOver(self) -> Deferred[None]:
        """
        Answer one more request on each connection, and then close it.

        @return: fires once no connection is left.
        """

    def stopAccepting(self) -> None:
        """
        Answer further requests with 503.
        """

    def whenIdle(self) -> Deferred[None]:
        """
        Fires once no answer is open, at once when none is.
        """

    def cut(self) -> None:
        """
        End every open answer with C{shutting_down}, and cancel its turn.
        """

    def closeIdle(self) -> Deferred[None] | None:
        """
        Close the connections on which no answer is open.

        @return: fires when that is done, if it takes its time.
        """


class Compose(Protocol):
    """
    Joins the rooms. An exception of its ends the start.
    """

    def __call__(self, bound: Sequence[Bound], start: Callable[[IService], None]) -> Front:
        """
        @param bound: the addresses that were bound.
        @param start: starts a service now, and stops it after the front and
            before those that were started earlier.
        """


class TurnedAway(TwistedProtocol):
    """
    A connection for which there is no room.
    """

    def connectionMade(self) -> None:
        """
        Cut it.
        """
        transport: Any = self.transport
        transport.abortConnection()


@implementer(IProtocolNegotiationFactory)
class Door(ServerFactory):
    """
    Stands at the ports until the rooms behind it are joined.

    The ports open with the privileges that the process may have to give up
    before it reads its key; nobody comes in between, since the reactor does
    not run.
    """

    noisy = False
    inner: Front | None = None

    def buildProtocol(self, addr: Any) -> Any:
        """
        Return what the front builds, or a connection that is cut at once.
        """
        built = None if self.inner is None else self.inner.buildProtocol(addr)
        # What wraps this for TLS does not know that there may be none.
        return TurnedAway() if built is None else built

    def acceptableProtocols(self) -> list[bytes]:
        """
        What a client may choose in a TLS handshake. Without this interface
        the handshake of a client that offers anything fails.
        """
        return [b"http/1.1"]


class OpenAIService(Service):
    """
    Owns the ports, and everything that starts and stops with them.
    """

    _log = Logger()

    #: Seconds for what was cut to end.
    cutTimeout: float = STEP_TIMEOUT

    #: Seconds for a step of the shutdown, once the operator has asked a second time.
    hurriedTimeout: float = HURRIED_TIMEOUT

    def __init__(
        self,
        reactor: Any,
        clock: IReactorTime,
        descriptions: Sequence[str],
        drainTimeout: float,
        compose: Compose,
        beside: Sequence[IService] = (),
    ) -> None:
        """
        @param descriptions: endpoint strings to listen on.
        @param drainTimeout: seconds that open answers may go on at a shutdown.
        @param compose: joins the rooms, once the ports are open.
        @param beside: further ports, which open with those; compose starts
            them.
        """
        self._beside = beside
        self._reactor = reactor
        self._clock = clock
        self._descriptions = descriptions
        self._drainTimeout = drainTimeout
        self._compose = compose
        self._door = Door()
        self._ports: list[IListeningPort] = []
        self._below: list[IService] = []
        self._isHurried = False
        self._hurry: Callable[[], None] | None = None

    @property
    def front(self) -> Front | None:
        """
        The HTTP side, as long as it is served.
        """
        return self._door.inner

    def privilegedStartService(self) -> None:
        """
        Open the ports.

        @raise StartError: one of them cannot be opened; then none is.
        """
        super().privilegedStartService()
        try:
            for description in self._descriptions:
                self._ports.append(openPort(self._reactor, description, self._door))
            for service in self._beside:
                service.privilegedStartService()
        except StartError:
            self._closeAll()
            raise

    def startService(self) -> None:
        """
        Join the rooms and start them, bottom first.

        @raise StartError: the system refuses a file or a socket of theirs.
        """
        super().startService()
        if not self._ports:
            self.privilegedStartService()
        self._isHurried = False
        try:
            addresses = [port.getHost() for port in self._ports]
            bound = [Bound(*pair) for pair in zip(self._descriptions, addresses, strict=True)]
            front = self._compose(bound, self._begin)
            front.portsOpened(self._ports)
            self._door.inner = front
        except (OSError, CannotListenError) as error:
            self._abandon()
            raise StartError(f"cannot start: {error}") from None
        except Exception:
            self._abandon()
            raise

    def _begin(self, service: IService) -> None:
        self._below.append(service)
        service.startService()

    def _abandon(self) -> None:
        """
        The start has failed: nobody will call stopService, or wait for it.
        """
        self._closeAll()
        while self._below:
            maybeDeferred(self._below.pop().stopService).addErrback(lambda _: None)

    def stopService(self) -> Deferred[None]:
        """
        Stop in good order.

        @return: fires when everything is down; never fails.
        """
        super().stopService()
        return Deferred.fromCoroutine(self._stop())

    def endNow(self) -> None:
        """
        Wait no longer for open answers: cut them, and be quick about the rest.
        """
        self._isHurried = True
        if self._hurry is not None:
            self._hurry()

    async def _stop(self) -> None:
        front, self._door.inner = self._door.inner, None
        if front is None:
            await self._within(STEP_TIMEOUT, self._closeAll)
        else:
            await self._stopFront(front)
        while self._below:
            await self._within(STEP_TIMEOUT * 2, self._below.pop().stopService)

    async def _stopFront(self, front: Front) -> None:
        if any(map(isPassed, self._descriptions)):
            await self._within(STEP_TIMEOUT, self._closePorts)
            await self._within(HANDOVER_TIMEOUT, front.handOver, mayHurry=True)
        await self._within(STEP_TIMEOUT, front.stopAccepting)
        await self._within(STEP_TIMEOUT, self._closePorts)
        if not await self._within(self._drainTimeout, front.whenIdle, mayHurry=True):
            await self._within(STEP_TIMEOUT, front.cut)
            await self._within(self.cutTimeout, front.whenIdle)
        await self._within(STEP_TIMEOUT, front.closeIdle)

    def _within(self, seconds: float, step: Callable[[], object], mayHurry: bool = False) -> Deferred[bool]:
        """
        Take a step of the shutdown, and do not wait for ever.

        @param mayHurry: the step only waits, so a second signal ends it.
        @return: fires with whether the step was done; a failure is logged and
            counts as done.
        """
        finished: Deferred[bool] = Deferred()

        def finish(isDone: bool) -> None:
            if not finished.called:
                deadline.cancel()
                self._hurry = None
                finished.callback(isDone)

        if self._isHurried:
            seconds = 0 if mayHurry else self.hurriedTimeout
        deadline = Deadline(self._clock, seconds, lambda: finish(False))
        if mayHurry:
            self._hurry = lambda: finish(False)
        taken = maybeDeferred(step)
        taken.addErrback(lambda failure: self._log.failure("a step of the shutdown failed", failure))
        taken.addCallback(lambda _: finish(True))
        return finished

    def _closeAll(self) -> None:
        self._closePorts()
        for service in self._beside:
            maybeDeferred(service.stopService).addErrback(lambda _: None)

    def _closePorts(self) -> Deferred[Any]:
        ports, self._ports = self._ports, []
        return gatherResults([maybeDeferred(port.stopListening) for port in ports])


def openPort(reactor: Any, description: str, factory: ServerFactory) -> IListeningPort:
    """
    Open a port now.

    @param description: its endpoint string.
    @raise StartError: it cannot be opened.
    """
    found: list[object] = []
    listening = maybeDeferred(listen, reactor, description, factory)
    listening.addBoth(found.append)
    if not found:
        listening.cancel()
        raise StartError(
            f"cannot listen on {description}: it takes its time, and ports open at once or never"
        )
    if isinstance(found[0], Failure):
        raise StartError(f"cannot listen on {description}: {_reason(found[0])}") from None
    port: IListeningPort = found[0]  # type: ignore[assignment]
    return port


def _reason(failure: Failure) -> str:
    """
    Why a port cannot be opened, without the address, which is known.
    """
    error = failure.value
    cause = error.socketError if isinstance(error, CannotListenError) else error
    return str(getattr(cause, "strerror", None) or cause)
