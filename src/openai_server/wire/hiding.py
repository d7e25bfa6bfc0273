# -*- test-case-name: tests.wire.test_hiding -*-
"""
Names of tools that a model must not see, and how many of them fit.

A prompt hides a tool by its name in C{disallowedTools}. The worker joins these
by spaces into one argument of its process. With an argument of 131,072 bytes
or more that cannot start, and nobody is told (seen with humd 0.31.18).
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from openai_server.errors import APIError

#: How the worker's model knows this server's tools.
OUR_PREFIX: Final = "mcp__hum__"
#: Bytes of that argument, whatever it is made of.
MAX_ARGUMENT: Final = 100_000


def roomBeside(own: Iterable[str]) -> int:
    """
    Bytes that are left for hidden names.

    @param own: what is disallowed besides.
    """
    return MAX_ARGUMENT - sum(len(name.encode()) + 1 for name in own)


def sizeOf(names: Iterable[str]) -> int:
    """
    Bytes that these names take up when they are hidden.

    @param names: as prompts declare them: plain ASCII.
    """
    return sum(len(OUR_PREFIX) + len(name) + 1 for name in names)


def firstThatFit(names: Iterable[str], room: int) -> list[str]:
    """
    As many of these names, from the first one on, as there is room for.

    @param room: in bytes.
    """
    kept = []
    for name in names:
        room -= sizeOf([name])
        if room < 0:
            break
        kept.append(name)
    return kept


def checkNames(names: Iterable[str], room: int, param: str) -> None:
    """
    Check that the tools of one request can be hidden from the models of all
    others.

    @param room: in bytes.
    @raise APIError: 400 with this C{param}.
    """
    if sizeOf(names) > room:
        raise APIError("invalid_value", "The names of these tools are too long together.", param=param)
