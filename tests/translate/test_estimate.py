"""
What answers cost that no worker has told.
"""

from __future__ import annotations

import json
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from openai_server.api.chat.request import inquiryFromBody
from openai_server.api.inquiry import Call
from openai_server.api.output import Finished, Reasoning, Text, ToolCalls, Usage, WorkerTool
from openai_server.translate.estimate import answerSize, promptSize, usageOfAnswer
from openai_server.translate.tools import offerFrom
from tests.support import SyncCase

FIGURES = st.builds(Usage, *[st.integers(0, 500)] * 4)


def size(*messages: dict[str, Any], held: int = 0, **more: Any) -> int:
    """
    The bytes of text of a request with these messages.
    """
    inquiry = inquiryFromBody(json.dumps({"model": "m", "messages": messages, **more}).encode())
    return promptSize(inquiry, offerFrom(inquiry), held)


class PromptTests(SyncCase):
    """
    L{promptSize}.
    """

    def test_allTexts(self) -> None:
        """
        Bytes of UTF-8, of instructions, messages, names, calls and results;
        images and files are none.
        """
        call = {"id": "c", "function": {"name": "look", "arguments": '{"a":1}'}}
        image = {"type": "image_url", "image_url": "http://x/y.png"}
        said = (
            {"role": "system", "content": "12345"},
            {"role": "user", "name": "bob", "content": [{"type": "text", "text": "caf\u00e9"}, image]},
            {"role": "assistant", "content": None, "tool_calls": [call]},
            {"role": "tool", "tool_call_id": "c", "content": "123"},
        )
        self.assertEqual(size(*said), 5 + 3 + 5 + 4 + 7 + 3)
        self.assertEqual(size({"role": "user", "content": ""}), 0)

    def test_whatTheSessionIsBegunWith(self) -> None:
        """
        Definitions of tools and the wish for JSON are told to a model as well.
        """
        hello = {"role": "user", "content": "hi"}
        tool = {"type": "function", "function": {"name": "look", "description": "x" * 1000}}
        self.assertGreater(size(hello, tools=[tool]), 1000)
        schema = {"type": "json_object", "schema": {"description": "x" * 1000}}
        self.assertGreater(size(hello, response_format=schema), 1000)

    def test_whatIsNotShown(self) -> None:
        """
        Is added, and counts the instructions already.
        """
        system, hello = {"role": "system", "content": "12345"}, {"role": "user", "content": "hi"}
        self.assertEqual(size(system, hello, held=100), 102)


class AnswerTests(SyncCase):
    """
    L{answerSize} and L{usageOfAnswer}.
    """

    def test_allTexts(self) -> None:
        """
        Text, reasoning and calls; what the worker does itself is no answer.
        """
        calls = ToolCalls((Call("c", "look", '{"a":1}'), Call("d", "f", "{}")))
        said = [Text(["caf", "\u00e9"]), Reasoning("hm"), WorkerTool("Bash", True), calls, Finished("stop")]
        self.assertEqual(answerSize(said), 5 + 2 + 11 + 3)
        self.assertEqual(answerSize([]), 0)

    def test_estimate(self) -> None:
        """
        A token for 4 bytes, rounded up; whatever was told before.
        """
        for prompt, answer, usage in ((0, 0, Usage()), (1, 4, Usage(1, 1)), (8, 9, Usage(2, 3))):
            self.assertEqual(usageOfAnswer(None, Usage(7, 7), prompt, answer), usage)

    def test_rest(self) -> None:
        """
        The worker's figures, less what was told; never below zero, and no more
        of the input is cached than there is.
        """
        reported = Usage(100, 20, 60, 10)
        for told, usage in (
            (Usage(), reported),
            (Usage(20, 5), Usage(80, 15, 60, 10)),
            (Usage(50, 5), Usage(50, 15, 50, 0)),
            (Usage(200, 50), Usage()),
        ):
            self.assertEqual(usageOfAnswer(reported, told, 1000, 1000), usage)

    @given(FIGURES, FIGURES)
    def test_sum(self, reported: Usage, told: Usage) -> None:
        """
        Together the answers of a turn are told the worker's figures, or what
        was told already where that is more.
        """
        rest = usageOfAnswer(reported, told, 0, 0)
        self.assertEqual(rest.input + told.input, max(reported.input, told.input))
        self.assertEqual(rest.output + told.output, max(reported.output, told.output))
        self.assertLessEqual(rest.cached + rest.cacheWritten, rest.input)
