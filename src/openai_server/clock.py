# -*- test-case-name: tests.test_clock -*-
"""
Time, as everything that waits in this server sees it.

The reactor's own time is the wall clock, which steps. A deadline that fires
therefore looks at L{Clock.monotonic} and waits on when it is early.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any, Protocol

from twisted.internet.interfaces import IDelayedCall, IReactorTime


class Clock(Protocol):
    """
    What waits needs: calls later, and a time that never steps.
    """

    def callLater(self, delay: float, callable: Callable[..., Any], *args: Any) -> IDelayedCall:
        """
        Call in this many seconds of the reactor's time.
        """

    def monotonic(self) -> float:
        """
        Seconds since some moment, never stepping.
        """


class ReactorClock:
    """
    The clock of the running program.
    """

    def __init__(self, reactor: IReactorTime) -> None:
        self._reactor = reactor

    def callLater(self, delay: float, callable: Callable[..., Any], *args: Any) -> IDelayedCall:
        """
        See L{Clock.callLater}.
        """
        return self._reactor.callLater(delay, callable, *args)

    def monotonic(self) -> float:
        """
        See L{Clock.monotonic}.
        """
        return time.monotonic()


class Deadline:
    """
    One wait with an end, that can be put off cheaply.

    L{extend} only notes the new time; the timer looks at it when it fires, so
    that a busy turn costs no timer for each tone.

    @ivar due: the monotonic time at which C{passed} is called.
    """

    def __init__(self, clock: Clock, seconds: float, passed: Callable[[], None]) -> None:
        self._clock = clock
        self._passed = passed
        self.due = clock.monotonic() + seconds
        self._call: IDelayedCall | None = clock.callLater(seconds, self._look)

    @property
    def isActive(self) -> bool:
        """
        Neither passed nor cancelled.
        """
        return self._call is not None

    def extend(self, seconds: float) -> None:
        """
        Let this many seconds from now pass instead. Putting off is free; a
        time earlier than before moves the timer.
        """
        due = self._clock.monotonic() + seconds
        if due < self.due and self._call is not None:
            self._call.cancel()
            self._call = self._clock.callLater(seconds, self._look)
        self.due = due

    def cancel(self) -> None:
        """
        Wait no longer. Does nothing when the deadline has passed.
        """
        call, self._call = self._call, None
        if call is not None:
            call.cancel()

    def _look(self) -> None:
        left = self.due - self._clock.monotonic()
        if left > 0.001:
            self._call = self._clock.callLater(left, self._look)
        else:
            self._call = None
            self._passed()
