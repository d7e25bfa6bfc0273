# -*- test-case-name: tests.api.test_chatdialect -*-
"""
Chat completions: the dialect.
"""

from __future__ import annotations

import time
from base64 import urlsafe_b64encode
from collections.abc import Callable, Sequence
from os import urandom
from typing import Literal, TypeAlias

from openai_server.api.chat import ChatRequest, parse
from openai_server.api.completion import ReasoningField, completionBody
from openai_server.api.output import (
    Call,
    Called,
    Finished,
    Output,
    Reasoning,
    Text,
    WorkerTool,
)
from openai_server.api.sse import DONE, KEEP_ALIVE_COMMENT, ChunkTemplates, errorEvent
from openai_server.errors import APIError

#: What a silent stream says: an empty chunk, a comment, nothing.
KeepAlive: TypeAlias = Literal["chunk", "comment", "off"]


class ChatDialect:
    """
    Chat completions, in their shape with C{tools} and in the deprecated one
    with C{functions}.
    """

    def __init__(
        self,
        *,
        strict: bool = False,
        defaultModel: Callable[[], str | None] = lambda: None,
        reasoningField: ReasoningField = "reasoning_content",
        keepAlive: KeepAlive = "chunk",
        now: Callable[[], float] = time.time,
    ) -> None:
        """
        @param strict: whether fields that OpenAI does not know are refused.
        @param defaultModel: gives the model of requests that name none.
        @param reasoningField: where reasoning is shown.
        @param now: the wall clock, in seconds since 1970.
        """
        self.reasoningField = reasoningField
        self.keepAlive = keepAlive
        self.now = now
        self._strict = strict
        self._defaultModel = defaultModel

    def parse(self, body: bytes) -> ChatRequest:
        """
        Read a request.

        @raise APIError: 400, with the path of the field at fault.
        """
        return parse(body, strict=self._strict, defaultModel=self._defaultModel())

    def renderer(self, inquiry: ChatRequest) -> ChatRenderer:
        """
        Return a renderer of one answer to this request.
        """
        return ChatRenderer(self, inquiry)


class ChatRenderer:
    """
    One chat completion, as a stream of chunks or as one object.
    """

    streamType: bytes = b"text/event-stream; charset=utf-8"
    bodyType: bytes = b"application/json"

    __slots__ = ("_chunks", "_created", "_dialect", "_id", "_inquiry")

    def __init__(self, dialect: ChatDialect, inquiry: ChatRequest) -> None:
        self._dialect = dialect
        self._inquiry = inquiry
        self._id = "chatcmpl-" + urlsafe_b64encode(urandom(18)).decode()
        self._created = int(dialect.now())
        self._chunks: ChunkTemplates | None = None

    def start(self) -> bytes:
        """
        Return the first chunk: who speaks, nothing said yet.
        """
        self._chunks = ChunkTemplates(
            id=self._id,
            created=self._created,
            model=self._inquiry.model,
            includeUsage=self._inquiry.includeUsage,
            reasoningField=self._dialect.reasoningField,
            legacy=self._inquiry.isLegacy,
        )
        return self._chunks.role()

    def feed(self, events: Sequence[Output]) -> bytes:
        """
        Return the chunks of these events, and after the last one C{[DONE]}.
        """
        chunks = self._chunks
        assert chunks is not None, "a stream has to be started"
        if len(events) == 1 and type(first := events[0]) is Text:
            return chunks.text(*first.pieces)
        pieces: list[bytes] = []
        for event in events:
            if type(event) is Text:
                pieces.append(chunks.text(*event.pieces))
            elif type(event) is Reasoning:
                pieces.append(chunks.reasoning(event.text))
            elif type(event) is WorkerTool:
                pieces.append(chunks.reasoning(_lineOf(event)))
            elif type(event) is Called:
                pieces += self._calls(chunks, event.calls)
            elif type(event) is Finished:
                pieces.append(self._finish(chunks, event))
        return b"".join(pieces)

    @staticmethod
    def _calls(chunks: ChunkTemplates, calls: Sequence[Call]) -> list[bytes]:
        pieces: list[bytes] = []
        for index, call in enumerate(calls):
            isCustom = call.kind == "custom"
            pieces.append(chunks.callStart(index, call.id, call.name, isCustom=isCustom))
            pieces.append(chunks.callArguments(index, call.arguments, isCustom=isCustom))
        return pieces

    def _finish(self, chunks: ChunkTemplates, event: Finished) -> bytes:
        usage = chunks.usage(event.usage) if self._inquiry.includeUsage else b""
        return chunks.finish(self._reason(event)) + usage + DONE

    def _reason(self, event: Finished) -> str:
        isFunction = self._inquiry.isLegacy and event.reason == "tool_calls"
        return "function_call" if isFunction else event.reason

    def keepAlive(self) -> bytes:
        """
        Return a chunk that says nothing, or what is to be sent in its place.
        """
        kind = self._dialect.keepAlive
        if kind == "chunk" and self._chunks is not None:
            return self._chunks.keepAlive()
        return KEEP_ALIVE_COMMENT if kind == "comment" else b""

    def error(self, error: APIError) -> bytes:
        """
        Return the event that says why the stream ends here.
        """
        return errorEvent(error)

    def body(self, events: Sequence[Output], end: Finished) -> bytes:
        """
        Return the C{chat.completion} object.
        """
        text: list[str] = []
        reasoning: list[str] = []
        calls: tuple[Call, ...] = ()
        for event in events:
            if type(event) is Text:
                text += event.pieces
            elif type(event) is Reasoning:
                reasoning.append(event.text)
            elif type(event) is WorkerTool:
                reasoning.append(_lineOf(event))
            elif type(event) is Called:
                calls = event.calls
        return completionBody(
            id=self._id,
            created=self._created,
            model=self._inquiry.model,
            text="".join(text),
            finishReason=self._reason(end),
            reasoning="".join(reasoning),
            reasoningField=self._dialect.reasoningField,
            calls=calls,
            isLegacy=self._inquiry.isLegacy,
            usage=end.usage,
        )


def _lineOf(tool: WorkerTool) -> str:
    return f"[{tool.name} {'done' if tool.isDone else 'called'}]\n"
