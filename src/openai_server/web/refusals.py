# -*- test-case-name: tests.web.test_refusals -*-
"""
What is said when there are too many connections.
"""

from __future__ import annotations

from typing import Final

from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger

#: Seconds between two lines of the log.
INTERVAL: Final = 60.0


class Refusals:
    """
    Counts how often others have to wait or are refused, and says so once a
    minute.
    """

    _log = Logger()

    def __init__(self, clock: IReactorTime) -> None:
        self._clock = clock
        self._count = 0
        self._next = 0.0

    def note(self, limit: int) -> None:
        """
        It happened once more.

        @param limit: how many are open.
        """
        self._count += 1
        now = self._clock.seconds()
        if now >= self._next:
            self._log.warn(
                "{limit} connections are open (maxConnections, or the file limit) and none is idle:"
                " others wait or are refused, for the {count}. time since this was last said",
                count=self._count,
                limit=limit,
            )
            self._count, self._next = 0, now + INTERVAL
