# -*- test-case-name: tests.web -*-
"""
What the parts of this room know of each other.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from openai_server.errors import APIError, End


@dataclass(frozen=True)
class Account:
    """
    Whose request this is.

    @ivar name: the same for the same key as long as the process lives, and
        no way back to the key; C{anonymous} where no key is needed.
    """

    name: str


class Owner(Protocol):
    """
    Who answers a request.
    """

    def clientGone(self, end: End) -> None:
        """
        The client is gone, or was cut, before its answer was complete.
        """

    def delivered(self, inGoodOrder: bool) -> None:
        """
        The answer was complete, and the client has it, or has left before it
        had all of it.
        """


class StreamWords(Protocol):
    """
    What a stream says beside what is written to it: a
    L{Renderer<openai_server.api.dialect.Renderer>} does.

    @ivar streamType: its content type.
    @ivar errorIsEnd: whether a stream whose last words are an error is
        complete; if not, it is cut behind them.
    """

    streamType: bytes
    errorIsEnd: bool

    def keepAlive(self) -> bytes:
        """
        Return what is said after a silence; empty for nothing.
        """

    def error(self, error: APIError) -> bytes:
        """
        Return the last words of a stream that cannot be completed.
        """
