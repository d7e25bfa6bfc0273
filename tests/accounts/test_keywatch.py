"""
Tests for L{openai_server.accounts.keywatch}.
"""

from __future__ import annotations

from openai_server.accounts.keyring import KeyRing
from openai_server.accounts.keywatch import KeyWatch
from tests.accounts.support import NOW, FakeAccounts, savedKey
from tests.support import SyncCase, TestClock


class KeyWatchTests(SyncCase):
    """
    How changes come into a running server.
    """

    def setUp(self) -> None:
        super().setUp()
        self.clock = TestClock()
        self.store = FakeAccounts(savedKey("a"))
        self.ring = KeyRing(b"secret", lambda: NOW)
        self.watch = KeyWatch(self.clock, self.store, self.ring)

    def test_atStart(self) -> None:
        """
        The first request finds the keys; nothing is read again that is known.
        """
        self.assertEqual(self.ring.accountOf(b"a").name, "alice")
        self.watch.start()
        self.clock.advance(1)
        self.clock.advance(1)
        self.assertEqual(self.store.reads, 0)
        self.watch.stop()
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_changes(self) -> None:
        """
        Within two seconds, each of them.
        """
        self.watch.start()
        for key, name in ((b"b", "bob"), (b"c", "carol")):
            self.store.change(savedKey(key.decode(), name))
            self.clock.advance(1)
            self.assertEqual(self.ring.accountOf(key).name, name)
            self.assertEqual(len(self.ring), 1)
        self.watch.stop()

    def test_away(self) -> None:
        """
        While the store cannot be read, the keys stay as they were.
        """
        self.watch.start()
        self.store.change()
        self.store.isAway = True
        self.clock.advance(1)
        self.assertEqual(self.ring.accountOf(b"a").name, "alice")
        self.store.isAway = False
        self.clock.advance(1)
        self.assertEqual(len(self.ring), 0)
        self.watch.stop()

    def test_mistake(self) -> None:
        """
        One that is made in looking is logged, and it is looked again.
        """
        self.watch.start()
        self.patch(self.store, "version", lambda: 1 / 0)
        self.clock.advance(1)
        self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 1)
        self.clock.advance(1)
        self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 1)
        self.watch.stop()

    def test_memory(self) -> None:
        """
        Where there can be no keys, none are looked for.
        """
        self.patch(self.store, "lasts", False)
        self.watch.start()
        self.assertEqual(self.clock.getDelayedCalls(), [])
