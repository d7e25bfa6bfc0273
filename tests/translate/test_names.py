"""
Names of tools both ways.
"""

from __future__ import annotations

import re

from hypothesis import given, settings
from hypothesis import strategies as st

from openai_server.api.inquiry import Tool
from openai_server.translate.names import TakenNames, ToolNames
from tests.support import SyncCase

NAMES = st.one_of(
    st.text(min_size=1, max_size=70),
    st.sampled_from(["Read", "bash", "a.b", "a_b", "a/b", "humfs_read", "f", "x" * 54, "x" * 55, "_" * 60]),
)

#: What the capability of the file system owns, in some case.
CAPABILITY = ("Read", "write", "EDIT", "MultiEdit", "glob", "Grep", "bash")


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
        for name in ("f", "get_weather", "a-b", "X" * 54, "humfs_read", *CAPABILITY):
            self.assertEqual(ToolNames(tools(name), TakenNames()).wireName(name), name)

    def test_othersAreReplaced(self) -> None:
        """
        Names of a capability that a bee provides, in any case, of other bees,
        too long ones, and those with characters that the CLI would change.
        """
        taken = TakenNames(frozenset({"taken"}), frozenset({"session", "fs"}))
        for name in (*CAPABILITY, "taken", "a.b", "x" * 55, "\u00e9"):
            made = ToolNames(tools(name), taken).wireName(name)
            self.assertNotEqual(made, name)
            self.assertRegex(made, r"\A[A-Za-z0-9_-]{1,54}\Z")

    def test_onlyNamesThatCollide(self) -> None:
        """
        What a bee provides takes no other names; what one lists takes that
        name in that case alone.
        """
        fileSystem, web = (TakenNames(provided=frozenset({each})) for each in ("fs", "web"))
        for taken in (fileSystem, TakenNames(frozenset({"LOOK", "humfs_read"}))):
            for name in ("look", "bash_output", "ls", "reader"):
                self.assertEqual(ToolNames(tools(name), taken).wireName(name), name)
        self.assertEqual(ToolNames(tools("bash"), web).wireName("bash"), "bash")

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
