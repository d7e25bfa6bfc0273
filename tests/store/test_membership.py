"""
Tests for L{openai_server.store.membership}.
"""

from __future__ import annotations

from typing import Any

from sqlalchemy import text

from openai_server.store import membership
from openai_server.store.location import Location
from openai_server.store.membership import Membership
from openai_server.store.opening import VolatileStore
from tests.store.postgresql import server
from tests.store.support import NOW, ROOM, PostgreSQL
from tests.support import SyncCase, TestClock


class MembershipTests(SyncCase):
    """
    Two processes over one store, which is in memory so that time is the
    test's.
    """

    def setUp(self) -> None:
        super().setUp()
        self.clock, self.otherClock = TestClock(), TestClock()
        self.store = VolatileStore(self.clock, ROOM, lambda: NOW + self.clock.seconds())
        self.store.state.isShared = True
        self.one = self.started("p1", self.clock)
        self.two = self.started("p2", self.otherClock)

    def started(self, owner: str, clock: TestClock) -> Membership:
        """
        A process that has begun.
        """
        made = Membership(self.store, owner, clock)
        made.startService()
        self.addCleanup(made.stopService)
        return made

    def pass_(self, seconds: float) -> None:
        """
        Let time go on for the first process, while the other one hangs.
        """
        self.clock.pump([1.0] * int(seconds))

    def alive(self, owner: str) -> bool:
        """
        Whether the first process thinks that one of this name lives.
        """
        return self.successResultOf(self.one.isAlive(owner))

    def test_dies(self) -> None:
        """
        A process that says nothing is dead some time later, and lives again
        when it goes on.
        """
        self.pass_(14)
        self.assertEqual([self.alive(owner) for owner in ("p1", "p2", "p3")], [True, True, False])
        self.pass_(1)
        self.assertEqual([self.alive(owner) for owner in ("p1", "p2")], [True, False])
        self.assertTrue(self.successResultOf(self.two.isAlive("p1")))
        self.otherClock.advance(5)
        self.assertTrue(self.alive("p2"))

    def test_otherLeases(self) -> None:
        """
        What a process has beside is its own as long as it lives, and free once
        it stops.
        """
        state = self.store.state
        self.assertTrue(self.successResultOf(state.acquire("a", "p1", membership.TTL)))
        self.pass_(60)
        self.assertFalse(self.successResultOf(state.acquire("a", "p3", 5)))
        self.successResultOf(self.one.stopService())
        self.assertTrue(self.successResultOf(state.acquire("a", "p3", 5)))
        self.assertFalse(self.successResultOf(self.two.isAlive("p1")))
        self.assertEqual(self.clock.getDelayedCalls(), [])
        self.assertIsNone(self.successResultOf(self.one.stopService()))

    def test_restarted(self) -> None:
        """
        One that comes again under its name has nothing of what it had, and
        what it did before is nobody's.
        """
        state = self.store.state
        self.assertTrue(self.successResultOf(state.acquire("a", "p2", 99)))
        again = self.started("p2", self.clock)
        self.assertEqual(
            [self.alive(name) for name in ("p2", self.two.run, again.run)], [True, False, True]
        )
        self.assertTrue(self.successResultOf(state.acquire("a", "p3", 5)))

    def test_alone(self) -> None:
        """
        Where nobody shares the store all other processes are of the past.
        """
        store = VolatileStore(self.clock, ROOM, lambda: NOW)
        alone = Membership(store, "p1", self.clock)
        calls = len(self.clock.getDelayedCalls())
        alone.startService()
        self.assertEqual(len(self.clock.getDelayedCalls()), calls)
        self.assertEqual([self.successResultOf(alone.isAlive(each)) for each in ("p1", "p2")], [True, False])
        self.assertTrue(self.successResultOf(alone.isAlive(alone.run)))
        self.successResultOf(alone.stopService())


class PostgreSQLMembershipTests(PostgreSQL):
    """
    Over a server, whose clock counts.
    """

    def setUp(self) -> None:
        super().setUp()
        self.one, self.two = (Membership(self.opened(), owner, self.clock) for owner in ("p1", "p2"))
        for each in (self.one, self.two):
            each.startService()
            self.addCleanup(each.stopService)

    def alive(self, owner: str) -> bool:
        """
        Whether the first process thinks that one of this name lives.
        """
        return self.successResultOf(self.one.isAlive(owner))

    def changed(self, statement: str) -> None:
        """
        Do something to the leases.
        """
        engine = Location(self.where).engine()
        with engine.begin() as connection:
            connection.execute(text(statement))
        engine.dispose()

    def test_dies(self) -> None:
        """
        By a lease that is over, or gone; a beat has it again.
        """
        self.assertEqual([self.alive(owner) for owner in ("p1", "p2", "p3")], [True, True, False])
        self.changed("UPDATE leases SET expires_at = expires_at - 15.1")
        self.assertFalse(self.alive("p2"))
        self.clock.advance(5)
        self.assertTrue(self.alive("p2"))
        self.changed("DELETE FROM leases WHERE name = 'process:p2'")
        self.assertFalse(self.alive("p2"))
        self.clock.advance(5)
        self.assertTrue(self.alive("p2"))
        self.successResultOf(self.two.stopService())
        self.assertFalse(self.alive("p2"))

    def test_degraded(self) -> None:
        """
        Nobody is thought to be dead while the store cannot be asked.
        """
        server().stop()
        try:
            self.assertTrue(self.alive("p3"))
            # Many beats wait as one.
            self.clock.pump([5.0] * 20)
            store: Any = self.one._store
            self.assertLess(len(store.changes), 5)
        finally:
            server().start()
        self.clock.advance(10)
        self.assertEqual([self.alive(owner) for owner in ("p2", "p3")], [True, False])
