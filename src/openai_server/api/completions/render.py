# -*- test-case-name: tests.api.completions.test_render -*-
"""
The answers of legacy completions, as bytes: a stream of chunks, or one object.

The same object stands for both. There is no first chunk without text, and
nothing but text is shown: no reasoning, no tools. Source: OpenAI's reference.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

import msgspec

from openai_server.api.output import Failed, Finished, Output, Separator, Text, Usage
from openai_server.api.sse import DONE, STREAM_TYPE, errorEvent, jsonLine
from openai_server.api.usage import usageJSON
from openai_server.errors import APIError

_encode = msgspec.json.Encoder().encode

_CHOICE: Final = b'%b{"text":%b,"index":%d,"logprobs":null,"finish_reason":%b}]%b}\n\n'


class CompletionRenderer:
    """
    Writes one answer; see L{openai_server.api.dialect.Renderer} for what each
    method gives.
    """

    __slots__ = ("_created", "_echoes", "_id", "_index", "_keepAlive", "_model", "_start", "_tail")

    streamType: bytes = STREAM_TYPE
    bodyType: bytes = b"application/json"

    def __init__(
        self,
        id: str,
        created: int,
        model: str,
        echoes: Sequence[str],
        *,
        wantsUsage: bool = False,
        keepAlive: bytes | None = None,
    ) -> None:
        """
        @param created: seconds since 1970.
        @param echoes: what the text of each choice begins with.
        @param wantsUsage: whether the stream is to end with a usage chunk;
            then every other chunk says C{"usage": null}.
        @param keepAlive: what a silent stream says; None for an empty chunk.
        """
        self._id = id
        self._created = created
        self._model = model
        self._echoes = echoes
        self._index = 0
        self._keepAlive = keepAlive
        self._tail = b',"usage":null' if wantsUsage else b""
        self._start = b'data: {"id":"%b","object":"text_completion","created":%d,"model":%b,"choices":[' % (
            id.encode(),
            created,
            jsonLine(model),
        )

    # A stream.

    def start(self) -> bytes:
        """
        Return the prompt where it is to be echoed.
        """
        echo = self._echoes[self._index]
        return self._chunk(echo) if echo else b""

    def feed(self, events: Sequence[Output]) -> bytes:
        """
        Return the chunks of these events.
        """
        return b"".join([self._chunks(event) for event in events])

    def keepAlive(self) -> bytes:
        """
        Return a chunk that says nothing, or what was set for a sign of life.
        """
        return self._chunk("") if self._keepAlive is None else self._keepAlive

    def error(self, error: APIError) -> bytes:
        """
        Return the error as the stream's last event.
        """
        return errorEvent(error)

    def _chunks(self, event: Output) -> bytes:
        if isinstance(event, Text):
            return b"".join(map(self._chunk, event.pieces))
        if isinstance(event, Separator):
            end = self._chunk("", jsonLine(event.reason))
            self._index += 1
            return end + self.start()
        if isinstance(event, Finished):
            return self._chunk("", jsonLine(event.reason)) + self._end(event)
        return errorEvent(event.error) if isinstance(event, Failed) else b""

    def _chunk(self, text: str, reason: bytes = b"null") -> bytes:
        return _CHOICE % (self._start, jsonLine(text), self._index, reason, self._tail)

    def _end(self, finished: Finished) -> bytes:
        if not self._tail:
            return DONE
        # Whoever asked for the usage gets one, with zeros when the worker
        # said nothing.
        usage = usageJSON(finished.usage or Usage())
        return b'%b],"usage":%b}\n\n%b' % (self._start, usage, DONE)

    # A whole answer.

    def body(self, events: Sequence[Output]) -> bytes:
        """
        Return a C{text_completion} object with a choice for each prompt.
        """
        finished = events[-1]
        assert isinstance(finished, Finished)
        choices: list[dict[str, Any]] = []
        text = [self._echoes[0]]
        for event in events:
            if isinstance(event, Text):
                text += event.pieces
            elif isinstance(event, Separator | Finished):
                said = {"text": "".join(text), "index": len(choices)}
                choices.append({**said, "logprobs": None, "finish_reason": event.reason})
                text = list(self._echoes[len(choices) : len(choices) + 1])
        body: dict[str, Any] = {
            "id": self._id,
            "object": "text_completion",
            "created": self._created,
            "model": self._model,
            "choices": choices,
        }
        if finished.usage is not None:
            body["usage"] = msgspec.Raw(usageJSON(finished.usage))
        return _encode(body)
