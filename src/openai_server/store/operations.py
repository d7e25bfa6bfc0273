# -*- test-case-name: tests.store -*-
"""
Changes of what is kept, each of which is written as SQL some time later, many
in one transaction.

Two changes of one key become one where the later one leaves nothing of the
earlier: see L{Operation.replaces}.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Sequence
from functools import cache
from itertools import groupby
from operator import attrgetter, itemgetter
from typing import Any, ClassVar, Final, cast, get_type_hints

import msgspec
from sqlalchemy import Column, Connection, Delete, Insert, Table, bindparam, delete, func, select
from sqlalchemy.dialects import postgresql, sqlite

from openai_server.store.manyrows import deleteRows, insertRows
from openai_server.store.saved import KINDS, LOSABLE, Key, Saved
from openai_server.store.schema import TABLES

#: Bytes that a change takes beside its values.
BESIDE: Final = 200

_LENGTHY: Final = (str, bytes, str | None, bytes | None)
#: The orders of changes of state: of each kind, that of its table.
ORDERS: Final = {kind: order for order, kind in enumerate(KINDS)}
#: Makes entries.
encode: Final = msgspec.msgpack.Encoder().encode


class Operation:
    """
    One change.

    @ivar order: those of one order are written together, the lowest first;
        they have nothing to do with those of another. Those of one order and
        class can be written with one statement.
    @ivar key: what it changes.
    @ivar size: bytes that it takes.
    @cvar looksAtAll: whether it sees what all those of its order before it
        have left, and not only those of its own key.
    @ivar isWaiting: whether it waits to be written, and may still become more.
    @ivar isPromised: whether somebody waits for it to be written.
    @ivar mayBeWritten: whether a database may have it that has not confirmed it.
    """

    __slots__ = ("isPromised", "isWaiting", "key", "mayBeWritten", "size")
    order: int = 0
    looksAtAll: ClassVar[bool] = False

    def __init__(self, key: Hashable, size: int = 0) -> None:
        self.key = key
        self.size = BESIDE + size
        self.isWaiting = False
        self.isPromised = False
        self.mayBeWritten = False

    def replaces(self, former: Operation) -> bool:
        """
        Whether nothing is left of a former change of the same key.
        """
        return False

    @property
    def entry(self) -> bytes | None:
        """
        What it takes to make it again; None for a change that may be lost.
        """
        return None

    @classmethod
    def write(cls, connection: Connection, changes: Sequence[Any]) -> Sequence[Any]:
        """
        Write changes of one order and class.

        @return: what came of each.
        """
        return [change.run(connection) for change in changes]

    def run(self, connection: Connection) -> Any:
        """
        Write this change.

        @return: what came of it.
        """
        raise NotImplementedError


def writeAll(connection: Connection, changes: Iterable[Operation]) -> list[Any]:
    """
    Write changes, those of one order in theirs.

    @return: what came of each, in their order.
    """
    changes = list(changes)
    groups = [(change.order, type(change)) for change in changes]
    came: list[Any] = [None] * len(changes)
    inOrder = sorted(range(len(changes)), key=[order for order, _ in groups].__getitem__)
    for _, group in groupby(inOrder, key=groups.__getitem__):
        numbers = list(group)
        written = changes[numbers[0]].write(connection, [changes[number] for number in numbers])
        for number, result in zip(numbers, written, strict=True):
            came[number] = result
    return came


def inserting(dialect: str, table: Table) -> Any:
    """
    Return an insert that can say what is done in case of a conflict.
    """
    return postgresql.insert(table) if dialect == "postgresql" else sqlite.insert(table)


class SaveState(Operation):
    """
    Keeps one saved thing.
    """

    __slots__ = ("order", "saved")

    def __init__(self, saved: Saved) -> None:
        kind = type(saved)
        lengthy = _lengthyOf(kind)(saved)
        super().__init__((kind, lengthy[0]), sum(map(len, filter(None, lengthy))))
        self.saved = saved
        self.order = ORDERS[kind]

    @property
    def entry(self) -> bytes | None:
        """
        The name of its kind, which is the same in another version, and all its
        values.
        """
        saved = self.saved
        if type(saved) in LOSABLE:
            return None
        return encode((type(saved).__name__, [getattr(saved, name) for name in saved.__struct_fields__]))

    def replaces(self, former: Operation) -> bool:
        """
        Whatever was to be kept or forgotten.
        """
        return type(former) in (SaveState, ForgetState)

    @classmethod
    def write(cls, connection: Connection, changes: Sequence[SaveState]) -> Sequence[Any]:
        """
        Insert them, or write them over those that are there.
        """
        kind = type(changes[0].saved)
        names = [column.name for column in TABLES[kind].columns]
        values = attrgetter(*kind.__struct_fields__)
        # Two processes that write the same ones take them in one order.
        rows = sorted([values(change.saved) for change in changes], key=itemgetter(0))
        insertRows(connection, _upsertOf(connection.dialect.name, kind), names, rows)
        return [None] * len(changes)


@cache
def _lengthyOf(kind: type[Saved]) -> Callable[[Saved], Sequence[Key | None]]:
    """
    Return what gives the key and all else that has a length.
    """
    types = get_type_hints(kind)
    names = [name for name in kind.__struct_fields__ if types[name] in _LENGTHY]
    # With one name alone it would be none in a tuple.
    return attrgetter(*names, *names[:1]) if len(names) == 1 else attrgetter(*names)


@cache
def _upsertOf(dialect: str, kind: type[Saved]) -> Insert:
    table = TABLES[kind]
    made = inserting(dialect, table)
    key, *others = table.columns
    return made.on_conflict_do_update(  # type: ignore[no-any-return]
        index_elements=[key], set_={column.name: made.excluded[column.name] for column in others}
    )


class ForgetState(Operation):
    """
    Removes one saved thing.
    """

    __slots__ = ("kind", "name", "order")

    def __init__(self, kind: type[Saved], name: Key) -> None:
        super().__init__((kind, name), len(name))
        self.kind = kind
        self.name = name
        self.order = ORDERS[kind]

    @property
    def entry(self) -> bytes:
        """
        The name of its kind, and the key.
        """
        return encode((self.kind.__name__, self.name))

    def replaces(self, former: Operation) -> bool:
        """
        Whatever was to be kept or forgotten.
        """
        return type(former) in (SaveState, ForgetState)

    @classmethod
    def write(cls, connection: Connection, changes: Sequence[ForgetState]) -> Sequence[Any]:
        """
        Delete them.
        """
        kind = changes[0].kind
        deleteRows(connection, _deleteOf(kind), _keyOf(kind), [change.name for change in changes])
        return [None] * len(changes)


@cache
def _deleteOf(kind: type[Saved]) -> Delete:
    return delete(TABLES[kind])


def _keyOf(kind: type[Saved]) -> Column[Any]:
    (key,) = TABLES[kind].primary_key.columns
    return key


class TakeState(ForgetState):
    """
    Removes one saved thing, and tells whether it was there.
    """

    __slots__ = ("_now",)

    def __init__(self, kind: type[Saved], name: Key, now: float) -> None:
        super().__init__(kind, name)
        self._now = now

    def replaces(self, former: Operation) -> bool:
        """
        Nothing: it has to be seen whether it is there.
        """
        return False

    @classmethod
    def write(cls, connection: Connection, changes: Sequence[Any]) -> Sequence[Any]:
        """
        Delete one after the other.
        """
        return [change.run(connection) for change in changes]

    def run(self, connection: Connection) -> bool:
        """
        Delete it.
        """
        isThere = TABLES[self.kind].c.expires_at > bindparam("now")
        statement = _deleteOf(self.kind).where(_keyOf(self.kind) == bindparam("one"), isThere)
        return connection.execute(statement, {"one": self.name, "now": self._now}).rowcount > 0


def sweep(connection: Connection, table: Table, now: float, most: int) -> None:
    """
    Delete what has expired, and what is too much.

    @param now: in seconds since 1970.
    @param most: rows that may be left.
    """
    expires = table.c.expires_at
    connection.execute(delete(table).where(expires <= now))
    count = cast(int, connection.scalar(select(func.count()).select_from(table)))
    if count > most:
        first = select(expires).order_by(expires.desc()).offset(most).limit(1).scalar_subquery()
        connection.execute(delete(table).where(expires <= first))
