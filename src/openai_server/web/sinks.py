# -*- test-case-name: tests.web.test_sinks -*-
"""
Where the output of an exchange becomes bytes for one HTTP request: a stream of
server-sent events, or one body at the end.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from twisted.internet.defer import Deferred

from openai_server.api.dialect import Renderer
from openai_server.api.output import Failed, Finished, Output, Text, ToolCalls
from openai_server.errors import End
from openai_server.web.streaming import EventStream


class StreamSink:
    """
    Writes events as they come. The headers go out with the first event that
    is shown, or when they have been held back for long enough; a failure
    before that is raised and becomes a status.

    @ivar outcome: fires with None when the stream has been ended, or fails
        with an C{APIError} when it never began.
    """

    def __init__(self, stream: EventStream, renderer: Renderer, setEnd: Callable[[End], None]) -> None:
        self.outcome: Deferred[None] = Deferred()
        self.hasBegun = False
        self._stream = stream
        self._renderer = renderer
        self._setEnd = setEnd

    def holdPassed(self) -> None:
        """
        Send the headers and what a stream says first.
        """
        if not self.hasBegun:
            self._stream.write(self._begin())

    def _begin(self) -> bytes:
        first = self._renderer.start()
        self._stream.begin(self._renderer.streamType)
        self.hasBegun = True
        return first

    def give(self, events: Sequence[Output]) -> None:
        """
        Send some more of the answer.
        """
        last = events[-1]
        if isinstance(last, Failed):
            self._fail(events[:-1], last)
            return
        data = self._renderer.feed(events)
        if data:
            self._stream.write(data if self.hasBegun else self._begin() + data)
        if isinstance(last, Finished):
            self._stream.finish()
            self.outcome.callback(None)

    def _fail(self, before: Sequence[Output], failed: Failed) -> None:
        if before:
            self.give(before)
        if not self.hasBegun:
            self.outcome.errback(failed.error)
            return
        self._setEnd(failed.error.kind.end)
        self._stream.fail(self._renderer.error(failed.error))
        self.outcome.callback(None)


class WholeSink:
    """
    Collects events until they make a body.

    @ivar outcome: fires with None when the answer is complete, or fails with
        an C{APIError}.
    @ivar hasBegun: a body is sent at once or not at all.
    @ivar events: what was given so far.
    """

    hasBegun = False

    def __init__(self) -> None:
        self.outcome: Deferred[None] = Deferred()
        self.events: list[Output] = []

    def holdPassed(self) -> None:
        """
        Do nothing: the status of a body waits for its end.
        """

    @property
    def text(self) -> str:
        """
        What was said so far.
        """
        return "".join([piece for event in self.events if type(event) is Text for piece in event.pieces])

    @property
    def hasCalls(self) -> bool:
        """
        Whether the answer ends with tool calls.
        """
        return any(type(event) is ToolCalls for event in self.events)

    @property
    def hasUsage(self) -> bool:
        """
        Whether the worker told what the answer cost.
        """
        last = self.events[-1] if self.events else None
        return isinstance(last, Finished) and last.usage is not None

    def give(self, events: Sequence[Output]) -> None:
        """
        Keep some more of the answer.
        """
        self.events += events
        last = events[-1]
        if isinstance(last, Failed):
            self.outcome.errback(last.error)
        elif isinstance(last, Finished):
            self.outcome.callback(None)
