# -*- test-case-name: tests.store.test_ledger -*-
"""
What turns have cost, in this process's memory.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from typing import Final

from twisted.internet.defer import Deferred, succeed

from openai_server.reports import TurnReport
from openai_server.store.ledger import UsageSum, UsageWanted, sumsOf

#: Turns that are kept.
MOST_TURNS: Final = 20_000


class MemoryLedger:
    """
    See L{openai_server.store.ledger.Ledger}. The turns that ended longest ago
    go first when there are too many.
    """

    def __init__(self, age: float, now: Callable[[], float]) -> None:
        """
        @param age: seconds for which a turn is kept.
        @param now: the wall clock, in seconds since 1970.
        """
        self._age = age
        self._now = now
        self._turns: deque[tuple[int, TurnReport]] = deque(maxlen=MOST_TURNS)

    def turnEnded(self, report: TurnReport) -> None:
        """
        Keep this.
        """
        if self._age:
            self._turns.append((int(self._now()), report))
            self._forgetOld()

    def usage(self, wanted: UsageWanted) -> Deferred[Sequence[UsageSum] | None]:
        """
        Return sums.
        """
        self._forgetOld()
        return succeed(sumsOf(self._turns, wanted))

    def _forgetOld(self) -> None:
        oldest = self._now() - self._age
        while self._turns and self._turns[0][0] < oldest:
            self._turns.popleft()
