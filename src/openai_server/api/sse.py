# -*- test-case-name: tests.api.test_sse -*-
"""
The events of a streamed chat answer, as bytes.

Everything about a chunk but its delta is the same for a whole answer, so the
bytes around the delta are made once a request, and a delta costs one encoding
and one join. Each event is one C{data:} line and a blank line; there are no
C{event:}, C{id:} or C{retry:} lines, which clients are known to trip over.
"""

from __future__ import annotations

from typing import Final

import msgspec

from openai_server.api.completion import REASONING_KEYS, ReasoningField
from openai_server.api.output import Usage
from openai_server.api.problem import errorBody
from openai_server.errors import APIError

#: The end of every stream that went well, and of no other.
DONE: Final = b"data: [DONE]\n\n"
#: A sign of life that is no event, for clients that must not see empty chunks.
KEEP_ALIVE_COMMENT: Final = b": keep-alive\n\n"

_encode = msgspec.json.Encoder().encode
_join = b"".join


def jsonLine(value: object) -> bytes:
    """
    A value as JSON that stays one line for every reader: U+0085, U+2028 and
    U+2029, at which some clients split, are escaped.
    """
    encoded = _encode(value)
    return encoded if encoded.isascii() else _escaped(encoded)


def _escaped(encoded: bytes) -> bytes:
    # Looking for one byte is many times faster than for two or three.
    if b"\xe2" in encoded:
        encoded = encoded.replace(b"\xe2\x80\xa8", b"\\u2028").replace(b"\xe2\x80\xa9", b"\\u2029")
    if b"\xc2" in encoded:
        encoded = encoded.replace(b"\xc2\x85", b"\\u0085")
    return encoded


def errorEvent(error: APIError) -> bytes:
    """
    The last event of a stream that could not be completed. Nothing follows
    it: no C{[DONE]}, and no clean end.
    """
    body = errorBody(error)
    return _join((b"data: ", body if body.isascii() else _escaped(body), b"\n\n"))


class ChunkTemplates:
    """
    The chunks of one answer. Every method returns the bytes of one whole
    event, which belongs into one write.
    """

    def __init__(
        self,
        id: str,
        created: int,
        model: str,
        includeUsage: bool = False,
        reasoningField: ReasoningField = "reasoning_content",
        legacy: bool = False,
    ) -> None:
        """
        @param created: seconds since 1970.
        @param includeUsage: the client asked for a usage chunk; then every
            other chunk says C{"usage": null}.
        @param legacy: calls are shown in the shape of the deprecated
            C{functions}.
        """
        chunk = {"id": id, "object": "chat.completion.chunk", "created": created, "model": model}
        self._start = b"data: " + jsonLine(chunk)[:-1] + b',"choices":['
        self._usage = b',"usage":null' if includeUsage else b""
        self._isLegacy = legacy
        self._head = self._start + b'{"index":0,"delta":{'
        self._tail = b'},"logprobs":null,"finish_reason":null}]' + self._usage + b"}\n\n"
        self._textHead = self._head + b'"content":'
        self._textBetween = self._tail + self._textHead
        self._reasoningHeads = [self._keyHead(key) for key in REASONING_KEYS[reasoningField]]

    def _keyHead(self, key: str) -> bytes:
        return b'"%b":' % key.encode()

    def _delta(self, members: bytes) -> bytes:
        return _join((self._head, members, self._tail))

    def role(self) -> bytes:
        """
        The first chunk: who speaks, nothing said yet.
        """
        return self._delta(b'"role":"assistant","content":"","refusal":null')

    def text(self, *pieces: str) -> bytes:
        """
        Pieces of the answer, an event each.
        """
        events = _join((self._textHead, self._textBetween.join(map(_encode, pieces)), self._tail))
        return events if events.isascii() else _escaped(events)

    def reasoning(self, text: str) -> bytes:
        """
        A piece of reasoning; no bytes at all when it is not to be shown.
        """
        if not self._reasoningHeads:
            return b""
        encoded = jsonLine(text)
        return self._delta(b",".join([head + encoded for head in self._reasoningHeads]))

    def callStart(self, index: int, id: str, name: str, *, isCustom: bool = False) -> bytes:
        """
        A call begins: the only chunk with its id, type and name.

        @param index: counts the calls of this answer from 0, without gaps.
        """
        if self._isLegacy:
            return self._delta(b'"function_call":{"name":%b,"arguments":""}' % jsonLine(name))
        kind, arguments = _shape(isCustom)
        return self._delta(
            b'"tool_calls":[{"index":%d,"id":%b,"type":"%b","%b":{"name":%b,"%b":""}}]'
            % (index, jsonLine(id), kind, kind, jsonLine(name), arguments)
        )

    def callArguments(self, index: int, piece: str, *, isCustom: bool = False) -> bytes:
        """
        A piece of a call's arguments, or of a custom tool's input.
        """
        if self._isLegacy:
            return self._delta(b'"function_call":{"arguments":%b}' % jsonLine(piece))
        kind, arguments = _shape(isCustom)
        return self._delta(
            b'"tool_calls":[{"index":%d,"%b":{"%b":%b}}]' % (index, kind, arguments, jsonLine(piece))
        )

    def finish(self, reason: str) -> bytes:
        """
        The chunk that says why the answer is over.
        """
        said = b'},"logprobs":null,"finish_reason":"%b"}]' % reason.encode()
        return _join((self._head, said, self._usage, b"}\n\n"))

    def usage(self, usage: Usage | None) -> bytes:
        """
        The usage chunk, after the finish chunk: a client that asked for it
        gets one, with zeros when the worker said nothing.
        """
        return _join((self._start, b'],"usage":', _encode(usage or Usage()), b"}\n\n"))

    def keepAlive(self) -> bytes:
        """
        A chunk that says nothing, for a silent line. Never the first one.
        """
        return self._delta(b"")


def _shape(isCustom: bool) -> tuple[bytes, bytes]:
    # The type of a call, and the key of what it is called with.
    return (b"custom", b"input") if isCustom else (b"function", b"arguments")
