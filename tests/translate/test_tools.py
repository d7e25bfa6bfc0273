"""
Tools, calls and results.
"""

from __future__ import annotations

import json
from typing import Any

import msgspec

from openai_server.api.body import MAX_DEPTH
from openai_server.api.chat.request import inquiryFromBody
from openai_server.api.inquiry import Inquiry, Media
from openai_server.errors import APIError
from openai_server.translate.tools import (
    MAX_DEFINITIONS,
    MAX_DESCRIPTION,
    Offer,
    inputText,
    offerFrom,
    resultText,
)
from openai_server.wire.tones import ToolDefinition
from tests.support import SyncCase


def function(name: str, **more: Any) -> dict[str, Any]:
    """
    A function as requests have it.
    """
    return {"type": "function", "function": {"name": name, **more}}


def request(*tools: dict[str, Any], **more: Any) -> Inquiry:
    """
    A request with tools.
    """
    body = {"model": "m", "messages": [{"role": "user", "content": "x"}], "tools": tools, **more}
    return inquiryFromBody(json.dumps(body).encode())


def offered(offer: Offer) -> list[str]:
    """
    The names that go out.
    """
    return [definition.name for definition in offer.definitions]


class OfferTests(SyncCase):
    """
    L{offerFrom}.
    """

    def test_definitions(self) -> None:
        """
        Name, description, and a schema that is never null.
        """
        schema = {"type": "object", "properties": {"a": {"type": "string"}}}
        found = offerFrom(request(function("f", description="d", parameters=schema), function("g")))
        self.assertEqual(
            list(found.definitions),
            [
                ToolDefinition(name="f", description="d", inputSchema=schema),
                ToolDefinition(name="g", description="", inputSchema={"type": "object", "properties": {}}),
            ],
        )
        self.assertEqual((found.systemText, found.instruction), ("", ""))

    def test_nothing(self) -> None:
        """
        No tools, or none wanted.
        """
        for empty in (request(), request(function("f"), tool_choice="none")):
            found = offerFrom(empty)
            self.assertEqual((found.definitions, found.instruction), ((), ""))
            self.assertIsNone(found.names.clientName("f"))

    def test_allowedTools(self) -> None:
        """
        A hard filter.
        """
        chosen = {
            "type": "allowed_tools",
            "allowed_tools": {"mode": "required", "tools": [function("g")]},
        }
        found = offerFrom(request(function("f"), function("g"), tool_choice=chosen))
        self.assertEqual(offered(found), ["g"])
        self.assertIsNone(found.names.clientName("f"))
        self.assertEqual(found.instruction, "Answer with a call of one of the tools you were given.")
        chosen["allowed_tools"] = {"mode": "auto", "tools": []}
        self.assertEqual(offerFrom(request(function("f"), tool_choice=chosen)).definitions, ())

    def test_namesAreTranslated(self) -> None:
        """
        In the instruction too.
        """
        named = {"type": "function", "function": {"name": "a.b"}}
        found = offerFrom(request(function("a.b"), tool_choice=named), {"x"})
        [name] = offered(found)
        self.assertEqual(found.names.clientName(name), "a.b")
        self.assertEqual(found.instruction, f"Answer with a call of the tool {name}.")

    def test_renamed(self) -> None:
        """
        A tool that has another name in its session has it everywhere.
        """
        named = {"type": "function", "function": {"name": "f"}}
        tools = (function("f", description="x" * 3000), function("g"))
        found = offerFrom(request(*tools, tool_choice=named), (), {"f": "f_2"})
        self.assertEqual(offered(found), ["f_2", "g"])
        self.assertEqual((found.names.clientName("f_2"), found.names.clientName("f")), ("f", None))
        self.assertEqual(found.instruction, "Answer with a call of the tool f_2.")
        self.assertTrue(found.systemText.startswith("Description of the tool f_2:"))

    def test_oneAtATime(self) -> None:
        """
        Said in words, after the choice.
        """
        found = offerFrom(request(function("f"), tool_choice="required", parallel_tool_calls=False))
        self.assertTrue(found.instruction.endswith("you were given. Call at most one tool at a time."))

    def test_longDescription(self) -> None:
        """
        Cut on the wire, whole for the system prompt, under the daemon's name.
        """
        long = "x" * (MAX_DESCRIPTION + 1)
        tools = (function("a.b", description=long), function("g", description=long[1:]))
        found = offerFrom(request(*tools))
        one, two = found.definitions
        self.assertEqual(len(one.description), MAX_DESCRIPTION)
        self.assertTrue(one.description.endswith("The whole description is in the system prompt."))
        self.assertEqual(two.description, long[1:])
        self.assertEqual(found.systemText, f"Description of the tool {one.name}:\n{long}")

    def test_customTool(self) -> None:
        """
        A function with one field; a grammar is said in words.
        """
        grammar = {"type": "grammar", "grammar": {"syntax": "lark", "definition": "start: X"}}
        custom = {"type": "custom", "custom": {"name": "p", "description": "d", "format": grammar}}
        found = offerFrom(request(custom))
        [definition] = found.definitions
        self.assertEqual(definition.description, "d\n\nThe input must follow this grammar (lark):\nstart: X")
        self.assertEqual(definition.inputSchema["required"], ["input"])
        self.assertEqual(found.names.kind("p"), "custom")

    def test_legacyFunctions(self) -> None:
        """
        The same, one at a time.
        """
        body = {"model": "m", "messages": [{"role": "user", "content": "x"}], "functions": [{"name": "f"}]}
        found = offerFrom(inquiryFromBody(json.dumps(body).encode()))
        self.assertEqual((offered(found), found.instruction), (["f"], "Call at most one tool at a time."))

    def test_manyTools(self) -> None:
        """
        Five hundred of them with some parameters each, each its own.
        """
        parameters = {"type": "object", "properties": {f"p{n}": {"type": "string"} for n in range(25)}}
        found = offerFrom(request(*(function(f"t/{n}", parameters=parameters) for n in range(500))))
        self.assertEqual(len(set(offered(found))), 500)

    def test_badSchema(self) -> None:
        """
        What the daemon could not read is the client's fault, and named.
        """
        bad = function("f", parameters={"properties": {"a": {"maximum": 10**400}}})
        asked = request(function("e"), bad)
        deep: dict[str, Any] = {}
        for _ in range(130):
            deep = {"items": deep}
        tools = (asked.tools[0], msgspec.structs.replace(asked.tools[1], parameters=deep))
        for each in (asked, msgspec.structs.replace(asked, tools=tools)):
            error = self.assertRaises(APIError, offerFrom, each)
            self.assertEqual(error.param, "tools[1].function.parameters")
        large = function("f", parameters={"properties": {"a": {"maximum": 10**30}}})
        self.assertEqual(len(offerFrom(request(large)).definitions), 1)

    def test_deepestSchemas(self) -> None:
        """
        (C23) Whatever a request may nest, and however its references lead one
        to the next, the daemon can read what is made of it.
        """
        chained: dict[str, Any] = {
            f"d{n}": {"$ref": f"#/$defs/d{n + 1}", "properties": {"p": {"const": n}}} for n in range(100)
        }
        deepest: dict[str, Any] = {}
        # The levels around it, and one that a branch and its property have.
        for _ in range(MAX_DEPTH - 5 - 6):
            deepest = {"items": deepest}
        branches = [{"properties": {"a": {"const": n}}} for n in range(2)]
        for parameters in (
            {"$ref": "#/$defs/d0", "$defs": chained},
            {"anyOf": [*branches, {"properties": {"a": deepest}}]},
        ):
            [definition] = offerFrom(request(function("f", parameters=parameters))).definitions
            self.assertTrue(definition.isReadable)

    def test_manyBytes(self) -> None:
        """
        All definitions together have a bound: they go out again and again.
        """
        half = function("f", parameters={"description": "x" * (MAX_DEFINITIONS // 2 - 200)})
        other = function("g", parameters=half["function"]["parameters"])
        third = function("h", description="x" * 500)
        self.assertEqual(len(offerFrom(request(half, other)).definitions), 2)
        for asked, param in (
            (request(half, other, third), "tools"),
            (request(functions=[each["function"] for each in (half, other, third)]), "functions"),
        ):
            error = self.assertRaises(APIError, offerFrom, asked)
            self.assertEqual((error.name, error.param), ("invalid_value", param))


class InputTests(SyncCase):
    """
    L{inputText}.
    """

    def test_customInput(self) -> None:
        """
        The text out of the one field; whatever else came, as text.
        """
        for args, text in (
            ({"input": "x"}, "x"),
            ('{"input": "x"}', "x"),
            ("plain", "plain"),
            ('"quoted"', "quoted"),
            ("[" * 3000, "[" * 3000),
            ({"input": 3}, '{"input":3}'),
            ({"other": "x"}, '{"other":"x"}'),
            (None, "{}"),
        ):
            self.assertEqual(inputText(args), text)


class ResultTests(SyncCase):
    """
    L{resultText}.
    """

    def test_table(self) -> None:
        """
        Always one string; nothing of a text is changed.
        """
        for content, text in (("x\0y", "x\0y"), ("", ""), ([], "")):
            self.assertEqual(resultText(content), text)

    def test_parts(self) -> None:
        """
        One under the other, an image as a line.
        """
        parts = ["a", "", Media("image", "data:image/png;base64,iVBORw0KGgo=", "here"), "b"]
        self.assertEqual(resultText(parts), "a\n\n[image attached: image/png, 8 bytes]\nb")

    def test_badImage(self) -> None:
        """
        Named by its place.
        """
        error = self.assertRaises(APIError, resultText, [Media("image", "file:///x", "here")])
        self.assertEqual(error.param, "here")
