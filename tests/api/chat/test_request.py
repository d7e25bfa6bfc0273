"""
Chat requests: every field of OpenAI's reference has its treatment.
"""

from __future__ import annotations

import json
from typing import Any

import msgspec
from hypothesis import given, settings
from hypothesis import strategies as st

from openai_server.api.chat import request as module
from openai_server.api.chat.request import inquiryFromBody
from openai_server.api.chat.structs import ChatBody
from openai_server.api.inquiry import Format, Inquiry, Sampling, ToolChoice
from openai_server.api.rules import MAX_MODEL, MAX_STOP
from openai_server.api.unread import MAX_NAMES
from openai_server.errors import APIError
from tests.support import SyncCase

HELLO = [{"role": "user", "content": "hi"}]


def request(**fields: Any) -> Inquiry:
    """
    What a request with these fields is read as.
    """
    return inquiryFromBody(json.dumps({"model": "m", "messages": HELLO, **fields}).encode())


FUNCTION = {"name": "f", "parameters": {"type": "object"}}
TOOL = {"type": "function", "function": FUNCTION}


class ParseTests(SyncCase):
    """
    L{inquiryFromBody}.
    """

    def refused(self, **fields: Any) -> tuple[str, str | None]:
        """
        The code and param of the error that fields bring.
        """
        error = self.assertRaises(APIError, request, **fields)
        self.assertEqual(error.kind.status, 400)
        return error.name, error.param

    def test_defaults(self) -> None:
        """
        The least that a request can say. In particular it does not stream.
        """
        found = request()
        self.assertEqual((found.model, found.messages[0].text), ("m", "hi"))
        self.assertEqual((found.isStreamed, found.wantsUsage, found.isParallel), (False, False, True))
        self.assertEqual((found.stop, found.tools, found.ignored, found.metadata), ((), (), (), {}))
        self.assertEqual(found.toolChoice, ToolChoice("auto"))

    def test_nullMeansAbsent(self) -> None:
        """
        Every field may be null, and then says nothing.
        """
        names = set(ChatBody.__struct_fields__) - {"model", "messages"}
        names |= {
            *("logit_bias", "audio", "store", "whatever"),
        }
        self.assertEqual(request(**dict.fromkeys(names)), request())
        self.assertEqual(request(**dict.fromkeys(ChatBody.__struct_fields__[2:])), request())

    def test_honouredFields(self) -> None:
        """
        What is kept for those who need it, spelled as on the wire.
        """
        found = request(
            stream=True,
            stream_options={"include_usage": True, "include_obfuscation": True},
            temperature=1,
            top_p=0.5,
            frequency_penalty=-2,
            presence_penalty=2.0,
            reasoning_effort="ultra",
            verbosity="low",
            user="u",
            metadata={"session_id": "s"},
            modalities=["text"],
            n=1,
            logprobs=False,
            top_logprobs=0,
            parallel_tool_calls=False,
            tools=[],
        )
        self.assertEqual((found.isStreamed, found.wantsUsage, found.isParallel), (True, True, False))
        wanted = Sampling(None, 1.0, 0.5, -2.0, 2.0, None, "ultra", "low")
        self.assertEqual(found.sampling, wanted)
        self.assertEqual((found.user, found.metadata), ("u", {"session_id": "s"}))
        self.assertEqual(found.ignored, ())

    def test_streamOptionsWithoutStream(self) -> None:
        """
        Tolerated: many clients send them always.
        """
        self.assertFalse(request(stream_options={"include_usage": True}).isStreamed)

    def test_tokenLimits(self) -> None:
        """
        Either name works, the new one wins.
        """
        self.assertEqual(request(max_tokens=5).sampling.maxTokens, 5)
        self.assertEqual(request(max_completion_tokens=6).sampling.maxTokens, 6)
        self.assertEqual(request(max_tokens=5, max_completion_tokens=6).sampling.maxTokens, 6)

    def test_wholeNumbersAsFloats(self) -> None:
        """
        (C26) Some clients write every number so.
        """
        found = request(max_tokens=100.0, n=1.0, seed=-7.0, top_logprobs=0.0, temperature=1.0)
        self.assertEqual((found.sampling.maxTokens, found.sampling.seed), (100, -7))
        self.assertEqual({type(found.sampling.maxTokens), type(found.sampling.seed)}, {int})
        self.assertEqual(found.ignored, ("seed",))

    def test_byteOrderMark(self) -> None:
        """
        Is skipped.
        """
        body = json.dumps({"model": "m", "messages": HELLO}).encode()
        self.assertEqual(inquiryFromBody(b"\xef\xbb\xbf" + body), request())

    def test_reasoningObject(self) -> None:
        """
        OpenRouter's spelling is an alias; OpenAI's own wins.
        """
        self.assertEqual(request(reasoning={"effort": "low"}).sampling.reasoningEffort, "low")
        self.assertEqual(request(reasoning={"max_tokens": 3}).sampling.reasoningEffort, None)
        both = request(reasoning={"effort": "low"}, reasoning_effort="high")
        self.assertEqual(both.sampling.reasoningEffort, "high")

    def test_vendorsFieldsOfAnotherType(self) -> None:
        """
        Other servers' fields are unknown here, whatever they hold: ignored,
        and named like any other.
        """
        odd = {"reasoning": "high", "session_id": 7, "chat_id": ["c"]}
        found = request(**odd, whatever=1)
        self.assertIsNone(found.sampling.reasoningEffort)
        self.assertEqual(found.ignored, ("reasoning", "session_id", "chat_id", "whatever"))
        self.assertEqual(request(reasoning={"effort": 3, "x": 1}, user="c").ignored, ("reasoning",))
        self.assertEqual(request(reasoning=False).ignored, ())

    def test_stop(self) -> None:
        """
        One or several; empty ones say nothing.
        """
        for given_, stop in (
            ("x", ("x",)),
            ("", ()),
            ([], ()),
            (["a", "", "b"], ("a", "b")),
            (list("abcd"), tuple("abcd")),
        ):
            self.assertEqual(request(stop=given_).stop, stop)

    def test_responseFormat(self) -> None:
        """
        The three types.
        """
        schema = {"name": "n", "schema": {"type": "object"}, "strict": True}
        for format, kind in (({"type": "text"}, "text"), ({"type": "json_object"}, "json")):
            for stray in ({}, {"json_schema": schema}):
                found = request(response_format={**format, **stray})
                self.assertEqual((found.format, found.wantsJSON), (Format(kind), kind == "json"))
        found = request(response_format={"type": "json_schema", "json_schema": schema})
        where = "response_format.json_schema.schema"
        self.assertEqual(found.format, Format("schema", "n", {"type": "object"}, None, True, where))
        self.assertTrue(found.wantsJSON)

    def test_schemaOfAJSONObject(self) -> None:
        """
        The spelling of llama.cpp and Together; an empty one asks for nothing.
        """
        found = request(response_format={"type": "json_object", "schema": {"type": "object"}})
        self.assertEqual(
            found.format, Format("schema", "answer", {"type": "object"}, param="response_format.schema")
        )
        for empty in ({}, None):
            found = request(response_format={"type": "json_object", "schema": empty})
            self.assertEqual(found.format, Format("json"))

    def test_refused(self) -> None:
        """
        (C26) Wrong types, values out of range, and what cannot be had.
        """
        for fields, said in (
            ({"model": 3}, ("invalid_type", "model")),
            ({"model": "x" * (MAX_MODEL + 1)}, ("invalid_value", "model")),
            ({"stream": "yes"}, ("invalid_type", "stream")),
            ({"stream_options": []}, ("invalid_type", "stream_options")),
            ({"temperature": 2.1}, ("invalid_value", "temperature")),
            ({"temperature": -1}, ("invalid_value", "temperature")),
            ({"temperature": "1"}, ("invalid_type", "temperature")),
            ({"temperature": True}, ("invalid_type", "temperature")),
            ({"top_p": 1.1}, ("invalid_value", "top_p")),
            ({"frequency_penalty": 2.5}, ("invalid_value", "frequency_penalty")),
            ({"presence_penalty": -2.5}, ("invalid_value", "presence_penalty")),
            ({"max_tokens": -1}, ("invalid_value", "max_tokens")),
            ({"max_completion_tokens": 0}, ("invalid_value", "max_completion_tokens")),
            ({"max_tokens": 10**30}, ("invalid_value", "max_tokens")),
            ({"seed": 10**30}, ("invalid_value", "seed")),
            ({"n": 2}, ("unsupported_value", "n")),
            ({"n": 0}, ("invalid_value", "n")),
            ({"n": 10**30}, ("unsupported_value", "n")),
            ({"logprobs": True}, ("unsupported_parameter", "logprobs")),
            ({"top_logprobs": 1}, ("unsupported_parameter", "top_logprobs")),
            ({"modalities": ["text", "audio"]}, ("unsupported_value", "modalities")),
            ({"modalities": ["smell"]}, ("invalid_value", "modalities[0]")),
            ({"response_format": {"type": "xml"}}, ("invalid_value", "response_format.type")),
            (
                {"response_format": {"type": "json_schema"}},
                ("missing_required_parameter", "response_format.json_schema"),
            ),
            (
                {"response_format": {"type": "json_schema", "json_schema": {}}},
                ("missing_required_parameter", "response_format.json_schema.name"),
            ),
            ({"stop": 3}, ("invalid_type", "stop")),
            ({"stop": ["a", 3]}, ("invalid_type", "stop[1]")),
            ({"stop": list("abcde")}, ("invalid_value", "stop")),
            ({"max_tokens": 1.5}, ("invalid_type", "max_tokens")),
            ({"max_tokens": 0.0}, ("invalid_value", "max_tokens")),
            ({"max_tokens": 1e30}, ("invalid_value", "max_tokens")),
            ({"n": 2.0}, ("unsupported_value", "n")),
            (
                {"response_format": {"type": "json_object", "schema": 3}},
                ("invalid_type", "response_format.schema"),
            ),
            ({"stop": "a" * (MAX_STOP + 1)}, ("invalid_value", "stop")),
            ({"metadata": {"a": 1}}, ("invalid_type", "metadata")),
            ({"metadata": {str(n): "x" for n in range(17)}}, ("invalid_value", "metadata")),
            ({"metadata": {"k" * 65: "x"}}, ("invalid_value", "metadata")),
            ({"metadata": {"k": "x" * 513}}, ("invalid_value", "metadata")),
            ({"messages": []}, ("invalid_value", "messages")),
            ({"messages": None}, ("missing_required_parameter", "messages")),
            ({"tools": "f"}, ("invalid_type", "tools")),
            ({"reasoning_effort": "x" * 513}, ("invalid_value", "reasoning_effort")),
        ):
            self.assertEqual(self.refused(**fields), said, fields)

    def test_paramOfAMessage(self) -> None:
        """
        The path of what a message has wrong begins with its place.
        """
        parts = [{"type": "text", "text": "x"}, {"type": "hologram"}]
        said = self.refused(messages=[*HELLO, *HELLO, {"role": "user", "content": parts}])
        self.assertEqual(said, ("invalid_value", "messages[2].content[1].type"))

    def test_model(self) -> None:
        """
        Missing, null and empty are the same; a default stands in.
        """
        for model in ({}, {"model": None}, {"model": ""}):
            body = json.dumps({"messages": HELLO, **model}).encode()
            self.assertEqual(inquiryFromBody(body, defaultModel=lambda: "d").model, "d")
            error = self.assertRaises(APIError, inquiryFromBody, body)
            self.assertEqual((error.name, error.param), ("missing_required_parameter", "model"))

    def test_modelOfThePath(self) -> None:
        """
        It counts, whatever the body says, within the same bounds.
        """
        for model in ({}, {"model": None}, {"model": "other"}):
            body = json.dumps({"messages": HELLO, **model}).encode()
            self.assertEqual(inquiryFromBody(body, model="p", defaultModel=lambda: "d").model, "p")
        error = self.assertRaises(APIError, inquiryFromBody, body, model="p" * 257)
        self.assertEqual((error.name, error.param), ("invalid_value", "model"))


class IgnoredTests(SyncCase):
    """
    Fields without effect.
    """

    def test_named(self) -> None:
        """
        OpenAI's own and unknown ones are named, in the request's order.
        """
        found = request(logit_bias={"5": 1}, top_k=4, seed=7, store=True)
        self.assertEqual(found.ignored, ("logit_bias", "top_k", "seed", "store"))
        self.assertEqual(found.sampling.seed, 7)

    def test_emptyOnesAskForNothing(self) -> None:
        """
        So nothing was ignored.
        """
        self.assertEqual(request(logit_bias={}, store=False, audio=None, transforms=[]).ignored, ())

    def test_fitForAHeader(self) -> None:
        """
        Names are the client's: cleaned, bounded, each once.
        """
        fields = {"x\r\nSet-Cookie: a=b": 1, "\u00e9": 1, "y" * 100: 1, "\u00e8": 1}
        ignored = request(**fields).ignored
        self.assertEqual(ignored, ("x__Set-Cookie__a_b", "_", "y" * 64))
        self.assertEqual(len(request(**{f"f{n}": 1 for n in range(99)}).ignored), MAX_NAMES)

    def test_nestedOnes(self) -> None:
        """
        Are named by their path, in the request's order; what the client says
        in a schema or in arguments is its own, and what SDKs always send has
        no name.
        """
        schema = {"type": "object", "x": 1}
        called = {"name": "f", "arguments": {"x": 1}, "y": 1}
        call = {"id": "c", "index": 1, "type": "function", "function": called}
        parts = [
            {"type": "text", "text": "a", "cache_control": {"type": "ephemeral"}},
            {"type": "image_url", "image_url": {"url": "http://x", "detail": "low", "x\n": 1}},
        ]
        found = request(
            top_k=1,
            messages=[
                {"role": "user", "content": parts, "id": 7},
                {"role": "assistant", "content": "b", "tool_calls": [call], "annotations": [], "audio": None},
                {"role": "assistant", "content": [{"type": "thinking", "thinking": "hm"}], "reasoning": "hm"},
            ],
            tools=[{**TOOL, "function": {"name": "f", "strict": True, "parameters": schema, "x": 1}}],
            tool_choice={"type": "function", "function": {"name": "f", "x": 1}, "y": False},
            reasoning={"effort": "low", "exclude": True},
            stream_options={"include_usage": True, "include_obfuscation": False, "x": {}},
            metadata={"x": "1"},
        )
        self.assertEqual(
            found.ignored,
            (
                "messages[0].content[0].cache_control",
                "messages[0].content[1].image_url.x_",
                "messages[0].id",
                "messages[1].tool_calls[0].function.y",
                "messages[2].content[0].thinking",
                "top_k",
                "tools[0].function.x",
                "tool_choice.function.x",
                "reasoning.exclude",
            ),
        )
        self.assertEqual(found.tools[0].parameters, schema)
        self.assertEqual(found.sampling.reasoningEffort, "low")

    def test_nestedOnesOfAStrictServer(self) -> None:
        """
        Are refused like any other.
        """
        more = [{"role": "user", "content": "x", "y": 1}]
        body = json.dumps({"model": "m", "messages": more, "seed": 1}).encode()
        error = self.assertRaises(APIError, inquiryFromBody, body, strict=True)
        self.assertEqual((error.name, error.param), ("unknown_parameter", "messages[0].y"))

    def test_strict(self) -> None:
        """
        What OpenAI does not know is refused; what it knows still passes.
        """
        body = {"model": "m", "messages": HELLO, "seed": 1, "tools": [], "user": "u"}
        self.assertEqual(inquiryFromBody(json.dumps(body).encode(), strict=True).ignored, ("seed",))
        for name in ("top_k", "session_id", "reasoning"):
            more = json.dumps({**body, name: 1}).encode()
            error = self.assertRaises(APIError, inquiryFromBody, more, strict=True)
            self.assertEqual((error.name, error.param), ("unknown_parameter", name))


class ToolFieldsTests(SyncCase):
    """
    Both shapes of tools in a request.
    """

    def test_tools(self) -> None:
        """
        With a choice among them.
        """
        found = request(tools=[TOOL], tool_choice={"type": "function", "function": {"name": "f"}})
        self.assertEqual(([tool.name for tool in found.tools], found.toolChoice.name), (["f"], "f"))
        self.assertTrue(found.showsCallIds)

    def test_functions(self) -> None:
        """
        The deprecated pair becomes tools; one call at a time is all that its
        shape can carry.
        """
        found = request(functions=[FUNCTION], function_call={"name": "f"})
        self.assertEqual(([tool.name for tool in found.tools], found.toolChoice.name), (["f"], "f"))
        self.assertEqual((found.showsCallIds, found.isParallel), (False, False))
        self.assertEqual(found.toolsParam, "functions")

    def test_toolsWinOverFunctions(self) -> None:
        """
        A client that sends both means the newer ones; no functions are none.
        """
        self.assertTrue(request(tools=[TOOL], functions=[FUNCTION]).showsCallIds)
        self.assertTrue(request(functions=[]).showsCallIds)
        self.assertFalse(request(tools=[], functions=[FUNCTION]).showsCallIds)


class FastTests(SyncCase):
    """
    Bodies that are decoded straight to their struct.
    """

    def read(self, body: bytes, **how: Any) -> tuple[Inquiry, bool]:
        """
        What a body is read as, and whether it was in one pass.
        """
        slow: list[bytes] = []
        objectFromBody = module.objectFromBody

        def noted(body: bytes) -> dict[str, Any]:
            slow.append(body)
            return objectFromBody(body)

        patch = self.patch(module, "objectFromBody", noted)
        try:
            return inquiryFromBody(body, **how), not slow
        finally:
            patch.restore()

    def test_bothWaysReadTheSame(self) -> None:
        """
        An ignored field changes nothing but that it is named.
        """
        tool = {"type": "function", "function": FUNCTION}
        call = {"id": "c", "type": "function", "function": {"name": "f", "arguments": {"b": 1, "a": 2}}}
        image = {"type": "image_url", "image_url": {"url": "http://x", "detail": "low"}}
        fields = {
            "model": "m",
            "stream": True,
            "user": "h\u00e9",
            "tools": [tool] * 1,
            "reasoning": {"effort": "low"},
            "messages": [
                {"role": "developer", "content": "d"},
                {"role": "user", "content": [{"type": "text", "text": "x"}, image], "name": "n"},
                {"role": "assistant", "content": None, "tool_calls": [call], "reasoning_content": "r"},
                {"role": "tool", "tool_call_id": "c", "content": "1"},
                *([{"role": "user", "content": "y"}] * 200),
            ],
        }
        fast, wasFast = self.read(json.dumps(fields).encode())
        slow, wasSlow = self.read(json.dumps({**fields, "top_k": 1}).encode())
        self.assertEqual((wasFast, wasSlow), (True, False))
        self.assertEqual(msgspec.structs.replace(slow, ignored=()), fast)
        self.assertEqual(slow.ignored, ("top_k",))

    def test_whatNeedsMoreThanOnePass(self) -> None:
        """
        Whatever is ignored or odd: lone surrogates are replaced, a strict
        server knows no vendors' fields, bytes that are not UTF-8 are refused
        wherever they stand.
        """
        hello = json.dumps({"model": "m", "messages": HELLO}).encode()
        self.assertEqual(self.read(hello), (request(), True))
        lone = hello.replace(b'"hi"', b'"\\ud800"')
        found, isFast = self.read(lone)
        self.assertEqual((found.messages[0].text, isFast), ("\ufffd", False))
        for more in (b'"seed":1,', b'"session_id":"s",', b'"reasoning":{"x":1},'):
            found, isFast = self.read(hello.replace(b"{", b"{" + more, 1))
            self.assertEqual((len(found.ignored), isFast), (1, False))
        vendors = hello.replace(b"{", b'{"reasoning":{},', 1)
        self.assertTrue(self.read(vendors)[1])
        self.assertRaises(APIError, self.read, vendors, strict=True)
        broken = hello.replace(b'"role"', b'"other":"\xff","role"')
        error = self.assertRaises(APIError, self.read, broken)
        self.assertEqual(error.name, "invalid_json")

    def test_depth(self) -> None:
        """
        (C24) What a client can nest at will is bounded on this way too.
        """
        deep: dict[str, Any] = {}
        for _ in range(120):
            deep = {"items": deep}
        function = {"name": "f", "parameters": deep}
        call = {"id": "c", "function": {"name": "f", "arguments": deep}}
        schema = {"type": "json_schema", "json_schema": {"name": "n", "schema": deep}}
        for fields in (
            {"tools": [{"type": "function", "function": function}]},
            {"tools": [{"type": "custom", "custom": {"name": "f", "format": deep}}]},
            {"functions": [function]},
            {"response_format": schema},
            {"response_format": {"type": "json_object", "schema": deep}},
            {"messages": [{"role": "assistant", "tool_calls": [call]}]},
        ):
            error = self.assertRaises(APIError, request, **fields)
            self.assertEqual(error.name, "bad_request", fields)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=12,
)
FIELDS = st.sampled_from(
    [
        *("model", "messages", "stream", "stream_options", "max_tokens", "temperature", "stop", "n"),
        *("logprobs", "response_format", "tools", "tool_choice", "functions", "function_call"),
        *("metadata", "modalities", "user", "reasoning", "seed", "logit_bias"),
    ]
)


class AnythingTests(SyncCase):
    """
    (C26) Whatever a client sends.
    """

    @settings(deadline=None, max_examples=150)
    @given(st.dictionaries(FIELDS, JSON, max_size=6))
    def test_readOrRefusedWith400(self, fields: dict[str, Any]) -> None:
        """
        No value of any field makes anything but a request or a 400.
        """
        body = json.dumps({"model": "m", "messages": HELLO, **fields}).encode()
        try:
            self.assertIsInstance(inquiryFromBody(body), Inquiry)
        except APIError as error:
            self.assertEqual(error.kind.status, 400)

    @settings(deadline=None, max_examples=100)
    @given(st.binary(max_size=60))
    def test_anyBytes(self, body: bytes) -> None:
        """
        Bytes that mean nothing are a 400.
        """
        error = self.assertRaises(APIError, inquiryFromBody, body)
        self.assertEqual(error.kind.status, 400)
