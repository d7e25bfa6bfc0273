# -*- test-case-name: tests.api.test_output -*-
"""
What any answer is made of, in words that belong to no dialect.

An answer is a row of these events. The last one is L{Finished} or L{Failed},
and nothing comes after it. As JSON each has a C{type}, so that a row can be
kept.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import accumulate, pairwise
from typing import Any, Literal, TypeAlias

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


class Text(msgspec.Struct, tag="text"):
    """
    Some of the answer.

    @ivar pieces: its deltas as they came, none of them empty: each is an
        event of its own on a stream.
    """

    pieces: list[str]


class Reasoning(msgspec.Struct, gc=False, tag="reasoning"):
    """
    A piece of the model's reasoning. Never empty.
    """

    text: str


class WorkerTool(msgspec.Struct, gc=False, tag="tool"):
    """
    A tool that the worker runs by itself.

    @ivar name: fit to be shown.
    @ivar isDone: whether it has been run, or is only called.
    @ivar id: of the call; empty where the worker tells none.
    @ivar arguments: what it was called with, once it has been run.
    @ivar output: its result, once it has been run; the first part of a long
        one.
    @ivar isError: whether it failed.
    """

    name: str
    isDone: bool
    id: str = ""
    arguments: str = ""
    output: str = ""
    isError: bool = False


class ToolCalls(msgspec.Struct, frozen=True, tag="calls"):
    """
    The calls that the client is to answer: all of one answer's, right before
    it is finished.
    """

    calls: tuple[Call, ...]


class Separator(msgspec.Struct, frozen=True, gc=False, tag="separator"):
    """
    The answer to one question of several is complete; that to the next one
    follows.

    @ivar reason: why it is over.
    """

    reason: FinishReason


class Finished(msgspec.Struct, tag="finished"):
    """
    The answer is complete.

    @ivar usage: None when the worker said nothing.
    @ivar isEstimated: whether the usage is not the worker's.
    """

    reason: FinishReason
    usage: Usage | None = None
    isEstimated: bool = False


class Failed(msgspec.Struct, tag="failed"):
    """
    The answer cannot be completed.

    @ivar usage: what it has cost until then.
    @ivar isCancelled: whether that is because nobody wanted it any more.
    """

    error: APIError
    usage: Usage = Usage()
    isCancelled: bool = False


Output: TypeAlias = Text | Reasoning | WorkerTool | ToolCalls | Separator | Finished | Failed


class _Cut(msgspec.Struct, tag="cut"):
    """
    L{Text} whose text is elsewhere.

    @ivar lengths: characters of each piece.
    """

    lengths: list[int]


def rowJSON(events: Sequence[Output]) -> bytes:
    """
    Return a row of events as JSON. Of an error its name, words and parameter
    are kept, and when to ask again.
    """
    return _encode(events)


def cutRowJSON(events: Sequence[Output]) -> bytes:
    """
    Return a row of events as JSON for someone who has its text: of that it
    tells only where one piece ends and the next one begins.
    """
    return _encode([_Cut(list(map(len, event.pieces))) if type(event) is Text else event for event in events])


def rowFromJSON(row: bytes, text: str = "") -> list[Output]:
    """
    Return the events of such a row.

    @param text: all of its text, if it is cut.
    """
    events: list[Output] = []
    at = 0
    for event in _decode(row):
        if isinstance(event, _Cut):
            ends = list(accumulate(event.lengths, initial=at))
            events.append(Text([text[start:end] for start, end in pairwise(ends)]))
            at = ends[-1]
        else:
            events.append(event)
    return events


def _plain(error: APIError) -> list[Any]:
    return [error.name, error.message.encode("utf-8", "replace").decode(), error.param, error.retryAfter]


def _error(kind: type[APIError], plain: list[Any]) -> APIError:
    name, message, param, retryAfter = plain
    return kind(name, message, param=param, retryAfter=retryAfter)


_encode = msgspec.json.Encoder(enc_hook=_plain).encode
_decode = msgspec.json.Decoder(list[Output | _Cut], dec_hook=_error).decode
