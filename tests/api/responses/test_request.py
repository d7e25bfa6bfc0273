"""
Tests for L{openai_server.api.responses.request}: every field has its treatment.
"""

from __future__ import annotations

import json
from typing import Any

from openai_server.api.inquiry import NO_SAMPLING, Format, Inquiry, Message, Sampling, ToolChoice
from openai_server.api.responses.answer import ResponseHead
from openai_server.api.responses.request import inquiryFromBody
from openai_server.api.responses.structs import ResponsesBody
from openai_server.errors import APIError
from tests.support import SyncCase

SCHEMA = {"type": "json_schema", "name": "place", "schema": {"type": "object"}}


def request(isStrict: bool = False, **fields: Any) -> Inquiry:
    """
    What a request with these fields is read as.
    """
    body = json.dumps({"model": "m", "input": "hi", **fields}).encode()
    return inquiryFromBody(body, "t", 5, strict=isStrict)


def repeated(**fields: Any) -> dict[str, Any]:
    """
    What the response repeats of a request with these fields.
    """
    head = request(**fields).own
    assert isinstance(head, ResponseHead)
    return head.repeated


class RequestTests(SyncCase):
    """
    L{inquiryFromBody}.
    """

    def refused(self, isStrict: bool = False, **fields: Any) -> tuple[str, str | None]:
        """
        The code and param of the error that fields bring.
        """
        error = self.assertRaises(APIError, request, isStrict, **fields)
        self.assertEqual(error.kind.status, 400)
        return error.name, error.param

    def test_defaults(self) -> None:
        """
        The least that a request can say.
        """
        found = request()
        self.assertEqual((found.model, found.messages), ("m", (Message("user", "hi"),)))
        self.assertEqual((found.isStreamed, found.isParallel, found.messagesParam), (False, True, "input"))
        self.assertEqual((found.tools, found.ignored, found.metadata), ((), (), {}))
        self.assertIs(found.sampling, NO_SAMPLING)
        self.assertEqual(found.own, ResponseHead("t", 5, repeated(), False))

    def test_nullMeansAbsent(self) -> None:
        """
        Every field may be null, and then says nothing.
        """
        names = set(ResponsesBody.__struct_fields__) - {"model", "input"}
        names |= {"client_metadata", "whatever"}
        self.assertEqual(request(True, **dict.fromkeys(names)), request())

    def test_honouredFields(self) -> None:
        """
        What is kept for those who need it.
        """
        found = request(
            instructions="Be brief.",
            stream=True,
            max_output_tokens=100.0,
            temperature=0.5,
            top_p=1,
            presence_penalty=1,
            frequency_penalty=-1,
            parallel_tool_calls=False,
            reasoning={"effort": "high", "summary": "auto"},
            text={"verbosity": "low"},
            user="ada",
            metadata={"cwd": "/x"},
            truncation="disabled",
            service_tier="auto",
            include=["reasoning.encrypted_content"],
            store=True,
        )
        self.assertEqual(found.messages, (Message("system", "Be brief."), Message("user", "hi")))
        self.assertEqual((found.isStreamed, found.isParallel, found.user), (True, False, "ada"))
        self.assertEqual(found.sampling, Sampling(100, 0.5, 1.0, -1.0, 1.0, None, "high", "low"))
        self.assertEqual((found.metadata, found.ignored), ({"cwd": "/x"}, ()))
        assert isinstance(found.own, ResponseHead)
        self.assertTrue(found.own.showsReasoning)
        old = request(reasoning={"generate_summary": "auto"}).own
        assert isinstance(old, ResponseHead)
        self.assertTrue(old.showsReasoning)

    def test_repeatedFields(self) -> None:
        """
        The response says what it was asked, with defaults where nothing was.
        """
        self.assertEqual(
            repeated(),
            {
                "instructions": None,
                "metadata": {},
                "model": "m",
                "parallel_tool_calls": True,
                "tool_choice": "auto",
                "tools": [],
                "temperature": 1.0,
                "top_p": 1.0,
                "presence_penalty": 0,
                "frequency_penalty": 0,
                "top_logprobs": 0,
                "truncation": "disabled",
                "text": {"format": {"type": "text"}},
                "reasoning": {"effort": None, "summary": None},
                "previous_response_id": None,
                "max_output_tokens": None,
                "max_tool_calls": None,
                "store": False,
                "background": False,
                "service_tier": "default",
                "safety_identifier": None,
                "prompt_cache_key": None,
            },
        )
        told = {
            "instructions": "Be brief.",
            "metadata": {"a": "b"},
            "parallel_tool_calls": False,
            "tool_choice": "none",
            "temperature": 0.0,
            "top_p": 0.0,
            "presence_penalty": 1.5,
            "frequency_penalty": -1.5,
            "truncation": "auto",
            "text": {"format": {"type": "json_object"}, "verbosity": "low"},
            "reasoning": {"effort": "low", "summary": "auto"},
            "max_output_tokens": 7,
            "max_tool_calls": 3,
            "safety_identifier": "s",
            "prompt_cache_key": "k",
            "user": "ada",
        }
        self.assertEqual(repeated(**told), {**repeated(), **told})
        self.assertEqual(
            repeated(text={"format": SCHEMA})["text"]["format"],
            {**SCHEMA, "strict": False, "description": None},
        )

    def test_formats(self) -> None:
        """
        The shape of the answer stands in C{text}, without a level more.
        """
        for wanted, found in (
            ({"type": "text"}, Format()),
            ({"type": "json_object"}, Format("json")),
            (
                {**SCHEMA, "strict": True, "description": "d"},
                Format("schema", "place", {"type": "object"}, "d", True, "text.format.schema"),
            ),
        ):
            self.assertEqual(request(text={"format": wanted}).format, found)

    def test_ignoredFields(self) -> None:
        """
        What has no effect is named, and unknown members of what is read.
        """
        found = request(
            service_tier="flex",
            truncation="auto",
            prompt_cache_key="k",
            client_metadata={"a": 1},
            top_k=5,
            include=["message.output_text.logprobs"],
            text={"shade": "x"},
            reasoning={"context": "y"},
        )
        self.assertEqual(
            set(found.ignored),
            {
                *("service_tier", "truncation", "prompt_cache_key", "client_metadata", "top_k", "include"),
                *("text.shade", "reasoning.context"),
            },
        )

    def test_strict(self) -> None:
        """
        Then unknown members are refused; not what OpenAI knows, nor tools and
        items that are left out.
        """
        self.assertEqual(self.refused(True, top_k=5), ("unknown_parameter", "top_k"))
        self.assertEqual(self.refused(True, text={"shade": "x"}), ("unknown_parameter", "text.shade"))
        said: Any = [{"role": "user", "content": "x", "odd": 1}]
        self.assertEqual(self.refused(True, input=said), ("unknown_parameter", "input[0].odd"))
        found = request(
            True,
            client_metadata={"a": 1},
            tools=[{"type": "web_search", "x": 1}],
            input=[{"type": "compaction_trigger"}, {"role": "user", "content": "x"}],
        )
        self.assertEqual(found.ignored, ("client_metadata", "tools.web_search", "input.compaction_trigger"))

    def test_refusedFields(self) -> None:
        """
        What cannot be done is an error that names the field.
        """
        for fields, (code, param) in (
            ({"model": None}, ("missing_required_parameter", "model")),
            ({"input": None}, ("missing_required_parameter", "input")),
            ({"input": ""}, ("missing_required_parameter", "input")),
            ({"input": 5}, ("invalid_type", "input")),
            ({"stream": "yes"}, ("invalid_type", "stream")),
            ({"temperature": 3}, ("invalid_value", "temperature")),
            ({"max_output_tokens": 0}, ("invalid_value", "max_output_tokens")),
            ({"top_logprobs": 2}, ("unsupported_parameter", "top_logprobs")),
            ({"prompt": {"id": "p"}}, ("unsupported_parameter", "prompt")),
            ({"background": True}, ("invalid_value", "background")),
            ({"conversation": 5}, ("invalid_type", "conversation")),
            ({"conversation": {"name": "x"}}, ("missing_required_parameter", "conversation.id")),
            (
                {"conversation": "conv_1", "previous_response_id": "resp_1"},
                ("invalid_value", "previous_response_id"),
            ),
            ({"metadata": {"k": "v" * 513}}, ("invalid_value", "metadata")),
            ({"text": {"format": {"type": "xml"}}}, ("invalid_value", "text.format.type")),
            (
                {"text": {"format": {"type": "json_schema"}}},
                ("missing_required_parameter", "text.format.name"),
            ),
            ({"truncation": "often"}, ("invalid_value", "truncation")),
            ({"tool_choice": "some"}, ("invalid_value", "tool_choice")),
        ):
            with self.subTest(fields=fields):
                self.assertEqual(self.refused(**fields), (code, param))

    def test_instructionsAlone(self) -> None:
        """
        They are enough to ask.
        """
        found = request(input=[], instructions="Go.")
        self.assertEqual(found.messages, (Message("system", "Go."),))

    def test_probe(self) -> None:
        """
        An empty input with room for one token asks nothing.
        """
        nothing: tuple[Any, ...] = ([], "")
        for said in nothing:
            found = request(input=said, max_output_tokens=1, instructions="Be brief.")
            self.assertEqual(found.messages, ())

    def test_agentsRequest(self) -> None:
        """
        All that Codex sends is known, and its tools of other kinds are left
        out.
        """
        found = request(
            True,
            instructions="You are an agent.",
            input=[{"type": "message", "role": "user", "content": [{"type": "input_text", "text": "hi"}]}],
            tools=[
                {"type": "function", "name": "shell", "strict": False, "parameters": {"type": "object"}},
                {"type": "custom", "name": "apply_patch", "format": {"type": "grammar"}},
                {"type": "namespace", "name": "x", "description": "", "tools": [{"type": "function"}]},
                {"type": "web_search", "external_web_access": False},
                {"type": "image_generation", "output_format": "png"},
            ],
            tool_choice="auto",
            parallel_tool_calls=True,
            reasoning={"effort": "medium", "summary": "auto"},
            store=False,
            stream=True,
            include=["reasoning.encrypted_content"],
            prompt_cache_key="019a",
            client_metadata={"x-codex-installation-id": "1"},
        )
        self.assertEqual([tool.name for tool in found.tools], ["shell", "apply_patch"])
        kinds = ("namespace", "web_search", "image_generation")
        named = tuple([f"tools.{kind}" for kind in kinds])
        self.assertEqual(found.ignored, ("prompt_cache_key", "client_metadata", *named))

    def test_defaultModel(self) -> None:
        """
        It is asked where none is named.
        """
        found = inquiryFromBody(b'{"input":"hi"}', "t", 5, defaultModel=lambda: "d")
        self.assertEqual(found.model, "d")

    def test_toolsAndChoice(self) -> None:
        """
        Both arrive.
        """
        tool = {"type": "function", "name": "f"}
        found = request(tools=[tool], tool_choice="required")
        self.assertEqual(
            ([each.name for each in found.tools], found.toolChoice), (["f"], ToolChoice("required"))
        )
