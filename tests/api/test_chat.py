"""
Chat requests: every field of OpenAI's reference has its treatment.
"""

from __future__ import annotations

import json
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from openai_server.api.chat import MAX_IGNORED, MAX_MODEL, MAX_STOP, MAX_STOPS, ChatRequest, parse
from openai_server.api.tools import ToolChoice
from openai_server.errors import APIError
from tests.support import SyncCase

HELLO = [{"role": "user", "content": "hi"}]


def request(**fields: Any) -> ChatRequest:
    """
    What a request with these fields is read as.
    """
    return parse(json.dumps({"model": "m", "messages": HELLO, **fields}).encode())


FUNCTION = {"name": "f", "parameters": {"type": "object"}}
TOOL = {"type": "function", "function": FUNCTION}


class ParseTests(SyncCase):
    """
    L{parse}.
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
        self.assertEqual((found.stream, found.includeUsage, found.parallel_tool_calls), (False, False, True))
        self.assertEqual((found.stop, found.tools, found.ignored, found.metadata), ((), (), (), {}))
        self.assertEqual(found.tool_choice, ToolChoice("auto"))

    def test_nullMeansAbsent(self) -> None:
        """
        Every field may be null, and then says nothing.
        """
        ours = {"model", "messages", "includeUsage", "isLegacy", "ignored"}
        names = set(ChatRequest.__struct_fields__) - ours
        names |= {
            *("max_completion_tokens", "n", "logprobs", "top_logprobs", "stream_options", "functions"),
            *("function_call", "modalities", "logit_bias", "audio", "store", "reasoning", "whatever"),
        }
        self.assertEqual(request(**dict.fromkeys(names)), request())

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
            prompt_cache_key="k",
            session_id="x",
            chat_id="y",
            modalities=["text"],
            n=1,
            logprobs=False,
            top_logprobs=0,
            parallel_tool_calls=False,
            tools=[],
        )
        self.assertEqual((found.stream, found.includeUsage, found.parallel_tool_calls), (True, True, False))
        self.assertEqual((found.temperature, found.top_p), (1.0, 0.5))
        self.assertEqual((found.frequency_penalty, found.presence_penalty), (-2.0, 2.0))
        self.assertEqual((found.reasoning_effort, found.verbosity), ("ultra", "low"))
        self.assertEqual((found.user, found.metadata), ("u", {"session_id": "s"}))
        self.assertEqual((found.prompt_cache_key, found.session_id, found.chat_id), ("k", "x", "y"))
        self.assertEqual(found.ignored, ())

    def test_streamOptionsWithoutStream(self) -> None:
        """
        Tolerated: many clients send them always.
        """
        self.assertFalse(request(stream_options={"include_usage": True}).stream)

    def test_tokenLimits(self) -> None:
        """
        Either name works, the new one wins.
        """
        self.assertEqual(request(max_tokens=5).max_tokens, 5)
        self.assertEqual(request(max_completion_tokens=6).max_tokens, 6)
        self.assertEqual(request(max_tokens=5, max_completion_tokens=6).max_tokens, 6)

    def test_reasoningObject(self) -> None:
        """
        OpenRouter's spelling is an alias; OpenAI's own wins.
        """
        self.assertEqual(request(reasoning={"effort": "low"}).reasoning_effort, "low")
        self.assertEqual(request(reasoning={"max_tokens": 3}).reasoning_effort, None)
        both = request(reasoning={"effort": "low"}, reasoning_effort="high")
        self.assertEqual(both.reasoning_effort, "high")

    def test_vendorsFieldsOfAnotherType(self) -> None:
        """
        Other servers' fields are unknown here, whatever they hold: ignored,
        and named like any other.
        """
        odd = {"reasoning": "high", "session_id": 7, "chat_id": ["c"]}
        found = request(**odd, whatever=1)
        self.assertEqual((found.reasoning_effort, found.session_id, found.chat_id), (None, None, None))
        self.assertEqual(found.ignored, ("reasoning", "session_id", "chat_id", "whatever"))
        self.assertEqual(request(reasoning={"effort": 3}, chat_id="c").ignored, ("reasoning",))
        self.assertEqual(request(reasoning=False).ignored, ())

    def test_stop(self) -> None:
        """
        One or several; empty ones say nothing; more than four are taken.
        """
        for given_, stop in (
            ("x", ("x",)),
            ("", ()),
            ([], ()),
            (["a", "", "b"], ("a", "b")),
            (list("abcdef"), tuple("abcdef")),
        ):
            self.assertEqual(request(stop=given_).stop, stop)

    def test_responseFormat(self) -> None:
        """
        The three types.
        """
        for name in ("text", "json_object"):
            wanted = request(response_format={"type": name}).response_format
            assert wanted is not None
            self.assertEqual(wanted.type, name)
        schema = {"name": "n", "schema": {"type": "object"}, "strict": True}
        wanted = request(response_format={"type": "json_schema", "json_schema": schema}).response_format
        assert wanted is not None and wanted.json_schema is not None
        self.assertEqual((wanted.json_schema.name, wanted.json_schema.schema), ("n", {"type": "object"}))

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
            ({"stop": ["a"] * (MAX_STOPS + 1)}, ("invalid_value", "stop")),
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
            self.assertEqual(parse(body, defaultModel="d").model, "d")
            error = self.assertRaises(APIError, parse, body)
            self.assertEqual((error.name, error.param), ("missing_required_parameter", "model"))


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
        self.assertEqual(found.seed, 7)

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
        self.assertEqual(len(request(**{f"f{n}": 1 for n in range(99)}).ignored), MAX_IGNORED)

    def test_strict(self) -> None:
        """
        What OpenAI does not know is refused; what it knows still passes.
        """
        body = {"model": "m", "messages": HELLO, "seed": 1, "tools": [], "user": "u"}
        self.assertEqual(parse(json.dumps(body).encode(), strict=True).ignored, ("seed",))
        for name in ("top_k", "session_id", "reasoning"):
            error = self.assertRaises(APIError, parse, json.dumps({**body, name: 1}).encode(), strict=True)
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
        self.assertEqual(([tool.name for tool in found.tools], found.tool_choice.name), (["f"], "f"))
        self.assertFalse(found.isLegacy)

    def test_functions(self) -> None:
        """
        The deprecated pair becomes tools; one call at a time is all that its
        shape can carry.
        """
        found = request(functions=[FUNCTION], function_call={"name": "f"})
        self.assertEqual(([tool.name for tool in found.tools], found.tool_choice.name), (["f"], "f"))
        self.assertEqual((found.isLegacy, found.parallel_tool_calls), (True, False))

    def test_toolsWinOverFunctions(self) -> None:
        """
        A client that sends both means the newer ones; no functions are none.
        """
        self.assertFalse(request(tools=[TOOL], functions=[FUNCTION]).isLegacy)
        self.assertFalse(request(functions=[]).isLegacy)
        self.assertTrue(request(tools=[], functions=[FUNCTION]).isLegacy)


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
            self.assertIsInstance(parse(body), ChatRequest)
        except APIError as error:
            self.assertEqual(error.kind.status, 400)

    @settings(deadline=None, max_examples=100)
    @given(st.binary(max_size=60))
    def test_anyBytes(self, body: bytes) -> None:
        """
        Bytes that mean nothing are a 400.
        """
        error = self.assertRaises(APIError, parse, body)
        self.assertEqual(error.kind.status, 400)
