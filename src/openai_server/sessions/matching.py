# -*- test-case-name: tests.sessions.test_matching -*-
"""
Which calls of a model's a request answers.
"""

from __future__ import annotations

from collections.abc import Container, Sequence
from dataclasses import dataclass
from enum import Enum
from functools import cached_property

from openai_server.sessions.calls import CallState, CallTable, ParkedCall
from openai_server.sessions.chains import Transcript
from openai_server.sessions.entries import Entry, callWithoutId


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
        answers it, in the order of the messages.
    @ivar missing: the other calls that the client was shown.
    @ivar extra: the indexes of the messages that come with the results and are
        none.
    @ivar answer: the indexes of the messages that show the calls: several
        where a client shows each call of one answer as a message of its own.
    """

    outcome: Outcome
    owner: object = None
    results: Sequence[tuple[ParkedCall, int]] = ()
    missing: Sequence[ParkedCall] = ()
    extra: Sequence[int] = ()
    answer: Sequence[int] = ()


def matchFromTranscript(calls: CallTable, account: str, transcript: Transcript) -> Match:
    """
    What a request does with the calls of a turn that waits. Nothing is
    changed: for each result that is used, say L{CallTable.taken}.

    What counts are the messages after the last one of the assistant's. Where
    that does not show all calls of its answer, those after the messages that
    show the others count too. Two results for one call: the last one counts.
    """
    return _Tail(calls, account, transcript).match() if calls.hasShown else Match(Outcome.HISTORY)


class _Tail:
    """
    What a request says after the last message of the assistant's.

    @ivar _start: the index of its first message.
    @ivar _results: the indexes of messages that answer calls.
    @ivar _extra: the indexes of the others; without an assistant's message,
        only of those behind the first result: what is before it is history.
    @ivar _answer: see L{Match.answer}.
    @ivar _hasOtherWords: whether the assistant says between the calls of one
        answer what is no part of it.
    """

    def __init__(self, calls: CallTable, account: str, transcript: Transcript) -> None:
        self._calls = calls
        self._account = account
        self._transcript = transcript
        entries = transcript.entries
        start = len(entries)
        while start and entries[start - 1].role != "assistant":
            start -= 1
        self._start = start
        kinds = [(at, entries[at].role == "tool") for at in range(start, len(entries))]
        self._results = [at for at, isResult in kinds if isResult]
        first = start if start else next(iter(self._results), len(entries))
        self._extra = [at for at, isResult in kinds if not isResult and at > first - 1]
        self._answer = [start - 1] if start else []
        self._hasOtherWords = False

    def match(self) -> Match:
        found = self._found()
        owner = _lastOwner([*self._waiting(), *found])
        if owner is None:
            return Match(Outcome.AGAIN if found else Outcome.HISTORY)
        waiting = self._calls.waitingOf(owner)
        self._lookBack(waiting, found)
        results = sorted(
            [(call, at) for call, at in found.items() if call.owner is owner], key=lambda result: result[1]
        )
        missing = [call for call in waiting if call not in found]
        outcome = _outcome(results, missing, self._extra)
        if outcome is Outcome.HISTORY:
            return Match(outcome)
        if self._hasOtherWords and outcome is Outcome.ALL:
            outcome = Outcome.GIVEN_UP
        return Match(outcome, owner, results, missing, self._extra, self._answer)

    def _found(self) -> dict[ParkedCall, int]:
        # The calls that are answered here, and where.
        found: dict[ParkedCall, int] = {}
        for at in self._results:
            call = self._answeredBy(self._transcript.entries[at], found)
            if call is not None:
                found[call] = at
        return found

    def _lookBack(self, waiting: Sequence[ParkedCall], found: dict[ParkedCall, int]) -> None:
        """
        Look for what shows the calls that the last answer here does not show,
        or that have no result behind it, and for their results.

        @param found: the results; those that are found are put in.
        """
        said = self._said
        left = {
            call.publicId: call
            for call in waiting
            if call.legacyKey is None and (call not in found or call.publicId not in said)
        }
        results: dict[str, int] = {}
        extra: list[int] = []
        hasOtherWords = False
        for at in range(self._start - 2, -1, -1):
            if not left:
                return
            entry = self._transcript.entries[at]
            if entry.role == "tool":
                results.setdefault(entry.resultFor or "", at)
            elif entry.role != "assistant":
                extra.insert(0, at)
            elif left.keys().isdisjoint(entry.calls):
                hasOtherWords |= bool(entry.text or entry.calls)
            else:
                for name in left.keys() & set(entry.calls):
                    call = left.pop(name)
                    if name in results:
                        found.setdefault(call, results[name])
                self._answer.insert(0, at)
                self._extra[:0], extra = extra, []
                self._hasOtherWords |= hasOtherWords

    def _answeredBy(self, entry: Entry, found: Container[ParkedCall]) -> ParkedCall | None:
        if entry.resultFor is not None:
            return self._calls.find(self._account, entry.resultFor)
        named = self._withoutId(entry.name or "")
        return next((call for call in named if call not in found), None)

    def _waiting(self) -> list[ParkedCall]:
        # Calls of the last answer that the model still waits for.
        found: list[ParkedCall] = []
        for named in self._said:
            known = self._calls.find(self._account, named)
            possible = [known] if known else self._withoutId(named.partition("\0")[0])
            found += [call for call in possible if call.state is CallState.SHOWN][:1]
        return found

    def _withoutId(self, tool: str) -> Sequence[ParkedCall]:
        # Calls of this tool that were shown in the deprecated shape, as the
        # last answer here may have shown one; first those with its arguments.
        if not self._start or not self._calls.hasWithoutId:
            return ()
        return sorted(
            self._calls.withoutId(self._account, tool, self._asked),
            key=lambda call: callWithoutId(call.clientName, call.arguments) not in self._said,
        )

    @property
    def _said(self) -> Sequence[str]:
        # What names the calls of the last answer.
        return self._transcript.entries[self._start - 1].calls if self._start else ()

    @cached_property
    def _asked(self) -> bytes:
        # The digest of what the last answer answers.
        return self._transcript.digestBefore(self._start - 1)


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
