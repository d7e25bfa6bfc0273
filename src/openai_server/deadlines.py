# -*- test-case-name: tests.test_deadlines -*-
"""
Deadlines of many, in one heap with one timer.

Whoever has one is looked at when its entry comes up, and until then moves it
as it likes by noting times; only a deadline that comes earlier than the entry
needs another one. So a turn costs one push, however much is said in it.
"""

from __future__ import annotations

from collections.abc import Callable
from heapq import heapify, heappop, heappush
from itertools import count
from math import inf
from typing import Final, Protocol

from twisted.internet.interfaces import IDelayedCall, IReactorTime

#: Seconds by which a call may come early and still count as due.
_EARLY: Final = 0.001

#: Fewer entries than this are never sorted out.
_FEW: Final = 256


class Watched(Protocol):
    """
    Who has a deadline.
    """

    @property
    def isOver(self) -> bool:
        """
        Whether there is nothing to look at any more.
        """

    @property
    def lookAt(self) -> float:
        """
        When its next look is due; other entries of its are void.
        """

    def look(self, now: float) -> None:
        """
        See whether a deadline has passed, and add the next entry.
        """


class Deadlines:
    """
    The looks that are to come.

    @ivar clock: whose time it is.
    """

    def __init__(self, clock: IReactorTime) -> None:
        self.clock = clock
        self._heap: list[tuple[float, int, Watched]] = []
        self._number = count()
        self._timer: IDelayedCall | None = None
        self._firesAt = inf

    def __len__(self) -> int:
        """
        Return how many entries there are, the void ones included.
        """
        return len(self._heap)

    def add(self, due: float, watched: Watched) -> None:
        """
        Look at it at this time of the clock's.
        """
        heappush(self._heap, (due, next(self._number), watched))
        if due < self._firesAt:
            self._arm(due)

    def sortOut(self, live: int) -> None:
        """
        Drop the entries of those that are over, when they are many.

        @param live: how many are not over.
        """
        if len(self._heap) > _FEW + 4 * live:
            self._heap = [entry for entry in self._heap if not entry[2].isOver]
            heapify(self._heap)

    def stop(self) -> None:
        """
        Forget all entries.
        """
        self._heap.clear()
        timer, self._timer, self._firesAt = self._timer, None, inf
        if timer is not None:
            timer.cancel()

    def _arm(self, due: float) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._firesAt = due
        self._timer = self.clock.callLater(max(0.0, due - self.clock.seconds()), self._fire)

    def _fire(self) -> None:
        self._timer, self._firesAt = None, inf
        now = self.clock.seconds() + _EARLY
        try:
            # An entry that is added by a look may come up in the same round.
            while self._heap and self._heap[0][0] <= now:
                due, _, watched = heappop(self._heap)
                if not watched.isOver and watched.lookAt == due:
                    watched.look(now)
        finally:
            # Also when a look fails: it is only one of many.
            if self._heap and self._heap[0][0] < self._firesAt:
                self._arm(self._heap[0][0])


class Alarm:
    """
    One wait at a time, which can be begun anew and put off cheaply.

    @ivar isOver: whether no wait will be begun any more. Set by its owner.
    @ivar lookAt: when its deadline is looked at next.
    """

    __slots__ = ("_deadlines", "_due", "_passed", "isOver", "lookAt")

    def __init__(self, deadlines: Deadlines) -> None:
        self.isOver = False
        self.lookAt = inf
        self._deadlines = deadlines
        self._due = inf
        self._passed: Callable[[], None] | None = None

    @property
    def isActive(self) -> bool:
        """
        Whether a deadline is waited for.
        """
        return self._passed is not None

    def begin(self, seconds: float, passed: Callable[[], None]) -> None:
        """
        Wait for nothing but this from now on.

        @param passed: called once, after so many seconds.
        """
        self._passed = passed
        self.putOff(seconds)

    def putOff(self, seconds: float) -> None:
        """
        Let this many seconds from now pass.
        """
        self._due = due = self._deadlines.clock.seconds() + seconds
        if due < self.lookAt:
            self.lookAt = due
            self._deadlines.add(due, self)

    def cancel(self) -> None:
        """
        Wait for nothing.
        """
        self._passed = None

    def look(self, now: float) -> None:
        """
        See whether the deadline has passed.
        """
        self.lookAt = inf
        passed = self._passed
        if passed is None:
            return
        if now < self._due:
            self.lookAt = self._due
            self._deadlines.add(self._due, self)
        else:
            self._passed = None
            passed()
