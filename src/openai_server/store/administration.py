# -*- test-case-name: tests.admin.test_program -*-
"""
What an operator asks of a database, beside the servers that use it.
"""

from __future__ import annotations

import base64
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Final

import msgspec
from sqlalchemy import Connection, Table, delete, func, select, text
from sqlalchemy.exc import SQLAlchemyError

from openai_server.store.interfaces import StoreError
from openai_server.store.ledger import UsageSum, UsageWanted
from openai_server.store.location import Location
from openai_server.store.migrations import checkSchema, isEmpty, migrate
from openai_server.store.saved import SavedAnswer, SavedCall, SavedHint, SavedSession
from openai_server.store.schema import TABLES, items, leases, records, turns
from openai_server.store.troubles import troubleOf
from openai_server.store.turns import usageIn

#: Rows that are taken from the database at a time.
_ROWS: Final = 500

_sessions, _calls = TABLES[SavedSession], TABLES[SavedCall]


class Waiting(msgspec.Struct, frozen=True):
    """
    A tool call whose result a model waits for.

    @ivar age: in seconds.
    @ivar left: seconds until the model waits no longer; below 0 for one that
        a server still has to end.
    """

    id: str
    name: str
    account: str
    sid: str
    age: float
    left: float


class Summary(msgspec.Struct, frozen=True):
    """
    What is in a database.

    @ivar records: how many records there are of each kind, which is what their
        ids begin with, and the bytes of those.
    @ivar size: bytes of the whole database.
    """

    sessions: int
    hints: int
    answers: int
    leases: int
    calls: Sequence[Waiting]
    records: dict[str, tuple[int, int]]
    size: int


class Administration:
    """
    One database.

    @ivar where: where it is, without a password.
    """

    def __init__(self, url: str, *, creates: bool = False) -> None:
        """
        @param creates: whether it is made where there is none.
        @raise StoreError: there is none.
        """
        self._location = Location(url)
        self.where = str(self._location)
        path = self._location.path
        if path is not None and not path.is_file() and not creates:
            raise StoreError(f"there is no store at {path}")
        self._engine = self._location.engine()
        if creates:
            self._create()

    def _create(self) -> None:
        with self._explained(), self._location.alone():
            self._location.create()
            with self._location.migrating(self._engine) as connection:
                if isEmpty(connection):
                    migrate(connection)

    def close(self) -> None:
        """
        Close all connections.
        """
        self._engine.dispose()

    @contextmanager
    def connected(self, begin: str = "BEGIN") -> Iterator[Connection]:
        """
        Begin a transaction.

        @raise StoreError: it cannot be.
        """
        with (
            self._explained(),
            self._engine.connect().execution_options(begin=begin) as connection,
            connection.begin(),
        ):
            checkSchema(connection)
            yield connection

    @contextmanager
    def _explained(self) -> Iterator[None]:
        try:
            yield
        except StoreError as error:
            raise StoreError(f"store {self.where}: {error}") from None
        except (SQLAlchemyError, OSError) as error:
            raise StoreError(f"store {self.where}: {troubleOf(error)}") from None

    def summary(self, now: float) -> Summary:
        """
        Return what is in it.

        @param now: in seconds since 1970.
        """
        with self.connected() as connection:
            calls = connection.execute(
                select(_calls)
                .where(_calls.c.is_open, _calls.c.expires_at > now)
                .order_by(_calls.c.created_at)
            )
            count, size = Counter[str](), Counter[str]()
            rows = connection.execution_options(yield_per=_ROWS).execute(select(records.c.id, records.c.size))
            for id, bytes_ in rows:
                kind = id.partition("_")[0]
                count[kind] += 1
                size[kind] += bytes_
            return Summary(
                sessions=_count(connection, _sessions, now),
                hints=_count(connection, TABLES[SavedHint], now),
                answers=_count(connection, TABLES[SavedAnswer], now),
                leases=_count(connection, leases, now),
                calls=[
                    Waiting(
                        row.public_id,
                        row.client_name,
                        row.account,
                        row.sid,
                        now - row.created_at,
                        row.deadline - now,
                    )
                    for row in calls
                ],
                records={kind: (count[kind], size[kind]) for kind in sorted(count)},
                size=self._size(connection),
            )

    def clockDifference(self) -> float:
        """
        Return by how many seconds the clock of the database's machine is ahead.
        """
        if self._location.isFile:
            return 0.0
        with self.connected() as connection:
            theirs = connection.scalar(text("SELECT extract(epoch FROM clock_timestamp())"))
        return float(theirs or 0) - time.time()

    def _size(self, connection: Connection) -> int:
        if self._location.isFile:
            pages = "SELECT page_count * page_size FROM pragma_page_count, pragma_page_size"
            return int(connection.scalar(text(pages)) or 0)
        return int(connection.scalar(text("SELECT pg_database_size(current_database())")) or 0)

    def forgetSession(self, sid: str) -> int:
        """
        Forget a session and its calls.

        @return: how many rows are gone.
        """
        return self._delete((_sessions, _sessions.c.sid == sid), (_calls, _calls.c.sid == sid))

    def forgetRecord(self, id: str) -> int:
        """
        Forget a record of this id, whosever it is, with its items.

        @return: how many are gone.
        """
        return self._delete((records, records.c.id == id))

    def forgetBefore(self, time: float) -> int:
        """
        Forget the sessions and records that were not used since.

        @param time: in seconds since 1970.
        @return: how many are gone.
        """
        return self._delete((_sessions, _sessions.c.used_at < time), (records, records.c.used < time))

    def _delete(self, *which: tuple[Table, Any]) -> int:
        with self.connected("BEGIN IMMEDIATE") as connection:
            return sum([connection.execute(delete(table).where(here)).rowcount for table, here in which])

    def usage(self, wanted: UsageWanted) -> Sequence[UsageSum]:
        """
        Return what turns have cost.
        """
        with self.connected() as connection:
            return usageIn(connection, wanted)

    def vacuum(self) -> None:
        """
        Give back the room of what was forgotten.
        """
        with self._explained():
            connection: Any = self._engine.raw_connection()
            if not self._location.isFile:
                connection.driver_connection.autocommit = True
            cursor = connection.cursor()
            try:
                cursor.execute("VACUUM")
            except self._engine.dialect.loaded_dbapi.Error as error:
                raise StoreError(str(troubleOf(error) or "locked")) from None
            finally:
                cursor.close()
                connection.invalidate()

    def export(self) -> Iterator[dict[str, Any]]:
        """
        Yield all that is kept, but for secrets, as JSON has it: digests in
        base64, and the data of records as it is where it is JSON.
        """
        with self.connected() as connection:
            for table in (*TABLES.values(), records, items, turns):
                for row in connection.execution_options(yield_per=_ROWS).execute(select(table)):
                    names = map(str, table.columns.keys())
                    shown = {name: _shown(value) for name, value in zip(names, row, strict=True)}
                    yield {"table": str(table.name), **shown}


def _count(connection: Connection, table: Table, now: float) -> int:
    query = select(func.count()).select_from(table).where(table.c.expires_at > now)
    return int(connection.scalar(query) or 0)


def _shown(value: Any) -> Any:
    if not isinstance(value, bytes):
        return value
    try:
        decoded = msgspec.json.decode(value)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        decoded = None
    return decoded if isinstance(decoded, (dict, list)) else base64.b64encode(value).decode()
