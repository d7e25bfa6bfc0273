"""
Tests for L{openai_server.api.responses.tools}.
"""

from __future__ import annotations

from typing import Any

from openai_server.api.inquiry import Tool, ToolChoice
from openai_server.api.responses.tools import choiceFromBody, shownChoice, toolsFromBody
from openai_server.api.rules import MAX_TOOLS
from openai_server.api.unread import UnreadNames
from openai_server.errors import APIError
from tests.support import SyncCase

PARAMETERS = {"type": "object", "properties": {}}
FUNCTION = {"type": "function", "name": "f", "description": "d", "parameters": PARAMETERS, "strict": False}
CUSTOM = {"type": "custom", "name": "c", "format": {"type": "grammar", "syntax": "lark", "definition": "x"}}


class ToolTests(SyncCase):
    """
    L{toolsFromBody}.
    """

    def read(self, *tools: Any) -> tuple[tuple[Tool, ...], list[dict[str, Any]], tuple[str, ...]]:
        """
        The tools, as they are repeated, and the names of what is ignored.
        """
        unread = UnreadNames()
        found, shown = toolsFromBody(tools, unread)
        return found, shown, unread.all

    def refused(self, *tools: Any) -> tuple[str, str | None]:
        """
        The code and param of the error that these bring.
        """
        error = self.assertRaises(APIError, self.read, *tools)
        self.assertEqual(error.kind.status, 400)
        return error.name, error.param

    def test_bothKinds(self) -> None:
        """
        Functions and custom tools, repeated with all of their members.
        """
        found, shown, ignored = self.read(FUNCTION, CUSTOM, {"type": "function", "name": "g"})
        function = Tool(kind="function", name="f", description="d", parameters=PARAMETERS, param="tools[0]")
        custom: Any = CUSTOM["format"]
        self.assertEqual(found[0], function)
        self.assertEqual(found[1], Tool(kind="custom", name="c", format=custom, param="tools[1]"))
        bare = {"type": "function", "name": "g", "description": None, "parameters": None, "strict": True}
        self.assertEqual(shown, [FUNCTION, {**CUSTOM, "description": None}, bare])
        self.assertEqual(ignored, ())
        self.assertEqual(self.read({"type": "custom", "name": "c"})[1][0]["format"], {"type": "text"})

    def test_othersAreLeftOut(self) -> None:
        """
        Whatever they hold, and each kind is named.
        """
        others = ("web_search", "namespace", "image_generation", "mcp", "local_shell", "web_search")
        found, shown, ignored = self.read(*[{"type": kind, "name": 5} for kind in others], FUNCTION)
        self.assertEqual(([tool.name for tool in found], len(shown)), (["f"], 1))
        self.assertEqual(ignored, tuple([f"tools.{kind}" for kind in others[:-1]]))
        self.assertEqual(found[0].param, "tools[6]")

    def test_unreadMembers(self) -> None:
        """
        They are named where they ask for something.
        """
        ignored = self.read({**FUNCTION, "defer_loading": True, "async": False})[2]
        self.assertEqual(ignored, ("tools[0].defer_loading",))

    def test_errors(self) -> None:
        """
        Each names the place.
        """
        self.assertEqual(self.refused({"type": "function"}), ("missing_required_parameter", "tools[0].name"))
        self.assertEqual(self.refused({"name": "f"}), ("invalid_type", "tools[0].type"))
        self.assertEqual(self.refused({**FUNCTION, "name": ""}), ("invalid_value", "tools[0].name"))
        self.assertEqual(self.refused(FUNCTION, FUNCTION), ("invalid_value", "tools[1].name"))
        self.assertEqual(
            self.refused({**FUNCTION, "parameters": []}), ("invalid_type", "tools[0].parameters")
        )
        self.assertEqual(self.refused(*[FUNCTION] * (MAX_TOOLS + 1)), ("invalid_value", "tools"))


class ChoiceTests(SyncCase):
    """
    L{choiceFromBody}.
    """

    def setUp(self) -> None:
        super().setUp()
        self.tools, _ = toolsFromBody([FUNCTION, CUSTOM], UnreadNames())

    def refused(self, choice: Any) -> tuple[str, str | None]:
        """
        The code and param of the error that it brings.
        """
        error = self.assertRaises(APIError, choiceFromBody, choice, self.tools)
        self.assertEqual(error.kind.status, 400)
        return error.name, error.param

    def test_allForms(self) -> None:
        """
        A word, one tool by its name, or the tools that may be called.
        """
        some = [{"type": "function", "name": "f"}, {"type": "web_search"}, {"type": "custom", "name": "c"}]
        for choice, wanted in (
            ("none", ToolChoice("none")),
            ("auto", ToolChoice("auto")),
            ("required", ToolChoice("required")),
            ({"type": "function", "name": "f"}, ToolChoice("required", "f")),
            ({"type": "custom", "name": "c"}, ToolChoice("required", "c")),
            (
                {"type": "allowed_tools", "mode": "required", "tools": some},
                ToolChoice("required", None, ("f", "c")),
            ),
            ({"type": "allowed_tools", "tools": some[:1]}, ToolChoice("auto", None, ("f",))),
        ):
            with self.subTest(choice=choice):
                self.assertEqual(choiceFromBody(choice, self.tools), wanted)

    def test_errors(self) -> None:
        """
        Only a choice that forces what is not there is one.
        """
        for choice, (code, param) in (
            ("some", ("invalid_value", "tool_choice")),
            ({"type": "web_search_preview"}, ("unsupported_value", "tool_choice")),
            ({"type": "mcp", "server_label": "x"}, ("unsupported_value", "tool_choice")),
            ({"type": "function"}, ("missing_required_parameter", "tool_choice.name")),
            ({"type": "function", "name": "c"}, ("invalid_value", "tool_choice")),
            ({"type": "allowed_tools"}, ("missing_required_parameter", "tool_choice.tools")),
            (
                {"type": "allowed_tools", "tools": [{"type": "function", "name": "x"}]},
                ("invalid_value", "tool_choice.tools[0]"),
            ),
        ):
            with self.subTest(choice=choice):
                self.assertEqual(self.refused(choice), (code, param))

    def test_repeated(self) -> None:
        """
        As it was sent, without what nobody reads.
        """
        self.assertEqual((shownChoice(None), shownChoice("none")), ("auto", "none"))
        named = {"type": "function", "name": "f"}
        self.assertEqual(shownChoice({**named, "x": 1}), named)
        allowed = {"type": "allowed_tools", "mode": "required", "tools": [named]}
        self.assertEqual(shownChoice({**allowed, "x": 1}), allowed)
