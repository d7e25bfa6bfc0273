"""
Tests for L{openai_server.admin}.
"""

from __future__ import annotations

import io
import json
import sqlite3
import subprocess
import sys
from pathlib import Path
from typing import Any

from openai_server.admin.program import run
from openai_server.store.saved import SavedAnswer
from tests.store.support import NOW, PostgreSQL, SQLiteFile
from tests.store.test_state import ALL, CALL
from tests.support import SyncCase


class AdminContract:
    """
    The commands, with a store that has something in it.
    """

    def setUp(self) -> None:
        super().setUp()
        self.store.state.save(*ALL)
        records = self.store.records
        records.put("a", "resp_1", b'{"text": "caf\xc3\xa9"}')
        records.put("b", "resp_2", b"\xff\xfe")
        records.put("a", "conv_1", b"[1]")
        self.assertTrue(self.successResultOf(records.append("a", "conv_1", [("item_1", b"{}")])))

    def ran(self, *arguments: str, code: int = 0, now: float = NOW + 20) -> list[str]:
        """
        The lines of a command's output.
        """
        out, err = io.StringIO(), io.StringIO()
        environ = {"OPENAI_SERVER_STORE": self.where, "HOME": "/nowhere"}
        self.assertEqual(run(arguments, environ, out, err, now), code, err.getvalue())
        return (err if code else out).getvalue().splitlines()

    def test_state(self) -> None:
        """
        What there is of each kind, and the calls one by one.
        """
        lines = self.ran("state")
        self.assertRegex(lines[0], r"^store: .*, [\d,]+ bytes$")
        self.assertEqual(lines[1:3], ["sessions: 1; hints: 1", "idempotency keys: 1; leases: 0"])
        self.assertEqual(
            lines[3:5], ["kept under conv_...: 1, 1,029 bytes", "kept under resp_...: 2, 1,043 bytes"]
        )
        call = "  call_1 c, session s1, account a: 20 s old, "
        self.assertEqual(lines[5:], ["parked calls: 1", call + "ends in 30 s"])
        self.assertEqual(
            self.ran("state", now=NOW + 60)[-1], call.replace("20", "60") + "should have ended 10 s ago"
        )

    def test_forget(self) -> None:
        """
        A session with its calls, a response, and what is old.
        """
        self.assertEqual(self.ran("forget", "--response", "resp_2"), ["1 rows are gone"])
        self.assertIsNone(self.successResultOf(self.store.records.get("b", "resp_2")))
        self.assertEqual(self.ran("forget", "--session", "s1"), ["2 rows are gone"])
        self.assertIsNone(self.successResultOf(self.store.state.get(type(CALL), "call_1")))
        self.clock.advance(900)
        self.store.records.put("a", "resp_3", b"{}")
        self.assertTrue(self.successResultOf(self.store.state.durable()))
        self.assertEqual(self.ran("forget", "--before", "2026-05-28"), ["0 rows are gone"])
        self.assertEqual(self.ran("forget", "--before", "2026-05-28T20:30"), ["2 rows are gone"])
        self.assertEqual(self.ran("forget", "--before", "2026-05-28T21:45:00+01:00"), ["1 rows are gone"])

    def test_export(self) -> None:
        """
        All, as JSON, without a secret.
        """
        lines: list[Any] = [json.loads(line) for line in self.ran("export")]
        tables = ["sessions", "hints", "calls", "answers", "messages", *["records"] * 3, "items"]
        self.assertEqual([line["table"] for line in lines], tables)
        self.assertEqual(
            [lines[5]["data"], lines[6]["data"], lines[7]["data"]], [{"text": "café"}, "//4=", [1]]
        )
        self.assertEqual((lines[0]["sid"], lines[0]["user"], lines[0]["details"]), ("s1", None, "AP8="))

    def test_vacuum(self) -> None:
        """
        Nothing is lost by it.
        """
        self.assertTrue(self.successResultOf(self.store.state.durable()))
        self.assertEqual(self.ran("vacuum"), [])
        self.assertEqual(self.successResultOf(self.store.records.get("b", "resp_2")), b"\xff\xfe")


class FileAdminTests(AdminContract, SQLiteFile):
    """
    A file.
    """

    def test_faults(self) -> None:
        """
        One line each.
        """
        self.assertEqual(
            self.ran("forget", code=2), ["admin: forget what? one of --session, --response, --before"]
        )
        self.assertEqual(self.ran(code=2), ["admin: no command; see --help"])
        self.assertIn("'soon' is no day", self.ran("forget", "--before", "soon", code=2)[0])
        self.assertIn("--store: store: the value is not", self.ran("--store", "x", "state", code=2)[0])
        said = "admin: the store is memory: only the server itself sees what is in it"
        self.assertEqual(self.ran("--store", "memory:", "state", code=1), [said])
        missing = str(Path(self.mktemp()).absolute())
        said = f"admin: there is no store at {missing}"
        self.assertEqual(self.ran("--store", f"sqlite:///{missing}", "state", code=1), [said])
        Path(missing).write_bytes(b"no database" * 100)
        said = f"admin: store {missing}: corrupt"
        self.assertEqual(self.ran("--store", f"sqlite:///{missing}", "state", code=1), [said])
        Path(missing).write_bytes(b"")
        said = (
            f"admin: store {missing}: its schema is None, and 0006 is wanted: start this server with it once"
        )
        self.assertEqual(self.ran("--store", f"sqlite:///{missing}", "state", code=1), [said])

    def test_room(self) -> None:
        """
        What was forgotten takes none after a vacuum.
        """
        self.store.state.save(SavedAnswer(b"large", "a", b"", b"x" * 1_000_000, NOW + 100))
        self.assertTrue(self.successResultOf(self.store.state.durable()))
        self.store.state.forget(SavedAnswer, b"large")
        self.assertTrue(self.successResultOf(self.store.state.durable()))
        self.assertGreater(self.size(), 1_000_000)
        self.assertEqual(self.ran("vacuum"), [])
        self.assertLess(self.size(), 300_000)

    def size(self) -> int:
        """
        Bytes of the whole database.
        """
        return int(self.ran("state")[0].split()[-2].replace(",", ""))

    def test_vacuumWhileLocked(self) -> None:
        """
        It waits, and then says so.
        """
        other = sqlite3.connect(self.file, isolation_level=None)
        self.addCleanup(other.close)
        other.execute("BEGIN IMMEDIATE")
        self.assertEqual(self.ran("vacuum", code=1), [f"admin: store {self.file}: locked"])


class PostgreSQLAdminTests(AdminContract, PostgreSQL):
    """
    A server.
    """


class ModuleTests(SyncCase):
    """
    The program as it is run.
    """

    def test_module(self) -> None:
        """
        It ends with its code, in one line.
        """
        done = subprocess.run(
            [sys.executable, "-m", "openai_server.admin", "state"],
            env={"HOME": "/nowhere"},
            capture_output=True,
            text=True,
            check=False,
            timeout=60,
        )
        self.assertEqual((done.returncode, done.stdout), (1, ""))
        self.assertIn("there is no store at /nowhere/.local/state/hum/openai-server.db", done.stderr)
