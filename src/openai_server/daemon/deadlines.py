# -*- test-case-name: tests.daemon.test_deadlines -*-
"""
The deadlines of all turns, in one heap with one timer.

A turn is looked at when its entry comes up. Until then it moves its deadline
as it likes by noting times; only a deadline that comes earlier than the entry
needs another entry. So a turn costs one push, however much is said in it.
"""

from __future__ import annotations

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
    """

    def __init__(self, clock: IReactorTime) -> None:
        self._clock = clock
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
        self._timer = self._clock.callLater(max(0.0, due - self._clock.seconds()), self._fire)

    def _fire(self) -> None:
        self._timer, self._firesAt = None, inf
        now = self._clock.seconds() + _EARLY
        # An entry that is added by a look may come up in the same round.
        while self._heap and self._heap[0][0] <= now:
            due, _, watched = heappop(self._heap)
            if not watched.isOver and watched.lookAt == due:
                watched.look(now)
        if self._heap and self._heap[0][0] < self._firesAt:
            self._arm(self._heap[0][0])
