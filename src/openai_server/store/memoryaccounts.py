# -*- test-case-name: tests.store.test_accounts -*-
"""
Accounts in this process's memory.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence

from twisted.internet.defer import Deferred, succeed

from openai_server.store.savedkeys import KeyTable


class MemoryAccounts:
    """
    See L{AccountStore<openai_server.store.savedkeys.AccountStore>}: no keys, and what this process has seen.
    """

    lasts = False
    isShared = False
    atStart = KeyTable(0, ())

    def __init__(self) -> None:
        self._used: Counter[tuple[str, str]] = Counter()

    def version(self) -> Deferred[int | None]:
        """
        Return the version of no keys.
        """
        return succeed(0)

    def keys(self) -> Deferred[KeyTable | None]:
        """
        Return no keys.
        """
        return succeed(self.atStart)

    def use(self, account: str, tokens: Mapping[str, int]) -> None:
        """
        Add tokens to what an account has used.
        """
        for period, count in tokens.items():
            self._used[account, period] += count

    def used(self, account: str, periods: Sequence[str]) -> Deferred[Mapping[str, int] | None]:
        """
        Return what an account has used.
        """
        return succeed({period: self._used[account, period] for period in periods})
