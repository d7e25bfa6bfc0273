# -*- test-case-name: tests.web.test_bursts -*-
"""
Requests that come in one moment.

The reactor hands on all that has come on all connections before it looks at
the daemon's socket again. So of a burst a few requests are begun at a time: what
the daemon says meanwhile reaches its clients in between.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Final, Generic, TypeVar

from twisted.internet.interfaces import IDelayedCall, IReactorTime

#: Seconds of work after which the reactor has its turn.
LONGEST: Final = 0.0015
#: Seconds between two requests by which they are not of the same burst.
GAP: Final = 0.0003

R = TypeVar("R")


class Bursts(Generic[R]):
    """
    Begins requests, those of a burst in slices, in the order in which they came.
    """

    def __init__(self, clock: IReactorTime, begin: Callable[[R], None]) -> None:
        self._clock = clock
        self._begin = begin
        self._waiting: deque[R] = deque()
        self._next: IDelayedCall | None = None
        self._began = self._ended = 0.0

    def take(self, request: R) -> None:
        """
        Begin a request, now or in a moment.
        """
        now = self._clock.seconds()
        if now - self._ended > GAP:
            self._began = now
        if self._waiting or now - self._began > LONGEST:
            self._waiting.append(request)
            if self._next is None:
                self._next = self._clock.callLater(0, self._goOn)
        else:
            self._begin(request)
            self._ended = self._clock.seconds()

    def _goOn(self) -> None:
        self._next = None
        self._began = self._ended = self._clock.seconds()
        try:
            while self._waiting and self._ended - self._began <= LONGEST:
                self._begin(self._waiting.popleft())
                self._ended = self._clock.seconds()
        finally:
            # Also when one fails: nobody else would begin those behind it.
            if self._waiting:
                self._next = self._clock.callLater(0, self._goOn)
