# -*- test-case-name: tests.flow -*-
"""
Which exchange answers a request.

A request is, looked at in this order: the retry of one whose answer is still
here; the results that a parked turn waits for; or a question to a session, a
fresh one or one that goes on.
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import groupby
from typing import Final, TypeAlias

from twisted.internet.defer import TimeoutError

from openai_server.api.inquiry import Call
from openai_server.api.output import Failed, Finished
from openai_server.errors import APIError
from openai_server.sessions.calls import ParkedCall
from openai_server.sessions.conversation import Conversation
from openai_server.sessions.entries import callWithoutId
from openai_server.sessions.matching import Match, Outcome, matchFromTranscript
from openai_server.sessions.plans import Kind, Session, SessionPlan
from openai_server.sessions.retries import Attempt, Retries
from openai_server.translate.output import Translation
from openai_server.translate.tools import inputText, resultText
from openai_server.web.asking import Desk
from openai_server.web.exchange import Exchange
from openai_server.web.incoming import Incoming

#: Seconds that a late result waits for its turn to settle.
SETTLE_PATIENCE: Final = 10.0

#: What stands before words that came with a result, by the role that said them.
_ALSO: Final = {
    "user": "The user adds to this result:",
    "system": "An instruction of the system came with this result:",
}

Attempts: TypeAlias = Retries["Answering", "Answering"]


class Answering(Exchange):
    """
    An exchange, with what its HTTP requests say about it.

    @ivar kind: what its session is to the client.
    @ivar attempt: under which a retry finds it.
    """

    kind: Kind
    attempt: Attempt[Answering, Answering]


class Answers:
    """
    Gives each request the exchange that answers it, and keeps those whose
    client was lost for a retry.
    """

    def __init__(self, desk: Desk, retries: Attempts, modelIsKnown: Callable[[str], bool]) -> None:
        """
        @param modelIsKnown: whether a model that nobody serves now may come
            back.
        """
        self._desk = desk
        self._retries = retries
        self._modelIsKnown = modelIsKnown
        self._configuration = desk.configuration

    async def of(self, incoming: Incoming) -> Answering:
        """
        What answers a request. Its client is to be attached to it.

        @raise APIError: the request is refused, or could not be asked.
        """
        return self._retryOf(incoming) or await self._found(incoming)

    def clientLeft(self, answering: Answering, grace: float) -> None:
        """
        The client of this answer is gone.

        @param grace: seconds that a retry may take to ask for it.
        """
        if answering.clientLeft(grace):
            self._retries.clientGone(answering.attempt)

    def delivered(self, answering: Answering) -> None:
        """
        The client has all of this answer.
        """
        self._retries.delivered(answering.attempt)

    def stop(self) -> None:
        """
        Turn away everybody who waits, and forget what was kept for retries.
        """
        self._desk.slots.stop()
        self._desk.memory.stop()
        self._retries.stop()

    def _retryOf(self, incoming: Incoming) -> Answering | None:
        found = self._retries.find(
            incoming.account, incoming.fingerprint, incoming.retryCount, incoming.idempotencyKey
        )
        return None if found is None else found.running

    async def _found(self, incoming: Incoming) -> Answering:
        match = matchFromTranscript(self._desk.calls, incoming.account, incoming.transcript)
        conversation = match.owner
        if not isinstance(conversation, Conversation):
            return await self.asked(incoming)
        if match.outcome is Outcome.SOME:
            raise _missing(match)
        if match.outcome is Outcome.ALL and not self._bringsFiles(incoming, match):
            return self._resumed(incoming, conversation, match)
        if match.outcome is Outcome.LATE:
            await self._settled(conversation, match)
            if incoming.transcript.showsHistory:
                return await self.asked(incoming)
            # A client that keeps no history brings nothing but the result.
            named = incoming.naming({at: call.clientName for call, at in match.results})
            return await self.asked(named, conversation.terms.session)
        conversation.giveUp(_resultsFrom(incoming, match))
        return await self.asked(incoming)

    async def asked(self, incoming: Incoming, session: Session | None = None) -> Answering:
        """
        Put the question, whatever the request may be besides.

        @param session: the one to go on in, if that is possible, although the
            transcript does not say so.
        @raise APIError: it was not asked.
        """
        made: list[Answering] = []

        def answerFor(conversation: Conversation, plan: SessionPlan) -> Answering:
            made.append(self._answering(incoming, conversation, plan.kind))
            return made[0]

        await self._desk.ask(incoming, answerFor, session)
        return made[0]

    def _resumed(self, incoming: Incoming, conversation: Conversation, match: Match) -> Answering:
        results = _resultsFrom(incoming, match)
        call, text = results[-1]
        results[-1] = (call, text + _addedTo(match, incoming))
        answering = self._answering(incoming, conversation, Kind.CONTINUED, isResumed=True)
        conversation.resume(results, answering)
        told = sorted([*(at for _, at in match.results), *match.extra])
        conversation.terms.session.told(incoming.transcript.entries[at] for at in told)
        return answering

    @staticmethod
    def _bringsFiles(incoming: Incoming, match: Match) -> bool:
        # A result is text alone: what else the user adds goes into a new turn.
        return any(incoming.inquiry.messages[at].hasMedia for at in match.extra)

    async def _settled(self, conversation: Conversation, match: Match) -> None:
        for call, _ in match.results:
            self._desk.calls.taken(call)
        waiting = conversation.whenSettled()
        waiting.addTimeout(SETTLE_PATIENCE, self._desk.clock)
        try:
            await waiting
        except TimeoutError:
            conversation.cancel()

    def _answering(
        self, incoming: Incoming, conversation: Conversation, kind: Kind, isResumed: bool = False
    ) -> Answering:
        translation = Translation(
            stop=incoming.inquiry.stop,
            stripFence=incoming.inquiry.wantsJSON,
            ownCalls=conversation.seenCalls,
            seen=isResumed,
        )
        answering = Answering(
            self._desk.clock,
            conversation,
            translation,
            model=incoming.inquiry.model,
            modelIsKnown=self._modelIsKnown,
            headersHold=self._configuration.headersHold if incoming.inquiry.isStreamed else None,
            callFrom=lambda call: _callFrom(call, conversation),
            asked=incoming.transcript.digestBefore(len(incoming.transcript.entries))
            if not incoming.inquiry.showsCallIds
            else None,
            onEnd=lambda: self._ended(incoming, answering),
        )
        answering.kind = kind
        answering.attempt = self._retries.begin(
            incoming.account, incoming.fingerprint, incoming.idempotencyKey, answering
        )
        return answering

    def _ended(self, incoming: Incoming, answering: Answering) -> None:
        told, session = answering.told, answering.conversation.terms.session
        if not isinstance(answering.ended, Finished) or told.text is None:
            self._desk.memory.release(session, False)
        else:
            made = [
                call.id if incoming.inquiry.showsCallIds else callWithoutId(call.name, call.arguments)
                for call in told.calls
            ]
            self._desk.memory.answered(session, told.text, made)
        if answering.isAbandoned or _mayBeAskedAgain(answering):
            self._retries.delivered(answering.attempt)
        elif not answering.isAttended:
            self._retries.finished(answering.attempt, answering, answering.size)


def _mayBeAskedAgain(answering: Answering) -> bool:
    return isinstance(answering.ended, Failed) and answering.ended.error.mayRetry


def _callFrom(call: ParkedCall, conversation: Conversation) -> Call:
    if call.wireName in conversation.terms.customTools:
        return Call(call.publicId, call.clientName, inputText(call.arguments), "custom")
    return Call(call.publicId, call.clientName, call.arguments)


def _resultsFrom(incoming: Incoming, match: Match) -> list[tuple[ParkedCall, str]]:
    messages = incoming.inquiry.messages
    return [(call, resultText(messages[at].content)) for call, at in match.results]


def _addedTo(match: Match, incoming: Incoming) -> str:
    added = (incoming.inquiry.messages[at] for at in match.extra)
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
