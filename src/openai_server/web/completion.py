# -*- test-case-name: tests.flow -*-
"""
The way of one request, whatever its dialect, from top to bottom.
"""

from __future__ import annotations

from collections.abc import Callable, Container
from functools import partial
from itertools import groupby
from typing import Final

from twisted.internet.defer import CancelledError, Deferred, TimeoutError
from twisted.python.failure import Failure

from openai_server.api.dialect import Dialect
from openai_server.api.inquiry import Call, Inquiry, Message
from openai_server.api.output import Failed, Finished
from openai_server.coroutines import begun
from openai_server.errors import APIError
from openai_server.sessions.calls import ParkedCall
from openai_server.sessions.conversation import Conversation
from openai_server.sessions.entries import callWithoutId
from openai_server.sessions.hints import Hints, hintsFrom
from openai_server.sessions.matching import Match, Outcome, matchFromTranscript
from openai_server.sessions.plans import Session, SessionKind, SessionPlan
from openai_server.sessions.retries import Attempt, Retries
from openai_server.translate.estimate import promptSize
from openai_server.translate.output import Translation
from openai_server.translate.schema import checkAnswer
from openai_server.translate.tools import inputText, resultText
from openai_server.web.interfaces import Request
from openai_server.web.mistakes import errorFromMistake
from openai_server.web.response import Response, ResponseTimes
from openai_server.web.submission import Submission, Submitter

_REPAIR: Final = (
    "Your last answer is not valid against the JSON Schema that was asked for. "
    "Answer again, with the corrected JSON and nothing else."
)

#: Seconds: no client is pinged more often.
_SHORTEST_INTERVAL: Final = 1.0
#: Seconds that a late result waits for its turn to settle.
SETTLE_PATIENCE: Final = 10.0

#: What stands before words that came with a result, by the role that said them.
_ALSO: Final = {
    "user": "The user adds to this result:",
    "system": "An instruction of the system came with this result:",
}


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
    ) -> None:
        """
        @param modelIsKnown: tells whether a model that nobody serves now may
            come back.
        @param takenNames: gives the names that no tool can have at the daemon.
        """
        self._submitter = submitter
        self._retries = retries
        self._modelIsKnown = modelIsKnown
        self._takenNames = takenNames
        self._configuration = submitter.configuration
        self._times = ResponseTimes(submitter.clock)

    def answer(self, request: Request, dialect: Dialect) -> Deferred[None]:
        """
        Answer a request that was let in. The Deferred fires when its response
        is over.

        @raise APIError: what its client is told before the first byte; or the
            Deferred fails with it.
        """
        beginning = begun(self._begin(request, dialect))
        if beginning is None:
            return request.whenOver()
        request.doing(beginning)
        return beginning.addCallback(lambda _: request.whenOver())

    async def _begin(self, request: Request, dialect: Dialect) -> None:
        # The body and what it asks are not held for as long as the answer lasts.
        body = request.takeBody()
        inquiry = dialect.parse(body)
        request.model = inquiry.model
        renderer = dialect.renderer(inquiry)
        if inquiry.ignored:
            request.setHeader(b"x-hum-ignored", ",".join(inquiry.ignored).encode())
        response, isAlone = await self._responseTo(request, inquiry, body)
        request.mayHaveRun = True
        request.session = response.session
        request.setHeader(b"x-hum-session", request.session.encode())
        try:
            interval = keepAliveInterval(request, self._configuration.keepAliveInterval)
            response.attach(request, renderer, interval, isAlone)
        except Exception:
            # A mistake of ours must not leave a worker running for nobody.
            response.abandon()
            raise

    async def _responseTo(self, request: Request, inquiry: Inquiry, body: bytes) -> tuple[Response, bool]:
        """
        Return what answers a request, and whether it is alone with that:
        other connections that wait for it are dead.
        """
        account = _accountOf(request)
        submission = self._submitter.submission(
            account, inquiry, _hintsOf(request, inquiry), self._takenNames(), _cwdOf(request, inquiry)
        )
        attempt = _attemptFrom(request, body)
        if attempt is None:
            return await self._first(submission, None), False
        joined = self._retries.join(attempt)
        while isinstance(joined, Deferred):
            joined = await joined or self._retries.join(attempt)
        if joined is not None and joined.output is None:
            said = "The answer to this request has become too long to be given once more."
            raise APIError("worker_error", said, mayRetry=False)
        if joined is not None:
            return joined, attempt.key is None
        try:
            response = await self._first(submission, attempt)
        except BaseException:
            self._retries.forget(attempt)
            raise
        if response.ended is None:
            self._retries.begin(attempt, response)
        else:
            # It failed while it was asked.
            self._retries.forget(attempt)
        return response, False

    async def _first(self, submission: Submission, attempt: Attempt[Response] | None) -> Response:
        response = await self._answerTo(submission, attempt)
        if submission.inquiry.format.schema is not None and not submission.inquiry.isStreamed:
            response.check = partial(self._checked, submission, response)
        return response

    async def _answerTo(self, submission: Submission, attempt: Attempt[Response] | None) -> Response:
        """
        Return what answers a question that nothing answers yet.
        """
        if (tried := self._submitter.daemon.whenTried()) is not None:
            # Until then others may answer calls, and another daemon knows none.
            await tried
        match = matchFromTranscript(self._submitter.calls, submission.account, submission.transcript)
        conversation = match.owner
        if not isinstance(conversation, Conversation):
            return await self._ask(submission, attempt)
        if match.outcome is Outcome.SOME:
            raise _missing(match)
        if match.outcome is Outcome.ALL and not _bringsFiles(submission, match):
            return self._resume(submission, attempt, conversation, match)
        if match.outcome is Outcome.LATE:
            await self._settled(conversation, match)
            if submission.transcript.showsHistory:
                return await self._ask(submission, attempt)
            # A client that keeps no history brings nothing but the result.
            named = submission.naming({at: call.clientName for call, at in match.results})
            return await self._ask(named, attempt, conversation.context.session)
        conversation.giveUp(_resultsFrom(submission, match))
        return await self._ask(submission, attempt)

    async def _ask(
        self, submission: Submission, attempt: Attempt[Response] | None, session: Session | None = None
    ) -> Response:
        made: list[Response] = []

        def attend(conversation: Conversation, plan: SessionPlan) -> Response:
            made.append(self._response(submission, attempt, conversation, plan))
            return made[0]

        await self._submitter.ask(submission, attend, session)
        return made[0]

    def _resume(
        self,
        submission: Submission,
        attempt: Attempt[Response] | None,
        conversation: Conversation,
        match: Match,
    ) -> Response:
        results = _resultsFrom(submission, match)
        call, text = results[-1]
        results[-1] = (call, text + _addedTo(match, submission))
        response = self._response(submission, attempt, conversation, None)
        conversation.resume(results, response)
        told = sorted([*(at for _, at in match.results), *match.extra])
        conversation.context.session.toldResults(submission.transcript, match.answer, told)
        return response

    async def _settled(self, conversation: Conversation, match: Match) -> None:
        for call, _ in match.results:
            self._submitter.calls.taken(call)
        try:
            await conversation.whenSettled().addTimeout(SETTLE_PATIENCE, self._submitter.clock)
        except TimeoutError:
            conversation.cancel()

    def _response(
        self,
        submission: Submission,
        attempt: Attempt[Response] | None,
        conversation: Conversation,
        plan: SessionPlan | None,
    ) -> Response:
        """
        @param plan: None for a turn that is gone on with.
        """
        inquiry, transcript = submission.inquiry, submission.transcript
        translation = Translation(inquiry.stop, inquiry.wantsJSON, conversation.seenCalls, plan is None)
        isContinued = plan is None or plan.kind is SessionKind.CONTINUED
        isHeld = isContinued and not transcript.showsHistory
        held = conversation.context.session.size if isHeld else 0
        return Response(
            self,
            self._times,
            conversation,
            translation,
            model=inquiry.model,
            isStreamed=inquiry.isStreamed,
            attempt=attempt,
            session=SessionKind.CONTINUED.value if plan is None else plan.label,
            size=promptSize(inquiry, submission.offer, held),
            asked=None if inquiry.showsCallIds else transcript.digestBefore(len(transcript.entries)),
        )

    # What a response tells.

    def modelIsKnown(self, model: str) -> bool:
        """
        Return whether a model that nobody serves now may come back.
        """
        return self._modelIsKnown(model)

    def callFrom(self, response: Response, call: ParkedCall) -> Call:
        """
        Return what the client sees of a parked call.
        """
        if call.wireName in response.conversation.context.customTools:
            return Call(call.publicId, call.clientName, inputText(call.arguments), "custom")
        return Call(call.publicId, call.clientName, call.arguments)

    def ended(self, response: Response) -> None:
        """
        Let the session and the retries know how an answer has ended.
        """
        if type(response.ended) is Finished:
            self._told(response)
        else:
            self._submitter.memory.release(response.conversation.context.session, False)
        attempt = response.attempt
        if attempt is None:
            return
        if response.isAbandoned or _mayBeAskedAgain(response):
            self._retries.forget(attempt)
        else:
            self._retries.finished(attempt, 0 if response.output is None else response.length)

    def _told(self, response: Response) -> None:
        memory, session, text = self._submitter.memory, response.conversation.context.session, response.text
        session.size = response.size
        if text is None:
            memory.release(session, False)
            return
        # An answer to a transcript shows no ids of calls.
        showsCallIds = response.asked is None
        calls = [
            call.id if showsCallIds else callWithoutId(call.name, call.arguments) for call in response.calls
        ]
        memory.answered(session, text, calls)

    def delivered(self, response: Response, inGoodOrder: bool) -> None:
        """
        Let the retries know that a client has all of an answer, or has left.
        """
        if response.attempt is not None:
            (self._retries.delivered if inGoodOrder else self._retries.clientLeft)(response.attempt)

    # JSON that follows a schema.

    def _checked(
        self, submission: Submission, response: Response, finished: Finished
    ) -> Deferred[None] | None:
        schema = submission.inquiry.format.schema
        assert schema is not None
        text = response.text
        verdict = "unchecked" if text is None else checkAnswer(text, schema)
        response.verdict = verdict.encode()
        if verdict != "invalid" or not self._configuration.schemaRepair:
            return None
        repairing = Deferred.fromCoroutine(self._repair(submission, response, finished))
        return repairing.addErrback(self._repairFailed, response)

    @staticmethod
    def _repairFailed(failure: Failure, response: Response) -> None:
        """
        Nobody waits for the repair any more, or a mistake of ours ended it:
        then the response must not wait for ever.
        """
        if not failure.check(CancelledError):
            error = errorFromMistake(failure, "of a schema's repair", "repair")
            response.conclude(Failed(error), [])

    async def _repair(self, submission: Submission, first: Response, finished: Finished) -> None:
        """
        Ask once more, in the same session. When that fails too, the first
        answer is better than none. The session has seen what is given.
        """
        schema, text = submission.inquiry.format.schema, first.text
        assert schema is not None and text is not None
        session = first.conversation.context.session
        seen = session.seen.copy()
        self._told(first)
        await first.conversation.whenSettled()
        said = Message(role="assistant", content=text)
        again = submission.followedBy(said, Message(role="user", content=_REPAIR))
        second: Response | None = None
        try:
            second = await self._ask(again, None)
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

    # The rest.

    def stop(self) -> None:
        """
        Turn away everybody who waits, and forget what was kept for retries.
        """
        self._submitter.stop()
        self._retries.stop()
        self._times.stop()


def keepAliveInterval(request: Request, setting: float) -> float:
    """
    Return the seconds of silence after which a stream says something: as set,
    but at most a third of the read timeout that its client announces.
    """
    given = request.getHeader(b"x-stainless-read-timeout")
    if given is None:
        return setting
    try:
        announced = float(given)
    except ValueError:
        return setting
    return min(setting, max(announced / 3, _SHORTEST_INTERVAL)) if announced > 0 else setting


def _accountOf(request: Request) -> str:
    assert request.account is not None
    return request.account.name


def _hintsOf(request: Request, inquiry: Inquiry) -> Hints:
    header = request.getHeader(b"x-hum-session")
    return hintsFrom(None if header is None else header.decode("utf-8", "replace"), inquiry.user)


def _cwdOf(request: Request, inquiry: Inquiry) -> str | None:
    header = request.getHeader(b"x-hum-cwd")
    return header.decode("utf-8", "surrogateescape") if header else inquiry.metadata.get("cwd")


def _attemptFrom(request: Request, body: bytes) -> Attempt[Response] | None:
    """
    What a retry of this request would find; None for clients that never tell
    a retry from a new request.
    """
    count = request.getHeader(b"x-stainless-retry-count")
    key = request.getHeader(b"idempotency-key") or None
    if count is None and key is None:
        return None
    request.retry = int(count) if count is not None and count.isdigit() and len(count) < 6 else 0
    session, cwd = request.getHeader(b"x-hum-session"), request.getHeader(b"x-hum-cwd")
    return Attempt(_accountOf(request), body, session, request.retry, key, cwd)


def _bringsFiles(submission: Submission, match: Match) -> bool:
    # A result is text alone: what else the user adds goes into a new turn.
    added = (submission.inquiry.messages[at] for at in match.extra)
    return any(message.hasMedia for message in added)


def _mayBeAskedAgain(response: Response) -> bool:
    return type(response.ended) is Failed and response.ended.error.mayRetry


def _resultsFrom(submission: Submission, match: Match) -> list[tuple[ParkedCall, str]]:
    messages = submission.inquiry.messages
    return [(call, resultText(messages[at].content)) for call, at in match.results]


def _addedTo(match: Match, submission: Submission) -> str:
    added = (submission.inquiry.messages[at] for at in match.extra)
    text = ""
    for whose, run in groupby(added, lambda message: _ALSO[message.role]):
        said = "\n\n".join(filter(None, (message.text for message in run)))
        text += f"\n\n[{whose}]\n{said}" if said else ""
    return text


def _missing(match: Match) -> APIError:
    missing = ", ".join(call.publicId for call in match.missing)
    return APIError(
        "invalid_value",
        "An assistant message with 'tool_calls' must be followed by tool messages responding to each "
        f"'tool_call_id'. These have no response: {missing}.",
        param="messages",
    )
