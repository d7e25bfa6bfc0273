"""
Which of a worker's own tools a prompt takes away.
"""

from __future__ import annotations

from openai_server.sessions.owntools import BUILT_IN, MAX_LEARNED, OwnTools
from openai_server.wire.hiding import MAX_ARGUMENT
from tests.support import SyncCase


class OwnToolsTests(SyncCase):
    def test_policies(self) -> None:
        """
        What is left for requests with nothing, with files, with tools, and
        with both.
        """
        requests = [(False, False), (False, True), (True, False), (True, True)]
        for policy, expected in {
            "auto": ["all", "all", "none", "reader"],
            "always": ["all"] * 4,
            "never": ["none"] * 4,
        }.items():
            tools = OwnTools(policy)  # type: ignore[arg-type]
            self.assertEqual([tools.left(*request) for request in requests], expected, policy)

    def test_takenAway(self) -> None:
        """
        All that is known; but what opens files where that is left.
        """
        tools = OwnTools("auto")
        self.assertEqual(tools.disallowed("all"), ())
        self.assertEqual(tools.disallowed("none"), BUILT_IN)
        self.assertEqual(set(BUILT_IN) - set(tools.disallowed("reader")), {"Read"})

    def test_settingsCount(self) -> None:
        """
        What they disallow always is, once; what they allow is never taken
        away, whatever is said in parentheses.
        """
        tools = OwnTools("auto", ["Bash(git log:*)", "mcp__x__y"], ["Write", "Bash(rm:*)"])
        tools.learn(["mcp__x__y", "Write"])
        self.assertEqual(tools.disallowed("all"), ("Write", "Bash(rm:*)"))
        taken = tools.disallowed("none")
        self.assertEqual(taken[:2], ("Write", "Bash(rm:*)"))
        self.assertEqual(taken.count("Write"), 1)
        self.assertFalse({"Bash", "mcp__x__y"} & set(taken))

    def test_learned(self) -> None:
        """
        What processes name is taken away later, but the client's tools, those
        of other bees, and what the CLI shows its model many tools through.
        """
        tools = OwnTools("auto")
        for said in (None, "Bash", [7, "Bash", "New", "mcp__files__read", "mcp__hum__look", "ToolSearch"]):
            tools.learn(said)
        self.assertEqual(tools.disallowed("none"), (*BUILT_IN, "New", "mcp__files__read"))

    def test_strangeNames(self) -> None:
        """
        Nothing becomes part of a command line that is not plainly a name.
        """
        tools = OwnTools("never")
        tools.learn(["a b", "a,b", "", "Bash(x)", "x" * 129, "\0", "é"])
        self.assertEqual(tools.disallowed("none"), BUILT_IN)

    def test_mayNotAct(self) -> None:
        """
        A request whose worker may use none has none, whatever the policy says;
        but what opens its files.
        """
        for policy in ("auto", "always"):
            tools = OwnTools(policy)  # type: ignore[arg-type]
            left = [tools.left(False, bringsFiles, mayAct=False) for bringsFiles in (False, True)]
            self.assertEqual(left, ["none", "reader"])
            tools.learn(["New"])
            self.assertEqual(tools.disallowed("none"), (*BUILT_IN, "New"))
        self.assertEqual(OwnTools("never").left(False, True, mayAct=False), "none")

    def test_roomWhereAllAreLeft(self) -> None:
        """
        All of it is the client's.
        """
        tools = OwnTools("always", (), ["Write"])
        tools.learn(["New"])
        self.assertEqual(tools.disallowed("all"), ("Write",))
        self.assertEqual(tools.roomBeside, MAX_ARGUMENT - 6)

    def test_roomIsKept(self) -> None:
        """
        Whatever workers name, the argument keeps the room that was promised.
        """
        tools = OwnTools("auto", (), ["Write"])
        room = tools.roomBeside
        tools.learn([f"tool_{number}" for number in range(5000)])
        taken = " ".join(tools.disallowed("none")) + " "
        self.assertGreater(len(taken), MAX_LEARNED)
        self.assertEqual(tools.roomBeside, room)
        self.assertLessEqual(len(taken), MAX_ARGUMENT - room)
