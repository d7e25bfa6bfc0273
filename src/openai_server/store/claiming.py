# -*- test-case-name: tests.store.test_state -*-
"""
Claims: who comes first keeps his, of several processes.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from typing import Any

from sqlalchemy import Connection, bindparam, select

from openai_server.store.operations import Operation, SaveState, inserting
from openai_server.store.saved import Saved, keyOf
from openai_server.store.schema import TABLES


class ClaimState(SaveState):
    """
    Keeps one saved thing where nothing is kept under its key.
    """

    __slots__ = ("_now",)

    def __init__(self, saved: Saved, now: float) -> None:
        """
        @param now: in seconds since 1970.
        """
        super().__init__(saved)
        self._now = now

    @property
    def entry(self) -> None:
        """
        Whoever claims waits for the database: another may have come first.
        """
        return None

    def replaces(self, former: Operation) -> bool:
        """
        Nothing: it has to be seen what is there.
        """
        return False

    @classmethod
    def write(cls, connection: Connection, changes: Sequence[Any]) -> Sequence[Any]:
        """
        Insert one after the other, in an order that all processes have.
        """
        came = {change: change.run(connection) for change in sorted(changes, key=lambda each: each.key[1])}
        return [came[change] for change in changes]

    def run(self, connection: Connection) -> Saved | None:
        """
        Insert it.

        @return: what is there in its place; None for nothing.
        """
        kind = type(self.saved)
        table = TABLES[kind]
        values = [getattr(self.saved, name) for name in kind.__struct_fields__]
        row = dict(zip([column.name for column in table.columns], values, strict=True))
        (key,) = table.primary_key.columns
        here = select(table).where(key == bindparam("one"))
        claim = _claimOf(connection.dialect.name, kind)
        while connection.execute(claim, {**row, "now": self._now}).first() is None:
            found = connection.execute(here, {"one": keyOf(self.saved)}).first()
            if found is not None:
                return kind(*found)
            # It was deleted in between.
        return None


@cache
def _claimOf(dialect: str, kind: type[Saved]) -> Any:
    table = TABLES[kind]
    made = inserting(dialect, table).values({column.name: bindparam(column.name) for column in table.columns})
    key, *others = table.columns
    taking = made.on_conflict_do_update(
        index_elements=[key],
        set_={column.name: made.excluded[column.name] for column in others},
        where=table.c.expires_at <= bindparam("now"),
    )
    return taking.returning(key)
