# -*- test-case-name: tests.store.test_records -*-
"""
How much is kept of records.

What there is in all is counted once, and again from time to time, since others
may have changed it; in between it is known from what was changed.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any, Final

from sqlalchemy import Connection, Select, bindparam, delete, func, select

from openai_server.store.interfaces import Bounds
from openai_server.store.manyrows import deleteRows
from openai_server.store.recordchanges import RecordChange, measure
from openai_server.store.schema import records

#: One part in so many of the bound is deleted beyond what has to be: not with
#: each change there is something to delete then.
_SLACK: Final = 100
#: Records that are looked at with one statement.
_PORTION: Final = 500

_forgetting: Final = delete(records).where(records.c.used <= bindparam("since")).returning(records.c.size)
_tooLarge: Final = delete(records).where(records.c.size > bindparam("most")).returning(records.c.size)
_totals: Final = select(
    func.count(), func.coalesce(func.sum(records.c.size), 0), func.coalesce(func.max(records.c.size), 0)
)
_these: Final = _totals.where(
    records.c.account == bindparam("of"), records.c.id.in_(bindparam("these", expanding=True))
)
_oldest: Final = select(records.c.place, records.c.size).order_by(records.c.used, records.c.place)
_deleting: Final = delete(records)


@dataclass(frozen=True)
class Extent:
    """
    How much some records are.

    @ivar size: bytes of all together.
    @ivar largest: bytes of the largest.
    """

    count: int
    size: int
    largest: int = 0


class RecordBounds:
    """
    Keeps the records within bounds.

    @ivar _all: how much there is; None while that is not known.
    @ivar _before: how much there was of the records that are changed.
    """

    def __init__(self, bounds: Bounds) -> None:
        self._bounds = bounds
        self._all: Extent | None = None
        self._before = Extent(0, 0)

    def recount(self) -> None:
        """
        Look again how much there is: others may have added to it, or a change
        may not have been written.
        """
        self._all = None

    def forgetOld(self, connection: Connection, now: float) -> None:
        """
        Delete those that were not used for too long.
        """
        gone = connection.execute(_forgetting, {"since": now - self._bounds.age}).scalars().all()
        self._changed(-len(gone), -sum(gone))

    def begun(self, connection: Connection, changes: Sequence[RecordChange]) -> None:
        """
        Note that these changes are written next.
        """
        if self._all is None:
            self._all = _extent(connection, _totals)
        self._before = _extentOf(connection, changes)

    def makeRoom(self, connection: Connection, changes: Sequence[RecordChange]) -> None:
        """
        Delete those for which there is no room after these changes, the one
        that was used longest ago first.
        """
        measure(connection, changes)
        after = _extentOf(connection, changes)
        self._changed(after.count - self._before.count, after.size - self._before.size)
        if after.largest > self._bounds.size:
            gone = connection.execute(_tooLarge, {"most": self._bounds.size}).scalars().all()
            self._changed(-len(gone), -sum(gone))
        assert self._all is not None
        if self._all.count > self._bounds.count or self._all.size > self._bounds.size:
            self._cut(connection, self._all)

    def _cut(self, connection: Connection, all_: Extent) -> None:
        bounds = self._bounds
        count = all_.count - bounds.count + bounds.count // _SLACK
        size = all_.size - bounds.size + bounds.size // _SLACK
        gone: list[int] = []
        goneSize = 0
        with connection.execute(_oldest, execution_options={"yield_per": _PORTION}) as rows:
            for place, each in rows:
                if len(gone) >= count and goneSize >= size:
                    break
                gone.append(place)
                goneSize += each
        deleteRows(connection, _deleting, records.c.place, gone)
        self._changed(-len(gone), -goneSize)

    def _changed(self, count: int, size: int) -> None:
        if self._all is not None:
            self._all = Extent(self._all.count + count, self._all.size + size)


def _extentOf(connection: Connection, changes: Sequence[RecordChange]) -> Extent:
    """
    Return how much there is of the records that are changed.
    """
    ids: dict[str, set[str]] = {}
    for change in changes:
        ids.setdefault(change.account, set()).add(change.id)
    found = Extent(0, 0)
    for account, those in ids.items():
        waiting = iter(those)
        while these := list(islice(waiting, _PORTION)):
            part = _extent(connection, _these, of=account, these=these)
            largest = max(found.largest, part.largest)
            found = Extent(found.count + part.count, found.size + part.size, largest)
    return found


def _extent(connection: Connection, query: Select[Any], **values: Any) -> Extent:
    return Extent(*map(int, connection.execute(query, values).one()))
