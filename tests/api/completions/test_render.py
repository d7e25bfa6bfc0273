"""
Tests for L{openai_server.api.completions.render}.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from openai.types import Completion

from openai_server.api.completions.render import CompletionRenderer
from openai_server.api.output import Failed, Finished, Output, Reasoning, Separator, Text, Usage, WorkerTool
from openai_server.errors import APIError
from tests.support import SyncCase

USAGE = Usage(30, 12, 20, 5)


def renderer(*echoes: str, **settings: Any) -> CompletionRenderer:
    """
    One for an answer with a choice for each of these.
    """
    return CompletionRenderer("cmpl-1", 5, "vendor/é", echoes or ("",), **settings)


def chunksIn(stream: bytes) -> list[Any]:
    """
    The events of a stream that are JSON, each checked against the type that
    the official package promises: that knows no chunk without a reason, which
    every stream has all the same.
    """
    lines = [line for line in stream.decode().split("\n\n") if line]
    datas = [line.removeprefix("data: ") for line in lines]
    chunks = [json.loads(data) for data in datas if data != "[DONE]"]
    for chunk in chunks:
        if "error" not in chunk:
            whole = [{**each, "finish_reason": each["finish_reason"] or "stop"} for each in chunk["choices"]]
            Completion.model_validate({**chunk, "choices": whole})
            assert (chunk["id"], chunk["object"], chunk["created"]) == ("cmpl-1", "text_completion", 5)
            assert chunk["model"] == "vendor/é"
    return chunks


def choicesIn(stream: bytes) -> list[tuple[int, str, str | None]]:
    """
    Index, text and finish reason of each choice of each chunk.
    """
    choices = [choice for chunk in chunksIn(stream) for choice in chunk["choices"]]
    assert all(choice["logprobs"] is None and len(choice) == 4 for choice in choices)
    return [(choice["index"], choice["text"], choice["finish_reason"]) for choice in choices]


ONE: Sequence[Output] = [Text(["a", "b"]), Reasoning("hm"), WorkerTool("Bash", True), Finished("stop", USAGE)]
TWO: Sequence[Output] = [
    Text(["a"]),
    Separator("length"),
    Text(["b"]),
    Separator("stop"),
    Finished("stop", USAGE),
]


class StreamTests(SyncCase):
    """
    Streams.
    """

    def test_oneChoice(self) -> None:
        """
        Text alone, a chunk each, then the end; nothing before the first word.
        """
        made = renderer()
        self.assertEqual(made.start(), b"")
        stream = made.feed(ONE)
        self.assertEqual(choicesIn(stream), [(0, "a", None), (0, "b", None), (0, "", "stop")])
        self.assertTrue(stream.endswith(b"data: [DONE]\n\n"))
        self.assertNotIn(b"usage", stream)

    def test_severalChoices(self) -> None:
        """
        One after the other; each with its prompt first where that is echoed.
        """
        self.assertEqual(
            choicesIn(renderer("", "", "").feed(TWO)),
            [(0, "a", None), (0, "", "length"), (1, "b", None), (1, "", "stop"), (2, "", "stop")],
        )
        made = renderer("A", "B", "C")
        self.assertEqual(
            choicesIn(made.start() + made.feed(TWO)),
            [
                (0, "A", None),
                (0, "a", None),
                (0, "", "length"),
                (1, "B", None),
                (1, "b", None),
                (1, "", "stop"),
                (2, "C", None),
                (2, "", "stop"),
            ],
        )

    def test_usage(self) -> None:
        """
        Asked for, it comes in a chunk of its own, and every other says null.
        """
        for usage, total in ((USAGE, 42), (None, 0)):
            *chunks, last = chunksIn(renderer(wantsUsage=True).feed([Text(["a"]), Finished("stop", usage)]))
            self.assertEqual([chunk["usage"] for chunk in chunks], [None, None])
            self.assertEqual((last["choices"], last["usage"]["total_tokens"]), ([], total))

    def test_error(self) -> None:
        """
        It is the last event, and nothing says that the stream is done.
        """
        error = APIError("worker_error", "no")
        for stream in (renderer().error(error), renderer().feed([Failed(error)])):
            (chunk,) = chunksIn(stream)
            self.assertEqual(chunk["error"]["code"], "worker_error")
            self.assertNotIn(b"[DONE]", stream)

    def test_keepAlive(self) -> None:
        """
        An empty text of the choice that is being written, or what was set.
        """
        made = renderer("", "")
        made.feed([Separator("stop")])
        self.assertEqual(choicesIn(made.keepAlive()), [(1, "", None)])
        self.assertEqual(renderer(keepAlive=b": x\n\n").keepAlive(), b": x\n\n")

    def test_oneLine(self) -> None:
        """
        No text ends a line of the stream.
        """
        text = "\u2028\u2029\u0085\r\n\n"
        stream = renderer().feed([Text([text])])
        self.assertEqual(len(stream.decode().splitlines()), 2)
        self.assertEqual(choicesIn(stream), [(0, text, None)])


class BodyTests(SyncCase):
    """
    Whole answers.
    """

    def choices(self, made: CompletionRenderer, events: Sequence[Output]) -> list[tuple[int, str, str]]:
        """
        Index, text and reason of each choice.
        """
        completion = Completion.model_validate_json(made.body(events))
        self.assertEqual(
            (completion.id, completion.object, completion.created), ("cmpl-1", "text_completion", 5)
        )
        assert completion.usage is not None
        self.assertEqual(completion.usage.total_tokens, 42)
        return [(choice.index, choice.text, choice.finish_reason) for choice in completion.choices]

    def test_choices(self) -> None:
        """
        In the order of the prompts, which come first where they are echoed.
        """
        self.assertEqual(self.choices(renderer(), ONE), [(0, "ab", "stop")])
        self.assertEqual(self.choices(renderer("A"), ONE), [(0, "Aab", "stop")])
        said = self.choices(renderer("A", "B", "C"), TWO)
        self.assertEqual(said, [(0, "Aa", "length"), (1, "Bb", "stop"), (2, "C", "stop")])

    def test_withoutUsage(self) -> None:
        """
        Where the worker says nothing there is none.
        """
        self.assertNotIn(b"usage", renderer().body([Finished("stop")]))
