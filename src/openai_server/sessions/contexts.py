# -*- test-case-name: tests.sessions.test_contexts -*-
"""
What a warm worker would ignore if it changed: model, system prompt, tools,
folder.

A worker's process keeps the system prompt, the tools and the model of its
session's first prompt (seen with humd 0.31.18), and stays in its folder, so a
session goes on only under an equal L{Context}.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache

import msgspec

from openai_server.sessions.digests import digestOf
from openai_server.wire.tones import ToolDefinition

_encode = msgspec.json.Encoder(order="deterministic").encode


class ToolSet(msgspec.Struct, frozen=True):
    """
    The set of tools that a prompt offers; equal when name, description and
    schema of each are, in whatever order.
    """

    names: frozenset[str]
    digest: bytes


def toolSetFrom(tools: Sequence[ToolDefinition]) -> ToolSet | None:
    """
    Return the set of these tools, as they go out in the prompt; None for none.
    """
    if not tools:
        return None
    encoded = sorted(map(_encode, tools))
    return ToolSet(frozenset(tool.name for tool in tools), digestOf(encoded))


class Context(msgspec.Struct, frozen=True):
    """
    What has to be equal for a session to go on.

    @ivar system: stands for the system prompt; empty when there is none.
    @ivar rest: stands for everything else.
    """

    system: bytes
    rest: bytes


def contextFrom(
    model: str, systemPrompt: str, tools: ToolSet | None, *instructions: str, cwd: str | None = None
) -> Context:
    """
    Return the context of a request.

    @param systemPrompt: what the request itself says as such.
    @param instructions: whatever else the prompt tells the model, such as an
        answer's format. They count in their order.
    @param cwd: the folder that the worker works in, where it is said.
    """
    if tools is None and not any(instructions):
        rest = _restOf(model, cwd or "", len(instructions))
    else:
        rest = digestOf([model, tools.digest if tools else b"", cwd or "", *instructions])
    return Context(digestOf([systemPrompt]) if systemPrompt else b"", rest)


@lru_cache(maxsize=256)
def _restOf(model: str, cwd: str, instructions: int) -> bytes:
    # What requests without tools and wishes have in common.
    return digestOf([model, b"", cwd, *[""] * instructions])
