"""
Tests for L{openai_server.web.elsewhere}.
"""

from __future__ import annotations

from twisted.internet.defer import Deferred

from openai_server.store.interfaces import Store
from openai_server.store.membership import Membership
from openai_server.web.elsewhere import Elsewhere
from tests.store.support import PostgreSQL, Sockets


class ElsewhereTests(PostgreSQL):
    """
    (D42) Two processes over one store.
    """

    def setUp(self) -> None:
        super().setUp()
        self.cancelled: list[tuple[str, ...]] = []
        self.oneSockets = self.sockets
        self.one, self.oneLives = self.joined(self.store, "one")
        self.sockets = Sockets()
        self.two, _ = self.joined(self.opened(), "two")

    def joined(self, store: Store, owner: str) -> tuple[Elsewhere, Membership]:
        """
        A process.
        """
        membership = Membership(store, owner, self.clock)
        membership.startService()
        self.addCleanup(membership.stopService)
        elsewhere = Elsewhere(store, membership)
        elsewhere.start(lambda place, id: self.cancelled.append((owner, place, id)))
        self.addCleanup(elsewhere.stop)
        return elsewhere, membership

    def found(self, place: str = "a", id: str = "resp_1") -> bytes | None:
        """
        What the second process knows of an answer.
        """
        return self.successResultOf(Deferred.fromCoroutine(self.two.found(place, id)))

    def test_shown(self) -> None:
        """
        At once, for its account alone, until it has ended.
        """
        self.one.show("a", "resp_1", b"queued\n")
        self.assertEqual(self.found(), b"queued\n")
        self.one.show("a", "resp_1", b"in progress")
        self.assertEqual(self.found(), b"in progress")
        self.assertEqual([self.found("b"), self.found("a", "resp_2")], [None, None])
        self.one.ended("a", "resp_1")
        self.assertIsNone(self.found())

    def test_itsProcessHasDied(self) -> None:
        """
        There is no such answer any more.
        """
        self.one.show("a", "resp_1", b"queued")
        self.successResultOf(self.oneLives.stopService())
        self.assertIsNone(self.found())
        self.oneLives.startService()
        self.assertEqual(self.found(), b"queued")

    def test_othersAreNotEnded(self) -> None:
        """
        An answer that was not shown by this process is not its to hide.
        """
        self.one.show("a", "resp_1", b"queued")
        self.two.ended("a", "resp_1")
        self.assertEqual(self.found(), b"queued")

    def test_cancelled(self) -> None:
        """
        Whichever process makes it hears of that.
        """
        self.assertTrue(self.successResultOf(self.two.cancel("a", "resp_1")))
        self.oneSockets.read()
        self.assertEqual(sorted(self.cancelled), [("one", "a", "resp_1"), ("two", "a", "resp_1")])
        self.one.stop()
        self.successResultOf(self.two.cancel("a", "resp_2"))
        self.oneSockets.read()
        self.assertEqual(len(self.cancelled), 3)
