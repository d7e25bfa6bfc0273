# -*- test-case-name: tests.test_toydialect -*-
"""
What a dialect is: a reader of requests and a writer of answers, both without
any I/O. The table of routes names the dialect of each path.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from openai_server.api.inquiry import Inquiry
from openai_server.api.keeping import Keeping, RecordsWanted
from openai_server.api.output import Output
from openai_server.errors import APIError


class Renderer(Protocol):
    """
    Writes one answer, as a stream or whole.

    @cvar streamType: the content type of a stream.
    @cvar bodyType: the content type of a whole answer.
    @cvar errorIsEnd: whether a stream that ends with L{error} is complete,
        because its events say themselves that the answer is not; if not, its
        connection is cut.
    """

    streamType: bytes
    bodyType: bytes
    errorIsEnd: bool

    def start(self) -> bytes:
        """
        Return the first bytes of a stream; empty where the dialect has none.
        """

    def feed(self, events: Sequence[Output]) -> bytes:
        """
        Return what these events add to a stream: whole events of the stream,
        for one write, or nothing at all when none of them is shown. The last
        event of an answer adds the end of the stream as well.
        """

    def keepAlive(self) -> bytes:
        """
        Return what a silent stream says as a sign of life; empty where it is
        to stay silent. Never the first bytes of a stream.
        """

    def error(self, error: APIError) -> bytes:
        """
        Return the last bytes of a stream that cannot be completed.
        """

    def body(self, events: Sequence[Output]) -> bytes:
        """
        Return the whole answer.

        @param events: all of them; the last one is a C{Finished}.
        """


class Dialect(Protocol):
    """
    One of the languages in which clients ask.

    @ivar name: a word for logs and metrics.
    """

    @property
    def name(self) -> str: ...

    def parse(self, body: bytes, model: str | None = None) -> Inquiry | RecordsWanted:
        """
        Return what a request asks, or the records without which it cannot be
        read.

        @param body: as it came; its size is bounded by whoever read it.
        @param model: what its path asks for, whatever the body says; None for
            a path that names no model.
        @raise APIError: 400, with C{param} where one field is at fault.
        """

    def renderer(self, inquiry: Inquiry) -> Renderer:
        """
        Return what writes the answer to an inquiry of this dialect's.
        """

    def keeping(self, inquiry: Inquiry) -> Keeping | None:
        """
        Return how the answer to an inquiry is kept; None where it is not to be.
        """
