"""
Tests for L{openai_server.clock}.
"""

from __future__ import annotations

import time

from twisted.internet.task import Clock as FakeReactor

from openai_server.clock import Deadline, ReactorClock
from tests.support import SyncCase, TestClock


class DeadlineTests(SyncCase):
    """
    A deadline passes once, at its time and not before.
    """

    def setUp(self) -> None:
        super().setUp()
        self.clock = TestClock()
        self.passed: list[float] = []
        self.deadline = Deadline(self.clock, 10, lambda: self.passed.append(self.clock.monotonic()))

    def test_passesAtItsTime(self) -> None:
        """
        Not a moment before the seconds are over, and once.
        """
        self.clock.advance(9.9)
        self.assertEqual(self.passed, [])
        self.clock.advance(0.1)
        self.clock.advance(100)
        self.assertEqual(self.passed, [10.0])
        self.assertFalse(self.deadline.isActive)

    def test_extendedIsPutOffWithoutANewTimer(self) -> None:
        """
        Putting off leaves the one timer alone, which waits on when it fires.
        """
        self.clock.advance(5)
        self.deadline.extend(10)
        self.assertEqual(len(self.clock.getDelayedCalls()), 1)
        self.clock.advance(9.9)
        self.assertEqual(self.passed, [])
        self.clock.advance(0.1)
        self.assertEqual(self.passed, [15.0])

    def test_extendedToAnEarlierTimePassesEarlier(self) -> None:
        """
        A shorter wait than the first moves the timer.
        """
        self.deadline.extend(1)
        self.clock.advance(1)
        self.assertEqual(self.passed, [1.0])

    def test_cancelledNeverPasses(self) -> None:
        """
        No timer is left behind, and a second cancel is harmless.
        """
        self.deadline.cancel()
        self.deadline.cancel()
        self.assertEqual(self.clock.getDelayedCalls(), [])
        self.clock.advance(100)
        self.assertEqual(self.passed, [])

    def test_steppedWallClockPassesNothingEarly(self) -> None:
        """
        When the reactor's clock jumps two hours ahead, the deadline looks at
        the monotonic time and waits on.
        """
        self.clock.step(7200)
        self.assertEqual(self.passed, [])
        self.clock.advance(10)
        self.assertEqual(self.passed, [10.0])


class ReactorClockTests(SyncCase):
    """
    The clock of the program.
    """

    def test_callsComeFromTheReactorAndTimeFromTheSystem(self) -> None:
        """
        Timers are the reactor's; the time is the system's monotonic one.
        """
        reactor = FakeReactor()
        clock = ReactorClock(reactor)
        fired: list[str] = []
        clock.callLater(2, fired.append, "now")
        reactor.advance(2)
        self.assertEqual(fired, ["now"])
        before = time.monotonic()
        self.assertGreaterEqual(clock.monotonic(), before)
