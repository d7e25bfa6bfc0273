"""
Events of a stream.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st
from openai._streaming import SSEDecoder
from openai.types.chat import ChatCompletionChunk

from openai_server.api.output import Usage
from openai_server.api.sse import DONE, KEEP_ALIVE_COMMENT, ChunkTemplates, errorEvent
from openai_server.errors import APIError
from tests.support import SyncCase

HEAD = b'data: {"id":"chatcmpl-1","object":"chat.completion.chunk","created":5,"model":"m","choices":['
TAIL = b',"logprobs":null,"finish_reason":null}]'


def templates(**more: Any) -> ChunkTemplates:
    """
    Templates with fixed identity.
    """
    return ChunkTemplates("chatcmpl-1", 5, "m", **more)


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


class BytesTests(SyncCase):
    """
    The exact bytes of each event.
    """

    def test_role(self) -> None:
        """
        The role, once, with empty content.
        """
        expected = delta(b'"role":"assistant","content":"","refusal":null')
        self.assertEqual(templates().role(), expected)

    def test_text(self) -> None:
        """
        UTF-8 as it is, JSON's own escapes.
        """
        self.assertEqual(templates().text('h\u00e9 "\n'), delta('"content":"h\u00e9 \\"\\n"'.encode()))

    def test_reasoning(self) -> None:
        """
        The keys of the setting; none of them is no event at all.
        """
        for field, members in (
            ("reasoning_content", b'"reasoning_content":"x"'),
            ("reasoning", b'"reasoning":"x"'),
            ("both", b'"reasoning_content":"x","reasoning":"x"'),
        ):
            self.assertEqual(templates(reasoningField=field).reasoning("x"), delta(members))
        self.assertEqual(templates(reasoningField="none").reasoning("x"), b"")

    def test_call(self) -> None:
        """
        Id, type and name once; then pieces with nothing but the index.
        """
        self.assertEqual(
            templates().callStart(1, "call_1", "f\u2028"),
            delta(
                b'"tool_calls":[{"index":1,"id":"call_1","type":"function",'
                b'"function":{"name":"f\\u2028","arguments":""}}]'
            ),
        )
        self.assertEqual(
            templates().callArguments(1, '{"a'),
            delta(b'"tool_calls":[{"index":1,"function":{"arguments":"{\\"a"}}]'),
        )

    def test_customCall(self) -> None:
        """
        Its own shape.
        """
        self.assertEqual(
            templates().callStart(0, "c", "p", isCustom=True),
            delta(b'"tool_calls":[{"index":0,"id":"c","type":"custom","custom":{"name":"p","input":""}}]'),
        )
        self.assertEqual(
            templates().callArguments(0, "x", isCustom=True),
            delta(b'"tool_calls":[{"index":0,"custom":{"input":"x"}}]'),
        )

    def test_legacyCall(self) -> None:
        """
        The deprecated shape has neither id nor index.
        """
        old = templates(legacy=True)
        self.assertEqual(old.callStart(0, "c", "f"), delta(b'"function_call":{"name":"f","arguments":""}'))
        self.assertEqual(old.callArguments(0, "{}"), delta(b'"function_call":{"arguments":"{}"}'))

    def test_finish(self) -> None:
        """
        An empty delta and the reason.
        """
        self.assertEqual(
            templates().finish("length"),
            HEAD + b'{"index":0,"delta":{},"logprobs":null,"finish_reason":"length"}]}\n\n',
        )

    def test_usage(self) -> None:
        """
        No choice at all; zeros when the worker said nothing.
        """
        for usage in (Usage(), None):
            self.assertEqual(
                templates(includeUsage=True).usage(usage),
                HEAD + b'],"usage":{"prompt_tokens":0,"completion_tokens":0,"total_tokens":0,'
                b'"prompt_tokens_details":{"cached_tokens":0,"cache_write_tokens":0,"audio_tokens":0},'
                b'"completion_tokens_details":{"reasoning_tokens":0,"audio_tokens":0,'
                b'"accepted_prediction_tokens":0,"rejected_prediction_tokens":0}}}\n\n',
            )

    def test_usageNull(self) -> None:
        """
        Every other chunk says null when usage was asked for, and does not
        speak of it otherwise.
        """
        asked, not_ = templates(includeUsage=True), templates()
        for name, args in (
            ("role", ()),
            ("text", ("x",)),
            ("reasoning", ("x",)),
            ("callStart", (0, "c", "f")),
            ("callArguments", (0, "x")),
            ("finish", ("stop",)),
            ("keepAlive", ()),
        ):
            self.assertIn(b',"usage":null}\n\n', getattr(asked, name)(*args))
            self.assertNotIn(b"usage", getattr(not_, name)(*args))

    def test_keepAlive(self) -> None:
        """
        An empty delta; the comment is no event.
        """
        self.assertEqual(templates().keepAlive(), delta(b""))
        self.assertEqual(datas(KEEP_ALIVE_COMMENT), [])

    def test_error(self) -> None:
        """
        The pure error object: no choices, nothing else.
        """
        event = errorEvent(APIError("worker_error", "a\u2028\u00e9"))
        self.assertEqual(
            event,
            'data: {"error":{"message":"a\\u2028\u00e9","type":"server_error","param":null,'
            '"code":"worker_error"}}\n\n'.encode(),
        )
        plain = errorEvent(APIError("worker_error", "plain"))
        self.assertTrue(plain.endswith(b'"code":"worker_error"}}\n\n'))


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
        chunks = ChunkTemplates("id", 1, model)
        stream = b"".join([chunks.role(), *map(chunks.text, texts), chunks.finish("stop"), DONE])
        *found, done = datas(stream, reads)
        self.assertEqual(done, "[DONE]")
        read = [ChatCompletionChunk.model_validate(json.loads(data)) for data in found]
        self.assertEqual({chunk.model for chunk in read}, {model})
        self.assertEqual([chunk.choices[0].delta.content for chunk in read[1:-1]], texts)
        self.assertEqual(len(stream.decode().splitlines()), 2 * (len(texts) + 3))
