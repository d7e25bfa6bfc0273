# -*- test-case-name: tests.sessions.test_calls -*-
"""
Tool calls that were given to clients.

A client knows a call by its public id alone. The id is bound to the account:
for another account it is as unknown as one that was never given. A call takes
at most one result; afterwards its id is remembered for a while, so that what
comes again, or too late, is told from what is made up.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum
from typing import Any, Final, Protocol

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorTime

from openai_server.api.arguments import argumentsText
from openai_server.errors import APIError
from openai_server.sessions.ids import newPublicCallId
from openai_server.store.saved import SavedCall
from openai_server.wire.tones import ToolCall

#: Calls of one turn that may be open at once.
MAX_OPEN: Final = 128
#: Characters of the arguments of those calls together.
MAX_ARGUMENTS: Final = 32 * 2**20
#: Calls that are remembered after they took a result or were given up.
MAX_CLOSED: Final = 10_000
#: Seconds for which they are.
REMEMBERED: Final = 3600.0


class CallOwnerContext(Protocol):
    """
    Of whose request a call is made.

    @ivar names: name of a tool on the wire -> its name at the client.
    """

    @property
    def account(self) -> str: ...

    @property
    def sid(self) -> str: ...

    @property
    def names(self) -> Mapping[str, str]: ...


class CallState(Enum):
    """
    Where a call is on its way.
    """

    #: Made by the model, not yet shown to the client.
    KEPT = "kept"
    #: Shown to the client; the model waits.
    SHOWN = "shown"
    #: The client was shown it, and the model waits no longer.
    LATE = "late"
    #: It has its result, or will never take one.
    CLOSED = "closed"


@dataclass(eq=False, slots=True)
class ParkedCall:
    """
    One call of a model's.

    @ivar publicId: the id for the client.
    @ivar owner: whoever keeps the turn.
    @ivar wireName: the tool's name as the worker said it.
    @ivar clientName: its name as the client declared it.
    @ivar arguments: as a client is given them; empty once the call is neither
        kept nor shown.
    @ivar arrivedAt: on the monotonic clock, in seconds.
    @ivar closedAt: since when it is late or closed, on the same clock.
    @ivar legacyKey: how it is found without an id.
    @ivar saved: what outlasts this process of it, but for the details.
    """

    publicId: str
    account: str
    sid: str
    callId: str
    wireName: str
    clientName: str
    arguments: str
    arrivedAt: float
    owner: object
    state: CallState = CallState.KEPT
    closedAt: float = field(default=0.0, repr=False)
    legacyKey: tuple[str, str, bytes] | None = field(default=None, repr=False)
    saved: SavedCall | None = field(default=None, repr=False)


class CallKeeper(Protocol):
    """
    Who is told what becomes of calls.

    @ivar isShared: whether other processes may take the turns.
    """

    isShared: bool

    def expiring(self, parked: Any) -> Deferred[bool] | None:
        """
        The deadline of a parked turn has passed.

        @return: fires with whether it is this process that tells the model;
            None where that is so.
        """

    def keep(self, parked: Any) -> object:
        """
        A parked turn has made a further call.
        """

    def closed(self, call: ParkedCall) -> None:
        """
        The call is late or closed.
        """


class CallTable:
    """
    All calls, of all accounts.

    @ivar _byId: what clients may ask for, by account and public id.
    @ivar _legacy: calls that were shown as the deprecated C{function_call}, by
        account, name, and the digest of the transcript that they answer.
    @ivar _open: the calls of each owner that are kept or shown, in order.
    @ivar _past: the late and the closed ones, the oldest first.
    """

    def __init__(self, clock: IReactorTime, keeper: CallKeeper | None = None) -> None:
        self._clock = clock
        self._keeper = keeper
        self._byId: dict[tuple[str, str], ParkedCall] = {}
        self._legacy: dict[tuple[str, str, bytes], list[ParkedCall]] = {}
        self._open: dict[object, list[ParkedCall]] = {}
        self._past: OrderedDict[ParkedCall, None] = OrderedDict()

    def __len__(self) -> int:
        """
        Calls that are kept or shown.
        """
        return sum(map(len, self._open.values()))

    def opened(self, owner: object, context: CallOwnerContext, tone: ToolCall, now: float) -> ParkedCall:
        """
        A model has made a call, of a tool that the client declared.

        @param now: its arrival, on the monotonic clock.
        @raise APIError: C{worker_error}: the turn has too many open calls.
        """
        own = self._open.get(owner, [])
        arguments = argumentsText(tone.args)
        if len(own) >= MAX_OPEN or sum(len(call.arguments) for call in own) + len(arguments) > MAX_ARGUMENTS:
            raise APIError("worker_error", "The model made too many tool calls at once.", mayRetry=False)
        name = tone.toolName or tone.name or ""
        call = ParkedCall(
            publicId=newPublicCallId(),
            account=context.account,
            sid=context.sid,
            callId=tone.callId,
            wireName=name,
            clientName=context.names[name],
            arguments=arguments,
            arrivedAt=now,
            owner=owner,
        )
        self._open.setdefault(owner, []).append(call)
        return call

    def shown(self, calls: Iterable[ParkedCall], asked: bytes | None = None) -> None:
        """
        An answer hands these calls to its client. From now on they can be
        found.

        @param asked: for an answer in the deprecated shape, which shows no id:
            the digest of the transcript that is being answered.
        """
        for call in calls:
            if call.state is not CallState.KEPT:
                continue
            call.state = CallState.SHOWN
            self._byId[call.account, call.publicId] = call
            if asked is not None:
                call.legacyKey = (call.account, call.clientName, asked)
                self._legacy.setdefault(call.legacyKey, []).append(call)

    def addedTo(self, owner: object) -> None:
        """
        This owner's turn is parked, and has made a further call.
        """
        if self._keeper is not None:
            self._keeper.keep(owner)

    def expiring(self, owner: object) -> Deferred[bool] | None:
        """
        The deadline of this owner's calls has passed: see L{CallKeeper.expiring}.
        """
        return None if self._keeper is None else self._keeper.expiring(owner)

    @property
    def isShared(self) -> bool:
        """
        Whether another process may answer calls of a turn that is parked here.
        """
        return self._keeper is not None and self._keeper.isShared

    def left(self, owner: object) -> None:
        """
        Another process has this owner's turn: its calls are none of this one's.
        """
        for call in self._open.pop(owner, ()):
            if call.state is CallState.KEPT and self._keeper is not None:
                # It is told to whoever has the turn.
                self._keeper.closed(call)
            self._byId.pop((call.account, call.publicId), None)
            self._forgetLegacy(call)
            call.state, call.arguments, call.owner = CallState.CLOSED, "", None

    def adopted(self, call: ParkedCall, isShown: bool, asked: bytes | None = None) -> None:
        """
        A call of an earlier process waits for its result.

        @param isShown: whether a client was given it.
        @param asked: see L{shown}.
        """
        self._open.setdefault(call.owner, []).append(call)
        if isShown:
            self.shown([call], asked)

    def remembered(self, call: ParkedCall) -> None:
        """
        An earlier process gave a client this call, and it can take no result.
        """
        self._byId[call.account, call.publicId] = call
        self._close(call, CallState.CLOSED)

    def taken(self, call: ParkedCall) -> bool:
        """
        The call's result goes to the model now, by whatever way.

        @return: False when the call can take none: nothing may be sent then.
        """
        if call.state not in (CallState.SHOWN, CallState.LATE):
            return False
        self._close(call, CallState.CLOSED)
        return True

    def expired(self, call: ParkedCall) -> None:
        """
        The model waits no longer, but the client may still bring the result.
        """
        if call.state is CallState.SHOWN:
            self._close(call, CallState.LATE)
        elif call.state is CallState.KEPT:
            self._close(call, CallState.CLOSED)

    def closed(self, call: ParkedCall) -> None:
        """
        The call will never take a result.
        """
        if call.state is not CallState.CLOSED:
            self._close(call, CallState.CLOSED)

    def _close(self, call: ParkedCall, state: CallState) -> None:
        wasShown = call.state is not CallState.KEPT
        self._leaveOpen(call)
        call.state = state
        call.arguments = ""
        if state is CallState.CLOSED:
            # An owner holds a turn and all that belongs to it.
            call.owner = None
            self._forgetLegacy(call)
        if self._keeper is not None:
            self._keeper.closed(call)
        if wasShown:
            call.closedAt = self._clock.seconds()
            self._past[call] = None
            self._past.move_to_end(call)
            self._forgetOld()

    def _leaveOpen(self, call: ParkedCall) -> None:
        own = self._open.get(call.owner, [])
        if call in own:
            own.remove(call)
            if not own:
                del self._open[call.owner]

    def _forgetOld(self) -> None:
        horizon = self._clock.seconds() - REMEMBERED
        while len(self._past) > MAX_CLOSED or next(iter(self._past)).closedAt < horizon:
            call, _ = self._past.popitem(last=False)
            call.owner = None
            self._forgetLegacy(call)
            del self._byId[call.account, call.publicId]

    def _forgetLegacy(self, call: ParkedCall) -> None:
        key, call.legacyKey = call.legacyKey, None
        if key is not None:
            self._legacy[key].remove(call)
            if not self._legacy[key]:
                del self._legacy[key]

    # Which calls there are.

    @property
    def owners(self) -> Sequence[object]:
        """
        Whose calls are kept or shown.
        """
        return tuple(self._open)

    @property
    def hasShown(self) -> bool:
        """
        Some client may ask for some call.
        """
        return bool(self._byId)

    def find(self, account: str, publicId: str) -> ParkedCall | None:
        """
        The call with this id, if a client of this account was shown it.
        """
        return self._byId.get((account, publicId))

    @property
    def hasWithoutId(self) -> bool:
        """
        Some call was shown in the deprecated shape.
        """
        return bool(self._legacy)

    def withoutId(self, account: str, tool: str, asked: bytes) -> Sequence[ParkedCall]:
        """
        The calls of this tool that clients were shown in the deprecated shape.

        @param tool: its name at the client.
        @param asked: the digest of the transcript that was answered so.
        """
        return self._legacy.get((account, tool, asked), ())

    def waitingOf(self, owner: object) -> list[ParkedCall]:
        """
        The calls of this owner's that were shown and wait for results.
        """
        return [call for call in self._open.get(owner, ()) if call.state is CallState.SHOWN]
