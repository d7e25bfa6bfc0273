# -*- test-case-name: tests.translate.test_figures -*-
"""
What a worker reports of a turn's cost, as usage.
"""

from __future__ import annotations

from typing import Any, Final

from openai_server.api.output import Usage

#: The largest figure that every reader of JSON takes for a whole number.
_MAX_FIGURE: Final = 2**53 - 1


def _figure(usage: dict[Any, Any], name: str) -> int:
    value = usage.get(name)
    if type(value) is float and value == value and abs(value) <= _MAX_FIGURE:
        value = int(value)
    if type(value) is not int or value < 0:
        return 0
    return value if value <= _MAX_FIGURE else _MAX_FIGURE


_INPUTS: Final = ("input_tokens", "cache_read_input_tokens", "cache_creation_input_tokens")
_ALL: Final = frozenset({*_INPUTS, "output_tokens"})


def usageFromWorker(usage: Any) -> Usage | None:
    """
    A worker's figures as OpenAI counts them, None when it gave none. What is
    no figure counts as 0.
    """
    if not isinstance(usage, dict) or usage.keys().isdisjoint(_ALL):
        return None
    read = _figure(usage, "cache_read_input_tokens")
    written = _figure(usage, "cache_creation_input_tokens")
    prompt = _figure(usage, "input_tokens") + read + written
    return Usage(prompt, _figure(usage, "output_tokens"), read, written)


def isAllZero(usage: Any) -> bool:
    """
    Input and output are both given and all figures are 0: the sign of an
    answer that was lost in the worker (seen with the claude CLI 2.1.197).
    """
    if not isinstance(usage, dict) or not {"input_tokens", "output_tokens"} <= usage.keys():
        return False
    figures = [usage.get(name) or 0 for name in (*_INPUTS, "output_tokens")]
    return all(type(figure) in (int, float) and not figure for figure in figures)
