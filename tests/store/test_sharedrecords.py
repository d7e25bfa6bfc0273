"""
Tests for L{openai_server.store.sharedrecords}.
"""

from __future__ import annotations

from openai_server.store.sharedrecords import BEHIND, SharedRecords, recordsOf
from tests.store.support import PostgreSQL, SQLiteInMemory


class SharedRecordsTests(PostgreSQL):
    """
    (D41) Two processes, and a client that goes from one to the other.
    """

    def setUp(self) -> None:
        super().setUp()
        self.here = recordsOf(self.store, self.clock)
        self.there = recordsOf(self.opened(), self.clock)

    def test_keptAtOnce(self) -> None:
        """
        Once that is said, the other one has it.
        """
        self.assertIsNone(self.successResultOf(self.here.put("a", "one", b"1")))
        self.successResultOf(self.here.put("a", "two", b"2", "one"))
        self.assertEqual(self.successResultOf(self.there.get("a", "two")), b"2")
        self.assertEqual(self.successResultOf(self.there.chain("a", "two")), [b"1", b"2"])
        self.assertTrue(self.successResultOf(self.here.append("a", "one", [("x", b"y")])))
        self.assertEqual(self.successResultOf(self.there.item("a", "one", "x")), b"y")
        self.assertTrue(self.successResultOf(self.there.remove("a", "two")))

    def test_lookedForAgain(self) -> None:
        """
        What is being written meanwhile is found.
        """
        for look, result in (
            (lambda: self.there.get("a", "one"), b"1"),
            (lambda: self.there.chain("a", "one"), [b"1"]),
            (lambda: self.there.remove("a", "one"), True),
        ):
            found = look()
            self.assertNoResult(found)
            self.clock.advance(BEHIND / 2)
            self.here.put("a", "one", b"1")
            self.clock.advance(BEHIND)
            self.assertEqual(self.successResultOf(found), result)
            self.here.remove("a", "one")
            self.clock.advance(BEHIND)

    def test_neverThere(self) -> None:
        """
        Is said after the second look.
        """
        found = self.there.get("a", "none")
        self.clock.advance(BEHIND)
        self.assertIsNone(self.successResultOf(found))
        self.assertEqual([call for call in self.clock.getDelayedCalls() if call.getTime() == BEHIND], [])


class LoneTests(SQLiteInMemory):
    """
    One process.
    """

    def test_nothingIsDifferent(self) -> None:
        """
        Whom nobody shares a store with waits for nobody.
        """
        records = recordsOf(self.store, self.clock)
        self.assertNotIsInstance(records, SharedRecords)
        self.assertIsNone(self.successResultOf(records.get("a", "none")))
