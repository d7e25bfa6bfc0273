"""
What a WebSocket connection knows of its responses.
"""

from __future__ import annotations

from openai_server.web.bodybudget import BodyBudget
from openai_server.web.lanememory import LaneMemory, Remembered
from tests.support import SyncCase


class LaneMemoryTests(SyncCase):
    """
    L{LaneMemory}, which holds nothing in the end.
    """

    def setUp(self) -> None:
        super().setUp()
        self.budget = BodyBudget(10, 0)
        self.memory = LaneMemory(self.budget)

    def test_latestOfEachLane(self) -> None:
        """
        One response a lane, found from any lane.
        """
        first = Remembered("a", None, [b"1"])
        self.memory.replace(None, first)
        self.memory.replace("x", first.followedBy("b", b"2"))
        self.assertEqual(self.memory.find("b"), Remembered("b", None, [b"1", b"2"]))
        self.assertEqual((self.memory.find("a"), self.budget.held), (first, 3))
        self.memory.replace(None, Remembered("c", "root", [b"3"]))
        self.assertIsNone(self.memory.find("a"))
        self.memory.replace("x", None)
        self.assertIsNone(self.memory.find("b"))
        self.assertIsNone(self.memory.find(None))
        self.memory.clear()
        self.assertEqual((self.memory.find("c"), self.budget.held), (None, 0))

    def test_forget(self) -> None:
        """
        Only what is the latest of the lane.
        """
        first = Remembered("a", None, [b"1"])
        self.memory.replace(None, first)
        for lane, id in (("x", "a"), (None, "b"), (None, None)):
            self.memory.forget(lane, id)
            self.assertIs(self.memory.find("a"), first)
        self.memory.forget(None, "a")
        self.assertEqual((self.memory.find("a"), self.budget.held), (None, 0))

    def test_noRoom(self) -> None:
        """
        What is too much is not remembered, nor what was before it.
        """
        other = LaneMemory(self.budget)
        other.replace(None, Remembered("a", None, [b"12345"]))
        self.memory.replace(None, Remembered("b", None, [b"1"]))
        self.memory.replace(None, Remembered("c", None, [b"123", b"456"]))
        self.assertIsNone(self.memory.find("b"))
        self.assertIsNone(self.memory.find("c"))
        self.assertEqual(self.budget.held, 5)
        other.clear()
        self.memory.replace(None, Remembered("c", None, [b"123", b"456"]))
        self.assertIsNotNone(self.memory.find("c"))
