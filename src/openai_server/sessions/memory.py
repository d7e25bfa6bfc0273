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

Which sessions are looked at is said in L{openai_server.sessions.candidates}.
Everything else gets a fresh session, which is told the whole transcript.

A I{lone message}, of a client that leaves the history to the server, may wait
for a session that is busy. One that comes with another model, other tools or
another system prompt gets a fresh session, which knows nothing of what was
said before: what the request says holds. One that says nothing of a system
prompt has not changed it, and the plan holds the one to go on with.

All this is bounded and only an optimisation: what is forgotten is told to a
fresh session. A session whose turn did not come to a good end is forgotten at
once, so that its sid is never used again.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final, TypeAlias

from twisted.internet.defer import Deferred, succeed
from twisted.internet.interfaces import IReactorTime

from openai_server.errors import APIError, shuttingDown
from openai_server.sessions.candidates import Candidates, Wanted
from openai_server.sessions.chains import Chain
from openai_server.sessions.entries import answerEntry
from openai_server.sessions.hints import SessionKeys, Weight
from openai_server.sessions.nominations import Idle, Known, Nominations
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


_Wait: TypeAlias = Waiter[SessionPlan, Wanted]


class SessionMemory:
    """
    The sessions of this server that may be used again.

    @ivar _waiting: lone messages by the session that they wait for, in order.
    @ivar _promptSize: characters of the system prompts that are kept.
    """

    def __init__(self, clock: IReactorTime, keys: SessionKeys, settings: Memory) -> None:
        self._clock = clock
        self._keys = keys
        self._settings = settings
        self._nominations = Nominations(settings.sessions)
        self._idle = Idle(settings.sessions)
        self._known = Known(4 * settings.sessions)
        self._candidates = Candidates(self._nominations, self._idle, self._known, settings.userHint)
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

    def _wantedFrom(self, asked: Asked) -> Wanted:
        keys = self._keys
        return Wanted(
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
                waiter.turnAway(shuttingDown())

    # Which session.

    def _plan(self, wanted: Wanted) -> SessionPlan:
        asked = wanted.asked
        if not self._settings.continuation:
            return self._fresh(wanted, Kind.NEW)
        if asked.transcript.isLone:
            session, start = self._candidates.forLone(wanted), asked.transcript.leading
        else:
            session, start = self._candidates.forTranscript(wanted)
        if session is None or session.isBusy:
            return self._fresh(wanted, Kind.FORKED if self._candidates.isKnown(wanted) else Kind.NEW)
        return self._continued(wanted, session, start)

    def _continued(self, wanted: Wanted, session: Session, start: int) -> SessionPlan:
        asked = wanted.asked
        self._idle.remove(session)
        session.isBusy = True
        before = session.seen.copy()
        self._nominations.nominate(session, wanted.hints)
        session.told(asked.transcript.entries[start:])
        isSilent = asked.context.system != session.context.system
        return SessionPlan(Kind.CONTINUED, session, start, before, session.systemPrompt if isSilent else None)

    def _fresh(self, wanted: Wanted, kind: Kind) -> SessionPlan:
        asked = wanted.asked
        session = Session(asked.account, asked.context)
        if self._settings.continuation:
            session.seen = asked.transcript.whole.copy()
            self._nominations.nominate(session, wanted.hints)
            self._keepPrompt(session, wanted)
        return SessionPlan(kind, session, 0, Chain())

    def _keepPrompt(self, session: Session, wanted: Wanted) -> None:
        prompt = wanted.asked.systemPrompt
        mayComeAlone = any(hint.weight is not Weight.CACHE for hint, _ in wanted.hints)
        if prompt and mayComeAlone and self._promptSize + len(prompt) <= MAX_PROMPTS:
            session.systemPrompt = prompt
            self._promptSize += len(prompt)

    def _forget(self, session: Session) -> None:
        session.isForgotten = True
        self._nominations.withdraw(session)
        self._promptSize -= len(session.systemPrompt or "")

    # Waiting for a busy session.

    def _busyFor(self, wanted: Wanted) -> Session | None:
        session = self._candidates.toWaitFor(wanted) if self._settings.continuation else None
        return session if session is not None and session.isBusy else None

    def _wait(self, session: Session, wanted: Wanted) -> Deferred[SessionPlan]:
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
