"""
Tests for L{openai_server.web.locks}.
"""

from __future__ import annotations

from twisted.internet.defer import CancelledError, Deferred

from openai_server.errors import APIError
from openai_server.store.membership import Membership
from openai_server.store.opening import VolatileStore
from openai_server.web.locks import LINE, PATIENCE, ConversationLeases, ConversationLocks, Place
from tests.store.support import ROOM
from tests.support import SyncCase, TestClock

PLACE = ("a", "conv_1")


class LockTests(SyncCase):
    """
    Who may answer, and who waits.
    """

    def setUp(self) -> None:
        super().setUp()
        self.clock = TestClock()
        self.locks = ConversationLocks(self.clock)

    def acquire(self, place: tuple[str, str] = PLACE) -> Deferred[None]:
        """
        Wait for a conversation.
        """
        return Deferred.fromCoroutine(self.locks.acquire(place))

    def assertLocked(self, waiting: Deferred[None]) -> None:
        """
        It was in vain.
        """
        error = self.failureResultOf(waiting, APIError).value
        self.assertEqual((error.name, error.kind.status), ("conversation_locked", 409))
        self.assertEqual((error.param, error.mayRetry), ("conversation", True))

    def test_order(self) -> None:
        """
        Who came first is first; another conversation, or another account's of
        the same id, is another one.
        """
        first, second, third = self.acquire(), self.acquire(), self.acquire()
        self.successResultOf(first)
        for place in (("a", "conv_2"), ("b", "conv_1")):
            self.successResultOf(self.acquire(place))
        self.assertNoResult(second)
        self.locks.release(PLACE)
        self.successResultOf(second)
        self.assertNoResult(third)
        self.locks.release(PLACE)
        self.successResultOf(third)
        self.assertEqual(len(self.locks), 3)
        self.locks.release(PLACE)
        self.assertEqual(len(self.locks), 2)
        self.successResultOf(self.acquire())
        self.locks.stop()
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_patience(self) -> None:
        """
        Whoever waits too long is told, and stands in nobody's way.
        """
        self.successResultOf(self.acquire())
        second = self.acquire()
        self.clock.advance(PATIENCE / 2)
        third = self.acquire()
        self.clock.advance(PATIENCE / 2)
        self.assertLocked(second)
        self.assertNoResult(third)
        self.locks.release(PLACE)
        self.successResultOf(third)

    def test_bound(self) -> None:
        """
        One too many is told at once.
        """
        waiting = [self.acquire() for _ in range(LINE + 1)]
        self.assertLocked(self.acquire())
        self.locks.release(PLACE)
        self.successResultOf(waiting[1])
        self.assertNoResult(self.acquire())

    def test_leaving(self) -> None:
        """
        Who leaves the line is passed over.
        """
        self.successResultOf(self.acquire())
        second, third = self.acquire(), self.acquire()
        second.cancel()
        self.failureResultOf(second, CancelledError)
        self.locks.release(PLACE)
        self.successResultOf(third)
        self.locks.release(PLACE)
        self.assertEqual(len(self.locks), 0)

    def test_stop(self) -> None:
        """
        Everybody is turned away, now and later; what goes on may end.
        """
        self.successResultOf(self.acquire())
        second = self.acquire()
        self.locks.stop()
        for waiting in (second, self.acquire(), self.acquire(("b", "conv_1"))):
            self.assertEqual(self.failureResultOf(waiting, APIError).value.name, "shutting_down")
        self.locks.release(PLACE)
        self.assertEqual((len(self.locks), self.clock.getDelayedCalls()), (0, []))


class SharedTests(SyncCase):
    """
    Two processes over one store.
    """

    def setUp(self) -> None:
        super().setUp()
        self.clock = TestClock()
        self.store = VolatileStore(self.clock, ROOM, self.clock.seconds)
        self.store.state.isShared = True
        self.wanted: list[Place] = []
        self.one, self.two = self.process("p1"), self.process("p2")

    def process(self, owner: str) -> ConversationLocks:
        """
        The locks of one that lives.
        """
        membership = Membership(self.store, owner, self.clock)
        membership.startService()
        self.addCleanup(membership.stopService)
        leases = ConversationLeases(self.store.state, membership, self.clock)
        leases.onWanted = self.wanted.append
        locks = ConversationLocks(self.clock, leases)
        self.addCleanup(locks.stop)
        return locks

    def acquire(self, locks: ConversationLocks) -> Deferred[None]:
        """
        Want to answer.
        """
        return Deferred.fromCoroutine(locks.acquire(PLACE))

    def test_oneOfAll(self) -> None:
        """
        (D52) One answers at a time, whichever process it is in, and the next one is
        told at once.
        """
        self.successResultOf(self.acquire(self.one))
        here, there = self.acquire(self.one), self.acquire(self.two)
        self.clock.advance(20)
        self.assertNoResult(here)
        self.assertNoResult(there)
        self.one.release(PLACE)
        # Who was told of the store's first had waited for no one else.
        first, second, locks = (here, there, self.one) if here.called else (there, here, self.two)
        self.successResultOf(first)
        self.assertNoResult(second)
        locks.release(PLACE)
        self.successResultOf(second)
        (self.two if locks is self.one else self.one).release(PLACE)
        self.assertEqual((len(self.one), len(self.two)), (0, 0))

    def test_others(self) -> None:
        """
        Other accounts and conversations are free.
        """
        self.successResultOf(self.acquire(self.one))
        for place in (("b", PLACE[1]), (PLACE[0], "conv_2")):
            self.successResultOf(Deferred.fromCoroutine(self.two.acquire(place)))
            self.two.release(place)
        self.one.release(PLACE)

    def test_late(self) -> None:
        """
        Who waits too long is turned away, and is not in the way of others.
        """
        self.successResultOf(self.acquire(self.one))
        waiting = self.acquire(self.two)
        self.clock.pump([1.0] * 29)
        self.assertNoResult(waiting)
        self.clock.advance(1)
        self.assertEqual(self.failureResultOf(waiting, APIError).value.name, "conversation_locked")
        self.assertEqual(len(self.two), 0)
        self.one.release(PLACE)
        self.successResultOf(self.acquire(self.two))
        self.two.release(PLACE)

    def test_wanted(self) -> None:
        """
        The one that answers is told that another process waits, as long as it
        answers.
        """
        self.successResultOf(self.acquire(self.one))
        self.assertFalse(self.one.isWaitedFor(PLACE))
        waiting = self.acquire(self.two)
        self.assertEqual((self.wanted, self.one.isWaitedFor(PLACE)), ([PLACE], True))
        self.one.release(PLACE)
        self.successResultOf(waiting)
        self.assertFalse(self.one.isWaitedFor(PLACE))
        self.two.release(PLACE)

    def test_leaving(self) -> None:
        """
        Who leaves, or is turned away by a stop, waits no more.
        """
        self.successResultOf(self.acquire(self.one))
        waiting = self.acquire(self.two)
        waiting.cancel()
        self.failureResultOf(waiting, CancelledError)
        waiting = self.acquire(self.two)
        self.two.stop()
        self.assertEqual(self.failureResultOf(waiting, APIError).value.name, "shutting_down")
        self.one.release(PLACE)
        self.assertEqual(self.successResultOf(self.store.state.renewAll("p2", 1)), 2)

    def test_died(self) -> None:
        """
        What a process had that died is free when its leases are over.
        """
        self.successResultOf(self.acquire(self.one))
        self.store.state.renewAll("p1", 3)
        waiting = self.acquire(self.two)
        # It is started anew.
        self.process("p1")
        self.clock.advance(5)
        self.successResultOf(waiting)
        self.two.release(PLACE)
