"""
Tests for L{openai_server.store.notifications}, on a real server.
"""

from __future__ import annotations

from typing import Any

from sqlalchemy import text
from twisted.internet import reactor
from twisted.internet.defer import Deferred
from twisted.logger import LogEvent, formatEvent, globalLogPublisher

from openai_server.clock import MonotonicClock
from openai_server.metrics import Counters
from openai_server.store.interfaces import Store
from openai_server.store.location import Location
from openai_server.store.opening import storeFrom
from openai_server.store.saved import SavedCall
from tests.store.postgresql import server
from tests.store.support import NOW, ROOM, PostgreSQL, Sockets
from tests.store.test_state import CALL
from tests.support import AsyncCase


class NotificationTests(PostgreSQL):
    """
    Two stores over one server.
    """

    def setUp(self) -> None:
        super().setUp()
        self.logged: list[str] = []
        globalLogPublisher.addObserver(self.log)
        self.addCleanup(globalLogPublisher.removeObserver, self.log)
        self.heard: list[str | None] = []
        self.store.state.hear("t", self.heard.append)
        # Opened with sockets of its own: it listens apart from the first one.
        self.first, self.sockets = self.sockets, Sockets()
        self.other = self.opened()

    def log(self, event: LogEvent) -> None:
        """
        Note a line of the log.
        """
        if str(event.get("log_namespace")).startswith("openai_server"):
            self.logged.append(formatEvent(event))

    def lost(self, sockets: Sockets) -> None:
        """
        Read until a store notices that its connection is lost.
        """
        while sockets.readers:
            sockets.read()

    def test_told(self) -> None:
        """
        The other process hears of it once, and finds what was saved before;
        who tells is told at once, and not again.
        """
        own: list[str | None] = []
        self.other.state.hear("t", own.append)
        self.other.state.save(CALL)
        self.other.state.tell("t", "x")
        self.assertEqual((self.heard, own), ([], ["x"]))
        self.first.read()
        self.assertEqual(self.heard, ["x"])
        self.assertEqual(self.successResultOf(self.store.state.get(SavedCall, "call_1")), CALL)
        self.sockets.read()
        self.assertEqual(own, ["x"])

    def test_manyAtOnce(self) -> None:
        """
        They come in order.
        """
        self.workers.isHolding = True
        for number in range(20):
            self.other.state.tell("t", str(number))
        self.workers.release()
        while len(self.heard) < 20:
            self.first.read()
        self.assertEqual(self.heard, [str(number) for number in range(20)])

    def test_rolledBack(self) -> None:
        """
        Nothing is told of what is not written.
        """
        engine = Location(self.where).engine()
        self.addCleanup(engine.dispose)
        with engine.begin() as connection:
            connection.execute(text("LOCK TABLE calls"))
            self.other.state.save(CALL)
            self.other.state.tell("t", "x")
            self.assertEqual(self.other.whyDegraded, "locked")
            self.first.read(0)
            self.assertEqual(self.heard, [])
        self.clock.advance(1)
        self.first.read()
        self.assertEqual(self.heard, ["x"])

    def test_cut(self) -> None:
        """
        A lost connection is made again, and who waits is told to look.
        """
        server().cut()
        self.lost(self.first)
        self.assertEqual((self.heard, self.first.readers), ([], []))
        self.clock.advance(0.25)
        self.assertEqual(self.heard, [None])
        self.other.state.tell("t", "x")
        self.first.read()
        self.assertEqual(self.heard, [None, "x"])
        self.assertEqual(
            [line[:51] for line in self.logged],
            [
                "what other processes write is not heard of for now:",
                "what other processes write is heard of again",
            ],
        )

    def test_restarted(self) -> None:
        """
        (D53) A server that is away is tried less and less often, and the log says it
        once.
        """
        server().stop()
        try:
            self.lost(self.first)
            tries, base = [], self.store._database  # type: ignore[attr-defined]
            connect = base.listening
            self.store._notifications._connect = lambda: tries.append(self.clock.seconds()) or connect()  # type: ignore[attr-defined, func-returns-value]
            self.clock.pump([0.25] * 120)
        finally:
            server().start()
        self.assertEqual(tries, [0.25, 0.75, 1.75, 3.75, 7.75, 15.75, 23.75])
        self.clock.advance(2)
        self.assertEqual(self.heard, [None])
        self.other.state.tell("t", "x")
        self.clock.advance(10)
        self.first.read()
        self.assertEqual(self.heard[-1], "x")
        self.assertEqual(len([line for line in self.logged if "not heard of" in line]), 1)

    def test_stop(self) -> None:
        """
        A store that is stopped listens no more, also when it was about to
        connect again; a connection that is made too late is closed.
        """
        self.successResultOf(self.other.stopService())
        self.assertEqual(self.sockets.readers, [])
        server().cut()
        self.lost(self.first)
        self.workers.isHolding = True
        self.clock.advance(0.25)
        stopping = self.store.stopService()
        self.assertNoResult(stopping)
        self.workers.release()
        self.successResultOf(stopping)
        self.assertEqual((self.first.readers, self.clock.getDelayedCalls()), ([], []))
        self.store = self.opened()
        server().cut()
        self.lost(self.sockets)
        self.successResultOf(self.store.stopService())
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_stopWhileTold(self) -> None:
        """
        A listener may stop the store.
        """
        self.store.state.hear("t", lambda _: self.store.stopService() and None)
        self.other.state.tell("t", "x")
        self.other.state.tell("t", "y")
        self.first.read()
        self.assertEqual((self.heard, self.first.readers), (["x"], []))

    def test_private(self) -> None:
        """
        The channel's name cannot be guessed, and is the same for all.
        """
        names = {each._database.channel for each in (self.store, self.other)}  # type: ignore[attr-defined]
        (name,) = names
        self.assertRegex(name, "^openai_server_[0-9a-f]{32}$")

    def test_unwatchable(self) -> None:
        """
        A socket that the reactor gives up is connected again.
        """
        (reader,) = self.first.readers
        self.assertEqual(reader.logPrefix(), "notifications")
        reader.connectionLost(self.failureOf(ValueError("bad")))
        self.assertEqual((self.first.readers, reader.fileno()), ([], -1))
        reader.connectionLost(self.failureOf(ValueError("again")))
        self.clock.advance(0.25)
        self.assertEqual((self.heard, self.first.readers), ([None], [reader]))

    def failureOf(self, error: Exception) -> Any:
        """
        Return a failure as the reactor gives it.
        """
        from twisted.python.failure import Failure

        return Failure(error)

    def test_mistake(self) -> None:
        """
        A mistake of ours while it connects is logged, and it is tried again.
        """
        database: Any = self.store._database  # type: ignore[attr-defined]
        self.store._notifications._connect = lambda: 1 / 0  # type: ignore[attr-defined]
        server().cut()
        self.lost(self.first)
        self.clock.advance(0.25)
        self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 1)
        self.store._notifications._connect = database.listening  # type: ignore[attr-defined]
        self.clock.advance(0.5)
        self.assertEqual(self.heard, [None])


class ReactorTests(AsyncCase):
    """
    With the real reactor.
    """

    def setUp(self) -> None:
        super().setUp()
        server().clear()

    def opened(self) -> Store:
        """
        A store with threads, until the test ends.
        """
        clock: Any = MonotonicClock(reactor)  # type: ignore[arg-type]
        store = storeFrom(
            server().url, ROOM, clock=clock, counters=Counters(), reactor=reactor, now=lambda: NOW
        )
        store.startService()
        self.addCleanup(store.stopService)
        return store

    async def test_told(self) -> None:
        """
        A process is told by another one, and again after the server's restart.
        """
        store, other = self.opened(), self.opened()
        heard: list[Deferred[str | None]] = [Deferred()]
        store.state.hear("t", lambda text: heard.pop().callback(text) if heard else None)
        # It listens now.
        self.assertIsNone(await heard[0])
        heard.append(Deferred())
        waiting = heard[0]
        other.state.save(CALL)
        other.state.tell("t", "x")
        self.assertEqual(await waiting, "x")
        self.assertEqual(await store.state.get(SavedCall, "call_1"), CALL)
        heard.append(Deferred())
        waiting = heard[0]
        server().stop()
        server().start()
        self.assertIsNone(await waiting)
