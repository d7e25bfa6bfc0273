# -*- test-case-name: tests.flow.test_refusals -*-
"""
Answers that are to be JSON of a schema: checked, and asked for once more.
"""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from typing import Any, Final

from twisted.internet.defer import CancelledError, Deferred
from twisted.python.failure import Failure

from openai_server.api.inquiry import Message
from openai_server.api.output import Failed, Finished
from openai_server.errors import APIError
from openai_server.translate.schema import checkAnswer
from openai_server.web.keeper import ResponseKeeper
from openai_server.web.mistakes import errorFromMistake
from openai_server.web.response import Response
from openai_server.web.submission import Submission

_REPAIR: Final = (
    "Your last answer is not valid against the JSON Schema that was asked for. "
    "Answer again, with the corrected JSON and nothing else."
)


class SchemaCheck:
    """
    Checks answers against their schemas, and has them repaired.
    """

    def __init__(
        self,
        keeper: ResponseKeeper,
        ask: Callable[[Submission], Coroutine[Any, Any, Response]],
        repairs: bool,
    ) -> None:
        """
        @param ask: asks a question for an answer that no client attends.
        @param repairs: whether an answer that is not valid is asked for again.
        """
        self._keeper = keeper
        self._ask = ask
        self._repairs = repairs

    def check(self, submission: Submission, response: Response, finished: Finished) -> Deferred[None] | None:
        """
        Check a whole answer before it is given.

        @return: fires when it was repaired, as well as that can be; None when
            it is as it should be.
        """
        schema = submission.inquiry.format.schema
        assert schema is not None
        text = response.text
        verdict = "unchecked" if text is None else checkAnswer(text, schema)
        response.verdict = verdict.encode()
        if verdict != "invalid" or not self._repairs:
            return None
        repairing = Deferred.fromCoroutine(self._repair(submission, response, finished))
        return repairing.addErrback(self._failed, response)

    @staticmethod
    def _failed(failure: Failure, response: Response) -> None:
        """
        Nobody waits for the repair any more, or a mistake of ours ended it:
        then the response must not wait for ever.
        """
        if not failure.check(CancelledError):
            error = errorFromMistake(failure, "of a schema's repair", "repair")
            response.conclude(Failed(error))

    async def _repair(self, submission: Submission, first: Response, finished: Finished) -> None:
        """
        Ask once more, in the same session. When that fails too, the first
        answer is better than none. The session has seen what is given.
        """
        schema, text = submission.inquiry.format.schema, first.text
        assert schema is not None and text is not None
        session = first.conversation.context.session
        seen = session.seen.copy()
        self._keeper.told(first)
        await first.conversation.whenSettled()
        said = Message(role="assistant", content=text)
        again = submission.followedBy(said, Message(role="user", content=_REPAIR))
        second: Response | None = None
        try:
            second = await self._ask(again)
            await second.whenEnded()
        except APIError:
            pass
        except CancelledError:
            if second is not None:
                second.abandon()
            raise
        response, verdict, usage, isEstimated = first, b"invalid", finished.usage, finished.isEstimated
        if second is not None and type(second.ended) is Finished:
            usage = usage + second.ended.usage if usage and second.ended.usage else usage
            isEstimated |= second.ended.isEstimated
            if not second.calls and second.text is not None and checkAnswer(second.text, schema) != "invalid":
                response, verdict = second, b"repaired"
        session.seen = seen
        first.verdict = verdict
        first.conclude(Finished(finished.reason, usage, isEstimated), response.output or [])
