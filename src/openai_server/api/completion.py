# -*- test-case-name: tests.api.test_completion -*-
"""
The answer to a chat request that does not stream: one object, as bytes.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final, Literal, TypeAlias

import msgspec

from openai_server.api.output import Call, Usage

#: Under which keys reasoning is shown.
ReasoningField: TypeAlias = Literal["reasoning_content", "reasoning", "both", "none"]

REASONING_KEYS: Final[dict[str, tuple[str, ...]]] = {
    "reasoning_content": ("reasoning_content",),
    "reasoning": ("reasoning",),
    "both": ("reasoning_content", "reasoning"),
    "none": (),
}

_encode = msgspec.json.Encoder().encode


def completionBody(
    *,
    id: str,
    created: int,
    model: str,
    text: str,
    finishReason: str,
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
