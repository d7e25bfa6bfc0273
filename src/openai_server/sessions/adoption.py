# -*- test-case-name: tests.flow.test_restart -*-
"""
Turns that another process has parked, gone on with.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Final

from msgspec import MsgspecError
from msgspec.structs import replace
from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger

from openai_server.metrics import Counters
from openai_server.sessions.calls import CallTable, ParkedCall
from openai_server.sessions.catalogue.wirenames import NamedTools
from openai_server.sessions.conversation import Conversation
from openai_server.sessions.lasting import sessionFrom, upstreamOf
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
from openai_server.sessions.turncontext import EndedTurn, TurnContext
from openai_server.sessions.upstreams import Upstream, Upstreams
from openai_server.store.saved import SavedCall
from openai_server.wire.ends import Loss, Lost

#: One for all.
_NO_TOOLS: Final[frozenset[str]] = frozenset()


@dataclass
class Surroundings:
    """
    What turns need that are gone on with.

    @ivar onOver: told of each that is over.
    @ivar onLeft: told of each that another process goes on with, and tells of.
    @ivar onBroughtBack: called when some more are there, for long.
    """

    clock: IReactorTime
    upstreams: Upstreams
    memory: SessionMemory
    calls: CallTable
    counters: Counters
    learn: Callable[[object], None]
    onOver: Callable[[EndedTurn], None]
    onLeft: Callable[[TurnContext], None]
    onBroughtBack: Callable[[], object]


class Adoption:
    """
    Makes turns of what is saved of their calls.
    """

    _log = Logger()

    def __init__(self, turns: LastingTurns, around: Surroundings) -> None:
        self._turns = turns
        self._around = around

    def upstreamOf(self, saved: SavedCall) -> Upstream | None:
        """
        Return the daemon that has the turn of a call, or had; None where that
        cannot be known, or it is not asked any more.
        """
        details = detailsOf(saved)
        return None if details is None else self._upstreamOf(details.turn)

    def _upstreamOf(self, turn: TurnDetails) -> Upstream | None:
        try:
            return self._around.upstreams.named(upstreamOf(turn.session))
        except MsgspecError:
            return None

    def bringBack(self, saved: Sequence[SavedCall]) -> None:
        """
        Go on with a parked turn, whose open calls these are and whose daemon was
        reached. Where that is not possible, it is too late for them.
        """
        details = [found for each in saved if (found := detailsOf(each)) is not None]
        upstream = self._upstreamOf(details[0].turn) if len(details) == len(saved) else None
        isThere = upstream is not None and upstream.hasTurn(saved[0].incarnation)
        if upstream is None or not isThere or self._hasLostItsWorker(upstream, details[0].turn):
            self._tooLate(saved, details)
            return
        try:
            self._adopt(upstream, saved, details)
        except Exception:
            # It is one of many.
            self._log.failure("a parked turn could not be gone on with")
            self._tooLate(saved, details)

    @staticmethod
    def _hasLostItsWorker(upstream: Upstream, turn: TurnDetails) -> bool:
        registry = upstream.daemon.registry
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

    def _adopt(
        self, upstream: Upstream, saved: Sequence[SavedCall], details: Sequence[CallDetails]
    ) -> None:
        # The one that was saved last knows of all calls.
        turn = max([each.turn for each in details], key=lambda each: len(each.seenCalls))
        around = self._around
        conversation = self._conversation(upstream, turn)
        calls = [self._call(*pair, conversation) for pair in zip(saved, details, strict=True)]
        for call, each, detail in zip(calls, saved, details, strict=True):
            around.calls.adopted(call, detail.isShown, each.asked)
        seconds = min([each.deadline for each in saved]) - self._turns.now()
        conversation.adopt(upstream.daemon, calls, seconds)

    def _conversation(self, upstream: Upstream, turn: TurnDetails) -> Conversation:
        around = self._around
        session = sessionFrom(turn.session)
        session.upstream = upstream.name
        around.memory.found(session)
        tools = {tool.name: tool for tool in toolsOf(turn)}
        conversation = Conversation(
            around.clock,
            _contextFrom(turn, session),
            around.calls,
            upstream.scheduler.hold(turn.model, NamedTools(tools, {}, turn.names) if tools else None),
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
        # What it takes to go on with the turn is here now.
        call.saved = replace(saved, details=b"")
        return call


def _contextFrom(turn: TurnDetails, session: Session) -> TurnContext:
    return TurnContext(
        session.account,
        turn.api,
        session,
        turn.names,
        frozenset(turn.customTools) if turn.customTools else _NO_TOOLS,
        _NO_TOOLS,
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
