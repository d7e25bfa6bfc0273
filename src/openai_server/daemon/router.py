# -*- test-case-name: tests.daemon.test_router -*-
"""
Which turn each tone belongs to.

What one read of the socket brought is divided by sid, so that each turn's
audience is told once. Tones that belong to no turn are dropped and counted,
and never logged: they are somebody else's words.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Container, Iterable, Mapping, Sequence
from typing import Any, Final, TypeAlias

from twisted.internet.interfaces import IDelayedCall, IReactorTime

from openai_server.clock import Deadline
from openai_server.daemon.interfaces import Audience
from openai_server.daemon.latetones import LateTones
from openai_server.daemon.protocol import ThrumProtocol
from openai_server.daemon.registration import Registration
from openai_server.daemon.registry import FileRegistry
from openai_server.daemon.turn import PromptedTurn, refusal
from openai_server.daemon.waitlimits import WaitLimits
from openai_server.deadlines import Deadlines
from openai_server.errors import APIError
from openai_server.wire.ends import Loss, Lost
from openai_server.wire.ids import RequestIds
from openai_server.wire.tones import (
    Attach,
    Breath,
    Cancel,
    Chunk,
    Echo,
    Error,
    Finish,
    FromBee,
    FromDaemon,
    Prompt,
    SessionReady,
    Shown,
    ToolCall,
    ToolDefinition,
    lineFromTone,
)

#: Seconds by which a file's time may be behind the clock: the system keeps it
#: in ticks.
_TICK: Final = 0.01

#: Tones of one read, by sid.
Groups: TypeAlias = dict[str, list[Shown]]


class Router:
    """
    The turns that are not over, by sid.

    @ivar counts: what was dropped or refused, and why.
    @ivar protocol: the connection, or None. Set by its owner.
    @ivar clock: the time of all turns.
    @ivar limits: how long they wait for what.
    @ivar deadlines: when they are looked at.
    @ivar _adopted: the sids of turns that are to be attached to.
    @ivar onStray: see L{openai_server.daemon.interfaces.Daemon.onStray}.
    """

    def __init__(
        self,
        *,
        clock: IReactorTime,
        timeouts: WaitLimits,
        registration: Registration,
        registry: FileRegistry,
        rids: RequestIds,
        now: Callable[[], float],
        counts: Counter[str],
        breathed: Callable[[Breath], None],
    ) -> None:
        """
        @param now: the wall clock in seconds, as the registry file has it.
        @param breathed: told of each breath.
        """
        self.counts = counts
        self.protocol: ThrumProtocol | None = None
        self.clock = clock
        self.limits = timeouts
        self.deadlines = Deadlines(clock)
        self.onStray: Callable[[ToolCall], None] | None = None
        self._registration = registration
        self._registry = registry
        self._rids = rids
        self._now = now
        self._breathed = breathed
        self._turns: dict[str, PromptedTurn] = {}
        self._byRid: dict[str, PromptedTurn] = {}
        self._lateTones = LateTones(counts)
        self._notYet: Deadline | None = None
        self._tidying: IDelayedCall | None = None
        self._adopted: list[str] = []
        self._oldState: object = None
        self._named: Container[str] = ()

    def __len__(self) -> int:
        """
        How many turns are not over, the draining ones included.
        """
        return len(self._turns)

    def states(self) -> Mapping[str, int]:
        """
        Return how many turns are in which state.
        """
        return Counter(turn.stateName for turn in self._turns.values())

    # What turns need of the wire.

    @property
    def isReady(self) -> bool:
        """
        Whether what is sent now reaches the daemon.
        """
        return self.protocol is not None and self.protocol.isReady

    @property
    def hasOthers(self) -> bool:
        """
        Whether calls may be another process's.
        """
        return self.onStray is not None

    def newRid(self) -> str:
        """
        A rid that was not given before.
        """
        return self._rids.next()

    def send(self, tone: FromBee) -> None:
        """
        Send one tone, behind what is to be said of turns that were adopted.
        There is a connection.
        """
        assert self.protocol is not None
        if self._adopted:
            self.tidy()
        self.protocol.sendTones([tone])

    def turnOver(self, turn: PromptedTurn) -> None:
        """
        Forget a turn, and take back its tools' names shortly.
        """
        del self._turns[turn.sid]
        self._byRid.pop(turn.rid, None)
        self._lateTones.turnOver(turn.sid, turn.calls)
        self.deadlines.sortOut(len(self._turns))
        if self._registration.concerns(None):
            self._registration.withdraw(turn.sid)
            if self._tidying is None and self.isReady and self._registration.isStale:
                self._tidying = self.clock.callLater(self.limits.names, self._tidy)

    def tidy(self) -> None:
        """
        Say now what is to be said of turns that are over, or were adopted.
        """
        if self._tidying is not None:
            self._tidying.cancel()
            self._tidy()

    def _tidy(self) -> None:
        """
        Attach to the turns that were adopted, and register the names of all.
        """
        self._tidying = None
        adopted, self._adopted = self._adopted, []
        tones: list[FromBee] = [Attach(rid=self.newRid(), sid=sid) for sid in adopted if sid in self._turns]
        if self._registration.isStale:
            tones.append(self._registration.opening())
        if tones:
            assert self.protocol is not None
            self.protocol.sendTones(tones)

    # Asking.

    @property
    def liveTools(self) -> Mapping[str, ToolDefinition]:
        return self._registration.live

    def ask(
        self, prompt: Prompt, audience: Audience, formerTools: Sequence[ToolDefinition] = ()
    ) -> PromptedTurn:
        """
        Put a prompt to the daemon.

        @param formerTools: see L{openai_server.daemon.interfaces.Daemon.ask}.
        @raise APIError: C{daemon_unavailable}, nothing was sent.
        """
        if prompt.sid in self._turns:
            raise ValueError("the sid has a turn that is not over")
        if (why := self._whyNotNow()) is not None:
            raise APIError("daemon_unavailable", why, retryAfter=1)
        if (prompt.tools or prompt.sampling is not None) and not prompt.isReadable:
            # The daemon would drop it, and later every hello with its tools.
            said = "The daemon cannot read this request: it is nested too deep, or a number is too large."
            raise APIError("bad_request", said)
        self._write(prompt, formerTools)
        turn = self._turns[prompt.sid] = PromptedTurn(prompt, audience, self, formerTools)
        self._noteAsked(turn)
        return turn

    def adopt(
        self,
        sid: str,
        model: str,
        calls: Sequence[ToolCall],
        tools: Sequence[ToolDefinition],
        audience: Audience,
    ) -> PromptedTurn:
        """
        Go on with a parked turn of an earlier process's: see
        L{openai_server.daemon.interfaces.Daemon.adopt}.
        """
        if sid in self._turns:
            raise ValueError("the sid has a turn that is not over")
        turn = self._turns[sid] = PromptedTurn.adopted(sid, model, calls, audience, self)
        turn.askedVersion = self._registry.version
        turn.askedAt = self._now()
        self._registration.adopt(sid, tools)
        if self.isReady:
            if not self._adopted:
                # One write for all that are adopted now.
                if self._tidying is not None:
                    self._tidying.cancel()
                self._tidying = self.clock.callLater(0, self._tidy)
            self._adopted.append(sid)
        return turn

    def isLive(self, sid: str) -> bool:
        """
        Whether the sid has a turn here that is heard.
        """
        return sid in self._turns and self._turns[sid].isHeard

    def _whyNotNow(self) -> str | None:
        protocol = self.protocol
        if protocol is None or not protocol.isReady:
            return "The daemon is not connected."
        return "The daemon is too slow to be asked." if protocol.backlog.isOver else None

    def _write(self, prompt: Prompt, formerTools: Sequence[ToolDefinition]) -> None:
        assert self.protocol is not None
        # Encoded before anything is changed: a lone surrogate raises.
        if self._registration.concerns(prompt.tools):
            tones = self._registration.around(prompt, formerTools)
            self.protocol.sendLines(b"".join(map(lineFromTone, tones)))
            self._registration.declare(prompt, formerTools)
        else:
            self.protocol.sendLines(lineFromTone(prompt))

    def _noteAsked(self, turn: PromptedTurn) -> None:
        self._byRid[turn.rid] = turn
        turn.askedVersion = self._registry.version
        turn.askedAt = self._now()

    def _askAgain(self, turn: PromptedTurn) -> None:
        assert turn.refusal is not None
        if self._whyNotNow() is not None:
            turn.ended(turn.refusal)
            return
        self._byRid.pop(turn.rid, None)
        self._write(turn.askAgain(self.newRid(), self.clock.seconds()), turn.formerTools)
        self._noteAsked(turn)

    # The connection and the registry.

    def opening(self, sameDaemon: bool) -> Iterable[FromBee]:
        """
        What a new connection begins with: the hello with all names, and the
        parked turns, which only the daemon that has them can go on with.
        """
        if not sameDaemon:
            self._endAll(Lost(Loss.DAEMON_LOST, True))
        self._registry.look()
        # Until our hello is in the file, it may be an earlier daemon's.
        self._oldState = self._registry.version
        for turn in self._turns.values():
            turn.workerNamed = turn.workerNamed or turn.model in self._named
        self._named = ()
        return [
            self._registration.opening(),
            *(Attach(rid=self.newRid(), sid=sid) for sid in self._turns),
        ]

    def connectionReady(self) -> None:
        """
        Prompts can be asked; workers may still be on their way.
        """
        self._notYet = Deadline(self.clock, self.limits.notYet, self._waitedEnough)

    def connectionGone(self) -> None:
        """
        All turns but the parked ones are over.
        """
        self.protocol = None
        self._stopTimers()
        self._byRid.clear()
        for turn in list(self._turns.values()):
            turn.unlinked()

    def stop(self) -> None:
        """
        Cancel everything, because this program ends.
        """
        if self.protocol is not None and self.isReady:
            live = [turn for turn in self._turns.values() if turn.isHeard and not turn.isLeft]
            self.protocol.sendTones(Cancel(rid=self.newRid(), sid=turn.sid) for turn in live)
        self._endAll(Lost(Loss.DAEMON_LOST, True))
        self._stopTimers()
        self.deadlines.stop()

    def registryChanged(self) -> None:
        """
        See which workers came or went.

        A turn's worker is lost when the file named one after the asking and
        names none any more. Nobody looks at the file when something is asked:
        that it named one before this change counts, unless this change is
        older than the asking. A worker elsewhere in the mesh is in no file.
        """
        if not self._isFileOurs:
            return
        before, self._named = self._named, self._registry.models()
        for turn in list(self._turns.values()):
            model = turn.model
            if turn.isOver:
                continue
            if model in self._named:
                turn.workerNamed = turn.workerNamed or self._registry.writtenAt >= turn.askedAt
                self._askWhenNamed(turn)
            elif turn.refusal is not None:
                # The daemon has said itself that there is none yet.
                continue
            elif turn.workerNamed or (model in before and self._changedAfter(turn)):
                turn.ended(Lost(Loss.WORKER_LOST, turn.seen))

    @property
    def _isFileOurs(self) -> bool:
        return self._registry.isKnown and self._registry.version != self._oldState

    def _changedAfter(self, turn: PromptedTurn) -> bool:
        return self._registry.writtenAt >= turn.askedAt - _TICK

    def _askWhenNamed(self, turn: PromptedTurn) -> None:
        if turn.refusal is not None and turn.askedVersion != self._registry.version:
            self._askAgain(turn)

    def _waitedEnough(self) -> None:
        for turn in list(self._turns.values()):
            if turn.refusal is not None:
                self._askAgain(turn)

    def _endAll(self, end: Lost) -> None:
        for turn in list(self._turns.values()):
            turn.ended(Lost(end.why, turn.seen))

    def _stopTimers(self) -> None:
        if self._notYet is not None:
            self._notYet.cancel()
        tidying, self._tidying = self._tidying, None
        self._adopted = []
        if tidying is not None:
            tidying.cancel()

    # What the daemon says.

    def tonesReceived(self, tones: list[FromDaemon]) -> None:
        """
        Give each turn what one read brought for it.
        """
        now = self.clock.seconds()
        groups: Groups = defaultdict(list)
        for tone in tones:
            # Nearly all are chunks: no call for each of them.
            if type(tone) is Chunk:
                groups[tone.sid].append(tone)
            else:
                self._heard(tone, groups, now)
        turns = self._turns
        for sid, group in groups.items():
            turn = turns.get(sid)
            if turn is not None and turn.isHeard and turn.isEchoed:
                turn.show(group, now)
            else:
                self._show(sid, group, now)

    def _heard(self, tone: Any, groups: Groups, now: float) -> None:
        # By its very type: no tone is of a type below another's.
        kind = type(tone)
        if kind is SessionReady:
            groups[tone.sid].append(tone)
        elif kind is Echo:
            self._echoed(tone, groups, now)
        elif kind is Finish:
            self._ended(tone, groups, now)
        elif kind is ToolCall:
            self._called(tone, groups)
        elif kind is Error:
            self._failed(tone, groups, now)
        elif kind is Breath:
            self._breathed(tone)
        else:
            self._hidden(tone)

    def _turnOf(self, sid: str | None) -> PromptedTurn | None:
        """
        The turn that a tone with this sid is of. Before the echo of a prompt
        on a sid that had a turn before, it is of that earlier turn, which is over.
        """
        turn = self._turns.get(sid) if sid is not None else None
        if turn is not None and not turn.isEchoed and self._lateTones.isFinished(turn.sid):
            return None
        return turn

    def _show(self, sid: str, group: list[Shown], now: float) -> None:
        turn = self._turnOf(sid)
        if turn is not None and turn.isHeard:
            turn.show(group, now)
        else:
            self._drop(sid, len(group))

    def _drop(self, sid: str | None, number: int = 1) -> None:
        self._lateTones.drop(sid, number, sid in self._turns)

    def _flush(self, sid: str, groups: Groups, now: float) -> None:
        group = groups.pop(sid, None)
        if group is not None:
            self._show(sid, group, now)

    def _called(self, call: ToolCall, groups: Groups) -> None:
        turn = self._turnOf(call.sid)
        if call.sigil is not None:
            self.counts["unrouted_calls"] += 1
        if turn is None:
            self._stray(call)
        elif not turn.isHeard:
            self.counts["refused_calls"] += 1
            turn.refuse(call)
        elif turn.called(call):
            groups[call.sid].append(call)

    def _stray(self, call: ToolCall) -> None:
        self._drop(call.sid)
        if self.onStray is not None and self._lateTones.mayRefuse(call):
            self.onStray(call)
        else:
            self.refuse(call)

    def refuse(self, call: ToolCall) -> None:
        """
        Answer a call of no turn with an error, once.
        """
        if self.isReady and self._lateTones.shouldRefuse(call):
            self.send(refusal(self.newRid(), call))

    def _ended(self, finish: Finish, groups: Groups, now: float) -> None:
        self._flush(finish.sid, groups, now)
        turn = self._turnOf(finish.sid)
        if turn is None:
            self._drop(finish.sid)
        else:
            turn.ended(finish)

    def _failed(self, error: Error, groups: Groups, now: float) -> None:
        turn = self._turnOf(error.sid)
        if turn is None or error.sid is None:
            self._drop(error.sid)
        elif error.callId:
            groups[error.sid].append(error)
        else:
            self._flush(error.sid, groups, now)
            if self._meansNotYet(error, turn):
                turn.wait(error, now)
                # The daemon's own word is newer than what the file said.
                turn.workerNamed = False
                self._registry.look()
                if not turn.isOver and self._isFileOurs and turn.model in self._named:
                    self._askWhenNamed(turn)
            else:
                turn.ended(error)

    def _meansNotYet(self, error: Error, turn: PromptedTurn) -> bool:
        return (
            self._notYet is not None
            and self._notYet.isActive
            and turn.isHeard
            and not turn.isLive
            and error.saysNoWorker
        )

    def _echoed(self, echo: Echo, groups: Groups, now: float) -> None:
        turn = self._byRid.pop(echo.rid, None)
        if turn is None:
            return
        # What stands before the echo is not of a prompt on a known sid.
        self._flush(turn.sid, groups, now)
        if echo.ok:
            turn.echoed(now)
        else:
            turn.ended(Lost(Loss.PAST_DUSK, turn.seen))

    def _hidden(self, tone: Any) -> None:
        if tone.__struct_config__.tag == "permission-ask":
            self.counts["permission_asks"] += 1
