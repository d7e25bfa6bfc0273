"""
Tests for L{openai_server.daemon.deadlines}.
"""

from __future__ import annotations

from openai_server.daemon.deadlines import Deadlines
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
