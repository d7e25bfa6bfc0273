# -*- test-case-name: tests.api.test_arguments -*-
"""
What a call is called with, as OpenAI's API has it: always a string.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec

# Clients that send objects need not send their members in the same order again.
_encode = msgspec.json.Encoder(order="deterministic").encode


def argumentsText(args: Any) -> str:
    """
    The arguments of a call as the text that OpenAI's clients expect: JSON for
    what came as an object, and as it is what came as text, JSON or not.
    """
    if args is None or args == "":
        return "{}"
    return args if isinstance(args, str) else _json(args)


def _json(value: Any) -> str:
    try:
        return _encode(value).decode()
    except RecursionError:
        return _deepJSON(value)


def _deepJSON(value: Any) -> str:
    # What could be decoded may still be too deep to be encoded from here.
    written: list[str] = []
    todo: list[Any] = [value]
    while todo:
        item = todo.pop()
        if isinstance(item, _Verbatim):
            written.append(item)
        elif isinstance(item, dict):
            members = [[_Verbatim(_json(str(key)) + ":"), inner] for key, inner in item.items()]
            todo += _backwards("{", members, "}")
        elif isinstance(item, list):
            todo += _backwards("[", [[inner] for inner in item], "]")
        else:
            written.append(_json(item))
    return "".join(written)


class _Verbatim(str):
    """
    JSON already.
    """


def _backwards(opening: str, members: Sequence[Sequence[Any]], closing: str) -> list[Any]:
    row: list[Any] = [_Verbatim(opening)]
    for number, member in enumerate(members):
        if number:
            row.append(_Verbatim(","))
        row += member
    row.append(_Verbatim(closing))
    return row[::-1]
