# -*- test-case-name: tests.store.test_sharedrecords -*-
"""
Records that several processes keep in one store.

A client that has its answer from one process may go on from it at another one
in the next millisecond, before it is written. So each process writes its
records at once, and one that does not find a record looks again when others
have had the time to write theirs.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Final, TypeVar

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorTime
from twisted.internet.task import deferLater

from openai_server.store.interfaces import RecordStore, Store

#: Seconds in which what another process has just kept is written, when all is well.
BEHIND: Final = 0.3

T = TypeVar("T")


class SharedRecords:
    """
    See L{openai_server.store.interfaces.RecordStore}.
    """

    def __init__(self, store: Store, clock: IReactorTime) -> None:
        records = self._records = store.records
        self._state = store.state
        self._clock = clock
        self.records = records.records
        self.append = records.append
        self.items = records.items
        self.item = records.item
        self.removeItem = records.removeItem

    async def _put(self, account: str, id: str, data: bytes, previous: str | None) -> None:
        await self._records.put(account, id, data, previous)
        await self._state.durable()

    def put(self, account: str, id: str, data: bytes, previous: str | None = None) -> Deferred[None]:
        """
        Keep a record.
        """
        return Deferred.fromCoroutine(self._put(account, id, data, previous))

    def get(self, account: str, id: str) -> Deferred[bytes | None]:
        """
        Return a record.
        """
        return self._found(partial(self._records.get, account, id))

    def chain(self, account: str, id: str) -> Deferred[Sequence[bytes]]:
        """
        Return a record with all that it goes on from.
        """
        return self._found(partial(self._records.chain, account, id))

    def remove(self, account: str, id: str) -> Deferred[bool]:
        """
        Forget a record and its items.
        """
        return self._found(partial(self._records.remove, account, id))

    def _found(self, look: Callable[[], Deferred[T]]) -> Deferred[T]:
        async def found() -> T:
            first = await look()
            if first:
                return first
            await deferLater(self._clock, BEHIND)
            return await look()

        return Deferred.fromCoroutine(found())


def recordsOf(store: Store, clock: IReactorTime) -> RecordStore:
    """
    Return the records of a store, whoever shares it.
    """
    return SharedRecords(store, clock) if store.state.isShared else store.records
