# -*- test-case-name: tests.flow.test_background -*-
"""
An answer that is being made, for those who ask for it by its id.
"""

from __future__ import annotations

from twisted.internet.defer import Deferred, fail, succeed

from openai_server.api.keeping import Keeping
from openai_server.api.output import Output
from openai_server.errors import APIError
from openai_server.web.response import Response


class RunningAnswer:
    """
    An answer that is being made.

    @ivar account: whose it is; see L{placeOf}.
    @ivar keeping: how it will be kept.
    @ivar response: what is made; None while it waits to be asked.
    @ivar asking: asks it, until it is asked; else None.
    @ivar isShared: whether other processes know of it.
    """

    __slots__ = ("_error", "_waiting", "account", "asking", "isShared", "keeping", "response")

    def __init__(self, account: str, keeping: Keeping, response: Response | None) -> None:
        self.account = account
        self.keeping = keeping
        self.response = response
        self.asking: Deferred[None] | None = None
        self.isShared = False
        self._error: APIError | None = None
        self._waiting: list[Deferred[Response]] = []

    def said(self) -> list[Output] | None:
        """
        Return all that was said; None where it waits to be asked.
        """
        return None if self.response is None else self.response.said()

    def whenAsked(self) -> Deferred[Response]:
        """
        Fires with what is made when it does not wait to be asked any more;
        fails with an L{APIError} where that came to nothing.
        """
        if self.response is not None:
            return succeed(self.response)
        if self._error is not None:
            return fail(self._error)
        waiting: Deferred[Response] = Deferred(self._waiting.remove)
        self._waiting.append(waiting)
        return waiting

    def wasAsked(self, response: Response) -> None:
        """
        Tell those who wait.
        """
        self.response = response
        self.asking = None
        waiting, self._waiting = self._waiting, []
        for each in waiting:
            each.callback(response)

    def wasNotAsked(self, error: APIError) -> None:
        """
        Tell those who wait that it came to nothing.
        """
        self._error = error
        self.asking = None
        waiting, self._waiting = self._waiting, []
        for each in waiting:
            each.errback(error)
