"""
Tests for L{openai_server.deadlines}.
"""

from __future__ import annotations

from openai_server.deadlines import Alarm, Deadlines
from tests.support import SyncCase, TestClock


class Looked:
    """
    Remembers when it was looked at.
    """

    def __init__(self) -> None:
        self.isOver = False
        self.lookAt = 0.0
        self.looks: list[float] = []

    def look(self, now: float) -> None:
        self.looks.append(round(now, 2))


class DeadlinesTests(SyncCase):
    """
    One timer for all.
    """

    def setUp(self) -> None:
        super().setUp()
        self.clock = TestClock()
        self.deadlines = Deadlines(self.clock)

    def add(self, due: float, looked: Looked | None = None) -> Looked:
        """
        Look at something then.
        """
        looked = looked or Looked()
        looked.lookAt = due
        self.deadlines.add(due, looked)
        return looked

    def test_inTheOrderOfTheirTimes(self) -> None:
        """
        Whatever the order in which they were added, and with one timer.
        """
        late, early, middle = self.add(30), self.add(10), self.add(20)
        self.assertEqual(len(self.clock.getDelayedCalls()), 1)
        self.clock.pump([10, 10, 10])
        self.assertEqual((early.looks, middle.looks, late.looks), ([10.0], [20.0], [30.0]))
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_voidEntries(self) -> None:
        """
        What is over, and what has an earlier look, is not looked at.
        """
        over, moved = self.add(10), self.add(10)
        over.isOver = True
        self.add(5, moved)
        self.clock.pump([5, 5, 5])
        self.assertEqual((over.looks, moved.looks), ([], [5.0]))

    def test_callThatComesEarly(self) -> None:
        """
        When the wall clock jumps, nothing is due sooner.
        """
        looked = self.add(10)
        self.clock.step(7200)
        self.assertEqual(looked.looks, [])
        self.clock.advance(10)
        self.assertEqual(looked.looks, [10.0])

    def test_sortedOut(self) -> None:
        """
        Many entries of what is over go; the others stay.
        """
        stays = self.add(50)
        for _ in range(300):
            self.add(20).isOver = True
        self.deadlines.sortOut(1)
        self.assertEqual(len(self.deadlines), 1)
        self.clock.pump([10] * 5)
        self.assertEqual(stays.looks, [50.0])

    def test_stopped(self) -> None:
        """
        No timer stays, and it can be used again.
        """
        self.deadlines.stop()
        self.add(10)
        self.deadlines.stop()
        self.assertEqual(self.clock.getDelayedCalls(), [])
        looked = self.add(10)
        self.clock.advance(10)
        self.assertEqual(looked.looks, [10.0])


class AlarmTests(SyncCase):
    """
    One wait at a time.
    """

    def setUp(self) -> None:
        super().setUp()
        self.clock = TestClock()
        self.passed: list[str] = []
        self.deadlines = Deadlines(self.clock)
        self.alarm = Alarm(self.deadlines)

    def begin(self, seconds: float, name: str) -> None:
        """
        Begin a wait, whose passing is noted.
        """
        self.alarm.begin(seconds, lambda: self.passed.append(name))

    def test_passes(self) -> None:
        """
        Once, when its time has come.
        """
        self.begin(5, "a")
        self.clock.advance(4.9)
        self.assertEqual((self.passed, self.alarm.isActive), ([], True))
        self.clock.advance(0.1)
        self.clock.advance(50)
        self.assertEqual((self.passed, self.alarm.isActive), (["a"], False))

    def test_anew(self) -> None:
        """
        The latest wait alone counts, be it shorter or longer.
        """
        self.begin(5, "a")
        self.begin(2, "b")
        self.clock.advance(2)
        self.begin(10, "c")
        self.clock.advance(3)
        self.begin(20, "d")
        self.clock.advance(19.9)
        self.assertEqual(self.passed, ["b"])
        self.clock.advance(0.1)
        self.assertEqual(self.passed, ["b", "d"])

    def test_putOff(self) -> None:
        """
        Putting off costs no entry.
        """
        self.begin(5, "a")
        for _ in range(10):
            self.clock.advance(1)
            self.alarm.putOff(5)
            self.assertEqual(len(self.deadlines), 1)
        self.clock.advance(4.9)
        self.assertEqual(self.passed, [])
        self.clock.advance(0.1)
        self.assertEqual(self.passed, ["a"])

    def test_cancelled(self) -> None:
        """
        Nothing passes, and the next wait is as long as it says.
        """
        self.begin(5, "a")
        self.alarm.cancel()
        self.clock.advance(1)
        self.begin(5, "b")
        self.clock.advance(4.9)
        self.assertEqual(self.passed, [])
        self.clock.advance(0.1)
        self.assertEqual(self.passed, ["b"])
