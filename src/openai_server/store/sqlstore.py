# -*- test-case-name: tests.store -*-
"""
A store in a database.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Any, Final

from twisted.application.service import Service
from twisted.internet.defer import Deferred, succeed
from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger

from openai_server.metrics import Counters
from openai_server.store.accounts import SQLAccounts
from openai_server.store.database import Database
from openai_server.store.interfaces import Bounds
from openai_server.store.journal import Journal
from openai_server.store.keyrows import allKeys
from openai_server.store.location import Location
from openai_server.store.memory import MemoryStore
from openai_server.store.notifications import Notifications
from openai_server.store.operations import Operation
from openai_server.store.reading import Reading
from openai_server.store.sqlledger import SQLLedger
from openai_server.store.sqlrecords import SQLRecords
from openai_server.store.sqlstate import SQLState
from openai_server.store.threads import Workers
from openai_server.store.topics import Topics
from openai_server.store.troubles import Trouble
from openai_server.store.writebehind import WriteBehind

#: Bytes of records that are in memory too.
_IN_MEMORY: Final = 64 * 2**20


class SQLStore(Service):
    """
    See L{openai_server.store.interfaces.Store}.

    @ivar changes: what is unsaved.
    """

    _log = Logger()

    def __init__(
        self,
        url: str,
        bounds: Bounds,
        clock: IReactorTime,
        counters: Counters,
        workers: Workers,
        reactor: Any,
        now: Callable[[], float],
        isAlone: bool = False,
    ) -> None:
        """
        @param reactor: watches for what other processes tell; None where
            nobody needs to hear of it.
        @param isAlone: whether no other process uses the database.
        """
        self._isAlone = isAlone
        location = Location(url)
        database = self._database = Database(location, bounds, now)
        self._workers = workers
        self.changes = WriteBehind(clock, self._write, counters)
        reading = Reading(clock, self._database, workers, self.changes)
        inMemory = Bounds(bounds.count, min(bounds.size, _IN_MEMORY), bounds.age)
        self.records = SQLRecords(reading, MemoryStore(clock, inMemory), bounds, now)
        self.accounts = SQLAccounts(reading, isShared=not location.isFile)
        self.ledger = SQLLedger(reading, bounds.ledgerAge, now)
        topics = Topics()
        self.state = SQLState(reading, topics, None if location.isFile else lambda: database.channel, now)
        self._notifications = (
            Notifications(reactor, clock, workers, database.listening, topics)
            if self.state.isShared and reactor is not None
            else None
        )

    @property
    def whyDegraded(self) -> str | None:
        """
        Why the database cannot be used for now.
        """
        return self.changes.whyDegraded

    @property
    def unsaved(self) -> int:
        """
        How many changes are still to be written.
        """
        return len(self.changes)

    def startService(self) -> None:
        """
        Open the database, which may take its time. One that cannot be reached
        is tried again later.

        @raise StoreError: it must not be used.
        """
        try:
            self._database.open()
            self.accounts.atStart = self._database.read(allKeys)
        except Trouble as trouble:
            self.changes.readFailed(trouble)
            self._database.root = self.state.root
        self._openJournal()
        self._note()
        self.state.root = self._database.root or self.state.root
        self._workers.start()
        if self._notifications is not None:
            self._notifications.start()
        super().startService()

    def _openJournal(self) -> None:
        path = self._database.location.path
        if path is None or not self._isAlone:
            return
        journal = Journal(f"{path}-promised")
        # Without one, promises wait for the database.
        with suppress(OSError):
            for change in journal.open():
                self.changes.add(change)
            self.changes.journal = journal

    def stopService(self) -> Deferred[None]:
        """
        Write what is unsaved, and close the database.
        """
        if not self.running:
            return succeed(None)
        super().stopService()
        return Deferred.fromCoroutine(self._stop())

    async def _stop(self) -> None:
        if self._notifications is not None:
            await self._notifications.stop()
        await self.changes.stop()
        if self.changes.journal is not None:
            self.changes.journal.close()
        await self._workers.write(self._database.close)
        self._workers.stop()

    def _write(self, changes: Sequence[Operation]) -> Deferred[Sequence[Any]]:
        return self._workers.write(self._database.write, changes).addBoth(self._noted)

    def _noted(self, result: Any) -> Any:
        self._note()
        return result

    def _note(self) -> None:
        # Only here is the reactor's thread.
        while self._database.notes:
            self._log.warn("{note}", note=self._database.notes.pop(0))
