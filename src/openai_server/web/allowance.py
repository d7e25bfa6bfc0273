# -*- test-case-name: tests.flow.test_keys -*-
"""
What a request takes of the limits of its account.
"""

from __future__ import annotations

from collections.abc import Coroutine
from typing import Any, Final, TypeVar

from msgspec.structs import replace

from openai_server.accounts.limiter import Limiter
from openai_server.accounts.meter import Reservation
from openai_server.translate.estimate import promptSize, tokensOf
from openai_server.web.interfaces import Request
from openai_server.web.response import Response
from openai_server.web.submission import Submission
from openai_server.web.turnreports import nameOf

_T = TypeVar("_T")


class Allowance:
    """
    What one request has reserved. Of an account without limits there is
    nothing.
    """

    __slots__ = ("_reserved",)

    def __init__(self, reserved: Reservation | None) -> None:
        self._reserved = reserved

    def drop(self) -> None:
        """
        Give it back: no turn of this request's own has begun.
        """
        if self._reserved is not None:
            self._reserved.drop()

    async def keptBy(self, work: Coroutine[Any, Any, _T]) -> _T:
        """
        Return what some work gives. Where it fails, this is given back.
        """
        try:
            return await work
        except BaseException:
            self.drop()
            raise

    async def boundBy(self, asking: Coroutine[Any, Any, Response]) -> Response:
        """
        Ask, and note which turn will tell what it cost.
        """
        response = await self.keptBy(asking)
        if self._reserved is not None:
            if response.ended is None:
                self._reserved.bind(nameOf(response.conversation.context))
            else:
                self._reserved.drop()
        return response


async def allowanceFor(request: Request, submission: Submission, limiter: Limiter) -> Allowance:
    """
    Let a request in, and say what is left then.

    @raise APIError: it is beyond a limit.
    """
    assert request.account is not None
    letting = limiter.letIn(request.account, lambda: _estimateOf(submission))
    reserved = letting if letting is None or isinstance(letting, Reservation) else await letting
    if reserved is not None:
        for name, value in limiter.headers(request.account):
            request.setHeader(name, value)
        if not submission.inquiry.isBackground:
            request.whenOver().addCallback(lambda _: reserved.drop())
        return Allowance(reserved)
    return _NOTHING


_NOTHING: Final = Allowance(None)


def _estimateOf(submission: Submission) -> int:
    """
    Return the tokens of all questions of a request.
    """
    inquiry, offer = submission.inquiry, submission.offer
    further = [promptSize(replace(inquiry, messages=each), offer) for each in inquiry.others]
    return tokensOf(promptSize(inquiry, offer) + sum(further))
