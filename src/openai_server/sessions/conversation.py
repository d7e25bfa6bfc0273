# -*- test-case-name: tests.sessions.test_conversation -*-
"""
One turn of a worker as its client sees it: over several HTTP answers, with
tool calls in between.

A conversation is the audience of its turn from the beginning to the end. At
most one HTTP answer attends it at a time; between a call that was handed out
and its result nobody does, and what arrives then is kept for the next answer.

The way of a tool call: it arrives; calls that come within the window join it;
when the text block that is being streamed has ended, they are handed out and
end the answer: the turn is parked. Then either the results come and the next
answer attends the same turn, or the park's deadline passes: the model is told
that the results will come later, and the turn I{settles}: it goes on, unheard,
to its end, after which its sid may be prompted again.

Facts (seen with humd 0.31.18 and the claude CLI): a model waits for each of
its calls; the CLI gives up on one after 60 s and tells nobody; a second result
for a call is ignored; a call that carries C{sigil} was not routed by name, and
its result will be dropped by the daemon.
"""

from __future__ import annotations

from collections.abc import Callable, Container, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from itertools import groupby
from typing import Final

from twisted.internet.defer import Deferred, succeed
from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger

from openai_server.clock import Deadline
from openai_server.daemon.interfaces import Turn
from openai_server.errors import APIError
from openai_server.metrics import Counters
from openai_server.sessions.calls import CallTable, ParkedCall
from openai_server.sessions.handout import Handout
from openai_server.sessions.terms import Answer, Slot, Terms
from openai_server.wire.ends import TurnEnd, endsWell
from openai_server.wire.tones import Chunk, Error, SessionReady, Shown, ToolCall

#: What a parked turn may say while nobody attends it, in tones and characters.
UNHEARD_TONES: Final = 4096
UNHEARD_CHARACTERS: Final = 1024 * 1024
LATE_RESULT: Final = (
    "The result of this call is not there yet. It will be given to you in a later message. "
    "Do not wait for it and do not repeat the call: end your turn now."
)
UNKNOWN_TOOL: Final = "There is no tool of this name here."


class Conversation:
    """
    The audience of one turn. See the module's docstring.

    @ivar terms: what it was begun with.
    @ivar isSettling: the park's deadline has passed.
    """

    _log = Logger()

    def __init__(
        self, clock: IReactorTime, terms: Terms, calls: CallTable, slot: Slot, counters: Counters
    ) -> None:
        self.terms = terms
        self.isSettling = False
        self._clock = clock
        self._table = calls
        self._slot = slot
        self._counters = counters
        self._turn: Turn | None = None
        self._answer: Answer | None = None
        self._end: TurnEnd | None = None
        self._realEnd: TurnEnd | None = None
        self._waiting: list[Deferred[TurnEnd]] = []
        self._isCancelled = False
        self._hasLife = False
        self._handout = Handout(clock, terms.collectWindow, terms.parallel, self._handOut)
        self._seen: set[str] = set()
        self._unroutable = False
        self._unheard: list[Shown] = []
        self._unheardSize = 0
        self._park: Deadline | None = None
        self._settled: list[Deferred[bool]] = []
        self._hasSettled = False

    # What the flow of a request does.

    def begin(self, answer: Answer, ask: Callable[[], Turn]) -> None:
        """
        Ask the question, with this answer attending.

        @param ask: puts the prompt to the daemon.
        @raise APIError: it was not asked, and the slot is the caller's again.
        """
        self._answer = answer
        self._turn = ask()

    @property
    def isParked(self) -> bool:
        """
        The model waits for results of calls that were handed out.
        """
        return self._answer is None and bool(self._handout.open) and self._mayGoOn

    @property
    def isOver(self) -> bool:
        """
        Nothing more will come of this turn, for anybody.
        """
        return self._end is not None or self._isCancelled

    @property
    def hasEndedWell(self) -> bool:
        """
        The turn came to its own good end: its sid may be prompted again.
        """
        return self._end is not None and endsWell(self._end)

    @property
    def seenCalls(self) -> Container[str]:
        """
        The ids of all calls that this side answers, or has refused.
        """
        return self._seen

    def whenOver(self) -> Deferred[TurnEnd]:
        """
        Fires when the worker is done with the turn: later than its end for
        the client, when it was cancelled.
        """
        if self._realEnd is not None:
            return succeed(self._realEnd)
        waiting: Deferred[TurnEnd] = Deferred()
        self._waiting.append(waiting)
        return waiting

    @property
    def _mayGoOn(self) -> bool:
        return not (self.isOver or self.isSettling)

    def whenSettled(self) -> Deferred[bool]:
        """
        Fires when the end of the turn has been told to its answer, with
        L{hasEndedWell}.
        """
        if self._hasSettled:
            return succeed(self.hasEndedWell)
        waiting: Deferred[bool] = Deferred(self._settled.remove)
        self._settled.append(waiting)
        return waiting

    def resume(self, results: Iterable[tuple[ParkedCall, str]], answer: Answer) -> None:
        """
        Give the model the results that it waits for, and let this answer
        attend. What was said unheard comes to it first.

        @param results: each call with its result.
        @raise APIError: there is no connection to the daemon; nothing was
            sent, and the same results may be given again.
        """
        turn = self._asked()
        for call, text in results:
            if call.callId in self._handout.open:
                turn.answer(call.callId, call.wireName, text, False)
                self._table.taken(call)
                self._handout.drop(call.callId)
        self._stopPark()
        turn.resume()
        self._answer = answer
        answer.turnEchoed()
        self._deliverUnheard()
        if self._handout.new:
            self._handout.collect()

    def giveUp(self, results: Iterable[tuple[ParkedCall, str]]) -> None:
        """
        The client goes on without all results: the model is given those that
        there are, and the turn is cancelled.
        """
        for call, text in results:
            if self._handout.drop(call.callId) is not None and self._table.taken(call):
                with suppress(APIError):
                    self._asked().answer(call.callId, call.wireName, text, False)
        self.cancel()

    def cancel(self) -> None:
        """
        Nobody wants this turn any more: it drains, and its open calls are
        answered with an error, so that the model stops waiting.
        """
        self._answer = None
        if self.isOver or self._turn is None:
            return
        self._isCancelled = True
        self._turn.cancel()
        self._slot.drain()
        self._close()
        self._settle()

    # The audience of the turn.

    def turnEchoed(self) -> None:
        """
        See L{Audience.turnEchoed<openai_server.daemon.interfaces.Audience.turnEchoed>}.
        """
        if self._answer is not None:
            self._answer.turnEchoed()

    def tonesReceived(self, tones: Sequence[Shown]) -> None:
        """
        See L{Audience.tonesReceived<openai_server.daemon.interfaces.Audience.tonesReceived>}.
        """
        if not self._hasLife:
            self._hasLife = True
            self._slot.showedLife()
        self._handout.watch(tones)
        for kind, run in groupby(tones, type):
            if kind is Chunk and self._answer is not None:
                self._answer.tonesReceived(list(run))
                continue
            for tone in run:
                if not self.isOver:
                    self._toneReceived(tone)
        if self._handout.isDue:
            self._handOut()

    def _toneReceived(self, tone: Shown) -> None:
        match tone:
            case ToolCall():
                self._called(tone)
            case Error():
                self._callFailed(tone)
            case SessionReady():
                self._compareTools(tone)
            case Chunk() if not self.isSettling:
                self._keepUnheard(tone)

    def _compareTools(self, tone: SessionReady) -> None:
        missing, surplus = self.terms.differences(tone.tools)
        if missing or surplus:
            self._counters.add("catalogue_differences")
            self._log.warn(
                "a model sees other tools than were offered: {missing} are missing, {surplus} too many",
                missing=missing,
                surplus=surplus,
            )

    def turnEnded(self, end: TurnEnd) -> None:
        """
        See L{Audience.turnEnded<openai_server.daemon.interfaces.Audience.turnEnded>}.
        """
        self._end = end
        if not self._asked().isOver:
            # It was given up, and its worker goes on.
            self._slot.drain()
        answer, self._answer = self._answer, None
        self._close()
        if answer is not None:
            with self._ending(answer):
                answer.turnEnded(end)
        self._settle()

    @contextmanager
    def _ending(self, answer: Answer) -> Iterator[None]:
        """
        Tell an answer of its end. A mistake of ours on the way is the end of
        it too: nobody else would end it.
        """
        try:
            yield
        except Exception:
            self._log.failure("an answer could not be ended well")
            self.cancel()
            answer.failed(APIError("internal_error", "The server failed.", mayRetry=False))

    def turnOver(self, end: TurnEnd) -> None:
        """
        Give back what the turn was given: this is the one place where a slot
        is released.
        """
        self._realEnd = end
        self._slot.release()
        waiting, self._waiting = self._waiting, []
        for deferred in waiting:
            deferred.callback(end)

    # Calls.

    def _called(self, tone: ToolCall) -> None:
        name = tone.toolName or tone.name or ""
        if name not in self.terms.names:
            self._refuse(tone, name, UNKNOWN_TOOL)
        elif self.isSettling:
            self._refuse(tone, name, LATE_RESULT)
        else:
            self._accept(tone)

    def _accept(self, tone: ToolCall) -> None:
        self._seen.add(tone.callId)
        try:
            call = self._table.opened(self, self.terms, tone, self._clock.seconds())
        except APIError as error:
            self._fail(error)
            return
        self._unroutable |= tone.sigil is not None
        self._handout.add(call)
        if self._answer is not None:
            self._handout.collect()

    def _fail(self, error: APIError) -> None:
        answer = self._answer
        self.cancel()
        if answer is not None:
            answer.failed(error)

    def _refuse(self, tone: ToolCall, name: str, why: str) -> None:
        self._seen.add(tone.callId)
        self._counters.add("undeclared_calls" if why is UNKNOWN_TOOL else "late_calls")
        if tone.sigil is None:
            self._asked().answer(tone.callId, name, why, True)
            return
        # Its result would be dropped: the model waits for nothing.
        lost = "The model called a tool whose result nobody can give it."
        self._fail(APIError("tool_route_lost", lost, mayRetry=False))

    def _callFailed(self, tone: Error) -> None:
        call = self._handout.drop(str(tone.callId))
        if call is None:
            return
        self._table.closed(call)
        if self._park is not None and not self._handout.open and self._answer is None:
            # The model waits for nobody any more, and goes on unheard.
            self._stopPark()
            self._beginSettling()

    def _handOut(self) -> None:
        self._handout.stop()
        answer = self._answer
        if answer is None or not self._handout.new:
            return
        handed = self._handout.take()
        self._answer = None
        with self._ending(answer):
            self._table.shown(handed, answer.asked)
            if not self._unroutable:
                self._asked().park()
                left = self._handout.firstArrival + self.terms.parkTimeout - self._clock.seconds()
                self._park = Deadline(self._clock, max(left, 0), self._parkPassed)
            answer.calledTools(handed)
        if self._unroutable:
            # Not before: a call that is given up loses its arguments.
            self.cancel()

    def _parkPassed(self) -> None:
        self._beginSettling()
        turn = self._asked()
        if not self.isOver:
            for call in self._handout.clear():
                self._table.expired(call)
                turn.answer(call.callId, call.wireName, LATE_RESULT, True)

    def _beginSettling(self) -> None:
        self.isSettling = True
        self._unheard.clear()
        self._asked().settle()

    # Text that nobody hears yet.

    def _keepUnheard(self, tone: Chunk) -> None:
        self._unheard.append(tone)
        if isinstance(tone.delta, str):
            self._unheardSize += len(tone.delta)
        if len(self._unheard) > UNHEARD_TONES or self._unheardSize > UNHEARD_CHARACTERS:
            self._counters.add("unheard_overflows")
            self.cancel()

    def _deliverUnheard(self) -> None:
        unheard, self._unheard, self._unheardSize = self._unheard, [], 0
        if unheard and self._answer is not None:
            self._answer.tonesReceived(unheard)

    # The end.

    def _asked(self) -> Turn:
        assert self._turn is not None, "a conversation hears of its turn after it was asked"
        return self._turn

    def _stopPark(self) -> None:
        if self._park is not None:
            self._park.cancel()

    def _close(self) -> None:
        self._handout.stop()
        self._stopPark()
        for call in self._handout.clear():
            self._table.expired(call)
        self._unheard.clear()

    def _settle(self) -> None:
        self._hasSettled = True
        waiting, self._settled = self._settled, []
        for deferred in waiting:
            deferred.callback(self.hasEndedWell)
