# -*- test-case-name: tests.store -*-
"""
What can be read, as SQL.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, cast

from sqlalchemy import ColumnElement, Connection, Select, and_, func, select

from openai_server.store.interfaces import Entry
from openai_server.store.saved import Key, S
from openai_server.store.schema import TABLES, columnName, items, records


class RecordQueries:
    """
    Reads one account's records.

    @ivar _here: what picks them.
    """

    def __init__(self, connection: Connection, account: str, since: float) -> None:
        """
        @param since: those that were not used since are not there any more, in
            seconds since 1970.
        """
        self._connection = connection
        self._here = and_(records.c.account == account, records.c.used > since)

    def get(self, id: str) -> bytes | None:
        """
        Return a record.
        """
        query = select(records.c.data).where(self._here, records.c.id == id)
        return cast("bytes | None", self._connection.scalar(query))

    def chain(self, id: str) -> Sequence[Entry]:
        """
        Return a record with all that it goes on from, the oldest first.
        """
        first = select(records.c.id, records.c.previous).where(self._here, records.c.id == id)
        chain = first.cte("chain", recursive=True)
        further = select(records.c.id, records.c.previous).where(self._here, records.c.id == chain.c.previous)
        # Not all: a circle comes to an end.
        chain = chain.union(further)
        query = select(records.c.id, records.c.previous, records.c.data).where(
            self._here, records.c.id.in_(select(chain.c.id))
        )
        found = {row.id: (row.previous, row.data) for row in self._connection.execute(query)}
        made: list[Entry] = []
        at: str | None = id
        while at is not None:
            if at not in found:
                return ()
            previous, data = found.pop(at)
            made.append((at, data))
            at = previous
        return made[::-1]

    def records(self, prefix: str, after: str | None, limit: int, newestFirst: bool) -> Sequence[Entry]:
        """
        Return records whose ids begin alike.
        """
        begins = func.substr(records.c.id, 1, len(prefix)) == prefix
        here = and_(self._here, begins) if prefix else self._here
        query = select(records.c.id, records.c.data).where(here)
        return self._page(query, select(records.c.place).where(here), records, after, limit, newestFirst)

    def items(self, id: str, after: str | None, limit: int | None, newestFirst: bool) -> Sequence[Entry]:
        """
        Return items of a record.
        """
        here = items.c.record == self._place(id)
        query = select(items.c.id, items.c.data).where(here)
        return self._page(query, select(items.c.place).where(here), items, after, limit, newestFirst)

    def item(self, id: str, itemId: str) -> bytes | None:
        """
        Return one item.
        """
        query = select(items.c.data).where(items.c.record == self._place(id), items.c.id == itemId)
        return cast("bytes | None", self._connection.scalar(query))

    def _place(self, id: str) -> Any:
        return select(records.c.place).where(self._here, records.c.id == id).scalar_subquery()

    def _page(
        self,
        query: Select[Any],
        places: Select[Any],
        table: Any,
        after: str | None,
        limit: int | None,
        newestFirst: bool,
    ) -> Sequence[Entry]:
        place: ColumnElement[int] = table.c.place
        if after is not None:
            start = self._connection.scalar(places.where(table.c.id == after))
            if start is None:
                return ()
            query = query.where(place < start if newestFirst else place > start)
        query = query.order_by(place.desc() if newestFirst else place)
        if limit is not None:
            query = query.limit(limit)
        return [(row[0], row[1]) for row in self._connection.execute(query)]


def stateUnder(connection: Connection, kind: type[S], key: Key, now: float) -> S | None:
    """
    Return what is saved under this key.

    @param now: in seconds since 1970.
    """
    table = TABLES[kind]
    (name,) = table.primary_key.columns
    row = connection.execute(select(table).where(name == key, table.c.expires_at > now)).first()
    return None if row is None else cast(Any, kind)(*row)


def stateWith(
    connection: Connection, kind: type[S], fields: Mapping[str, object], limit: int, now: float
) -> Sequence[S]:
    """
    Return what is saved with these fields, what expires last first.
    """
    table = TABLES[kind]
    query = select(table).where(table.c.expires_at > now)
    for field, value in fields.items():
        query = query.where(table.c[columnName(field)] == value)
    rows = connection.execute(query.order_by(table.c.expires_at.desc()).limit(limit))
    make = cast(Any, kind)
    return [make(*row) for row in rows]
