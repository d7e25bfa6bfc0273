"""
What tools are called on the wire while other turns live.
"""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from openai_server.sessions.catalogue.wirenames import NamedTools, PromptTools, WireNames
from openai_server.wire.tones import ToolDefinition
from tests.sessions.catalogue.test_toollist import tool
from tests.support import SyncCase


class WireNamesTests(SyncCase):
    def setUp(self) -> None:
        super().setUp()
        self.live: dict[str, ToolDefinition] = {}
        self.names = WireNames()

    def goesOut(self, *tools: ToolDefinition, taken: frozenset[str] = frozenset()) -> NamedTools:
        """
        These tools in the next prompt of the session.
        """
        prompted = PromptTools(tools, self.names, taken)
        named = prompted.among(self.live)
        prompted.use(named)
        return named

    def lives(self, **descriptions: str) -> None:
        """
        Let just these be live.
        """
        self.live = {name: tool(name, description) for name, description in descriptions.items()}

    def test_usualNames(self) -> None:
        """
        Nobody else has them, or has the same.
        """
        self.lives(f="mine", other="theirs")
        named = self.goesOut(tool("f", "mine"), tool("g"))
        self.assertEqual((list(named.own), named.renamed, named.former), (["f", "g"], {}, {}))
        self.assertIs(named.own["f"], self.live["f"])

    def test_anotherToolOfThisName(self) -> None:
        """
        The first name that is free or means the same, and none of the
        session's own or of other bees.
        """
        self.lives(f="theirs", f_2="theirs", f_5="mine")
        named = self.goesOut(tool("f", "mine"), tool("f_3"), taken=frozenset({"f_4"}))
        self.assertEqual(named.renamed, {"f": "f_5"})
        self.assertEqual(named.usual, {"f_5": "f", "f_3": "f_3"})
        self.assertEqual(named.own["f_5"], tool("f_5", "mine"))
        self.assertEqual(named.former, {})

    def test_schemaCounts(self) -> None:
        """
        Another schema is another tool.
        """
        self.live = {"f": ToolDefinition(name="f", description="", inputSchema={"type": "object", "a": 1})}
        self.assertEqual(self.goesOut(tool("f")).renamed, {"f": "f_2"})

    def test_longNames(self) -> None:
        """
        They stay within what the worker's model takes, and apart.
        """
        long = [tool("x" * 53 + letter, "mine") for letter in "ab"]
        self.lives(**{each.name: "theirs" for each in long})
        self.assertEqual(list(self.goesOut(*long).own), ["x" * 52 + "_2", "x" * 52 + "_3"])

    def test_sessionKeepsItsNames(self) -> None:
        """
        Though the usual one has become free: its process knows no other.
        """
        self.lives(f="theirs")
        self.goesOut(tool("f"))
        self.lives()
        named = self.goesOut(tool("f"))
        self.assertEqual((list(named.own), list(named.former)), (["f_2"], ["f_2"]))

    def test_formerNames(self) -> None:
        """
        What a warm process may still say means the same tool.
        """
        self.goesOut(tool("f"), tool("g"))
        self.lives(f="theirs")
        named = self.goesOut(tool("f"), tool("g"))
        self.assertEqual((list(named.own), named.former), (["f_2", "g"], {"f": tool("f"), "g": tool("g")}))
        self.assertEqual(named.usual, {"f": "f", "f_2": "f", "g": "g"})
        self.lives(f_2="theirs")
        named = self.goesOut(tool("f"), tool("g"))
        self.assertEqual((list(named.own), sorted(named.former)), (["f", "g"], ["f", "f_2", "g"]))
        self.assertEqual(sorted(self.goesOut(tool("f"), tool("g")).former), ["f", "f_2", "g"])

    @settings(deadline=None, max_examples=200)
    @given(
        st.sets(st.sampled_from(["f", "f_2", "g"]), min_size=1),
        st.lists(
            st.dictionaries(st.sampled_from(["f", "f_2", "f_3", "g"]), st.sampled_from("abc")), max_size=6
        ),
    )
    def test_alwaysApart(self, declared: set[str], prompts: list[dict[str, str]]) -> None:
        """
        Whatever is live: each tool has one name, no name is two tools', and
        none is a live one with another meaning.
        """
        self.names = WireNames()
        before = False
        for live in prompts:
            self.lives(**live)
            named = self.goesOut(*(tool(name, "a") for name in sorted(declared)))
            self.assertEqual({named.usual[name] for name in named.own}, declared)
            self.assertEqual(len(named.own), len(declared))
            self.assertEqual({named.usual[name] for name in named.former}, declared if before else set())
            before = True
            for name, definition in named.own.items():
                self.assertEqual(self.live.get(name, definition), definition)
                self.assertEqual(definition.name, name)
