# -*- test-case-name: tests.daemon.test_backlog -*-
"""
What was written and is not sent yet.
"""

from __future__ import annotations

import socket
from typing import Final

from openai_server.outlet import Outlet, Transport

#: Bytes that may wait for a daemon that does not read, before prompts are refused.
OUTBOUND_LIMIT: Final = 8 * 1024 * 1024


class Backlog(Outlet):
    """
    The way to the daemon, and how much waits on it.

    @ivar size: bytes that wait, as far as that is known.
    @ivar isOver: whether more is waiting than a prompt should be added to.
    """

    __slots__ = ("isOver", "size")

    def __init__(self, transport: Transport, handle: socket.socket | None) -> None:
        self.size = 0
        self.isOver = False
        super().__init__(transport, handle)

    def send(self, data: bytes) -> None:
        """
        Send these bytes behind all earlier ones.
        """
        wasPaused = self.isPaused
        given = self.put(data)
        # While a transport without a socket is silent, it has taken all but its
        # own small buffer.
        self.size = self.size + given if wasPaused else given
        self.isOver = self.isPaused and self.size > OUTBOUND_LIMIT

    def pauseProducing(self) -> None:
        """
        Note that the transport's buffer is full.
        """
        self.isPaused = True
        self.isOver = self.size > OUTBOUND_LIMIT

    def resumeProducing(self) -> None:
        """
        Note that the transport's buffer is empty.
        """
        self.isPaused = False
        self.isOver = False
        self.size = 0
