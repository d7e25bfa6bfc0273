"""
Members that nobody reads.
"""

from __future__ import annotations

from typing import Any

import msgspec

from openai_server.api.unread import MAX_CHARACTERS, MAX_NAME, MAX_NAMES, UnreadNames, safeName, shapeOf
from tests.support import SyncCase


class Leaf(msgspec.Struct):
    """
    Has no more below it.
    """

    a: int
    own: dict[str, Any] | None = None


class Tree(msgspec.Struct):
    """
    Has leaves in every way there is.
    """

    one: Leaf | None = None
    many: tuple[Leaf, ...] | None = None
    either: str | Leaf | None = None


class UnreadTests(SyncCase):
    """
    L{UnreadNames}.
    """

    def setUp(self) -> None:
        super().setUp()
        self.names = UnreadNames()

    def test_shape(self) -> None:
        """
        The members of a struct, at every depth.
        """
        leaf = {"a": None, "own": None}
        self.assertEqual(shapeOf(Tree), {"one": leaf, "many": leaf, "either": leaf})

    def test_removed(self) -> None:
        """
        What nobody reads goes, at every depth; what is the client's own, or of
        another type, stays as it is, and the value is not changed.
        """
        value = {
            "one": {"a": 1, "b": 2, "own": {"b": 2}},
            "many": [{"a": 1}, {"b": 2}, 3, None],
            "either": "text",
            "x": 1,
        }
        before = msgspec.json.encode(value)
        read = self.names.removeFrom(value, shapeOf(Tree), "at")
        self.assertEqual(
            read,
            {"one": {"a": 1, "own": {"b": 2}}, "many": [{"a": 1}, {}, 3, None], "either": "text"},
        )
        self.assertEqual(self.names.all, ("at.one.b", "at.many[1].b", "at.x"))
        self.assertEqual(msgspec.json.encode(value), before)

    def test_nothingAsked(self) -> None:
        """
        An empty or false value asks for nothing.
        """
        for value in (None, False, {}, [], 0):
            self.names.add("a", value)
        self.assertEqual(self.names.all, ())

    def test_bounded(self) -> None:
        """
        Names are clients': cleaned, bounded, each once.
        """
        self.assertEqual(safeName("x\r\n[" + "y" * 100), "x___" + "y" * (MAX_NAME - 4))
        for number in range(2 * MAX_NAMES):
            self.names.add("\u00e9", 1)
            self.names.add(f"a{number}", 1, "b")
        self.assertEqual(self.names.all[:3], ("_", "b.a0", "b.a1"))
        self.assertEqual(len(self.names.all), MAX_NAMES)
        names = UnreadNames()
        for number in range(MAX_NAMES):
            names.add(f"{number:064d}", 1, "a" * 64)
        self.assertEqual(len(names.all), MAX_CHARACTERS // 129)
