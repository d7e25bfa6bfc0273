"""
Keys and stores of accounts for tests.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from twisted.internet.defer import Deferred, succeed

from openai_server.accounts.keys import digestOf, shownOf
from openai_server.reports import TurnReport
from openai_server.store.savedkeys import KeyTable, SavedKey

#: The last day but one of a month.
NOW = 1_780_099_200.0


def savedKey(key: str, name: str = "alice", **fields: Any) -> SavedKey:
    """
    A key as the store has it.
    """
    given = {"account": name, "createdAt": NOW, **fields}
    return SavedKey(digest=digestOf(key.encode()), name=name, shown=shownOf(key), **given)


def report(session: str, tokens: int, account: str = "alice") -> TurnReport:
    """
    A turn that has cost so much, a quarter of it output.
    """
    output = tokens // 4
    return TurnReport(account, "chat", "m", session, tokens - output, 1, output, 0, 1.0, "ok", False)


class FakeAccounts:
    """
    A store of accounts whose answers a test can hold back.

    @ivar table: what it has.
    @ivar isAway: whether it cannot be read.
    @ivar held: the answers of L{used} that wait; None: they come at once.
    """

    lasts = True
    isShared = False

    def __init__(self, *keys: SavedKey) -> None:
        self.table = self.atStart = KeyTable(1, keys)
        self.isAway = False
        self.reads = 0
        self.total: Counter[tuple[str, str]] = Counter()
        self.held: list[tuple[Deferred[Any], Any]] | None = None

    def change(self, *keys: SavedKey) -> None:
        """
        Have other keys.
        """
        self.table = KeyTable(self.table.version + 1, keys)

    def version(self) -> Deferred[int | None]:
        """
        See L{openai_server.store.savedkeys.AccountStore.version}.
        """
        return succeed(None if self.isAway else self.table.version)

    def keys(self) -> Deferred[KeyTable | None]:
        """
        See L{openai_server.store.savedkeys.AccountStore.keys}.
        """
        self.reads += 1
        return succeed(self.table)

    def use(self, account: str, periods: Sequence[str], tokens: int) -> None:
        """
        See L{openai_server.store.savedkeys.AccountStore.use}.
        """
        self.total.update({(account, period): tokens for period in periods})

    def used(self, account: str, periods: Sequence[str]) -> Deferred[Mapping[str, int] | None]:
        """
        See L{openai_server.store.savedkeys.AccountStore.used}.
        """
        self.reads += 1
        found = None if self.isAway else {period: self.total[account, period] for period in periods}
        if self.held is None:
            return succeed(found)
        waiting: Deferred[Any] = Deferred(lambda _: None)
        self.held.append((waiting, found))
        return waiting

    def answer(self) -> None:
        """
        Give the answers that were held back.
        """
        held, self.held = self.held or [], None
        for waiting, found in held:
            if not waiting.called:
                waiting.callback(found)
