"""
Tests for L{openai_server.store.memory}.
"""

from __future__ import annotations

from typing import Any

from twisted.internet.defer import Deferred

from openai_server.store.interfaces import RecordStore
from openai_server.store.memory import Bounds, MemoryStore
from tests.support import SyncCase, TestClock


class MemoryStoreTests(SyncCase):
    """
    What is kept, and for how long.
    """

    def setUp(self) -> None:
        super().setUp()
        self.clock = TestClock()
        self.store = MemoryStore(self.clock, Bounds(3, 1 << 20, 100))

    def put(self, id: str, data: bytes = b"x", previous: str | None = None, account: str = "a") -> None:
        """
        Keep a record, one second after the last.
        """
        store: RecordStore = self.store
        self.clock.advance(1)
        self.successResultOf(store.put(account, id, data, previous))

    def get(self, id: str, account: str = "a") -> bytes | None:
        """
        A record.
        """
        return self.successResultOf(self.store.get(account, id))

    def chain(self, id: str, account: str = "a") -> list[bytes]:
        """
        A record with all that it goes on from.
        """
        found: Deferred[Any] = self.store.chain(account, id)
        return list(self.successResultOf(found))

    def test_accounts(self) -> None:
        """
        Nobody sees another's record, or removes it.
        """
        self.put("1", b"mine")
        self.put("1", b"yours", account="b")
        self.assertEqual((self.get("1"), self.get("1", "b"), self.get("1", "c")), (b"mine", b"yours", None))
        self.assertEqual(self.chain("1", "c"), [])
        self.assertFalse(self.successResultOf(self.store.remove("c", "1")))
        self.assertTrue(self.successResultOf(self.store.remove("b", "1")))
        self.assertEqual((self.get("1"), self.get("1", "b"), len(self.store)), (b"mine", None, 1))

    def test_chain(self) -> None:
        """
        From its beginning, or not at all.
        """
        self.put("1", b"one")
        self.put("2", b"two", "1")
        self.put("3", b"three", "2")
        self.assertEqual(self.chain("3"), [b"one", b"two", b"three"])
        self.assertEqual(self.chain("2"), [b"one", b"two"])
        self.successResultOf(self.store.remove("a", "1"))
        self.assertEqual(self.chain("3"), [])
        self.assertEqual(self.get("3"), b"three")

    def test_circle(self) -> None:
        """
        A record that goes on from itself goes on from nothing that is there.
        """
        self.put("1", b"one", "1")
        self.assertEqual(self.chain("1"), [])

    def test_count(self) -> None:
        """
        The one used longest ago goes first, and going on from one uses all of
        its chain.
        """
        for number in range(4):
            self.put(str(number))
        self.assertEqual([self.get(str(number)) for number in range(4)], [None, b"x", b"x", b"x"])
        self.put("4", previous="3")
        self.chain("4")
        self.put("5")
        self.put("6")
        self.assertEqual([self.get(id) for id in "23456"], [None, None, b"x", b"x", b"x"])

    def test_bytes(self) -> None:
        """
        So many of all together; one that is too large for itself is not kept,
        and another one under an id takes the former's place.
        """
        self.store = MemoryStore(self.clock, Bounds(100, 3000, 100))
        self.put("1", b"x" * 1000)
        self.put("2", b"x" * 1000)
        self.assertEqual(len(self.store), 1)
        self.put("2", b"x" * 10)
        self.assertEqual((len(self.store), self.get("2")), (1, b"x" * 10))
        self.put("3", b"x" * 3000)
        self.assertEqual((len(self.store), self.store.size), (0, 0))

    def test_age(self) -> None:
        """
        Counted from the last use.
        """
        self.put("1")
        self.put("2")
        self.clock.advance(60)
        self.chain("1")
        self.clock.advance(60)
        self.assertEqual((self.get("1"), self.get("2")), (b"x", None))
        self.clock.advance(60)
        self.assertEqual((self.get("1"), len(self.store)), (None, 0))

    def test_nothing(self) -> None:
        """
        With no room for any record.
        """
        self.store = MemoryStore(self.clock, Bounds(0, 3000, 100))
        self.put("1")
        self.assertEqual((self.get("1"), self.store.size), (None, 0))
