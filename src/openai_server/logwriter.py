# -*- test-case-name: tests.test_logwriter -*-
"""
Lines on their way to an output that may have no room for them.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Final, Protocol

from openai_server.logoutput import Output

#: Bytes of lines for which the output has no room yet, at most.
MOST_UNWRITTEN: Final = 1 << 20

#: Seconds until the output is tried again: doubled as long as it takes nothing.
_FIRST_DELAY: Final = 0.01
_LONGEST_DELAY: Final = 1.0

#: Seconds that a reader has for the last lines.
_LAST_SECONDS: Final = 1.0


class Timer(Protocol):
    """
    What is used of the reactor.
    """

    def callLater(self, delay: float, callable: Callable[[], object], /) -> object: ...


class LineWriter:
    """
    Writes lines, and never waits for whoever reads them: without room they are
    kept, within a bound; lines beyond it are dropped, and once there is room
    again a line says how many.
    """

    def __init__(
        self, openOutput: Callable[[], Output], noteOfDropped: Callable[[int], bytes], timer: Timer | None
    ) -> None:
        """
        @param openOutput: called with the first lines, and again with the next
            ones when it fails.
        @param noteOfDropped: makes the line that says how many were dropped.
        @param timer: the reactor; without one the output is tried again with
            the next lines.
        """
        self._openOutput = openOutput
        self._noteOfDropped = noteOfDropped
        self._timer = timer
        self._output: Output | None = None
        self._unwritten = bytearray()
        self._dropped = 0
        self._delay = _FIRST_DELAY
        self._isWaiting = False

    @property
    def isBehind(self) -> bool:
        """
        Whether there are lines for which the output has no room.
        """
        return bool(self._unwritten)

    def open(self) -> None:
        """
        Open the output before there are lines.

        @raise OSError: it cannot be opened.
        """
        self._output = self._openOutput()

    def write(self, lines: bytes) -> None:
        """
        Write whole lines, now or later.
        """
        if len(self._unwritten) + len(lines) > MOST_UNWRITTEN:
            self._dropped += lines.count(b"\n")
        else:
            self._noteDropped()
            self._unwritten += lines
        if not self._isWaiting:
            self._attempt()

    def finish(self) -> None:
        """
        Write what is left, and wait a second at most for a reader to take it:
        the reactor has stopped.
        """
        deadline = time.monotonic() + _LAST_SECONDS
        self._attempt()
        while (
            self._unwritten
            and self._output is not None
            and self._output.isReady(deadline - time.monotonic())
        ):
            self._attempt()

    def reopen(self) -> None:
        """
        Go on in the file that has the output's name now.
        """
        if self._output is not None:
            self._output.reopen()

    def _attempt(self) -> None:
        written = self._written()
        del self._unwritten[:written]
        if self._dropped and not self._unwritten:
            self._noteDropped()
            del self._unwritten[: self._written()]
        self._delay = _FIRST_DELAY if written else min(self._delay * 2, _LONGEST_DELAY)
        if self._unwritten and self._timer is not None and not self._isWaiting:
            self._isWaiting = True
            self._timer.callLater(self._delay, self._attemptAgain)

    def _attemptAgain(self) -> None:
        self._isWaiting = False
        self._attempt()

    def _written(self) -> int:
        """
        Write, and return how many bytes were.
        """
        if not self._unwritten:
            return 0
        try:
            if self._output is None:
                self._output = self._openOutput()
            return self._output.write(bytes(self._unwritten))
        except OSError:
            # A full disk, a pipe that is full or that nobody reads: it may change.
            return 0

    def _noteDropped(self) -> None:
        if self._dropped:
            self._unwritten += self._noteOfDropped(self._dropped)
            self._dropped = 0
