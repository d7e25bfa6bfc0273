# -*- test-case-name: tests.api.test_completion -*-
"""
The answer to a chat request that does not stream: one object, as bytes.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final, Literal, TypeAlias

import msgspec

FinishReason: TypeAlias = Literal["stop", "length", "tool_calls", "content_filter", "function_call"]
#: Under which keys reasoning is shown.
ReasoningField: TypeAlias = Literal["reasoning_content", "reasoning", "both", "none"]

REASONING_KEYS: Final[dict[str, tuple[str, ...]]] = {
    "reasoning_content": ("reasoning_content",),
    "reasoning": ("reasoning",),
    "both": ("reasoning_content", "reasoning"),
    "none": (),
}

_encode = msgspec.json.Encoder().encode


class PromptDetails(msgspec.Struct, frozen=True):
    """
    Of which the tokens of a prompt were.
    """

    cached_tokens: int = 0
    cache_write_tokens: int = 0
    audio_tokens: int = 0


class CompletionDetails(msgspec.Struct, frozen=True):
    """
    Of which the tokens of an answer were. Workers do not tell them apart.
    """

    reasoning_tokens: int = 0
    audio_tokens: int = 0
    accepted_prediction_tokens: int = 0
    rejected_prediction_tokens: int = 0


class Usage(msgspec.Struct, frozen=True):
    """
    What an answer cost, in tokens.
    """

    prompt_tokens: int = 0
    completion_tokens: int = 0
    total_tokens: int = 0
    prompt_tokens_details: PromptDetails = PromptDetails()
    completion_tokens_details: CompletionDetails = CompletionDetails()


class Call(msgspec.Struct, frozen=True):
    """
    One call that is handed to the client.

    @ivar arguments: a function's arguments as JSON text, or a custom tool's
        input.
    """

    id: str
    name: str
    arguments: str
    kind: Literal["function", "custom"] = "function"


def completionBody(
    *,
    id: str,
    created: int,
    model: str,
    text: str,
    finishReason: FinishReason,
    reasoning: str = "",
    reasoningField: ReasoningField = "reasoning_content",
    calls: Sequence[Call] = (),
    isLegacy: bool = False,
    usage: Usage | None = None,
) -> bytes:
    """
    A C{chat.completion} object with one choice.

    @param created: seconds since 1970.
    @param text: what was said; when it is empty and there are calls, the
        content is null.
    @param isLegacy: the request had C{functions}: the first call is answered
        in their shape, the rest is left out.
    @param usage: None leaves it out.
    """
    message: dict[str, Any] = {
        "role": "assistant",
        "content": None if calls and not text else text,
        "refusal": None,
    }
    if reasoning:
        message |= dict.fromkeys(REASONING_KEYS[reasoningField], reasoning)
    if calls and isLegacy:
        message["function_call"] = {"name": calls[0].name, "arguments": calls[0].arguments}
    elif calls:
        message["tool_calls"] = [_callObject(call) for call in calls]
    body: dict[str, Any] = {
        "id": id,
        "object": "chat.completion",
        "created": created,
        "model": model,
        "choices": [{"index": 0, "message": message, "logprobs": None, "finish_reason": finishReason}],
    }
    if usage is not None:
        body["usage"] = usage
    return _encode(body)


def _callObject(call: Call) -> dict[str, Any]:
    if call.kind == "custom":
        return {"id": call.id, "type": "custom", "custom": {"name": call.name, "input": call.arguments}}
    function = {"name": call.name, "arguments": call.arguments}
    return {"id": call.id, "type": "function", "function": function}
