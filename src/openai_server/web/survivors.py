# -*- test-case-name: tests.flow.test_background -*-
"""
Answers that are made though their clients may have left.
"""

from __future__ import annotations

from collections.abc import Callable

from openai_server.errors import APIError
from openai_server.web.response import Response


class Survivors:
    """
    The answers that a shutdown waits for, beside those of open requests.

    @ivar onNone: called when there is none any more.
    """

    def __init__(self) -> None:
        self.onNone: Callable[[], None] = lambda: None
        self._responses: set[Response] = set()

    def __len__(self) -> int:
        """
        Return how many there are.
        """
        return len(self._responses)

    def begun(self, response: Response) -> None:
        """
        There is one more.
        """
        self._responses.add(response)

    def ended(self, response: Response) -> None:
        """
        An answer has ended, one of these or not.
        """
        if response in self._responses:
            self._responses.remove(response)
            if not self._responses:
                self.onNone()

    def cut(self) -> None:
        """
        End all of them: the server cannot wait any longer.
        """
        said = "The server is shutting down and could not wait for the end of this answer."
        for response in list(self._responses):
            response.cut(APIError("shutting_down", said, mayRetry=False))
