# -*- test-case-name: tests.store.test_state -*-
"""
Leases as rows: who may do what, of several processes.

Time is the database's where it has one, since machines differ.
"""

from __future__ import annotations

from typing import Any, ClassVar

from sqlalchemy import Connection, Float, delete, literal, literal_column, update

from openai_server.store.operations import Operation, inserting
from openai_server.store.saved import KINDS
from openai_server.store.schema import leases


class _Leasing(Operation):
    __slots__ = ("name", "now", "owner", "ttl")
    order: ClassVar[int] = len(KINDS)

    def __init__(self, name: str, owner: str, now: float, ttl: float = 0.0) -> None:
        """
        @param now: in seconds since 1970, for a database that has no clock.
        """
        super().__init__(("lease", name))
        self.name = name
        self.owner = owner
        self.now = now
        self.ttl = ttl


class AcquireLease(_Leasing):
    """
    Takes a lease that is free, or the owner's own.
    """

    __slots__ = ()

    def run(self, connection: Connection) -> bool:
        """
        Insert it, or write over one that is free.
        """
        now = _timeIn(connection, self.now)
        made = inserting(connection, leases)
        until = made.excluded.expires_at
        isFree = (leases.c.expires_at <= now) | (leases.c.owner == self.owner)
        statement = made.values(
            name=self.name, owner=self.owner, expires_at=now + self.ttl
        ).on_conflict_do_update(
            index_elements=[leases.c.name], set_={"owner": self.owner, "expires_at": until}, where=isFree
        )
        return connection.execute(statement.returning(leases.c.name)).first() is not None


class RenewLease(_Leasing):
    """
    Puts off the end of a lease of the owner's own.
    """

    __slots__ = ()

    def run(self, connection: Connection) -> bool:
        """
        Update it, if it is there.
        """
        now = _timeIn(connection, self.now)
        own = (leases.c.name == self.name) & (leases.c.owner == self.owner)
        return connection.execute(update(leases).where(own).values(expires_at=now + self.ttl)).rowcount > 0


class ReleaseLease(_Leasing):
    """
    Gives a lease back.
    """

    __slots__ = ()

    def run(self, connection: Connection) -> bool:
        """
        Delete it, if it is the owner's.
        """
        own = (leases.c.name == self.name) & (leases.c.owner == self.owner)
        return connection.execute(delete(leases).where(own)).rowcount > 0


def _timeIn(connection: Connection, now: float) -> Any:
    if connection.dialect.name == "postgresql":
        return literal_column("extract(epoch from clock_timestamp())", Float(53)).cast(Float(53))
    return literal(now, Float(53))
