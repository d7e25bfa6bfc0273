# -*- test-case-name: tests.sessions.test_memory -*-
"""
Which session a request gets.

A hint only nominates a session; the transcript decides. A request goes on in a
session exactly if

  - it is the same account's,
  - model, system prompt, tools and instructions are those that the session was
    begun with (a warm worker would ignore others),
  - it begins with exactly what the session has seen, the delivered answers
    included, and says something more: only that is sent then,
  - nobody uses the session now.

Which sessions are looked at: with hints, those that were used under one of the
same hints, unless a stronger hint says otherwise (behind C{prompt_cache_key},
which says nothing of a person, another C{user} does too); without any hint, all
of the account's. Everything else gets a fresh session, which is told the whole
transcript.

I{Lone messages}: a client may leave the history to the server and send only
the newest message. Under a session hint, the strongest one, it goes on in the
session used last under that hint; under C{user} alone according to
L{UserHint}. When that session is busy, a lone message under a session hint
waits for it, as one under C{user} does where that always names the
conversation; else it gets a fresh one. A lone message that comes with another
model, other tools or another system prompt gets a fresh session too, which
knows nothing of what was said before: what the request says holds. One that
says nothing of a system prompt has not changed it, and the plan holds the one
to go on with.

All this is bounded and only an optimisation: what is forgotten is told to a
fresh session. A session whose turn did not come to a good end is forgotten at
once, so that its sid is never used again.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final, TypeAlias

from twisted.internet.defer import Deferred, succeed

from openai_server.clock import Clock
from openai_server.errors import APIError
from openai_server.sessions.chains import Chain
from openai_server.sessions.entries import answerEntry
from openai_server.sessions.hints import SessionKeys, Weight
from openai_server.sessions.nominations import (
    Idle,
    KeyedHints,
    Known,
    Nominations,
    isContradicted,
    scopesOf,
)
from openai_server.sessions.plans import Asked, Kind, Session, SessionPlan, UserHint
from openai_server.sessions.waiting import Waiter

#: Seconds that a lone message waits for its session.
PATIENCE: Final = 30.0
#: Seconds after which a lone message that waited in vain may be sent again.
RETRY_AFTER: Final = 5
#: Lone messages that may wait for one session.
MAX_WAITING: Final = 32
#: Characters of system prompts that are kept for lone messages.
MAX_PROMPTS: Final = 16 * 2**20


@dataclass(frozen=True)
class Memory:
    """
    How the memory of sessions works.

    @ivar continuation: False gives each request a fresh session.
    @ivar sessions: how many idle ones are remembered, and as many hints.
    """

    continuation: bool = True
    userHint: UserHint = UserHint.AUTO
    sessions: int = 10_000


@dataclass(frozen=True)
class _Wanted:
    asked: Asked
    hints: KeyedHints


_Wait: TypeAlias = Waiter[SessionPlan, _Wanted]


class SessionMemory:
    """
    The sessions of this server that may be used again.

    @ivar _waiting: lone messages by the session that they wait for, in order.
    @ivar _promptSize: characters of the system prompts that are kept.
    """

    def __init__(self, clock: Clock, keys: SessionKeys, settings: Memory) -> None:
        self._clock = clock
        self._keys = keys
        self._settings = settings
        self._nominations = Nominations(settings.sessions)
        self._idle = Idle(settings.sessions)
        self._known = Known(4 * settings.sessions)
        self._waiting: dict[Session, list[_Wait]] = {}
        self._promptSize = 0

    def claim(self, asked: Asked) -> Deferred[SessionPlan]:
        """
        The session for a request. It is the request's until L{release}.
        Cancelling the Deferred gives up waiting.

        @return: fires with the plan: at once, but for a lone message whose
            session is busy. Fails with an L{APIError} C{session_busy} when it
            stays so.
        """
        wanted = self._wantedFrom(asked)
        for hint, key in wanted.hints:
            if hint.weight is Weight.USER and asked.transcript.showsHistory:
                self._nominations.historyShown(key)
        busy = self._busyFor(wanted)
        return succeed(self._plan(wanted)) if busy is None else self._wait(busy, wanted)

    def goOn(self, session: Session, asked: Asked) -> SessionPlan | None:
        """
        Go on in a session that was released, with all that the request says,
        although it shows nothing of what the session has seen. None when the
        session is not there any more, or of another context.
        """
        if session not in self._idle or not session.suits(asked.context):
            return None
        return self._continued(self._wantedFrom(asked), session, asked.transcript.leading)

    def _wantedFrom(self, asked: Asked) -> _Wanted:
        keys = self._keys
        return _Wanted(
            asked, [(hint, keys.key(asked.account, hint.kind, hint.value)) for hint in asked.hints]
        )

    def answered(self, session: Session, text: str, calls: Iterable[str] = ()) -> None:
        """
        The client was given this as an answer, and will show it as such.

        @param text: exactly what was delivered.
        @param calls: what names each call that the answer ended with: see
            L{answerEntry}.
        """
        session.told([answerEntry(text, calls)])
        self._known.add(session.account, session.seen.digest)

    def release(self, session: Session, mayGoOn: bool) -> None:
        """
        The session is used no longer. The first time counts.

        @param mayGoOn: False for a turn that was cancelled, failed, stalled,
            drains or was cut at a stop string: its sid is never used again.
        """
        if not session.isBusy:
            return
        session.isBusy = False
        if not (mayGoOn and self._settings.continuation):
            self._forget(session)
        else:
            tooMany = self._idle.add(session)
            if tooMany is not None:
                self._forget(tooMany)
        self._serve(session)

    def giveBack(self, plan: SessionPlan) -> None:
        """
        Nothing of the request was sent: its session is as it was before.
        """
        if plan.session.isBusy:
            plan.session.seen = plan.seenBefore
        self.release(plan.session, plan.kind is Kind.CONTINUED)

    def stop(self) -> None:
        """
        Turn away everybody who waits.
        """
        for waiting in list(self._waiting.values()):
            for waiter in list(waiting):
                waiter.turnAway(
                    APIError("shutting_down", "The server is shutting down.", retryAfter=RETRY_AFTER)
                )

    # Which session.

    def _plan(self, wanted: _Wanted) -> SessionPlan:
        asked = wanted.asked
        if not self._settings.continuation:
            return self._fresh(wanted, Kind.NEW)
        if asked.transcript.isLone:
            session, start = self._nominated(wanted), asked.transcript.leading
        else:
            session, start = self._extended(wanted)
        if session is None or session.isBusy:
            return self._fresh(wanted, Kind.FORKED if self._isKnown(wanted) else Kind.NEW)
        return self._continued(wanted, session, start)

    def _continued(self, wanted: _Wanted, session: Session, start: int) -> SessionPlan:
        asked = wanted.asked
        self._idle.remove(session)
        session.isBusy = True
        before = session.seen.copy()
        self._nominations.nominate(session, wanted.hints)
        session.told(asked.transcript.entries[start:])
        isSilent = asked.context.system != session.context.system
        return SessionPlan(Kind.CONTINUED, session, start, before, session.systemPrompt if isSilent else None)

    def _fresh(self, wanted: _Wanted, kind: Kind) -> SessionPlan:
        asked = wanted.asked
        session = Session(asked.account, asked.context)
        if self._settings.continuation:
            session.seen = asked.transcript.whole.copy()
            self._nominations.nominate(session, wanted.hints)
            self._keepPrompt(session, wanted)
        return SessionPlan(kind, session, 0, Chain())

    def _keepPrompt(self, session: Session, wanted: _Wanted) -> None:
        prompt = wanted.asked.systemPrompt
        mayComeAlone = any(hint.weight is not Weight.CACHE for hint, _ in wanted.hints)
        if prompt and mayComeAlone and self._promptSize + len(prompt) <= MAX_PROMPTS:
            session.systemPrompt = prompt
            self._promptSize += len(prompt)

    def _nominated(self, wanted: _Wanted) -> Session | None:
        # For a lone message.
        at = self._deciding(wanted)
        if at is None:
            return None
        context = wanted.asked.context
        suited = [
            session
            for session in self._nominations.of(wanted.hints[at][1])
            if session.suits(context) and not isContradicted(session, wanted.hints, at)
        ]
        equal = (session for session in suited if session.context == context)
        return next(equal, suited[0] if suited else None)

    def _deciding(self, wanted: _Wanted) -> int | None:
        # The index of the hint under which a lone message goes on.
        for at, (hint, key) in enumerate(wanted.hints):
            if hint.weight is Weight.SESSION or (hint.weight is Weight.USER and self._namesTalk(key)):
                return at
        return None

    def _namesTalk(self, user: bytes) -> bool:
        if self._settings.userHint is UserHint.AUTO:
            return not self._nominations.showsHistory(user)
        return self._settings.userHint is UserHint.ALWAYS

    def _extended(self, wanted: _Wanted) -> tuple[Session | None, int]:
        # The idle session whose transcript this request extends the furthest.
        asked = wanted.asked
        transcript = asked.transcript
        scopes = scopesOf(asked.account, wanted.hints, self._nominations)
        places = [(by, found) for scope, by in scopes if (found := self._idle.under(scope, asked.context))]
        if not places:
            return None, 0
        last = len(transcript.entries)
        for at, seen in reversed(transcript.answered.items()):
            for by, found in places:
                for session in reversed(found.get(seen, ())):
                    if at < last and not isContradicted(session, wanted.hints, by):
                        return session, at
        return None, 0

    def _isKnown(self, wanted: _Wanted) -> bool:
        asked = wanted.asked
        if any(self._nominations.of(key) for _, key in wanted.hints):
            return True
        return self._known.has(asked.account, asked.transcript)

    def _forget(self, session: Session) -> None:
        session.isForgotten = True
        self._nominations.withdraw(session)
        self._promptSize -= len(session.systemPrompt or "")

    # Waiting for a busy session.

    def _busyFor(self, wanted: _Wanted) -> Session | None:
        if not (self._settings.continuation and wanted.asked.transcript.isLone):
            return None
        at = self._deciding(wanted)
        if at is None or not self._mayWait(wanted.hints[at][0].weight):
            return None
        session = self._nominated(wanted)
        return session if session is not None and session.isBusy else None

    def _mayWait(self, weight: Weight) -> bool:
        return weight is Weight.SESSION or self._settings.userHint is UserHint.ALWAYS

    def _wait(self, session: Session, wanted: _Wanted) -> Deferred[SessionPlan]:
        waiter: _Wait = Waiter(self._clock, wanted.asked.account, wanted, self._leave)
        if len(self._waiting.get(session, ())) >= MAX_WAITING:
            waiter.turnAway(_busy())
        else:
            waiter.limit(PATIENCE, _busy)
            self._waiting.setdefault(session, []).append(waiter)
        return waiter.deferred

    def _leave(self, waiter: _Wait) -> None:
        for session, waiting in self._waiting.items():
            if waiter in waiting:
                waiting.remove(waiter)
                if not waiting:
                    del self._waiting[session]
                return

    def _serve(self, session: Session) -> None:
        # All are placed before the first is told: what it does at once must
        # not overtake the others.
        served: list[tuple[_Wait, SessionPlan]] = []
        for waiter in self._waiting.pop(session, ()):
            busy = self._busyFor(waiter.wanted)
            if busy is None:
                served.append((waiter, self._plan(waiter.wanted)))
            else:
                self._waiting.setdefault(busy, []).append(waiter)
        for waiter, plan in served:
            if not waiter.give(plan):
                self.release(plan.session, mayGoOn=False)


def _busy() -> APIError:
    return APIError("session_busy", "This session is busy with another request.", retryAfter=RETRY_AFTER)
