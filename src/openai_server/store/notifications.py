# -*- test-case-name: tests.store.test_notifications -*-
"""
What PostgreSQL notifies of, on a connection of its own: the reactor watches
its socket, so that nothing is asked again and again and no thread waits.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any, Final

from sqlalchemy import Connection, func, select
from twisted.internet.defer import Deferred, succeed
from twisted.internet.interfaces import IDelayedCall, IReactorTime, IReadDescriptor
from twisted.logger import Logger
from twisted.python.failure import Failure
from zope.interface import implementer

from openai_server.store.operations import Operation
from openai_server.store.saved import KINDS
from openai_server.store.threads import Workers
from openai_server.store.topics import Topics
from openai_server.store.troubles import Trouble

#: Seconds until a connection is made again, at first and at most.
FIRST_RETRY: Final = 0.25
LAST_RETRY: Final = 8.0


class Notify(Operation):
    """
    Sends a message to the other processes, when what is written with it is
    there for them.
    """

    __slots__ = ("_channel", "_message")
    # Nothing of its transaction depends on it.
    order = len(KINDS) + 2

    def __init__(self, channel: Callable[[], str], message: str) -> None:
        """
        @param channel: tells the channel's name, once the database is open.
        """
        super().__init__("message", len(message))
        self._channel = channel
        self._message = message

    def run(self, connection: Connection) -> None:
        """
        Send it with the commit.
        """
        connection.execute(select(func.pg_notify(self._channel(), self._message)))


@implementer(IReadDescriptor)
class Notifications:
    """
    Gives what PostgreSQL notifies of to the listeners. While there is no
    connection they miss it: they are told to look once there is one again.
    """

    _log = Logger()

    def __init__(
        self,
        reactor: Any,
        clock: IReactorTime,
        workers: Workers,
        connect: Callable[[], Any],
        topics: Topics,
    ) -> None:
        """
        @param connect: makes a connection of psycopg's that listens; it may
            take its time.
        """
        self._reactor = reactor
        self._clock = clock
        self._workers = workers
        self._connect = connect
        self._topics = topics
        self._connection: Any = None
        self._socket = -1
        self._retry: IDelayedCall | None = None
        self._retryIn = FIRST_RETRY
        self._isStopped = False
        self._isDeaf = False
        self._connecting: Deferred[None] = succeed(None)

    def start(self) -> None:
        """
        Begin to listen.
        """
        self._retry = None
        connecting = self._workers.read(self._connect)
        self._connecting = connecting.addCallbacks(self._connected, self._failed)

    def stop(self) -> Deferred[None]:
        """
        Listen no more.

        @return: fires when no thread makes a connection any more.
        """
        self._isStopped = True
        if self._retry is not None:
            self._retry.cancel()
            self._retry = None
        self._close()
        return self._connecting

    def _connected(self, connection: Any) -> None:
        if self._isStopped:
            connection.close()
            return
        self._connection = connection
        # libpq closes its own when it is lost, and then no reactor can let go of it.
        self._socket = os.dup(connection.fileno())
        self._reactor.addReader(self)
        self._retryIn = FIRST_RETRY
        if self._isDeaf:
            self._isDeaf = False
            self._log.info("what other processes write is heard of again")
        self._topics.tellAll()

    def _failed(self, failure: Failure) -> None:
        trouble = failure.value
        if not isinstance(trouble, Trouble):
            self._log.failure("the store met a mistake of ours", failure)
        self._connectAgain(str(trouble))

    def _connectAgain(self, said: str) -> None:
        if self._isStopped:
            return
        if not self._isDeaf:
            self._isDeaf = True
            self._log.warn("what other processes write is not heard of for now: {said}", said=said)
        self._retry = self._clock.callLater(self._retryIn, self.start)
        self._retryIn = min(2 * self._retryIn, LAST_RETRY)

    def _close(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            self._reactor.removeReader(self)
            os.close(self._socket)
            self._socket = -1
            connection.close()

    # What the reactor calls.

    def fileno(self) -> int:
        """
        Return the socket's number; -1 when there is none.
        """
        return self._socket

    def logPrefix(self) -> str:
        """
        Return what Twisted's log calls it.
        """
        return "notifications"

    def doRead(self) -> None:
        """
        Read what came, without waiting.
        """
        link = self._connection.pgconn
        try:
            link.consume_input()
        except self._connection.OperationalError as error:
            self._lost(str(error))
            return
        while (notified := link.notifies()) is not None:
            self._topics.receive(notified.extra.decode())
            if self._connection is None:
                # A listener has stopped the store.
                return

    def connectionLost(self, reason: Failure) -> None:
        """
        Connect again: the reactor cannot watch the socket.
        """
        if self._connection is not None:
            self._lost(reason.getErrorMessage())

    def _lost(self, said: str) -> None:
        self._close()
        lines = said.strip().splitlines()
        self._connectAgain(lines[0] if lines else "the connection was lost")
