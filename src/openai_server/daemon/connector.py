# -*- test-case-name: tests.daemon.test_link -*-
"""
Trying to connect, again and again: how often, who waits for it, and what is
said of it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from twisted.application.internet import ClientService
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import (
    IDelayedCall,
    IProtocol,
    IProtocolFactory,
    IReactorTime,
    IStreamClientEndpoint,
)
from twisted.python.failure import Failure
from zope.interface import implementer

from openai_server.clock import MonotonicClock, Timeouts
from openai_server.daemon.endpoint import SpareDescriptor

_FIRST_DELAY: Final = 0.05
_LONGEST_DELAY: Final = 1.0


class Backoff:
    """
    How long to wait before the next attempt: from 50 ms, doubling up to 1 s,
    up to a half less by chance.

    It counts what failed since the daemon last breathed, and not since the
    last connection, as the client service does: a connection that is closed
    before the breath is a failure too.
    """

    def __init__(self, jitter: Callable[[], float]) -> None:
        self._jitter = jitter
        self._failures = 0

    def delay(self, attempt: int) -> float:
        """
        Seconds to wait now, after another failure.

        @param attempt: the client service's own count, which is not used.
        """
        longest = min(_LONGEST_DELAY, _FIRST_DELAY * 2.0 ** min(self._failures, 10))
        self._failures += 1
        return max(_FIRST_DELAY, longest * (0.5 + self._jitter() / 2))

    def reset(self) -> None:
        """
        The daemon has breathed.
        """
        self._failures = 0


class RetryClock(MonotonicClock):
    """
    The clock of a client service, whose one call is its next attempt.
    """

    def __init__(self, clock: IReactorTime) -> None:
        super().__init__(clock)
        self._retry: IDelayedCall | None = None
        self._attempt: Callable[[], object] = lambda: None

    def callLater(self, delay: float, callable: Callable[..., Any], *args: Any, **kw: Any) -> IDelayedCall:
        """
        Call in this many seconds, or when the call is hastened.
        """
        self._attempt = lambda: callable(*args, **kw)
        self._retry = super().callLater(delay, callable, *args, **kw)
        return self._retry

    def hasten(self) -> None:
        """
        Call now what is to be called later.
        """
        if self._retry is not None and self._retry.active():
            self._retry.cancel()
            self._attempt()


class Connector:
    """
    A client service whose next attempt can be hastened. Of each attempt it
    logs a line in Twisted's name, which our log leaves out.
    """

    def __init__(
        self,
        endpoint: IStreamClientEndpoint,
        factory: IProtocolFactory,
        retryPolicy: Callable[[int], float],
        clock: IReactorTime,
    ) -> None:
        self._retries = RetryClock(clock)
        self._service = ClientService(endpoint, factory, retryPolicy=retryPolicy, clock=self._retries)

    def start(self) -> None:
        """
        Connect, and go on trying.
        """
        self._service.startService()

    def stop(self) -> Deferred[None]:
        """
        Close the connection, and try no more.

        @return: fires when it is closed.
        """
        stopped: Deferred[None] = self._service.stopService()
        return stopped

    def hasten(self) -> None:
        """
        Make the next attempt now, unless one is under way or has succeeded.
        """
        self._retries.hasten()


class AttemptWaiters:
    """
    Who waits for the end of an attempt to connect, within a bound.
    """

    def __init__(self, clock: IReactorTime, longest: float) -> None:
        """
        @param longest: seconds that one waits.
        """
        self._timeouts = Timeouts(clock, longest)
        self._waiting: dict[Deferred[None], None] = {}

    def join(self) -> Deferred[None]:
        """
        Wait too.

        @return: fires at the end of the attempt, or of the time.
        """
        waiting: Deferred[None] = Deferred(self._leave)
        self._waiting[waiting] = None
        self._timeouts.begin(lambda: self._tell(waiting))
        return waiting

    def attemptEnded(self) -> None:
        """
        Tell all who wait, however it ended.
        """
        self._timeouts.stop()
        for waiting in list(self._waiting):
            self._tell(waiting)

    def _tell(self, waiting: Deferred[None]) -> None:
        if waiting in self._waiting:
            self._leave(waiting)
            waiting.callback(None)

    def _leave(self, waiting: Deferred[None]) -> None:
        self._waiting.pop(waiting, None)
        if not self._waiting:
            self._timeouts.stop()


@implementer(IStreamClientEndpoint)
class NotingEndpoint:
    """
    An endpoint whose failures are told, and for which a descriptor is spared.
    """

    def __init__(
        self,
        endpoint: IStreamClientEndpoint,
        spare: SpareDescriptor,
        failed: Callable[[Failure], None],
    ) -> None:
        self._endpoint = endpoint
        self._spare = spare
        self._failed = failed

    def connect(self, protocolFactory: IProtocolFactory) -> Deferred[IProtocol]:
        """
        Fires with the protocol, or fails as the endpoint does.
        """
        self._spare.release()
        return self._endpoint.connect(protocolFactory).addErrback(self._note)

    def _note(self, failure: Failure) -> Failure:
        self._spare.hold()
        self._failed(failure)
        return failure
