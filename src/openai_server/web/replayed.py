# -*- test-case-name: tests.flow.test_keys -*-
"""
An answer that has ended in another process, or before a restart.
"""

from __future__ import annotations

from openai_server.api.inquiry import Inquiry, NamedAnswer
from openai_server.api.output import Failed, Finished, Output, Usage, rowFromJSON
from openai_server.api.renderer import Renderer
from openai_server.sessions.answerkeys import KeptReply
from openai_server.web.delivery import Delivery
from openai_server.web.interfaces import Request
from openai_server.web.response import tooLongAgain


class ReplayedAnswer:
    """
    Gives a client a kept answer, as L{openai_server.web.response.Response}
    gives one that is made.
    """

    isAbandoned = False

    def __init__(self, reply: KeptReply, inquiry: Inquiry) -> None:
        """
        @param inquiry: the same question, asked again.
        @raise APIError: the answer was too long to be kept.
        """
        if reply.output is None:
            raise tooLongAgain()
        said = rowFromJSON(reply.output)
        self.output: list[Output] | None = said[:-1]
        self.session = reply.session
        self.verdict = reply.verdict
        self.own = inquiry.own
        if reply.names is not None and isinstance(inquiry.own, NamedAnswer):
            self.own = inquiry.own.named(*reply.names)
        self._said = said
        self._isStreamed = inquiry.isStreamed
        if isinstance(last := said[-1], Failed):
            # What could be asked again was not kept.
            last.error.mayRetry = False

    def said(self) -> list[Output]:
        """
        Return all of it.
        """
        return self._said

    def usage(self) -> Usage:
        """
        Return what it has cost.
        """
        last = self._said[-1]
        return (last.usage if isinstance(last, (Finished, Failed)) else None) or Usage()

    def attach(
        self, request: Request, renderer: Renderer, keepAliveInterval: float, *, isAlone: bool = False
    ) -> None:
        """
        Give a client the answer.
        """
        Delivery(self, request, renderer, self._isStreamed, keepAliveInterval).conclude(self._said)

    # Nothing is made any more that could be stopped.

    def abandon(self) -> None:
        """
        A client is not given it.
        """

    def notDelivered(self) -> None:
        """
        A client was not given it.
        """

    def clientGone(self, delivery: Delivery, mayReturn: bool) -> None:
        """
        A client has left.
        """

    def delivered(self, inGoodOrder: bool) -> None:
        """
        A client has it, or has left.
        """
