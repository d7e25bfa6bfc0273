# -*- test-case-name: tests.api.test_output -*-
"""
What any answer is made of, in words that belong to no dialect.

An answer is a row of these events. The last one is L{Finished} or L{Failed},
and nothing comes after it.
"""

from __future__ import annotations

from typing import Literal, TypeAlias

import msgspec

from openai_server.api.inquiry import Call
from openai_server.errors import APIError

#: Why an answer is over.
FinishReason: TypeAlias = Literal["stop", "length", "tool_calls", "content_filter"]


class Usage(msgspec.Struct, frozen=True, gc=False):
    """
    What an answer cost, in tokens.

    @ivar input: of the prompt, the next two included.
    @ivar cached: of the prompt, read from a cache.
    @ivar cacheWritten: of the prompt, put into a cache.
    @ivar output: of the answer, reasoning included.
    """

    input: int = 0
    output: int = 0
    cached: int = 0
    cacheWritten: int = 0

    def __add__(self, other: Usage) -> Usage:
        return Usage(
            self.input + other.input,
            self.output + other.output,
            self.cached + other.cached,
            self.cacheWritten + other.cacheWritten,
        )


class Text(msgspec.Struct):
    """
    Some of the answer.

    @ivar pieces: its deltas as they came, none of them empty: each is an
        event of its own on a stream.
    """

    pieces: list[str]


class Reasoning(msgspec.Struct, gc=False):
    """
    A piece of the model's reasoning. Never empty.
    """

    text: str


class WorkerTool(msgspec.Struct, gc=False):
    """
    A tool that the worker runs by itself.

    @ivar name: fit to be shown.
    @ivar isDone: whether it has been run, or is only called.
    """

    name: str
    isDone: bool


class ToolCalls(msgspec.Struct, frozen=True):
    """
    The calls that the client is to answer: all of one answer's, right before
    it is finished.
    """

    calls: tuple[Call, ...]


class Separator(msgspec.Struct, frozen=True, gc=False):
    """
    The answer to one question of several is complete; that to the next one
    follows.

    @ivar reason: why it is over.
    """

    reason: FinishReason


class Finished(msgspec.Struct):
    """
    The answer is complete.

    @ivar usage: None when the worker said nothing.
    @ivar isEstimated: whether the usage is not the worker's.
    """

    reason: FinishReason
    usage: Usage | None = None
    isEstimated: bool = False


class Failed(msgspec.Struct):
    """
    The answer cannot be completed.
    """

    error: APIError


Output: TypeAlias = Text | Reasoning | WorkerTool | ToolCalls | Separator | Finished | Failed
