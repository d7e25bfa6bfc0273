# -*- test-case-name: tests.daemon.test_link -*-
"""
Trying to connect, again and again: how often, and what is said of it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, cast

from twisted.application.internet import ClientService
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IProtocol, IProtocolFactory, IStreamClientEndpoint
from twisted.logger import ILogObserver, Logger
from twisted.python.failure import Failure
from zope.interface import implementer

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


class Connector(ClientService):
    """
    A client service that says nothing at each of its attempts: the link logs
    each change once.
    """

    _log = Logger(observer=cast("ILogObserver", lambda event: None))


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
