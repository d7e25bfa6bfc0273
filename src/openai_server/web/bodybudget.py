# -*- test-case-name: tests.web.test_bodybudget -*-
"""
What all bodies together may hold while they are received.

Each body has its own limit, but a limit times the connections that there may
be is more memory than a machine has.
"""

from __future__ import annotations

from typing import Final

from openai_server.errors import APIError

#: Seconds after which there may be room again: a body is received in less.
RETRY_SECONDS: Final = 2


class BodyBudget:
    """
    Bytes of bodies that are being received.

    @ivar held: how many there are now, decoded.
    """

    def __init__(self, most: int, largest: int) -> None:
        """
        @param most: how many there may be.
        @param largest: bytes that one body may have, for which there is room in
            any case.
        """
        self.held = 0
        self._most = max(most, largest)

    def share(self) -> BodyShare:
        """
        Return what one body holds of it: nothing yet.
        """
        return BodyShare(self)

    def take(self, size: int) -> None:
        """
        Hold more bytes.

        @raise APIError: 503, there is no room for them.
        """
        if self.held + size > self._most:
            said = "The server is receiving too many large requests at once."
            raise APIError("bodies_over_budget", said, retryAfter=RETRY_SECONDS)
        self.held += size

    def giveBack(self, size: int) -> None:
        """
        Hold them no longer.
        """
        self.held -= size


class BodyShare:
    """
    What one body holds of a budget.
    """

    __slots__ = ("_budget", "_held")

    def __init__(self, budget: BodyBudget) -> None:
        self._budget = budget
        self._held = 0

    def grow(self, size: int) -> None:
        """
        The body grows by this many bytes.

        @raise APIError: 503, there is no room for them.
        """
        self._budget.take(size)
        self._held += size

    def release(self) -> None:
        """
        The body is taken or given up. May be said more than once.
        """
        self._budget.giveBack(self._held)
        self._held = 0
