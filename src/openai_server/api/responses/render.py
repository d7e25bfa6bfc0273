# -*- test-case-name: tests.api.responses.test_render -*-
"""
Responses as bytes: a stream of numbered events, or one object.

What is shown is a row of items, one after the other, and at most one is open:
text and reasoning come piece by piece and stay open until something else
comes; calls and tools come whole. Items are numbered as they come, and their
ids follow from their numbers, so a stream and an object that are made of the
same output have the same items::

    start: created, in_progress
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
    Ending,
    Part,
    RefusalPart,
    SummaryPart,
    WholeItem,
    itemFromCall,
    itemFromTool,
)
from openai_server.api.sse import DONE, STREAM_TYPE, jsonLine
from openai_server.errors import APIError

#: The events that every stream begins with; output may be written before them.
_BEGINNINGS: Final = (b"response.created", b"response.in_progress")
#: Why a response is incomplete.
_INCOMPLETE: Final[dict[FinishReason, str]] = {
    "length": "max_output_tokens",
    "content_filter": "content_filter",
}


class ResponsesRenderer:
    """
    Writes one answer; see L{openai_server.api.dialect.Renderer} for what each
    method gives.

    @ivar _sequence: the number of the next event.
    @ivar _items: those that are done.
    @ivar _hasMessage: whether one of them, or the open one, is a message.
    @ivar _kind: what the open part is; None when none is open.
    @ivar _pieces: what it says so far.
    @ivar _tools: those of the worker's that are called and not yet done, by
        what tells them apart.
    """

    __slots__ = (
        "_deltaHead",
        "_hasMessage",
        "_id",
        "_items",
        "_keepAlive",
        "_kind",
        "_now",
        "_object",
        "_pieces",
        "_sequence",
        "_showsReasoning",
        "_showsTools",
        "_token",
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
        self._object = ResponseObject(head)
        self._token = head.token.encode()
        self._now = now
        self._showsReasoning = showsReasoning and head.showsReasoning
        self._showsTools = showsTools
        self._keepAlive = keepAlive
        self._sequence = len(_BEGINNINGS)
        self._hasMessage = False
        self._items: list[bytes] = []
        self._kind: type[Part] | None = None
        self._id = b""
        self._pieces: list[str] = []
        self._deltaHead = b""
        self._tools: dict[str, WorkerTool] = {}

    # A stream.

    def start(self) -> bytes:
        """
        Return the events of a response that has begun.
        """
        begun = b'"response":%b' % self._object.unfinished()
        return b"".join([_written(kind, number, begun) for number, kind in enumerate(_BEGINNINGS)])

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
        """
        return self._event(b"keepalive") if self._keepAlive is None else self._keepAlive

    def error(self, error: APIError) -> bytes:
        """
        Return what closes the open item, and the response's failure.
        """
        closed = self._close("incomplete")
        failed = self._object.failed(b",".join(self._items), error)
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
        return self.error(event.error)

    def _event(self, kind: bytes, members: bytes = b"") -> bytes:
        number = self._sequence
        self._sequence = number + 1
        return _written(kind, number, members)

    # Items.

    @property
    def _ownId(self) -> bytes:
        # Of the item that comes next.
        return b"%b_%d" % (self._token, len(self._items))

    @property
    def _place(self) -> bytes:
        # Of the item that comes next, or is open.
        return b'"output_index":%d' % len(self._items)

    def _say(self, kind: type[Part], pieces: Sequence[str]) -> bytes:
        if self._kind is kind:
            return self._more(pieces)
        return self._open(kind) + self._more(pieces)

    def _open(self, kind: type[Part]) -> bytes:
        closed = self._close("completed")
        self._kind = kind
        self._hasMessage |= kind is not SummaryPart
        self._id = id = b"%b_%b" % (kind.prefix, self._ownId)
        place = self._place
        self._deltaHead = b'event: %b\ndata: {"type":"%b","item_id":"%b",%b,%b"delta":' % (
            kind.delta,
            kind.delta,
            id,
            place,
            kind.deltaMembers,
        )
        item = kind.item(id, "in_progress", b"")
        added = self._event(b"response.output_item.added", b'%b,"item":%b' % (place, item))
        return closed + added + self._ofItem(*kind.added(kind.part(b'""')))

    def _more(self, pieces: Sequence[str]) -> bytes:
        self._pieces += pieces
        head, number = self._deltaHead, self._sequence
        self._sequence = number + len(pieces)
        if len(pieces) == 1:
            return b'%b%b,"sequence_number":%d}\n\n' % (head, jsonLine(pieces[0]), number)
        return b"".join(
            [
                b'%b%b,"sequence_number":%d}\n\n' % (head, jsonLine(piece), at)
                for at, piece in enumerate(pieces, number)
            ]
        )

    def _close(self, ending: Ending) -> bytes:
        kind = self._kind
        if kind is None:
            return b""
        text = jsonLine("".join(self._pieces))
        part = kind.part(text)
        item = kind.item(self._id, ending, part)
        said = [self._ofItem(*each) for each in kind.done(text, part)]
        said.append(self._event(b"response.output_item.done", b'%b,"item":%b' % (self._place, item)))
        self._items.append(item)
        self._kind = None
        self._pieces = []
        return b"".join(said)

    def _ofItem(self, kind: bytes, members: bytes) -> bytes:
        said = b'"item_id":"%b",%b' % (self._id, self._place)
        return self._event(kind, b"%b,%b" % (said, members) if members else said)

    def _whole(self, make: Callable[[bytes], WholeItem]) -> bytes:
        closed = self._close("completed")
        item = make(self._ownId)
        self._id = item.id
        place = self._place
        said = [closed, self._event(b"response.output_item.added", b'%b,"item":%b' % (place, item.begun))]
        said += [self._ofItem(*each) for each in item.events]
        said.append(self._event(b"response.output_item.done", b'%b,"item":%b' % (place, item.item)))
        self._items.append(item.item)
        return b"".join(said)

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
        if isinstance(last, Failed):
            return self._object.failed(items, last.error)
        return self._object.unfinished(items)

    def cancelledBody(self, events: Sequence[Output]) -> bytes:
        """
        Return the object of a response that was cancelled.
        """
        self.body([event for event in events if type(event) is not Finished and type(event) is not Failed])
        return self._object.cancelled(b",".join(self._items))


def _written(kind: bytes, number: int, members: bytes) -> bytes:
    rest = b",%b" % members if members else b""
    return b'event: %b\ndata: {"type":"%b","sequence_number":%d%b}\n\n' % (kind, kind, number, rest)
