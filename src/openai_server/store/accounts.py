# -*- test-case-name: tests.store.test_accounts -*-
"""
Accounts in a database.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from twisted.internet.defer import Deferred

from openai_server.store.keyrows import UseTokens, allKeys, keysVersion, tokensUsed
from openai_server.store.reading import Reading
from openai_server.store.savedkeys import KeyTable


class SQLAccounts:
    """
    See L{AccountStore<openai_server.store.savedkeys.AccountStore>}.
    """

    lasts = True

    def __init__(self, reading: Reading, *, isShared: bool) -> None:
        self.isShared = isShared
        self.atStart: KeyTable | None = None
        self._reading = reading
        self._using: dict[str, UseTokens] = {}

    def version(self) -> Deferred[int | None]:
        """
        Return the version of all keys.
        """
        return self._reading.look(keysVersion, lambda: None)

    def keys(self) -> Deferred[KeyTable | None]:
        """
        Return all keys.
        """
        return self._reading.look(allKeys, lambda: None)

    def use(self, account: str, periods: Sequence[str], tokens: int) -> None:
        """
        Add tokens to what an account has used in these days and months.
        """
        using = self._using.get(account)
        if using is not None and using.isWaiting and using.periods == periods:
            using.tokens += tokens
        else:
            using = self._using[account] = UseTokens(account, periods, tokens)
            self._reading.changes.add(using)

    def used(self, account: str, periods: Sequence[str]) -> Deferred[Mapping[str, int] | None]:
        """
        Return what an account has used.
        """
        return self._reading.read(
            lambda connection: tokensUsed(connection, account, periods), lambda: None
        )
