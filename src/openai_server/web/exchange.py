# -*- test-case-name: tests.web.test_exchange -*-
"""
One answer in the making: between a conversation, which tells in tones what the
worker does, and a client, who reads bytes.

An exchange translates tones to events and gives them to a sink: a stream of
server-sent events, or a body that is made when all is known. As long as no
byte of it has been sent the exchange keeps its events, so that a client's
retry can be given the same answer from its beginning.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final, Protocol

from twisted.internet.interfaces import IReactorTime

from openai_server.api.inquiry import Call
from openai_server.api.output import Failed, Finished, Output, Reasoning, Text, ToolCalls, WorkerTool
from openai_server.clock import Deadline
from openai_server.errors import APIError
from openai_server.sessions.calls import ParkedCall
from openai_server.sessions.conversation import Conversation
from openai_server.translate.output import Stopped, Translated, Translation
from openai_server.translate.words import noWorkerError
from openai_server.wire.ends import TurnEnd
from openai_server.wire.tones import Error, Shown

#: Characters, reasoning included, that an answer may have while it is kept whole.
WHOLE_LIMIT: Final = 32 * 1024 * 1024


class Sink(Protocol):
    """
    Where the events of an exchange go for one HTTP request.
    """

    @property
    def hasBegun(self) -> bool:
        """
        Whether a byte of the answer has been sent.
        """

    def give(self, events: Sequence[Output]) -> None:
        """
        Some more of the answer, in order. The last event of all is a
        C{Finished} or a C{Failed}.
        """

    def holdPassed(self) -> None:
        """
        The headers have been held back for long enough.
        """


@dataclass
class Told:
    """
    What an answer said, for the memory of sessions.

    @ivar pieces: the text as it was delivered, None when the answer became
        too long.
    @ivar length: characters of text and reasoning.
    """

    pieces: list[str] | None
    calls: tuple[Call, ...] = ()
    length: int = 0

    @property
    def text(self) -> str | None:
        """
        All that was said.
        """
        return None if self.pieces is None else "".join(self.pieces)


class Exchange:
    """
    One answer, attending a conversation; see L{Answer
    <openai_server.sessions.terms.Answer>} for what it is told.

    @ivar conversation: what it attends.
    @ivar asked: see L{Answer.asked<openai_server.sessions.terms.Answer.asked>}.
    @ivar told: what it said so far.
    @ivar ended: the last event, when there has been one.
    @ivar isAbandoned: it ended because nobody wanted it any more.
    """

    def __init__(
        self,
        clock: IReactorTime,
        conversation: Conversation,
        translation: Translation,
        *,
        model: str,
        modelIsKnown: Callable[[str], bool],
        headersHold: float | None,
        callFrom: Callable[[ParkedCall], Call],
        asked: bytes | None,
        onEnd: Callable[[], None],
    ) -> None:
        """
        @param model: the id that was asked for.
        @param modelIsKnown: whether a model that nobody serves now may come
            back.
        @param headersHold: seconds after the echo for which headers wait for
            a first event; None for an answer that is sent whole.
        @param callFrom: a parked call as the client sees it.
        @param asked: see L{Answer.asked<openai_server.sessions.terms.Answer.asked>}.
        @param onEnd: called once, when the answer is complete or has failed.
        """
        self.conversation = conversation
        self.asked = asked
        self.told = Told([])
        self.ended: Finished | Failed | None = None
        self.isAbandoned = False
        self._model = model
        self._modelIsKnown = modelIsKnown
        self._clock = clock
        self._translation = translation
        self._headersHold = headersHold
        self._callFrom = callFrom
        self._onEnd = onEnd
        self._sink: Sink | None = None
        self._kept: list[Output] | None = []
        self._hold: Deadline | None = None
        self._holdHasPassed = False
        self._grace: Deadline | None = None

    # What the flow of a request does.

    def attach(self, sink: Sink) -> None:
        """
        Give this sink the answer, from its beginning.
        """
        self._stop(self._grace)
        self._sink = sink
        if self._kept:
            self._pass(self._kept[:])
        if self._holdHasPassed:
            sink.holdPassed()

    def clientLeft(self, grace: float) -> bool:
        """
        Nobody reads this answer any more.

        @param grace: seconds that a retry may take to ask for it, 0 where
            none will come; only an answer of which nothing was sent waits.
        @return: whether it waits.
        """
        sink, self._sink = self._sink, None
        if sink is None or self.ended is not None:
            return False
        if grace and not sink.hasBegun:
            self._grace = Deadline(self._clock, grace, self.abandon)
            return True
        self.abandon()
        return False

    def abandon(self) -> None:
        """
        Nobody will ever read this answer: its turn is cancelled.
        """
        self._sink = None
        if self.ended is None:
            self.isAbandoned = True
            self.conversation.cancel()
            self._finish(Failed(APIError("internal_error", "The answer was abandoned.", mayRetry=False)))

    @property
    def isAttended(self) -> bool:
        """
        A client is there.
        """
        return self._sink is not None

    @property
    def size(self) -> int:
        """
        Characters kept.
        """
        return self.told.length + sum(len(call.arguments) for call in self.told.calls)

    # What the conversation tells.

    def turnEchoed(self) -> None:
        """
        See L{Answer.turnEchoed<openai_server.sessions.terms.Answer.turnEchoed>}.
        """
        if self._headersHold is not None and self._hold is None and self.ended is None:
            self._hold = Deadline(self._clock, self._headersHold, self._holdPassed)

    def _holdPassed(self) -> None:
        self._holdHasPassed = True
        if self._sink is not None:
            self._sink.holdPassed()

    def tonesReceived(self, tones: Sequence[Shown]) -> None:
        """
        See L{Answer.tonesReceived<openai_server.sessions.terms.Answer.tonesReceived>}.
        """
        events = self._translation.feed(tones)
        if events:
            self._give(events)

    def calledTools(self, calls: Sequence[ParkedCall]) -> None:
        """
        See L{Answer.calledTools<openai_server.sessions.terms.Answer.calledTools>}.
        """
        handed = tuple(map(self._callFrom, calls))
        self.told.calls = handed
        self._give([*self._translation.flush(), ToolCalls(handed), Finished("tool_calls", None)])

    def turnEnded(self, end: TurnEnd) -> None:
        """
        See L{Answer.turnEnded<openai_server.sessions.terms.Answer.turnEnded>}.
        """
        if isinstance(end, Error) and end.saysNoWorker:
            known = self._modelIsKnown(self._model)
            self._give([Failed(noWorkerError(self._model, modelIsKnown=known))])
        else:
            self._give(self._translation.finish(end))

    def failed(self, error: APIError) -> None:
        """
        See L{Answer.failed<openai_server.sessions.terms.Answer.failed>}.
        """
        self._give([Failed(error)])

    # Events.

    def _give(self, translated: Sequence[Translated]) -> None:
        if self.ended is not None:
            return
        events: list[Output] = []
        for event in translated:
            if isinstance(event, Stopped):
                self._stopped(translated)
                return
            if isinstance(event, Text):
                self._tell(event.pieces)
            elif isinstance(event, Reasoning):
                self._lengthen(len(event.text))
            events.append(event)
        passed = events if self._kept is None else self._keep(events)
        self._pass(passed)
        last = passed[-1]
        if isinstance(last, Finished | Failed):
            self._finish(last)

    def _tell(self, pieces: Sequence[str]) -> None:
        if self.told.pieces is not None:
            self.told.pieces += pieces
        self._lengthen(sum(map(len, pieces)))

    def _lengthen(self, characters: int) -> None:
        self.told.length += characters
        if self.told.length > WHOLE_LIMIT:
            self.told.pieces = None

    def _stopped(self, translated: Sequence[Translated]) -> None:
        # The text before the stop string is all of the answer.
        self.conversation.cancel()
        before: list[Output] = [
            event for event in translated if isinstance(event, Text | Reasoning | WorkerTool)
        ]
        last = Finished("stop", None)
        if self._kept is not None:
            self._kept += [*before, last]
        self._pass([*before, last])
        self._finish(last)

    def _keep(self, events: Sequence[Output]) -> Sequence[Output]:
        assert self._kept is not None
        if self.told.pieces is None:
            self.conversation.cancel()
            tooLong = APIError("worker_error", "The answer is too long to be given whole.", mayRetry=False)
            self._kept.clear()
            events = [Failed(tooLong)]
        self._kept += events
        return events

    def _pass(self, events: Sequence[Output]) -> None:
        if self._sink is not None:
            self._sink.give(events)
            if self._sink is not None and self._sink.hasBegun:
                self._kept = None

    def _finish(self, last: Finished | Failed) -> None:
        if self.ended is None:
            self.ended = last
            self._stop(self._hold)
            self._stop(self._grace)
            self._onEnd()

    @staticmethod
    def _stop(deadline: Deadline | None) -> None:
        if deadline is not None:
            deadline.cancel()

