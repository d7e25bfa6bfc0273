# -*- test-case-name: tests.daemon.test_turn -*-
"""
One prompt at the daemon, from the asking to its real end.

L{openai_server.daemon.turnstates} knows which state a turn is in. What comes with every tone (the
time of the last one, whether anybody is told) are plain attributes that its
outputs set.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from math import inf
from typing import Protocol

import msgspec
from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger

from openai_server.clock import Deadline
from openai_server.daemon.interfaces import Audience
from openai_server.daemon.turnstates import newLife
from openai_server.daemon.waitlimits import WaitLimits
from openai_server.errors import APIError
from openai_server.wire.ends import Loss, Lost, TurnEnd
from openai_server.wire.tones import Cancel, Error, FromBee, Prompt, SessionReady, Shown, ToolCall, ToolResult

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
    def counts(self) -> Counter[str]: ...

    def newRid(self) -> str: ...

    def send(self, tone: FromBee) -> None: ...

    def turnOver(self, turn: PromptedTurn) -> None:
        """
        The turn has ended: it can be forgotten.
        """


class PromptedTurn:
    """
    A L{openai_server.daemon.interfaces.Turn}.

    @ivar prompt: what was asked.
    @ivar isOver: see L{openai_server.daemon.interfaces.Turn.isOver}.
    @ivar isHeard: the audience is told what comes.
    @ivar isParked: silence is expected and the loss of the connection is
        survived.
    @ivar refusal: the daemon had no worker yet and said so; the prompt is to
        be asked again, and nothing of it is anywhere now. Else None.
    @ivar isLive: the worker has shown a sign of life.
    @ivar isEchoed: the daemon has read the prompt.
    @ivar seen: a chunk or a tool-call has come.
    @ivar workerNamed: after the asking, the registry named a worker for the model.
    """

    _log = Logger()

    def __init__(
        self, prompt: Prompt, audience: Audience, *, wire: Wire, clock: IReactorTime, timeouts: WaitLimits
    ) -> None:
        self.prompt = prompt
        self.isOver = False
        self.isHeard = True
        self.isParked = False
        self.refusal: Error | None = None
        self.isLive = False
        self.isEchoed = False
        self.seen = False
        self.workerNamed = False
        self._audience = audience
        self._wire = wire
        self._clock = clock
        self._timeouts = timeouts
        self._calls: dict[str, ToolCall | None] = {}
        self._lastTone = clock.seconds()
        self._quiet, self._why = timeouts.echo, Loss.NO_ECHO
        self._limit = self._lastTone + timeouts.turn
        self._deadline = Deadline(clock, min(timeouts.echo, timeouts.turn), self._look)
        self._life = newLife(self)

    # The turn, as its audience has it.

    @property
    def sid(self) -> str:
        """
        The session it runs in.
        """
        return self.prompt.sid

    @property
    def calls(self) -> Sequence[str]:
        """
        The ids of all its calls so far.
        """
        return list(self._calls)

    def cancel(self) -> None:
        """
        See L{openai_server.daemon.interfaces.Turn.cancel}.
        """
        if self.isHeard and (self.refusal is not None or not self._wire.isReady):
            # The daemon has nothing of it, or cannot be told.
            self.isHeard = False
            self._life.end(self.refusal or Lost(Loss.DAEMON_LOST, self.seen))
        else:
            self._life.cancel()

    def park(self) -> None:
        """
        See L{openai_server.daemon.interfaces.Turn.park}.
        """
        self._life.park()

    def resume(self) -> None:
        """
        See L{openai_server.daemon.interfaces.Turn.resume}. Without a
        connection, the turn is lost.
        """
        self._life.resume()

    def settle(self) -> None:
        """
        See L{openai_server.daemon.interfaces.Turn.settle}. Without a
        connection, the turn is lost.
        """
        self._life.settle()

    def answer(self, callId: str, toolName: str, text: str, isError: bool) -> None:
        """
        See L{openai_server.daemon.interfaces.Turn.answer}. A second answer to
        a call, and one to a call that cannot be answered, is not sent.
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
        The daemon has read the prompt. Comes again when it was asked again.
        """
        if not self.isLive and self.isHeard:
            self._await(now, self._timeouts.firstLife, Loss.NO_LIFE)
        if not self.isEchoed:
            self.isEchoed = True
            if self.isHeard:
                self._tellEchoed()

    def show(self, tones: Sequence[Shown], now: float) -> None:
        """
        What one read brought for this turn, which is heard.
        """
        self._lastTone = now
        if not self.isLive:
            self.isLive = True
            self._life.live()
        if not self.seen:
            self.seen = any(type(tone) is not SessionReady for tone in tones)
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
        A call for this turn, which nobody is told of any more.
        """
        if self.called(call):
            self._refuseOpenCalls()

    def ended(self, end: TurnEnd) -> None:
        """
        The worker is done with it, or is no more.
        """
        self._life.end(end)

    def unlinked(self) -> None:
        """
        The connection was lost.
        """
        self._life.unlink()

    def wait(self, refusal: Error, now: float) -> None:
        """
        Nothing runs: the daemon had no worker yet.
        """
        self.refusal = refusal
        self._await(now, inf, Loss.NO_ECHO)

    def askAgain(self, rid: str, now: float) -> None:
        """
        The same prompt is about to be asked under a new rid.
        """
        self.refusal = None
        self.prompt = msgspec.structs.replace(self.prompt, rid=rid)
        self._await(now, self._timeouts.echo, Loss.NO_ECHO)

    # What the machine does.

    def _tellEchoed(self) -> None:
        try:
            self._audience.turnEchoed()
        except Exception:
            self._fault()

    def _fault(self) -> None:
        self._log.failure("the audience of a turn failed")
        self._life.giveUp(Loss.FAULT)

    def _await(self, now: float, quiet: float, why: Loss) -> None:
        self._lastTone, self._quiet, self._why = now, quiet, why
        self._arm(now)

    def _arm(self, now: float) -> None:
        wait = min(self._lastTone + self._quiet, self._limit) - now
        if self._deadline.isActive:
            self._deadline.extend(wait)
        else:
            self._deadline = Deadline(self._clock, wait, self._look)

    def _look(self) -> None:
        # Tones only note their time: most often it is too early.
        now = self._clock.seconds() + 0.001
        if now >= self._limit:
            self._life.giveUp(Loss.TOO_LONG)
        elif now >= self._lastTone + self._quiet:
            self._life.giveUp(self._why)
        else:
            self._arm(now)

    def goOn(self) -> None:
        """
        See L{openai_server.daemon.turnstates.Living.goOn}.
        """
        self.isParked = False
        self._await(self._clock.seconds(), self._timeouts.stall, Loss.STALLED)
        if not self._wire.isReady:
            self._life.end(Lost(Loss.DAEMON_LOST, self.seen))

    def rest(self) -> None:
        """
        See L{openai_server.daemon.turnstates.Living.rest}.
        """
        self.isParked = True
        self._await(self._clock.seconds(), inf, Loss.STALLED)

    def drain(self, why: Loss | None) -> None:
        """
        See L{openai_server.daemon.turnstates.Living.drain}.
        """
        isParted = self.isParked and not self._wire.isReady
        self.isHeard = self.isParked = False
        self._limit = inf
        self._await(self._clock.seconds(), self._timeouts.drain, Loss.DRAIN_LIMIT)
        if self._wire.isReady:
            self._wire.send(Cancel(rid=self._wire.newRid(), sid=self.sid))
            self._refuseOpenCalls()
        if why is not None:
            self._tell(Lost(why, self.seen))
        if isParted:
            self._life.unlink()

    def forget(self, why: Loss) -> None:
        """
        See L{openai_server.daemon.turnstates.Living.forget}.
        """
        self.finish(Lost(why, self.seen))

    def begin(self) -> None:
        """
        See L{openai_server.daemon.turnstates.Living.begin}.
        """
        self._await(self._lastTone, self._timeouts.stall, Loss.STALLED)

    def finish(self, end: TurnEnd) -> None:
        """
        See L{openai_server.daemon.turnstates.Living.finish}.
        """
        heard = self.isHeard
        self.isOver = True
        self.isHeard = self.isParked = False
        self._deadline.cancel()
        if self._wire.isReady:
            self._refuseOpenCalls()
        self._wire.turnOver(self)
        if heard:
            self._tell(end)
        try:
            self._audience.turnOver(end)
        except Exception:
            self._log.failure("the audience of a turn failed when it was over")

    def _tell(self, end: TurnEnd) -> None:
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
