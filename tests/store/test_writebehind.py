"""
Tests for L{openai_server.store.writebehind}.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import Any

from twisted.internet.defer import Deferred
from twisted.logger import LogEvent, formatEvent, globalLogPublisher

from openai_server.metrics import Counters
from openai_server.store import unsaved, writebehind
from openai_server.store.operations import Operation
from openai_server.store.troubles import Trouble
from openai_server.store.writebehind import WriteBehind
from tests.support import SyncCase, TestClock


class Change(Operation):
    """
    Something of a key, which replaces what was there unless it is new.
    """

    def __init__(self, key: str, value: int = 0, size: int = 0) -> None:
        super().__init__(key, size)
        self.value = value

    def replaces(self, former: Operation) -> bool:
        return self.value > 0

    def __repr__(self) -> str:
        return f"{self.key}{self.value}"


class WriteBehindTests(SyncCase):
    """
    When changes are written, and what is told of them.
    """

    def setUp(self) -> None:
        super().setUp()
        self.clock = TestClock()
        self.counters = Counters()
        self.batches: list[list[Operation]] = []
        self.writing: Deferred[Any] | None = None
        self.changes = WriteBehind(self.clock, self.write, self.counters)
        self.logged: list[str] = []
        globalLogPublisher.addObserver(self.log)
        self.addCleanup(globalLogPublisher.removeObserver, self.log)

    def log(self, event: LogEvent) -> None:
        """
        Note a line of the log.
        """
        self.logged.append(formatEvent(event))

    def write(self, changes: Sequence[Operation]) -> Deferred[Sequence[Any]]:
        """
        Begin a batch.
        """
        assert self.writing is None, "two batches at a time"
        self.batches.append(list(changes))
        self.writing = Deferred()
        return self.writing

    def done(self, *results: Any) -> None:
        """
        End the batch; each change comes to its value, unless said otherwise.
        """
        writing, self.writing = self.writing, None
        assert writing is not None
        writing.callback(results or [change.value for change in self.batches[-1]])  # type: ignore[attr-defined]

    def broken(self, word: str = "full") -> None:
        """
        Fail the batch.
        """
        writing, self.writing = self.writing, None
        assert writing is not None
        writing.errback(Trouble(word, f"it is {word}"))

    def add(self, *keys: str) -> None:
        """
        Make changes.
        """
        for key in keys:
            self.changes.add(Change(key))

    @property
    def last(self) -> str:
        """
        The keys and values of the last batch.
        """
        return "".join(map(repr, self.batches[-1]))

    def test_delay(self) -> None:
        """
        A tenth of a second after the first change, in order.
        """
        self.add("a", "b")
        self.clock.advance(0.05)
        self.add("c")
        self.assertEqual(self.batches, [])
        self.clock.advance(0.05)
        self.assertEqual((self.last, len(self.changes)), ("a0b0c0", 3))
        self.done()
        self.assertEqual((len(self.changes), self.clock.getDelayedCalls()), (0, []))

    def test_many(self) -> None:
        """
        At once when they are a thousand; and what comes meanwhile is the next
        batch.
        """
        self.add(*map(str, range(1500)))
        self.assertEqual([len(batch) for batch in self.batches], [1000])
        self.clock.advance(0.1)
        self.done()
        self.clock.advance(0.1)
        self.assertEqual([len(batch) for batch in self.batches], [1000, 500])
        self.add(*map(str, range(2500)))
        self.done()
        self.assertEqual([len(batch) for batch in self.batches], [1000, 500, 1000])
        self.done()
        self.assertEqual(len(self.batches), 4)
        self.done()
        self.clock.advance(0.1)
        self.done()
        self.assertEqual(len(self.changes), 0)

    def test_sameKey(self) -> None:
        """
        The later change takes the earlier one's place, unless it needs it.
        """
        for key, value in (("a", 1), ("b", 1), ("a", 2), ("b", 0), ("b", 3)):
            self.changes.add(Change(key, value))
        self.clock.advance(0.1)
        self.assertEqual(self.last, "a2b1b3")
        self.changes.add(Change("a", 4))
        self.broken()
        self.changes.add(Change("b", 5))
        self.clock.advance(writebehind.FIRST_RETRY)
        self.assertEqual(self.last, "a2b1b5a4")
        self.done()

    def test_written(self) -> None:
        """
        Whoever wants it is told once all before is written, and that begins at
        once.
        """
        self.assertTrue(self.successResultOf(self.changes.written()))
        self.add("a")
        first = self.changes.written()
        self.add("b")
        second = self.changes.written()
        self.assertEqual(self.last, "a0")
        self.assertNoResult(first)
        self.done()
        self.assertTrue(self.successResultOf(first))
        self.assertNoResult(second)
        third = self.changes.written()
        self.done()
        self.assertEqual((self.successResultOf(second), self.successResultOf(third)), (True, True))

    def test_ask(self) -> None:
        """
        What came of a change; something else for one that cannot be written.
        """
        self.add("a")
        asked = self.changes.ask(Change("b", 7), -1)
        self.done()
        self.assertEqual(self.successResultOf(asked), 7)
        asked = self.changes.ask(Change("b", 7), -1)
        self.done(ValueError())
        self.assertEqual((self.successResultOf(asked), self.counters.get("store_refused")), (-1, 1))

    def test_trouble(self) -> None:
        """
        Nobody waits any more; the same is tried again, ever more seldom, until
        it can be written. One line is logged at the beginning, one at the end.
        """
        self.add("a")
        written, asked = self.changes.written(), self.changes.ask(Change("b", 7), -1)
        self.broken()
        self.assertEqual((self.successResultOf(written), self.successResultOf(asked)), (False, -1))
        self.assertEqual(self.changes.whyDegraded, "full")
        self.assertFalse(self.successResultOf(self.changes.written()))
        self.assertEqual(self.successResultOf(self.changes.ask(Change("c", 8), -2)), -2)
        waited = 0.0
        for wait in (0.25, 0.5, 1, 2, 4, 8, 8, 8):
            self.clock.advance(wait - 0.01)
            self.assertIsNone(self.writing)
            self.clock.advance(0.01)
            self.assertEqual(self.last, "a0b7c8")
            waited += wait
            if waited < 31:
                self.broken("locked")
        self.assertEqual((self.changes.whyDegraded, self.counters.total("store_degraded")), ("locked", 1))
        self.done()
        self.assertIsNone(self.changes.whyDegraded)
        self.assertEqual(len(self.changes), 0)
        self.assertEqual(
            self.logged,
            [
                "the store is degraded, full: it is full",
                "the store is well again after 32 s; 0 changes were dropped",
            ],
        )
        self.add("d")
        written = self.changes.written()
        self.broken()
        self.clock.advance(0.25)
        self.assertEqual(self.last, "d0")
        self.done()

    def test_slow(self) -> None:
        """
        Nobody waits longer than five seconds, and all is well when it is done.
        """
        self.add("a")
        written = self.changes.written()
        self.clock.advance(4.9)
        self.assertNoResult(written)
        self.clock.advance(0.1)
        self.assertFalse(self.successResultOf(written))
        self.assertEqual(self.changes.whyDegraded, "slow")
        self.add("b")
        self.clock.advance(60)
        self.done()
        self.assertIsNone(self.changes.whyDegraded)
        self.clock.advance(0.1)
        self.assertEqual(self.last, "b0")
        self.done()

    def test_slowAndFailed(self) -> None:
        """
        It is tried again.
        """
        self.add("a")
        self.changes.written()
        self.clock.advance(5)
        self.broken("unreachable")
        self.assertEqual(self.changes.whyDegraded, "unreachable")
        self.clock.advance(0.25)
        self.done()
        self.assertIsNone(self.changes.whyDegraded)

    def test_readFailed(self) -> None:
        """
        It is tried whether anything can be written, be there a change or not.
        """
        self.changes.readFailed(Trouble("unreachable", "gone"))
        self.changes.readFailed(Trouble("slow"))
        self.assertEqual(self.changes.whyDegraded, "unreachable")
        self.clock.advance(0.25)
        self.assertEqual(self.batches, [[]])
        self.done()
        self.assertIsNone(self.changes.whyDegraded)
        self.add("a")
        self.changes.written()
        self.changes.readFailed(Trouble("unreachable", "gone"))
        self.clock.advance(1)
        self.done()
        self.assertIsNone(self.changes.whyDegraded)

    def test_tooMany(self) -> None:
        """
        (D9) The oldest that nobody was to wait for are dropped and counted, the
        others much later.
        """
        self.patch(unsaved, "MOST_UNSAVED", 4)
        self.add("p", "q")
        self.changes.written()
        self.broken()
        self.add("a", "b", "c", "d")
        self.assertEqual((len(self.changes), self.counters.get("store_dropped")), (4, 2))
        for number in range(20):
            self.changes.ask(Change(f"w{number}"), 0)
        self.assertEqual(len(self.changes), 16)
        self.clock.advance(0.25)
        self.done()
        self.assertIn("10 changes were dropped", self.logged[-1])

    def test_tooLarge(self) -> None:
        """
        The same for their bytes.
        """
        self.patch(unsaved, "MOST_BYTES", 10_000)
        self.changes.readFailed(Trouble("full"))
        for number in range(5):
            self.changes.add(Change(f"{number}", size=4000))
        self.assertEqual(len(self.changes), 2)
        self.changes.add(Change("4", 9, size=5000))
        self.assertEqual(len(self.changes), 2)
        self.clock.advance(0.25)
        self.assertEqual(self.last, "3049")
        self.done()

    def test_stop(self) -> None:
        """
        All is written first.
        """
        self.add("a")
        self.changes.written()
        self.add("b")
        stopped = self.changes.stop()
        self.done()
        self.assertNoResult(stopped)
        self.done()
        self.successResultOf(stopped)
        self.assertEqual((self.last, self.clock.getDelayedCalls()), ("b0", []))
        self.add("c")
        self.assertEqual(self.clock.getDelayedCalls(), [])
        self.changes.readFailed(Trouble("slow"))
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_stopWithNothing(self) -> None:
        """
        It is over at once.
        """
        self.successResultOf(self.changes.stop())
        self.assertEqual(self.batches, [])

    def test_stopInTrouble(self) -> None:
        """
        It is tried once more, and said what is lost.
        """
        self.add("a")
        self.changes.written()
        self.broken()
        stopped = self.changes.stop()
        self.assertEqual(self.last, "a0")
        self.broken()
        self.successResultOf(stopped)
        self.assertEqual(self.logged[-1], "1 changes of the store were not saved")
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_mistake(self) -> None:
        """
        One of ours is as good as a trouble, and is logged as what it is.
        """
        self.add("a")
        self.clock.advance(0.1)
        writing, self.writing = self.writing, None
        assert writing is not None
        writing.errback(ZeroDivisionError())
        self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 1)
        self.assertEqual(self.changes.whyDegraded, "failing")
        self.clock.advance(0.25)
        self.done()
        self.assertIsNone(self.changes.whyDegraded)


class UnsavedChangesTests(SyncCase):
    """
    What waits.
    """

    def test_nothingIsLeftOfWhatIsTaken(self) -> None:
        """
        Neither its size nor its key, whether all is taken or a part.
        """
        for most in (1, 2):
            changes = unsaved.UnsavedChanges()
            key = object()
            change = Operation(key, unsaved.MOST_BYTES)
            references = sys.getrefcount(key)
            changes.add(change)
            if most == 1:
                changes.add(Change("b"))
            self.assertTrue(changes.isTooMuch)
            self.assertEqual(list(changes.take(most).values()), [change])
            self.assertFalse(changes.isTooMuch)
            self.assertEqual(sys.getrefcount(key), references)
