# -*- test-case-name: tests.store.test_state -*-
"""
Many rows with few statements.

Python's module for SQLite lets other threads run around each statement, and
gets its turn back when the reactor's has had its own: one statement for each
row would cost both threads more than the writing.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import cache
from itertools import chain, islice
from typing import Any, Final, TypeAlias

from sqlalchemy import Connection, Delete, Insert, bindparam
from sqlalchemy.dialects import sqlite

#: Rows of one statement, so that there are few different ones to keep ready.
PORTIONS: Final = (64, 8, 1)
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
    for portion in _portionsOf(rows):
        connection.exec_driver_sql(_inserting(statement, tuple(names), len(portion)), tuple(chain(*portion)))


@cache
def _inserting(statement: Insert, names: Sequence[str], count: int) -> str:
    compiled = statement.compile(dialect=_dialect, column_keys=list(names))
    values = f"({', '.join('?' * len(names))})"
    head, found, tail = str(compiled).partition(f"VALUES {values}")
    assert found and compiled.positiontup == list(names), compiled
    return f"{head}VALUES {', '.join([values] * count)}{tail}"


def deleteRows(connection: Connection, statement: Delete, column: Any, keys: Sequence[Any]) -> None:
    """
    Delete rows by their keys.

    @param statement: deletes all; made once.
    """
    if connection.dialect.name != "sqlite":
        connection.execute(statement.where(column == bindparam("one")), [{"one": key} for key in keys])
        return
    for portion in _portionsOf(keys):
        connection.exec_driver_sql(_deleting(statement, column, len(portion)), tuple(portion))


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
