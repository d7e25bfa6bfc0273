# -*- test-case-name: tests.store.test_migrations -*-
"""
The tables, as the newest of L{openai_server.store.migrations} leaves them.

Texts are compared byte by byte, whatever the database's language is.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any, Final, get_type_hints

from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    Float,
    ForeignKey,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    String,
    Table,
    UniqueConstraint,
)
from sqlalchemy.types import TypeEngine

from openai_server.store.saved import (
    KINDS,
    LOOKUPS,
    Saved,
    SavedAnswer,
    SavedCall,
    SavedHint,
    SavedMessage,
    SavedSession,
)
from openai_server.store.savedkeys import SavedKey

metadata: Final = MetaData()

#: A number that grows by itself: SQLite does that for one type alone.
_PLACE: Final = BigInteger().with_variant(Integer(), "sqlite")

#: Who keeps what. C{used} is in seconds since 1970, C{size} in bytes with
#: all items.
records: Final = Table(
    "records",
    metadata,
    Column("place", _PLACE, primary_key=True, autoincrement=True),
    Column("account", String, nullable=False),
    Column("id", String, nullable=False),
    Column("previous", String),
    Column("used", Float(53), nullable=False),
    Column("size", BigInteger, nullable=False),
    Column("data", LargeBinary, nullable=False),
    UniqueConstraint("account", "id", name="records_id"),
    # With sizes: all are counted with it alone.
    Index("records_used", "used", "size"),
    Index("records_place", "account", "place"),
    sqlite_autoincrement=True,
)

#: The lists of records.
items: Final = Table(
    "items",
    metadata,
    Column("place", _PLACE, primary_key=True, autoincrement=True),
    Column(
        "record",
        BigInteger,
        ForeignKey("records.place", name="items_record", ondelete="CASCADE"),
        nullable=False,
    ),
    Column("id", String, nullable=False),
    Column("data", LargeBinary, nullable=False),
    UniqueConstraint("record", "id", name="items_id"),
    Index("items_place", "record", "place"),
    sqlite_autoincrement=True,
)

leases: Final = Table(
    "leases",
    metadata,
    Column("name", String, primary_key=True),
    Column("owner", String, nullable=False),
    Column("expires_at", Float(53), nullable=False),
    Index("leases_expire", "expires_at"),
)

#: One row, of which all other secrets are made.
secrets: Final = Table(
    "secrets",
    metadata,
    Column("name", String, primary_key=True),
    Column("value", LargeBinary, nullable=False),
)

#: Numbers that grow with each change of something.
versions: Final = Table(
    "versions",
    metadata,
    Column("name", String, primary_key=True),
    Column("number", BigInteger, nullable=False),
)

#: Tokens by account and day or month.
usedTokens: Final = Table(
    "used_tokens",
    metadata,
    Column("account", String, primary_key=True),
    Column("period", String, primary_key=True),
    Column("tokens", BigInteger, nullable=False),
)

#: What turns have cost, as L{openai_server.reports.TurnReport} says. C{time} is
#: when each ended, in seconds since 1970.
turns: Final = Table(
    "turns",
    metadata,
    Column("id", _PLACE, primary_key=True, autoincrement=False),
    Column("time", BigInteger, nullable=False),
    Column("account", String, nullable=False),
    Column("api", String, nullable=False),
    Column("model", String, nullable=False),
    Column("session", String, nullable=False),
    Column("input_tokens", BigInteger, nullable=False),
    Column("cached_tokens", BigInteger, nullable=False),
    Column("output_tokens", BigInteger, nullable=False),
    Column("calls", BigInteger, nullable=False),
    Column("seconds", Float(53), nullable=False),
    Column("end", String, nullable=False),
    Column("is_estimated", Boolean, nullable=False),
    Index("turns_time", "time"),
    Index("turns_account", "account", "time"),
)

_TYPES: Final[dict[Any, TypeEngine[Any]]] = {
    str: String(),
    bytes: LargeBinary(),
    int: BigInteger(),
    float: Float(53),
    bool: Boolean(),
}

_NAMES: Final[dict[type[Saved], str]] = {
    SavedSession: "sessions",
    SavedHint: "hints",
    SavedCall: "calls",
    SavedAnswer: "answers",
    SavedMessage: "messages",
}


#: By this index sessions are looked for where several servers share them. SQLite,
#: which is one server's alone, does without it: a session that is saved would
#: have a place in it like no other's before, and cost twice as much.
SHARED_LOOKUP: Final = "sessions_seen"


def columnName(field: str) -> str:
    """
    Return what a field is called in SQL.
    """
    return re.sub("(?=[A-Z])", "_", field).lower()


def _columnsOf(kind: type[Any]) -> list[Column[Any]]:
    types = get_type_hints(kind)
    columns: list[Column[Any]] = []
    for field in kind.__struct_fields__:
        plain = next(each for each in _TYPES if types[field] in (each, each | None))
        columns.append(
            Column(
                columnName(field),
                _TYPES[plain],
                primary_key=not columns,
                nullable=types[field] != plain,
            )
        )
    return columns


def _tableOf(kind: type[Saved]) -> Table:
    name, columns = _NAMES[kind], _columnsOf(kind)
    lookups = [_lookupOf(name, fields, columns) for fields in LOOKUPS[kind]]
    return Table(name, metadata, *columns, Index(f"{name}_expire", "expires_at"), *lookups)


def _lookupOf(table: str, fields: Sequence[str], columns: Sequence[Column[Any]]) -> Index:
    last = next(column for column in columns if column.name == columnName(fields[-1]))
    # A row is not looked for by what it does not have.
    isThere = last.is_not(None) if last.nullable else None
    return Index(
        f"{table}_{last.name}",
        *map(columnName, fields),
        sqlite_where=isThere,
        postgresql_where=isThere,
    )


#: One table for each kind of state, with a column for each of its fields.
TABLES: Final[dict[type[Saved], Table]] = {kind: _tableOf(kind) for kind in KINDS}

keys: Final = Table("keys", metadata, *_columnsOf(SavedKey), Index("keys_name", "name"))
