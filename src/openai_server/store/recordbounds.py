# -*- test-case-name: tests.store.test_records -*-
"""
How much is kept of records.

What there is in all is counted once, and again from time to time, since others
may have changed it; in between it is known from what was changed.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any, Final, TypeAlias

from sqlalchemy import ARRAY, Connection, Select, String, any_, bindparam, delete, func, select

from openai_server.store.interfaces import OVERHEAD, Bounds
from openai_server.store.manyrows import deleteRows
from openai_server.store.recordchanges import PutRecord, RecordChange, UseRecord, measure
from openai_server.store.schema import records

#: One part in so many of the bound is deleted beyond what has to be: not with
#: each change there is something to delete then.
_SLACK: Final = 100
#: Records that are read at a time.
_PORTION: Final = 500

_forgetting: Final = delete(records).where(records.c.used <= bindparam("since")).returning(records.c.size)
_tooLarge: Final = delete(records).where(records.c.size > bindparam("most")).returning(records.c.size)
_totals: Final = select(func.count(), func.coalesce(func.sum(records.c.size), 0))
_oldest: Final = select(records.c.place, records.c.size).order_by(records.c.used, records.c.place)
_deleting: Final = delete(records)

#: Bytes of records, by their accounts and ids.
Sizes: TypeAlias = dict[tuple[str, str], int]


@dataclass(frozen=True)
class Extent:
    """
    How much the records are.

    @ivar size: bytes of all together.
    """

    count: int
    size: int


class RecordBounds:
    """
    Keeps the records within bounds.

    @ivar held: how much there is; None while that is not known.
    """

    def __init__(self, bounds: Bounds) -> None:
        self._bounds = bounds
        self.held: Extent | None = None

    def recount(self) -> None:
        """
        Look again how much there is: others may have added to it, or a change
        may not have been written.
        """
        self.held = None

    def forgetOld(self, connection: Connection, now: float) -> None:
        """
        Delete those that were not used for too long.
        """
        gone = connection.execute(_forgetting, {"since": now - self._bounds.age}).scalars().all()
        self._changed(-len(gone), -sum(gone))

    def begun(self, connection: Connection, changes: Sequence[RecordChange]) -> Sizes:
        """
        Note that these changes are written next.

        @return: what there is of their records.
        """
        if self.held is None:
            self.held = Extent(*map(int, connection.execute(_totals).one()))
        return _sizesOf(connection, changes)

    def makeRoom(self, connection: Connection, changes: Sequence[RecordChange], before: Sizes) -> None:
        """
        Delete those for which there is no room after these changes, the one
        that was used longest ago first.

        @param before: what there was of their records.
        """
        measure(connection, changes)
        after = _after(connection, changes, before)
        self._changed(len(after) - len(before), sum(after.values()) - sum(before.values()))
        if max(after.values(), default=0) > self._bounds.size:
            gone = connection.execute(_tooLarge, {"most": self._bounds.size}).scalars().all()
            self._changed(-len(gone), -sum(gone))
        assert self.held is not None
        if self.held.count > self._bounds.count or self.held.size > self._bounds.size:
            self._cut(connection, self.held)

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
        if self.held is not None:
            self.held = Extent(self.held.count + count, self.held.size + size)


def _after(connection: Connection, changes: Sequence[RecordChange], before: Sizes) -> Sizes:
    new: Sizes = {}
    others: list[RecordChange] = []
    for change in changes:
        if type(change) is PutRecord and (change.account, change.id) not in before:
            new[change.account, change.id] = len(change.data) + OVERHEAD
        elif type(change) is not UseRecord:
            others.append(change)
    # What has become of those is for the database to say.
    for change in others:
        new.pop((change.account, change.id), None)
    return new | _sizesOf(connection, others)


def _sizesOf(connection: Connection, changes: Sequence[RecordChange]) -> Sizes:
    """
    Return the bytes of those of the records that are there and may become more
    or less: to be used does not change them.
    """
    ids: dict[str, set[str]] = {}
    for change in changes:
        if type(change) is not UseRecord:
            ids.setdefault(change.account, set()).add(change.id)
    dialect = connection.dialect.name
    found: Sizes = {}
    for account, those in ids.items():
        these = list(those) if dialect == "postgresql" else json.dumps(list(those))
        rows = connection.execute(_sizes(dialect), {"of": account, "these": these})
        found.update([((account, id), size) for id, size in rows])
    return found


@cache
def _sizes(dialect: str) -> Select[Any]:
    """
    Return what asks for records of an account, however many, with one parameter.
    """
    if dialect == "postgresql":
        isOne = records.c.id == any_(bindparam("these", type_=ARRAY(String)))
    else:
        isOne = records.c.id.in_(select(func.json_each(bindparam("these")).table_valued("value").c.value))
    return select(records.c.id, records.c.size).where(records.c.account == bindparam("of"), isOne)
