# -*- test-case-name: tests.daemon.test_turn -*-
"""
One prompt at the daemon, from the asking to its real end.

What comes with every tone (the time of the last one, whether anybody is told)
are plain attributes, and no timer is moved for it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from math import inf
from typing import Protocol

import msgspec
from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger

from openai_server.daemon import turnstates as states
from openai_server.daemon.interfaces import Audience
from openai_server.daemon.waitlimits import WaitLimits
from openai_server.deadlines import Deadlines
from openai_server.errors import APIError
from openai_server.wire.ends import Loss, Lost, TurnEnd
from openai_server.wire.tones import (
    Cancel,
    Error,
    FromBee,
    Prompt,
    SessionReady,
    Shown,
    ToolCall,
    ToolDefinition,
    ToolResult,
)

#: What the model reads in place of the result of a call that nobody answers any more.
NOBODY_ANSWERS = "This call was not run: the request that it belonged to is over."


class Wire(Protocol):
    """
    What a turn needs of the connection.
    """

    @property
    def isReady(self) -> bool:
        """
        What is sent now reaches the daemon.
        """

    @property
    def hasOthers(self) -> bool:
        """
        Another process may have answered calls of a turn that is parked here.
        """

    @property
    def counts(self) -> Counter[str]: ...

    @property
    def clock(self) -> IReactorTime: ...

    @property
    def limits(self) -> WaitLimits: ...

    @property
    def deadlines(self) -> Deadlines: ...

    def newRid(self) -> str: ...

    def send(self, tone: FromBee) -> None: ...

    def turnOver(self, turn: PromptedTurn) -> None:
        """
        The turn has ended: it can be forgotten.
        """


class PromptedTurn:
    """
    A L{openai_server.daemon.interfaces.Turn}.

    @ivar prompt: what was asked, as long as it may be asked again.
    @ivar formerTools: what its process may know the tools as, for as long.
    @ivar sid: the session it runs in.
    @ivar rid: the id under which it was asked last.
    @ivar model: what was asked.
    @ivar isOver: whether the worker is done with it; a draining turn is not over.
    @ivar isHeard: whether the audience is told what comes.
    @ivar isLeft: whether its worker was asked to stop though it is heard.
    @ivar refusal: the daemon had no worker yet and said so; the prompt is to
        be asked again, and nothing of it is anywhere now. Else None.
    @ivar isLive: whether the worker has shown a sign of life.
    @ivar isEchoed: whether the daemon has read the prompt.
    @ivar seen: whether a chunk or a tool-call has come.
    @ivar workerNamed: whether the registry named a worker for the model after
        the asking, for certain.
    @ivar askedAt: when it was asked, in seconds of the wall clock.
    @ivar askedVersion: the registry's version then.
    @ivar lookAt: when its deadlines are looked at next.
    """

    __slots__ = (
        "_audience",
        "_calls",
        "_lastTone",
        "_limit",
        "_quiet",
        "_state",
        "_why",
        "_wire",
        "askedAt",
        "askedVersion",
        "formerTools",
        "isEchoed",
        "isHeard",
        "isLeft",
        "isLive",
        "isOver",
        "lookAt",
        "model",
        "prompt",
        "refusal",
        "rid",
        "seen",
        "sid",
        "workerNamed",
    )

    _log = Logger()

    def __init__(
        self,
        prompt: Prompt,
        audience: Audience,
        wire: Wire,
        formerTools: Sequence[ToolDefinition] = (),
        quiet: float | None = None,
    ) -> None:
        """
        @param quiet: seconds of silence that end it; until the echo where
            nothing is said.
        """
        self.prompt: Prompt | None = prompt
        self.formerTools = formerTools
        self.sid = prompt.sid
        self.rid = prompt.rid
        self.model = prompt.modelId
        self.isOver = False
        self.isHeard = True
        self.isLeft = False
        self.refusal: Error | None = None
        self.isLive = False
        self.isEchoed = False
        self.seen = False
        self.workerNamed = False
        self.askedAt = 0.0
        self.askedVersion: object = None
        self._audience: Audience | None = audience
        self._wire = wire
        self._calls: dict[str, ToolCall | None] = {}
        self._state: int = states.ASKED
        limits = wire.limits
        self._lastTone = now = wire.clock.seconds()
        self._quiet, self._why = limits.echo if quiet is None else quiet, Loss.NO_ECHO
        self._limit = now + limits.turn
        self.lookAt = now + min(self._quiet, limits.turn)
        wire.deadlines.add(self.lookAt, self)

    @classmethod
    def adopted(
        cls, sid: str, model: str, calls: Iterable[ToolCall], audience: Audience, wire: Wire
    ) -> PromptedTurn:
        """
        Return a turn that an earlier process has asked, and that is parked.

        @param calls: those that wait for results.
        """
        prompt = Prompt(rid="", sid=sid, hive="", modelId=model, content="")
        # Its silence counts once its model goes on.
        turn = cls(prompt, audience, wire, quiet=inf)
        turn.prompt = None
        turn.isEchoed = turn.isLive = turn.seen = True
        turn._calls = {call.callId: call for call in calls}
        turn._state = states.RUNNING
        turn.park()
        return turn

    # The turn, as its audience has it.

    @property
    def stateName(self) -> str:
        """
        Its state in one word.
        """
        return states.NAMES[self._state]

    @property
    def calls(self) -> Iterable[str]:
        """
        The ids of all its calls so far.
        """
        return self._calls

    def cancel(self) -> None:
        """
        Drop the turn: its audience wants it no more.
        """
        if self.isHeard and (self.refusal is not None or not self._wire.isReady):
            # The daemon has nothing of it, or cannot be told.
            self.isHeard = False
            self.ended(self.refusal or Lost(Loss.DAEMON_LOST, self.seen))
        elif self._state in states.CANCEL:
            self._drain(None)

    def leave(self) -> None:
        """
        Ask the worker to stop, and go on telling what comes of it. A turn that
        the daemon does not have ends.
        """
        if self.refusal is not None or not self._wire.isReady:
            self.ended(self.refusal or Lost(Loss.DAEMON_LOST, self.seen))
        elif self._state in states.LEAVE and not self.isLeft:
            self.isLeft = True
            self._wire.send(Cancel(rid=self._wire.newRid(), sid=self.sid))

    def park(self) -> None:
        """
        Expect silence: the model waits for a tool's result.
        """
        if self._move(states.PARK):
            self._await(self._wire.clock.seconds(), inf, Loss.STALLED)

    def resume(self) -> None:
        """
        Let silence count again. Without a connection, the turn is lost.
        """
        self._goOn(states.RESUME)

    def settle(self) -> None:
        """
        Let the turn end in good order by itself. Without a connection, it is
        lost.
        """
        self._goOn(states.SETTLE)

    def letGo(self) -> None:
        """
        Leave a parked turn to the next process, with its open calls.
        """
        if self._state == states.PARKED:
            self._state = states.ENDED
            self.isOver = True
            self.isHeard = False
            self._wire.turnOver(self)
            self._audience = None

    def answer(self, callId: str, toolName: str, text: str, isError: bool) -> None:
        """
        Send the result of one call. A second answer to a call, and one to a
        call that cannot be answered, is not sent.

        @raise APIError: C{daemon_unavailable} when there is no connection.
        """
        if self._calls.get(callId) is None:
            self._wire.counts["unsent_results"] += 1
            return
        if not self._wire.isReady:
            raise APIError("daemon_unavailable", "The daemon is not connected.", retryAfter=1)
        self._calls[callId] = None
        rid = self._wire.newRid()
        self._wire.send(toolResult(rid, self.sid, callId, toolName, text, isError))

    # What the wire brings.

    def echoed(self, now: float) -> None:
        """
        Note that the daemon has read the prompt. Comes again when it was asked
        again.
        """
        if not self.isLive and self.isHeard:
            self._await(now, self._wire.limits.firstLife, Loss.NO_LIFE)
        if not self.isEchoed:
            self.isEchoed = True
            if self.isHeard and self._audience is not None:
                try:
                    self._audience.turnEchoed()
                except Exception:
                    self._fault()

    def show(self, tones: Sequence[Shown], now: float) -> None:
        """
        Tell what one read brought for this turn, which is heard.
        """
        self._lastTone = now
        if not self.isLive:
            self.isLive = True
            # It is not asked again, and its words may be of megabytes.
            self.prompt = None
            self.formerTools = ()
            if self._move(states.LIVE):
                self._await(now, self._wire.limits.stall, Loss.STALLED)
        if not self.seen:
            for tone in tones:
                if type(tone) is not SessionReady:
                    self.seen = True
                    break
        assert self._audience is not None, "a turn that is heard is not over"
        try:
            self._audience.tonesReceived(tones)
        except Exception:
            self._fault()

    def called(self, call: ToolCall) -> bool:
        """
        Note a call. False when it came before; then it is not shown.
        """
        self.seen = True
        if call.callId in self._calls:
            self._wire.counts["double_calls"] += 1
            return False
        # The result of a call that carries a sigil would be dropped by the daemon.
        self._calls[call.callId] = call if call.sigil is None else None
        return True

    def refuse(self, call: ToolCall) -> None:
        """
        Answer a call of this turn, which nobody is told of any more, with an
        error.
        """
        if self.called(call):
            self._refuseOpenCalls()

    def ended(self, end: TurnEnd) -> None:
        """
        End the turn: the worker is done with it, or is no more.
        """
        if self._state in states.END:
            self._finish(end)

    def unlinked(self) -> None:
        """
        End the turn, unless it is parked: the connection was lost.
        """
        if self._state in states.UNLINK:
            self._finish(Lost(Loss.DAEMON_LOST, self.seen))

    def wait(self, refusal: Error, now: float) -> None:
        """
        Wait to be asked again: the daemon had no worker yet, and nothing runs.
        """
        self.refusal = refusal
        self._await(now, inf, Loss.NO_ECHO)

    def askAgain(self, rid: str, now: float) -> Prompt:
        """
        Begin anew.

        @return: the same prompt, to be asked under this rid.
        """
        assert self.prompt is not None, "no worker has shown life"
        self.refusal = None
        self.rid = rid
        self.prompt = msgspec.structs.replace(self.prompt, rid=rid)
        self._await(now, self._wire.limits.echo, Loss.NO_ECHO)
        return self.prompt

    def look(self, now: float) -> None:
        """
        See whether a deadline has passed. Tones only note their time: most
        often it is too early.
        """
        self.lookAt = inf
        if now >= self._limit:
            self._giveUp(Loss.TOO_LONG)
        elif now >= self._lastTone + self._quiet:
            self._giveUp(self._why)
        else:
            self._watch()

    # Its states.

    def _move(self, moves: states.Moves) -> bool:
        """
        Go to the next state; False when there is none.
        """
        state = moves.get(self._state)
        if state is None:
            return False
        self._state = state
        return True

    def _await(self, now: float, quiet: float, why: Loss) -> None:
        self._lastTone, self._quiet, self._why = now, quiet, why
        if now + quiet < self.lookAt:
            self._watch()

    def _watch(self) -> None:
        due = min(self._lastTone + self._quiet, self._limit)
        if due < self.lookAt:
            self.lookAt = due
            self._wire.deadlines.add(due, self)

    def _fault(self) -> None:
        self._log.failure("the audience of a turn failed")
        self._giveUp(Loss.FAULT)

    def _giveUp(self, why: Loss) -> None:
        state = states.GIVE_UP.get(self._state)
        if state == states.DRAINING:
            self._drain(why)
        elif state == states.ENDED:
            self._finish(Lost(why, self.seen))

    def _goOn(self, moves: states.Moves) -> None:
        if self._move(moves):
            self._await(self._wire.clock.seconds(), self._wire.limits.stall, Loss.STALLED)
            if not self._wire.isReady:
                self.ended(Lost(Loss.DAEMON_LOST, self.seen))

    def _drain(self, why: Loss | None) -> None:
        """
        Say C{cancel}, and tell the audience nothing more, but for why if the
        wish was not its own.
        """
        isReady = self._wire.isReady
        isParted = self._state == states.PARKED and not isReady
        self._state = states.DRAINING
        self.isHeard = False
        self._limit = inf
        self._await(self._wire.clock.seconds(), self._wire.limits.drain, Loss.DRAIN_LIMIT)
        if isReady:
            if not self.isLeft:
                self._wire.send(Cancel(rid=self._wire.newRid(), sid=self.sid))
            self._refuseOpenCalls()
        if why is not None:
            self._tellEnd(Lost(why, self.seen))
        if isParted:
            self.unlinked()

    def _finish(self, end: TurnEnd) -> None:
        wasHeard = self.isHeard
        mayBeOthers = self._state == states.PARKED and self._wire.hasOthers
        self._state = states.ENDED
        self.isOver = True
        self.isHeard = False
        self.prompt = None
        self.formerTools = ()
        if self._calls and self._wire.isReady and not mayBeOthers:
            self._refuseOpenCalls()
        self._wire.turnOver(self)
        if wasHeard:
            self._tellEnd(end)
        # Its record lives on for a while among the deadlines.
        audience, self._audience = self._audience, None
        assert audience is not None, "a turn ends once"
        try:
            audience.turnOver(end)
        except Exception:
            self._log.failure("the audience of a turn failed when it was over")

    def _tellEnd(self, end: TurnEnd) -> None:
        assert self._audience is not None, "a turn that is heard is not over"
        try:
            self._audience.turnEnded(end)
        except Exception:
            if end != Lost(Loss.FAULT, self.seen):
                self._log.failure("the audience of a turn failed at its end")

    def _refuseOpenCalls(self) -> None:
        for callId, call in self._calls.items():
            if call is not None:
                self._calls[callId] = None
                self._wire.send(refusal(self._wire.newRid(), call))


def toolResult(rid: str, sid: str, callId: str, toolName: str, text: str, isError: bool) -> ToolResult:
    """
    The answer to a call. Workers read C{output}, then C{result}.
    """
    return ToolResult(
        rid=rid, sid=sid, callId=callId, toolName=toolName, output=text, result=text, isError=isError
    )


def refusal(rid: str, call: ToolCall) -> ToolResult:
    """
    The answer to a call that nobody answers.
    """
    return toolResult(rid, call.sid, call.callId, call.toolName or call.name or "", NOBODY_ANSWERS, True)
