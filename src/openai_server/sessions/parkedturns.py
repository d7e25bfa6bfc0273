# -*- test-case-name: tests.flow.test_restart -*-
"""
Parked turns that outlast the process.

Each call that a client is given is saved with all that it takes to go on with
its turn, before the client sees it. A call is forgotten before the model is
given its result: one whose result may or may not have reached the model is none
that can be answered once more, and what the client brings goes into a fresh
turn. One for which it is too late is remembered for a while.

Where several processes share the store, each call names the one that has its
turn, and nothing is said to the model before the store has confirmed that this
one still has it: see L{openai_server.sessions.sharedturns}.

What is guaranteed, wherever a process dies: no call is given two results, and
none that a client was shown is forgotten before its result is used. What is not:
a process that dies between the note that results are used and their way out
loses the turn, so that the client's next request begins a fresh one from its
transcript, or is told C{call_expired} where it has none. What a turn says while
it is parked is known to the process that has it alone, and is lost with it or
when another one goes on with the turn.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Final, Protocol, TypeVar
from weakref import WeakValueDictionary

import msgspec
from msgspec.structs import replace
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorTime

from openai_server.api.output import Usage
from openai_server.daemon.interfaces import Registry
from openai_server.sessions.calls import REMEMBERED, CallState, ParkedCall
from openai_server.sessions.digests import digestOf
from openai_server.sessions.handovers import Handovers
from openai_server.sessions.lasting import LastingSessions
from openai_server.sessions.matching import Match, Outcome
from openai_server.sessions.pool import Slot
from openai_server.sessions.turncontext import TurnContext
from openai_server.sessions.upstreams import Upstream, Upstreams
from openai_server.store.interfaces import StateStore
from openai_server.store.saved import Field, SavedCall, SavedSession
from openai_server.wire.tones import ToolDefinition

#: Parked calls that are looked for at a start.
MOST_CALLS: Final = 10_000
#: What becomes of a call whose result is not waited for any more.
_CLOSED: Final[Mapping[str, Field]] = {"isOpen": False, "details": b""}

T = TypeVar("T")


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
#: Many turns have the same ones.
_knownTools: Final[WeakValueDictionary[bytes, ToolDefinition]] = WeakValueDictionary()


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
    def isParked(self) -> bool: ...

    @property
    def handedOut(self) -> int: ...

    @property
    def askedAt(self) -> float: ...

    @property
    def openCalls(self) -> Sequence[ParkedCall]:
        """
        The calls that have no result.
        """


P = TypeVar("P", bound=Parked)


class LastingTurns:
    """
    Saves parked turns, and what becomes of their calls.

    @ivar owner: this process's name.
    @ivar isShared: whether other processes may take the turns.
    @ivar now: the wall clock, in seconds since 1970.
    @ivar handovers: of turns that several processes share.
    @ivar onLost: called with a parked turn that another process has.
    @ivar isStopped: whether what happens from now on is the end of this
        process, and nothing that the next one need know.
    """

    def __init__(
        self,
        state: StateStore,
        sessions: LastingSessions,
        upstreams: Upstreams,
        clock: IReactorTime,
        now: Callable[[], float],
        owner: str = "",
    ) -> None:
        """
        @param upstreams: have the turns.
        @param now: the wall clock, in seconds since 1970.
        @param owner: this process's name, which it has after a restart too.
        """
        self.isStopped = False
        self.isShared = state.isShared
        self.owner = owner
        self.onLost: Callable[[Any], None] | None = None
        self._state = state
        self._sessions = sessions
        self._upstreams = upstreams
        self._clock = clock.seconds
        self.now = now
        self.handovers = Handovers(state, owner, clock)
        self._takes: dict[Parked, Deferred[bool]] = {}

    def keep(self, parked: Parked) -> Deferred[bool]:
        """
        Save a turn that waits for results.

        @return: fires when it would outlast this process, or that cannot be
            had for now.
        """
        upstream = self._upstreams.having(parked.context.session)
        turn, incarnation = self._turn(parked, upstream), upstream.daemon.incarnation
        for call in parked.openCalls:
            # Another process may have those that are saved already.
            if not self.isShared or call.saved is None:
                saved = self._savedFrom(call, turn, incarnation or "")
                self._state.save(saved)
                call.saved = replace(saved, details=b"")
        return self._state.durable()

    def _savedFrom(self, call: ParkedCall, turn: TurnDetails, incarnation: str) -> SavedCall:
        ago = self.now() - self._clock()
        deadline = ago + call.arrivedAt + turn.parkTimeout
        return SavedCall(
            publicId=call.publicId,
            account=call.account,
            sid=call.sid,
            callId=call.callId,
            wireName=call.wireName,
            clientName=call.clientName,
            arguments=digestOf([call.arguments]),
            asked=None if call.legacyKey is None else call.legacyKey[2],
            isOpen=True,
            incarnation=incarnation,
            details=_encode(CallDetails(turn, call.arguments, call.state is CallState.SHOWN)),
            createdAt=ago + call.arrivedAt,
            deadline=deadline,
            expiresAt=deadline + REMEMBERED,
            owner=self.owner,
        )

    def _turn(self, parked: Parked, upstream: Upstream) -> TurnDetails:
        context, tools = parked.context, parked.slot.tools
        definitions = () if tools is None else {**tools.former, **tools.own}.values()
        return TurnDetails(
            parked.slot.model,
            workersOf(upstream.daemon.registry, parked.slot.model),
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
            self.now() - self._clock() + parked.askedAt,
        )

    def mustBeTaken(self, match: Match) -> bool:
        """
        Whether the calls that a request answers are to be taken before.
        """
        isGivenUp = match.outcome is Outcome.GIVEN_UP and match.owner is not None
        return match.outcome is Outcome.ALL or (self.isShared and isGivenUp)

    def taking(self, parked: Parked, calls: Iterable[ParkedCall]) -> Deferred[bool] | None:
        """
        Note that these calls are about to have their results, and that nobody
        else may answer any of this turn's.

        @return: fires with whether this process may, when that would outlast
            it, or cannot be had for now; None when it is noted already.
        """
        if self.isShared:
            return self._take(parked)
        isNew = False
        for call in calls:
            if call.saved is not None and not self.isStopped:
                self._state.forget(SavedCall, call.publicId)
                call.saved = None
                isNew = True
        return self._state.durable().addCallback(lambda _: True) if isNew else None

    def _take(self, parked: Parked) -> Deferred[bool] | None:
        if (underWay := self._takes.get(parked)) is not None:
            return following(underWay)
        saved = [call for call in parked.openCalls if call.saved is not None]
        if not saved:
            return None
        for call in saved:
            call.saved = None
        names = [call.publicId for call in saved]
        take = self._takes[parked] = Deferred.fromCoroutine(self._takeRows(parked.context.sid, names))
        return following(take.addCallback(self._taken, parked))

    async def _takeRows(self, sid: str, names: Sequence[str]) -> bool:
        await self._whenLeft(sid)
        if await self._state.takeAll(SavedCall, names, owner=self.owner, isOpen=True):
            return True
        # Another process has the turn, and no results yet.
        isOurs = await self._state.takeAll(SavedCall, names, isOpen=True)
        if isOurs:
            self.handovers.taken(sid)
            await self._whenLeft(sid)
        return isOurs

    async def _whenLeft(self, sid: str) -> None:
        if (left := self.handovers.whenLeft(sid)) is not None:
            await following(left)

    def isTaking(self, parked: Parked) -> bool:
        """
        Whether this process is about to use results of a turn: then the store
        says whose it is.
        """
        return parked in self._takes

    def _taken(self, isOurs: bool, parked: Parked) -> bool:
        self._takes.pop(parked, None)
        return self._checked(isOurs, parked)

    def notUsed(self, parked: Parked) -> None:
        """
        Note that the results that were about to be used are not, and may come
        again.
        """
        if (underWay := self._takes.get(parked)) is None:
            self._keepAgain(True, parked)
        else:
            underWay.addCallback(self._keepAgain, parked)

    def _keepAgain(self, isOurs: bool, parked: Parked) -> bool:
        if isOurs and parked.isParked:
            self.keep(parked)
        return isOurs

    def expiring(self, parked: Parked) -> Deferred[bool] | None:
        """
        Note that the deadline of a parked turn has passed.

        @return: fires with whether this process may tell the model; None where
            nobody else would.
        """
        if not self.isShared or self.isStopped:
            return None
        if (underWay := self._takes.get(parked)) is not None:
            return following(underWay)
        if all(call.saved is None for call in parked.openCalls):
            return None
        closing = self._state.change(
            SavedCall, _CLOSED, sid=parked.context.sid, owner=self.owner, isOpen=True
        )
        return closing.addCallback(self._checked, parked)

    def _checked(self, isOurs: bool | None, parked: Parked) -> bool:
        """
        @param isOurs: None where that cannot be known for now.
        """
        if isOurs is False and parked.isParked and self.onLost is not None:
            self.onLost(parked)
        return isOurs is not False

    def closed(self, call: ParkedCall) -> None:
        """
        Note that the call can take no result, or has one.
        """
        saved, call.saved = call.saved, None
        if saved is None or self.isStopped:
            return
        if call.state is CallState.LATE:
            self.isLate(saved)
        elif self.isShared:
            self._state.takeAll(SavedCall, [saved.publicId], owner=self.owner)
        else:
            self._state.forget(SavedCall, saved.publicId)

    def isLate(self, saved: SavedCall) -> None:
        """
        Note that the model waits no longer.
        """
        if self.isShared:
            self._state.change(SavedCall, _CLOSED, publicId=saved.publicId, owner=saved.owner)
        else:
            self._state.save(replace(saved, isOpen=False, details=b""))

    async def lost(self, turns: Iterable[P]) -> Sequence[P]:
        """
        Return those of these parked turns that another process has, by the
        store; none where that cannot be known for now.
        """
        noted = [(each, [call for call in each.openCalls if call.saved is not None]) for each in turns]
        own = await self._state.parkedSids(self.owner)
        if own is None:
            return ()
        others = [(each, calls) for each, calls in noted if each.context.sid not in own]
        # Meanwhile their results may have come.
        return [each for each, calls in others if any(call.saved is not None for call in calls)]

    # What is in the store.

    async def calls(self) -> Sequence[SavedCall]:
        """
        Return what an earlier process of this name has left of calls.
        """
        if self.isShared:
            return await self._state.find(SavedCall, limit=MOST_CALLS, owner=self.owner, isOpen=True)
        return await self._state.find(SavedCall, limit=MOST_CALLS)

    async def abandoned(self, incarnation: str) -> Sequence[SavedCall]:
        """
        Return open calls of this daemon's that other processes have left.
        """
        found = await self._state.abandoned(MOST_CALLS, incarnation=incarnation)
        return [saved for saved in found if saved.owner != self.owner]

    async def call(self, publicId: str) -> SavedCall | None:
        """
        Return a call, whoever has its turn.
        """
        return await self._state.get(SavedCall, publicId)

    async def callWithoutId(self, account: str, asked: bytes) -> SavedCall | None:
        """
        Return a call that was shown without an id.

        @param asked: the digest of the transcript that it answers.
        """
        found = await self._state.find(SavedCall, limit=1, account=account, asked=asked)
        return found[0] if found else None

    async def own(self, saved: SavedCall) -> Sequence[SavedCall]:
        """
        Take the turn of a call from the process that has it, or had.

        @return: its open calls; none when another one was quicker.
        """
        isOurs = await self._state.change(
            SavedCall, {"owner": self.owner}, sid=saved.sid, owner=saved.owner, isOpen=True
        )
        if not isOurs:
            return ()
        return await self._state.find(
            SavedCall, limit=MOST_CALLS, sid=saved.sid, owner=self.owner, isOpen=True
        )


def following(waited: Deferred[T]) -> Deferred[T]:
    """
    Return what fires with another Deferred, which goes on when this one is
    cancelled.
    """
    # Without a canceller it takes no notice of a result behind its cancelling.
    follower: Deferred[T] = Deferred()

    def tell(result: T) -> T:
        follower.callback(result)
        return result

    waited.addCallback(tell)
    return follower


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
    try:
        return _decode(saved.details)
    except msgspec.MsgspecError:
        return None


def toolsOf(turn: TurnDetails) -> list[ToolDefinition]:
    """
    Return the definitions that a turn's worker knows.
    """
    return [_toolFrom(encoded) for encoded in turn.tools]


def _toolFrom(encoded: bytes) -> ToolDefinition:
    tool = _knownTools.get(encoded)
    if tool is None:
        tool = _knownTools[encoded] = _decodeTool(encoded)
    return tool
