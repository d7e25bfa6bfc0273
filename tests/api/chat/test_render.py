"""
Answers of chat completions, as bytes.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st
from openai._streaming import SSEDecoder
from openai.types.chat import ChatCompletion, ChatCompletionChunk

from openai_server.api.chat.render import ChatRenderer, FunctionsRenderer
from openai_server.api.inquiry import Call
from openai_server.api.output import Failed, Finished, Output, Reasoning, Text, ToolCalls, Usage, WorkerTool
from openai_server.api.sse import DONE, keepAliveFrom
from openai_server.errors import APIError
from tests.support import SyncCase

HEAD = b'data: {"id":"chatcmpl-1","object":"chat.completion.chunk","created":5,"model":"m","choices":['
TAIL = b',"logprobs":null,"finish_reason":null}]'


def renderer(**more: Any) -> ChatRenderer:
    """
    A renderer with a fixed identity.
    """
    return ChatRenderer("chatcmpl-1", 5, "m", **more)


def fed(*events: Output, **more: Any) -> bytes:
    """
    What these events add to a stream.
    """
    return renderer(**more).feed(events)


def delta(members: bytes, usage: bytes = b"") -> bytes:
    """
    The exact bytes of a chunk with these members of its delta.
    """
    return HEAD + b'{"index":0,"delta":{' + members + b"}" + TAIL + usage + b"}\n\n"


def datas(stream: bytes, reads: int = 1) -> list[str]:
    """
    What the official client's decoder makes of a stream cut into reads.
    """
    step = max(1, len(stream) // reads)
    pieces: Iterable[bytes] = (stream[at : at + step] for at in range(0, len(stream), step))
    return [event.data for event in SSEDecoder().iter_bytes(iter(pieces))]


class StreamTests(SyncCase):
    """
    The exact bytes of a stream.
    """

    def test_start(self) -> None:
        """
        The role, once, with empty content.
        """
        self.assertEqual(renderer().start(), delta(b'"role":"assistant","content":"","refusal":null'))

    def test_text(self) -> None:
        """
        UTF-8 as it is, JSON's own escapes; a chunk for each piece.
        """
        one, two = delta('"content":"h\u00e9 \\"\\n"'.encode()), delta(b'"content":"b"')
        self.assertEqual(fed(Text(['h\u00e9 "\n'])), one)
        self.assertEqual(fed(Text(['h\u00e9 "\n', "b"]), Text(["b"])), one + two + two)

    def test_reasoning(self) -> None:
        """
        The keys of the setting; none of them is no chunk at all.
        """
        for field, members in (
            ("reasoning_content", b'"reasoning_content":"x"'),
            ("reasoning", b'"reasoning":"x"'),
            ("both", b'"reasoning_content":"x","reasoning":"x"'),
        ):
            self.assertEqual(fed(Reasoning("x"), reasoningField=field), delta(members))
        self.assertEqual(fed(Reasoning("x"), reasoningField="none"), b"")

    def test_workerTools(self) -> None:
        """
        A line of reasoning each, where they are shown.
        """
        tools = (WorkerTool("Bash", False), WorkerTool("Bash", True))
        said = [delta(b'"reasoning_content":"[Bash %b]\\n"' % word) for word in (b"called", b"done")]
        self.assertEqual(fed(*tools, showsTools=True), b"".join(said))
        self.assertEqual(fed(*tools), b"")

    def test_calls(self) -> None:
        """
        Id, type and name once; then the rest with nothing but the index,
        which counts from 0.
        """
        calls = ToolCalls((Call("call_1", "f\u2028", '{"a":1}'), Call("c", "p", "x", "custom")))
        self.assertEqual(
            fed(calls),
            delta(
                b'"tool_calls":[{"index":0,"id":"call_1","type":"function",'
                b'"function":{"name":"f\\u2028","arguments":""}}]'
            )
            + delta(b'"tool_calls":[{"index":0,"function":{"arguments":"{\\"a\\":1}"}}]')
            + delta(b'"tool_calls":[{"index":1,"id":"c","type":"custom","custom":{"name":"p","input":""}}]')
            + delta(b'"tool_calls":[{"index":1,"custom":{"input":"x"}}]'),
        )

    def test_deprecatedCall(self) -> None:
        """
        The deprecated shape has neither id nor index, and a reason of its own.
        """
        old = FunctionsRenderer("chatcmpl-1", 5, "m")
        stream = old.feed([ToolCalls((Call("c", "f", "{}"),)), Finished("tool_calls")])
        shown = delta(b'"function_call":{"name":"f","arguments":""}')
        shown += delta(b'"function_call":{"arguments":"{}"}')
        self.assertTrue(stream.startswith(shown))
        self.assertIn(b'"finish_reason":"function_call"', stream)
        self.assertIn(b'"finish_reason":"stop"', old.feed([Finished("stop")]))

    def test_finish(self) -> None:
        """
        An empty delta and the reason; then the end of the stream.
        """
        self.assertEqual(
            fed(Finished("length", Usage(1, 2))),
            HEAD + b'{"index":0,"delta":{},"logprobs":null,"finish_reason":"length"}]}\n\n' + DONE,
        )

    def test_usage(self) -> None:
        """
        No choice at all; zeros when the worker said nothing.
        """
        for usage in (Usage(), None):
            self.assertEqual(
                fed(Finished("stop", usage), wantsUsage=True),
                HEAD
                + b'{"index":0,"delta":{},"logprobs":null,"finish_reason":"stop"}],"usage":null}\n\n'
                + HEAD
                + b'],"usage":{"prompt_tokens":0,"completion_tokens":0,"total_tokens":0,'
                b'"prompt_tokens_details":{"cached_tokens":0,"cache_write_tokens":0,"audio_tokens":0},'
                b'"completion_tokens_details":{"reasoning_tokens":0,"audio_tokens":0,'
                b'"accepted_prediction_tokens":0,"rejected_prediction_tokens":0}}}\n\n' + DONE,
            )

    def test_usageNull(self) -> None:
        """
        Every other chunk says null when usage was asked for, and does not
        speak of it otherwise.
        """
        events = [Text(["x", "y"]), Reasoning("x"), ToolCalls((Call("c", "f", "x"),))]
        for wantsUsage in (True, False):
            asked = renderer(wantsUsage=wantsUsage)
            chunks = (asked.start() + asked.feed(events) + asked.keepAlive()).split(b"\n\n")[:-1]
            self.assertEqual(len(chunks), 7)
            self.assertEqual({chunk.endswith(b',"usage":null}') for chunk in chunks}, {wantsUsage})

    def test_keepAlive(self) -> None:
        """
        An empty delta; a comment is no event; or nothing.
        """
        self.assertEqual(renderer().keepAlive(), delta(b""))
        self.assertEqual(datas(renderer(keepAlive=keepAliveFrom("comment")).keepAlive()), [])
        self.assertEqual(renderer(keepAlive=b"").keepAlive(), b"")

    def test_error(self) -> None:
        """
        The pure error object, whichever way it comes: no choices, no end.
        """
        error = APIError("worker_error", "no")
        event = (
            b'data: {"error":{"message":"no","type":"server_error","param":null,"code":"worker_error"}}\n\n'
        )
        self.assertEqual(renderer().error(error), event)
        self.assertEqual(fed(Text(["a"]), Failed(error)), delta(b'"content":"a"') + event)


class RoundTripTests(SyncCase):
    """
    Events through the official client's own decoder.
    """

    @settings(deadline=None, max_examples=150)
    @given(
        st.lists(
            st.one_of(
                st.text(min_size=1),
                st.sampled_from(["\u2028\u2029", "\x85", "\r\n\r\n", "data: [DONE]\n\n", "\0\x0b\x1c"]),
            ),
            max_size=6,
        ),
        st.integers(1, 40),
        st.text(max_size=10),
    )
    def test_textsComeOutAsTheyWentIn(self, texts: list[str], reads: int, model: str) -> None:
        """
        (C28) However the bytes are cut, each event is one C{data:} line, and the
        texts and the model's name are exactly what they were.
        """
        made = ChatRenderer("id", 1, model)
        stream = made.start() + made.feed([Text(texts)] if texts else []) + made.feed([Finished("stop")])
        *found, done = datas(stream, reads)
        self.assertEqual(done, "[DONE]")
        read = [ChatCompletionChunk.model_validate(json.loads(data)) for data in found]
        self.assertEqual({chunk.model for chunk in read}, {model})
        self.assertEqual([chunk.choices[0].delta.content for chunk in read[1:-1]], texts)
        self.assertEqual(len(stream.decode().splitlines()), 2 * (len(texts) + 3))


def message(*events: Output, kind: type[ChatRenderer] = ChatRenderer, **more: Any) -> dict[str, Any]:
    """
    The message of a body made of these events.
    """
    last = events[-1:] if isinstance(events[-1], Finished) else (Finished("stop"),)
    made = json.loads(kind("chatcmpl-1", 5, "a/b", **more).body([*events, *last]))
    ChatCompletion.model_validate(made)
    found: dict[str, Any] = made["choices"][0]["message"]
    return found


class BodyTests(SyncCase):
    """
    Whole answers.
    """

    def test_plain(self) -> None:
        """
        The exact bytes of a plain answer: content and refusal are there, no
        calls and no usage are.
        """
        self.assertEqual(
            renderer().body([Text(["h", "\u00e9"]), Finished("stop")]),
            '{"id":"chatcmpl-1","object":"chat.completion","created":5,"model":"m","choices":[{"index":0,'
            '"message":{"role":"assistant","content":"h\u00e9","refusal":null},"logprobs":null,'
            '"finish_reason":"stop"}]}'.encode(),
        )

    def test_nothingSaid(self) -> None:
        """
        Without calls an empty answer is an empty string.
        """
        self.assertEqual(message(Finished("stop"))["content"], "")

    def test_usage(self) -> None:
        """
        All of OpenAI's members.
        """
        body = json.loads(renderer().body([Finished("length", Usage(3, 4, 2, 1))]))
        usage = ChatCompletion.model_validate(body).usage
        assert usage is not None and usage.prompt_tokens_details is not None
        self.assertEqual((usage.prompt_tokens, usage.completion_tokens, usage.total_tokens), (3, 4, 7))
        details = body["usage"]["prompt_tokens_details"]
        self.assertEqual((details["cached_tokens"], details["cache_write_tokens"]), (2, 1))
        self.assertEqual(body["usage"]["completion_tokens_details"]["reasoning_tokens"], 0)

    def test_calls(self) -> None:
        """
        Both kinds; content is null when nothing was said, and stays when
        something was.
        """
        calls = ToolCalls((Call("call_1", "f", '{"a":1}'), Call("call_2", "patch", "text", "custom")))
        found = message(calls, Finished("tool_calls"))
        self.assertIsNone(found["content"])
        self.assertEqual(
            found["tool_calls"],
            [
                {"id": "call_1", "type": "function", "function": {"name": "f", "arguments": '{"a":1}'}},
                {"id": "call_2", "type": "custom", "custom": {"name": "patch", "input": "text"}},
            ],
        )
        self.assertEqual(message(Text(["so"]), calls, Finished("tool_calls"))["content"], "so")

    def test_deprecatedCall(self) -> None:
        """
        One call in the deprecated shape.
        """
        calls = ToolCalls((Call("1", "f", "{}"),))
        found = message(calls, Finished("tool_calls"), kind=FunctionsRenderer)
        self.assertEqual(found["function_call"], {"name": "f", "arguments": "{}"})
        self.assertNotIn("tool_calls", found)
        self.assertNotIn("function_call", message(Text(["a"]), kind=FunctionsRenderer))

    def test_reasoning(self) -> None:
        """
        Under the keys that the setting names, and only when there is some;
        the worker's tools among it where they are shown.
        """
        said = (Reasoning("hmm"), WorkerTool("Bash", True), Reasoning("so"))
        for field, keys in (
            ("reasoning_content", {"reasoning_content"}),
            ("reasoning", {"reasoning"}),
            ("both", {"reasoning_content", "reasoning"}),
            ("none", set()),
        ):
            found = message(*said, reasoningField=field)
            self.assertEqual(found.keys() - {"role", "content", "refusal"}, keys)
            self.assertTrue(all(found[key] == "hmmso" for key in keys))
        self.assertEqual(message(*said, showsTools=True)["reasoning_content"], "hmm[Bash done]\nso")
        self.assertEqual(message(Text(["a"])).keys(), {"role", "content", "refusal"})
