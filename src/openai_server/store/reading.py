# -*- test-case-name: tests.store -*-
"""
Reading what was written, and what is still to be.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from functools import partial
from typing import Final, TypeVar

from sqlalchemy import Connection
from twisted.internet.defer import AlreadyCalledError, Deferred, DeferredLock, TimeoutError, succeed
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
        self._summing = DeferredLock()

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

    def sum(self, query: Callable[[Connection], T], otherwise: Callable[[], T]) -> Deferred[T]:
        """
        Ask for what may take long though nothing is wrong. One such query is
        made at a time: others are not kept waiting by many.

        @param otherwise: gives the answer while the store is degraded, and
            where it takes too long.
        @return: fires with the answer, and never fails.
        """
        if self.changes.whyDegraded is not None:
            return succeed(otherwise())
        return Deferred.fromCoroutine(self._sum(query, otherwise))

    async def _sum(self, query: Callable[[Connection], T], otherwise: Callable[[], T]) -> T:
        told: Deferred[T] = Deferred()

        def ask() -> Deferred[None]:
            # A query that nobody waits for any more goes on in its thread, and has its turn until its end.
            if told.called:
                return succeed(None)
            asked = self._workers.read(self._database.read, query)
            return asked.addCallbacks(lambda found: _tell(told.callback, found), partial(_tell, told.errback))

        try:
            if not await self.changes.written():
                return otherwise()
            self._summing.run(ask)
            return await told.addTimeout(PATIENCE, self._clock)
        except (TimeoutError, Trouble):
            return otherwise()

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


def _tell(tell: Callable[[T], None], said: T) -> None:
    # It may have been cancelled.
    with suppress(AlreadyCalledError):
        tell(said)
