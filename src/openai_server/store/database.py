# -*- test-case-name: tests.store.test_database -*-
"""
One database, as threads use it: every call here may take its time.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from secrets import token_bytes
from typing import Any, Final, TypeVar

from sqlalchemy import Connection, Engine, select
from sqlalchemy.exc import SQLAlchemyError

from openai_server.store.interfaces import Bounds, StoreError
from openai_server.store.keyrows import forgetUsed
from openai_server.store.location import Location
from openai_server.store.migrations import migrate
from openai_server.store.operations import Operation, inserting, sweep, writeAll
from openai_server.store.recordbounds import RecordBounds
from openai_server.store.recordchanges import RecordChange
from openai_server.store.schema import TABLES, leases, secrets
from openai_server.store.secrets import derivedSecret
from openai_server.store.troubles import Trouble, troubleOf
from openai_server.store.turns import forgetTurns

#: Rows of each kind of state that are kept.
MOST_ROWS: Final = 100_000
#: Seconds between two looks for rows that have expired.
_SWEEP: Final = 60.0
#: Seconds by which machines may differ.
_CLOCKS_DIFFER: Final = 3600.0
#: For how long it is known what accounts have used: longer than a month.
_USED: Final = timedelta(days=62)
#: What may be over with another connection.
_PASSING: Final = ("unreachable", "failing", "corrupt")

T = TypeVar("T")


class Database:
    """
    Writes and reads, and opens what it needs for that.

    @ivar location: where it is.
    @ivar notes: sentences for the log, taken out by whoever writes it.
    @ivar root: of which all secrets are made.
    @ivar channel: the name under which PostgreSQL notifies all processes that
        use this database; nobody else can know it.
    """

    def __init__(self, location: Location, bounds: Bounds, now: Callable[[], float]) -> None:
        """
        @param bounds: of what is kept.
        @param now: the wall clock, in seconds since 1970.
        """
        self.location = location
        self.notes: list[str] = []
        self.root: bytes | None = None
        self.channel = ""
        self._now = now
        self._bounds = RecordBounds(bounds)
        self._ledgerAge = bounds.ledgerAge
        self._engine: Engine | None = None
        self._isCorrupt = False
        # Whether a commit was begun, whatever came of it.
        self._isCommitted = False
        self._swept = 0.0

    # Opening.

    def open(self) -> None:
        """
        Make the file and the tables that are not there. A file that is no
        database is put aside, and another one takes its place.

        @raise StoreError: it must not be used.
        @raise Trouble: it cannot be, for now.
        """
        try:
            with self.location.alone():
                self._openAlone()
        except StoreError as error:
            raise StoreError(f"store {self.location}: {error}") from None
        except Exception as error:
            raise self._troubleFrom(error) from error

    def _openAlone(self) -> None:
        if self._isCorrupt:
            self._putAside()
        try:
            self._join()
        except Exception as error:
            if troubleOf(error) != "corrupt" or self.location.path is None:
                raise
            self._putAside()
            self._join()

    def _join(self) -> None:
        self.location.create()
        engine = self.location.engine()
        try:
            with self.location.migrating(engine) as connection:
                migrate(connection)
                root = self._rootIn(connection)
        except BaseException:
            engine.dispose()
            raise
        self._engine = engine
        self.channel = f"openai_server_{derivedSecret(root, 'channel').hex()[:32]}"
        # Those that were given out before it could be read are not taken back.
        self.root = self.root or root
        self._bounds.recount()

    def _rootIn(self, connection: Connection) -> bytes:
        made = inserting(connection.dialect.name, secrets).values(
            name="root", value=self.root or token_bytes(32)
        )
        connection.execute(made.on_conflict_do_nothing())
        root: bytes = connection.execute(select(secrets.c.value).where(secrets.c.name == "root")).scalar_one()
        return root

    def _putAside(self) -> None:
        self._isCorrupt = False
        aside = self.location.moveAside()
        self.notes.append(f"{self.location} is no database or a damaged one: it was moved to {aside}")

    def close(self) -> None:
        """
        Close all connections. The next call makes new ones.
        """
        engine, self._engine = self._engine, None
        if engine is not None:
            engine.dispose()

    # Writing, by one thread at a time.

    def write(self, changes: Sequence[Operation]) -> Sequence[Any]:
        """
        Write all changes in one transaction.

        @return: what came of each; an exception for one that no database takes.
        @raise Trouble: none was written, or that is unsure.
        """
        self._isCommitted = False
        try:
            return self._attempt(changes)
        except Exception as error:
            self._bounds.recount()
            trouble = troubleOf(error)
            if trouble is None:
                return [self._attemptOne(change) for change in changes]
            self._isCorrupt = trouble == "corrupt" and self.location.path is not None
            if trouble not in _PASSING:
                raise self._notWritten(error) from error
        self.close()
        try:
            return self._attempt(changes)
        except Exception as error:
            self.close()
            raise self._notWritten(error) from error

    def _notWritten(self, error: Exception) -> Trouble:
        trouble = self._troubleFrom(error)
        trouble.isUnsure = self._isCommitted
        return trouble

    def _attemptOne(self, change: Operation) -> Any:
        try:
            return self._attempt([change])[0]
        except Exception as error:
            self._bounds.recount()
            if troubleOf(error) is not None:
                raise self._notWritten(error) from error
            self.notes.append(f"a change was left out that cannot be written: {type(error).__name__}")
            return error

    def _attempt(self, changes: Sequence[Operation]) -> Sequence[Any]:
        if self._engine is None or self._isCorrupt:
            self.close()
            self.open()
        assert self._engine is not None
        now = self._now()
        ofRecords = [change for change in changes if isinstance(change, RecordChange)]
        with (
            self._engine.connect().execution_options(begin="BEGIN IMMEDIATE") as connection,
            connection.begin(),
        ):
            if ofRecords:
                # What was used since then may be written only now.
                self._bounds.forgetOld(
                    connection, min([now, *[each.used for each in ofRecords if each.used]])
                )
                before = self._bounds.begun(connection, ofRecords)
            came = writeAll(connection, changes)
            if ofRecords:
                self._bounds.makeRoom(connection, ofRecords, before)
            if now - self._swept >= _SWEEP:
                self._sweep(connection, now)
                self._swept = now
            self._isCommitted = True
        return came

    def _sweep(self, connection: Connection, now: float) -> None:
        for table in TABLES.values():
            sweep(connection, table, now, MOST_ROWS)
        # Those are over by the clocks of others.
        sweep(connection, leases, now - _CLOCKS_DIFFER, MOST_ROWS)
        forgetUsed(connection, (datetime.fromtimestamp(now, UTC) - _USED).date().isoformat())
        forgetTurns(connection, now - self._ledgerAge)
        self._bounds.forgetOld(connection, now)
        self._bounds.recount()

    # Reading, by several threads.

    def read(self, query: Callable[[Connection], T]) -> T:
        """
        Ask for something that was written.

        @raise Trouble: there is no answer.
        """
        engine = self._engine
        if engine is None:
            raise Trouble("unreachable")
        try:
            with engine.connect() as connection, connection.begin():
                return query(connection)
        except Exception as error:
            if troubleOf(error) == "corrupt" and self.location.path is not None:
                self._isCorrupt = True
            raise self._troubleFrom(error) from error

    def listening(self) -> Any:
        """
        Return a connection of psycopg's that PostgreSQL notifies. It is the
        caller's to close.

        @raise Trouble: there is none to be had for now.
        """
        engine = self._engine
        if engine is None:
            raise Trouble("unreachable", "the database is not open")
        try:
            pooled = engine.raw_connection()
            connection: Any = pooled.driver_connection
            pooled.detach()
            connection.autocommit = True
            connection.execute(f"LISTEN {self.channel}")
        except (engine.dialect.loaded_dbapi.Error, SQLAlchemyError) as error:
            raise self._troubleFrom(error) from error
        return connection

    def _troubleFrom(self, error: Exception) -> Trouble:
        if isinstance(error, Trouble):
            return error
        cause = getattr(error, "orig", None) or error
        lines = str(cause).strip().splitlines()
        return Trouble(troubleOf(error) or "failing", lines[0] if lines else "")
