"""
Tests for L{openai_server.store.topicwait}.
"""

from __future__ import annotations

from twisted.internet.defer import CancelledError, Deferred

from openai_server.store.memorystate import MemoryState
from openai_server.store.topicwait import TopicWait
from tests.support import SyncCase, TestClock


class TopicWaitTests(SyncCase):
    """
    One who waits for a topic.
    """

    def setUp(self) -> None:
        super().setUp()
        self.clock = TestClock()
        self.state = MemoryState(self.clock.seconds)
        self.waiting = TopicWait(self.clock, self.state, "t")
        self.addCleanup(lambda: self.assertEqual(self.clock.getDelayedCalls(), []))

    def wait(self) -> Deferred[None]:
        """
        Begin to wait.
        """
        return Deferred.fromCoroutine(self.waiting.wait(5))

    def test_told(self) -> None:
        """
        By a message, once, and only of its topic.
        """
        waiting = self.wait()
        self.state.tell("u", "")
        self.assertNoResult(waiting)
        self.state.tell("t", "")
        self.state.tell("t", "")
        self.successResultOf(waiting)
        self.successResultOf(self.wait())
        waiting = self.wait()
        self.assertNoResult(waiting)
        self.clock.advance(5)
        self.successResultOf(waiting)

    def test_toldBefore(self) -> None:
        """
        A message that came while nobody waited is not missed.
        """
        self.state.tell("t", "")
        self.successResultOf(self.wait())

    def test_late(self) -> None:
        """
        After so many seconds in any case.
        """
        waiting = self.wait()
        self.clock.advance(4.9)
        self.assertNoResult(waiting)
        self.clock.advance(0.1)
        self.successResultOf(waiting)

    def test_failed(self) -> None:
        """
        Whoever waits can be turned away, or leave.
        """
        self.waiting.fail(ValueError())
        waiting = self.wait()
        self.waiting.fail(ValueError())
        self.failureResultOf(waiting, ValueError)
        waiting = self.wait()
        waiting.cancel()
        self.failureResultOf(waiting, CancelledError)
        self.state.tell("t", "")

    def test_stopped(self) -> None:
        """
        Nothing is heard any more.
        """
        self.waiting.stop()
        waiting = self.wait()
        self.state.tell("t", "")
        self.assertNoResult(waiting)
        self.clock.advance(5)
        self.successResultOf(waiting)
