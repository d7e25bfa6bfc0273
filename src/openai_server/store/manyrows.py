# -*- test-case-name: tests.store.test_state -*-
"""
Many rows with few statements.

Python's module for SQLite lets other threads run around each statement, and
gets its turn back when the reactor's has had its own: one statement for each
row would cost both threads more than the writing. Statements go to its own
cursor: the way there through SQLAlchemy costs as much as some rows do. For each
value that is None or C{bytes} it looks for an adapter, which takes longer than
all else that is done for one (Python 3.11).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import closing
from functools import cache
from itertools import chain, compress, islice
from typing import Any, Final, TypeAlias

from sqlalchemy import Connection, Delete, Insert, bindparam
from sqlalchemy.dialects import sqlite

#: Rows of one statement, so that there are few different ones to keep ready.
PORTIONS: Final = (64, 32, 16, 8, 4, 2, 1)
#: Bytes up to which a value is copied so that no adapter is looked for.
COPIED: Final = 16_384
_dialect: Final = sqlite.dialect()

Row: TypeAlias = "Sequence[Any]"


def insertRows(connection: Connection, statement: Insert, names: Sequence[str], rows: Sequence[Row]) -> None:
    """
    Insert rows.

    @param statement: inserts one; made once.
    @param names: the columns of each, in the table's order.
    """
    if connection.dialect.name != "sqlite":
        connection.execute(statement, [dict(zip(names, row, strict=True)) for row in rows])
        return
    with closing(connection.connection.cursor()) as cursor:
        for portion in _portionsOf(rows):
            columns = list(zip(*portion, strict=True))
            isGiven = tuple([column.count(None) < len(portion) for column in columns])
            given = [_withoutAdapter(column) for column in compress(columns, isGiven)]
            values = tuple(chain.from_iterable(zip(*given, strict=True)))
            cursor.execute(_inserting(statement, tuple(names), isGiven, len(portion)), values)


def _withoutAdapter(column: Sequence[Any]) -> Iterable[Any]:
    areBytes = type(column[0]) is bytes and None not in column
    return map(bytearray, column) if areBytes and max(map(len, column)) <= COPIED else column


@cache
def _inserting(statement: Insert, names: Sequence[str], isGiven: Sequence[bool], count: int) -> str:
    """
    @param isGiven: for each column, whether it has values: all are NULL
        otherwise.
    """
    head, tail = _aroundValues(statement, names)
    values = f"({', '.join(['?' if each else 'NULL' for each in isGiven])})"
    return f"{head}VALUES {', '.join([values] * count)}{tail}"


@cache
def _aroundValues(statement: Insert, names: Sequence[str]) -> tuple[str, str]:
    compiled = statement.compile(dialect=_dialect, column_keys=list(names))
    head, found, tail = str(compiled).partition(f"VALUES ({', '.join('?' * len(names))})")
    assert found and compiled.positiontup == list(names), compiled
    return head, tail


def deleteRows(connection: Connection, statement: Delete, column: Any, keys: Sequence[Any]) -> None:
    """
    Delete rows by their keys.

    @param statement: deletes all; made once.
    """
    if connection.dialect.name != "sqlite":
        connection.execute(statement.where(column == bindparam("one")), [{"one": key} for key in keys])
        return
    with closing(connection.connection.cursor()) as cursor:
        for portion in _portionsOf(keys):
            cursor.execute(_deleting(statement, column, len(portion)), tuple(portion))


@cache
def _deleting(statement: Delete, column: Any, count: int) -> str:
    places = ", ".join("?" * count)
    return f"{statement.compile(dialect=_dialect)} WHERE {column.compile(dialect=_dialect)} IN ({places})"


def _portionsOf(rows: Sequence[Any]) -> Iterator[Sequence[Any]]:
    waiting, left = iter(rows), len(rows)
    for most in PORTIONS:
        while left >= most:
            left -= most
            yield list(islice(waiting, most))
