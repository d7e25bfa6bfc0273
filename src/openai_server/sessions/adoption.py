# -*- test-case-name: tests.flow.test_restart -*-
"""
Turns that another process has parked, gone on with.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger

from openai_server.daemon.interfaces import Daemon
from openai_server.metrics import Counters
from openai_server.sessions.calls import CallTable, ParkedCall
from openai_server.sessions.catalogue.wirenames import NamedTools
from openai_server.sessions.conversation import Conversation
from openai_server.sessions.lasting import sessionFrom
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


@dataclass
class Surroundings:
    """
    What turns need that are gone on with.

    @ivar onOver: told of each that is over.
    @ivar onLeft: told of each that another process goes on with, and tells of.
    """

    clock: IReactorTime
    daemon: Daemon
    memory: SessionMemory
    scheduler: Scheduler
    calls: CallTable
    counters: Counters
    learn: Callable[[object], None]
    onOver: Callable[[EndedTurn], None]
    onLeft: Callable[[TurnContext], None]


class Adoption:
    """
    Makes turns of what is saved of their calls.
    """

    _log = Logger()

    def __init__(self, turns: LastingTurns, around: Surroundings) -> None:
        self._turns = turns
        self._around = around

    def bringBack(self, saved: Sequence[SavedCall], incarnation: str | None) -> None:
        """
        Go on with a parked turn, whose open calls these are. Where that is
        not possible, it is too late for them.

        @param incarnation: of the daemon that was reached.
        """
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
            self.remember(each)
        if details:
            turn = details[0].turn
            context = _contextFrom(turn, sessionFrom(turn.session))
            seconds = self._turns.now() - turn.askedAt
            lost = Lost(Loss.DAEMON_LOST, True)
            self._around.onOver(
                EndedTurn(context, turn.model, turn.told, turn.handedOut, seconds, None, lost)
            )

    def remember(self, saved: SavedCall) -> None:
        """
        Note a call that was given to a client, and can take no result.
        """
        self._around.calls.remembered(_callFrom(saved))

    def _adopt(self, saved: Sequence[SavedCall], details: Sequence[CallDetails]) -> None:
        # The one that was saved last knows of all calls.
        turn = max((each.turn for each in details), key=lambda each: len(each.seenCalls))
        around = self._around
        conversation = self._conversation(turn)
        calls = [self._call(*pair, conversation) for pair in zip(saved, details, strict=True)]
        for call, each, detail in zip(calls, saved, details, strict=True):
            around.calls.adopted(call, detail.isShown, each.asked)
        conversation.adopt(around.daemon, calls, min(each.deadline for each in saved) - self._turns.now())

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
        conversation.askedAt -= self._turns.now() - turn.askedAt
        conversation.seenCalls = dict.fromkeys(turn.seenCalls)
        return conversation

    def _call(self, saved: SavedCall, details: CallDetails, owner: Conversation) -> ParkedCall:
        call = _callFrom(saved)
        call.arguments = details.arguments
        call.arrivedAt = self._around.clock.seconds() - (self._turns.now() - saved.createdAt)
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
