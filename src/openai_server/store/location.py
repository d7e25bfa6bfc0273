# -*- test-case-name: tests.store.test_database -*-
"""
Where a database is: a file of SQLite's, or a server of PostgreSQL's.
"""

from __future__ import annotations

import fcntl
import os
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any, Final

from sqlalchemy import Connection, Engine, create_engine, event, text
from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import ArgumentError
from sqlalchemy.pool import StaticPool

from openai_server.store.interfaces import StoreError

#: Seconds that a statement waits for another process's lock.
_BUSY: Final = 2.0
#: Seconds that a process waits while another one opens the database anew.
OPENING: Final = 30.0
#: How long PostgreSQL may take: seconds to connect, milliseconds for others.
_CONNECT: Final = 5
_STATEMENT: Final = 10_000
_UNANSWERED: Final = 10_000
#: What PostgreSQL's advisory lock of this server's is called.
_LOCK: Final = 0x6F70656E6169


class Location:
    """
    Where a database is, and how it is connected to.

    @ivar path: of the file; None where it is none.
    """

    def __init__(self, url: str) -> None:
        """
        @raise StoreError: it says nothing of the kind.
        """
        try:
            self._url: URL = make_url(url)
        except ArgumentError:
            raise StoreError("store: is no URL") from None
        self.isFile = self._url.get_backend_name() == "sqlite"
        name = self._url.database
        self.path = Path(name) if self.isFile and name and name != ":memory:" else None

    def __str__(self) -> str:
        """
        Return where it is, without a password.
        """
        return str(self.path or self._url.render_as_string(hide_password=True))

    def engine(self) -> Engine:
        """
        Return what makes connections.

        @raise StoreError: what speaks to PostgreSQL is not installed.
        """
        try:
            return _sqlite(self._url, self.path) if self.isFile else _postgresql(self._url)
        except ImportError:
            raise StoreError(
                f"store {self}: psycopg is not installed: pip install 'openai-server[postgresql]'"
            ) from None

    @contextmanager
    def alone(self) -> Iterator[None]:
        """
        Do something to the file while no other process does the same.

        @raise TimeoutError: others do it all the time.
        @raise OSError: the folder cannot be made or read.
        """
        if self.path is None:
            yield
            return
        folder = self.path.parent
        _makeFolders(folder)
        descriptor = os.open(folder, os.O_RDONLY | os.O_CLOEXEC)
        try:
            _lock(descriptor)
            yield
        finally:
            os.close(descriptor)

    def claim(self) -> Callable[[], None]:
        """
        Let no other server use the file until this process ends. Where nothing
        can be locked, the file cannot be used either, as its opening will say.

        @return: gives it back earlier.
        @raise StoreError: another server uses it.
        """
        if self.path is None:
            return lambda: None
        with ExitStack() as stack:
            with suppress(OSError):
                _makeFolders(self.path.parent)
                # Not the file itself: to close it would take SQLite's own locks away.
                flags = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC
                descriptor = os.open(f"{self.path}.lock", flags, 0o600)
                stack.callback(os.close, descriptor)
                try:
                    fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                except BlockingIOError:
                    raise StoreError(
                        f"store {self}: another server uses it: stop that one, or name another store with"
                        " --store; a file is for one server, several share PostgreSQL"
                    ) from None
            return stack.pop_all().close

    def create(self) -> None:
        """
        Make the file, for this user alone, unless it is there.

        @raise OSError: it cannot be made.
        """
        if self.path is not None:
            with suppress(FileExistsError):
                flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
                os.close(os.open(self.path, flags, 0o600))

    def moveAside(self) -> Path | None:
        """
        Give the file, with what belongs to it, another name.

        @return: the name; None where there is no file.
        """
        if self.path is None:
            return None
        stem = f"{self.path}.corrupt-{time.strftime('%Y%m%dT%H%M%S')}"
        name = next(each for number in range(10_000) if not os.path.exists(each := f"{stem}-{number}"))
        for ending in ("-wal", "-shm", ""):
            with suppress(FileNotFoundError):
                os.rename(f"{self.path}{ending}", f"{name}{ending}")
        return Path(name)

    @contextmanager
    def migrating(self, engine: Engine) -> Iterator[Connection]:
        """
        Begin a transaction in which one process of all changes the schema,
        while the others wait.
        """
        with engine.connect().execution_options(begin="BEGIN EXCLUSIVE") as connection, connection.begin():
            if not self.isFile:
                connection.execute(text(f"SET LOCAL lock_timeout = {int(OPENING * 1000)}"))
                connection.execute(text(f"SET LOCAL statement_timeout = {int(OPENING * 2000)}"))
                connection.execute(text("SELECT pg_advisory_xact_lock(:lock)"), {"lock": _LOCK})
            yield connection


def _sqlite(url: URL, path: Path | None) -> Engine:
    # One in memory is one connection's.
    pool: dict[str, Any] = {"poolclass": StaticPool} if path is None else {"pool_size": 4}
    engine = create_engine(url, connect_args={"check_same_thread": False, "timeout": _BUSY}, **pool)

    @event.listens_for(engine, "connect")
    def connected(connection: Any, record: object) -> None:
        # Transactions are begun below, not by the module.
        connection.isolation_level = None
        # What is committed survives this process; a power cut takes the
        # worker's processes along with the last commits.
        for pragma in ("journal_mode = WAL", "synchronous = NORMAL", "foreign_keys = ON"):
            connection.execute(f"PRAGMA {pragma}").close()

    @event.listens_for(engine, "begin")
    def begun(connection: Connection) -> None:
        connection.exec_driver_sql(connection.get_execution_options().get("begin", "BEGIN"))

    return engine


def _postgresql(url: URL) -> Engine:
    limits = {
        "connect_timeout": _CONNECT,
        "tcp_user_timeout": _UNANSWERED,
        "keepalives_idle": 10,
        # Behind pgbouncer, statements cannot be prepared.
        "prepare_threshold": None,
    }
    args = {name: value for name, value in limits.items() if name not in url.query}
    engine = create_engine(
        url, connect_args=args, pool_size=4, max_overflow=0, pool_timeout=_CONNECT, pool_pre_ping=True
    )

    @event.listens_for(engine, "connect")
    def connected(connection: Any, record: object) -> None:
        connection.execute(f"SET statement_timeout = {_STATEMENT}")
        connection.execute(f"SET lock_timeout = {int(_BUSY * 1000)}")
        connection.commit()

    return engine


def _lock(descriptor: int) -> None:
    until = time.monotonic() + OPENING
    while True:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return
        except BlockingIOError:
            if time.monotonic() > until:
                raise TimeoutError("another process has the folder locked") from None
            time.sleep(0.05)


def _makeFolders(folder: Path) -> None:
    """
    Make the folders that are not there, each for this user alone.
    """
    if not folder.is_dir():
        _makeFolders(folder.parent)
        with suppress(FileExistsError):
            folder.mkdir(0o700)
