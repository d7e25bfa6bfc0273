# -*- test-case-name: tests.sessions.test_calls -*-
"""
Tool calls that were given to clients, and which of them a request answers.

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
from functools import cached_property
from typing import Final, Protocol

import msgspec

from openai_server.clock import Clock
from openai_server.errors import APIError
from openai_server.sessions.chains import Transcript
from openai_server.sessions.entries import Entry, callWithoutId
from openai_server.sessions.ids import newPublicCallId
from openai_server.wire.tones import ToolCall

#: Calls of one turn that may be open at once.
MAX_OPEN: Final = 128
#: Characters of the arguments of those calls together.
MAX_ARGUMENTS: Final = 32 * 2**20
#: Calls that are remembered after they took a result or were given up.
MAX_CLOSED: Final = 10_000
#: Seconds for which they are.
REMEMBERED: Final = 3600.0

_encode = msgspec.json.Encoder().encode


class Terms(Protocol):
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


@dataclass(eq=False)
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


class Outcome(Enum):
    """
    What a request does with the calls of a turn that waits.
    """

    #: It has nothing to do with any: plain history.
    HISTORY = "history"
    #: It answers calls that were answered before: plain history, or a retry.
    AGAIN = "again"
    #: It answers all calls that were shown. With C{extra}, it says more.
    ALL = "all"
    #: It answers some of them and says nothing else.
    SOME = "some"
    #: It answers some of them, or none, and goes on with something else.
    GIVEN_UP = "given up"
    #: It answers calls for which the model waits no longer.
    LATE = "late"


@dataclass(frozen=True)
class Match:
    """
    What a request does with parked calls.

    @ivar owner: whose calls they are; None under C{HISTORY} and C{AGAIN}.
    @ivar results: each answered call with the index of the message that
        answers it.
    @ivar missing: the other calls that the client was shown.
    @ivar extra: the indexes of the messages that come with the results and are
        none.
    """

    outcome: Outcome
    owner: object = None
    results: Sequence[tuple[ParkedCall, int]] = ()
    missing: Sequence[ParkedCall] = ()
    extra: Sequence[int] = ()


class CallTable:
    """
    All calls, of all accounts.

    @ivar _byId: what clients may ask for, by account and public id.
    @ivar _legacy: calls that were shown as the deprecated C{function_call}, by
        account, name, and the digest of the transcript that they answer.
    @ivar _open: the calls of each owner that are kept or shown, in order.
    @ivar _past: the late and the closed ones, the oldest first.
    """

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._byId: dict[tuple[str, str], ParkedCall] = {}
        self._legacy: dict[tuple[str, str, bytes], list[ParkedCall]] = {}
        self._open: dict[object, list[ParkedCall]] = {}
        self._past: OrderedDict[ParkedCall, None] = OrderedDict()

    def __len__(self) -> int:
        """
        Calls that are kept or shown.
        """
        return sum(map(len, self._open.values()))

    # What becomes of a call.

    def opened(self, owner: object, terms: Terms, tone: ToolCall, now: float) -> ParkedCall:
        """
        A model has made a call, of a tool that the client declared.

        @param now: its arrival, on the monotonic clock.
        @raise APIError: C{worker_error}: the turn has too many open calls.
        """
        own = self._open.get(owner, [])
        arguments = argumentsFrom(tone.args)
        if len(own) >= MAX_OPEN or sum(len(call.arguments) for call in own) + len(arguments) > MAX_ARGUMENTS:
            raise APIError("worker_error", "The model made too many tool calls at once.", mayRetry=False)
        name = tone.toolName or tone.name or ""
        call = ParkedCall(
            publicId=newPublicCallId(),
            account=terms.account,
            sid=terms.sid,
            callId=tone.callId,
            wireName=name,
            clientName=terms.names[name],
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
        if wasShown:
            call.closedAt = self._clock.monotonic()
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
        horizon = self._clock.monotonic() - REMEMBERED
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

    # Which calls a request answers.

    def match(self, account: str, transcript: Transcript) -> Match:
        """
        What a request does with the calls of a turn that waits. Nothing is
        changed: for each result that is used, say L{taken}.

        What counts are the messages after the last one of the assistant's. Two
        results for one call: the last one counts.
        """
        if not self._byId and not self._legacy:
            return Match(Outcome.HISTORY)
        tail = _Tail(transcript)
        found = self._results(account, transcript, tail)
        owner = _lastOwner([*self._waitingBefore(account, transcript, tail), *found])
        if owner is None:
            return Match(Outcome.AGAIN if found else Outcome.HISTORY)
        results = [(call, at) for call, at in found.items() if call.owner is owner]
        waiting = [call for call in self._open.get(owner, ()) if call.state is CallState.SHOWN]
        missing = [call for call in waiting if call not in found]
        outcome = _outcome(results, missing, tail.extra)
        if outcome is Outcome.HISTORY:
            return Match(outcome)
        return Match(outcome, owner, results, missing, tail.extra)

    def _results(self, account: str, transcript: Transcript, tail: _Tail) -> dict[ParkedCall, int]:
        found: dict[ParkedCall, int] = {}
        for at in tail.results:
            call = self._answeredBy(account, transcript, tail, transcript.entries[at], found)
            if call is not None:
                found[call] = at
        return found

    def _answeredBy(
        self,
        account: str,
        transcript: Transcript,
        tail: _Tail,
        entry: Entry,
        found: Mapping[ParkedCall, int],
    ) -> ParkedCall | None:
        if entry.resultFor is not None:
            return self._byId.get((account, entry.resultFor))
        named = self._withoutId(account, transcript, tail, entry.name or "")
        return next((call for call in named if call not in found), None)

    def _waitingBefore(self, account: str, transcript: Transcript, tail: _Tail) -> list[ParkedCall]:
        # Calls of the last answer that the model still waits for.
        if not tail.start:
            return []
        found = []
        for named in transcript.entries[tail.start - 1].calls:
            known = self._byId.get((account, named))
            tool = named.partition("\0")[0]
            possible = [known] if known else self._withoutId(account, transcript, tail, tool)
            found += [call for call in possible if call.state is CallState.SHOWN][:1]
        return found

    def _withoutId(
        self, account: str, transcript: Transcript, tail: _Tail, tool: str
    ) -> Sequence[ParkedCall]:
        # Calls of this tool that were shown in the deprecated shape, as the
        # last answer here may have shown one; first those with its arguments.
        if not tail.start or not self._legacy:
            return ()
        said = transcript.entries[tail.start - 1].calls
        return sorted(
            self._legacy.get((account, tool, tail.asked), ()),
            key=lambda call: callWithoutId(call.clientName, call.arguments) not in said,
        )


class _Tail:
    """
    What a request says after the last message of the assistant's.

    @ivar start: the index of its first message.
    @ivar results: the indexes of messages that answer calls.
    @ivar extra: the indexes of the others; without an assistant's message,
        only of those behind the first result: what is before it is history.
    """

    def __init__(self, transcript: Transcript) -> None:
        self._transcript = transcript
        entries = transcript.entries
        start = len(entries)
        while start and entries[start - 1].role != "assistant":
            start -= 1
        self.start = start
        kinds = [(at, entries[at].role in ("tool", "function")) for at in range(start, len(entries))]
        self.results = [at for at, isResult in kinds if isResult]
        first = start if start else next(iter(self.results), len(entries))
        self.extra = [at for at, isResult in kinds if not isResult and at > first - 1]

    @cached_property
    def asked(self) -> bytes:
        """
        The digest of what the last message of the assistant's answers.
        """
        return self._transcript.digestBefore(self.start - 1)


def _lastOwner(calls: Sequence[ParkedCall]) -> object:
    return next((call.owner for call in reversed(calls) if call.owner is not None), None)


def _outcome(
    results: Sequence[tuple[ParkedCall, int]], missing: Sequence[ParkedCall], extra: Sequence[int]
) -> Outcome:
    if any(call.state is CallState.LATE for call, _ in results):
        return Outcome.LATE
    if not missing:
        return Outcome.ALL
    if extra:
        return Outcome.GIVEN_UP
    return Outcome.SOME if results else Outcome.HISTORY


def argumentsFrom(args: object) -> str:
    """
    A call's arguments as a client is given them: always a string. A string is
    passed on as it is, be it JSON or not.
    """
    if isinstance(args, str):
        return args
    return "{}" if args is None else _encode(args).decode()
