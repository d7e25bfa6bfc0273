# -*- test-case-name: tests.store.test_database -*-
"""
The store that the settings want.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final

from twisted.application.service import Service
from twisted.internet.defer import Deferred, succeed
from twisted.internet.interfaces import IReactorTime

from openai_server.metrics import Counters
from openai_server.store.interfaces import Bounds
from openai_server.store.memory import MemoryStore
from openai_server.store.memoryaccounts import MemoryAccounts
from openai_server.store.memoryledger import MemoryLedger
from openai_server.store.memorystate import MemoryState

if TYPE_CHECKING:
    from openai_server.store.sqlstore import SQLStore
    from openai_server.store.threads import Workers

#: What the setting says when nothing is to outlast the process.
IN_MEMORY: Final = "memory:"


class VolatileStore(Service):
    """
    A store that ends with the process.
    """

    #: There is no database that could be in trouble.
    whyDegraded: str | None = None
    #: Nothing waits to be written.
    unsaved = 0

    def __init__(self, clock: IReactorTime, bounds: Bounds, now: Callable[[], float]) -> None:
        self.records = MemoryStore(clock, bounds)
        self.state = MemoryState(now)
        self.accounts = MemoryAccounts()
        self.ledger = MemoryLedger(bounds.ledgerAge, now)

    def stopService(self) -> Deferred[None]:
        """
        There is nothing to write.
        """
        super().stopService()
        return succeed(None)


def storeFrom(
    url: str,
    bounds: Bounds,
    *,
    clock: IReactorTime,
    counters: Counters,
    reactor: Any = None,
    workers: Workers | None = None,
    now: Callable[[], float] = time.time,
    isAlone: bool = False,
) -> VolatileStore | SQLStore:
    """
    Return the store at this URL. Nothing is opened before it starts.

    @param bounds: of the records.
    @param reactor: whose threads wait for a database, and which watches for
        what other processes tell; without one nothing of that is heard.
    @param workers: other ones than the reactor's threads.
    @param now: the wall clock, in seconds since 1970.
    @param isAlone: whether no other process uses it if it is a file.
    @raise StoreError: there can be none.
    """
    if url == IN_MEMORY:
        return VolatileStore(clock, bounds, now)
    # Importing these takes half a second.
    from openai_server.store.sqlstore import SQLStore
    from openai_server.store.threads import ThreadWorkers

    return SQLStore(url, bounds, clock, counters, workers or ThreadWorkers(reactor), reactor, now, isAlone)


def claimFrom(url: str) -> Callable[[], None]:
    """
    Let no other server use the store at this URL, if it is one server's alone.

    @return: gives it back.
    @raise StoreError: another one uses it.
    """
    if not url.startswith("sqlite:"):
        return lambda: None
    from openai_server.store.location import Location

    return Location(url).claim()
