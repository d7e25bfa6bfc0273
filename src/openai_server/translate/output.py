# -*- test-case-name: tests.translate.test_output -*-
"""
What a turn shows, as the output of an answer.
"""

from __future__ import annotations

from collections.abc import Container, Sequence
from typing import Any, Final

from openai_server.api.output import Failed, Finished, Output, Reasoning, Text, WorkerTool
from openai_server.errors import APIError
from openai_server.translate.fence import FenceStrip
from openai_server.translate.figures import isAllZero, usageFromWorker
from openai_server.translate.stop import StopSearch
from openai_server.translate.words import apiErrorFromError, apiErrorFromLoss, cleaned, meaningOf
from openai_server.wire.ends import Lost, TurnEnd, endingOf
from openai_server.wire.tones import Chunk, Error, Finish, Shown, ToolCall

#: The types of deltas that need no look at each.
_STRINGS: Final = {str}
#: The kinds of chunks that are text, or say where some begins and ends.
_TEXTUAL: Final = {"text_start", "text_delta", "content_block_stop"}


class Translation:
    """
    Makes the output of one answer from the tones of its turn.

    Deltas pass unchanged: nothing is trimmed, normalised or interpreted. No
    order between tones is relied on. What is hidden never comes out, and what
    is not known is skipped.

    @ivar isStopped: whether a stop string was found: the text before it has
        been given, nothing after it will be, and the turn may be cancelled.
    """

    __slots__ = (
        "_fence",
        "_hasCalls",
        "_hasSeen",
        "_hasText",
        "_isPlain",
        "_ownCalls",
        "_stop",
        "isStopped",
    )

    def __init__(
        self,
        stop: Sequence[str] = (),
        stripFence: bool = False,
        ownCalls: Container[str] = (),
        seen: bool = False,
    ) -> None:
        """
        @param stop: cut the text at the first of these; reasoning is not
            searched.
        @param stripFence: take a surrounding Markdown fence off the text.
        @param ownCalls: ids of calls that the client answers: what the worker
            tells of them is left out.
        @param seen: the turn goes on from an earlier answer, so its worker
            has acted already.
        """
        self._stop = StopSearch(stop) if stop else None
        self._fence = FenceStrip() if stripFence else None
        self._isPlain = self._stop is None and self._fence is None
        self._ownCalls = ownCalls
        self._hasSeen = seen
        self._hasCalls = False
        self._hasText = False
        self.isStopped = False

    def feed(self, tones: Sequence[Shown]) -> list[Output]:
        """
        Return what some tones of the turn make, in order.
        """
        if self._isPlain:
            # Most often there is nothing but text, and nothing to do with it.
            if len(tones) == 1:
                tone = tones[0]
                isText = type(tone) is Chunk and tone.chunkType == "text_delta"
                if isText and tone.delta and type(tone.delta) is str:  # type: ignore[union-attr]
                    self._hasSeen = self._hasText = True
                    return [Text([tone.delta])]  # type: ignore[union-attr]
            pieces = [tone.delta for tone in tones if type(tone) is Chunk and tone.chunkType == "text_delta"]
            isText = len(pieces) == len(tones) or _kindsOf(tones) <= _TEXTUAL
            if isText and set(map(type, pieces)) == _STRINGS and "" not in pieces:
                self._hasSeen = self._hasText = True
                return [Text(pieces)]
        return self._feedEach(tones)

    def _feedEach(self, tones: Sequence[Shown]) -> list[Output]:
        events: list[Output] = []
        for tone in tones:
            if type(tone) is Chunk:
                self._hasSeen = True
                if tone.chunkType == "text_delta":
                    self._text(tone.delta, events)
                else:
                    self._chunk(tone, events)
            elif type(tone) is ToolCall:
                self._hasSeen = self._hasCalls = True
        return events

    def _chunk(self, chunk: Chunk, events: list[Output]) -> None:
        kind = chunk.chunkType
        if kind == "reasoning_delta":
            self._reasoning(chunk.delta, events)
        elif kind is None and isinstance(chunk.part, dict):
            self._part(chunk.part, events)
        elif kind in ("tool_input_start", "tool_executed"):
            self._tool(chunk.toolName, chunk.callId, kind == "tool_executed", events)

    def _part(self, part: dict[Any, Any], events: list[Output]) -> None:
        # The chunk of the wire specification; workers of humd 0.31.18 send
        # the other dialect.
        if part.get("type") == "text":
            self._text(part.get("text"), events)
        elif part.get("type") == "reasoning":
            self._reasoning(part.get("text"), events)
        elif part.get("type") == "tool":
            self._tool(part.get("toolName") or part.get("name"), part.get("callId"), False, events)

    def _text(self, text: Any, events: list[Output]) -> None:
        if type(text) is not str or not text or self.isStopped:
            return
        self._hasText = True
        if self._stop is not None:
            text = self._stop.feed(text)
        self._give(self._fence.feed(text) if self._fence is not None else text, events)
        if self._stop is not None and self._stop.isStopped:
            self.isStopped = True
            self._give(self._held(), events)

    @staticmethod
    def _give(text: str, events: list[Output]) -> None:
        if text and events and isinstance(events[-1], Text):
            events[-1].pieces.append(text)
        elif text:
            events.append(Text([text]))

    def _reasoning(self, text: Any, events: list[Output]) -> None:
        if type(text) is str and text and not self.isStopped:
            events.append(Reasoning(text))

    def _tool(self, name: Any, callId: Any, isDone: bool, events: list[Output]) -> None:
        if not self.isStopped and not (isinstance(callId, str) and callId in self._ownCalls):
            events.append(WorkerTool(cleaned(name)[:100] or "a tool", isDone))

    def _held(self) -> str:
        held = self._stop.finish() if self._stop is not None else ""
        if self._fence is not None:
            held = self._fence.feed(held) + self._fence.finish()
        return held

    def flush(self) -> list[Output]:
        """
        What was held back, because the answer ends here, whatever the turn
        does: its calls are handed to the client.
        """
        events: list[Output] = []
        self._give(self._held(), events)
        return events

    def finish(self, end: TurnEnd) -> list[Output]:
        """
        The last events of the answer: what was held back, and either
        L{Finished} or L{Failed}.
        """
        return [*self.flush(), self._last(end)]

    def _last(self, end: TurnEnd) -> Output:
        if self.isStopped:
            return Finished("stop", usageFromWorker(getattr(end, "usage", None)))
        if isinstance(end, Finish):
            return self._finished(end)
        if isinstance(end, Lost):
            return Failed(apiErrorFromLoss(end))
        return self._failed(end)

    def _finished(self, finish: Finish) -> Output:
        ending = endingOf(finish.finishReason)
        if finish.exitCode is not None:
            return _broken("The worker's process ended without a result.")
        if ending == "error":
            return _broken("The worker ended the turn with an error.")
        if not self._hasText and not self._hasCalls and isAllZero(finish.usage):
            return _broken("The worker lost the answer.")
        return Finished(ending, usageFromWorker(finish.usage))

    def _failed(self, error: Error) -> Output:
        meaning = meaningOf(error)
        if meaning.reason is not None and (self._hasText or not meaning.isAfterText):
            return Finished(meaning.reason, usageFromWorker(error.usage))
        return Failed(apiErrorFromError(error, seen=self._hasSeen))


def _kindsOf(tones: Sequence[Shown]) -> set[str | None]:
    """
    The kinds of chunks that there are, and None for everything else.
    """
    return {tone.chunkType if type(tone) is Chunk else None for tone in tones}


def _broken(said: str) -> Failed:
    return Failed(APIError("worker_error", said, mayRetry=False))
