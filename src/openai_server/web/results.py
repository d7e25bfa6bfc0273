# -*- test-case-name: tests.flow.test_calls -*-
"""
What a request brings for the calls of a turn that waits.
"""

from __future__ import annotations

from functools import partial
from itertools import groupby
from typing import Final

from twisted.internet.defer import TimeoutError

from openai_server.errors import APIError, End
from openai_server.sessions.calls import ParkedCall
from openai_server.sessions.chains import Transcript
from openai_server.sessions.conversation import Conversation
from openai_server.sessions.ids import isPublicCallId
from openai_server.sessions.matching import Match, Outcome
from openai_server.sessions.retries import Attempt
from openai_server.translate.tools import resultText
from openai_server.web.keeper import ResponseKeeper
from openai_server.web.response import Response
from openai_server.web.submission import Submission, Submitter

#: Seconds that a late result waits for its turn to settle.
SETTLE_PATIENCE: Final = 10.0

#: What stands before words that came with a result, by the role that said them.
_ALSO: Final = {
    "user": "The user adds to this result:",
    "system": "An instruction of the system came with this result:",
}


class WaitingTurns:
    """
    Answers requests that have to do with calls of a turn that waits for them.
    """

    def __init__(self, submitter: Submitter, keeper: ResponseKeeper) -> None:
        self._submitter = submitter
        self._keeper = keeper

    async def answerTo(
        self,
        submission: Submission,
        attempt: Attempt[Response] | None,
        conversation: Conversation,
        match: Match,
    ) -> Response:
        """
        Return what answers such a request: the same turn, or a new one.

        @raise APIError: 400, some of the results are missing; or what asking
            raises.
        """
        attend = partial(self._keeper.newResponse, submission, attempt)
        if match.outcome is Outcome.SOME:
            raise missing(match, submission.inquiry.messagesParam)
        if match.outcome is Outcome.ALL and not bringsFiles(submission, match):
            response = attend(conversation, None)
            try:
                conversation.resume(resultsAndMoreFrom(submission, match), response)
            except APIError:
                if (turns := self._submitter.turns) is not None:
                    turns.keep(conversation)
                raise
            told = sorted([*(at for _, at in match.results), *match.extra])
            conversation.context.session.toldResults(submission.transcript, match.answer, told)
            return response
        if match.outcome is not Outcome.LATE:
            conversation.giveUp(resultsFrom(submission, match))
            return await self._submitter.ask(submission, attend)
        await self._settled(conversation, match)
        if submission.transcript.showsHistory:
            return await self._submitter.ask(submission, attend)
        # A client that keeps no history brings nothing but the result.
        named = submission.naming({at: call.clientName for call, at in match.results})
        attend = partial(self._keeper.newResponse, named, attempt)
        return await self._submitter.ask(named, attend, conversation.context.session)

    async def _settled(self, conversation: Conversation, match: Match) -> None:
        for call, _ in match.results:
            self._submitter.calls.taken(call)
        try:
            await conversation.whenSettled().addTimeout(SETTLE_PATIENCE, self._submitter.clock)
        except TimeoutError:
            conversation.cancel(End.STALLED)


def bringsOnlyResults(transcript: Transcript) -> bool:
    """
    Return whether a request says nothing but what came of calls of this
    server's.
    """
    told = transcript.told
    return bool(told) and all(isPublicCallId(entry.resultFor or "") for entry in told)


def bringsFiles(submission: Submission, match: Match) -> bool:
    """
    Return whether more than text comes with the results. A result is text
    alone: the rest needs a new turn.
    """
    added = (submission.inquiry.messages[at] for at in match.extra)
    return any(message.hasMedia for message in added)


def resultsFrom(submission: Submission, match: Match) -> list[tuple[ParkedCall, str]]:
    """
    Return each answered call with its result.
    """
    messages = submission.inquiry.messages
    return [(call, resultText(messages[at].content)) for call, at in match.results]


def resultsAndMoreFrom(submission: Submission, match: Match) -> list[tuple[ParkedCall, str]]:
    """
    Return the same, with all that was said beside the results in the last one.
    """
    results = resultsFrom(submission, match)
    call, text = results[-1]
    results[-1] = (call, text + _added(submission, match))
    return results


def missing(match: Match, param: str) -> APIError:
    """
    Return the error of a request that answers only some of the calls.

    @param param: where its messages stand.
    """
    ids = ", ".join(call.publicId for call in match.missing)
    said = f"All calls of an answer are answered together. These have no result: {ids}."
    return APIError("invalid_value", said, param=param)


def _added(submission: Submission, match: Match) -> str:
    added = (submission.inquiry.messages[at] for at in match.extra)
    text = ""
    for whose, run in groupby(added, lambda message: _ALSO[message.role]):
        said = "\n\n".join(filter(None, (message.text for message in run)))
        text += f"\n\n[{whose}]\n{said}" if said else ""
    return text
