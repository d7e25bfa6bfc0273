# -*- test-case-name: tests.flow.test_restart -*-
"""
Parked turns that outlast the process.

Each call that a client is given is saved with all that it takes to go on with
its turn, before the client sees it. A call is forgotten before the model is
given its result: one whose result may or may not have reached the model is none
that can be answered once more, and what the client brings goes into a fresh
turn. One for which it is too late is remembered for a while.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from typing import Final, Protocol

import msgspec
from msgspec.structs import replace
from twisted.internet.defer import Deferred

from openai_server.api.output import Usage
from openai_server.daemon.interfaces import Daemon, Registry
from openai_server.sessions.calls import REMEMBERED, CallState, ParkedCall
from openai_server.sessions.digests import digestOf
from openai_server.sessions.lasting import LastingSessions
from openai_server.sessions.pool import Slot
from openai_server.sessions.turncontext import TurnContext
from openai_server.store.interfaces import StateStore
from openai_server.store.saved import SavedCall, SavedSession
from openai_server.wire.tones import ToolDefinition

#: Parked calls that are looked for at a start.
MOST_CALLS: Final = 10_000


class TurnDetails(msgspec.Struct, frozen=True, array_like=True):
    """
    A parked turn.

    @ivar workers: the daemon's names of those that may have it.
    @ivar tools: the definitions that its worker knows, as JSON.
    @ivar told: what its answers were told to cost so far.
    @ivar api: the name of the dialect that it was asked in.
    @ivar handedOut: how many calls clients were given.
    @ivar askedAt: in seconds since 1970.
    @ivar seenCalls: see L{Conversation.seenCalls
        <openai_server.sessions.conversation.Conversation>}.
    """

    model: str
    workers: Sequence[str]
    session: SavedSession
    names: Mapping[str, str]
    customTools: Sequence[str]
    isParallel: bool
    parkTimeout: float
    tools: Sequence[bytes]
    told: Usage
    seenCalls: Sequence[str]
    api: str
    handedOut: int
    askedAt: float


class CallDetails(msgspec.Struct, frozen=True, array_like=True):
    """
    A call of a parked turn.

    @ivar isShown: whether its client was given it.
    """

    turn: TurnDetails
    arguments: str
    isShown: bool


_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(CallDetails).decode
_decodeTool = msgspec.json.Decoder(ToolDefinition).decode


class Parked(Protocol):
    """
    A turn that waits for results.
    """

    @property
    def context(self) -> TurnContext: ...

    @property
    def slot(self) -> Slot: ...

    @property
    def told(self) -> Usage: ...

    @property
    def seenCalls(self) -> Iterable[str]: ...

    @property
    def handedOut(self) -> int: ...

    @property
    def askedAt(self) -> float: ...

    @property
    def openCalls(self) -> Sequence[ParkedCall]:
        """
        The calls that have no result.
        """


class LastingTurns:
    """
    Saves parked turns, and what becomes of their calls.

    @ivar isStopped: whether what happens from now on is the end of this
        process, and nothing that the next one need know.
    """

    def __init__(
        self,
        state: StateStore,
        sessions: LastingSessions,
        daemon: Daemon,
        clock: Callable[[], float],
        now: Callable[[], float],
    ) -> None:
        """
        @param daemon: has the turns.
        @param clock: the monotonic clock, in seconds.
        @param now: the wall clock, in seconds since 1970.
        """
        self.isStopped = False
        self._state = state
        self._sessions = sessions
        self._daemon = daemon
        self._clock = clock
        self._now = now

    def keep(self, parked: Parked) -> Deferred[bool]:
        """
        Save a turn that waits for results.

        @return: fires when it would outlast this process, or that cannot be
            had for now.
        """
        turn, incarnation = self._turn(parked), self._daemon.incarnation
        ago = self._now() - self._clock()
        for call in parked.openCalls:
            deadline = ago + call.arrivedAt + turn.parkTimeout
            call.saved = SavedCall(
                publicId=call.publicId,
                account=call.account,
                sid=call.sid,
                callId=call.callId,
                wireName=call.wireName,
                clientName=call.clientName,
                arguments=digestOf([call.arguments]),
                asked=None if call.legacyKey is None else call.legacyKey[2],
                isOpen=True,
                incarnation=incarnation or "",
                details=_encode(CallDetails(turn, call.arguments, call.state is CallState.SHOWN)),
                createdAt=ago + call.arrivedAt,
                deadline=deadline,
                expiresAt=deadline + REMEMBERED,
            )
            self._state.save(call.saved)
        return self._state.durable()

    def _turn(self, parked: Parked) -> TurnDetails:
        context, tools = parked.context, parked.slot.tools
        definitions = () if tools is None else {**tools.former, **tools.own}.values()
        return TurnDetails(
            parked.slot.model,
            workersOf(self._daemon.registry, parked.slot.model),
            self._sessions.savedFrom(context.session),
            context.names,
            tuple(context.customTools),
            context.parallel,
            context.parkTimeout,
            [tool.encoded for tool in definitions],
            parked.told,
            tuple(parked.seenCalls),
            context.api,
            parked.handedOut,
            self._now() - self._clock() + parked.askedAt,
        )

    def taking(self, calls: Iterable[ParkedCall]) -> Deferred[bool] | None:
        """
        Note that these calls are about to have their results.

        @return: fires when that would outlast this process, or that cannot be
            had for now; None when it is noted of all of them.
        """
        isNew = False
        for call in calls:
            if call.saved is not None and not self.isStopped:
                self._state.forget(SavedCall, call.publicId)
                call.saved = None
                isNew = True
        return self._state.durable() if isNew else None

    def closed(self, call: ParkedCall) -> None:
        """
        Note that the call can take no result, or has one.
        """
        saved, call.saved = call.saved, None
        if saved is None or self.isStopped:
            return
        if call.state is CallState.LATE:
            self.isLate(saved)
        else:
            self._state.forget(SavedCall, saved.publicId)

    def isLate(self, saved: SavedCall) -> None:
        """
        Note that the model waits no longer.
        """
        self._state.save(replace(saved, isOpen=False, details=b""))

    async def calls(self) -> Sequence[SavedCall]:
        """
        Return what was saved of calls.
        """
        return await self._state.find(SavedCall, limit=MOST_CALLS)


def workersOf(registry: Registry, model: str) -> Sequence[str]:
    """
    Return the daemon's names of the workers that may have a turn of this model;
    none where nothing is known of them.
    """
    return [bee.name for bee in registry.bees() if model in bee.models] if registry.isKnown else ()


def detailsOf(saved: SavedCall) -> CallDetails | None:
    """
    Return what it takes to go on with the turn of a call; None when nothing
    does, or another version has saved it.
    """
    with suppress(msgspec.MsgspecError):
        return _decode(saved.details)
    return None


def toolsOf(turn: TurnDetails) -> list[ToolDefinition]:
    """
    Return the definitions that a turn's worker knows.
    """
    return [_decodeTool(tool) for tool in turn.tools]
