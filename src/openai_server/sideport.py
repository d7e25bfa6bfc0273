# -*- test-case-name: tests.test_sideport -*-
"""
A port beside those of the API, which opens with them and closes after them.
"""

from __future__ import annotations

from typing import Any

from twisted.application.service import Service
from twisted.internet.defer import Deferred, maybeDeferred
from twisted.internet.interfaces import IListeningPort

from openai_server.greeting import Bound
from openai_server.service import Door, Front, openPort


class SidePort(Service):
    """
    One port, at whose door connections are cut until it is L{served<serve>}.

    @ivar description: the endpoint string.
    """

    def __init__(self, reactor: Any, description: str) -> None:
        self.description = description
        self._reactor = reactor
        self._door = Door()
        self._port: IListeningPort | None = None

    def privilegedStartService(self) -> None:
        """
        Open the port.

        @raise openai_server.service.StartError: it cannot be opened.
        """
        super().privilegedStartService()
        if self._port is None:
            self._port = openPort(self._reactor, self.description, self._door)

    def serve(self, front: Front) -> Bound:
        """
        Let this answer those who come.

        @return: where they come to.
        """
        assert self._port is not None
        front.portsOpened([self._port])
        self._door.inner = front
        return Bound(self.description, self._port.getHost())

    def stopService(self) -> Deferred[Any]:
        """
        Close the port and the connections.
        """
        super().stopService()
        front, self._door.inner = self._door.inner, None
        if front is not None:
            front.cut()
            front.closeIdle()
        port, self._port = self._port, None
        return maybeDeferred(lambda: None if port is None else port.stopListening())
