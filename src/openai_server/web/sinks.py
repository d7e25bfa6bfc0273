# -*- test-case-name: tests.web.test_sinks -*-
"""
Where the events of an exchange become bytes for one HTTP request: a stream of
server-sent events, or one body at the end.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from twisted.internet.defer import Deferred

from openai_server.api.completion import FinishReason, ReasoningField, completionBody
from openai_server.api.sse import DONE, ChunkTemplates, errorEvent
from openai_server.errors import APIError, End
from openai_server.translate.chat import Failed, Finished, Reasoning, Text
from openai_server.web.exchange import Called, Given
from openai_server.web.streaming import EventStream


@dataclass(frozen=True)
class Heading:
    """
    What is the same in every byte of one answer.

    @ivar created: seconds since 1970.
    @ivar isLegacy: the request had C{functions} and is answered in their shape.
    """

    id: str
    created: int
    model: str
    reasoningField: ReasoningField
    includeUsage: bool = False
    isLegacy: bool = False

    def reason(self, reason: FinishReason) -> FinishReason:
        """
        The finish reason in the words that this client knows.
        """
        return "function_call" if self.isLegacy and reason == "tool_calls" else reason

    def templates(self) -> ChunkTemplates:
        """
        The chunks of a streamed answer.
        """
        return ChunkTemplates(
            id=self.id,
            created=self.created,
            model=self.model,
            includeUsage=self.includeUsage,
            reasoningField=self.reasoningField,
            legacy=self.isLegacy,
        )


class StreamSink:
    """
    Writes events as they come. The headers go out with the first event, or
    when they have been held back for long enough; a failure before that is
    raised and becomes a status.

    @ivar outcome: fires with None when the stream has been ended, or fails
        with an C{APIError} when it never began.
    @ivar chunks: the chunks of this answer.
    """

    def __init__(
        self,
        stream: EventStream,
        heading: Heading,
        setEnd: Callable[[End], None],
    ) -> None:
        self.outcome: Deferred[None] = Deferred()
        self.hasBegun = False
        self._stream = stream
        self._heading = heading
        self._setEnd = setEnd
        self.chunks = heading.templates()

    def holdPassed(self) -> None:
        """
        Send the headers and the first chunk, which says nothing yet.
        """
        if not self.hasBegun:
            self._stream.write(self._begin())

    def _begin(self) -> bytes:
        self._stream.begin()
        role = self.chunks.role()
        self.hasBegun = True
        return role

    def give(self, events: Sequence[Given]) -> None:
        """
        See L{Sink.give<openai_server.web.exchange.Sink.give>}.
        """
        pieces: list[bytes] = []
        if not self.hasBegun:
            first = events[0]
            if type(first) is Failed:
                self.outcome.errback(first.error)
                return
            pieces.append(self._begin())
        for event in events:
            if type(event) is Text:
                pieces.append(self.chunks.text(*event.pieces))
            elif type(event) is Reasoning:
                pieces.append(self.chunks.reasoning(event.text))
            elif type(event) is Called:
                self._calls(event, pieces)
            elif type(event) is Finished:
                self._finish(event, pieces)
                return
            elif type(event) is Failed:
                self._fail(event.error, pieces)
                return
        self._write(pieces)

    def _write(self, pieces: Sequence[bytes]) -> None:
        # Reasoning that is not to be shown makes no bytes.
        data = b"".join(pieces)
        if data:
            self._stream.write(data)

    def _calls(self, called: Called, pieces: list[bytes]) -> None:
        for index, call in enumerate(called.calls):
            isCustom = call.kind == "custom"
            pieces.append(self.chunks.callStart(index, call.id, call.name, isCustom=isCustom))
            pieces.append(self.chunks.callArguments(index, call.arguments, isCustom=isCustom))

    def _finish(self, event: Finished, pieces: list[bytes]) -> None:
        pieces.append(self.chunks.finish(self._heading.reason(event.reason)))
        if self._heading.includeUsage:
            pieces.append(self.chunks.usage(event.usage))
        pieces.append(DONE)
        self._write(pieces)
        self._stream.finish()
        self.outcome.callback(None)

    def _fail(self, error: APIError, pieces: list[bytes]) -> None:
        self._write(pieces)
        self._setEnd(error.kind.end)
        self._stream.fail(errorEvent(error))
        self.outcome.callback(None)


class WholeSink:
    """
    Collects events until they make a body.

    @ivar outcome: fires with None when the answer is complete, or fails with
        an C{APIError}.
    @ivar hasBegun: a body is sent at once or not at all.
    """

    hasBegun = False

    def __init__(self, heading: Heading) -> None:
        self.outcome: Deferred[None] = Deferred()
        self._heading = heading
        self._text: list[str] = []
        self._reasoning: list[str] = []
        self._called = Called(())
        self._finished: Finished | None = None

    def holdPassed(self) -> None:
        """
        Nothing: the status of a body waits for its end.
        """

    @property
    def text(self) -> str:
        """
        What was said so far.
        """
        return "".join(self._text)

    @property
    def hasCalls(self) -> bool:
        """
        The answer ends with tool calls.
        """
        return bool(self._called.calls)

    @property
    def hasUsage(self) -> bool:
        """
        The worker told what the answer cost.
        """
        return self._finished is not None and self._finished.usage is not None

    def give(self, events: Sequence[Given]) -> None:
        """
        See L{Sink.give<openai_server.web.exchange.Sink.give>}.
        """
        for event in events:
            match event:
                case Text():
                    self._text += event.pieces
                case Reasoning():
                    self._reasoning.append(event.text)
                case Called():
                    self._called = event
                case Failed():
                    self.outcome.errback(event.error)
                case Finished():
                    self._finished = event
                    self.outcome.callback(None)
                case _:
                    pass

    def body(self) -> bytes:
        """
        The whole answer, when it is complete.
        """
        assert self._finished is not None
        return completionBody(
            id=self._heading.id,
            created=self._heading.created,
            model=self._heading.model,
            text=self.text,
            finishReason=self._heading.reason(self._finished.reason),
            reasoning="".join(self._reasoning),
            reasoningField=self._heading.reasoningField,
            calls=self._called.calls,
            isLegacy=self._heading.isLegacy,
            usage=self._finished.usage,
        )
