# -*- test-case-name: tests.api.chat.test_render -*-
"""
The answers of chat completions, as bytes: a stream of chunks, or one object.

Everything about a chunk but its delta is the same for a whole answer, so the
bytes around the delta are made once an answer, and a delta costs one encoding
and one join.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final, Literal, TypeAlias

import msgspec

from openai_server.api.inquiry import Call
from openai_server.api.output import (
    Failed,
    Finished,
    FinishReason,
    Output,
    Reasoning,
    Text,
    ToolCalls,
    Usage,
    WorkerTool,
)
from openai_server.api.sse import DONE, STREAM_TYPE, errorEvent, jsonLine, oneLine
from openai_server.api.usage import usageJSON
from openai_server.errors import APIError

#: Under which keys reasoning is shown.
ReasoningField: TypeAlias = Literal["reasoning_content", "reasoning", "both", "none"]

REASONING_KEYS: Final[dict[str, tuple[str, ...]]] = {
    "reasoning_content": ("reasoning_content",),
    "reasoning": ("reasoning",),
    "both": ("reasoning_content", "reasoning"),
    "none": (),
}

_encode = msgspec.json.Encoder().encode
_join = b"".join

_ROLE: Final = b'"role":"assistant","content":"","refusal":null'
#: The end of a chunk, and of one that says that the usage is still to come.
_TAIL: Final = b'},"logprobs":null,"finish_reason":null}]}\n\n'
_TAIL_WITH_USAGE: Final = b'},"logprobs":null,"finish_reason":null}],"usage":null}\n\n'


class ChatRenderer:
    """
    Writes one answer; see L{openai_server.api.dialect.Renderer} for what each
    method gives.
    """

    __slots__ = (
        "_created",
        "_id",
        "_keepAlive",
        "_model",
        "_reasoningKeys",
        "_showsTools",
        "_start",
        "_tail",
        "_textBetween",
        "_textHead",
        "_wantsUsage",
    )

    streamType: bytes = STREAM_TYPE
    bodyType: bytes = b"application/json"
    errorIsEnd: bool = False

    def __init__(
        self,
        id: str,
        created: int,
        model: str,
        *,
        wantsUsage: bool = False,
        reasoningField: str = "reasoning_content",
        showsTools: bool = False,
        keepAlive: bytes | None = None,
    ) -> None:
        """
        @param created: seconds since 1970.
        @param wantsUsage: whether the stream is to end with a usage chunk;
            then every other chunk says C{"usage": null}.
        @param reasoningField: one of L{REASONING_KEYS}.
        @param showsTools: whether the tools that the worker runs by itself are
            shown, a line of reasoning each.
        @param keepAlive: what a silent stream says; None for an empty chunk.
        """
        self._id = id
        self._created = created
        self._model = model
        self._wantsUsage = wantsUsage
        self._reasoningKeys = REASONING_KEYS[reasoningField]
        self._showsTools = showsTools
        self._keepAlive = keepAlive
        self._start = start = (
            b'data: {"id":"%b","object":"chat.completion.chunk","created":%d,"model":%b,"choices":['
            % (id.encode(), created, jsonLine(model))
        )
        self._tail = tail = _TAIL_WITH_USAGE if wantsUsage else _TAIL
        self._textHead = start + b'{"index":0,"delta":{"content":'
        self._textBetween = b'"%b%b"' % (tail, self._textHead)

    # A stream.

    def start(self) -> bytes:
        """
        Return the first chunk: who speaks, nothing said yet.
        """
        return self._delta(_ROLE)

    def feed(self, events: Sequence[Output]) -> bytes:
        """
        Return the chunks of these events.
        """
        if len(events) == 1:
            event = events[0]
            if type(event) is Text:
                return self._text(event.pieces)
        return _join([self._chunks(event) for event in events])

    def keepAlive(self) -> bytes:
        """
        Return a chunk that says nothing, or what was set for a sign of life.
        """
        return self._delta(b"") if self._keepAlive is None else self._keepAlive

    def error(self, error: APIError) -> bytes:
        """
        Return the error as the stream's last event.
        """
        return errorEvent(error)

    def _chunks(self, event: Output) -> bytes:
        if isinstance(event, Text):
            return self._text(event.pieces)
        if isinstance(event, Reasoning):
            return self._reasoning(event.text)
        if isinstance(event, WorkerTool):
            return self._reasoning(_toolLine(event)) if self._showsTools else b""
        if isinstance(event, ToolCalls):
            return _join([self._call(index, call) for index, call in enumerate(event.calls)])
        if isinstance(event, Finished):
            return self._end(event)
        # Several questions at once are none of this dialect's.
        assert isinstance(event, Failed)
        return errorEvent(event.error)

    def _delta(self, members: bytes) -> bytes:
        return b'%b{"index":0,"delta":{%b%b' % (self._start, members, self._tail)

    def _text(self, pieces: Sequence[str]) -> bytes:
        if len(pieces) == 1:
            deltas = _encode(pieces[0])
            if not deltas.isascii():
                deltas = oneLine(deltas)
        else:
            deltas = jsonLine(pieces)[1:-1]
            if deltas.count(b'"') == 2 * len(pieces):
                # No quote of a text's own: this stands between two of them.
                deltas = deltas.replace(b'","', self._textBetween)
            else:
                deltas = self._textBetween[1:-1].join(map(jsonLine, pieces))
        return _join((self._textHead, deltas, self._tail))

    def _reasoning(self, text: str) -> bytes:
        if not self._reasoningKeys:
            return b""
        encoded = jsonLine(text)
        return self._delta(b",".join([b'"%b":%b' % (key.encode(), encoded) for key in self._reasoningKeys]))

    def _call(self, index: int, call: Call) -> bytes:
        # The only chunk with its id, type and name, and one with the rest.
        kind, arguments = _shapeOf(call)
        return self._delta(
            b'"tool_calls":[{"index":%d,"id":%b,"type":"%b","%b":{"name":%b,"%b":""}}]'
            % (index, jsonLine(call.id), kind, kind, jsonLine(call.name), arguments)
        ) + self._delta(
            b'"tool_calls":[{"index":%d,"%b":{"%b":%b}}]' % (index, kind, arguments, jsonLine(call.arguments))
        )

    def _end(self, finished: Finished) -> bytes:
        said = b'%b{"index":0,"delta":{},"logprobs":null,"finish_reason":"%b"}]' % (
            self._start,
            self._reasonOf(finished.reason).encode(),
        )
        if not self._wantsUsage:
            return b"%b}\n\n%b" % (said, DONE)
        # Whoever asked for the usage gets one, with zeros when the worker
        # said nothing.
        usage = usageJSON(finished.usage or Usage())
        return b'%b,"usage":null}\n\n%b],"usage":%b}\n\n%b' % (said, self._start, usage, DONE)

    # A whole answer.

    def body(self, events: Sequence[Output]) -> bytes:
        """
        Return a C{chat.completion} object with one choice. When nothing was
        said and there are calls, its content is null.
        """
        finished = events[-1]
        assert isinstance(finished, Finished)
        text = "".join([piece for event in events if type(event) is Text for piece in event.pieces])
        message: dict[str, Any] = {"role": "assistant", "content": text, "refusal": None}
        reasoning = "".join([self._reasoningOf(event) for event in events])
        if reasoning:
            message |= dict.fromkeys(self._reasoningKeys, reasoning)
        for event in events:
            if type(event) is ToolCalls:
                message["content"] = text or None
                message |= self._calledWith(event.calls)
        body: dict[str, Any] = {
            "id": self._id,
            "object": "chat.completion",
            "created": self._created,
            "model": self._model,
            "choices": [
                {
                    "index": 0,
                    "message": message,
                    "logprobs": None,
                    "finish_reason": self._reasonOf(finished.reason),
                }
            ],
        }
        if finished.usage is not None:
            body["usage"] = msgspec.Raw(usageJSON(finished.usage))
        return _encode(body)

    def _reasoningOf(self, event: Output) -> str:
        if type(event) is Reasoning:
            return event.text
        return _toolLine(event) if type(event) is WorkerTool and self._showsTools else ""

    # What the deprecated shape has in its own way.

    def _calledWith(self, calls: Sequence[Call]) -> dict[str, Any]:
        return {"tool_calls": [callObject(call) for call in calls]}

    def _reasonOf(self, reason: FinishReason) -> str:
        return reason


class FunctionsRenderer(ChatRenderer):
    """
    Writes an answer to a request that had the deprecated C{functions}: one
    call, without an id.
    """

    __slots__ = ()

    def _call(self, index: int, call: Call) -> bytes:
        return self._delta(
            b'"function_call":{"name":%b,"arguments":""}' % jsonLine(call.name)
        ) + self._delta(b'"function_call":{"arguments":%b}' % jsonLine(call.arguments))

    def _calledWith(self, calls: Sequence[Call]) -> dict[str, Any]:
        return {"function_call": {"name": calls[0].name, "arguments": calls[0].arguments}}

    def _reasonOf(self, reason: FinishReason) -> str:
        return "function_call" if reason == "tool_calls" else reason


def _toolLine(tool: WorkerTool) -> str:
    return f"[{tool.name} {'done' if tool.isDone else 'called'}]\n"


def _shapeOf(call: Call) -> tuple[bytes, bytes]:
    # The type of a call, and the key of what it is called with.
    return (b"custom", b"input") if call.kind == "custom" else (b"function", b"arguments")


def callObject(call: Call) -> dict[str, Any]:
    """
    Return a call as a message shows it.
    """
    if call.kind == "custom":
        return {"id": call.id, "type": "custom", "custom": {"name": call.name, "input": call.arguments}}
    function = {"name": call.name, "arguments": call.arguments}
    return {"id": call.id, "type": "function", "function": function}
