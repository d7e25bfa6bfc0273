# -*- test-case-name: tests.test_toydialect -*-
"""
What writes answers, in any dialect.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

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
        @raise APIError: they are not what was asked for.
        """
