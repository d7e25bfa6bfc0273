# -*- test-case-name: tests.daemon.test_coalescing -*-
"""
Fewer and bigger reads while the daemon says much in small pieces.

Many streams at the pace of models come as one small read for each of their
tones, and each read costs a turn of the reactor. Network cards wait a moment
before they interrupt, for the same reason: after several small reads in a row
reading pauses for a millisecond, and one read brings what came meanwhile. The
daemon keeps a thousand tones for a slow reader; in a millisecond it says some
twenty.
"""

from __future__ import annotations

from typing import Final, Protocol

from twisted.internet.interfaces import IDelayedCall, IReactorTime

#: Whether reads are coalesced at all.
ENABLED: Final = True

#: Seconds of a pause, and between two reads that are in a row.
PAUSE: Final = 0.001

#: So many small reads in a row make a pause.
READS: Final = 8

#: A read of so many bytes is not small: a flood coalesces by itself.
SMALL: Final = 8192

#: After so many seconds a pause is over whether its timer came or not: timers
#: run on the wall clock, which may be set back.
_LONGEST: Final = 0.05


class Pausable(Protocol):
    """
    What is read from.
    """

    def pauseProducing(self) -> None: ...

    def resumeProducing(self) -> None: ...


class ReadCoalescing:
    """
    Pauses the reading of one connection when that pays.
    """

    __slots__ = ("_clock", "_inRow", "_last", "_timer", "_transport")

    def __init__(self, clock: IReactorTime, transport: Pausable) -> None:
        self._clock = clock
        self._transport = transport
        self._inRow = 0
        self._last = 0.0
        self._timer: IDelayedCall | None = None

    def noteRead(self, size: int, mayPause: bool) -> None:
        """
        Note a read of so many bytes, and pause if it was one of many.

        @param mayPause: whether all that was written is sent.
        """
        now = self._clock.seconds()
        isInRow = size < SMALL and now - self._last < PAUSE
        self._last = now
        if not isInRow:
            self._inRow = 0
            return
        self._inRow += 1
        if self._inRow >= READS and mayPause and self._timer is None:
            self._timer = self._clock.callLater(PAUSE, self._resume)
            self._transport.pauseProducing()

    def noteWrite(self) -> None:
        """
        Resume a pause whose timer has not come when it should have.
        """
        if self._timer is not None and self._clock.seconds() - self._last > _LONGEST:
            self._timer.cancel()
            self._resume()

    def stop(self) -> None:
        """
        Pause no more: the connection is gone.
        """
        timer, self._timer = self._timer, None
        if timer is not None:
            timer.cancel()

    def _resume(self) -> None:
        self._timer = None
        # What came in the pause is read at once, and is in the row.
        self._last = self._clock.seconds()
        self._transport.resumeProducing()
