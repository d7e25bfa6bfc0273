# -*- test-case-name: tests.sessions.test_contexts -*-
"""
What a warm worker would ignore if it changed: model, system prompt, tools and
its own ones, folder.

A worker's process keeps the system prompt, the tools and the model of its
session's first prompt (seen with humd 0.31.18), and stays in its folder, so a
session goes on only under an equal L{Context}.
"""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from openai_server.sessions.digests import digestOf
from openai_server.sessions.owntools import Left
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
    @ivar tools: stands for the tools, and for what else is said of calls;
        empty when there are none.
    @ivar format: stands for what is said of the answer's shape; empty when
        nothing is.
    @ivar cwd: the folder that the worker works in; empty when none is said.
    @ivar ownTools: what is left of the worker's own tools.
    """

    model: str
    system: bytes
    tools: bytes
    format: bytes
    cwd: str
    ownTools: Left

    @property
    def hasOwnTools(self) -> bool:
        """
        Whether they were not taken away.
        """
        return self.ownTools == "all"


def contextFrom(
    model: str,
    systemPrompt: str,
    tools: ToolSet | None,
    *callWishes: str,
    format: str = "",
    cwd: str | None = None,
    ownTools: Left = "all",
) -> Context:
    """
    Return the context of a request.

    @param systemPrompt: what the request itself says as such.
    @param callWishes: what else the prompt tells the model of its tools and
        calls. They count in their order.
    @param format: what it tells it of the answer's shape.
    @param cwd: the folder that the worker works in, where it is said.
    @param ownTools: what is left of the worker's own tools.
    """
    return Context(
        model,
        digestOf([systemPrompt]) if systemPrompt else b"",
        digestOf([tools.digest if tools else b"", *callWishes]) if tools or any(callWishes) else b"",
        digestOf([format]) if format else b"",
        cwd or "",
        ownTools,
    )
