# -*- test-case-name: tests.flow -*-
"""
What is kept of responses: what their sessions have seen, what a retry may be
given.
"""

from __future__ import annotations

from collections.abc import Callable

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorTime

from openai_server.api.inquiry import Call, NamedAnswer
from openai_server.api.output import Failed, Finished, rowJSON
from openai_server.errors import End
from openai_server.sessions.answerkeys import AnswerKeys, KeptReply
from openai_server.sessions.calls import ParkedCall
from openai_server.sessions.conversation import Conversation
from openai_server.sessions.entries import callWithoutId
from openai_server.sessions.memory import SessionMemory
from openai_server.sessions.parkedturns import LastingTurns
from openai_server.sessions.plans import SessionKind, SessionPlan
from openai_server.sessions.retries import Attempt, Retries
from openai_server.translate.estimate import promptSize
from openai_server.translate.output import Translation
from openai_server.translate.tools import inputText
from openai_server.web.kept import KeptAnswers
from openai_server.web.response import Response, ResponseTimes
from openai_server.web.submission import Submission
from openai_server.web.survivors import Survivors


class ResponseKeeper:
    """
    Makes responses, and lets the sessions and the retries know how they end.
    """

    def __init__(
        self,
        clock: IReactorTime,
        memory: SessionMemory,
        retries: Retries[Response],
        kept: KeptAnswers,
        survivors: Survivors,
        modelIsKnown: Callable[[str], bool],
        turns: LastingTurns | None = None,
        keys: AnswerKeys | None = None,
        *,
        tellsTools: bool,
        letsFinish: bool,
    ) -> None:
        """
        @param kept: the answers that can be asked for again.
        @param survivors: those that are made with nobody attached.
        @param modelIsKnown: tells whether a model that nobody serves now may
            come back.
        @param keys: of attempts, where they outlast the process.
        @param turns: the parked turns that outlast the process; None for none.
        @param tellsTools: whether responses tell what the worker's own tools
            were called with and what came of them.
        @param letsFinish: whether turns go on when their clients have left.
        """
        self._times = ResponseTimes(clock)
        self._memory = memory
        self._retries = retries
        self._kept = kept
        self._turns = turns
        self._keys = keys
        self._tellsTools = tellsTools
        self._letsFinish = letsFinish
        self._survivors = survivors
        self.modelIsKnown = modelIsKnown

    def newResponse(
        self,
        submission: Submission,
        attempt: Attempt[Response] | None,
        conversation: Conversation,
        plan: SessionPlan | None,
    ) -> Response:
        """
        Return the answer to a question, which attends this conversation.

        @param plan: None for a turn that is gone on with.
        """
        inquiry, transcript = submission.inquiry, submission.transcript
        isContinued = plan is None or plan.kind is SessionKind.CONTINUED
        held = conversation.context.session.size if isContinued and not transcript.showsHistory else 0
        survives = self._letsFinish or inquiry.isBackground
        response = Response(
            self,
            self._times,
            conversation,
            Translation(
                inquiry.stop,
                inquiry.wantsJSON,
                conversation.seenCalls,
                plan is None,
                self._tellsTools,
                inquiry.messagesParam,
            ),
            model=inquiry.model,
            isStreamed=inquiry.isStreamed,
            attempt=attempt,
            session=SessionKind.CONTINUED.value if plan is None else plan.label,
            size=promptSize(inquiry, submission.offer, held),
            asked=None if inquiry.showsCallIds else transcript.digestBefore(len(transcript.entries)),
            own=inquiry.own,
            survives=survives,
        )
        if survives:
            self._survivors.begun(response)
        return response

    def callFrom(self, response: Response, call: ParkedCall) -> Call:
        """
        Return what the client sees of a parked call.
        """
        if call.wireName in response.conversation.context.customTools:
            return Call(call.publicId, call.clientName, inputText(call.arguments), "custom")
        return Call(call.publicId, call.clientName, call.arguments)

    def ended(self, response: Response) -> Deferred[bool] | None:
        """
        Note how an answer has ended. Its clients are told next.

        @return: fires when the calls that it ends with, and the answer under
            a key, would outlast this process; None where nothing is to be
            waited for.
        """
        if type(response.ended) is Finished:
            self.told(response)
        else:
            self._memory.release(response.conversation.context.session, False)
        self._kept.ended(response)
        self._survivors.ended(response)
        kept = None if response.attempt is None else self._noteAttempt(response, response.attempt)
        # All is written in order: what is waited for last is enough.
        if response.calls and self._turns is not None and response.conversation.isParked:
            return self._turns.keep(response.conversation)
        return kept

    def _noteAttempt(self, response: Response, attempt: Attempt[Response]) -> Deferred[bool] | None:
        failed = response.ended if type(response.ended) is Failed else None
        mayBeAskedAgain = failed is not None and failed.error.mayRetry
        if self._keys is not None and (
            response.isAbandoned or (failed is not None and failed.error.kind.end is End.DRAINED)
        ):
            # Its agent may have done something, and nobody will know.
            self._keys.cut(attempt)
        if response.isAbandoned or mayBeAskedAgain:
            self._retries.forget(attempt)
            return None
        self._retries.finished(attempt, 0 if response.output is None else response.length)
        if self._keys is None:
            return None
        return self._keys.answered(attempt, replyFrom(response))

    def told(self, response: Response) -> None:
        """
        Note that the session has said this.
        """
        memory, session, text = self._memory, response.conversation.context.session, response.text
        session.size = response.size
        if text is None:
            memory.release(session, False)
            return
        # An answer to a transcript shows no ids of calls.
        showsIds = response.asked is None
        calls = [call.id if showsIds else callWithoutId(call.name, call.arguments) for call in response.calls]
        memory.answered(session, text, calls)

    def delivered(self, response: Response, inGoodOrder: bool) -> None:
        """
        Note that a client has all of an answer, or has left before.
        """
        if response.attempt is not None:
            (self._retries.delivered if inGoodOrder else self._retries.clientLeft)(response.attempt)

    def stop(self) -> None:
        """
        Wait for no client any more.
        """
        self._times.stop()


def replyFrom(response: Response) -> KeptReply:
    """
    Return what is kept of an answer that has ended.
    """
    own = response.own
    return KeptReply(
        None if response.output is None else rowJSON(response.said()),
        response.session,
        own.names if isinstance(own, NamedAnswer) else None,
        response.verdict,
    )
