"""
What every store of accounts does.
"""

from __future__ import annotations

from typing import Any

from twisted.internet.defer import Deferred

from openai_server.store.administration import Administration
from openai_server.store.keyadministration import KeyAdministration
from openai_server.store.savedkeys import KeyTable, SavedKey
from tests.store.support import NOW, InMemory, PostgreSQL, SQLiteFile
from tests.support import TestClock

DAY = 86_400.0


class AccountsContract:
    """
    Keys as a program of the operator's leaves them, and what is used.
    """

    store: Any

    def setUp(self) -> None:
        super().setUp()  # type: ignore[misc]
        database = Administration(self.where)  # type: ignore[attr-defined]
        self.addCleanup(database.close)  # type: ignore[attr-defined]
        self.keys = KeyAdministration(database, NOW)

    def result(self, deferred: Deferred[Any]) -> Any:
        """
        What came of it, at once.
        """
        return self.successResultOf(deferred)  # type: ignore[attr-defined]

    def test_keys(self) -> None:
        """
        They come back as they were, and their version is another one after
        each change.
        """
        accounts = self.store.accounts
        self.assertTrue(accounts.lasts)  # type: ignore[attr-defined]
        full = SavedKey(
            digest=b"\0\xff", name="b", shown="sk", account="t", models="m,n", rpm=1, tpm=2, concurrent=3,
            tokensPerDay=4, tokensPerMonth=2**53, isAdmin=True, createdAt=NOW, expiresAt=NOW + 1,
        )  # fmt: skip
        plain = SavedKey(digest=b"d", name="a", shown="sk", account="a", createdAt=NOW)
        versions = [self.result(accounts.version())]
        for key in (full, plain):
            self.keys.add(key)
            versions.append(self.result(accounts.version()))
        self.assertEqual(len(set(versions)), 3)  # type: ignore[attr-defined]
        table = self.result(accounts.keys())
        self.assertEqual(table, KeyTable(versions[-1], [plain, full]))  # type: ignore[attr-defined]
        self.assertEqual(self.opened().accounts.atStart, table)  # type: ignore[attr-defined]

    def test_used(self) -> None:
        """
        What several processes use is summed up, and old days are forgotten.
        """
        clock: TestClock = self.clock  # type: ignore[attr-defined]
        accounts, other = self.store.accounts, self.opened().accounts  # type: ignore[attr-defined]
        for tokens in (1, 20):
            accounts.use("a", ["2026-05-28", "2026-05"], tokens)
        self.assertEqual(len(self.store.changes), 1)  # type: ignore[attr-defined]
        self.assertEqual(  # type: ignore[attr-defined]
            self.result(accounts.used("a", ["2026-05-28", "2026-05", "2026-04"])),
            {"2026-05-28": 21, "2026-05": 21, "2026-04": 0},
        )
        other.use("a", ["2026-05-28"], 300)
        self.result(other.used("a", ["2026-05-28"]))
        accounts.use("a", ["2026-05-28"], 4000)
        self.assertEqual(self.result(accounts.used("a", ["2026-05-28"])), {"2026-05-28": 4321})  # type: ignore[attr-defined]
        for days, left in ((61, 4321), (3, 0)):
            clock.advance(days * DAY)
            accounts.use("b", ["x"], 1)
            self.assertEqual(self.result(accounts.used("a", ["2026-05-28"])), {"2026-05-28": left})  # type: ignore[attr-defined]

    def test_degraded(self) -> None:
        """
        Nothing can be read then, and nobody waits.
        """
        self.store.changes.whyDegraded = "full"
        accounts = self.store.accounts
        for deferred in (accounts.version(), accounts.keys(), accounts.used("a", ["x"])):
            self.assertIsNone(self.result(deferred))  # type: ignore[attr-defined]
        self.store.changes.whyDegraded = None


class FileAccountsTests(AccountsContract, SQLiteFile):
    """
    In a file of SQLite's, which one process has.
    """

    def test_isShared(self) -> None:
        """
        It is not.
        """
        self.assertFalse(self.store.accounts.isShared)


class PostgreSQLAccountsTests(AccountsContract, PostgreSQL):
    """
    At a server of PostgreSQL's.
    """

    def test_isShared(self) -> None:
        """
        It may be.
        """
        self.assertTrue(self.store.accounts.isShared)


class MemoryAccountsTests(InMemory):
    """
    Without a database.
    """

    def test_nothing(self) -> None:
        """
        There are no keys, and no budgets that anything would count for.
        """
        accounts = self.store.accounts
        self.assertFalse(accounts.lasts or accounts.isShared)
        accounts.use("a", ["x"], 1)
        found = [accounts.version(), accounts.keys(), accounts.used("a", ["x"])]
        self.assertEqual(
            [self.successResultOf(each) for each in found], [0, KeyTable(0, ()), {"x": 0}]  # type: ignore[arg-type, var-annotated]
        )
