"""
Faults of databases: L{openai_server.store.database} and what stands on it.
"""

from __future__ import annotations

import contextlib
import os
import sqlite3
import stat
import subprocess
import sys
from pathlib import Path
from typing import Any
from unittest import SkipTest, mock

import msgspec
from sqlalchemy import text
from twisted.logger import LogEvent, formatEvent, globalLogPublisher

from openai_server.store import location
from openai_server.store.administration import Administration
from openai_server.store.database import Database
from openai_server.store.interfaces import StoreError
from openai_server.store.location import Location
from openai_server.store.opening import claimFrom
from openai_server.store.saved import SavedCall, SavedHint, SavedSession
from openai_server.store.troubles import Trouble, troubleOf
from tests.store.postgresql import server
from tests.store.support import NOW, ROOM, PostgreSQL, SQLiteFile
from tests.store.test_state import CALL, HINT, SESSION
from tests.support import SyncCase


class LoggedFile(SQLiteFile):
    """
    A store in a file, and what is logged.
    """

    def setUp(self) -> None:
        self.patch(location, "_BUSY", 0.0)
        self.logged: list[str] = []
        globalLogPublisher.addObserver(self.log)
        self.addCleanup(globalLogPublisher.removeObserver, self.log)
        super().setUp()

    def log(self, event: LogEvent) -> None:
        """
        Note a line of the log.
        """
        if str(event.get("log_namespace")).startswith("openai_server"):
            self.logged.append(formatEvent(event))

    def other(self) -> sqlite3.Connection:
        """
        Another program that has the file open.
        """
        connection = sqlite3.connect(self.file, isolation_level=None)
        self.addCleanup(connection.close)
        return connection

    def save(self, *saved: Any) -> bool:
        """
        Save and see whether it is written.
        """
        self.store.state.save(*saved)
        return bool(self.successResultOf(self.store.state.durable()))

    def get(self, id: str) -> bytes | None:
        """
        A record.
        """
        return self.successResultOf(self.store.records.get("a", id))

    def reopen(self) -> None:
        """
        Go on after a restart.
        """
        self.successResultOf(self.store.stopService())
        self.store = self.opened()


class FileTests(LoggedFile):
    """
    The file itself.
    """

    def test_modes(self) -> None:
        """
        The file and the folders that are made are the user's alone.
        """
        self.assertTrue(self.save(HINT))
        modes = {
            path.name: stat.S_IMODE(path.stat().st_mode)
            for path in (self.file.parent, *self.file.parent.iterdir())
        }
        self.assertEqual(
            modes, {"state": 0o700, "store.db": 0o600, "store.db-wal": 0o600, "store.db-shm": 0o600}
        )
        self.successResultOf(self.store.stopService())
        self.assertEqual([path.name for path in self.file.parent.iterdir()], ["store.db"])

    def test_notADatabase(self) -> None:
        """
        It is put aside and kept, and another one takes its place.
        """
        self.successResultOf(self.store.stopService())
        self.file.write_bytes(b"not a database, but somebody's file" * 100)
        self.store = self.opened()
        self.assertTrue(self.save(HINT))
        (aside,) = self.file.parent.glob("store.db.corrupt-*")
        self.assertTrue(aside.read_bytes().startswith(b"not a database"))
        self.assertIn(f"was moved to {aside}", self.logged[0])

    def test_damaged(self) -> None:
        """
        (D4) The same when it shows later that it is.
        """
        self.store.state.save(*[SavedHint(b"%d" % number * 50, True, NOW + 99) for number in range(3000)])
        self.store.records.put("a", "r", b"data")
        self.reopen()
        size = self.file.stat().st_size
        with open(self.file, "r+b") as file:
            file.seek(4096)
            file.write(b"\xff" * (size - 4096))
        self.assertTrue(self.save(HINT))
        self.assertEqual(len(list(self.file.parent.glob("store.db.corrupt-*"))), 1)
        self.assertEqual((self.get("r"), self.store.whyDegraded), (None, None))
        self.assertEqual(self.successResultOf(self.store.state.get(SavedHint, b"h")), HINT)

    def test_damageIsRead(self) -> None:
        """
        The same when it shows while something is read.
        """
        self.store.records.put("a", "r", b"data" * 5000)
        self.assertEqual(len(self.get("r") or b""), 20_000)
        self.reopen()
        with open(self.file, "r+b") as file:
            file.seek(4096)
            file.write(b"\xff" * (self.file.stat().st_size - 4096))
        self.assertIsNone(self.get("r"))
        self.assertEqual(self.store.whyDegraded, "corrupt")
        self.clock.advance(0.25)
        self.assertIsNone(self.store.whyDegraded)
        self.assertEqual(len(list(self.file.parent.glob("store.db.corrupt-*"))), 1)

    def test_newer(self) -> None:
        """
        (D5) It is refused, in one line, and left as it is.
        """
        self.successResultOf(self.store.stopService())
        with self.other() as connection:
            connection.execute("UPDATE alembic_version SET version_num = '9999'")
        with self.assertRaises(StoreError) as caught:
            self.opened()
        said = "its schema is 9999, of a newer openai-server; this one knows them up to 0006"
        self.assertEqual(str(caught.exception), f"store {self.file}: {said}")
        self.assertEqual(list(self.file.parent.glob("store.db.corrupt-*")), [])


class TroubleTests(LoggedFile):
    """
    A file that cannot be written.
    """

    def degraded(self, word: str) -> None:
        """
        See that requests go on from memory.
        """
        self.store.records.put("a", "in trouble", b"data")
        self.assertFalse(self.save(SESSION))
        self.assertEqual(self.store.whyDegraded, word)
        self.assertEqual(self.get("in trouble"), b"data")
        self.assertEqual(self.successResultOf(self.store.state.get(SavedSession, "s1")), SESSION)
        self.assertEqual(self.counters.get("store_degraded", word), 1)

    def recovered(self) -> None:
        """
        See that all is well, and nothing was lost.
        """
        self.clock.advance(10)
        self.assertIsNone(self.store.whyDegraded)
        self.reopen()
        self.assertEqual((self.get("before"), self.get("in trouble")), (b"data", b"data"))
        self.assertEqual(self.successResultOf(self.store.state.get(SavedSession, "s1")), SESSION)
        self.assertEqual(
            [line[:22] for line in self.logged], ["the store is degraded,", "the store is well agai"]
        )

    def setUp(self) -> None:
        super().setUp()
        self.store.records.put("a", "before", b"data")
        self.assertTrue(self.save(CALL))

    def test_locked(self) -> None:
        """
        (D1) Another program holds it.
        """
        connection = self.other()
        connection.execute("BEGIN IMMEDIATE")
        self.degraded("locked")
        connection.execute("COMMIT")
        self.recovered()

    def test_full(self) -> None:
        """
        (D2) There is no room on the disk.
        """
        self.successResultOf(self.store.stopService())
        folder = Path(self.mktemp()).absolute()
        folder.mkdir()
        mounting = ["mount", "-t", "tmpfs", "-o", "size=400k", "tmpfs", str(folder)]
        if subprocess.run(mounting, check=False, capture_output=True).returncode:
            raise SkipTest("this user cannot mount a small disk")
        self.addCleanup(subprocess.run, ["umount", "--lazy", str(folder)], check=True)
        self.where = f"sqlite:///{folder}/store.db"
        self.store = self.opened()
        self.store.records.put("a", "before", b"data")
        self.assertTrue(self.save(CALL))
        blocker = folder / "blocker"
        with open(blocker, "wb", buffering=0) as file, contextlib.suppress(OSError):
            while file.write(b"x" * 4096):
                pass
        self.store.records.put("a", "large", b"x" * 50_000)
        self.degraded("full")
        blocker.unlink()
        self.recovered()

    def test_readOnly(self) -> None:
        """
        (D3) The file may not be written to.
        """
        engine = self.store._database._engine  # type: ignore[attr-defined]
        with engine.connect() as connection:
            connection.exec_driver_sql("PRAGMA query_only = ON")
        self.degraded("read-only")
        with engine.connect() as connection:
            connection.exec_driver_sql("PRAGMA query_only = OFF")
        self.recovered()


class AloneTests(LoggedFile):
    """
    A process that decides for itself while the store is degraded.
    """

    def setUp(self) -> None:
        super().setUp()
        self.assertTrue(self.save(CALL, SESSION))
        self.locking = self.other()
        self.locking.execute("BEGIN IMMEDIATE")
        self.assertFalse(self.save(HINT))

    def test_keptAgain(self) -> None:
        """
        What was taken and is kept again stays.
        """
        state = self.store.state
        newer = msgspec.structs.replace(CALL, publicId="call_2")
        for _ in range(2):
            state.save(newer)
            self.assertTrue(self.successResultOf(state.takeAll(SavedCall, ["call_2"], owner="p1")))
            self.assertFalse(self.successResultOf(state.takeAll(SavedCall, ["call_2"], owner="p1")))
        state.save(newer)
        self.locking.execute("COMMIT")
        self.clock.advance(10)
        self.assertIsNone(self.store.whyDegraded)
        self.assertEqual(self.successResultOf(state.get(SavedCall, "call_2")), newer)

    def test_take(self) -> None:
        """
        What is not known to be gone is taken once.
        """
        take = self.store.state.take
        self.assertTrue(self.successResultOf(take(SavedCall, "call_1")))
        self.assertFalse(self.successResultOf(take(SavedCall, "call_1")))
        self.store.state.save(msgspec.structs.replace(CALL, expiresAt=NOW))
        self.assertFalse(self.successResultOf(take(SavedCall, "call_1")))
        self.store.state.save(CALL)
        self.store.state.forget(SavedCall, "call_1")
        self.assertFalse(self.successResultOf(take(SavedCall, "call_1")))

    def test_find(self) -> None:
        """
        What is unsaved is found.
        """
        find = self.store.state.find
        other = msgspec.structs.replace(SESSION, sid="s2", name=b"m")
        self.store.state.save(other)
        self.assertEqual(self.successResultOf(find(SavedSession, limit=9)), [other])
        self.assertEqual(self.successResultOf(find(SavedSession, limit=9, name=b"n")), [])

    def test_leases(self) -> None:
        """
        They hold within the process.
        """
        state = self.store.state
        self.assertTrue(self.successResultOf(state.acquire("sid:1", "p1", 5)))
        self.assertFalse(self.successResultOf(state.acquire("sid:1", "p2", 5)))
        self.assertTrue(self.successResultOf(state.renew("sid:1", "p1", 5)))
        self.assertTrue(self.successResultOf(state.release("sid:1", "p1")))
        self.assertTrue(self.successResultOf(state.acquire("sid:1", "p2", 5)))

    def test_records(self) -> None:
        """
        They are listed, changed and removed in memory.
        """
        records = self.store.records
        records.put("a", "r1", b"1")
        records.put("a", "r2", b"2", "r1")
        self.assertEqual(list(self.successResultOf(records.chain("a", "r2"))), [b"1", b"2"])
        self.assertTrue(self.successResultOf(records.append("a", "r1", [("i", b"x")])))
        self.assertEqual(list(self.successResultOf(records.items("a", "r1"))), [("i", b"x")])
        self.assertEqual(self.successResultOf(records.item("a", "r1", "i")), b"x")
        self.assertTrue(self.successResultOf(records.removeItem("a", "r1", "i")))
        self.assertTrue(self.successResultOf(records.remove("a", "r2")))
        self.assertEqual(list(self.successResultOf(records.records("a", "r", limit=9))), [("r1", b"1")])


class StartTests(SQLiteFile):
    """
    A start in trouble.
    """

    def test_unreachable(self) -> None:
        """
        (D8) The server starts, and goes on with the database once it is there.
        """
        self.successResultOf(self.store.stopService())
        folder = Path(self.mktemp()).absolute()
        folder.write_bytes(b"a file where a folder is wanted")
        self.where = f"sqlite:///{folder}/store.db"
        self.store = self.opened()
        self.assertEqual(self.store.whyDegraded, "unreachable")
        self.store.records.put("a", "r", b"data")
        secret = self.store.state.secret("a")
        self.clock.advance(1)
        self.assertEqual(self.successResultOf(self.store.records.get("a", "r")), b"data")
        folder.unlink()
        self.clock.advance(10)
        self.assertIsNone(self.store.whyDegraded)
        self.successResultOf(self.store.stopService())
        self.store = self.opened()
        self.assertEqual(self.successResultOf(self.store.records.get("a", "r")), b"data")
        self.assertEqual(self.store.state.secret("a"), secret)

    def test_together(self) -> None:
        """
        (D10) Several processes that start at once make the tables once, and have one
        secret.
        """
        self.successResultOf(self.store.stopService())
        self.file.unlink()
        self.assertEqual(len(together(self.where)), 1)


class PostgreSQLFaultTests(PostgreSQL):
    """
    A server that stops, and one that is not there.
    """

    def test_stopped(self) -> None:
        """
        (D6) Requests go on from memory; nothing is lost when it is there again.
        """
        self.store.records.put("a", "before", b"data")
        self.assertTrue(self.successResultOf(self.store.state.durable()))
        server().stop()
        try:
            self.store.records.put("a", "r", b"data")
            self.store.state.save(CALL)
            self.assertFalse(self.successResultOf(self.store.state.durable()))
            self.assertEqual(self.store.whyDegraded, "unreachable")
            self.assertEqual(self.successResultOf(self.store.records.get("a", "before")), b"data")
            self.clock.advance(5)
            self.assertEqual(self.store.whyDegraded, "unreachable")
        finally:
            server().start()
        self.clock.advance(10)
        self.assertIsNone(self.store.whyDegraded)
        self.successResultOf(self.store.stopService())
        self.store = self.opened()
        self.assertEqual(self.successResultOf(self.store.records.get("a", "r")), b"data")

    def test_cut(self) -> None:
        """
        A connection that was cut is made anew, and nobody sees it.
        """
        self.store.state.save(CALL)
        self.assertTrue(self.successResultOf(self.store.state.durable()))
        server().cut()
        self.store.state.save(HINT)
        self.assertTrue(self.successResultOf(self.store.state.durable()))
        server().cut()
        self.assertEqual(self.successResultOf(self.store.state.get(SavedHint, b"h")), HINT)

    def test_together(self) -> None:
        """
        Several processes that start at once make the tables once, and have one
        secret.
        """
        self.successResultOf(self.store.stopService())
        server().clear()
        self.assertEqual(len(together(self.where)), 1)

    def test_NUL(self) -> None:
        """
        (D11) A text that PostgreSQL does not take is left out, and nothing else is.
        """
        bad = msgspec.structs.replace(SESSION, sid="bad", systemPrompt="a\0b")
        self.store.state.save(SESSION, bad, HINT)
        self.assertTrue(self.successResultOf(self.store.state.durable()))
        found = self.successResultOf(self.store.state.find(SavedSession, limit=9))
        self.assertEqual((found, self.counters.get("store_refused")), ([SESSION], 1))

    def test_locked(self) -> None:
        """
        Another process holds a table.
        """
        engine = Location(self.where).engine()
        self.addCleanup(engine.dispose)
        with engine.begin() as connection:
            connection.execute(text("LOCK TABLE calls"))
            self.store.state.save(CALL)
            self.assertFalse(self.successResultOf(self.store.state.durable()))
            self.assertEqual(self.store.whyDegraded, "locked")
        self.clock.advance(10)
        self.assertIsNone(self.store.whyDegraded)


class OtherTests(SQLiteFile):
    """
    What else may be wrong.
    """

    def test_whatCannotBeWritten(self) -> None:
        """
        (D11) What SQLite does not take is left out, and nothing else is.
        """
        wrong: list[Any] = [{"showsHistory": None}, {"key": "\ud800"}]
        for number, values in enumerate(wrong, 1):
            bad = msgspec.structs.replace(HINT, **{"key": b"bad", **values})
            self.store.state.save(HINT, bad)
            self.assertTrue(self.successResultOf(self.store.state.durable()), values)
            found = self.successResultOf(self.store.state.find(SavedHint, limit=9))
            self.assertEqual((found, self.counters.get("store_refused")), ([HINT], number), values)

    def test_noURL(self) -> None:
        """
        It is said, without what may be a secret.
        """
        with self.assertRaises(StoreError):
            Location("no url")
        self.assertNotIn("secret", str(Location("postgresql+psycopg://me:secret@here/db")))

    def test_noDriver(self) -> None:
        """
        It is said what to install.
        """
        patched = mock.patch.dict(sys.modules, {"psycopg": None})
        patched.start()
        self.addCleanup(patched.stop)
        with self.assertRaises(StoreError) as caught:
            Location("postgresql+psycopg://me:secret@here/db").engine()
        self.assertIn("pip install 'openai-server[postgresql]'", str(caught.exception))

    def test_words(self) -> None:
        """
        Each fault is told in one word.
        """
        self.assertEqual(troubleOf(TimeoutError()), "locked")
        self.assertEqual(troubleOf(PermissionError()), "unreachable")
        self.assertEqual(troubleOf(Trouble("slow")), "slow")
        self.assertEqual(troubleOf(StoreError("")), "refused")
        self.assertEqual(troubleOf(sqlite3.OperationalError()), "failing")
        self.assertIsNone(troubleOf(ValueError()))


class ClaimTests(SyncCase):
    """
    (D40) A file is for one server.
    """

    def setUp(self) -> None:
        super().setUp()
        self.file = Path(self.mktemp()).absolute() / "state" / "store.db"
        self.url = f"sqlite:///{self.file}"

    def test_anotherOneIsRefused(self) -> None:
        """
        Until the first one gives it back; the folder need not be there yet.
        """
        release = claimFrom(self.url)
        error = self.assertRaises(StoreError, claimFrom, self.url)
        self.assertEqual(
            str(error),
            f"store {self.file}: another server uses it: stop that one, or name another store with --store;"
            " a file is for one server, several share PostgreSQL",
        )
        self.addCleanup(claimFrom(f"{self.url}-other"))
        release()
        claimFrom(self.url)()
        self.assertEqual(stat.S_IMODE(Path(f"{self.file}.lock").stat().st_mode), 0o600)

    def test_nothingStaysOpen(self) -> None:
        """
        Whether it was refused or given back.
        """
        before = len(os.listdir("/dev/fd"))
        release = claimFrom(self.url)
        self.assertRaises(StoreError, claimFrom, self.url)
        release()
        self.assertEqual(len(os.listdir("/dev/fd")), before)

    def test_itIsNotTheDatabasesOwnLock(self) -> None:
        """
        An operator looks into it meanwhile.
        """
        self.addCleanup(claimFrom(self.url))
        Database(Location(self.url), ROOM, lambda: NOW).open()
        store = Administration(self.url)
        self.addCleanup(store.close)
        self.assertEqual(store.summary(NOW).sessions, 0)

    def test_whereNothingCanBeMade(self) -> None:
        """
        The server starts, and its store will say what is wrong.
        """
        self.file.parent.parent.write_bytes(b"")
        before = len(os.listdir("/dev/fd"))
        for _ in range(2):
            claimFrom(self.url)()
        self.assertEqual(len(os.listdir("/dev/fd")), before)

    def test_otherStores(self) -> None:
        """
        They are for any number.
        """
        for url in ("memory:", "sqlite://", "postgresql+psycopg://me@here/db"):
            for _ in range(2):
                self.addCleanup(claimFrom(url))


def together(url: str) -> set[str]:
    """
    Open a database in three processes at once.

    @return: the secrets that they see.
    """
    code = (
        "import sys, time; from openai_server.store.database import Database;"
        "from openai_server.store.location import Location;"
        "from openai_server.store.interfaces import Bounds;"
        "base = Database(Location(sys.argv[1]), Bounds(1, 1, 1), time.time);"
        "base.open(); print(base.root.hex())"
    )
    started = [
        subprocess.Popen([sys.executable, "-c", code, url], stdout=subprocess.PIPE, text=True)
        for _ in range(3)
    ]
    return {process.communicate(timeout=60)[0] + str(process.returncode) for process in started}
