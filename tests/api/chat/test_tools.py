"""
Tools of a request.
"""

from __future__ import annotations

import json
from typing import Any

from openai_server.api.chat.request import inquiryFromBody
from openai_server.api.inquiry import Inquiry, Tool, ToolChoice
from openai_server.api.rules import MAX_NAME, MAX_TOOLS
from openai_server.errors import APIError
from tests.support import SyncCase


def function(name: str, **more: Any) -> dict[str, Any]:
    """
    A function as C{tools} has it.
    """
    return {"type": "function", "function": {"name": name, **more}}


def inquiry(**fields: Any) -> Inquiry:
    """
    What a request with these fields is read as.
    """
    body = {"model": "m", "messages": [{"role": "user", "content": "x"}], **fields}
    return inquiryFromBody(json.dumps(body).encode())


def toolsFrom(tools: Any) -> tuple[Tool, ...]:
    """
    The tools of a request.
    """
    return inquiry(tools=tools).tools


CUSTOM = {"type": "custom", "custom": {"name": "patch", "description": "d", "format": {"type": "text"}}}


class ToolsTests(SyncCase):
    """
    C{tools} and C{functions}.
    """

    def refused(self, *tools: Any) -> tuple[str, str | None]:
        """
        The code and param of the error that tools bring.
        """
        error = self.assertRaises(APIError, toolsFrom, list(tools))
        self.assertEqual(error.kind.status, 400)
        return error.name, error.param

    def test_functionAndCustom(self) -> None:
        """
        Both kinds, with what each may carry; nulls are as absent.
        """
        schema = {"type": "object"}
        full = function("f", description="x", parameters=schema, strict=True)
        one, two, three = toolsFrom([full, CUSTOM, function("g", strict=None)])
        self.assertEqual((one.kind, one.name, one.description), ("function", "f", "x"))
        self.assertEqual((one.parameters, one.param), (schema, "tools[0].function"))
        self.assertEqual((two.kind, two.name, two.format), ("custom", "patch", {"type": "text"}))
        self.assertEqual((three.description, three.parameters), ("", None))

    def test_functions(self) -> None:
        """
        The deprecated list holds bare functions.
        """
        [tool] = inquiry(functions=[{"name": "f", "parameters": {}}]).tools
        self.assertEqual((tool.kind, tool.name, tool.parameters), ("function", "f", {}))

    def test_wrongShapes(self) -> None:
        """
        Each is a 400 that names the place.
        """
        for tool, said in (
            ({"type": "function"}, ("missing_required_parameter", "tools[0].function")),
            ({"type": "custom"}, ("missing_required_parameter", "tools[0].custom")),
            ({"type": "web_search"}, ("invalid_value", "tools[0].type")),
            ({"type": "function", "function": {}}, ("missing_required_parameter", "tools[0].function.name")),
            (function(""), ("invalid_value", "tools[0].function.name")),
            (function("x" * (MAX_NAME + 1)), ("invalid_value", "tools[0].function.name")),
            (function("f", parameters=[]), ("invalid_type", "tools[0].function.parameters")),
        ):
            self.assertEqual(self.refused(tool), said, tool)

    def test_oneNameTwice(self) -> None:
        """
        Whichever kinds they are of.
        """
        self.assertEqual(self.refused(function("patch"), CUSTOM), ("invalid_value", "tools[1].custom.name"))

    def test_count(self) -> None:
        """
        Many are fine, too many are not looked at.
        """
        self.assertEqual(len(toolsFrom([function(f"f{n}") for n in range(MAX_TOOLS)])), MAX_TOOLS)
        self.assertEqual(self.refused(*[3] * (MAX_TOOLS + 1)), ("invalid_value", "tools"))


class ChoiceTests(SyncCase):
    """
    C{tool_choice} and C{function_call}.
    """

    def setUp(self) -> None:
        super().setUp()
        self.tools = [function("f"), CUSTOM]

    def test_table(self) -> None:
        """
        Every shape of OpenAI's reference.
        """
        named = {"type": "function", "function": {"name": "f"}}
        custom = {"type": "custom", "custom": {"name": "patch"}}
        allowed = {"type": "allowed_tools", "allowed_tools": {"mode": "required", "tools": [named, custom]}}
        for value, choice in (
            ("none", ToolChoice("none")),
            ("auto", ToolChoice("auto")),
            ("required", ToolChoice("required")),
            (named, ToolChoice("required", "f")),
            (custom, ToolChoice("required", "patch")),
            (allowed, ToolChoice("required", None, ("f", "patch"))),
        ):
            self.assertEqual(inquiry(tools=self.tools, tool_choice=value).toolChoice, choice)

    def test_refused(self) -> None:
        """
        Each is a 400 that names the place.
        """
        absent = {"type": "function", "function": {"name": "patch"}}
        for value, param in (
            ("maybe", "tool_choice"),
            (3, "tool_choice"),
            ({"type": "mcp"}, "tool_choice.type"),
            ({"type": "function"}, "tool_choice.function"),
            ({"type": "custom"}, "tool_choice.custom"),
            (absent, "tool_choice"),
            ({"type": "custom", "custom": {"name": "f"}}, "tool_choice"),
            ({"type": "allowed_tools"}, "tool_choice.allowed_tools"),
            (
                {"type": "allowed_tools", "allowed_tools": {"mode": "auto", "tools": [absent]}},
                "tool_choice",
            ),
        ):
            error = self.assertRaises(APIError, inquiry, tools=self.tools, tool_choice=value)
            self.assertEqual((error.kind.status, error.param), (400, param))

    def test_legacy(self) -> None:
        """
        The deprecated field has two words and one object.
        """
        functions = [{"name": "f"}]
        for value, choice in (("none", ToolChoice("none")), ({"name": "f"}, ToolChoice("required", "f"))):
            self.assertEqual(inquiry(functions=functions, function_call=value).toolChoice, choice)
        for value, param in (("required", "function_call"), ({"name": "x"}, "function_call")):
            error = self.assertRaises(APIError, inquiry, functions=functions, function_call=value)
            self.assertEqual(error.param, param)
