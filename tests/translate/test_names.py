"""
Names of tools both ways.
"""

from __future__ import annotations

import re

from hypothesis import given, settings
from hypothesis import strategies as st

from openai_server.api.inquiry import Tool
from openai_server.translate.names import ToolNames
from tests.support import SyncCase

NAMES = st.one_of(
    st.text(min_size=1, max_size=70),
    st.sampled_from(["Read", "bash", "a.b", "a_b", "a/b", "humfs_read", "f", "x" * 54, "x" * 55, "_" * 60]),
)


def tools(*names: str) -> list[Tool]:
    """
    Functions with these names.
    """
    return [Tool(kind="function", name=name) for name in names]


class ToolNamesTests(SyncCase):
    """
    L{ToolNames}.
    """

    def test_plainNamesStay(self) -> None:
        """
        Whatever the daemon and its worker can carry.
        """
        for name in ("f", "get_weather", "a-b", "X" * 54, "humfs_read"):
            self.assertEqual(ToolNames(tools(name), ()).wireName(name), name)

    def test_othersAreReplaced(self) -> None:
        """
        Names of capabilities in any case, of other bees, too long ones, and
        those with characters that the CLI would change.
        """
        capabilities = ("Read", "write", "EDIT", "MultiEdit", "glob", "Grep", "bash")
        for name in (*capabilities, "taken", "a.b", "x" * 55, "\u00e9"):
            made = ToolNames(tools(name), {"taken"}).wireName(name)
            self.assertNotEqual(made, name)
            self.assertRegex(made, r"\A[A-Za-z0-9_-]{1,54}\Z")

    def test_namesThatTheCLIWouldConfuse(self) -> None:
        """
        C{a.b} and C{a_b} are two tools.
        """
        names = ToolNames(tools("a.b", "a_b", "a/b"), ())
        self.assertEqual(names.wireName("a_b"), "a_b")
        self.assertEqual(len({names.wireName(name) for name in ("a.b", "a_b", "a/b")}), 3)

    def test_replacementThatExists(self) -> None:
        """
        Neither another tool's name nor another bee's is met by chance.
        """
        first = ToolNames(tools("a.b"), ()).wireName("a.b")
        for names in (ToolNames(tools(first, "a.b"), ()), ToolNames(tools("a.b"), {first})):
            made = names.wireName("a.b")
            self.assertNotEqual(made, first)
            self.assertEqual(names.clientName(made), "a.b")

    def test_unknown(self) -> None:
        """
        A name that the client did not declare is nobody's.
        """
        names = ToolNames(tools("f"), ())
        self.assertEqual((names.clientName("g"), names.kind("g")), (None, None))
        self.assertRaises(KeyError, names.wireName, "g")

    def test_kind(self) -> None:
        """
        Found by the daemon's name.
        """
        names = ToolNames([Tool(kind="custom", name="a.b"), Tool(kind="function", name="f")], ())
        self.assertEqual((names.kind(names.wireName("a.b")), names.kind("f")), ("custom", "function"))

    @settings(deadline=None, max_examples=200)
    @given(st.lists(NAMES, unique=True, max_size=12), st.sets(NAMES, max_size=6))
    def test_bothWays(self, names: list[str], taken: set[str]) -> None:
        """
        Every name comes back, none is another's, and the same request makes
        the same names.
        """
        found = ToolNames(tools(*names), taken)
        wire = [found.wireName(name) for name in names]
        self.assertEqual([found.clientName(name) for name in wire], names)
        self.assertEqual(wire, list(map(ToolNames(tools(*names), taken).wireName, names)))
        self.assertFalse(set(wire) & taken)
        self.assertTrue(all(re.fullmatch(r"[A-Za-z0-9_-]{1,54}", name) for name in wire))
