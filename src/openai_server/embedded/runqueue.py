# -*- test-case-name: tests.embedded.test_worker -*-
"""
Whose turn it is among the turns of one worker.
"""

from __future__ import annotations

from collections import deque
from typing import Final, Protocol

from twisted.internet.interfaces import IDelayedCall, IReactorTime

#: Tones that all turns of a worker show before the reactor has its turn.
TURN_TONES: Final = 256


class QueuedTurn(Protocol):
    """
    What goes on when it is its turn.

    @ivar isOver: it has nothing more to do.
    """

    isOver: bool

    def advance(self) -> int:
        """
        Go on to the next wait.

        @return: how many tones were shown.
        """


class RunQueue:
    """
    The turns of one worker that have something to do: each goes on when the
    others have had theirs, and the reactor is let in between.
    """

    def __init__(self, clock: IReactorTime) -> None:
        self._clock = clock
        self._ready: deque[QueuedTurn] = deque()
        self._run: IDelayedCall | None = None

    def wake(self, turn: QueuedTurn) -> None:
        """
        Let a turn go on when others have had theirs.
        """
        self._ready.append(turn)
        self._schedule()

    def stop(self) -> None:
        """
        Let no turn go on.
        """
        self._ready.clear()
        if self._run is not None:
            self._run.cancel()
            self._run = None

    def _schedule(self) -> None:
        if self._run is None:
            self._run = self._clock.callLater(0, self._runReady)

    def _runReady(self) -> None:
        self._run = None
        left = TURN_TONES
        while self._ready and left > 0:
            turn = self._ready.popleft()
            if not turn.isOver:
                left -= turn.advance()
        if self._ready:
            self._schedule()
