# -*- test-case-name: tests.translate.test_figures -*-
"""
What a worker reports of a turn's cost, as usage.
"""

from __future__ import annotations

from typing import Any, Final

from openai_server.api.output import Usage

#: The largest figure that every reader of JSON takes for a whole number.
_MAX_FIGURE: Final = 2**53 - 1


def _figure(value: Any) -> int:
    if type(value) is float and value == value and abs(value) <= _MAX_FIGURE:
        value = int(value)
    if type(value) is not int or value < 0:
        return 0
    return value if value <= _MAX_FIGURE else _MAX_FIGURE


_ALL: Final = ("input_tokens", "cache_read_input_tokens", "cache_creation_input_tokens", "output_tokens")


def usageFromWorker(usage: Any) -> Usage | None:
    """
    A worker's figures as OpenAI counts them, None when it gave none. What is
    no figure counts as 0.
    """
    if not isinstance(usage, dict) or usage.keys().isdisjoint(_ALL):
        return None
    fresh, read, written, output = [
        value if type(value) is int and 0 <= value <= _MAX_FIGURE else _figure(value)
        for value in map(usage.get, _ALL)
    ]
    return Usage(fresh + read + written, output, read, written)


def isAllZero(usage: Any) -> bool:
    """
    Input and output are both given and all figures are 0: the sign of an
    answer that was lost in the worker (seen with the claude CLI 2.1.197).
    """
    if not isinstance(usage, dict) or not {"input_tokens", "output_tokens"} <= usage.keys():
        return False
    figures = [usage.get(name) or 0 for name in _ALL]
    return not any(figures) and {*map(type, figures)} <= {int, float}
