# -*- test-case-name: tests.store.test_records -*-
"""
Changes of records and their items.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from typing import Any, Final

from sqlalchemy import ColumnElement, Connection, Insert, bindparam, delete, func, select, update

from openai_server.store.interfaces import OVERHEAD, Entry
from openai_server.store.manyrows import insertRows
from openai_server.store.operations import Operation, encode, inserting
from openai_server.store.saved import KINDS
from openai_server.store.schema import items, records

#: What the entries of records begin with.
RECORD: Final = "record"

_one: Final = (records.c.account == bindparam("one")) & (records.c.id == bindparam("two"))
_using: Final = update(records).where(_one).values(used=bindparam("at"))
_held: Final = (
    select(func.coalesce(func.sum(func.length(items.c.data) + OVERHEAD), 0))
    .where(items.c.record == records.c.place)
    .scalar_subquery()
)
_measuring: Final = update(records).where(_one).values(size=func.length(records.c.data) + OVERHEAD + _held)


class RecordChange(Operation):
    """
    A change of one record.

    @ivar used: when it was used last, in seconds since 1970.
    """

    __slots__ = ("account", "id", "used")
    order = len(KINDS) + 1

    def __init__(self, account: str, id: str, used: float = 0.0, size: int = 0) -> None:
        super().__init__(("record", account, id), size)
        self.account = account
        self.id = id
        self.used = used

    @property
    def isThis(self) -> ColumnElement[bool]:
        """
        What picks the record.
        """
        return (records.c.account == self.account) & (records.c.id == self.id)


class PutRecord(RecordChange):
    """
    Keeps a record.
    """

    __slots__ = ("data", "previous")

    def __init__(self, account: str, id: str, used: float, data: bytes, previous: str | None) -> None:
        super().__init__(account, id, used, len(data))
        self.data = data
        self.previous = previous

    @property
    def entry(self) -> bytes:
        """
        What it was made of.
        """
        return encode((RECORD, [self.account, self.id, self.used, self.data, self.previous]))

    def replaces(self, former: Operation) -> bool:
        """
        Another content, and another use.
        """
        return isinstance(former, (PutRecord, UseRecord))

    @classmethod
    def write(cls, connection: Connection, changes: Sequence[PutRecord]) -> Sequence[Any]:
        """
        Insert them, or write them over those that are there.
        """
        rows = [
            (each.account, each.id, each.previous, each.used, len(each.data) + OVERHEAD, each.data)
            for each in changes
        ]
        names = ("account", "id", "previous", "used", "size", "data")
        insertRows(connection, _putting(connection.dialect.name), names, rows)
        return [None] * len(rows)


@cache
def _putting(dialect: str) -> Insert:
    made = inserting(dialect, records)
    isIn = made.excluded
    return made.on_conflict_do_update(  # type: ignore[no-any-return]
        index_elements=[records.c.account, records.c.id],
        set_={
            "previous": isIn.previous,
            "used": isIn.used,
            # The items stay, and their sizes with them.
            "size": records.c.size - func.length(records.c.data) + func.length(isIn.data),
            "data": isIn.data,
        },
    )


class UseRecord(RecordChange):
    """
    Notes that a record was used.
    """

    __slots__ = ()

    def replaces(self, former: Operation) -> bool:
        """
        An earlier use.
        """
        return isinstance(former, UseRecord)

    @classmethod
    def write(cls, connection: Connection, changes: Sequence[UseRecord]) -> Sequence[Any]:
        """
        Update them.
        """
        rows = [{"one": change.account, "two": change.id, "at": change.used} for change in changes]
        connection.execute(_using, rows)
        return [None] * len(rows)


class RemoveRecord(RecordChange):
    """
    Forgets a record and its items.
    """

    __slots__ = ()

    @property
    def entry(self) -> bytes:
        """
        What it was made of.
        """
        return encode((RECORD, [self.account, self.id]))

    def run(self, connection: Connection) -> bool:
        """
        Delete it; its items go with it.
        """
        return connection.execute(delete(records).where(self.isThis)).rowcount > 0


class AppendItems(RecordChange):
    """
    Adds items to a record's list.
    """

    __slots__ = ("_most", "added")

    def __init__(self, account: str, id: str, used: float, added: Sequence[Entry], most: int) -> None:
        """
        @param most: bytes that the record may have with all its items.
        """
        super().__init__(account, id, used, sum([len(data) for _, data in added]))
        self.added = added
        self._most = most

    def run(self, connection: Connection) -> bool:
        """
        Insert them, if the record is there and there is room for it with them.
        """
        columns = (records.c.place, func.length(records.c.data))
        using = update(records).where(self.isThis).values(used=self.used).returning(*columns)
        row = connection.execute(using).first()
        if row is None:
            return False
        place, size = row
        added = dict(self.added)
        others = select(func.sum(func.length(items.c.data) + OVERHEAD)).where(
            items.c.record == place, items.c.id.not_in(list(added))
        )
        size += OVERHEAD + int(connection.scalar(others) or 0)
        if size + sum([len(data) + OVERHEAD for data in added.values()]) > self._most:
            return False
        made = inserting(connection.dialect.name, items)
        statement = made.on_conflict_do_update(
            index_elements=[items.c.record, items.c.id], set_={"data": made.excluded.data}
        )
        if self.added:
            rows = [{"record": place, "id": id, "data": data} for id, data in self.added]
            connection.execute(statement, rows)
        return True


class RemoveItem(RecordChange):
    """
    Forgets one item.
    """

    __slots__ = ("itemId",)

    def __init__(self, account: str, id: str, itemId: str) -> None:
        super().__init__(account, id)
        self.itemId = itemId

    def run(self, connection: Connection) -> bool:
        """
        Delete it.
        """
        record = select(records.c.place).where(self.isThis).scalar_subquery()
        isOne = (items.c.record == record) & (items.c.id == self.itemId)
        return connection.execute(delete(items).where(isOne)).rowcount > 0


def measure(connection: Connection, changes: Sequence[RecordChange]) -> None:
    """
    Put the sizes of records right whose items were changed.
    """
    rows = [
        {"one": change.account, "two": change.id}
        for change in changes
        if isinstance(change, (AppendItems, RemoveItem))
    ]
    if rows:
        connection.execute(_measuring, rows)
