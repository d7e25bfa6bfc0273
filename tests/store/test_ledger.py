"""
What every ledger does.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from types import SimpleNamespace
from typing import Any

import msgspec
from twisted.internet.defer import Deferred, fail

from openai_server.reports import TurnReport
from openai_server.store import memoryledger, turns, unsaved, writebehind
from openai_server.store.interfaces import Bounds
from openai_server.store.ledger import DIMENSIONS, UsageSum, UsageWanted
from openai_server.store.sqlledger import SQLLedger
from openai_server.store.troubles import Trouble
from openai_server.store.turns import TOGETHER
from tests.store.support import NOW, InMemory, PostgreSQL, SQLiteFile, SQLiteInMemory
from tests.support import SyncCase

TURN = TurnReport("a", "chat", "m", "ff" * 16, 100, 70, 50, 2, 1.5, "ok", False)
DAY = 86400
#: When the day of L{NOW} begins.
TODAY = int(NOW) - int(NOW) % DAY


def turn(**fields: Any) -> TurnReport:
    """
    A turn that differs in these.
    """
    return msgspec.structs.replace(TURN, **fields)


class LedgerContract:
    """
    Sums of turns.
    """

    store: Any

    def usage(self, **fields: Any) -> Sequence[UsageSum]:
        """
        The sums that are wanted; of all times, if it is not said of which.
        """
        wanted = UsageWanted(**{"since": 0, "until": int(NOW) + 1000 * DAY, **fields})
        sums: Sequence[UsageSum] = self.successResultOf(self.store.ledger.usage(wanted))
        return sums

    def turnsBy(self, **fields: Any) -> list[tuple[Any, ...]]:
        """
        What tells the sums apart, and how many turns each is of.
        """
        return [(each.start, *each.values, each.turns) for each in self.usage(**fields)]

    def test_sums(self) -> None:
        """
        All figures are summed up; nothing is no sum.
        """
        self.assertEqual(list(self.usage()), [])
        self.store.ledger.turnEnded(TURN)
        self.store.ledger.turnEnded(turn(inputTokens=2**40, cachedTokens=0, outputTokens=1, calls=0))
        expected = UsageSum(0, (), 2, 100 + 2**40, 70, 51, 2, 3.0)
        self.assertEqual(list(self.usage()), [expected])

    def test_apart(self) -> None:
        """
        By each field, and by several at once, in the order of the values.
        """
        others: list[dict[str, Any]] = [{"account": "b"}, {"account": "b", "model": "n"}]
        for fields in ({}, *others, {"api": "responses"}, {"end": "bug"}):
            self.store.ledger.turnEnded(turn(**fields))
        self.assertEqual(self.turnsBy(by=["account"]), [(0, "a", 3), (0, "b", 2)])
        self.assertEqual(self.turnsBy(by=["api"]), [(0, "chat", 4), (0, "responses", 1)])
        self.assertEqual(self.turnsBy(by=["end"]), [(0, "bug", 1), (0, "ok", 4)])
        self.assertEqual(
            self.turnsBy(by=["model", "account"]), [(0, "m", "a", 3), (0, "m", "b", 1), (0, "n", "b", 1)]
        )
        self.assertEqual(len(self.usage(by=DIMENSIONS)), 5)
        self.assertEqual(len(self.usage(by=DIMENSIONS, most=3)), 3)

    def test_only(self) -> None:
        """
        Turns with these values alone.
        """
        for account in ("a", "b", "c'; DROP TABLE turns", "caf\xe9 \U0001f600"):
            self.store.ledger.turnEnded(turn(account=account))
        only = {"account": ["b", "caf\xe9 \U0001f600", "x"], "model": ["m"]}
        self.assertEqual(self.turnsBy(only=only, by=["account"]), [(0, "b", 1), (0, "caf\xe9 \U0001f600", 1)])
        self.assertEqual(self.turnsBy(only={"account": []}), [])

    def test_buckets(self) -> None:
        """
        Each begins at a multiple of its width; those without turns are left out.
        """
        times = [TODAY + 5, TODAY + 3600, TODAY + 3601, TODAY + DAY - 1, TODAY + 3 * DAY]
        for time in times:
            self.clock.advance(time + DAY - self.now())
            self.store.ledger.turnEnded(TURN)
        shift = [time + DAY for time in times]
        self.assertEqual(self.turnsBy(width=DAY), [(TODAY + DAY, 4), (TODAY + 4 * DAY, 1)])
        hours = [start for start, _ in self.turnsBy(width=3600)]
        self.assertEqual(hours[:2], [TODAY + DAY, TODAY + DAY + 3600])
        self.assertEqual(len(self.turnsBy(width=60)), 4)
        self.assertEqual(self.turnsBy(since=shift[1], until=shift[3]), [(shift[1], 2)])

    def test_sameMoment(self) -> None:
        """
        Turns that end at once are all kept, whatever the clock does.
        """
        for seconds in (0, 0, 0.0000001, -5):
            self.now = lambda seconds=seconds: NOW + seconds
            self.store.ledger.turnEnded(TURN)
        self.assertEqual(self.turnsBy(), [(0, 4)])

    def test_age(self) -> None:
        """
        Turns are kept for as long as the settings say, which may be not at all.
        """
        self.store.ledger.turnEnded(TURN)
        self.clock.advance(89 * DAY)
        self.store.ledger.turnEnded(turn(account="b"))
        self.assertEqual(self.turnsBy(), [(0, 2)])
        self.clock.advance(2 * DAY)
        self.store.ledger.turnEnded(turn(account="c"))
        self.assertEqual(self.turnsBy(by=["account"]), [(0, "b", 1), (0, "c", 1)])
        self.store.stopService()
        self.where = self.newURL()
        self.store = self.opened(Bounds(1, 1, 1, 0))
        self.store.ledger.turnEnded(TURN)
        self.assertEqual(self.turnsBy(), [])


class LastingLedgerContract(LedgerContract):
    """
    Ledgers in databases.
    """

    def test_outlasts(self) -> None:
        """
        The next process has what was kept, and adds to it.
        """
        self.store.ledger.turnEnded(TURN)
        self.successResultOf(self.store.stopService())
        self.store = self.opened()
        self.store.ledger.turnEnded(TURN)
        self.assertEqual(self.turnsBy(), [(0, 2)])

    def test_slices(self) -> None:
        """
        Old turns go a slice at a time, the oldest first.
        """
        self.patch(turns, "SLICE", 2)
        for account in "abc":
            self.store.ledger.turnEnded(turn(account=account))
            self.clock.advance(1)
        self.clock.advance(100 * DAY)
        for left in ("c", ""):
            self.store.ledger.turnEnded(turn(account="new"))
            accounts = [account for _, account, _ in self.turnsBy(by=["account"])]
            self.assertEqual(accounts, [*left, "new"])
            self.clock.advance(61)


class MemoryLedgerTests(LedgerContract, InMemory):
    """
    Without a database.
    """

    def test_bound(self) -> None:
        """
        The oldest go when there are too many.
        """
        self.patch(memoryledger, "MOST_TURNS", 3)
        self.store = self.opened()
        for account in "abcde":
            self.store.ledger.turnEnded(turn(account=account))
        self.assertEqual([account for _, account, _ in self.turnsBy(by=["account"])], ["c", "d", "e"])


class SQLiteLedgerTests(LedgerContract, SQLiteInMemory):
    """
    SQLite without a file.
    """


class FileLedgerTests(LastingLedgerContract, SQLiteFile):
    """
    SQLite with a file.
    """


class PostgreSQLLedgerTests(LastingLedgerContract, PostgreSQL):
    """
    A server.
    """


class DegradedLedgerTests(SQLiteFile):
    """
    A database that cannot be used for now.
    """

    def test_degraded(self) -> None:
        """
        D13: nothing is known, what waits is bounded, and is written when all is
        well.
        """
        store: Any = self.store
        self.patch(unsaved, "MOST_UNSAVED", 3)
        with self.unreachable():
            wanted = UsageWanted(since=0, until=int(NOW) + DAY)
            self.assertIsNone(self.successResultOf(store.ledger.usage(wanted)))
            store.ledger.turnEnded(TURN)
            self.clock.advance(0.1)
            self.assertEqual(store.whyDegraded, "unreachable")
            for _ in range(3 * TOGETHER + 4):
                store.ledger.turnEnded(TURN)
            self.assertEqual(len(store.changes), 3)
        self.clock.advance(10)
        [found] = self.successResultOf(store.ledger.usage(wanted))
        self.assertEqual(found.turns, 2 * TOGETHER + 5)

    def test_slow(self) -> None:
        """
        D14: sums that take too long are not known, and nothing is wrong with the
        store for that. Others wait until their query is over.
        """
        store: Any = self.store
        store.ledger.turnEnded(TURN)
        self.clock.advance(1)
        wanted = UsageWanted(since=0, until=int(NOW) + DAY)
        self.workers.isHolding = True
        asked = [store.ledger.usage(wanted) for _ in range(3)]
        self.assertEqual(len(self.workers.held), 1)
        asked[2].addErrback(lambda _: None)
        asked[2].cancel()
        self.clock.advance(4)
        last = store.ledger.usage(wanted)
        self.clock.advance(1.5)
        self.assertEqual([self.successResultOf(each) for each in asked[:2]], [None, None])
        self.assertIsNone(store.whyDegraded)
        self.assertEqual(len(self.workers.held), 1)
        self.workers.release()
        [found] = self.successResultOf(last)
        self.assertEqual(found.turns, 1)

    @contextmanager
    def unreachable(self) -> Iterator[None]:
        """
        Let the database be away.
        """

        def away(*args: Any, **kwargs: Any) -> Deferred[Any]:
            return fail(Trouble("unreachable"))

        workers: Any = self.workers
        workers.read = workers.write = away
        yield
        del workers.read, workers.write

    def test_atOnce(self) -> None:
        """
        A turn is noted in full before it may be written, and none is added to
        those that are being written.
        """
        store: Any = self.store
        self.patch(writebehind, "BATCH", 1)
        self.workers.isHolding = True
        add, noted = store.changes.add, []

        def adding(change: Any) -> int:
            noted.append(len(change.turns))
            number: int = add(change)
            return number

        self.patch(store.changes, "add", adding)
        for _ in range(3):
            store.ledger.turnEnded(TURN)
        self.assertEqual(noted, [1, 1])
        self.assertEqual([len(change.turns) for change in store.changes.pending()], [1, 2])
        self.workers.release()
        [found] = self.successResultOf(store.ledger.usage(UsageWanted(since=0, until=int(NOW) + DAY)))
        self.assertEqual(found.turns, 3)

    def test_writtenTwice(self) -> None:
        """
        A batch that is written again, since nobody knows whether it was, counts
        once.
        """
        store: Any = self.store
        store.ledger.turnEnded(TURN)
        [change] = store.changes.pending()
        store.changes.add(change)
        [found] = self.successResultOf(store.ledger.usage(UsageWanted(since=0, until=int(NOW) + DAY)))
        self.assertEqual(found.turns, 1)


class IdTests(SyncCase):
    """
    The ids of rows.
    """

    def test_farClocks(self) -> None:
        """
        They grow, and every database takes them, for some centuries.
        """
        kept: list[Any] = []
        times = [NOW, NOW, NOW - 1, NOW + 1, 4e9, 2.2e10]
        reading: Any = SimpleNamespace(changes=SimpleNamespace(add=kept.append))
        ledger = SQLLedger(reading, 1.0, iter(times).__next__)
        for _ in times:
            ledger.turnEnded(TURN)
        ids = [id for change in kept for id, _, _ in change.turns]
        self.assertEqual(ids, sorted(set(ids)))
        self.assertLess(ids[-1], 2**63)
