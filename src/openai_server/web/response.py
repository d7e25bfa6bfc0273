# -*- test-case-name: tests.web.test_streaming -*-
"""
A response in progress: what a turn shows becomes output, output becomes bytes,
and the bytes go to each client that asked for them.

A L{Response} is one answer, whoever reads it. It keeps its output, so that a
retry can be given the same answer from its beginning, and the session can be
told what its client has read. A L{Delivery<openai_server.web.delivery.Delivery>}
is one client's share of it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Final, Protocol

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorTime

from openai_server import constants
from openai_server.api.inquiry import Call
from openai_server.api.output import (
    Failed,
    Finished,
    Output,
    Reasoning,
    Text,
    ToolCalls,
    Usage,
    WorkerTool,
)
from openai_server.api.renderer import Renderer
from openai_server.clock import Timeout, Timeouts
from openai_server.errors import APIError, End
from openai_server.sessions.calls import ParkedCall
from openai_server.sessions.conversation import Conversation
from openai_server.sessions.retries import Attempt
from openai_server.translate.estimate import answerSize, usageOfAnswer
from openai_server.translate.output import Translation
from openai_server.translate.words import noWorkerError
from openai_server.web.delivery import Delivery
from openai_server.web.interfaces import Request
from openai_server.wire.ends import TurnEnd
from openai_server.wire.tones import Error, Shown

#: Characters, reasoning included, of an answer that is kept whole.
WHOLE_LIMIT: Final = 32 * 1024 * 1024


class ResponseTimes:
    """
    The waits of all responses.

    @ivar hold: from the daemon's echo to the headers of a stream that has
        nothing to show yet.
    @ivar grace: for which an answer waits for the retry of a client that left
        before anything was sent.
    """

    def __init__(self, clock: IReactorTime) -> None:
        self.hold = Timeouts(clock, constants.HEADERS_HOLD)
        self.grace = Timeouts(clock, constants.RETRY_GRACE)

    def stop(self) -> None:
        """
        Wait for nothing more.
        """
        self.hold.stop()
        self.grace.stop()


class Keeper(Protocol):
    """
    Who is told of the ends of responses.
    """

    def modelIsKnown(self, model: str) -> bool:
        """
        Return whether a model that nobody serves now may come back.
        """

    def callFrom(self, response: Response, call: ParkedCall) -> Call:
        """
        Return what the client sees of a parked call.
        """

    def ended(self, response: Response) -> Deferred[Any] | None:
        """
        The answer is complete or has failed. Its clients are told next.

        @return: fires when they may be told; None when that is at once.
        """

    def delivered(self, response: Response, inGoodOrder: bool) -> None:
        """
        It is known whether a client has all of the answer.
        """


class Response:
    """
    One answer, which attends a conversation.

    @ivar conversation: what it attends.
    @ivar session: what its session is to the client.
    @ivar attempt: what a retry would find it by; None where none is expected.
    @ivar asked: for an answer that shows no ids of calls, the digest of the
        transcript that it answers; else None.
    @ivar own: what the dialect keeps for it; see L{Inquiry
        <openai_server.api.inquiry.Inquiry>}.
    @ivar output: all that was said so far; None when that became too much.
    @ivar length: characters of it.
    @ivar size: bytes of text that the session holds, with the answer when that
        is complete.
    @ivar calls: the calls that the answer ended with.
    @ivar ended: the last event, when there has been one.
    @ivar isAbandoned: whether it ended because nobody wanted it any more.
    @ivar verdict: what became of the check against a schema, for a header.
    @ivar check: called with a good end without calls; a Deferred from it holds
        that back until L{conclude}.
    @ivar isKept: whether it can be asked for when its clients have left.
    @ivar survives: whether it is made though nobody reads it.
    @ivar onLeft: called when nobody has come back, and the worker was asked to
        stop, but what it says is still told.
    @ivar listener: called with all that is said, as it is said, where no client
        reads it; else None.
    """

    __slots__ = (
        "_checking",
        "_clients",
        "_grace",
        "_hasHeld",
        "_hold",
        "_isHeld",
        "_isLeft",
        "_isStreamed",
        "_keeper",
        "_model",
        "_times",
        "_told",
        "_translation",
        "_whenEnded",
        "asked",
        "attempt",
        "calls",
        "check",
        "conversation",
        "ended",
        "isAbandoned",
        "isKept",
        "length",
        "listener",
        "onLeft",
        "output",
        "own",
        "session",
        "size",
        "survives",
        "verdict",
    )

    def __init__(
        self,
        keeper: Keeper,
        times: ResponseTimes,
        conversation: Conversation,
        translation: Translation,
        *,
        model: str,
        isStreamed: bool,
        attempt: Attempt[Response] | None,
        session: str,
        size: int,
        asked: bytes | None,
        own: object = None,
        survives: bool = False,
    ) -> None:
        """
        @param isStreamed: whether its first client wants it in pieces.
        @param attempt: what a retry would find; None where a client that was
            lost cannot come again.
        """
        self.conversation = conversation
        self.session = session
        self.size = size
        self.asked = asked
        self.own = own
        self.output: list[Output] | None = []
        self.length = 0
        self.calls: Sequence[Call] = ()
        self.ended: Finished | Failed | None = None
        self.isAbandoned = False
        self.isKept = attempt is not None and attempt.key is not None
        self.survives = survives
        self.verdict: bytes | None = None
        self.check: Callable[[Finished], Deferred[None] | None] | None = None
        self.listener: Callable[[Sequence[Output]], None] | None = None
        self.onLeft: Callable[[], None] | None = None
        self._isHeld = False
        self._isLeft = False
        self._times = times
        self._translation = translation
        self._model = model
        self._isStreamed = isStreamed
        self._keeper = keeper
        self.attempt = attempt
        self._clients: list[Delivery] = []
        # Who is told of the end when what it promises is kept.
        self._told: dict[Delivery, Sequence[Output]] | None = None
        self._checking: Deferred[None] | None = None
        self._hasHeld = False
        self._hold: Timeout | None = None
        self._grace: Timeout | None = None
        self._whenEnded: Deferred[None] | None = None

    @property
    def text(self) -> str | None:
        """
        All that was said, without reasoning; None when that was too much.
        """
        if self.output is None:
            return None
        return "".join([piece for event in self.output if type(event) is Text for piece in event.pieces])

    def usage(self) -> Usage:
        """
        Return what the answer has cost so far.
        """
        if self.ended is not None and self.ended.usage is not None:
            return self.ended.usage
        answer = self.length if self.output is None else answerSize(self.output)
        return usageOfAnswer(None, self.conversation.told, self.size, answer)

    @property
    def hasClients(self) -> bool:
        """
        Whether anybody reads it, or may come back to.
        """
        return bool(self._clients) or self._grace is not None

    def said(self) -> list[Output]:
        """
        Return all that was said, with the end when there has been one.
        """
        said = list(self.output or ())
        return said if self.ended is None else [*said, self.ended]

    def whenEnded(self) -> Deferred[None]:
        """
        Fires when the answer is complete or has failed; for one listener.
        """
        self._whenEnded = Deferred()
        if self.ended is not None:
            self._whenEnded.callback(None)
        return self._whenEnded

    # Its clients.

    def attach(
        self,
        request: Request,
        renderer: Renderer,
        keepAliveInterval: float,
        *,
        isAlone: bool = False,
        isStreamed: bool | None = None,
    ) -> None:
        """
        Give this client the answer, from its beginning.

        @param keepAliveInterval: seconds of silence after which a stream says
            something.
        @param isStreamed: whether it wants it in pieces, if not as the first
            one; then the stream begins at once.
        @param isAlone: whether the connections of clients that were there
            before are dead, whatever they look like: they are ended.
        """
        if self._grace is not None:
            self._grace.cancel()
            self._grace = None
        if isAlone:
            former, self._clients = self._clients, []
            for each in former:
                each.request.abort()
        isOwnWay = isStreamed is not None
        delivery = Delivery(
            self, request, renderer, self._isStreamed if isStreamed is None else isStreamed, keepAliveInterval
        )
        if self._told is not None:
            self._told[delivery] = self.said()
            return
        if self.ended is not None:
            delivery.conclude(self.said())
            return
        self._clients.append(delivery)
        if self._hasHeld or self.output or isOwnWay:
            delivery.begin()
        if self.output:
            delivery.give(self.output)

    def clientGone(self, delivery: Delivery, mayReturn: bool) -> None:
        """
        This client reads the answer no more. The turn goes on for a moment
        when it may be asked for again, and as long as others read it.

        @param mayReturn: whether the server will be there then.
        """
        if self._told is not None and self._told.pop(delivery, None) is not None:
            # The answer itself is as good as delivered: it may be asked for again.
            self._keeper.delivered(self, False)
        if delivery not in self._clients:
            return
        self._clients.remove(delivery)
        if self._clients:
            return
        mayRetry = self.attempt is not None and not delivery.request.startedWriting
        if not (mayReturn and (mayRetry or self.isKept or self.survives)):
            self.abandon()
            return
        if self.attempt is not None:
            self._keeper.delivered(self, False)
        if self.survives:
            return
        grace = self._times.grace
        if grace.duration:
            self._grace = grace.begin(self._leave)
        else:
            self._leave()

    def _leave(self) -> None:
        """
        Nobody has come back. What can be asked for later is told as long as
        the worker goes on, which is asked to stop.
        """
        self._grace = None
        if self.isKept and not self._isHeld:
            self._isLeft = True
            self.conversation.leave()
            if self.onLeft is not None:
                self.onLeft()
        else:
            self.abandon()

    def cancel(self) -> None:
        """
        End the answer as cancelled: somebody who may has asked for that.
        """
        self._stop(Failed(cancelled(), isCancelled=True))

    def cut(self, error: APIError) -> None:
        """
        End the answer with this, whatever its worker does.
        """
        self._stop(Failed(error))

    def _stop(self, last: Failed) -> None:
        if self.ended is None:
            self.conversation.cancel(End.CLIENT_GONE if last.isCancelled else last.error.kind.end)
            if self._checking is not None:
                self._checking.cancel()
            self._end(last, ())

    def notDelivered(self) -> None:
        """
        A mistake of ours keeps it from a client: no model waits for that one.
        """
        self.conversation.cancel(End.BUG)

    def delivered(self, inGoodOrder: bool) -> None:
        """
        A client to whom all was sent is known to have it, or to have left
        before it had all.
        """
        self._keeper.delivered(self, inGoodOrder)

    def abandon(self) -> None:
        """
        Nobody will ever read this answer: its turn is cancelled.
        """
        self._clients.clear()
        if self.ended is not None:
            return
        self.isAbandoned = True
        said = APIError("internal_error", "The answer was abandoned.", mayRetry=False)
        self._stop(Failed(said, isCancelled=True))

    # What the conversation tells.

    def turnEchoed(self) -> None:
        """
        Hold the headers of a stream back for a while: a first event, or a
        failure that becomes a status, may come at once.
        """
        if self._isStreamed and self._hold is None and not self._hasHeld:
            self._hold = self._times.hold.begin(self._begin)

    def _begin(self) -> None:
        self._hold = None
        self._hasHeld = True
        for delivery in self._clients:
            delivery.begin()

    def tonesReceived(self, tones: Sequence[Shown]) -> None:
        """
        Deliver what these tones say.
        """
        events = self._translation.feed(tones)
        if self._translation.isStopped and self.ended is None:
            # The text before the stop string is all of the answer.
            self.conversation.cancel(End.OK)
            events.append(Finished("stop", None))
        if events:
            self._give(events)

    def calledTools(self, calls: Sequence[ParkedCall]) -> None:
        """
        End the answer with these calls.
        """
        self.calls = tuple([self._keeper.callFrom(self, call) for call in calls])
        self.length += sum(len(call.arguments) for call in self.calls)
        rest = self._translation.flush()
        self._give([*rest, ToolCalls(self.calls), Finished("tool_calls", None)])

    def turnEnded(self, end: TurnEnd) -> None:
        """
        End the answer as the turn has ended.
        """
        if isinstance(end, Error) and end.saysNoWorker:
            known = self._keeper.modelIsKnown(self._model)
            self._give([Failed(noWorkerError(self._model, modelIsKnown=known))])
        else:
            self._give(self._translation.finish(end))

    def failed(self, error: APIError) -> None:
        """
        End the answer with an error.
        """
        self._give([Failed(error)])

    # Output.

    def _give(self, events: Sequence[Output]) -> None:
        if self.ended is not None or self._isHeld:
            return
        last = events[-1]
        if type(last) is Finished and self.check is not None and not self.calls:
            if len(events) > 1:
                self.add(events[:-1])
            if self.ended is None:
                self._count(last)
                self._holdBack(self.check, last)
        elif type(last) is Finished or type(last) is Failed:
            if not self._keep(events[:-1]):
                self._giveUp()
                return
            if type(last) is Finished:
                self._count(last)
            self._end(last, events)
        elif self._keep(events):
            if len(self._clients) == 1:
                self._clients[0].give(events)
            else:
                self._giveAll(events)
        else:
            self._giveUp()

    def add(self, events: Sequence[Output]) -> None:
        """
        Give some more of the answer that does not end it.
        """
        if self.ended is None and self._keep(events):
            self._giveAll(events)
        elif self.ended is None:
            self._giveUp()

    def _giveAll(self, events: Sequence[Output]) -> None:
        if self.listener is not None:
            self.listener(events)
        for delivery in list(self._clients):
            delivery.give(events)

    def _giveUp(self) -> None:
        self.cut(tooLong())

    def _count(self, finished: Finished) -> None:
        """
        Say what the answer costs.
        """
        conversation = self.conversation
        answer = self.length if self.output is None else answerSize(self.output)
        finished.isEstimated = finished.usage is None
        finished.usage = usageOfAnswer(finished.usage, conversation.told, self.size, answer)
        conversation.answered(finished.usage)
        self.size += answer

    def _keep(self, events: Sequence[Output]) -> bool:
        """
        Add to the output.

        @return: False for an answer that must be given whole and is too long.
        """
        output = self.output
        if output is None:
            return True
        for event in events:
            if type(event) is Text:
                pieces = event.pieces
                self.length += len(pieces[0]) if len(pieces) == 1 else sum(map(len, pieces))
                if output and type(output[-1]) is Text:
                    # What was given is written: it can be gone on with.
                    output[-1].pieces += pieces
                    continue
            elif type(event) is Reasoning:
                self.length += len(event.text)
            elif type(event) is WorkerTool:
                self.length += len(event.arguments) + len(event.output)
            output.append(event)
        if self.length <= WHOLE_LIMIT:
            return True
        self.output = None
        return bool(self._clients) and all(
            delivery.isStreamed and delivery.request.startedWriting for delivery in self._clients
        )

    def _holdBack(self, check: Callable[[Finished], Deferred[None] | None], last: Finished) -> None:
        self.check = None
        self._isHeld = True
        self._checking = check(last)
        if self._checking is None:
            self.conclude(last)

    def conclude(self, last: Finished | Failed, output: list[Output] | None = None) -> None:
        """
        Give the end that was held back, or this one in its place.

        @param output: what was said, where that is not what it was before.
        """
        if self._isHeld and self.ended is None:
            self._isHeld = False
            if output is not None:
                self.output = output
            self._end(last, (last,))

    def _end(self, last: Finished | Failed, events: Sequence[Output]) -> None:
        if type(last) is Failed:
            last.usage = self.usage()
            last.isCancelled |= self._isLeft
        self.ended = last
        # Waits hold this object.
        if self._hold is not None:
            self._hold.cancel()
            self._hold = None
        if self._grace is not None:
            self._grace.cancel()
            self._grace = None
        self._told = dict.fromkeys(self._clients, events or (last,))
        self._clients = []
        self.check = None
        kept: Deferred[Any] | None = None
        try:
            if self.listener is not None and len(events) > 1:
                self.listener(events[:-1])
            kept = self._keeper.ended(self)
        finally:
            if kept is None:
                self._tell()
            else:
                kept.addBoth(self._tell)

    def _tell(self, _: object = None) -> None:
        told, self._told = self._told, None
        for delivery, events in (told or {}).items():
            delivery.conclude(events)
        if self._whenEnded is not None and not self._whenEnded.called:
            self._whenEnded.callback(None)


def cancelled() -> APIError:
    """
    Return what is said of an answer that somebody had cancelled.
    """
    return APIError("worker_error", "The response was cancelled.", mayRetry=False)


def tooLongAgain() -> APIError:
    """
    Return what is said of an answer that was given, and is too long to be
    given once more.
    """
    said = "The answer to this request has become too long to be given once more."
    return APIError("worker_error", said, mayRetry=False)


def tooLong() -> APIError:
    """
    Return what is said of an answer that must be given whole, and is too long
    for that.
    """
    return APIError("worker_error", "The answer is too long to be given whole.", mayRetry=False)
