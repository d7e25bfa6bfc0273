# -*- test-case-name: tests.sessions.test_conversation -*-
"""
One turn of a worker as its client sees it: over several HTTP answers, with
tool calls in between.

    attended <----> parked               an answer attends | the model waits for results
       |  |           |  |
       |  |           |  +-> settling    nobody attends, the worker comes to its own end
       |  |           |      |   |
       |  +-> draining <-----+   |       cancelled: nothing more is told
       v         v               v
     ended     ended           ended     the turn's end was told

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

from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from enum import Enum
from itertools import groupby
from typing import Final

from twisted.internet.defer import Deferred, succeed
from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger

from openai_server import constants
from openai_server.api.output import Failed, Finished, Usage
from openai_server.clock import Deadline
from openai_server.daemon.interfaces import Daemon, Turn
from openai_server.errors import APIError, End
from openai_server.metrics import Counters
from openai_server.sessions.callbatch import CallBatch
from openai_server.sessions.calls import CallState, CallTable, ParkedCall
from openai_server.sessions.plans import Session
from openai_server.sessions.pool import Slot
from openai_server.sessions.turncontext import Attendant, EndedTurn, TurnContext
from openai_server.wire.ends import TurnEnd, endsWell
from openai_server.wire.tones import Chunk, Error, Prompt, SessionReady, Shown, ToolCall, ToolDefinition

#: What a parked turn may say while nobody attends it, in tones and characters.
UNHEARD_TONES: Final = 4096
UNHEARD_CHARACTERS: Final = 1024 * 1024
LATE_RESULT: Final = (
    "The result of this call is not there yet. It will be given to you in a later message. "
    "Do not wait for it and do not repeat the call: end your turn now."
)
UNKNOWN_TOOL: Final = "There is no tool of this name here."

_CHUNKS_ONLY: Final = {Chunk}
_NOTHING: Final = Usage()


class Phase(Enum):
    """
    Where a conversation is: see the diagram of the module.
    """

    # Each is one object: an enumeration's own hash is a call each time.
    __hash__ = object.__hash__

    ATTENDED = "attended"
    PARKED = "parked"
    SETTLING = "settling"
    DRAINING = "draining"
    ENDED = "ended"


class Step(Enum):
    """
    What moves a conversation from one phase to another.
    """

    __hash__ = object.__hash__

    #: Calls were handed out, which ended their answer.
    HAND_OUT = "hand out"
    #: The results are there, with the next answer.
    RESUME = "resume"
    #: The model waits for nobody any more.
    SETTLE = "settle"
    #: Nobody wants the turn any more.
    CANCEL = "cancel"
    #: The turn's end was told.
    END = "end"


#: A step that is not here changes nothing.
_NEXT: Final[Mapping[tuple[Phase, Step], Phase]] = {
    (Phase.ATTENDED, Step.HAND_OUT): Phase.PARKED,
    (Phase.ATTENDED, Step.CANCEL): Phase.DRAINING,
    (Phase.ATTENDED, Step.END): Phase.ENDED,
    (Phase.PARKED, Step.RESUME): Phase.ATTENDED,
    (Phase.PARKED, Step.SETTLE): Phase.SETTLING,
    (Phase.PARKED, Step.CANCEL): Phase.DRAINING,
    (Phase.PARKED, Step.END): Phase.ENDED,
    (Phase.SETTLING, Step.CANCEL): Phase.DRAINING,
    (Phase.SETTLING, Step.END): Phase.ENDED,
    (Phase.DRAINING, Step.END): Phase.ENDED,
}


class Conversation:
    """
    The audience of one turn. See the module's docstring.

    @ivar context: what it was begun with.
    @ivar onLeft: what is to be called some time after another process has
        the turn, when its worker is surely done; None for nothing.
    @ivar phase: where it is.
    @ivar seenCalls: ids of all calls that this side answers, or has refused.
    @ivar slot: its place in its worker.
    @ivar told: what its answers were told to cost so far, all together.
    @ivar handedOut: how many calls clients were given.
    @ivar askedAt: when it was asked, in seconds of the clock.
    """

    __slots__ = (
        "_answer",
        "_batch",
        "_clock",
        "_counters",
        "_end",
        "_hasLife",
        "_isSettled",
        "_isUnsure",
        "_onOver",
        "_onReady",
        "_onSettled",
        "_park",
        "_table",
        "_turn",
        "_unfinished",
        "_unheard",
        "_unheardSize",
        "_unroutable",
        "_whenSettled",
        "_why",
        "askedAt",
        "context",
        "handedOut",
        "onLeft",
        "phase",
        "seenCalls",
        "slot",
        "told",
    )

    _log = Logger()

    def __init__(
        self,
        clock: IReactorTime,
        context: TurnContext,
        calls: CallTable,
        slot: Slot,
        counters: Counters,
        onSettled: Callable[[Session, bool], None] | None = None,
        onOver: Callable[[EndedTurn], None] | None = None,
        onReady: Callable[[object], None] | None = None,
    ) -> None:
        """
        @param onSettled: called once, when the turn's end was told to its
            answer or it was cancelled, with whether its sid may be used again.
        @param onOver: called once, when the worker is really done.
        @param onReady: called with what the process says that its model can call.
        """
        self.context = context
        self.phase = Phase.ATTENDED
        self.seenCalls: dict[str, None] = {}
        self.told = _NOTHING
        self.handedOut = 0
        self.askedAt = clock.seconds()
        self._clock = clock
        self._table = calls
        self.slot = slot
        self._counters = counters
        self._onSettled = onSettled
        self._onOver = onOver
        self.onLeft: Callable[[], None] | None = None
        self._onReady = onReady
        self._turn: Turn | None = None
        self._answer: Attendant | None = None
        self._end: TurnEnd | None = None
        # Of an answer that was not told what it cost, and why there is none.
        self._unfinished = _NOTHING
        self._why: End | None = None
        self._hasLife = False
        self._batch = CallBatch(clock, constants.COLLECT_WINDOW, context.parallel)
        self._unroutable = False
        self._isUnsure = False
        self._unheard: list[Shown] | None = None
        self._unheardSize = 0
        self._park: Deadline | None = None
        self._isSettled = False
        self._whenSettled: list[Deferred[bool]] | None = None

    # What the flow of a request does.

    def begin(
        self,
        answer: Attendant,
        daemon: Daemon,
        prompt: Prompt,
        formerTools: Sequence[ToolDefinition] = (),
    ) -> None:
        """
        Ask the question, with this answer attending.

        @param formerTools: see L{Daemon.ask}.
        @raise APIError: it was not asked, and the slot is the caller's again.
        """
        self._answer = answer
        self._turn = daemon.ask(prompt, self, formerTools)

    def adopt(self, daemon: Daemon, calls: Sequence[ParkedCall], seconds: float) -> None:
        """
        Go on with a parked turn that an earlier process asked.

        @param calls: those that wait for results.
        @param seconds: how long the model waits for them.
        """
        context = self.context
        self.phase = Phase.PARKED
        self._hasLife = True
        for call in calls:
            self._batch.open[call.callId] = call
            if call.state is CallState.KEPT:
                self._batch.new.append(call)
        tools = () if self.slot.tools is None else tuple(self.slot.tools.own.values())
        asked = [ToolCall(sid=context.sid, callId=call.callId, toolName=call.wireName) for call in calls]
        self._turn = daemon.adopt(context.sid, self.slot.model, asked, tools, self)
        self._park = Deadline(self._clock, max(seconds, 0), self._parkPassed)

    def letGo(self) -> None:
        """
        Leave a parked turn to another process: nothing more is told of it here.
        """
        self._stopPark()
        self._asked().letGo()
        self._move(Step.END)
        self.slot.release()

    @property
    def openCalls(self) -> Sequence[ParkedCall]:
        """
        The calls that have no result.
        """
        return tuple(self._batch.open.values())

    @property
    def isParked(self) -> bool:
        """
        Whether the model waits for results of calls that were handed out.
        """
        return self.phase is Phase.PARKED and bool(self._batch.open)

    @property
    def isOver(self) -> bool:
        """
        Whether nothing more will come of this turn, for anybody.
        """
        return self.phase is Phase.DRAINING or self.phase is Phase.ENDED

    @property
    def hasEndedWell(self) -> bool:
        """
        Whether the turn came to its own good end, so that its sid may be
        prompted again.
        """
        return self._end is not None and endsWell(self._end)

    def whenSettled(self) -> Deferred[bool]:
        """
        Fires with L{hasEndedWell} when the end of the turn has been told to
        its answer, or it was cancelled.
        """
        if self._isSettled:
            return succeed(self.hasEndedWell)
        listeners = self._whenSettled = self._whenSettled or []
        waiting: Deferred[bool] = Deferred(listeners.remove)
        listeners.append(waiting)
        return waiting

    def resume(self, results: Iterable[tuple[ParkedCall, str]], answer: Attendant) -> None:
        """
        Give the model the results that it waits for, and let this answer
        attend. What was said unheard comes to it first.

        @param results: each call with its result.
        @raise APIError: there is no connection to the daemon; nothing was
            sent, and the same results may be given again.
        """
        turn = self._asked()
        for call, text in results:
            if call.callId in self._batch.open:
                turn.answer(call.callId, call.wireName, text, False)
                self._table.taken(call)
                self._batch.drop(call.callId)
        self._stopPark()
        turn.resume()
        self._move(Step.RESUME)
        self._answer = answer
        answer.turnEchoed()
        self._deliverUnheard()
        if self._batch.new:
            self._batch.collect(self._handOut)

    def answered(self, usage: Usage) -> None:
        """
        Note what an answer that is complete is told to cost.
        """
        self.told += usage
        self._unfinished = _NOTHING

    def giveUp(self, results: Iterable[tuple[ParkedCall, str]]) -> None:
        """
        The client goes on without all results: the model is given those that
        there are, and the turn is cancelled.
        """
        for call, text in results:
            if self._batch.drop(call.callId) is not None and self._table.taken(call):
                with suppress(APIError):
                    self._asked().answer(call.callId, call.wireName, text, False)
        self.cancel()

    def cancel(self, why: End = End.CLIENT_GONE) -> None:
        """
        Nobody wants this turn any more: it drains, and its open calls are
        answered with an error, so that the model stops waiting.
        """
        answer, self._answer = self._answer, None
        if self._turn is None or self.isOver:
            return
        self._why = why
        if answer is not None:
            self._unfinished = answer.usage()
        self._move(Step.CANCEL)
        self._turn.cancel()
        self.slot.drain()
        self._close()
        self._settle()

    def leave(self) -> None:
        """
        Nobody reads the answer that attends any more, but it is kept: the
        worker is asked to stop, and what it still says is told. The slot is
        not held for long, and the session is not used again.
        """
        if self._turn is not None and self.phase is Phase.ATTENDED:
            self.slot.drain()
            self._settle()
            self._turn.leave()

    # The audience of the turn.

    def turnEchoed(self) -> None:
        """
        Tell the answer that the daemon has read the prompt.
        """
        if self._answer is not None:
            self._answer.turnEchoed()

    def tonesReceived(self, tones: Sequence[Shown]) -> None:
        """
        Pass on what the turn shows, or keep it for the next answer.
        """
        if not self._hasLife:
            self._hasLife = True
            self.slot.showedLife()
        answer = self._answer
        if self.context.names:
            self._batch.watch(tones)
        if answer is not None and (
            type(tones[0]) is Chunk if len(tones) == 1 else set(map(type, tones)) == _CHUNKS_ONLY
        ):
            answer.tonesReceived(tones)
        else:
            self._mixedReceived(tones)
        if self._batch.isDue:
            self._handOut()

    def _mixedReceived(self, tones: Sequence[Shown]) -> None:
        for kind, run in groupby(tones, type):
            if kind is Chunk and self._answer is not None:
                self._answer.tonesReceived(list(run))
                continue
            for tone in run:
                if not self.isOver:
                    self._toneReceived(tone)

    def _toneReceived(self, tone: Shown) -> None:
        match tone:
            case ToolCall():
                self._called(tone)
            case Error():
                self._callFailed(tone)
            case SessionReady():
                if self._onReady is not None:
                    self._onReady(tone.tools)
                self._compareTools(tone)
            case Chunk() if self.phase is Phase.PARKED:
                self._keepUnheard(tone)

    def _compareTools(self, tone: SessionReady) -> None:
        missing, surplus = self.context.differences(tone.tools)
        if missing or surplus:
            self._counters.add("catalogue_differences")
            self._log.warn(
                "a model sees other tools than were offered: {missing} are missing, {surplus} too many",
                missing=missing,
                surplus=len(surplus),
            )
        if surplus:
            self.slot.sawOthers(surplus)

    def turnEnded(self, end: TurnEnd) -> None:
        """
        Tell the answer that the turn is over, and why.
        """
        # Another process may have answered its calls: what its session has seen is not known.
        self._isUnsure = self.isParked and self._table.isShared
        self._end = end
        self._move(Step.END)
        if not self._asked().isOver:
            # It was given up, and its worker goes on.
            self.slot.drain()
        answer, self._answer = self._answer, None
        self._close()
        if answer is not None:
            try:
                answer.turnEnded(end)
            except Exception:
                self._notEnded(answer)
            last = answer.ended
            if type(last) is Failed:
                self._why, self._unfinished = last.error.kind.end, last.usage
            elif type(last) is Finished:
                self._why = End.OK
        self._settle()

    def turnOver(self, end: TurnEnd) -> None:
        """
        The worker is done: this is the one place where a slot is released.
        """
        self.slot.release()
        if self._onOver is not None:
            seconds = self._clock.seconds() - self.askedAt
            told = self.told + self._unfinished
            self._onOver(
                EndedTurn(self.context, self.slot.model, told, self.handedOut, seconds, self._why, end)
            )
        # It holds the prompt, and an answer may be kept for minutes.
        self._turn = None

    def _notEnded(self, answer: Attendant) -> None:
        # A mistake of ours is the end of an answer too: nobody else would end it.
        self._log.failure("an answer could not be ended well")
        self.cancel(End.BUG)
        answer.failed(APIError("internal_error", "The server failed.", mayRetry=False))

    # Calls.

    def _called(self, tone: ToolCall) -> None:
        name = tone.toolName or tone.name or ""
        if name not in self.context.names:
            self._refuse(tone, name, UNKNOWN_TOOL)
        elif self.phase is Phase.SETTLING:
            self._refuse(tone, name, LATE_RESULT)
        else:
            self._accept(tone)

    def _accept(self, tone: ToolCall) -> None:
        self.seenCalls[tone.callId] = None
        try:
            call = self._table.opened(self, self.context, tone, self._clock.seconds())
        except APIError as error:
            self._fail(error)
            return
        self._unroutable |= tone.sigil is not None
        self._batch.add(call)
        if self._answer is not None:
            self._batch.collect(self._handOut)
        elif self.phase is Phase.PARKED:
            self._table.addedTo(self)

    def _fail(self, error: APIError) -> None:
        answer = self._answer
        self.cancel(error.kind.end)
        if answer is not None:
            answer.failed(error)

    def _refuse(self, tone: ToolCall, name: str, why: str) -> None:
        self.seenCalls[tone.callId] = None
        self._counters.add("undeclared_calls" if why is UNKNOWN_TOOL else "late_calls")
        if tone.sigil is None:
            self._asked().answer(tone.callId, name, why, True)
            return
        # Its result would be dropped: the model waits for nothing.
        lost = "The model called a tool whose result nobody can give it."
        self._fail(APIError("tool_route_lost", lost, mayRetry=False))

    def _callFailed(self, tone: Error) -> None:
        call = self._batch.drop(str(tone.callId))
        if call is None:
            return
        self._table.closed(call)
        if self.phase is Phase.PARKED and not self._batch.open:
            # The model waits for nobody any more, and goes on unheard.
            self._stopPark()
            self._beginSettling()

    def _handOut(self) -> None:
        self._batch.stop()
        answer = self._answer
        if answer is None or not self._batch.new:
            return
        handed = self._batch.take()
        self._answer = None
        self.handedOut += len(handed)
        self._move(Step.HAND_OUT)
        try:
            self._table.shown(handed, answer.asked)
            if not self._unroutable:
                self._asked().park()
                left = self._batch.firstArrival + self.context.parkTimeout - self._clock.seconds()
                self._park = Deadline(self._clock, max(left, 0), self._parkPassed)
            answer.calledTools(handed)
        except Exception:
            self._notEnded(answer)
        if self._unroutable:
            # Not before: a call that is given up loses its arguments.
            self.cancel(End.WORKER_ERROR)

    def _parkPassed(self) -> None:
        # It holds this object.
        self._park = None
        asked = self._table.expiring(self)
        if asked is None:
            self._expire()
        else:
            asked.addCallback(lambda isOurs: self._expire() if isOurs and self.isParked else None)

    def _expire(self) -> None:
        # Without a connection, the turn is over by that.
        turn = self._asked()
        self._beginSettling()
        if not self.isOver:
            for call in self._batch.clear():
                self._table.expired(call)
                turn.answer(call.callId, call.wireName, LATE_RESULT, True)

    def _beginSettling(self) -> None:
        self._move(Step.SETTLE)
        self._unheard = None
        self._asked().settle()

    # Text that nobody hears yet.

    def _keepUnheard(self, tone: Chunk) -> None:
        unheard = self._unheard = self._unheard or []
        unheard.append(tone)
        if isinstance(tone.delta, str):
            self._unheardSize += len(tone.delta)
        if len(unheard) > UNHEARD_TONES or self._unheardSize > UNHEARD_CHARACTERS:
            self._counters.add("unheard_overflows")
            self.cancel()

    def _deliverUnheard(self) -> None:
        unheard, self._unheard, self._unheardSize = self._unheard, None, 0
        if unheard and self._answer is not None:
            self._answer.tonesReceived(unheard)

    # The end.

    def _asked(self) -> Turn:
        assert self._turn is not None, "a conversation hears of its turn after it was asked"
        return self._turn

    def _stopPark(self) -> None:
        park, self._park = self._park, None
        if park is not None:
            park.cancel()

    def _close(self) -> None:
        self._batch.stop()
        self._stopPark()
        if self._batch.open:
            for call in self._batch.clear():
                self._table.expired(call)
        self._unheard = None

    def _settle(self) -> None:
        if self._onSettled is not None:
            self._onSettled(self.context.session, self.hasEndedWell and not self._isUnsure)
        self._isSettled = True
        waiting, self._whenSettled = self._whenSettled, None
        for deferred in waiting or ():
            deferred.callback(self.hasEndedWell)

    def _move(self, step: Step) -> None:
        self.phase = _NEXT.get((self.phase, step), self.phase)
