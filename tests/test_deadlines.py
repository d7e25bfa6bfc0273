"""
Tests for L{openai_server.deadlines}.
"""

from __future__ import annotations

from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

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

    def test_lookThatFails(self) -> None:
        """
        The others are looked at all the same.
        """
        failing = self.add(5)
        failing.look = lambda now: 1 / 0  # type: ignore[assignment]
        others = [self.add(5), self.add(7)]
        self.assertRaises(ZeroDivisionError, self.clock.advance, 5)
        self.clock.pump([1, 1])
        self.assertEqual([len(each.looks) for each in others], [1, 1])
        self.assertEqual(self.clock.getDelayedCalls(), [])

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

    @settings(deadline=None, max_examples=150)
    @given(
        st.lists(
            st.tuples(
                st.sampled_from(["begin", "putOff", "cancel", "sortOut", "step"]),
                st.integers(0, 2),
                st.integers(1, 20),
                st.integers(0, 8),
            ),
            max_size=40,
        )
    )
    def test_anyUse(self, steps: list[tuple[str, int, int, int]]) -> None:
        """
        However several are begun, put off and cancelled, each passes at its
        latest time, once, and the one timer goes with the last.
        """
        clock = TestClock()
        deadlines = Deadlines(clock)
        alarms = [Alarm(deadlines) for _ in range(3)]
        expected: dict[int, int] = {}
        passed: list[tuple[int, int]] = []
        for what, which, seconds, pause in steps:
            now = round(clock.seconds())
            alarm = alarms[which]
            if what == "begin":
                alarm.begin(seconds, lambda which=which: passed.append((which, round(clock.seconds()))))  # type: ignore[misc]
                expected[which] = now + seconds
            elif what == "putOff" and alarm.isActive:
                alarm.putOff(seconds)
                expected[which] = now + seconds
            elif what == "cancel":
                alarm.cancel()
                expected.pop(which, None)
            elif what == "sortOut":
                deadlines.sortOut(-100)
            elif what == "step":
                # The wall clock, on which the timer runs, jumps ahead.
                clock.step(seconds)
            passed.clear()
            for _ in range(pause):
                clock.advance(1)
            end = now + pause
            due = sorted((time, which) for which, time in expected.items() if time <= end and pause)
            self.assertEqual(sorted((time, which) for which, time in passed), due)
            for _, which in due:
                del expected[which]
            self.assertEqual([alarm.isActive for alarm in alarms], [which in expected for which in range(3)])
        clock.pump([30, 30])
        timers: list[Any] = clock.getDelayedCalls()  # type: ignore[assignment]
        self.assertEqual(timers, [])
