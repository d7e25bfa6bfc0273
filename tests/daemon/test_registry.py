"""
Tests for L{openai_server.daemon.registry}.
"""

from __future__ import annotations

import json
import os
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from openai_server.daemon.interfaces import Bee
from openai_server.daemon.registry import PERIOD, FileRegistry
from openai_server.wire.ends import Loss, Lost
from tests.daemon.world import HID, LinkCase
from tests.support import SyncCase, TestClock

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=6,
)
ENTRY = st.dictionaries(st.sampled_from(["hid", "models", "tools", "provides", "kind"]), JSON, max_size=5)


class RegistryCase(SyncCase):
    """
    A registry file in a folder of its own.
    """

    def setUp(self) -> None:
        super().setUp()
        folder = self.mktemp()
        os.makedirs(folder)
        self.path = os.path.join(folder, "bees.json")
        self.clock = TestClock()
        self.registry = FileRegistry(self.path, self.clock)
        self.changes: list[tuple[str, ...]] = []
        self.registry.onChange(lambda: self.changes.append(tuple(self.registry.models())))

    def write(self, content: bytes) -> None:
        """
        Rewrite the file as the daemon does: beside it, then renamed.
        """
        with open(self.path + ".new", "wb") as file:
            file.write(content)
        os.replace(self.path + ".new", self.path)

    def bees(self, **entries: Any) -> None:
        """
        Rewrite the file with these entries.
        """
        self.write(json.dumps(entries).encode())


class ContentTests(RegistryCase):
    """
    What stands in the file.
    """

    @settings(deadline=None, max_examples=100)
    @given(st.one_of(st.binary(max_size=60), st.dictionaries(st.text(max_size=5), JSON | ENTRY, max_size=4)))
    def test_anything(self, content: bytes | dict[str, Any]) -> None:
        """
        Whatever it is, what is read of it has the types it should have, and a
        good file behind it counts.
        """
        self.write(content if isinstance(content, bytes) else json.dumps(content).encode())
        self.registry.look()
        for bee in self.registry.bees():
            self.assertTrue(isinstance(bee.name, str) and isinstance(bee.hid, str))
            self.assertEqual({type(said) for said in (*bee.models, *bee.tools, *bee.provides)} - {str}, set())
        self.bees(worker={"hid": "h", "models": ["m"]})
        self.registry.look()
        self.assertEqual(self.registry.models(), ("m",))

    def test_bees(self) -> None:
        """
        Workers, other foragers and this bee are there, each by its own hid;
        models once each in file order.
        """
        self.bees(
            w1={
                "hid": "h1",
                "bee": ["worker"],
                "models": ["b", "a"],
                "provides": ["fs"],
                "tools": [{"name": "humfs_read"}],
            },
            w2={"models": ["a", "c"]},
            us={"hid": HID, "tools": [{"name": "f"}, "bare", {"no": "name"}, 7]},
        )
        self.assertTrue(self.registry.isKnown)
        self.assertEqual(
            list(self.registry.bees()),
            [
                Bee(name="w1", hid="h1", models=("b", "a"), tools=("humfs_read",), provides=("fs",)),
                Bee(name="w2", hid="", models=("a", "c"), tools=()),
                Bee(name="us", hid=HID, models=(), tools=("f", "bare")),
            ],
        )
        self.assertEqual(list(self.registry.models()), ["b", "a", "c"])

    def test_oddEntries(self) -> None:
        """
        What is odd in an entry is left out, and the rest stays.
        """
        self.bees(
            a=7,
            b=None,
            c={"models": "no"},
            d={"models": [1, "m", None], "hid": 5, "tools": {}, "provides": "fs"},
        )
        self.assertEqual([(bee.name, bee.provides) for bee in self.registry.bees()], [("c", ()), ("d", ())])
        self.assertEqual(list(self.registry.models()), ["m"])

    def test_broken(self) -> None:
        """
        A file that is no JSON object says nothing: neither that there are
        workers nor that there are none.
        """
        for content in (b"", b"{", b"[]", b"null", b"\xff", b"[" * 100_000, b" " * (8 << 20) + b" {}"):
            self.bees(w={"models": ["m"]})
            self.registry.look()
            self.assertTrue(self.registry.isKnown)
            self.write(content)
            self.registry.look()
            self.assertFalse(self.registry.isKnown, content[:10])
            self.assertEqual(list(self.registry.models()), [])

    def test_absent(self) -> None:
        """
        Without a file nothing is known; a folder in its place is no file.
        """
        self.assertFalse(self.registry.isKnown)
        self.assertIsNone(self.registry.version)
        os.mkdir(self.path)
        self.clock.advance(1)
        self.assertFalse(self.registry.isKnown)

    def test_fifo(self) -> None:
        """
        V18: nobody waits for what may come out of it.
        """
        os.mkfifo(self.path)
        self.registry.look()
        self.assertFalse(self.registry.isKnown)

    def test_hasSeen(self) -> None:
        """
        A model that was ever named is remembered, within a bound.
        """
        self.bees(w={"models": ["old"]})
        self.assertTrue(self.registry.hasSeen("old"))
        self.assertFalse(self.registry.hasSeen("new"))
        self.bees(w={"models": ["new"]})
        self.clock.advance(PERIOD)
        self.assertTrue(self.registry.hasSeen("old"))
        self.assertTrue(self.registry.hasSeen("new"))
        self.bees(w={"models": [f"m{number}" for number in range(1024)]})
        self.clock.advance(PERIOD)
        self.assertFalse(self.registry.hasSeen("old"))
        self.assertTrue(self.registry.hasSeen("m1023"))


class LinkedTests(RegistryCase):
    """
    A link with a file of its own.
    """

    def test_workerGoneFromTheFile(self) -> None:
        """
        (U20) Within a second after a worker's entry has gone, its turns are
        over, also when the file said nothing new between the connection and
        the asking but our own hello.
        """
        link = LinkCase("setUp")
        link.setUp()
        link.registry = FileRegistry(self.path, link.clock)  # type: ignore[assignment]
        link.link = link.newLink()
        link.registry.startService()  # type: ignore[attr-defined]
        self.bees(w={"models": ["m"]})
        link.start()
        self.bees(w={"models": ["m"]}, us={"hid": HID})
        link.clock.advance(PERIOD)
        heard = link.asked()
        self.bees(us={"hid": HID})
        link.clock.advance(0.25)
        self.assertEqual(heard.end, Lost(Loss.WORKER_LOST, False))
        link.registry.stopService()  # type: ignore[attr-defined]
        link.nothingIsLeft()


class WatchTests(RegistryCase):
    """
    When the file is read.
    """

    def test_changesAreTold(self) -> None:
        """
        While it runs, a change is told within a quarter of a second, once.
        """
        self.registry.startService()
        self.addCleanup(self.registry.stopService)
        self.bees(w={"models": ["m"]})
        self.clock.advance(PERIOD)
        self.clock.advance(PERIOD)
        self.bees()
        self.clock.advance(PERIOD)
        os.remove(self.path)
        self.clock.advance(PERIOD)
        self.assertEqual(self.changes, [("m",), (), ()])

    def test_versionChangesWithTheFile(self) -> None:
        """
        The version is the same as long as the file is, also when a rewrite
        says the same.
        """
        self.bees(w={})
        self.registry.look()
        before = self.registry.version
        self.registry.look()
        self.assertEqual(self.registry.version, before)
        self.bees(w={})
        self.registry.look()
        self.assertNotEqual(self.registry.version, before)

    def test_looksAtMostFourTimesASecond(self) -> None:
        """
        Questions between two looks cost no look.
        """
        looks: list[int] = []
        signature = self.registry._signature
        self.registry._signature = lambda: (looks.append(1), signature())[1]  # type: ignore[method-assign, func-returns-value]
        for _ in range(100):
            self.registry.models()
            self.registry.bees()
            self.clock.advance(0.01)
        self.assertLessEqual(len(looks), 5)

    def test_questionsCostNoLookWhileItRuns(self) -> None:
        """
        The timer alone looks.
        """
        self.registry.startService()
        self.addCleanup(self.registry.stopService)
        self.bees(w={"models": ["m"]})
        # The loop is late: the clock goes on, and no timer fires.
        self.clock.rightNow += 10
        self.assertEqual(list(self.registry.models()), [])
        self.clock.advance(0)
        self.assertEqual(list(self.registry.models()), ["m"])

    def test_stopped(self) -> None:
        """
        No timer stays, and it can be started again.
        """
        for _ in range(2):
            self.registry.startService()
            self.registry.stopService()
            self.assertEqual(self.clock.getDelayedCalls(), [])
        self.registry.stopService()
