# -*- test-case-name: tests.store.test_database -*-
"""
Reading what was written, and what is still to be.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, TypeVar

from sqlalchemy import Connection
from twisted.internet.defer import Deferred, TimeoutError, succeed
from twisted.internet.interfaces import IReactorTime

from openai_server.store.database import Database
from openai_server.store.threads import Workers
from openai_server.store.troubles import Trouble
from openai_server.store.writebehind import WriteBehind

#: Seconds that an answer may take.
PATIENCE: Final = 5.0

T = TypeVar("T")


class Reading:
    """
    Asks a database, once all is written that was said before.

    @ivar changes: what is still to be written.
    """

    def __init__(
        self, clock: IReactorTime, database: Database, workers: Workers, changes: WriteBehind
    ) -> None:
        self.changes = changes
        self._clock = clock
        self._database = database
        self._workers = workers

    def read(self, query: Callable[[Connection], T], otherwise: Callable[[], T]) -> Deferred[T]:
        """
        @param otherwise: gives the answer while the store is degraded.
        @return: fires with the answer, and never fails.
        """
        if self.changes.whyDegraded is not None:
            return succeed(otherwise())
        return Deferred.fromCoroutine(self._read(query, otherwise))

    def look(self, query: Callable[[Connection], T], otherwise: Callable[[], T]) -> Deferred[T]:
        """
        Ask for what others have written, whatever is still to be.

        @param otherwise: gives the answer while the store is degraded.
        @return: fires with the answer, and never fails.
        """
        if self.changes.whyDegraded is not None:
            return succeed(otherwise())
        return Deferred.fromCoroutine(self._look(query, otherwise))

    async def _read(self, query: Callable[[Connection], T], otherwise: Callable[[], T]) -> T:
        return await self._look(query, otherwise) if await self.changes.written() else otherwise()

    async def _look(self, query: Callable[[Connection], T], otherwise: Callable[[], T]) -> T:
        begun = self._clock.seconds()
        try:
            reading = self._workers.read(self._database.read, query)
            found = await reading.addTimeout(PATIENCE, self._clock)
            self.changes.counters.timed("store_read", self._clock.seconds() - begun)
            return found
        except TimeoutError:
            trouble = Trouble("slow", f"no answer in {PATIENCE} s")
        except Trouble as error:
            trouble = error
        self.changes.readFailed(trouble)
        return otherwise()
