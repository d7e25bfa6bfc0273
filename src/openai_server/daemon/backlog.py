# -*- test-case-name: tests.daemon.test_protocol -*-
"""
What was written and is not sent yet.
"""

from __future__ import annotations

from typing import Final, Protocol

from twisted.internet.interfaces import IPushProducer
from zope.interface import implementer

#: Bytes that may wait for a daemon that does not read, before prompts are refused.
OUTBOUND_LIMIT: Final = 8 * 1024 * 1024


class Transport(Protocol):
    """
    What is used of a transport of Twisted's.
    """

    def write(self, data: bytes) -> None: ...

    def registerProducer(self, producer: IPushProducer, streaming: bool) -> None: ...

    def unregisterProducer(self) -> None: ...

    def loseConnection(self) -> None: ...

    def abortConnection(self) -> None: ...


@implementer(IPushProducer)
class Backlog:
    """
    How much the transport has not taken yet. It is told when the transport's
    buffer fills and when it is empty again, and counts what is written between.
    """

    def __init__(self) -> None:
        self.size = 0
        self._filling = False

    def note(self, size: int) -> None:
        """
        So many bytes are about to be written.
        """
        # The transport speaks up during the write or after it: while it is
        # silent all was taken but its own small buffer.
        self.size = self.size + size if self._filling else size

    def pauseProducing(self) -> None:
        """
        The transport's buffer is full.
        """
        self._filling = True

    def resumeProducing(self) -> None:
        """
        The transport's buffer is empty.
        """
        self._filling = False
        self.size = 0

    def stopProducing(self) -> None:
        """
        The connection is gone.
        """

    @property
    def isOver(self) -> bool:
        """
        More is waiting than a prompt should be added to.
        """
        return self._filling and self.size > OUTBOUND_LIMIT
