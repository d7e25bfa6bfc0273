# -*- test-case-name: tests.ask.test_events -*-
"""
A stream of events, as the text of an answer. Pure.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

import msgspec

#: Bytes of one event.
MAX_EVENT: Final = 16 * 2**20


class AskError(Exception):
    """
    There is no answer, or not the whole of it. The message is what the user
    is told.
    """


class ErrorObject(msgspec.Struct):
    """
    What OpenAI's API says of an error, as far as it is shown.
    """

    message: str
    code: str | int | None = None


class _Delta(msgspec.Struct):
    content: str | None = None
    refusal: str | None = None


class _Choice(msgspec.Struct):
    delta: _Delta = msgspec.field(default_factory=_Delta)
    finish_reason: str | None = None


class _Event(msgspec.Struct):
    choices: list[_Choice] = []
    error: Any = None


class EventParser:
    """
    Bytes of C{text/event-stream} in, the data of whole events out. Other
    fields and comments are skipped; an event that was not ended by its blank
    line never comes out.
    """

    def __init__(self) -> None:
        self._partial: list[bytes] = []
        self._data: list[bytes] = []
        self._size = 0
        self._endedInCR = False
        self._isFirstLine = True

    def feed(self, received: bytes) -> list[str]:
        """
        @param received: the next bytes, cut anywhere.
        @return: the data of each event that is whole now.
        @raise AskError: an event is larger than L{MAX_EVENT}.
        """
        if not received:
            return []
        if self._endedInCR:
            received = received.removeprefix(b"\n")
        self._endedInCR = received.endswith(b"\r")
        first, *rest = received.replace(b"\r\n", b"\n").replace(b"\r", b"\n").split(b"\n")
        self._collect(first)
        events = []
        for start in rest:
            events += self._endLine()
            self._collect(start)
        return events

    def _collect(self, piece: bytes) -> None:
        self._partial.append(piece)
        self._size += len(piece)
        if self._size > MAX_EVENT:
            raise AskError(f"the server sent an event of more than {MAX_EVENT} bytes")

    def _endLine(self) -> list[str]:
        line = b"".join(self._partial)
        self._partial = []
        if self._isFirstLine:
            self._isFirstLine = False
            line = line.removeprefix(b"\xef\xbb\xbf")
        if line:
            field, _, value = line.partition(b":")
            if field == b"data":
                self._data.append(value.removeprefix(b" "))
            return []
        data, self._data, self._size = self._data, [], 0
        return [b"\n".join(data).decode("utf-8", "replace")] if data else []


class Answer:
    """
    The stream of one answer, as text.

    @ivar isWhole: C{[DONE]} was seen.
    @ivar finishReason: what the server gave as the reason of the end.
    """

    def __init__(self, write: Callable[[str], object]) -> None:
        self._write = write
        self._parser = EventParser()
        self.isWhole = False
        self.finishReason: str | None = None

    def receive(self, received: bytes) -> bool:
        """
        Write the text of what came.

        @return: whether the answer is whole.
        @raise AskError: the server reports an error in the stream, or does not
            send chunks of a chat completion.
        """
        for data in self._parser.feed(received):
            if data == "[DONE]":
                self.isWhole = True
                break
            self._chunk(data)
        return self.isWhole

    def _chunk(self, data: str) -> None:
        try:
            event = msgspec.json.decode(data, type=_Event)
        except msgspec.MsgspecError as reason:
            raise AskError(f"the server sent an event that is no chunk of an answer: {reason}") from None
        if event.error:
            raise AskError(sentenceFromError(event.error))
        for choice in event.choices:
            self.finishReason = choice.finish_reason or self.finishReason
            text = (choice.delta.content or "") + (choice.delta.refusal or "")
            if text:
                self._write(text)


def sentenceFromError(reported: object) -> str:
    """
    What an C{error} member of a body or an event says, with its code.
    """
    try:
        found = msgspec.convert(reported, ErrorObject)
    except msgspec.ValidationError:
        return str(reported)
    return f"{found.message} ({found.code})" if found.code is not None else found.message
