# -*- test-case-name: tests.web -*-
"""
What the parts of this room know of each other.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from openai_server.errors import End


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
