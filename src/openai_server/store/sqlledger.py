# -*- test-case-name: tests.store.test_ledger -*-
"""
What turns have cost, in a database.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from secrets import randbits
from typing import Final

from twisted.internet.defer import Deferred

from openai_server.reports import TurnReport
from openai_server.store.ledger import UsageSum, UsageWanted
from openai_server.store.reading import Reading
from openai_server.store.turns import NoteTurns, usageIn

#: Ids that a process has in a second. Where it ends more turns, it takes those of the next one.
_IN_A_SECOND: Final = 100_000
#: Bits by which the ids of several processes differ. With both, 63 bits are enough until the year 2680.
_SALT: Final = 12


class SQLLedger:
    """
    See L{openai_server.store.ledger.Ledger}. While the store is degraded
    nothing can be read, and what is unsaved is bounded.
    """

    def __init__(self, reading: Reading, age: float, now: Callable[[], float]) -> None:
        """
        @param age: seconds for which a turn is kept.
        @param now: the wall clock, in seconds since 1970.
        """
        self._reading = reading
        self._age = age
        self._now = now
        self._salt = randbits(_SALT)
        self._last = 0
        self._noting: NoteTurns | None = None

    def turnEnded(self, report: TurnReport) -> None:
        """
        Keep this.
        """
        if self._age:
            now = self._now()
            turn, noting = (self._nextId(now), int(now), report), self._noting
            if noting is not None and noting.hasRoom:
                noting.turns.append(turn)
            else:
                noting = self._noting = NoteTurns(turn)
                self._reading.changes.add(noting)

    def _nextId(self, now: float) -> int:
        """
        Return an id that no other turn has, and that grows with time: so the
        table does too at its end.
        """
        wanted = (int(now * _IN_A_SECOND) << _SALT) | self._salt
        self._last = max(wanted, self._last + (1 << _SALT))
        return self._last

    def usage(self, wanted: UsageWanted) -> Deferred[Sequence[UsageSum] | None]:
        """
        Return sums.
        """
        return self._reading.sum(lambda connection: usageIn(connection, wanted), lambda: None)
