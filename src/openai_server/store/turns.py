# -*- test-case-name: tests.store.test_ledger -*-
"""
What turns have cost, as SQL.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from operator import attrgetter
from typing import Any, Final

from sqlalchemy import ColumnElement, Connection, Insert, delete, func, literal_column, select

from openai_server.reports import TurnReport
from openai_server.store.ledger import UsageSum, UsageWanted
from openai_server.store.manyrows import insertRows
from openai_server.store.operations import BESIDE, Operation, inserting
from openai_server.store.saved import KINDS
from openai_server.store.schema import columnName, turns

_FIELDS: Final = TurnReport.__struct_fields__
_values: Final = attrgetter(*_FIELDS)
_COLUMNS: Final = ("id", "time", *map(columnName, _FIELDS))
#: Turns that are too old and are deleted at a time: so many keep no other
#: writing waiting.
SLICE: Final = 5000


#: Turns that are one change together.
TOGETHER: Final = 50


class NoteTurns(Operation):
    """
    Keeps what some turns have cost. To write it twice changes nothing.

    @ivar turns: the id of each, which tells it from all others, when it ended,
        in seconds since 1970, and what is told of it. No more may be added once
        they do not wait any more: another thread writes them.
    """

    __slots__ = ("turns",)
    order = len(KINDS) + 2

    def __init__(self, first: tuple[int, int, TurnReport]) -> None:
        super().__init__(("turns", first[0]), TOGETHER * BESIDE)
        self.turns = [first]

    @property
    def hasRoom(self) -> bool:
        """
        Whether one more turn may be kept with them.
        """
        return self.isWaiting and len(self.turns) < TOGETHER

    @classmethod
    def write(cls, connection: Connection, changes: Sequence[NoteTurns]) -> Sequence[Any]:
        """
        Insert them.
        """
        rows = [(id, time, *_values(report)) for change in changes for id, time, report in change.turns]
        insertRows(connection, _noting(connection.dialect.name), _COLUMNS, rows)
        return [None] * len(changes)


@cache
def _noting(dialect: str) -> Insert:
    return inserting(dialect, turns).on_conflict_do_nothing(  # type: ignore[no-any-return]
        index_elements=[turns.c.id]
    )


def usageIn(connection: Connection, wanted: UsageWanted) -> Sequence[UsageSum]:
    """
    Return the sums that are wanted.
    """
    time = turns.c.time
    # No parameters: those would not be the same in all places.
    start: ColumnElement[int] = literal_column(f"{wanted.since:d}")
    if wanted.width is not None:
        start = time - time % literal_column(f"{wanted.width:d}")
    by = [turns.c[columnName(name)] for name in wanted.by]
    figures = ("input_tokens", "cached_tokens", "output_tokens", "calls", "seconds")
    sums = [func.sum(turns.c[name]) for name in figures]
    only = [turns.c[columnName(name)].in_(values) for name, values in wanted.only.items()]
    query = select(func.min(start), *by, func.count(), *sums).where(
        time >= wanted.since, time < wanted.until, *only
    )
    # What is the same for all cannot be grouped by.
    groups = [*([] if wanted.width is None else [start]), *by]
    query = query.group_by(*groups).order_by(*groups).limit(wanted.most)
    found = [_sumFrom(row, len(by)) for row in connection.execute(query) if row[0] is not None]
    return sorted(found)


def _sumFrom(row: Any, by: int) -> UsageSum:
    start, *values = row[: 1 + by]
    count, input, cached, output, calls, seconds = row[1 + by :]
    # PostgreSQL's sums are of another type.
    return UsageSum(
        int(start), tuple(values), count, int(input), int(cached), int(output), int(calls), float(seconds)
    )


def forgetTurns(connection: Connection, before: float) -> None:
    """
    Delete some of the turns that ended before then, in seconds since 1970.
    """
    old = select(turns.c.id).where(turns.c.time < before).order_by(turns.c.time).limit(SLICE)
    connection.execute(delete(turns).where(turns.c.id.in_(old)))
