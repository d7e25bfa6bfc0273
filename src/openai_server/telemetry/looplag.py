# -*- test-case-name: tests.telemetry.test_looplag -*-
"""
How late the event loop is: whatever keeps it busy, everybody waits for.
"""

from __future__ import annotations

from typing import Final

from twisted.application.service import Service
from twisted.internet.interfaces import IDelayedCall, IReactorTime

from openai_server.metrics import Counters

#: Seconds between two looks.
INTERVAL: Final = 0.5


class LoopLag(Service):
    """
    Looks at the time now and then, and counts by how much it is later than
    the look was to come.
    """

    def __init__(self, clock: IReactorTime, counters: Counters) -> None:
        self._clock = clock
        self._counters = counters
        self._due = 0.0
        self._look: IDelayedCall | None = None

    def startService(self) -> None:
        """
        Begin to look.
        """
        super().startService()
        self._wait()

    def stopService(self) -> None:
        """
        Look no more.
        """
        super().stopService()
        look, self._look = self._look, None
        if look is not None:
            look.cancel()

    def _wait(self) -> None:
        self._due = self._clock.seconds() + INTERVAL
        self._look = self._clock.callLater(INTERVAL, self._late)

    def _late(self) -> None:
        self._counters.timed("loop_lag", max(0.0, self._clock.seconds() - self._due))
        self._wait()
