"""
Tests for L{openai_server.telemetry.looplag}.
"""

from __future__ import annotations

from openai_server.metrics import Counters
from openai_server.telemetry.looplag import INTERVAL, LoopLag
from tests.support import SyncCase, TestClock


class LoopLagTests(SyncCase):
    """
    How late the loop was.
    """

    def test_lateness(self) -> None:
        """
        A loop that was busy for 2 s is late by what is left of them, once; a
        clock that steps back is late by nothing.
        """
        clock, counters = TestClock(), Counters()
        lag = LoopLag(clock, counters)
        lag.startService()
        clock.advance(INTERVAL)
        clock.advance(2)
        clock.step(INTERVAL)
        found = counters.durations["loop_lag"]
        self.assertEqual((sum(found.counts), found.total), (3, 2 - INTERVAL))
        lag.stopService()
        self.assertEqual(clock.getDelayedCalls(), [])
        lag.stopService()
