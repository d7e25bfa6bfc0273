# -*- test-case-name: tests.api.responses.test_render -*-
"""
Responses as bytes: a stream of numbered events, or one object.

What is shown is a row of items, one after the other, and at most one is open:
text and reasoning come piece by piece and stay open until something else
comes; calls and tools come whole. Items are numbered as they come, and their
ids follow from their numbers, so a stream and an object that are made of the
same output have the same items::

    start: created, in_progress         in the background: created, queued, in_progress
        |
        v        Text, Reasoning           another kind, or the end
      nothing open ---------------> open part ---------------------> nothing open
        |  ^                          |   ^
        |  | ToolCalls, WorkerTool    +---+ one delta a piece
        +--+ item by item
        |
        v Finished, error
      completed | incomplete | failed, then [DONE]
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Final

from openai_server.api.output import (
    Failed,
    Finished,
    FinishReason,
    Output,
    Reasoning,
    Text,
    ToolCalls,
    WorkerTool,
)
from openai_server.api.responses.answer import ResponseHead, ResponseObject
from openai_server.api.responses.items import (
    REFUSAL,
    Part,
    RefusalPart,
    SummaryPart,
    itemFromCall,
    itemFromTool,
)
from openai_server.api.responses.writer import ItemWriter, written
from openai_server.api.sse import DONE, STREAM_TYPE
from openai_server.errors import APIError

#: The events that every stream begins with; output may be written before them.
_BEGINNINGS: Final = (b"response.created", b"response.in_progress")
#: Those of a response in the background: it has waited in all of them but the last.
_BACKGROUND: Final = (b"response.created", b"response.queued", b"response.in_progress")
#: Why a response is incomplete.
_INCOMPLETE: Final[dict[FinishReason, str]] = {
    "length": "max_output_tokens",
    "content_filter": "content_filter",
}


class ResponsesRenderer(ItemWriter):
    """
    Writes one answer; see L{openai_server.api.dialect.Renderer} for what each
    method gives.

    @ivar _tools: those of the worker's that are called and not yet done, by
        what tells them apart.
    """

    __slots__ = (
        "_beginnings",
        "_keepAlive",
        "_now",
        "_object",
        "_showsReasoning",
        "_showsTools",
        "_tools",
    )

    streamType: bytes = STREAM_TYPE
    bodyType: bytes = b"application/json"
    errorIsEnd: bool = True

    def __init__(
        self,
        head: ResponseHead,
        *,
        now: Callable[[], float],
        showsReasoning: bool = True,
        showsTools: bool = False,
        keepAlive: bytes | None = None,
    ) -> None:
        """
        @param now: the wall clock, in seconds since 1970.
        @param showsReasoning: whether it is shown where a request asks for it.
        @param showsTools: whether the tools that the worker runs by itself are
            shown.
        @param keepAlive: what a silent stream says; None for an event.
        """
        self._beginnings = _BACKGROUND if head.isBackground else _BEGINNINGS
        super().__init__(head.token, len(self._beginnings))
        self._object = ResponseObject(head)
        self._now = now
        self._showsReasoning = showsReasoning and head.showsReasoning
        self._showsTools = showsTools
        self._keepAlive = keepAlive
        self._tools: dict[str, WorkerTool] = {}

    # A stream.

    def start(self) -> bytes:
        """
        Return the events of a response that has begun.
        """
        begun = b'"response":%b' % self._object.unfinished()
        if self._beginnings is _BEGINNINGS:
            return b"".join([written(kind, number, begun) for number, kind in enumerate(_BEGINNINGS)])
        last = len(_BACKGROUND) - 1
        queued = b'"response":%b' % self._object.queued()
        return b"".join(
            [
                written(kind, number, begun if number == last else queued)
                for number, kind in enumerate(_BACKGROUND)
            ]
        )

    def feed(self, events: Sequence[Output]) -> bytes:
        """
        Return the events of this output.
        """
        if len(events) == 1:
            event = events[0]
            if type(event) is Text and self._kind is Part:
                return self._more(event.pieces)
        return b"".join([self._events(event) for event in events])

    def keepAlive(self) -> bytes:
        """
        Return an event that says nothing, or what was set for a sign of life.

        It is no event of the response's: whoever reads that later, or another
        connection now, is silent at other times. So it has the number of the
        last event, and any number that a client has seen is good for
        C{starting_after}.
        """
        if self._keepAlive is not None:
            return self._keepAlive
        return written(b"keepalive", self._sequence - 1, b"")

    def error(self, error: APIError) -> bytes:
        """
        Return what closes the open item, and the response's failure.
        """
        return self._failed(Failed(error))

    def _failed(self, event: Failed) -> bytes:
        closed = self._close("incomplete")
        failed = self._object.failed(b",".join(self._items), event.error, event.usage)
        return closed + self._event(b"response.failed", b'"response":%b' % failed) + DONE

    def _events(self, event: Output) -> bytes:
        if isinstance(event, Text):
            return self._say(Part, event.pieces)
        if isinstance(event, Reasoning):
            return self._say(SummaryPart, [event.text]) if self._showsReasoning else b""
        if isinstance(event, WorkerTool):
            return self._tool(event)
        if isinstance(event, ToolCalls):
            return b"".join([self._whole(partial(itemFromCall, call)) for call in event.calls])
        if isinstance(event, Finished):
            return self._finish(event)
        assert isinstance(event, Failed)
        return self._failed(event)

    def _tool(self, tool: WorkerTool) -> bytes:
        # Items do not overlap, and tools may: each is shown when it is done.
        if not self._showsTools:
            return b""
        key = tool.id or tool.name
        if not tool.isDone:
            self._tools[key] = tool
            return b""
        self._tools.pop(key, None)
        return self._whole(partial(itemFromTool, tool))

    # The end.

    def _finish(self, finished: Finished) -> bytes:
        said, ended = self._ended(finished)
        kind = b"response.completed" if finished.reason not in _INCOMPLETE else b"response.incomplete"
        return said + self._event(kind, b'"response":%b' % ended) + DONE

    def _ended(self, finished: Finished) -> tuple[bytes, bytes]:
        """
        Return the last events of the items, and the response's object.
        """
        reason = _INCOMPLETE.get(finished.reason)
        said = b"".join([self._whole(partial(itemFromTool, tool)) for tool in self._tools.values()])
        if finished.reason == "content_filter" and not self._hasMessage:
            said += self._say(RefusalPart, [REFUSAL])
        elif finished.reason == "stop" and not self._hasMessage:
            said += self._open(Part)
        said += self._close("completed" if reason is None else "incomplete")
        items = b",".join(self._items)
        return said, self._object.finished(items, finished.usage, int(self._now()), reason)

    # A whole answer.

    def body(self, events: Sequence[Output]) -> bytes:
        """
        Return a C{response} object, of an answer that failed or goes on too.
        """
        last = events[-1] if events else None
        for event in events:
            if type(event) is Text:
                # Nobody reads the deltas.
                event = Text(["".join(event.pieces)])
            if type(event) is not Finished and type(event) is not Failed:
                self._events(event)
        if isinstance(last, Finished):
            return self._ended(last)[1]
        self._close("incomplete")
        items = b",".join(self._items)
        if not isinstance(last, Failed):
            return self._object.unfinished(items)
        if last.isCancelled:
            return self._object.cancelled(items, last.usage)
        return self._object.failed(items, last.error, last.usage)

    def queuedBody(self) -> bytes:
        """
        Return the object of a response that waits for its turn.
        """
        return self._object.queued()
