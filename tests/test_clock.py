"""
Tests for L{openai_server.clock}.
"""

from __future__ import annotations

import time

from twisted.internet.task import Clock as FakeReactor

from openai_server.clock import Deadline, MonotonicClock, Portions, Timeout, Timeouts
from tests.support import SyncCase, TestClock


class PortionTests(SyncCase):
    """
    Long work lets others have their turn.
    """

    def test_rests(self) -> None:
        """
        Behind each portion, until the reactor comes round; it is told before.
        """
        clock = TestClock()
        rests: list[float] = []
        portions = Portions(clock, 2, lambda: rests.append(clock.seconds()))
        for _ in range(2):
            self.assertIsNone(portions.rest())
            rest = portions.rest()
            assert rest is not None
            self.assertNoResult(rest)
            clock.advance(0)
            self.successResultOf(rest)
        self.assertEqual(len(rests), 2)


class DeadlineTests(SyncCase):
    """
    A deadline passes once, at its time and not before.
    """

    def setUp(self) -> None:
        super().setUp()
        self.clock = TestClock()
        self.passed: list[float] = []
        self.deadline = Deadline(self.clock, 10, lambda: self.passed.append(self.clock.seconds()))

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


class TimeoutsTests(SyncCase):
    """
    Waits of one length share a timer and pass in order.
    """

    def setUp(self) -> None:
        super().setUp()
        self.clock = TestClock()
        self.timeouts = Timeouts(self.clock, 10)
        self.passed: list[tuple[str, float]] = []

    def begin(self, name: str) -> Timeout:
        """
        A wait that notes when it is over.
        """
        return self.timeouts.begin(lambda: self.passed.append((name, self.clock.seconds())))

    def test_eachPassesAtItsOwnTimeOnOneTimer(self) -> None:
        """
        Three waits, one timer at any time, and none is early or late.
        """
        for name in "abc":
            self.begin(name)
            self.clock.advance(1)
            self.assertEqual(len(self.clock.getDelayedCalls()), 1)
        self.clock.advance(7)
        self.clock.pump([1, 1, 1])
        self.assertEqual(self.passed, [("a", 10.0), ("b", 11.0), ("c", 12.0)])
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_cancelledIsForgottenAtOnce(self) -> None:
        """
        A cancelled wait takes no room and never passes, wherever it stands.
        """
        first, second, third = map(self.begin, "abc")
        second.cancel()
        first.cancel()
        first.cancel()
        self.assertEqual(len(self.timeouts), 1)
        self.clock.advance(10)
        self.assertEqual(self.passed, [("c", 10.0)])
        third.cancel()

    def test_cancelledByAnotherThatPassesAtTheSameMoment(self) -> None:
        """
        What passes first may cancel the next.
        """
        others: list[Timeout] = []
        self.timeouts.begin(lambda: others.pop().cancel())
        others.append(self.begin("other"))
        self.clock.advance(10)
        self.assertEqual(self.passed, [])

    def test_begunInAPassingWaitWaitsInFull(self) -> None:
        """
        A wait that begins another one does not end it.
        """
        self.timeouts.begin(lambda: again.append(self.begin("again")))
        again: list[Timeout] = []
        self.clock.advance(10)
        self.clock.advance(9.9)
        self.assertEqual(self.passed, [])
        self.clock.advance(0.1)
        self.assertEqual([name for name, _ in self.passed], ["again"])

    def test_steppedWallClockPassesNothingEarly(self) -> None:
        """
        When the reactor's calls come early, the waits go on.
        """
        self.begin("a")
        self.clock.step(7200)
        self.assertEqual(self.passed, [])
        self.clock.advance(10)
        self.assertEqual(self.passed, [("a", 10.0)])

    def test_stopForgetsAll(self) -> None:
        """
        No timer is left.
        """
        self.begin("a")
        self.timeouts.stop()
        self.timeouts.stop()
        self.assertEqual((self.clock.getDelayedCalls(), len(self.timeouts)), ([], 0))


class MonotonicClockTests(SyncCase):
    """
    The clock of the program.
    """

    def test_callsComeFromTheReactorAndTimeFromTheSystem(self) -> None:
        """
        Timers are the reactor's; the time is the system's monotonic one.
        """
        reactor = FakeReactor()
        clock = MonotonicClock(reactor)
        fired: list[str] = []
        clock.callLater(2, fired.append, "now")
        reactor.advance(2)
        self.assertEqual(fired, ["now"])
        before = time.monotonic()
        self.assertGreaterEqual(clock.seconds(), before)
