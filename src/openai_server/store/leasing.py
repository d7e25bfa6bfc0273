# -*- test-case-name: tests.store.test_state -*-
"""
Leases as rows: who may do what, of several processes.

Time is the database's where it has one, since machines differ.
"""

from __future__ import annotations

from functools import cache
from typing import Any, Final

from sqlalchemy import (
    ColumnElement,
    Connection,
    Float,
    bindparam,
    cast,
    delete,
    literal_column,
    select,
    update,
)

from openai_server.store.operations import Operation, inserting
from openai_server.store.saved import KINDS
from openai_server.store.schema import leases


class _Leasing(Operation):
    __slots__ = ("name", "now", "owner", "ttl")
    order = len(KINDS)

    def __init__(self, name: str, owner: str, now: float, ttl: float = 0.0) -> None:
        """
        @param now: in seconds since 1970, for a database that has no clock.
        """
        super().__init__(("lease", name))
        self.name = name
        self.owner = owner
        self.now = now
        self.ttl = ttl

    @property
    def values(self) -> dict[str, object]:
        """
        What stands in the statements for it.
        """
        return {"this": self.name, "by": self.owner, "now": self.now, "ttl": self.ttl}


_ofOwner: Final = leases.c.owner == bindparam("by")
_own: Final = (leases.c.name == bindparam("this")) & _ofOwner


class AcquireLease(_Leasing):
    """
    Takes a lease that is free, or the owner's own.
    """

    __slots__ = ()

    def replaces(self, former: Operation) -> bool:
        """
        The same of a moment ago.
        """
        return isinstance(former, AcquireLease) and former.owner == self.owner

    def run(self, connection: Connection) -> bool:
        """
        Insert it, or write over one that is free.
        """
        statement = _acquiring(connection.dialect.name)
        return connection.execute(statement, self.values).first() is not None


@cache
def _acquiring(dialect: str) -> Any:
    now = timeIn(dialect)
    owner: ColumnElement[str] = bindparam("by")
    made = inserting(dialect, leases).values(
        name=bindparam("this"), owner=owner, expires_at=now + bindparam("ttl", type_=Float(53))
    )
    taking = made.on_conflict_do_update(
        index_elements=[leases.c.name],
        set_={"owner": made.excluded.owner, "expires_at": made.excluded.expires_at},
        where=(leases.c.expires_at <= now) | (leases.c.owner == made.excluded.owner),
    )
    return taking.returning(leases.c.name)


class RenewLease(_Leasing):
    """
    Puts off the end of a lease of the owner's own.
    """

    __slots__ = ()

    def run(self, connection: Connection) -> bool:
        """
        Update it, if it is there.
        """
        until = timeIn(connection.dialect.name) + bindparam("ttl", type_=Float(53))
        statement = update(leases).where(_own).values(expires_at=until)
        return connection.execute(statement, self.values).rowcount > 0


class ReleaseLease(_Leasing):
    """
    Gives a lease back.
    """

    __slots__ = ()

    def run(self, connection: Connection) -> bool:
        """
        Delete it, if it is the owner's.
        """
        values = {"this": self.name, "by": self.owner}
        return connection.execute(delete(leases).where(_own), values).rowcount > 0


class _LeasingAll(Operation):
    __slots__ = ("_now", "_owner", "_ttl")
    order = len(KINDS)

    def __init__(self, owner: str, now: float = 0.0, ttl: float = 0.0) -> None:
        super().__init__(("leases", owner))
        self._owner = owner
        self._now = now
        self._ttl = ttl


class RenewLeases(_LeasingAll):
    """
    Puts off the end of all leases of one owner.
    """

    __slots__ = ()

    def replaces(self, former: Operation) -> bool:
        """
        The same of a moment ago.
        """
        return isinstance(former, RenewLeases)

    def run(self, connection: Connection) -> int:
        """
        Update them.
        """
        until = timeIn(connection.dialect.name) + bindparam("ttl", type_=Float(53))
        statement = update(leases).where(_ofOwner).values(expires_at=until)
        values = {"by": self._owner, "now": self._now, "ttl": self._ttl}
        return connection.execute(statement, values).rowcount


class ReleaseLeases(_LeasingAll):
    """
    Gives all leases of one owner back.
    """

    __slots__ = ()

    def run(self, connection: Connection) -> int:
        """
        Delete them.
        """
        return connection.execute(delete(leases).where(_ofOwner), {"by": self._owner}).rowcount


def leaseHolder(connection: Connection, name: str, now: float) -> str | None:
    """
    Return whose a lease is; None when it is free.

    @param now: in seconds since 1970, for a database that has no clock.
    """
    isHeld = (leases.c.name == bindparam("this")) & (leases.c.expires_at > timeIn(connection.dialect.name))
    return connection.scalar(select(leases.c.owner).where(isHeld), {"this": name, "now": now})


def timeIn(dialect: str) -> ColumnElement[float]:
    """
    Return the time of day in seconds since 1970, for a statement with a C{now}
    where the database has no clock.
    """
    if dialect == "postgresql":
        return cast(literal_column("extract(epoch from clock_timestamp())", Float(53)), Float(53))
    return bindparam("now", type_=Float(53))
