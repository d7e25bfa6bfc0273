# -*- test-case-name: tests.store -*-
"""
What can be read, as SQL. Each statement is built once: that costs more than
to run it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cache
from sys import intern
from typing import Any, Final, cast

from sqlalchemy import ColumnElement, Connection, Select, Table, and_, bindparam, func, select

from openai_server.store.interfaces import Entry
from openai_server.store.saved import Key, S, Saved
from openai_server.store.schema import TABLES, columnName, items, records

#: Rows that are taken from the database at a time.
_ROWS: Final = 500

_here: Final = and_(records.c.account == bindparam("of"), records.c.used > bindparam("since"))
_this: Final = and_(_here, records.c.id == bindparam("this"))
_place: Final = select(records.c.place).where(_this).scalar_subquery()
_get: Final = select(records.c.data).where(_this)
_item: Final = select(items.c.data).where(items.c.record == _place, items.c.id == bindparam("item"))


@cache
def _chain() -> Select[Any]:
    columns = (records.c.id, records.c.previous)
    chain = select(*columns).where(_this).cte("chain", recursive=True)
    # Not all: a circle comes to an end.
    chain = chain.union(select(*columns).where(_here, records.c.id == chain.c.previous))
    return select(*columns, records.c.data).where(_here, records.c.id.in_(select(chain.c.id)))


class RecordQueries:
    """
    Reads one account's records.
    """

    def __init__(self, connection: Connection, account: str, since: float) -> None:
        """
        @param since: those that were not used since are not there any more, in
            seconds since 1970.
        """
        self._connection = connection
        self._of = {"of": account, "since": since}

    def get(self, id: str) -> bytes | None:
        """
        Return a record.
        """
        return cast("bytes | None", self._connection.scalar(_get, {**self._of, "this": id}))

    def chain(self, id: str) -> Sequence[Entry]:
        """
        Return a record with all that it goes on from, the oldest first.
        """
        rows = self._connection.execute(_chain(), {**self._of, "this": id})
        found = {row.id: (row.previous, row.data) for row in rows}
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
        values = {**self._of, "prefix": prefix, "length": len(prefix)}
        begins = func.substr(records.c.id, 1, bindparam("length")) == bindparam("prefix")
        return self._page(records, and_(_here, begins), values, after, limit, newestFirst)

    def items(self, id: str, after: str | None, limit: int | None, newestFirst: bool) -> Sequence[Entry]:
        """
        Return items of a record.
        """
        values = {**self._of, "this": id}
        return self._page(items, items.c.record == _place, values, after, limit, newestFirst)

    def item(self, id: str, itemId: str) -> bytes | None:
        """
        Return one item.
        """
        values = {**self._of, "this": id, "item": itemId}
        return cast("bytes | None", self._connection.scalar(_item, values))

    def _page(
        self,
        table: Table,
        here: ColumnElement[bool],
        values: Mapping[str, object],
        after: str | None,
        limit: int | None,
        newestFirst: bool,
    ) -> Sequence[Entry]:
        place: ColumnElement[int] = table.c.place
        query = select(table.c.id, table.c.data).where(here)
        if after is not None:
            first = select(place).where(here, table.c.id == bindparam("after"))
            start = self._connection.scalar(first, {**values, "after": after})
            if start is None:
                return ()
            query = query.where(place < start if newestFirst else place > start)
        query = query.order_by(place.desc() if newestFirst else place).limit(limit)
        return [(row[0], row[1]) for row in self._connection.execute(query, values)]


def stateUnder(connection: Connection, kind: type[S], key: Key, now: float) -> S | None:
    """
    Return what is saved under this key.

    @param now: in seconds since 1970.
    """
    row = connection.execute(_underKey(kind), {"key": key, "now": now}).first()
    return None if row is None else cast(Any, kind)(*row)


@cache
def _underKey(kind: type[Saved]) -> Select[Any]:
    table = TABLES[kind]
    (name,) = table.primary_key.columns
    return select(table).where(name == bindparam("key"), table.c.expires_at > bindparam("now"))


def stateWith(
    connection: Connection, kind: type[S], fields: Mapping[str, object], limit: int, now: float
) -> Sequence[S]:
    """
    Return what is saved with these fields, what expires last first.
    """
    empty = frozenset(name for name, value in fields.items() if value is None)
    query = _withFields(kind, frozenset(fields) - empty, empty)
    values = {f"is_{name}": value for name, value in fields.items() if value is not None}
    rows = connection.execution_options(yield_per=_ROWS).execute(query, {**values, "now": now, "most": limit})
    make = cast(Any, kind)
    if "account" not in kind.__struct_fields__:
        return [make(*row) for row in rows]
    # There are many of few accounts.
    return [make(row[0], intern(row[1]), *row[2:]) for row in rows]


@cache
def _withFields(kind: type[Saved], fields: frozenset[str], empty: frozenset[str]) -> Select[Any]:
    table = TABLES[kind]
    expires = table.c.expires_at
    given = [table.c[columnName(name)] == bindparam(f"is_{name}") for name in sorted(fields)]
    missing = [table.c[columnName(name)].is_(None) for name in sorted(empty)]
    query = select(table).where(expires > bindparam("now"), *given, *missing)
    return query.order_by(expires.desc()).limit(bindparam("most"))
