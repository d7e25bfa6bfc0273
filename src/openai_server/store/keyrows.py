# -*- test-case-name: tests.store.test_accounts -*-
"""
Keys and what accounts have used, as rows.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cache
from typing import Any, Final

from sqlalchemy import Connection, Insert, delete, insert, select, update

from openai_server.store.manyrows import insertRows
from openai_server.store.operations import Operation, inserting
from openai_server.store.saved import KINDS
from openai_server.store.savedkeys import KeyTable, SavedKey
from openai_server.store.schema import columnName, keys, usedTokens, versions

_FIELDS: Final = SavedKey.__struct_fields__
#: Whose version it is.
_KEYS: Final = "keys"


def keysVersion(connection: Connection) -> int:
    """
    Return a number that is another one after each change of keys.
    """
    return int(connection.scalar(select(versions.c.number).where(versions.c.name == _KEYS)) or 0)


def allKeys(connection: Connection) -> KeyTable:
    """
    Return all keys, by name, those that were replaced behind their successors.
    """
    # What changes meanwhile is seen with the next version.
    version = keysVersion(connection)
    rows = connection.execute(
        select(*_columns()).order_by(keys.c.name, keys.c.replaced_until.is_not(None), keys.c.created_at)
    )
    return KeyTable(version, [SavedKey(**dict(zip(_FIELDS, row, strict=True))) for row in rows])


def keysNamed(connection: Connection, name: str) -> Sequence[SavedKey]:
    """
    Return the key of this name, with those that it has replaced.
    """
    return [key for key in allKeys(connection).keys if key.name == name]


def addKey(connection: Connection, key: SavedKey) -> None:
    """
    Keep a key.
    """
    connection.execute(insert(keys).values({columnName(name): getattr(key, name) for name in _FIELDS}))


def changeKeys(connection: Connection, values: Mapping[str, Any], **which: Any) -> int:
    """
    Change keys.

    @param values: by the names of fields.
    @param which: the fields that those keys have.
    @return: how many there are.
    """
    statement = update(keys).values({columnName(name): value for name, value in values.items()})
    return connection.execute(statement.where(*_having(which))).rowcount


def removeKeys(connection: Connection, **which: Any) -> int:
    """
    Forget keys.

    @param which: the fields that they have.
    @return: how many there were.
    """
    return connection.execute(delete(keys).where(*_having(which))).rowcount


def removeReplaced(connection: Connection, now: float) -> None:
    """
    Forget the replaced keys that are good no longer.
    """
    connection.execute(delete(keys).where(keys.c.replaced_until <= now))


def noteChange(connection: Connection) -> None:
    """
    Let all servers see that keys have changed.
    """
    made = inserting(connection.dialect.name, versions).values(name=_KEYS, number=1)
    connection.execute(
        made.on_conflict_do_update(
            index_elements=[versions.c.name], set_={"number": versions.c.number + 1}
        )
    )


def _columns() -> list[Any]:
    return [keys.c[columnName(name)] for name in _FIELDS]


def _having(which: Mapping[str, Any]) -> list[Any]:
    return [keys.c[columnName(name)] == value for name, value in which.items()]


class UseTokens(Operation):
    """
    Adds to what an account has used in some days and months.
    """

    __slots__ = ("account", "periods", "tokens")
    order = len(KINDS) + 1

    def __init__(self, account: str, periods: Sequence[str], tokens: int) -> None:
        super().__init__(("used", account, *periods), len(account))
        self.account = account
        self.periods = periods
        self.tokens = tokens

    def replaces(self, former: Operation) -> bool:
        """
        One of the same account and times, which becomes some of this one.
        """
        if not isinstance(former, UseTokens):
            return False
        self.tokens += former.tokens
        return True

    @classmethod
    def write(cls, connection: Connection, changes: Sequence[UseTokens]) -> Sequence[Any]:
        """
        Add them. Two processes that add to the same rows take them in one order.
        """
        rows = sorted([(each.account, period, each.tokens) for each in changes for period in each.periods])
        insertRows(connection, _using(connection.dialect.name), ("account", "period", "tokens"), rows)
        return [None] * len(changes)


@cache
def _using(dialect: str) -> Insert:
    made = inserting(dialect, usedTokens)
    return made.on_conflict_do_update(  # type: ignore[no-any-return]
        index_elements=[usedTokens.c.account, usedTokens.c.period],
        set_={"tokens": usedTokens.c.tokens + made.excluded.tokens},
    )


def allTokensUsed(connection: Connection, period: str) -> Mapping[str, int]:
    """
    Return what has been used in a day or month, by account.
    """
    query = select(usedTokens.c.account, usedTokens.c.tokens).where(usedTokens.c.period == period)
    return {account: int(tokens) for account, tokens in connection.execute(query)}


def tokensUsed(connection: Connection, account: str, periods: Sequence[str]) -> Mapping[str, int]:
    """
    Return what an account has used in these days and months.
    """
    query = select(usedTokens.c.period, usedTokens.c.tokens).where(
        usedTokens.c.account == account, usedTokens.c.period.in_(periods)
    )
    found = {period: int(tokens) for period, tokens in connection.execute(query)}
    return {period: found.get(period, 0) for period in periods}


def forgetUsed(connection: Connection, before: str) -> None:
    """
    Forget what was used before this day.
    """
    connection.execute(delete(usedTokens).where(usedTokens.c.period < before))
