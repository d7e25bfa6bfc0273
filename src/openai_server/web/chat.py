# -*- test-case-name: tests.flow -*-
"""
The way of one chat completion: from the request to the turn that answers it,
and back.

A request is, looked at in this order: the retry of one whose answer is still
here; the results that a parked turn waits for; or a question to a session, a
fresh one or one that goes on.
"""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable, Mapping
from typing import Final, TypeAlias, cast

from twisted.internet.defer import CancelledError, TimeoutError

from openai_server.api.completion import Call, ReasoningField
from openai_server.api.messages import Message
from openai_server.api.sse import KEEP_ALIVE_COMMENT, ChunkTemplates
from openai_server.errors import APIError, End
from openai_server.sessions.calls import Match, Outcome, ParkedCall
from openai_server.sessions.conversation import Conversation
from openai_server.sessions.entries import callWithoutId
from openai_server.sessions.plans import Kind, Session, SessionPlan
from openai_server.sessions.retries import Attempt, Retries
from openai_server.translate.chat import Failed, Finished, Translation
from openai_server.translate.schema import checkAnswer
from openai_server.translate.tools import inputText, resultText
from openai_server.web.admission import Account
from openai_server.web.asking import Desk
from openai_server.web.exchange import Exchange
from openai_server.web.incoming import Incoming, Reader
from openai_server.web.request import APIRequest
from openai_server.web.sinks import Heading, StreamSink, WholeSink
from openai_server.web.streaming import EventStream, keepAliveInterval

#: Seconds that a late result waits for its turn to settle.
SETTLE_PATIENCE: Final = 10.0

_REPAIR: Final = (
    "Your last answer is not valid against the JSON Schema that was asked for. "
    "Answer again, with the corrected JSON and nothing else."
)
_ALSO: Final = "\n\n[The user adds to this result:]\n"

_Attempts: TypeAlias = Retries["Answering", "Answering"]


class Answering(Exchange):
    """
    An exchange, with what its HTTP requests say about it.

    @ivar kind: what its session is to the client.
    @ivar attempt: under which a retry finds it.
    """

    kind: Kind
    attempt: Attempt[Answering, Answering]


class Chat:
    """
    Answers C{POST /v1/chat/completions}; see L{ChatCompletions
    <openai_server.web.routes.ChatCompletions>}.
    """

    def __init__(
        self,
        desk: Desk,
        reader: Reader,
        retries: _Attempts,
        modelIsKnown: Callable[[str], bool],
        now: Callable[[], float] = time.time,
    ) -> None:
        """
        @param modelIsKnown: whether a model that nobody serves now may come
            back.
        @param now: the wall clock, in seconds since 1970.
        """
        self._desk = desk
        self._reader = reader
        self._retries = retries
        self._modelIsKnown = modelIsKnown
        self._now = now
        self._configuration = desk.configuration

    async def complete(self, request: APIRequest, account: Account) -> bytes | None:
        """
        See L{ChatCompletions.complete<openai_server.web.routes.ChatCompletions.complete>}.
        """
        incoming = self._reader.read(account.name, _headersOf(request), request.takeBody())
        request.model = incoming.chat.model
        if incoming.chat.ignored:
            request.setHeader(b"x-hum-ignored", ",".join(incoming.chat.ignored).encode())
        answering = self._retried(incoming) or await self._answeringFor(incoming)
        request.setHeader(b"x-hum-session", answering.kind.value.encode())
        try:
            if incoming.chat.stream:
                await self._streamed(request, incoming, answering)
                return None
            return await self._whole(request, incoming, answering)
        except CancelledError:
            raise
        except Exception:
            # A mistake of ours must not leave a worker running for nobody.
            answering.abandon()
            raise

    def stop(self) -> None:
        """
        Turn away everybody who waits, and forget what was kept for retries.
        """
        self._desk.slots.stop()
        self._desk.memory.stop()
        self._retries.stop()

    # Out to the client.

    async def _streamed(self, request: APIRequest, incoming: Incoming, answering: Answering) -> None:
        stream = EventStream(request, lambda end: self._clientLeft(request, incoming, answering))
        heading = self._heading(incoming)
        self._keepWarm(request, stream, heading.templates())
        sink = StreamSink(stream, heading, request.setEnd)
        answering.attach(sink)
        await self._outcome(sink, request, incoming, answering)

    def _keepWarm(self, request: APIRequest, stream: EventStream, chunks: ChunkTemplates) -> None:
        pings = {"chunk": chunks.keepAlive(), "comment": KEEP_ALIVE_COMMENT}
        ping = pings.get(self._configuration.keepAlive)
        if ping is not None:
            stream.keepWarm(ping, keepAliveInterval(request, self._configuration.keepAliveInterval))

    async def _whole(self, request: APIRequest, incoming: Incoming, answering: Answering) -> bytes:
        sink = await self._collected(request, incoming, answering)
        if incoming.schema is not None and not sink.hasCalls:
            verdict: str = checkAnswer(sink.text, incoming.schema)
            if verdict == "invalid":
                sink, verdict = await self._repaired(request, incoming, answering, sink)
            request.setHeader(b"x-hum-schema", verdict.encode())
        if not sink.hasUsage:
            request.setHeader(b"x-hum-usage", b"unknown")
        return sink.body()

    async def _collected(self, request: APIRequest, incoming: Incoming, answering: Answering) -> WholeSink:
        sink = WholeSink(self._heading(incoming))
        answering.attach(sink)
        await self._outcome(sink, request, incoming, answering)
        return sink

    async def _repaired(
        self, request: APIRequest, incoming: Incoming, answering: Answering, sink: WholeSink
    ) -> tuple[WholeSink, str]:
        # One more turn in the same session; when that fails, the first answer
        # is better than none.
        assert incoming.schema is not None
        again = incoming.followedBy(
            Message(role="assistant", content=sink.text), Message(role="user", content=_REPAIR)
        )
        # This runs while the end is told: the session is free a moment later.
        await answering.conversation.whenSettled()
        try:
            second = await self._collected(request, again, await self._asked(again))
        except APIError:
            return sink, "invalid"
        if second.hasCalls or checkAnswer(second.text, incoming.schema) == "invalid":
            return sink, "invalid"
        return second, "repaired"

    async def _outcome(
        self, sink: StreamSink | WholeSink, request: APIRequest, incoming: Incoming, answering: Answering
    ) -> None:
        try:
            await sink.outcome
        except CancelledError:
            self._clientLeft(request, incoming, answering)
            raise
        finally:
            if answering.ended is not None and answering.isAttended:
                self._retries.delivered(answering.attempt)

    def _clientLeft(self, request: APIRequest, incoming: Incoming, answering: Answering) -> None:
        # A server that stops waits for no retry.
        isStopping = request.end is End.DRAINED
        if answering.clientLeft(0 if isStopping else incoming.grace):
            self._retries.clientGone(answering.attempt)

    def _heading(self, incoming: Incoming) -> Heading:
        return Heading(
            id=f"chatcmpl-{secrets.token_urlsafe(18)}",
            created=int(self._now()),
            model=incoming.chat.model,
            reasoningField=cast("ReasoningField", self._configuration.reasoningField),
            includeUsage=incoming.chat.includeUsage,
            isLegacy=incoming.isLegacy,
        )

    # In to the worker.

    def _retried(self, incoming: Incoming) -> Answering | None:
        found = self._retries.find(
            incoming.account, incoming.fingerprint, incoming.retryCount, incoming.idempotencyKey
        )
        return None if found is None else found.running

    async def _answeringFor(self, incoming: Incoming) -> Answering:
        match = self._desk.calls.match(incoming.account, incoming.transcript)
        conversation = match.owner
        if not isinstance(conversation, Conversation):
            return await self._asked(incoming)
        if match.outcome is Outcome.SOME:
            raise _missing(match)
        if match.outcome is Outcome.ALL and not self._bringsFiles(incoming, match):
            return self._resumed(incoming, conversation, match)
        if match.outcome is Outcome.LATE:
            await self._settled(conversation, match)
            if incoming.transcript.showsHistory:
                return await self._asked(incoming)
            # A client that keeps no history brings nothing but the result.
            named = incoming.naming({at: call.clientName for call, at in match.results})
            return await self._asked(named, conversation.terms.session)
        conversation.giveUp(_resultsFrom(incoming, match))
        return await self._asked(incoming)

    async def _asked(self, incoming: Incoming, session: Session | None = None) -> Answering:
        made: list[Answering] = []

        def answerFor(conversation: Conversation, plan: SessionPlan) -> Answering:
            made.append(self._answering(incoming, conversation, plan.session, plan.kind))
            return made[0]

        await self._desk.ask(incoming, answerFor, session)
        return made[0]

    def _resumed(self, incoming: Incoming, conversation: Conversation, match: Match) -> Answering:
        results = _resultsFrom(incoming, match)
        added = "\n\n".join(incoming.chat.messages[at].text for at in match.extra)
        if added:
            call, text = results[-1]
            results[-1] = (call, f"{text}{_ALSO}{added}")
        session = conversation.terms.session
        answering = self._answering(incoming, conversation, session, Kind.CONTINUED)
        conversation.resume(results, answering)
        said = sorted([*(at for _, at in match.results), *match.extra])
        session.told(incoming.transcript.entries[at] for at in said)
        return answering

    @staticmethod
    def _bringsFiles(incoming: Incoming, match: Match) -> bool:
        # A result is text alone: what else the user adds goes into a new turn.
        added = (incoming.chat.messages[at] for at in match.extra)
        return any(part.words is None for message in added for part in message.parts)

    async def _settled(self, conversation: Conversation, match: Match) -> None:
        for call, _ in match.results:
            self._desk.calls.taken(call)
        waiting = conversation.whenSettled()
        # Only callLater is used of a reactor's time.
        waiting.addTimeout(SETTLE_PATIENCE, self._desk.clock)  # type: ignore[arg-type]
        try:
            await waiting
        except TimeoutError:
            conversation.cancel()

    def _answering(
        self, incoming: Incoming, conversation: Conversation, session: Session, kind: Kind
    ) -> Answering:
        translation = Translation(
            stop=incoming.chat.stop,
            stripFence=incoming.wantsJSON,
            showTools=self._configuration.workerTools,
            ownCalls=conversation.seenCalls,
        )
        answering = Answering(
            self._desk.clock,
            conversation,
            translation,
            model=incoming.chat.model,
            modelIsKnown=self._modelIsKnown,
            headersHold=self._configuration.headersHold if incoming.chat.stream else None,
            callFrom=lambda call: _callFrom(call, conversation),
            asked=incoming.transcript.digestBefore(len(incoming.transcript.entries))
            if incoming.isLegacy
            else None,
            onEnd=lambda: self._ended(incoming, answering, session),
        )
        answering.kind = kind
        answering.attempt = self._retries.begin(
            incoming.account, incoming.fingerprint, incoming.idempotencyKey, answering
        )
        return answering

    def _ended(self, incoming: Incoming, answering: Answering, session: Session) -> None:
        told = answering.told
        if not isinstance(answering.ended, Finished) or told.text is None:
            self._desk.memory.release(session, False)
        else:
            made = [
                callWithoutId(call.name, call.arguments) if incoming.isLegacy else call.id
                for call in told.calls
            ]
            self._desk.memory.answered(session, told.text, made)
        if answering.isAbandoned or _mayBeAskedAgain(answering):
            self._retries.delivered(answering.attempt)
        elif not answering.isAttended:
            self._retries.finished(answering.attempt, answering, answering.size)


def _mayBeAskedAgain(answering: Answering) -> bool:
    return isinstance(answering.ended, Failed) and answering.ended.error.mayRetry


def _headersOf(request: APIRequest) -> Mapping[str, str]:
    return {
        name.decode("latin-1").lower(): values[-1].decode("utf-8", "replace")
        for name, values in request.requestHeaders.getAllRawHeaders()
    }


def _callFrom(call: ParkedCall, conversation: Conversation) -> Call:
    if call.wireName in conversation.terms.customTools:
        return Call(call.publicId, call.clientName, inputText(call.arguments), "custom")
    return Call(call.publicId, call.clientName, call.arguments)


def _resultsFrom(incoming: Incoming, match: Match) -> list[tuple[ParkedCall, str]]:
    messages = incoming.chat.messages
    return [(call, resultText(messages[at].content, f"messages[{at}].content")) for call, at in match.results]


def _missing(match: Match) -> APIError:
    missing = ", ".join(call.publicId for call in match.missing)
    return APIError(
        "invalid_value",
        "An assistant message with 'tool_calls' must be followed by tool messages responding to each "
        f"'tool_call_id'. These have no response: {missing}.",
        param="messages",
    )
