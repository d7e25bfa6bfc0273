# -*- test-case-name: tests.store.test_accounts -*-
"""
Accounts in this process's memory.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from twisted.internet.defer import Deferred, succeed

from openai_server.store.savedkeys import KeyTable


class MemoryAccounts:
    """
    See L{AccountStore<openai_server.store.savedkeys.AccountStore>}: there are no keys.
    """

    lasts = False
    isShared = False
    atStart = KeyTable(0, ())

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

    def use(self, account: str, periods: Sequence[str], tokens: int) -> None:
        """
        Count nothing: without keys there are no limits.
        """

    def used(self, account: str, periods: Sequence[str]) -> Deferred[Mapping[str, int] | None]:
        """
        Return that nothing was used.
        """
        return succeed(dict.fromkeys(periods, 0))
