# -*- test-case-name: tests.test_clock -*-
"""
Time, as everything that waits in this server sees it.

The reactor's own time is the wall clock, which steps. Everything here takes an
C{IReactorTime} whose C{seconds()} never step; a call that was scheduled on the
reactor may still come early, so whatever fires looks at the time again.
"""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Callable, Sequence
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.internet.task import deferLater
from zope.interface import implementer

#: Seconds by which a call may come early and still count as due.
_EARLY = 0.001


@implementer(IReactorTime)
class MonotonicClock:
    """
    The time of the running program: the reactor's calls, and seconds that
    never step.
    """

    def __init__(self, reactor: IReactorTime) -> None:
        self._reactor = reactor

    #: Returns the seconds since some moment in the past.
    seconds = staticmethod(time.monotonic)

    def callLater(self, delay: float, callable: Callable[..., Any], *args: Any, **kw: Any) -> IDelayedCall:
        """
        Call in this many seconds of the reactor's time.
        """
        return self._reactor.callLater(delay, callable, *args, **kw)

    def getDelayedCalls(self) -> Sequence[IDelayedCall]:
        """
        Return the reactor's calls that are still to come.
        """
        return self._reactor.getDelayedCalls()


class Portions:
    """
    Long work in portions, each in a turn of the reactor of its own, so that
    nobody else has to wait for all of it.
    """

    def __init__(self, clock: IReactorTime, most: int, onRest: Callable[[], object] = lambda: None) -> None:
        """
        @param most: pieces of work that are done in one turn.
        @param onRest: called behind each portion.
        """
        self._clock = clock
        self._most = most
        self._onRest = onRest
        self._done = 0

    def rest(self) -> Deferred[None] | None:
        """
        Note that a piece is done.

        @return: what is to be awaited before the next one; None for nothing.
        """
        self._done += 1
        if self._done % self._most:
            return None
        self._onRest()
        return deferLater(self._clock, 0, lambda: None)


class Deadline:
    """
    One wait with an end, that can be put off cheaply.

    L{extend} only notes the new time; the timer looks at it when it fires, so
    that a busy turn costs no timer for each tone.

    @ivar due: the time at which C{passed} is called, in the clock's seconds.
    """

    __slots__ = ("_call", "_clock", "_passed", "due")

    def __init__(self, clock: IReactorTime, seconds: float, passed: Callable[[], None]) -> None:
        self._clock = clock
        self._passed = passed
        self.due = clock.seconds() + seconds
        self._call: IDelayedCall | None = clock.callLater(seconds, self._look)

    @property
    def isActive(self) -> bool:
        """
        Whether the deadline has neither passed nor been cancelled.
        """
        return self._call is not None

    def extend(self, seconds: float) -> None:
        """
        Let this many seconds from now pass instead. Putting off is free; a
        time earlier than before moves the timer.
        """
        due = self._clock.seconds() + seconds
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
        left = self.due - self._clock.seconds()
        if left > _EARLY:
            self._call = self._clock.callLater(left, self._look)
        else:
            self._call = None
            self._passed()


class Timeouts:
    """
    Many waits of the same length with one timer: they pass in the order in
    which they began, so an ordered dict holds them in the order of their ends.

    The timer is not moved when a wait is cancelled; L{stop} drops it.
    """

    def __init__(self, clock: IReactorTime, duration: float) -> None:
        """
        @param duration: seconds of each wait.
        """
        self.duration = duration
        self._clock = clock
        self._waits: OrderedDict[Timeout, None] = OrderedDict()
        self._timer: IDelayedCall | None = None

    def __len__(self) -> int:
        """
        Return how many waits there are.
        """
        return len(self._waits)

    def begin(self, passed: Callable[[], None]) -> Timeout:
        """
        Begin one wait.

        @param passed: called once when it is over, unless it is cancelled.
        """
        wait = Timeout(self._waits, self._clock.seconds() + self.duration, passed)
        self._waits[wait] = None
        if self._timer is None:
            self._timer = self._clock.callLater(self.duration, self._look)
        return wait

    def stop(self) -> None:
        """
        Forget all waits.
        """
        self._waits.clear()
        timer, self._timer = self._timer, None
        if timer is not None:
            timer.cancel()

    def _look(self) -> None:
        self._timer = None
        now = self._clock.seconds()
        while self._waits:
            wait = next(iter(self._waits))
            if wait.due - now > _EARLY:
                # A wait that began while others passed may have set it.
                if self._timer is None:
                    self._timer = self._clock.callLater(wait.due - now, self._look)
                return
            del self._waits[wait]
            wait.passed()


class Timeout:
    """
    One wait of L{Timeouts}.

    @ivar due: when it passes, in the clock's seconds.
    @ivar passed: what is called then.
    """

    __slots__ = ("_waits", "due", "passed")

    def __init__(self, waits: OrderedDict[Timeout, None], due: float, passed: Callable[[], None]) -> None:
        self._waits = waits
        self.due = due
        self.passed = passed

    def cancel(self) -> None:
        """
        Wait no longer. Does nothing when the time has passed.
        """
        self._waits.pop(self, None)
