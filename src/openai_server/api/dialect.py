# -*- test-case-name: tests.test_toydialect -*-
"""
What a dialect is: a reader of requests and a writer of answers, both without
any I/O. The table of routes names the dialect of each path.
"""

from __future__ import annotations

from typing import Protocol

from openai_server.api.inquiry import Inquiry
from openai_server.api.keeping import Keeping, RecordsWanted
from openai_server.api.renderer import Renderer


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
