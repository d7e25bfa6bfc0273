# -*- test-case-name: tests.store.test_records -*-
"""
Records in a database.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, TypeVar, cast

from sqlalchemy import Connection
from twisted.internet.defer import Deferred, succeed

from openai_server.store.interfaces import Bounds, Entry, isId
from openai_server.store.memory import MemoryStore
from openai_server.store.queries import RecordQueries
from openai_server.store.reading import Reading
from openai_server.store.recordchanges import AppendItems, PutRecord, RemoveItem, RemoveRecord, UseRecord

#: How much later a use counts than the one before, in seconds.
_TICK = 1e-6

T = TypeVar("T")


class SQLRecords:
    """
    See L{openai_server.store.interfaces.RecordStore}. What this process has
    kept itself is in memory too, and is read there while the store is degraded.
    """

    def __init__(
        self, reading: Reading, memory: MemoryStore, bounds: Bounds, now: Callable[[], float]
    ) -> None:
        """
        @param memory: where the same is kept for bad days.
        @param now: the wall clock, in seconds since 1970.
        """
        self._reading = reading
        self._changes = reading.changes
        self._memory = memory
        self._bounds = bounds
        self._now = now
        self._lastUse = 0.0

    def put(self, account: str, id: str, data: bytes, previous: str | None = None) -> Deferred[None]:
        """
        Keep a record.
        """
        if self._memory.keep(account, id, data, previous) and self._bounds.count:
            self._changes.add(PutRecord(account, id, self._use(), data, previous))
        return succeed(None)

    def get(self, account: str, id: str) -> Deferred[bytes | None]:
        """
        Return a record.
        """
        return self._ask(
            id, account, lambda queries: queries.get(id), lambda: self._memory.get(account, id), None
        )

    def chain(self, account: str, id: str) -> Deferred[Sequence[bytes]]:
        """
        Return a record with all that it goes on from. All of them count as
        used.
        """
        nothing: Sequence[Entry] = ()
        reading = self._ask(
            id,
            account,
            lambda queries: queries.chain(id),
            lambda: succeed([("", data) for data in _resultOf(self._memory.chain(account, id))]),
            nothing,
        )
        return reading.addCallback(self._usedAll, account)

    def _usedAll(self, chain: Sequence[Entry], account: str) -> Sequence[bytes]:
        for id, _ in chain:
            if id:
                self._changes.add(UseRecord(account, id, self._use()))
        return [data for _, data in chain]

    def remove(self, account: str, id: str) -> Deferred[bool]:
        """
        Forget a record and its items.
        """
        if not isId(id):
            return succeed(False)
        known = _resultOf(self._memory.remove(account, id))
        return self._changes.ask(RemoveRecord(account, id), known)

    def records(
        self, account: str, prefix: str, *, after: str | None = None, limit: int, newestFirst: bool = False
    ) -> Deferred[Sequence[Entry]]:
        """
        Return records whose ids begin alike.
        """
        return self._ask(
            prefix + (after or ""),
            account,
            lambda queries: queries.records(prefix, after, limit, newestFirst),
            lambda: self._memory.records(account, prefix, after=after, limit=limit, newestFirst=newestFirst),
            (),
        )

    # Items.

    def append(self, account: str, id: str, items: Sequence[Entry]) -> Deferred[bool]:
        """
        Add items to the end of a record's list.
        """
        if not all(isId(each) for each in (id, *[itemId for itemId, _ in items])):
            return succeed(False)
        known = _resultOf(self._memory.append(account, id, items))
        return self._changes.ask(AppendItems(account, id, self._use(), items, self._bounds.size), known)

    def items(
        self,
        account: str,
        id: str,
        *,
        after: str | None = None,
        limit: int | None = None,
        newestFirst: bool = False,
    ) -> Deferred[Sequence[Entry]]:
        """
        Return items of a record.
        """
        if isId(id):
            self._changes.add(UseRecord(account, id, self._use()))
        return self._ask(
            id + (after or ""),
            account,
            lambda queries: queries.items(id, after, limit, newestFirst),
            lambda: self._memory.items(account, id, after=after, limit=limit, newestFirst=newestFirst),
            (),
        )

    def item(self, account: str, id: str, itemId: str) -> Deferred[bytes | None]:
        """
        Return one item.
        """
        return self._ask(
            id + itemId,
            account,
            lambda queries: queries.item(id, itemId),
            lambda: self._memory.item(account, id, itemId),
            None,
        )

    def removeItem(self, account: str, id: str, itemId: str) -> Deferred[bool]:
        """
        Forget one item.
        """
        if not (isId(id) and isId(itemId)):
            return succeed(False)
        known = _resultOf(self._memory.removeItem(account, id, itemId))
        return self._changes.ask(RemoveItem(account, id, itemId), known)

    def _use(self) -> float:
        self._lastUse = used = max(self._now(), self._lastUse + _TICK)
        return used

    def _ask(
        self,
        ids: str,
        account: str,
        query: Callable[[RecordQueries], T],
        otherwise: Callable[[], Deferred[T]],
        nothing: T,
    ) -> Deferred[T]:
        """
        @param ids: the ones that are asked for.
        """
        if not ids.isprintable():
            return succeed(nothing)
        since = self._now() - self._bounds.age

        def asked(connection: Connection) -> T:
            return query(RecordQueries(connection, account, since))

        return self._reading.read(asked, lambda: _resultOf(otherwise()))


def _resultOf(fired: Deferred[T]) -> T:
    """
    Return the result that a Deferred has already.
    """
    return cast(T, cast(Any, fired).result)
