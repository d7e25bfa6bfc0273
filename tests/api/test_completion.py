"""
Answers that do not stream.
"""

from __future__ import annotations

import json
from typing import Any

from openai.types.chat import ChatCompletion

from openai_server.api.completion import completionBody
from openai_server.api.output import Call, Usage
from tests.support import SyncCase

FIXED: dict[str, Any] = {"id": "chatcmpl-1", "created": 5, "model": "a/b"}


def message(**more: Any) -> dict[str, Any]:
    """
    The message of a body made with these arguments.
    """
    body = json.loads(completionBody(**{**FIXED, "text": "", "finishReason": "stop", **more}))
    ChatCompletion.model_validate(body)
    found: dict[str, Any] = body["choices"][0]["message"]
    return found


class CompletionBodyTests(SyncCase):
    """
    L{completionBody}.
    """

    def test_plain(self) -> None:
        """
        The exact bytes of a plain answer: content and refusal are there, no
        calls and no usage are.
        """
        self.assertEqual(
            completionBody(**FIXED, text="h\u00e9", finishReason="stop"),
            '{"id":"chatcmpl-1","object":"chat.completion","created":5,"model":"a/b","choices":[{"index":0,'
            '"message":{"role":"assistant","content":"h\u00e9","refusal":null},"logprobs":null,'
            '"finish_reason":"stop"}]}'.encode(),
        )

    def test_nothingSaid(self) -> None:
        """
        Without calls an empty answer is an empty string.
        """
        self.assertEqual(message()["content"], "")

    def test_usage(self) -> None:
        """
        All of OpenAI's members.
        """
        body = json.loads(completionBody(**FIXED, text="", finishReason="length", usage=Usage(3, 4, 7)))
        usage = ChatCompletion.model_validate(body).usage
        assert usage is not None and usage.prompt_tokens_details is not None
        self.assertEqual((usage.prompt_tokens, usage.completion_tokens, usage.total_tokens), (3, 4, 7))
        self.assertEqual(usage.prompt_tokens_details.cached_tokens, 0)
        self.assertEqual(body["usage"]["completion_tokens_details"]["reasoning_tokens"], 0)

    def test_calls(self) -> None:
        """
        Both kinds; content is null when nothing was said, and stays when
        something was.
        """
        calls = [Call("call_1", "f", '{"a":1}'), Call("call_2", "patch", "text", "custom")]
        found = message(calls=calls, finishReason="tool_calls")
        self.assertIsNone(found["content"])
        self.assertEqual(
            found["tool_calls"],
            [
                {"id": "call_1", "type": "function", "function": {"name": "f", "arguments": '{"a":1}'}},
                {"id": "call_2", "type": "custom", "custom": {"name": "patch", "input": "text"}},
            ],
        )
        self.assertEqual(message(calls=calls, text="so", finishReason="tool_calls")["content"], "so")

    def test_legacyCall(self) -> None:
        """
        One call in the deprecated shape.
        """
        found = message(calls=[Call("1", "f", "{}")], isLegacy=True, finishReason="function_call")
        self.assertEqual(found["function_call"], {"name": "f", "arguments": "{}"})
        self.assertNotIn("tool_calls", found)
        self.assertNotIn("function_call", message(isLegacy=True))

    def test_reasoning(self) -> None:
        """
        Under the keys that the setting names, and only when there is some.
        """
        for field, keys in (
            ("reasoning_content", {"reasoning_content"}),
            ("reasoning", {"reasoning"}),
            ("both", {"reasoning_content", "reasoning"}),
            ("none", set()),
        ):
            found = message(reasoning="hmm", reasoningField=field)
            self.assertEqual(found.keys() - {"role", "content", "refusal"}, keys)
            self.assertTrue(all(found[key] == "hmm" for key in keys))
        self.assertEqual(message().keys(), {"role", "content", "refusal"})
