# -*- test-case-name: tests.accounts -*-
"""
The accounts of a server: their keys and their limits.
"""

from __future__ import annotations

from collections.abc import Callable

from twisted.internet.interfaces import IReactorTime

from openai_server.accounts.exchange import UseExchange
from openai_server.accounts.keyring import KeyRing
from openai_server.accounts.keywatch import KeyWatch
from openai_server.accounts.limiter import Limiter
from openai_server.store.savedkeys import AccountStore
from openai_server.store.sharing import Messaging


class Accounts:
    """
    Who may ask, and how much.

    @ivar keys: those that are let in.
    @ivar limiter: counts what they have.
    """

    def __init__(
        self,
        clock: IReactorTime,
        store: AccountStore,
        messages: Messaging,
        secret: bytes,
        now: Callable[[], float],
        apiKey: str | None,
        *,
        needsKey: bool,
    ) -> None:
        """
        @param messages: go to the other processes that use the store.
        @param secret: the key of account names.
        @param now: the wall clock, in seconds since 1970.
        @param apiKey: that of the settings.
        @param needsKey: whether a key is asked for even where there is none.
        """
        self.keys = KeyRing(secret, now, apiKey, isRequired=needsKey)
        self.limiter = Limiter(clock.seconds, now, store)
        self._watch = KeyWatch(clock, store, self.keys)
        self._exchange = UseExchange(clock, messages, self.limiter)

    def start(self) -> None:
        """
        Look for changes of keys, and hear of other processes.
        """
        self._watch.start()
        self._exchange.start()

    def stop(self) -> None:
        """
        Do so no more.
        """
        self._watch.stop()
        self._exchange.stop()
