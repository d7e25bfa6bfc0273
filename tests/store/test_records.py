"""
What every store of records does.
"""

from __future__ import annotations

from collections.abc import Sequence
from random import Random
from typing import Any

from sqlalchemy import Engine, func, select
from twisted.internet.defer import Deferred
from twisted.trial.unittest import SynchronousTestCase

from openai_server.store.interfaces import LONGEST_ID, OVERHEAD, Bounds, RecordStore
from openai_server.store.location import Location
from openai_server.store.memory import MemoryStore
from openai_server.store.migrations import migrate
from openai_server.store.operations import writeAll
from openai_server.store.recordbounds import Extent, RecordBounds
from openai_server.store.recordchanges import (
    AppendItems,
    PutRecord,
    RecordChange,
    RemoveItem,
    RemoveRecord,
    UseRecord,
)
from openai_server.store.schema import records
from tests.store.support import InMemory, PostgreSQL, SQLiteFile, SQLiteInMemory


class RecordContract:
    """
    Has records, with room for three of them.
    """

    def setUp(self) -> None:
        super().setUp()
        self.limit(Bounds(3, 1 << 20, 100))

    def limit(self, bounds: Bounds) -> None:
        """
        Go on with a store that has these bounds.
        """
        self.successResultOf(self.store.stopService())
        self.where = self.newURL()
        self.store = self.opened(bounds)
        self.records: RecordStore = self.store.records

    def put(self, id: str, data: bytes = b"x", previous: str | None = None, account: str = "a") -> None:
        """
        Keep a record, one second after the last.
        """
        self.clock.advance(1)
        self.successResultOf(self.records.put(account, id, data, previous))

    def get(self, id: str, account: str = "a") -> bytes | None:
        """
        A record.
        """
        return self.successResultOf(self.records.get(account, id))

    def count(self) -> int:
        """
        How many records there are.
        """
        found: Deferred[Any] = self.records.records("a", "", limit=99)
        return len(self.successResultOf(found))

    def chain(self, id: str, account: str = "a") -> list[bytes]:
        """
        A record with all that it goes on from.
        """
        found: Deferred[Any] = self.records.chain(account, id)
        return list(self.successResultOf(found))


class KeepingContract(RecordContract):
    """
    What is kept, and for how long.
    """

    def test_accounts(self) -> None:
        """
        Nobody sees another's record, or removes it.
        """
        self.put("1", b"mine")
        self.put("1", b"yours", account="b")
        self.assertEqual((self.get("1"), self.get("1", "b"), self.get("1", "c")), (b"mine", b"yours", None))
        self.assertEqual(self.chain("1", "c"), [])
        self.assertFalse(self.successResultOf(self.records.remove("c", "1")))
        self.assertTrue(self.successResultOf(self.records.remove("b", "1")))
        self.assertEqual((self.get("1"), self.get("1", "b"), self.count()), (b"mine", None, 1))

    def test_chain(self) -> None:
        """
        From its beginning, or not at all.
        """
        self.put("1", b"one")
        self.put("2", b"two", "1")
        self.put("3", b"three", "2")
        self.assertEqual(self.chain("3"), [b"one", b"two", b"three"])
        self.assertEqual(self.chain("2"), [b"one", b"two"])
        self.successResultOf(self.records.remove("a", "1"))
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
        self.limit(Bounds(100, 3000, 100))
        self.put("1", b"x" * 1000)
        self.put("2", b"x" * 1000)
        self.assertEqual(self.count(), 1)
        self.put("2", b"x" * 10)
        self.assertEqual((self.count(), self.get("2")), (1, b"x" * 10))
        self.put("3", b"x" * 3000)
        self.assertEqual((self.count(), self.get("2")), (1, b"x" * 10))

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
        self.assertEqual((self.get("1"), self.count()), (None, 0))

    def test_nothing(self) -> None:
        """
        With no room for any record.
        """
        self.limit(Bounds(0, 3000, 100))
        self.put("1")
        self.assertEqual((self.get("1"), self.count()), (None, 0))

    def listed(self, prefix: str = "", account: str = "a", **page: Any) -> str:
        """
        The last letters of the ids of a page of records.
        """
        found: Deferred[Any] = self.records.records(account, prefix, **{"limit": 9, **page})
        return "".join([id[-1] for id, _ in self.successResultOf(found)])

    def test_records(self) -> None:
        """
        A page of those whose ids begin alike, in the order in which they came.
        """
        self.limit(Bounds(9, 1 << 20, 100))
        for id in ("k1", "x2", "k3", "k4"):
            self.put(id)
        self.put("k1", b"again")
        self.put("k5", account="b")
        self.assertEqual((self.listed("k"), self.listed("x"), self.listed(account="b")), ("134", "2", "5"))
        self.assertEqual(self.listed("k", newestFirst=True, limit=2), "43")
        self.assertEqual(self.listed("k", newestFirst=True, after="k3"), "1")
        self.assertEqual((self.listed("k", after="k1", limit=1), self.listed("k", after="x2")), ("3", ""))
        self.assertEqual(self.successResultOf(self.records.records("a", "k", limit=1)), [("k1", b"again")])

    def test_ids(self) -> None:
        """
        What no database takes as an id names nothing; all else does.
        """
        for id in ("a\0", "\ud800", "x" * (LONGEST_ID + 1)):
            self.put(id)
            self.assertEqual((self.get(id), self.chain(id), self.listed(id)), (None, [], ""))
            self.assertFalse(self.successResultOf(self.records.remove("a", id)))
            self.assertFalse(self.successResultOf(self.records.append("a", id, [("i", b"")])))
            self.assertIsNone(self.successResultOf(self.records.item("a", id, id)))
            self.assertFalse(self.successResultOf(self.records.removeItem("a", id, id)))
            self.assertEqual(list(self.successResultOf(self.records.items("a", id))), [])
        self.put("%_'\"é")
        self.put("E")
        self.assertEqual((self.listed("%_'\"é"), self.listed("%"), self.listed("e")), ("é", "é", ""))
        self.assertFalse(self.successResultOf(self.records.append("a", "E", [("i", b""), ("\0", b"")])))
        self.assertEqual(list(self.successResultOf(self.records.items("a", "E"))), [])


class ItemContract(RecordContract):
    """
    The items of a record.
    """

    def append(self, id: str, *items: str, account: str = "a", data: bytes = b"i") -> bool:
        """
        Add items.
        """
        self.clock.advance(1)
        return self.successResultOf(self.records.append(account, id, [(item, data) for item in items]))

    def items(self, id: str, account: str = "a", **page: Any) -> str:
        """
        The ids of a page of items.
        """
        found: Deferred[Any] = self.records.items(account, id, **page)
        return "".join([each for each, _ in self.successResultOf(found)])

    def item(self, id: str, itemId: str, account: str = "a") -> bytes | None:
        """
        An item.
        """
        return self.successResultOf(self.records.item(account, id, itemId))

    def test_pages(self) -> None:
        """
        In order, from either end; a new record has none.
        """
        self.put("1")
        self.assertEqual(self.items("1"), "")
        self.assertTrue(self.append("1", "a", "b"))
        self.append("1", "c")
        self.put("1", b"other")
        self.assertEqual((self.items("1"), self.items("1", newestFirst=True)), ("abc", "cba"))
        self.assertEqual((self.items("1", after="a"), self.items("1", limit=2)), ("bc", "ab"))
        self.assertEqual(self.items("1", after="c", limit=1, newestFirst=True), "b")
        self.assertEqual(self.items("1", after="x"), "")

    def test_single(self) -> None:
        """
        One of them is read, changed and removed.
        """
        self.put("1")
        self.append("1", "a", "b")
        self.append("1", "a", data=b"new")
        self.assertEqual((self.item("1", "a"), self.item("1", "x"), self.items("1")), (b"new", None, "ab"))
        remove = self.records.removeItem
        self.assertFalse(self.successResultOf(remove("a", "1", "x")))
        self.assertTrue(self.successResultOf(remove("a", "1", "a")))
        self.assertEqual((self.items("1"), self.item("1", "a")), ("b", None))

    def test_noRecord(self) -> None:
        """
        Another account has none of this one's.
        """
        self.put("1")
        self.append("1", "a")
        self.assertFalse(self.append("1", "b", account="b"))
        self.assertEqual((self.items("1", "b"), self.item("1", "a", "b")), ("", None))
        self.assertFalse(self.successResultOf(self.records.removeItem("b", "1", "a")))

    def test_room(self) -> None:
        """
        They go with their record, and count as its size; those for which there
        is no room at all are not added, and leave it as it was.
        """
        self.limit(Bounds(9, 4000, 100))
        self.put("1")
        self.put("2")
        self.append("1", "a", data=b"x" * 2000)
        self.append("1", "b", data=b"x")
        self.assertEqual((self.get("1"), self.get("2")), (b"x", None))
        self.successResultOf(self.records.removeItem("a", "1", "b"))
        self.put("2")
        self.assertEqual(self.get("1"), b"x")
        self.assertFalse(self.append("1", "b", "c", data=b"x" * 1000))
        self.assertEqual((self.get("1"), self.get("2"), self.items("1")), (b"x", b"x", "a"))


class MemoryKeepingTests(KeepingContract, InMemory):
    """
    Records in memory.
    """


class MemoryItemTests(ItemContract, InMemory):
    """
    Items in memory.
    """


class SQLiteKeepingTests(KeepingContract, SQLiteInMemory):
    """
    Records in SQLite.
    """


class SQLiteItemTests(ItemContract, SQLiteInMemory):
    """
    Items in SQLite.
    """


class FileKeepingTests(KeepingContract, SQLiteFile):
    """
    Records in a file.
    """


class FileItemTests(ItemContract, SQLiteFile):
    """
    Items in a file.
    """


class PostgreSQLKeepingTests(KeepingContract, PostgreSQL):
    """
    Records in PostgreSQL.
    """


class PostgreSQLItemTests(ItemContract, PostgreSQL):
    """
    Items in PostgreSQL.
    """


class BoundsTests(RecordContract, SQLiteInMemory):
    """
    The bounds of a database.
    """

    def test_asInMemory(self) -> None:
        """
        What there is in all is known without counting it anew: after many
        changes of all kinds the same is left as in memory.
        """
        bounds = Bounds(8, 20_000, 1000)
        self.limit(bounds)
        memory = MemoryStore(self.clock, bounds)
        random = Random(7)
        for _ in range(60):
            for _ in range(random.randrange(1, 5)):
                self.change(random, [self.records, memory])
            self.clock.advance(0.2)
            found = self.successResultOf(self.records.records("a", "", limit=99))
            self.assertEqual(found, self.successResultOf(memory.records("a", "", limit=99)))

    def change(self, random: Random, stores: Sequence[RecordStore]) -> None:
        """
        Do the same to both.
        """
        id, item, size = str(random.randrange(12)), str(random.randrange(3)), random.randrange(3000)
        kind = random.randrange(6)
        self.clock.advance(0.001)
        for store in stores:
            if kind < 3:
                store.put("a", id, b"x" * size)
            elif kind == 3:
                store.remove("a", id)
            elif kind == 4:
                store.append("a", id, [(item, b"x" * size)])
            else:
                store.removeItem("a", id, item)


class HeldTests(SynchronousTestCase):
    """
    What is known of all records without looking at them.
    """

    def setUp(self) -> None:
        self.engine: Engine = Location("sqlite:///:memory:").engine()
        self.addCleanup(self.engine.dispose)
        with self.engine.begin() as connection:
            migrate(connection)

    def write(self, bounds: RecordBounds, *changes: RecordChange) -> Extent:
        """
        Write a batch, and return how much there is then.
        """
        with self.engine.begin() as connection:
            before = bounds.begun(connection, changes)
            writeAll(connection, changes)
            bounds.makeRoom(connection, changes, before)
            query = select(func.count(), func.coalesce(func.sum(records.c.size), 0))
            return Extent(*connection.execute(query).one())

    def test_new(self) -> None:
        """
        One that was not there before is counted with what it takes.
        """
        bounds = RecordBounds(Bounds(9, 1 << 20, 100))
        batch = [PutRecord("a", "1", 1.0, b"12345", None), UseRecord("a", "1", 2.0)]
        self.assertEqual(self.write(bounds, *batch), Extent(1, OVERHEAD + 5))
        self.assertEqual(bounds.held, Extent(1, OVERHEAD + 5))

    def test_batches(self) -> None:
        """
        It is right after batches of all kinds of changes.
        """
        random = Random(7)
        bounds = RecordBounds(Bounds(8, 20_000, 1000))
        for number in range(300):
            batch = [self.change(random, number) for _ in range(random.randrange(1, 9))]
            self.assertEqual(self.write(bounds, *batch), bounds.held)

    def change(self, random: Random, number: int) -> RecordChange:
        """
        Something that is done to one of a few records.
        """
        account, id, item = random.choice("ab"), random.choice("123456"), random.choice("xy")
        data = b"x" * random.randrange(3000)
        changes = [
            PutRecord(account, id, number, data, None),
            UseRecord(account, id, number),
            RemoveRecord(account, id),
            AppendItems(account, id, number, [(item, data)], 20_000),
            RemoveItem(account, id, item),
        ]
        return random.choice(changes)
