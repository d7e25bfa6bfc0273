# -*- test-case-name: tests.translate.test_figures -*-
"""
What a worker reports of a turn, as OpenAI's usage and finish reason.
"""

from __future__ import annotations

from typing import Any, Final, Literal, TypeAlias

from openai_server.api.output import PromptDetails, Usage

#: What a worker's finish reason means; C{error} is no finish reason.
Ending: TypeAlias = Literal["stop", "length", "content_filter", "error"]

#: The largest figure that every reader of JSON takes for a whole number.
_MAX_FIGURE: Final = 2**53 - 1

_ENDINGS: Final[dict[str, Ending]] = {
    "success": "stop",
    "stop": "stop",
    "end_turn": "stop",
    "stop_sequence": "stop",
    "pause_turn": "stop",
    "tool_use": "stop",
    "tool_calls": "stop",
    "complete": "stop",
    "completed": "stop",
    "done": "stop",
    "max_tokens": "length",
    "length": "length",
    "model_context_window_exceeded": "length",
    "refusal": "content_filter",
    "content_filter": "content_filter",
}


def endingOf(finishReason: Any) -> Ending:
    """
    What a C{finish} without an exit code means. A reason that is not known is
    an error: a cut answer must not look complete.
    """
    if finishReason is None:
        return "stop"
    if not isinstance(finishReason, str):
        return "error"
    return _ENDINGS.get(finishReason.lower().replace("-", "_"), "error")


def _figure(usage: dict[Any, Any], name: str) -> int:
    value = usage.get(name)
    if type(value) is float and value == value and abs(value) <= _MAX_FIGURE:
        value = int(value)
    if type(value) is not int:
        return 0
    return min(max(value, 0), _MAX_FIGURE)


_INPUTS: Final = ("input_tokens", "cache_read_input_tokens", "cache_creation_input_tokens")


def usageFromWorker(usage: Any) -> Usage | None:
    """
    A worker's figures as OpenAI counts them, None when it gave none. What is
    no figure counts as 0.
    """
    if not isinstance(usage, dict) or not any(name in usage for name in (*_INPUTS, "output_tokens")):
        return None
    read = _figure(usage, "cache_read_input_tokens")
    written = _figure(usage, "cache_creation_input_tokens")
    prompt = _figure(usage, "input_tokens") + read + written
    completion = _figure(usage, "output_tokens")
    return Usage(
        prompt_tokens=prompt,
        completion_tokens=completion,
        total_tokens=prompt + completion,
        prompt_tokens_details=PromptDetails(cached_tokens=read, cache_write_tokens=written),
    )


def isAllZero(usage: Any) -> bool:
    """
    Input and output are both given and all figures are 0: the sign of an
    answer that was lost in the worker (seen with the claude CLI 2.1.197).
    """
    if not isinstance(usage, dict) or not {"input_tokens", "output_tokens"} <= usage.keys():
        return False
    figures = [usage.get(name) or 0 for name in (*_INPUTS, "output_tokens")]
    return all(type(figure) in (int, float) and not figure for figure in figures)
