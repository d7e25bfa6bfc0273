"""
Tests for L{openai_server.web.locks}.
"""

from __future__ import annotations

from twisted.internet.defer import CancelledError, Deferred

from openai_server.errors import APIError
from openai_server.web.locks import LINE, PATIENCE, ConversationLocks
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
