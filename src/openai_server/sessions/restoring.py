# -*- test-case-name: tests.flow.test_restart -*-
"""
What an earlier process has left, brought back.

Sessions are remembered as soon as the store has given them. Parked turns are
gone on with once the daemon is reached: another daemon process than the one
that had them knows nothing of them, and for their calls it is too late.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Final

from twisted.internet.defer import CancelledError, Deferred, succeed
from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger
from twisted.python.failure import Failure

from openai_server.clock import Portions
from openai_server.daemon.interfaces import Daemon
from openai_server.metrics import Counters
from openai_server.sessions.calls import CallTable, ParkedCall
from openai_server.sessions.catalogue.wirenames import NamedTools
from openai_server.sessions.conversation import Conversation
from openai_server.sessions.lasting import LastingSessions, sessionFrom
from openai_server.sessions.memory import SessionMemory
from openai_server.sessions.parkedturns import (
    CallDetails,
    LastingTurns,
    TurnDetails,
    detailsOf,
    toolsOf,
    workersOf,
)
from openai_server.sessions.plans import Session
from openai_server.sessions.scheduler import Scheduler
from openai_server.sessions.turncontext import EndedTurn, TurnContext
from openai_server.store.saved import SavedCall
from openai_server.wire.ends import Loss, Lost

#: Parked calls that are gone on with in one turn of the reactor.
CALLS_AT_ONCE: Final = 8


@dataclass
class Surroundings:
    """
    What turns need that are gone on with.
    """

    clock: IReactorTime
    daemon: Daemon
    memory: SessionMemory
    scheduler: Scheduler
    calls: CallTable
    counters: Counters
    learn: Callable[[object], None]
    onOver: Callable[[EndedTurn], None]


class Restoration:
    """
    Brings back what an earlier process has left, and leaves to the next one
    what that can go on with.
    """

    _log = Logger()

    def __init__(
        self,
        lasting: LastingSessions,
        turns: LastingTurns,
        around: Surroundings,
        now: Callable[[], float],
    ) -> None:
        """
        @param now: the wall clock, in seconds since 1970.
        """
        self._lasting = lasting
        self._turns = turns
        self._around = around
        self._now = now
        self._isDone = False
        self._waiting: list[Deferred[None]] = []
        self._loading: Deferred[None] = succeed(None)

    def start(self) -> None:
        """
        Begin.
        """
        self._loading = Deferred.fromCoroutine(self._load())
        self._loading.addErrback(self._failed)
        self._loading.addCallback(lambda _: self._done())

    def _failed(self, failure: Failure) -> None:
        if not failure.check(CancelledError):
            self._log.failure("what an earlier process has left could not be brought back", failure)

    def stop(self) -> None:
        """
        Leave the turns that are parked to the next process.
        """
        self._loading.cancel()
        self._lasting.isStopped = self._turns.isStopped = True
        for owner in self._around.calls.owners:
            if isinstance(owner, Conversation) and owner.isParked:
                owner.letGo()

    def whenDone(self) -> Deferred[None] | None:
        """
        Return what fires when all is brought back that can be for now; None
        where there is nothing to wait for. The daemon is to be reached before.
        """
        if self._isDone:
            return None
        waiting: Deferred[None] = Deferred(self._waiting.remove)
        self._waiting.append(waiting)
        return waiting

    def _done(self) -> None:
        self._isDone = True
        waiting, self._waiting = self._waiting, []
        for each in waiting:
            each.callback(None)

    async def _load(self) -> None:
        await self._around.memory.load()
        turns: dict[str, list[SavedCall]] = {}
        portions = Portions(self._around.clock, CALLS_AT_ONCE)
        for saved in await self._turns.calls():
            if saved.isOpen:
                turns.setdefault(saved.sid, []).append(saved)
            else:
                self._around.calls.remembered(_callFrom(saved))
            if (rest := portions.rest()) is not None:
                await rest
        for each in turns.values():
            # Another daemon may be there in each turn of the reactor.
            self._bringBack(each, await self._around.daemon.whenReached())
            if (rest := portions.rest()) is not None:
                await rest

    def _bringBack(self, saved: Sequence[SavedCall], incarnation: str | None) -> None:
        details = [found for each in saved if (found := detailsOf(each)) is not None]
        isThere = bool(incarnation) and incarnation == saved[0].incarnation and len(details) == len(saved)
        if not isThere or self._hasLostItsWorker(details[0].turn):
            self._tooLate(saved, details)
            return
        try:
            self._adopt(saved, details)
        except Exception:
            # It is one of many.
            self._log.failure("a parked turn could not be gone on with")
            self._tooLate(saved, details)

    def _hasLostItsWorker(self, turn: TurnDetails) -> bool:
        registry = self._around.daemon.registry
        if not turn.workers or not registry.isKnown:
            return False
        return set(turn.workers).isdisjoint(workersOf(registry, turn.model))

    def _tooLate(self, saved: Iterable[SavedCall], details: Sequence[CallDetails]) -> None:
        for each in saved:
            self._turns.isLate(each)
            self._around.calls.remembered(_callFrom(each))
        if details:
            turn = details[0].turn
            context = _contextFrom(turn, sessionFrom(turn.session))
            seconds = self._now() - turn.askedAt
            lost = Lost(Loss.DAEMON_LOST, True)
            self._around.onOver(
                EndedTurn(context, turn.model, turn.told, turn.handedOut, seconds, None, lost)
            )

    def _adopt(self, saved: Sequence[SavedCall], details: Sequence[CallDetails]) -> None:
        around, turn = self._around, details[0].turn
        conversation = self._conversation(turn)
        calls = [self._call(*pair, conversation) for pair in zip(saved, details, strict=True)]
        for call, each, detail in zip(calls, saved, details, strict=True):
            around.calls.adopted(call, detail.isShown, each.asked)
        conversation.adopt(around.daemon, calls, min(each.deadline for each in saved) - self._now())

    def _conversation(self, turn: TurnDetails) -> Conversation:
        around = self._around
        session = sessionFrom(turn.session)
        around.memory.found(session)
        tools = {tool.name: tool for tool in toolsOf(turn)}
        conversation = Conversation(
            around.clock,
            _contextFrom(turn, session),
            around.calls,
            around.scheduler.hold(turn.model, NamedTools(tools, {}, turn.names) if tools else None),
            around.counters,
            around.memory.release,
            around.onOver,
            around.learn,
        )
        conversation.told = turn.told
        conversation.handedOut = turn.handedOut
        conversation.askedAt -= self._now() - turn.askedAt
        conversation.seenCalls = dict.fromkeys(turn.seenCalls)
        return conversation

    def _call(self, saved: SavedCall, details: CallDetails, owner: Conversation) -> ParkedCall:
        call = _callFrom(saved)
        call.arguments = details.arguments
        call.arrivedAt = self._around.clock.seconds() - (self._now() - saved.createdAt)
        call.owner = owner
        call.saved = saved
        return call


def _contextFrom(turn: TurnDetails, session: Session) -> TurnContext:
    return TurnContext(
        session.account,
        turn.api,
        session,
        turn.names,
        frozenset(turn.customTools),
        frozenset(),
        turn.isParallel,
        turn.parkTimeout,
    )


def _callFrom(saved: SavedCall) -> ParkedCall:
    return ParkedCall(
        publicId=saved.publicId,
        account=saved.account,
        sid=saved.sid,
        callId=saved.callId,
        wireName=saved.wireName,
        clientName=saved.clientName,
        arguments="",
        arrivedAt=0.0,
        owner=None,
    )
