# -*- test-case-name: tests.flow -*-
"""
The way of one request, whatever its dialect, from top to bottom.
"""

from __future__ import annotations

from collections.abc import Callable, Container, Coroutine
from typing import Any

from msgspec.structs import replace
from twisted.internet.defer import Deferred

from openai_server.accounts.limiter import Limiter
from openai_server.api.dialect import Dialect
from openai_server.api.inquiry import Inquiry
from openai_server.api.keeping import Keeping, RecordsWanted
from openai_server.api.output import Finished, Usage
from openai_server.api.renderer import Renderer
from openai_server.coroutines import begun
from openai_server.sessions.answerkeys import KeptReply
from openai_server.sessions.retries import Attempt
from openai_server.translate.words import noWorkerError
from openai_server.web.allowance import allowanceFor
from openai_server.web.headers import attemptFrom, cwdOf, hintsOf, keepAliveInterval
from openai_server.web.interfaces import Request
from openai_server.web.kept import KeptAnswers, accountOf
from openai_server.web.replayed import ReplayedAnswer
from openai_server.web.response import Response
from openai_server.web.submission import Submitter
from openai_server.web.turnstart import TurnStart


class Completion:
    """
    Answers requests: by what answers them already, by going on with a turn
    that waits for their results, or by asking.
    """

    def __init__(
        self,
        submitter: Submitter,
        start: TurnStart,
        kept: KeptAnswers,
        limiter: Limiter,
        takenNames: Callable[[], Container[str]],
    ) -> None:
        """
        @param start: begins what answers.
        @param kept: the answers that are kept.
        @param limiter: lets accounts have what is within their limits.
        @param takenNames: gives the names that no tool can have at the daemon.
        """
        self._submitter = submitter
        self._start = start
        self._kept = kept
        self._limiter = limiter
        self._takenNames = takenNames
        self._keepAliveInterval = submitter.configuration.keepAliveInterval

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
        if not request.account.mayUse(inquiry.model):
            raise noWorkerError(inquiry.model, modelIsKnown=False)
        renderer = dialect.renderer(inquiry)
        if inquiry.ignored:
            request.setHeader(b"x-hum-ignored", ",".join(inquiry.ignored).encode())
        if not inquiry.messages:
            _answerWithNothing(request, renderer, inquiry.isStreamed)
            return
        hints, cwd = hintsOf(request, inquiry), cwdOf(request, inquiry)
        submission = self._submitter.submission(
            account, dialect.name, inquiry, hints, self._takenNames(), cwd
        )
        # Before there is anything to give back if it fails.
        keeping = dialect.keeping(inquiry)
        attempt: Attempt[Response] | None = attemptFrom(request, account, body)
        allowance = await allowanceFor(request, submission, self._limiter)
        joined = None if attempt is None else await allowance.keptBy(self._start.joined(attempt))
        response: Response | ReplayedAnswer | None
        response = ReplayedAnswer(joined, inquiry) if isinstance(joined, KeptReply) else joined
        # Whoever waits for an earlier attempt only looks as if it were there.
        isAlone = response is not None and attempt is not None and attempt.key is None
        if response is None:
            wanted = parsed if isinstance(parsed, RecordsWanted) else None
            asking = allowance.boundBy(self._start.answerTo(submission, attempt, wanted))
            response = await self._asked(request, inquiry, keeping, asking)
            if response is None:
                return
        else:
            allowance.drop()
        self._attend(request, dialect, inquiry, renderer, response, isAlone)

    async def _asked(
        self,
        request: Request,
        inquiry: Inquiry,
        keeping: Keeping | None,
        asking: Coroutine[Any, Any, Response],
    ) -> Response | None:
        """
        Ask, and keep what answers if it is to be kept.

        @return: None where its client was told that it has begun, and wants
            nothing more now.
        """
        if keeping is None:
            return await asking
        if inquiry.isBackground:
            running = self._kept.inBackground(accountOf(request), keeping, asking)
            if inquiry.isStreamed:
                return await running.whenAsked()
            request.answer(keeping.body(None))
            return None
        response = await asking
        request.mayHaveRun = True
        try:
            self._kept.begun(accountOf(request), keeping, response)
        except Exception:
            response.abandon()
            raise
        return response

    def _attend(
        self,
        request: Request,
        dialect: Dialect,
        inquiry: Inquiry,
        renderer: Renderer,
        response: Response | ReplayedAnswer,
        isAlone: bool,
    ) -> None:
        """
        Let a client have what answers its request.

        @param isAlone: whether it gets what it waited for as if nobody had
            asked before.
        """
        request.mayHaveRun = True
        request.session = response.session
        request.setHeader(b"x-hum-session", request.session.encode())
        try:
            if response.own is not inquiry.own:
                # A retry is told of the answer under the ids that it has already.
                renderer = dialect.renderer(replace(inquiry, own=response.own))
            if inquiry.isBackground and not inquiry.isStreamed:
                request.answer(renderer.body(response.said()), contentType=renderer.bodyType)
            else:
                interval = keepAliveInterval(request, self._keepAliveInterval)
                response.attach(request, renderer, interval, isAlone=isAlone)
        except Exception:
            # A mistake of ours must not leave a worker running for nobody.
            response.abandon()
            raise

    def stop(self) -> None:
        """
        Turn away everybody who waits, and forget what was kept for retries.
        """
        self._submitter.stop()
        self._start.stop()


def _answerWithNothing(request: Request, renderer: Renderer, isStreamed: bool) -> None:
    nothing = Finished("stop", Usage())
    if isStreamed:
        request.begin(renderer, 0.0)
        request.complete(renderer.start() + renderer.feed([nothing]))
    else:
        request.answer(renderer.body([nothing]), contentType=renderer.bodyType)
