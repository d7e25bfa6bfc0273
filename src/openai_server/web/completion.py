# -*- test-case-name: tests.flow -*-
"""
The way of one request, whatever its dialect, from top to bottom.
"""

from __future__ import annotations

from collections.abc import Callable, Container, Coroutine
from functools import partial
from typing import Any

from msgspec.structs import replace
from twisted.internet.defer import Deferred

from openai_server.api.dialect import Dialect
from openai_server.api.inquiry import Inquiry
from openai_server.api.keeping import Keeping, RecordsWanted
from openai_server.api.output import Finished, Usage
from openai_server.api.renderer import Renderer
from openai_server.coroutines import begun
from openai_server.errors import APIError, callExpired
from openai_server.sessions.conversation import Conversation
from openai_server.sessions.matching import Match, Outcome, matchFromTranscript
from openai_server.sessions.restoring import Restoration
from openai_server.sessions.retries import Attempt, Retries
from openai_server.web.exchanges import Exchanges
from openai_server.web.headers import attemptFrom, cwdOf, hintsOf, keepAliveInterval
from openai_server.web.interfaces import Request
from openai_server.web.keeper import ResponseKeeper
from openai_server.web.kept import KeptAnswers, accountOf
from openai_server.web.repair import SchemaCheck
from openai_server.web.response import Response
from openai_server.web.results import WaitingTurns, bringsOnlyResults
from openai_server.web.series import Series
from openai_server.web.submission import Submission, Submitter
from openai_server.web.survivors import Survivors


class Completion:
    """
    Answers requests: by what answers them already, by going on with a turn
    that waits for their results, or by asking.
    """

    def __init__(
        self,
        submitter: Submitter,
        retries: Retries[Response],
        modelIsKnown: Callable[[str], bool],
        takenNames: Callable[[], Container[str]],
        kept: KeptAnswers,
        exchanges: Exchanges,
        survivors: Survivors,
        restoration: Restoration | None = None,
    ) -> None:
        """
        @param modelIsKnown: tells whether a model that nobody serves now may
            come back.
        @param takenNames: gives the names that no tool can have at the daemon.
        @param kept: the answers that are kept.
        @param exchanges: answers in conversations.
        @param survivors: those that are made with nobody attached.
        @param restoration: of what earlier processes have left; None where
            they leave nothing.
        """
        self._submitter = submitter
        self._retries = retries
        self._takenNames = takenNames
        self._kept = kept
        self._exchanges = exchanges
        self._keepAliveInterval = submitter.configuration.keepAliveInterval
        self._keeper = ResponseKeeper(
            submitter.clock,
            submitter.memory,
            retries,
            kept,
            survivors,
            modelIsKnown,
            submitter.turns,
            tellsTools=submitter.configuration.workerTools,
            letsFinish=submitter.configuration.onDisconnect == "finish",
        )
        self._restoration = restoration
        self._waiting = WaitingTurns(submitter, self._keeper)
        self._series = Series(self._askAgain)
        self._schemas = SchemaCheck(self._keeper, self._askAgain, submitter.configuration.schemaRepair)

    def answer(self, request: Request, dialect: Dialect) -> Deferred[None]:
        """
        Answer a request that was let in. The Deferred fires when its response
        is over. It is cancelled when the client leaves and when the server
        stops: then the request is answered already.

        @raise APIError: what its client is told before the first byte; or the
            Deferred fails with it.
        """
        beginning = begun(self._begin(request, dialect))
        if beginning is None:
            return request.whenOver()
        request.doing(beginning)
        return beginning.addCallback(lambda _: request.whenOver())

    async def _begin(self, request: Request, dialect: Dialect) -> None:
        """
        Find what answers a request, and let it. The body and what it asks are
        not held for as long as the answer lasts.
        """
        assert request.account is not None
        account, body = request.account.name, request.takeBody()
        parsed = dialect.parse(body)
        inquiry = parsed if isinstance(parsed, Inquiry) else await self._kept.resolved(account, parsed)
        request.model = inquiry.model
        renderer = dialect.renderer(inquiry)
        if inquiry.ignored:
            request.setHeader(b"x-hum-ignored", ",".join(inquiry.ignored).encode())
        if not inquiry.messages:
            _answerWithNothing(request, renderer, inquiry.isStreamed)
            return
        hints, cwd = hintsOf(request, inquiry), cwdOf(request, inquiry)
        submission = self._submitter.submission(account, inquiry, hints, self._takenNames(), cwd)
        attempt: Attempt[Response] | None = attemptFrom(request, account, body)
        response = None if attempt is None else await self._joined(attempt)
        # Whoever waits for an earlier attempt only looks as if it were there.
        isAlone = response is not None and attempt is not None and attempt.key is None
        keeping = dialect.keeping(inquiry) if response is None else None
        if response is None:
            if isinstance(parsed, RecordsWanted) and parsed.conversation is not None:
                asking = self._inConversation(submission, attempt, parsed, cwd)
            else:
                asking = self._first(submission, attempt)
            if keeping is not None and inquiry.isBackground:
                response = await self._inBackground(request, keeping, inquiry.isStreamed, asking)
            else:
                response = await asking
            if response is None:
                return
        request.mayHaveRun = True
        request.session = response.session
        request.setHeader(b"x-hum-session", request.session.encode())
        try:
            interval = keepAliveInterval(request, self._keepAliveInterval)
            if response.own is not inquiry.own:
                # A retry is told of the answer under the ids that it has already.
                renderer = dialect.renderer(replace(inquiry, own=response.own))
            elif keeping is not None and not inquiry.isBackground:
                self._kept.begun(account, keeping, response)
            if inquiry.isBackground and not inquiry.isStreamed:
                request.answer(renderer.body(response.said()), contentType=renderer.bodyType)
            else:
                response.attach(request, renderer, interval, isAlone=isAlone)
        except Exception:
            # A mistake of ours must not leave a worker running for nobody.
            response.abandon()
            raise

    async def _inBackground(
        self,
        request: Request,
        keeping: Keeping,
        isStreamed: bool,
        asking: Coroutine[Any, Any, Response],
    ) -> Response | None:
        """
        Begin what goes on with nobody attached.

        @return: None where its client was told that it has begun, and wants
            nothing more now.
        """
        running = self._kept.inBackground(accountOf(request), keeping, asking)
        if not isStreamed:
            request.answer(keeping.body(None))
            return None
        return await running.whenAsked()

    async def _joined(self, attempt: Attempt[Response]) -> Response | None:
        """
        Return what answers the same request already.
        """
        joined = self._retries.join(attempt)
        while isinstance(joined, Deferred):
            joined = await joined or self._retries.join(attempt)
        if joined is not None and joined.output is None:
            said = "The answer to this request has become too long to be given once more."
            raise APIError("worker_error", said, mayRetry=False)
        return joined

    async def _inConversation(
        self,
        submission: Submission,
        attempt: Attempt[Response] | None,
        wanted: RecordsWanted,
        cwd: str | None,
    ) -> Response:
        """
        Return what answers a question in a conversation, when it is its turn:
        more may have been said there since it was read.
        """
        account, own, hints = submission.account, submission.inquiry.own, submission.hints

        async def ask(inquiry: Inquiry) -> Response:
            asked = replace(inquiry, own=own)
            again = self._submitter.submission(account, asked, hints, submission.taken, cwd)
            return await self._first(again, attempt)

        try:
            return await self._exchanges.answer(account, wanted, ask)
        except BaseException:
            if attempt is not None:
                self._retries.forget(attempt)
            raise

    async def _first(self, submission: Submission, attempt: Attempt[Response] | None) -> Response:
        """
        Return what answers a question that nothing answers yet.
        """
        try:
            if self._submitter.daemon.whyNotReady is not None:
                # Until then others may answer calls, and another daemon knows none.
                await self._submitter.reach()
            if self._restoration is not None and (restored := self._restoration.whenDone()) is not None:
                await restored
            match = self._match(submission)
            turns, isIsolated = self._submitter.turns, submission.inquiry.isIsolated
            if turns is not None and not isIsolated and match.outcome is Outcome.ALL:
                noted = turns.taking([call for call, _ in match.results])
                if noted is not None:
                    try:
                        await noted
                    except BaseException:
                        # They were not used, and may come again.
                        if isinstance(match.owner, Conversation) and match.owner.isParked:
                            turns.keep(match.owner)
                        raise
                    match = self._match(submission)
                    if match.outcome is not Outcome.ALL and attempt is not None:
                        # The same request may have been quicker.
                        joined = await self._joined(attempt)
                        if joined is not None:
                            return joined
            if isinstance(match.owner, Conversation) and not isIsolated:
                response = await self._waiting.answerTo(submission, attempt, match.owner, match)
            elif not isIsolated and bringsOnlyResults(submission.transcript):
                raise callExpired()
            else:
                attend = partial(self._keeper.newResponse, submission, attempt)
                response = await self._submitter.ask(submission, attend)
        except BaseException:
            if attempt is not None:
                self._retries.forget(attempt)
            raise
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

    def _match(self, submission: Submission) -> Match:
        return matchFromTranscript(self._submitter.calls, submission.account, submission.transcript)

    async def _askAgain(self, submission: Submission) -> Response:
        attend = partial(self._keeper.newResponse, submission, None)
        return await self._submitter.ask(submission, attend)

    def stop(self) -> None:
        """
        Turn away everybody who waits, and forget what was kept for retries.
        """
        self._submitter.stop()
        self._retries.stop()
        self._keeper.stop()


def _answerWithNothing(request: Request, renderer: Renderer, isStreamed: bool) -> None:
    nothing = Finished("stop", Usage())
    if isStreamed:
        request.begin(renderer, 0.0)
        request.complete(renderer.start() + renderer.feed([nothing]))
    else:
        request.answer(renderer.body([nothing]), contentType=renderer.bodyType)
