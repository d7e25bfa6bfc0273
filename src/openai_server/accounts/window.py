# -*- test-case-name: tests.accounts.test_window -*-
"""
How much there was in the last minute.
"""

from __future__ import annotations

from collections import deque
from math import inf
from typing import Final

#: Seconds that are looked back.
MINUTE: Final = 60.0
#: What came within so many seconds counts as come at once, at the last of it:
#: a minute has no more entries than there are of these in it.
_AT_ONCE: Final = 0.01


class Counted:
    """
    What counts for a minute.

    @ivar amount: of it, never below 0.
    """

    __slots__ = ("amount", "at", "began", "isPast")

    def __init__(self, began: float) -> None:
        self.began = self.at = began
        self.amount = 0
        self.isPast = False


class SlidingMinute:
    """
    The sum of what came in the last minute, to the moment.

    A bucket that is refilled lets up to twice its size through in a minute;
    this lets through what fits, in whatever minute one looks at.

    @ivar used: the sum, as of the last call.
    """

    __slots__ = ("_counted", "used")

    def __init__(self) -> None:
        self.used = 0
        self._counted: deque[Counted] = deque()

    def add(self, now: float, amount: int) -> Counted:
        """
        Count something, from now on for a minute.

        @param now: in seconds, never lower than before.
        """
        self.forget(now)
        last = self._counted[-1] if self._counted else None
        if last is None or now - last.began > _AT_ONCE:
            last = Counted(now)
            self._counted.append(last)
        last.at = now
        last.amount += amount
        self.used += amount
        return last

    def takeBack(self, counted: Counted, amount: int) -> None:
        """
        Let some of what was counted be nothing, if it still counts.
        """
        if not counted.isPast:
            taken = min(amount, counted.amount)
            counted.amount -= taken
            self.used -= taken

    def forget(self, now: float) -> None:
        """
        Count what is a minute old no longer.
        """
        while self._counted and now - self._counted[0].at >= MINUTE:
            past = self._counted.popleft()
            past.isPast = True
            self.used -= past.amount

    def wait(self, now: float, amount: int, limit: int) -> float:
        """
        Return the seconds until so much more is within the limit; infinite
        where it never is.
        """
        self.forget(now)
        over = self.used + amount - limit
        if over <= 0:
            return 0.0
        for counted in self._counted:
            over -= counted.amount
            if over <= 0:
                return MINUTE - (now - counted.at)
        return inf

    def reset(self, now: float) -> float:
        """
        Return the seconds until nothing counts any more.
        """
        self.forget(now)
        return MINUTE - (now - self._counted[-1].at) if self._counted else 0.0
