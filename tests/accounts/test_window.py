"""
Tests for L{openai_server.accounts.window}.
"""

from __future__ import annotations

from math import inf

from hypothesis import given
from hypothesis import strategies as st

from openai_server.accounts.window import SlidingMinute
from tests.support import SyncCase

#: Pauses in milliseconds with amounts: bursts, and long waits.
EVENTS = st.lists(st.tuples(st.sampled_from([0, 1, 9, 11, 500, 20_000, 59_990, 60_000]), st.integers(1, 5)))


class SlidingMinuteTests(SyncCase):
    """
    What is counted, and for how long.
    """

    def test_countsForAMinute(self) -> None:
        """
        To the moment, each by itself.
        """
        window = SlidingMinute()
        window.add(0.0, 2)
        window.add(30.0, 3)
        self.assertEqual([window.wait(59.5, 1, 5), window.used], [0.5, 5])
        self.assertEqual([window.wait(60.0, 2, 5), window.used, window.reset(60.0)], [0.0, 3, 30.0])
        self.assertEqual([window.wait(90.0, 5, 5), window.used, window.reset(90.0)], [0.0, 0, 0.0])

    def test_waitForSeveral(self) -> None:
        """
        The wait is for as much as is needed; what is more than the limit is
        waited for in vain.
        """
        window = SlidingMinute()
        for at in (0.0, 10.0, 20.0):
            window.add(at, 2)
        self.assertEqual([window.wait(20.0, more, 6) for more in (1, 2, 3, 6)], [40.0, 40.0, 50.0, 60.0])
        self.assertEqual(window.wait(20.0, 7, 6), inf)

    def test_takenBack(self) -> None:
        """
        Not below nothing, and nothing of what is past.
        """
        window = SlidingMinute()
        first = window.add(0.0, 5)
        window.takeBack(first, 3)
        self.assertEqual(window.used, 2)
        second = window.add(1.0, 1)
        window.forget(60.0)
        window.takeBack(first, 1)
        self.assertEqual(window.used, 1)
        window.takeBack(second, 9)
        self.assertEqual(window.used, 0)

    def test_isBounded(self) -> None:
        """
        However many come, there are no more entries than moments to tell apart.
        """
        window = SlidingMinute()
        for number in range(20_000):
            window.add(number / 1000, 1)
        self.assertEqual(window.used, 20_000)
        self.assertLess(len(window._counted), 2_001)

    def test_neverMoreThanAMinute(self) -> None:
        """
        However the seconds are rounded: what is said rounds up.
        """
        for number in range(1, 5000):
            window, now = SlidingMinute(), number / 1000
            window.add(now, 1)
            self.assertEqual((window.wait(now, 1, 1), window.reset(now)), (60.0, 60.0))

    @given(EVENTS, st.integers(1, 6))
    def test_neverTooMuchNorTooLittle(self, events: list[tuple[int, int]], limit: int) -> None:
        """
        Whatever is let in by it, no minute has more than the limit; and what
        is kept out would have been too much for the minute before, give or
        take what counts as at once.
        """
        window = SlidingMinute()
        now, let = 0, list[tuple[int, int]]()
        for pause, amount in events:
            now += pause
            wait = window.wait(now / 1000, amount, limit)
            inMinute = sum([each for at, each in let if now - at < 60_000])
            if wait:
                nearly = sum([each for at, each in let if now - at <= 60_010])
                self.assertGreater(nearly + amount, limit)
                self.assertEqual(wait == inf, amount > limit)
                self.assertLessEqual(wait, 60.0 if amount <= limit else inf)
            else:
                self.assertLessEqual(inMinute + amount, limit)
                window.add(now / 1000, amount)
                let.append((now, amount))

    @given(EVENTS, st.integers(1, 6))
    def test_waitIsTrue(self, events: list[tuple[int, int]], limit: int) -> None:
        """
        Whoever waits as long as is said is let in, and not a moment earlier.
        """
        window = SlidingMinute()
        now = 0.0
        for pause, amount in events:
            now += pause / 1000
            wait = window.wait(now, amount, limit)
            if 0 < wait < inf:
                self.assertGreater(window.wait(now + wait - 0.0005, amount, limit), 0)
                now += wait + 1e-6
                self.assertEqual(window.wait(now, amount, limit), 0)
            if wait < inf:
                window.add(now, amount)
