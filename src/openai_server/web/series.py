# -*- test-case-name: tests.flow.test_completions -*-
"""
Requests that ask several questions: each is asked by itself when the one before
it is answered, and all answers are one.
"""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Sequence
from functools import partial
from typing import Any

from twisted.internet.defer import CancelledError, Deferred
from twisted.python.failure import Failure

from openai_server.api.output import Failed, Finished, Output, Separator, Text
from openai_server.errors import APIError
from openai_server.web.mistakes import errorFromMistake
from openai_server.web.response import Response
from openai_server.web.submission import Submission


class Series:
    """
    Goes on with the next question where an answer ends well.
    """

    def __init__(self, ask: Callable[[Submission], Coroutine[Any, Any, Response]]) -> None:
        """
        @param ask: asks a question for an answer that no client attends.
        """
        self._ask = ask

    def goOn(self, submission: Submission, response: Response, finished: Finished) -> Deferred[None]:
        """
        Ask what else the request asks, and say what is answered in the first
        question's response.

        @param finished: the end of the first answer.
        @return: fires when all questions are answered, or one has failed.
        """
        going = Deferred.fromCoroutine(self._goOn(submission, response, finished))
        return going.addErrback(self._failed, response)

    @staticmethod
    def _failed(failure: Failure, response: Response) -> None:
        error = failure.value
        if isinstance(error, CancelledError):
            # Nobody reads the response any more.
            return
        if not isinstance(error, APIError):
            error = errorFromMistake(failure, "of several questions", "series")
        # What was asked before has run.
        response.conclude(Failed(APIError(error.name, error.message, param=error.param, mayRetry=False)))

    async def _goOn(self, submission: Submission, response: Response, finished: Finished) -> None:
        for messages in submission.inquiry.others:
            response.add([Separator(finished.reason)])
            part = await self._ask(submission.saying(messages))
            part.listener = partial(_say, response)
            try:
                await part.whenEnded()
            except CancelledError:
                part.abandon()
                raise
            if isinstance(part.ended, Failed):
                raise part.ended.error
            assert part.ended is not None
            finished = _sum(finished, part.ended)
        response.conclude(finished)


def _say(response: Response, events: Sequence[Output]) -> None:
    # Each response keeps its texts, and adds to them.
    response.add([Text(list(event.pieces)) if isinstance(event, Text) else event for event in events])


def _sum(former: Finished, last: Finished) -> Finished:
    assert former.usage is not None and last.usage is not None
    return Finished(last.reason, former.usage + last.usage, former.isEstimated or last.isEstimated)
