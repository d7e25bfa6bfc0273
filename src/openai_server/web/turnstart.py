# -*- test-case-name: tests.flow -*-
"""
What answers a question that nothing answers yet: a turn that waits for its
results, or a new one.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from msgspec.structs import replace
from twisted.internet.defer import Deferred

from openai_server.api.inquiry import Inquiry
from openai_server.api.keeping import RecordsWanted
from openai_server.errors import callExpired
from openai_server.sessions.answerkeys import AnswerKeys, KeptReply, keyInUse
from openai_server.sessions.conversation import Conversation
from openai_server.sessions.matching import Match, Outcome, matchFromTranscript
from openai_server.sessions.parkedturns import LastingTurns
from openai_server.sessions.restoring import Restoration
from openai_server.sessions.retries import Attempt, Retries
from openai_server.web.exchanges import Exchanges
from openai_server.web.keeper import ResponseKeeper
from openai_server.web.kept import KeptAnswers
from openai_server.web.repair import SchemaCheck
from openai_server.web.response import Response, tooLongAgain
from openai_server.web.results import WaitingTurns, bringsOnlyResults
from openai_server.web.series import Series
from openai_server.web.submission import Submission, Submitter
from openai_server.web.survivors import Survivors


class TurnStart:
    """
    Begins what answers questions.
    """

    def __init__(
        self,
        submitter: Submitter,
        retries: Retries[Response],
        modelIsKnown: Callable[[str], bool],
        kept: KeptAnswers,
        exchanges: Exchanges,
        survivors: Survivors,
        restoration: Restoration | None = None,
        keys: AnswerKeys | None = None,
    ) -> None:
        """
        @param modelIsKnown: tells whether a model that nobody serves now may
            come back.
        @param kept: the answers that are kept.
        @param exchanges: answers in conversations.
        @param survivors: those that are made with nobody attached.
        @param restoration: of what earlier processes have left; None where
            they leave nothing.
        @param keys: of attempts, where they outlast the process.
        """
        self._submitter = submitter
        self._retries = retries
        if keys is not None:
            retries.onForgotten = keys.forget
        keeper = self._keeper = ResponseKeeper(
            submitter.clock,
            submitter.memory,
            retries,
            kept,
            survivors,
            modelIsKnown,
            submitter.turns,
            keys,
            tellsTools=submitter.configuration.workerTools,
            letsFinish=submitter.configuration.onDisconnect == "finish",
        )
        self._exchanges = exchanges
        self._restoration = restoration
        self._keys = keys
        self._shared = None if restoration is None else restoration.shared
        self._waiting = WaitingTurns(submitter, keeper)
        self._series = Series(self._askAgain)
        self._schemas = SchemaCheck(keeper, self._askAgain, submitter.configuration.schemaRepair)

    def stop(self) -> None:
        """
        Forget what was kept for retries.
        """
        self._retries.stop()
        self._keeper.stop()

    async def joined(self, attempt: Attempt[Response]) -> Response | KeptReply | None:
        """
        Return what answers the same request already, here or, under a key,
        elsewhere or before.
        """
        joined = self._retries.join(attempt)
        while isinstance(joined, Deferred):
            joined = await joined or self._retries.join(attempt)
        if joined is None:
            return await self._claimed(attempt)
        if joined.output is None:
            raise tooLongAgain()
        return joined

    async def _claimed(self, attempt: Attempt[Response]) -> KeptReply | None:
        if self._keys is None or attempt.key is None:
            return None
        try:
            reply = await self._keys.claim(attempt)
        except BaseException:
            self._retries.forget(attempt)
            raise
        if reply is not None:
            # Who else waits for it asks for it himself.
            self._retries.forget(attempt)
        return reply

    async def answerTo(
        self, submission: Submission, attempt: Attempt[Response] | None, wanted: RecordsWanted | None
    ) -> Response:
        """
        Return what answers a question.

        @param wanted: the records that were needed to read it; None for none.
        @raise APIError: it is not answered, and nothing is left behind.
        """
        if wanted is not None and wanted.conversation is not None:
            return await self._inConversation(submission, attempt, wanted)
        return await self._first(submission, attempt)

    async def _inConversation(
        self,
        submission: Submission,
        attempt: Attempt[Response] | None,
        wanted: RecordsWanted,
    ) -> Response:
        """
        Return what answers a question in a conversation, when it is its turn:
        more may have been said there since it was read.
        """

        async def ask(inquiry: Inquiry) -> Response:
            asked = replace(inquiry, own=submission.inquiry.own)
            return await self._first(self._submitter.workedOut(asked, submission), attempt)

        try:
            return await self._exchanges.answer(submission.account, wanted, ask)
        except BaseException:
            if attempt is not None:
                self._retries.forget(attempt)
            raise

    async def _first(self, submission: Submission, attempt: Attempt[Response] | None) -> Response:
        """
        Return what answers a question that nothing answers yet.
        """
        if attempt is not None and self._keys is not None:
            submission.onSending = partial(self._keys.sending, attempt)
        try:
            await self._whenTurnsAreKnown(submission)
            if submission.inquiry.isIsolated:
                return await self._ask(submission, attempt)
            return await self._goOnOrAsk(submission, attempt)
        except BaseException:
            if attempt is not None:
                self._retries.forget(attempt)
            raise

    async def _whenTurnsAreKnown(self, submission: Submission) -> None:
        """
        Wait until all turns are known that a question may answer calls of:
        those that the daemon still has of earlier processes, and those of
        others that live.
        """
        if self._submitter.upstreams.whyNotReady is not None:
            # Until then others may answer calls, and another daemon knows none.
            await self._submitter.upstreams.reach()
        while self._restoration is not None and (restored := self._restoration.whenDone()) is not None:
            await restored
        if self._shared is not None and not submission.inquiry.isIsolated:
            await self._shared.bring(submission.account, submission.transcript)

    async def _goOnOrAsk(self, submission: Submission, attempt: Attempt[Response] | None) -> Response:
        """
        Go on with the turn whose calls are answered; without one, ask.

        @raise APIError: C{call_expired}, there are results and nothing else,
            and no turn waits for them.
        """
        match = self._match(submission)
        if isinstance(match.owner, Conversation):
            match = await self._whenReachable(submission, match)
        turns = self._submitter.turns
        if turns is not None and turns.mustBeTaken(match):
            await self._noteTaken(turns, match)
            match = self._match(submission)
            if match.outcome is not Outcome.ALL and attempt is not None:
                # The same request may have been quicker; this one is not to wait for itself.
                self._retries.forget(attempt)
                joined = await self.joined(attempt)
                if isinstance(joined, KeptReply):
                    # Another process was quicker still.
                    raise keyInUse()
                if joined is not None:
                    return joined
        if isinstance(match.owner, Conversation):
            response = await self._waiting.answerTo(submission, attempt, match.owner, match)
            return self._begun(submission, attempt, response)
        if bringsOnlyResults(submission.transcript):
            raise callExpired()
        return await self._ask(submission, attempt)

    async def _whenReachable(self, submission: Submission, match: Match) -> Match:
        """
        Wait until a turn can be told of its results, and the attempt to tell it
        is noted.

        @return: what the request does with parked calls then.
        """
        assert isinstance(match.owner, Conversation)
        if match.outcome is Outcome.ALL:
            upstreams = self._submitter.upstreams
            upstream = upstreams.having(match.owner.context.session)
            if not upstream.isReachable:
                await upstreams.reach([upstream])
                match = self._match(submission)
        if isinstance(match.owner, Conversation) and submission.onSending is not None:
            await submission.onSending()
            match = self._match(submission)
        return match

    async def _ask(self, submission: Submission, attempt: Attempt[Response] | None) -> Response:
        attend = partial(self._keeper.newResponse, submission, attempt)
        return self._begun(submission, attempt, await self._submitter.ask(submission, attend))

    def _begun(
        self, submission: Submission, attempt: Attempt[Response] | None, response: Response
    ) -> Response:
        """
        Note what answers a question, and what is to be done when it ends.
        """
        if attempt is not None and response.ended is None:
            self._retries.begin(attempt, response)
        elif attempt is not None:
            # It failed while it was asked.
            self._retries.forget(attempt)
        if submission.inquiry.format.schema is not None and not submission.inquiry.isStreamed:
            response.check = partial(self._schemas.check, submission, response)
        elif submission.inquiry.others:
            response.check = partial(self._series.goOn, submission, response)
        return response

    @staticmethod
    async def _noteTaken(turns: LastingTurns, match: Match) -> None:
        """
        Note that these results are used, before they are.
        """
        assert isinstance(match.owner, Conversation)
        noted = turns.taking(match.owner, [call for call, _ in match.results])
        try:
            if noted is not None:
                await noted
        except BaseException:
            turns.notUsed(match.owner)
            raise

    def _match(self, submission: Submission) -> Match:
        return matchFromTranscript(self._submitter.calls, submission.account, submission.transcript)

    async def _askAgain(self, submission: Submission) -> Response:
        attend = partial(self._keeper.newResponse, submission, None)
        return await self._submitter.ask(submission, attend)
