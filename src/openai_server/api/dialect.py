# -*- test-case-name: tests.test_dialects -*-
"""
The seam for dialects: what makes questions of bodies, and bytes of answers.

A dialect is one folder and one line in the table of routes. Neither it nor
its renderers do any I/O.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from openai_server.api.chat import ChatRequest as Inquiry
from openai_server.api.output import Finished, Output
from openai_server.errors import APIError


class Renderer(Protocol):
    """
    Makes the bytes of one answer.

    @cvar streamType: the content type of a stream.
    @cvar bodyType: the content type of a whole body.
    """

    streamType: bytes
    bodyType: bytes

    def start(self) -> bytes:
        """
        Return the first bytes of a stream, before anything is known.
        """

    def feed(self, events: Sequence[Output]) -> bytes:
        """
        Return what one batch of events adds to a stream: whole events of the
        dialect's, in one piece. After a C{Finished} the stream is complete.
        """

    def keepAlive(self) -> bytes:
        """
        Return what a silent stream says; nothing where it is to be silent.
        """

    def error(self, error: APIError) -> bytes:
        """
        Return what ends a stream that has begun and cannot be completed.
        """

    def body(self, events: Sequence[Output], end: Finished) -> bytes:
        """
        Return the whole answer of a request that is not streamed.
        """


class Dialect(Protocol):
    """
    One of the languages in which clients ask.
    """

    def parse(self, body: bytes) -> Inquiry:
        """
        Read a request.

        @raise APIError: 400, with the path of the field at fault.
        """

    def renderer(self, inquiry: Inquiry) -> Renderer:
        """
        Return a renderer of one answer to this request.
        """
