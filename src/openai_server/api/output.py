# -*- test-case-name: tests.translate.test_chat -*-
"""
What any answer is made of, in no dialect.
"""

from __future__ import annotations

from typing import Literal, TypeAlias

import msgspec

from openai_server.errors import APIError

FinishReason: TypeAlias = Literal["stop", "length", "tool_calls", "content_filter"]


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

    def plus(self, other: Usage) -> Usage:
        """
        Return what both cost together.
        """
        mine, others = self.prompt_tokens_details, other.prompt_tokens_details
        return Usage(
            self.prompt_tokens + other.prompt_tokens,
            self.completion_tokens + other.completion_tokens,
            self.total_tokens + other.total_tokens,
            PromptDetails(
                mine.cached_tokens + others.cached_tokens, mine.cache_write_tokens + others.cache_write_tokens
            ),
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


class Called(msgspec.Struct, frozen=True):
    """
    The answer's tool calls: the last event before its end.
    """

    calls: tuple[Call, ...]


class WorkerTool(msgspec.Struct, frozen=True):
    """
    A tool that the worker runs by itself.

    @ivar isDone: whether it has run, or begins to.
    """

    name: str
    isDone: bool


class Finished(msgspec.Struct):
    """
    The answer is complete.

    @ivar usage: None when the worker said nothing.
    """

    reason: FinishReason
    usage: Usage | None = None


class Failed(msgspec.Struct):
    """
    The answer cannot be completed.
    """

    error: APIError


Output: TypeAlias = Text | Reasoning | Called | WorkerTool | Finished | Failed
