# -*- test-case-name: tests.api.responses.test_resume -*-
"""
The rest of a stream, for a client that has its beginning.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from openai_server.api.output import Output
from openai_server.api.renderer import Renderer
from openai_server.api.sse import DONE
from openai_server.errors import APIError

_END: Final = b"\n\n"


class ResumedRenderer:
    """
    Writes an answer from its beginning, and leaves out the first events.

    Events are numbered as they are written, and what is written follows from
    the output alone: so the rest is the same as it was, or would have been, on
    another connection.
    """

    def __init__(self, renderer: Renderer, after: int) -> None:
        """
        @param renderer: a new one.
        @param after: the number of the last event to be left out, the first
            one's being 0.
        """
        self.streamType = renderer.streamType
        self.bodyType = renderer.bodyType
        self.errorIsEnd = renderer.errorIsEnd
        self.keepAlive = renderer.keepAlive
        self.body = renderer.body
        self._renderer = renderer
        self._left = after + 1

    def start(self) -> bytes:
        """
        Return what is left of the first bytes.
        """
        return self._rest(self._renderer.start())

    def feed(self, events: Sequence[Output]) -> bytes:
        """
        Return what is left of these events.
        """
        return self._rest(self._renderer.feed(events))

    def error(self, error: APIError) -> bytes:
        """
        Return what is left of the end.
        """
        return self._rest(self._renderer.error(error))

    def _rest(self, data: bytes) -> bytes:
        at = 0
        while self._left and at < len(data) and not data.startswith(DONE, at):
            at = data.index(_END, at) + len(_END)
            self._left -= 1
        return data[at:]
