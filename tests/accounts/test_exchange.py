"""
Tests for L{openai_server.accounts.exchange}.
"""

from __future__ import annotations

from collections.abc import Callable

from hypothesis import given
from hypothesis import strategies as st
from twisted.internet.defer import Deferred

from openai_server.accounts.account import Account, AccountLimits
from openai_server.accounts.exchange import AGAIN_SECONDS, BELIEVED_SECONDS, TELL_SECONDS, UseExchange
from openai_server.accounts.limiter import Limiter
from openai_server.accounts.meter import Reservation
from openai_server.errors import APIError
from openai_server.store.savedkeys import AccountStore
from openai_server.store.sharing import Messaging
from openai_server.store.topics import LONGEST_MESSAGE, Topics
from tests.accounts.support import NOW, FakeAccounts, report
from tests.store.support import PostgreSQL, Sockets
from tests.support import SyncCase, TestClock


class Wire:
    """
    Messages between processes, at once.
    """

    isShared = True

    def __init__(self) -> None:
        self.topics = Topics()
        self.told: list[str] = []

    def tell(self, topic: str, text: str) -> None:
        """
        See L{openai_server.store.sharing.Messaging.tell}.
        """
        self.told.append(text)
        self.topics.tell(topic, text)

    def hear(self, topic: str, listener: Callable[[str | None], None]) -> Callable[[], None]:
        """
        See L{openai_server.store.sharing.Messaging.hear}.
        """
        return self.topics.hear(topic, listener)


class Process:
    """
    One of several that use a store.
    """

    def __init__(self, clock: TestClock, wire: Messaging, store: AccountStore | None = None) -> None:
        now = lambda: NOW + clock.seconds()  # noqa: E731
        self.limiter = Limiter(clock.seconds, now, store or FakeAccounts())
        self.exchange = UseExchange(clock, wire, self.limiter)
        self.exchange.start()

    def letIn(self, tokens: int = 0, name: str = "alice", **limits: int) -> Reservation:
        """
        Let a request in.
        """
        reserved = self.limiter.letIn(Account(name, name, limits=AccountLimits(**limits)), lambda: tokens)
        assert isinstance(reserved, Reservation)
        return reserved

    def isFull(self, tokens: int = 0, **limits: int) -> bool:
        """
        Whether a request is not let in.
        """
        try:
            self.letIn(tokens, **limits).drop()
        except APIError:
            return True
        return False


class ExchangeTests(SyncCase):
    """
    Two processes.
    """

    def setUp(self) -> None:
        super().setUp()
        self.clock = TestClock()
        self.wire = Wire()
        self.one, self.other = Process(self.clock, self.wire), Process(self.clock, self.wire)
        self.addCleanup(self.stop)

    def stop(self) -> None:
        """
        Stop both, after which nothing is left.
        """
        self.one.exchange.stop()
        self.other.exchange.stop()
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_requests(self) -> None:
        """
        What one lets in counts for the other, once and for a minute.
        """
        self.one.letIn(rpm=2).leave()
        self.clock.advance(TELL_SECONDS)
        self.other.letIn(rpm=2).leave()
        self.clock.advance(TELL_SECONDS)
        self.assertEqual([each.isFull(rpm=2) for each in (self.one, self.other)], [True, True])
        self.clock.advance(60)
        self.assertEqual([each.isFull(rpm=2) for each in (self.one, self.other)], [False, False])

    def test_tokens(self) -> None:
        """
        What was reserved, and then what it has cost.
        """
        self.one.letIn(80, tpm=100).bind("s")
        self.clock.advance(TELL_SECONDS)
        self.assertTrue(self.other.isFull(21, tpm=100))
        self.one.limiter.turnEnded(report("s", 30))
        self.clock.advance(TELL_SECONDS)
        self.assertFalse(self.other.isFull(70, tpm=100))
        self.assertTrue(self.other.isFull(71, tpm=100))
        self.one.limiter.turnEnded(report("t", 50))
        self.clock.advance(TELL_SECONDS)
        self.assertTrue(self.other.isFull(21, tpm=100))

    def test_concurrent(self) -> None:
        """
        As long as they go on; those of a process that says nothing any more
        are forgotten.
        """
        running = [self.one.letIn(concurrent=2) for _ in range(2)]
        self.clock.advance(TELL_SECONDS)
        self.clock.pump([1] * 60)
        self.assertTrue(self.other.isFull(concurrent=2))
        running[0].leave()
        self.clock.advance(TELL_SECONDS)
        self.assertFalse(self.other.isFull(concurrent=2))
        self.assertTrue(self.other.isFull(concurrent=1))
        self.one.exchange.stop()
        self.clock.advance(BELIEVED_SECONDS)
        self.assertFalse(self.other.isFull(concurrent=1))

    def test_quiet(self) -> None:
        """
        Nothing is told where nothing has changed, but that something goes on,
        now and then; and afterwards no timer is left.
        """
        running = self.one.letIn(rpm=9)
        self.clock.advance(TELL_SECONDS)
        self.assertEqual(len(self.wire.told), 1)
        self.clock.pump([TELL_SECONDS] * 9)
        self.assertEqual(len(self.wire.told), 1)
        self.clock.advance(AGAIN_SECONDS)
        self.assertEqual(len(self.wire.told), 2)
        running.leave()
        self.clock.pump([TELL_SECONDS] * 3)
        self.assertEqual((len(self.wire.told), self.clock.getDelayedCalls()), (3, []))

    def test_manyAccounts(self) -> None:
        """
        No message is too long.
        """
        for number in range(120):
            self.one.letIn(2**40, f"{number:064}", rpm=1)
        self.clock.advance(TELL_SECONDS)
        self.assertEqual(len(self.wire.told), 3)
        self.assertLess(max(map(len, self.wire.told)) * 1.2, LONGEST_MESSAGE)
        self.assertEqual(self.other.limiter.meterOf(f"{119:064}").requests.used, 1)

    def test_missed(self) -> None:
        """
        That some may have been missed changes nothing.
        """
        self.wire.topics.tellAll()
        self.assertFalse(self.other.isFull(rpm=1))

    def test_notShared(self) -> None:
        """
        Nobody is told where there is nobody else.
        """
        self.patch(Wire, "isShared", False)
        alone = Process(self.clock, self.wire)
        alone.letIn(rpm=1)
        self.clock.advance(1)
        alone.exchange.stop()
        self.assertEqual(self.wire.told, [])

    @given(st.lists(st.tuples(st.sampled_from([0, 100, 400, 500, 3000, 30_000]), st.booleans()), max_size=60))
    def test_anySchedule(self, schedule: list[tuple[int, bool]]) -> None:
        """
        Over all processes no minute has more than the limit and what the
        other one let in before it had told of it.
        """
        clock, wire = TestClock(), Wire()
        processes = Process(clock, wire), Process(clock, wire)
        let: list[tuple[float, bool]] = []
        limit = 5
        for pause, isFirst in schedule:
            for _ in range(pause // 100):
                clock.advance(0.1)
            now = clock.seconds()
            inMinute = [at for at, _ in let if now - at < 60]
            fresh = [at for at, whose in let if whose is not isFirst and now - at <= TELL_SECONDS + 0.1]
            try:
                processes[isFirst].letIn(rpm=limit).leave()
            except APIError:
                nearly = [at for at, _ in let if now - at <= 60 + TELL_SECONDS + 0.1]
                self.assertGreaterEqual(len(nearly), limit)
            else:
                self.assertLess(len(inMinute), limit + len(fresh))
                let.append((now, isFirst))
        for process in processes:
            process.exchange.stop()


class ServerTests(PostgreSQL):
    """
    Two processes over a server of PostgreSQL's.
    """

    def setUp(self) -> None:
        super().setUp()
        # Opened with sockets of its own: it listens apart from the first one.
        self.first, self.sockets = self.sockets, Sockets()
        self.processes = [
            Process(self.clock, store.state, store.accounts) for store in (self.store, self.opened())
        ]
        for process in self.processes:
            self.addCleanup(process.exchange.stop)

    def test_minute(self) -> None:
        """
        What one lets in, the other hears of.
        """
        one, other = self.processes
        other.letIn(rpm=1).leave()
        self.clock.advance(TELL_SECONDS)
        self.assertFalse(one.isFull(rpm=2))
        self.first.read()
        self.assertTrue(one.isFull(rpm=1))

    def test_budget(self) -> None:
        """
        What one has used, the other finds in the store.
        """
        one, other = self.processes
        other.limiter.turnEnded(report("s", 60))
        self.clock.advance(TELL_SECONDS)
        limited = Account("alice", "alice", limits=AccountLimits(tokensPerDay=100))
        first = one.limiter.letIn(limited, lambda: 30)
        assert isinstance(first, Deferred)
        self.successResultOf(first)
        other.limiter.turnEnded(report("t", 10))
        self.clock.advance(1)
        self.assertTrue(one.isFull(1, tokensPerDay=100))
