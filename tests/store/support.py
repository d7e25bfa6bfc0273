"""
Stores for tests: one of each kind, without threads, at a time of the test's own.
"""

from __future__ import annotations

import select
from collections.abc import Callable
from pathlib import Path
from typing import Any, ParamSpec, TypeVar

from twisted.internet.defer import Deferred, execute

from openai_server.metrics import Counters
from openai_server.store.interfaces import Bounds, Store
from openai_server.store.opening import storeFrom
from tests.store.postgresql import server
from tests.support import SyncCase, TestClock

P = ParamSpec("P")
T = TypeVar("T")

NOW = 1_780_000_000.0
ROOM = Bounds(100, 1 << 20, 1000)


class InlineWorkers:
    """
    Does all work at once, in the test's own thread.

    @ivar isHolding: whether work waits for L{release}.
    """

    def __init__(self) -> None:
        self.isHolding = False
        self.isDead = False
        self._held: list[tuple[Callable[[], Any], Deferred[Any]]] = []

    def start(self) -> None: ...

    def stop(self) -> None: ...

    def write(self, work: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> Deferred[T]:
        if self.isDead:
            return Deferred()
        if not self.isHolding:
            return execute(work, *args, **kwargs)  # type: ignore[no-any-return]
        done: Deferred[T] = Deferred()
        self._held.append((lambda: work(*args, **kwargs), done))
        return done

    read = write

    @property
    def held(self) -> list[Callable[[], Any]]:
        """
        What waits.
        """
        return [work for work, _ in self._held]

    def kill(self) -> None:
        """
        Do nothing any more, ever: the process has died.
        """
        self.isDead = True
        self._held.clear()

    def release(self) -> None:
        """
        Do what was held.
        """
        self.isHolding = False
        held, self._held = self._held, []
        for work, done in held:
            execute(work).chainDeferred(done)


class Sockets:
    """
    Takes a reactor's place: reads from sockets when a test says so.
    """

    def __init__(self) -> None:
        self.readers: list[Any] = []

    def addReader(self, reader: Any) -> None:
        self.readers.append(reader)

    def removeReader(self, reader: Any) -> None:
        self.readers.remove(reader)

    def read(self, seconds: float = 10.0) -> None:
        """
        Wait until something can be read, and read it.
        """
        ready, _, _ = select.select(self.readers, (), (), seconds)
        for reader in ready:
            reader.doRead()


class StoreCase(SyncCase):
    """
    Has a store of one kind; a subclass says where.

    @cvar isAlone: whether no other process uses it.
    """

    isAlone = False

    def setUp(self) -> None:
        super().setUp()
        self.clock = TestClock()
        self.counters = Counters()
        self.workers = InlineWorkers()
        self.sockets = Sockets()
        self.where = self.newURL()
        self.store = self.opened()

    def newURL(self) -> str:
        """
        Where a database can be that is not there yet.
        """
        raise NotImplementedError

    def opened(self, bounds: Bounds = ROOM) -> Store:
        """
        A store at the same place, until the test ends.
        """
        store = storeFrom(
            self.where,
            bounds,
            clock=self.clock,
            counters=self.counters,
            reactor=self.sockets,
            workers=self.workers,
            now=self.now,
            isAlone=self.isAlone,
        )
        store.startService()
        self.addCleanup(store.stopService)
        return store

    def now(self) -> float:
        """
        The time of day.
        """
        return NOW + self.clock.seconds()


class InMemory(StoreCase):
    """
    No database.
    """

    def newURL(self) -> str:
        return "memory:"


class SQLiteInMemory(StoreCase):
    """
    SQLite without a file.
    """

    def newURL(self) -> str:
        return "sqlite://"


class SQLiteFile(StoreCase):
    """
    SQLite with a file.

    @ivar file: its path.
    """

    def newURL(self) -> str:
        self.file = Path(self.mktemp()).absolute() / "state" / "store.db"
        return f"sqlite:///{self.file}"


class PostgreSQL(StoreCase):
    """
    A server of the test's own.
    """

    def newURL(self) -> str:
        server().clear()
        return server().url
