# -*- test-case-name: tests.store.test_state -*-
"""
Changes of state that are made only where it is what somebody believes: of
several processes that try, one alone is told that it was.

Rows are locked in the order of their keys, so that two processes do not wait
for each other.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cache
from typing import Any

from sqlalchemy import ColumnElement, Connection, Select, and_, bindparam, delete, select, update

from openai_server.store.interfaces import PROCESS
from openai_server.store.leasing import timeIn
from openai_server.store.operations import ORDERS, Operation
from openai_server.store.saved import Field, Key, Saved, SavedCall
from openai_server.store.schema import TABLES, columnName, leases


class _Conditional(Operation):
    __slots__ = ("fields", "kind", "now", "order")
    looksAtAll = True

    def __init__(self, kind: type[Saved], fields: Mapping[str, Any], now: float) -> None:
        """
        @param fields: what has to be equal.
        @param now: in seconds since 1970.
        """
        super().__init__((type(self).__name__, kind, tuple(fields.items())))
        self.kind = kind
        self.fields = fields
        self.now = now
        self.order = ORDERS[kind]

    def found(self, connection: Connection, names: Sequence[Key] | None = None) -> list[Key]:
        """
        Lock all that are there with these fields.

        @param names: the keys to look at; None for all.
        @return: their keys.
        """
        values: dict[str, Any] = {f"is_{name}": value for name, value in self.fields.items()}
        if names is not None:
            values["names"] = names
        query = _locking(self.kind, tuple(self.fields), names is not None)
        return list(connection.scalars(query, {**values, "now": self.now}))


@cache
def _locking(kind: type[Saved], fields: Sequence[str], areNamed: bool) -> Select[Any]:
    table = TABLES[kind]
    key = _keyOf(kind)
    given = [table.c[columnName(name)] == bindparam(f"is_{name}") for name in fields]
    if areNamed:
        given.append(key.in_(bindparam("names", expanding=True)))
    query = select(key).where(table.c.expires_at > bindparam("now"), *given)
    return query.order_by(key).with_for_update()


def _keyOf(kind: type[Saved]) -> ColumnElement[Any]:
    (key,) = TABLES[kind].primary_key.columns
    return key


class TakeAll(_Conditional):
    """
    Removes several saved things, if all of them are as they are believed to be.
    """

    __slots__ = ("names",)

    def __init__(
        self, kind: type[Saved], names: Sequence[Key], fields: Mapping[str, Field], now: float
    ) -> None:
        super().__init__(kind, fields, now)
        self.names = sorted(names)
        self.key = (self.key, *self.names)

    def run(self, connection: Connection) -> bool:
        """
        Delete them, or none.
        """
        found = self.found(connection, self.names)
        isAll = len(found) == len(self.names)
        if isAll:
            connection.execute(delete(TABLES[self.kind]).where(_keyOf(self.kind).in_(found)))
        return isAll


class ChangeAll(_Conditional):
    """
    Changes fields of all saved things that are as somebody believes.
    """

    __slots__ = ("to",)

    def __init__(
        self, kind: type[Saved], to: Mapping[str, Field], fields: Mapping[str, Field], now: float
    ) -> None:
        super().__init__(kind, fields, now)
        self.to = to
        self.key = (self.key, *to.items())

    def run(self, connection: Connection) -> bool:
        """
        Update them, if there are any.
        """
        found = self.found(connection)
        if found:
            values = {columnName(name): value for name, value in self.to.items()}
            key = _keyOf(self.kind)
            connection.execute(update(TABLES[self.kind]).where(key.in_(found)).values(values))
        return bool(found)


def abandoned(connection: Connection, limit: int, incarnation: str, now: float) -> Sequence[SavedCall]:
    """
    Return open calls of one daemon's, whose owners hold no lease of their
    process.

    @param now: in seconds since 1970, for a database that has no clock.
    """
    values = {"now": now, "most": limit, "of": incarnation}
    return [SavedCall(*row) for row in connection.execute(_abandoned(connection.dialect.name), values)]


def parkedSids(connection: Connection, owner: str, now: float) -> frozenset[str]:
    """
    Return the sids of all open calls that a process owns.

    @param now: in seconds since 1970.
    """
    calls = TABLES[SavedCall]
    query = select(calls.c.sid).where(calls.c.owner == owner, calls.c.is_open, calls.c.expires_at > now)
    return frozenset(connection.scalars(query))


@cache
def _abandoned(dialect: str) -> Select[Any]:
    calls = TABLES[SavedCall]
    isHeld = and_(leases.c.name == PROCESS + calls.c.owner, leases.c.expires_at > timeIn(dialect))
    query = select(calls).where(
        calls.c.is_open,
        calls.c.incarnation == bindparam("of"),
        calls.c.expires_at > bindparam("now"),
        ~select(leases.c.name).where(isHeld).exists(),
    )
    return query.order_by(calls.c.public_id).limit(bindparam("most"))
