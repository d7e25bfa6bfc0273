"""
Stores whose statements really run in threads.
"""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

from sqlalchemy import Engine, event
from twisted.internet import reactor
from twisted.internet.defer import CancelledError, Deferred, gatherResults
from twisted.logger import LogEvent, globalLogPublisher

from openai_server.clock import MonotonicClock
from openai_server.metrics import Counters
from openai_server.store import reading, writebehind
from openai_server.store.interfaces import Store
from openai_server.store.opening import storeFrom
from openai_server.store.threads import ThreadWorkers
from tests.store.postgresql import server
from tests.store.support import ROOM
from tests.store.test_state import CALL
from tests.support import AsyncCase


class ThreadContract:
    """
    The reactor goes on while the database works.
    """

    def opened(self) -> Store:
        """
        A store with threads, until the test ends.
        """
        clock: Any = MonotonicClock(reactor)  # type: ignore[arg-type]
        store = storeFrom(
            self.where(), ROOM, clock=clock, counters=Counters(), reactor=reactor, now=lambda: 1e9
        )
        store.startService()
        self.addCleanup(store.stopService)
        return store

    async def test_together(self) -> None:
        """
        Many reads and writes at once come to what was written.
        """
        store = self.opened()
        for number in range(50):
            store.records.put("a", f"r{number}", b"%d" % number)
        found = await gatherResults([store.records.get("a", f"r{number}") for number in range(50)])
        self.assertEqual(found, [b"%d" % number for number in range(50)])
        added = await gatherResults([store.records.append("a", "r1", [(f"i{n}", b"")]) for n in range(50)])
        self.assertEqual(added, [True] * 50)
        items = await store.records.items("a", "r1")
        self.assertEqual([id for id, _ in items], [f"i{n}" for n in range(50)])

    async def test_reactorGoesOn(self) -> None:
        """
        (D45) Each statement is so slow that the reactor does something else
        meanwhile: none runs in its thread, whatever is asked.
        """
        onReactor: list[str] = []

        def executing(connection: object, cursor: object, statement: str, *given: object) -> None:
            if threading.current_thread() is threading.main_thread():
                onReactor.append(statement)
                return
            turned = threading.Event()
            reactor.callFromThread(turned.set)  # type: ignore[attr-defined]
            assert turned.wait(30)

        store = self.opened()
        event.listen(Engine, "before_cursor_execute", executing)
        self.addCleanup(event.remove, Engine, "before_cursor_execute", executing)
        records, state = store.records, store.state
        state.save(CALL)
        records.put("a", "r", b"data")
        asked: list[Deferred[Any]] = [
            state.durable(),
            records.append("a", "r", [("i", b"")]),
            records.chain("a", "r"),
            records.items("a", "r"),
            records.records("a", "", limit=9),
            records.removeItem("a", "r", "i"),
            state.find(type(CALL), limit=9),
            state.take(type(CALL), "call_1"),
            state.acquire("lease", "me", 9),
            records.remove("a", "r"),
        ]
        await gatherResults(asked)
        state.save(CALL)
        await store.stopService()
        self.assertEqual(onReactor, [])

    async def test_stop(self) -> None:
        """
        It writes what is unsaved, and leaves no thread.
        """
        before = set(threading.enumerate())
        store = self.opened()
        store.state.save(CALL)
        await store.stopService()
        self.assertEqual([each for each in threading.enumerate() if each not in before], [])
        store = self.opened()
        self.assertEqual(await store.state.get(type(CALL), "call_1"), CALL)
        self.assertIsNone(store.whyDegraded)


class FileThreadTests(ThreadContract, AsyncCase):
    """
    A file.
    """

    def where(self) -> str:
        """
        Its URL.
        """
        self.file = getattr(self, "file", None) or Path(self.mktemp()).absolute()
        return f"sqlite:///{self.file}"

    def whenWell(self) -> Deferred[None]:
        """
        Fires when the log says that a store is well again.
        """
        well: Deferred[None] = Deferred()

        def look(event: LogEvent) -> None:
            if "well again" in str(event.get("log_format")):
                globalLogPublisher.removeObserver(look)
                well.callback(None)

        globalLogPublisher.addObserver(look)
        return well

    async def test_slow(self) -> None:
        """
        (D7) Nobody waits for a database that takes too long, neither for what is
        written nor for what is read; and all is written once it goes on.
        """
        store = self.opened()
        store.records.put("a", "r", b"data")
        self.assertEqual(await store.records.get("a", "r"), b"data")
        base: Any = store._database  # type: ignore[attr-defined]
        patience = [self.patch(module, "PATIENCE", 0.05) for module in (reading, writebehind)]
        for name in ("write", "read"):
            held, well, work = threading.Event(), self.whenWell(), getattr(base, name)
            setattr(base, name, lambda asked, held=held, work=work: held.wait(30) and work(asked))
            store.state.save(CALL)
            self.assertEqual(await store.records.get("a", "r"), b"data")
            self.assertEqual(store.whyDegraded, "slow")
            setattr(base, name, work)
            held.set()
            await well
        for each in patience:
            each.restore()
        self.assertTrue(await store.state.durable())
        self.assertEqual(await store.state.get(type(CALL), "call_1"), CALL)

    async def test_stuck(self) -> None:
        """
        A thread that comes to no end does not hold up the stop.
        """
        workers = ThreadWorkers(reactor)
        workers.start()
        held, begun = threading.Event(), threading.Event()

        def stuck() -> None:
            begun.set()
            held.wait(30)

        before = set(threading.enumerate())
        doing = workers.write(stuck)
        begun.wait(30)
        doing.cancel()
        self.failureResultOf(doing, CancelledError)
        workers.stop()
        held.set()
        # There is one thread that writes: when this is done, the other is.
        await workers.write(lambda: None)
        workers.stop()
        self.assertEqual([each for each in threading.enumerate() if each not in before], [])


class PostgreSQLThreadTests(ThreadContract, AsyncCase):
    """
    A server.
    """

    def setUp(self) -> None:
        super().setUp()
        server().clear()

    def where(self) -> str:
        """
        Its URL.
        """
        return server().url
