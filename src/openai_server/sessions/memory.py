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
  - nobody uses the session now, and its daemon can be asked.

Which sessions are looked at is said in L{openai_server.sessions.selection}.
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

from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass
from typing import Final, TypeAlias

from msgspec import MsgspecError
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorTime

from openai_server.clock import Portions, Timeouts
from openai_server.errors import APIError, shuttingDown
from openai_server.sessions.chains import Chain
from openai_server.sessions.entries import answerEntry
from openai_server.sessions.hints import HintKeys, SessionKeys
from openai_server.sessions.index import AnsweredTranscripts, IdleSessions, NamedSessions
from openai_server.sessions.lasting import LastingSessions, sessionFrom
from openai_server.sessions.plans import Claim, Session, SessionKind, SessionPlan, UserHint
from openai_server.sessions.selection import Selection, Wanted
from openai_server.sessions.waiting import Waiter
from openai_server.store.saved import SavedSession

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

    @ivar canGoOn: whether the daemon that has a session can be asked.
    @ivar _waiting: lone messages by the session that they wait for, in order.
    @ivar _promptSize: characters of the system prompts that are kept.
    """

    def __init__(
        self,
        clock: IReactorTime,
        keys: SessionKeys,
        settings: Memory,
        lasting: LastingSessions | None = None,
        canGoOn: Callable[[Session], bool] = lambda session: True,
    ) -> None:
        """
        @param lasting: what outlasts the process; None for nothing.
        @param canGoOn: whether the daemon that has a session can be asked.
        """
        self.canGoOn = canGoOn
        self._keys = keys
        self._lasting = lasting
        self._settings = settings
        self._named = NamedSessions(settings.sessions)
        self._idle = IdleSessions(settings.sessions)
        self._answered = AnsweredTranscripts(4 * settings.sessions)
        self._selection = Selection(self._named, self._idle, self._answered, settings.userHint, canGoOn)
        self._waiting: dict[Session, list[_Wait]] = {}
        self._patience = Timeouts(clock, PATIENCE)
        self._promptSize = 0
        self._isStopped = False

    @property
    def idleSessions(self) -> int:
        """
        How many sessions can be gone on with.
        """
        return len(self._idle)

    def claim(self, claim: Claim) -> SessionPlan | Deferred[SessionPlan]:
        """
        Find the session for a request. It is the request's until L{release}.

        @return: the plan; for a lone message whose session is busy a Deferred
            that fires with it, or fails with an L{APIError} C{session_busy}
            when the session stays so. Cancelling it gives up waiting.
        @raise APIError: C{session_busy} when too many wait, C{shutting_down}.
        """
        wanted = self._wantedFrom(claim)
        user = wanted.keys.user
        if user is not None and claim.transcript.showsHistory:
            if self._lasting is not None and not self._named.showsHistory(user):
                self._lasting.historyShown(user)
            self._named.historyShown(user)
        found = self._find(wanted)
        return found if isinstance(found, SessionPlan) else self._wait(found, wanted)

    def goOn(self, session: Session, claim: Claim) -> SessionPlan | None:
        """
        Go on in a session that was released, with all that the request says,
        although it shows nothing of what the session has seen. None when the
        session is not there any more, or of another context.
        """
        isThere = session in self._idle and self.canGoOn(session)
        if not (isThere and session.suits(claim.context)):
            return None
        return self._continued(self._wantedFrom(claim), session, claim.transcript.leading)

    def _wantedFrom(self, claim: Claim) -> Wanted:
        return Wanted(claim, self._keys.keysOf(claim.account, claim.hints))

    def answered(self, session: Session, text: str, calls: Iterable[str] = ()) -> None:
        """
        Note that the client was given this as an answer, and will show it as
        such.

        @param text: exactly what was delivered.
        @param calls: what names each call that the answer ended with: see
            L{answerEntry}.
        """
        session.told((answerEntry(text, calls),))
        if not session.isIsolated:
            self._answered.add(session)

    def release(self, session: Session, mayGoOn: bool) -> None:
        """
        Use the session no longer. The first time counts.

        @param mayGoOn: False for a turn that was cancelled, failed, stalled,
            drains or was cut at a stop string: its sid is never used again.
        """
        if not session.isBusy:
            return
        session.isBusy = False
        if not (mayGoOn and self._settings.continuation) or session.isIsolated:
            self._forget(session)
        else:
            tooMany = self._idle.add(session)
            if self._lasting is not None and not session.isSaved:
                self._lasting.released(session)
            if tooMany is not None:
                # What was saved of it goes when it is old: one more change for
                # each turn would cost more than the row.
                self._letGo(tooMany)
        if session in self._waiting:
            self._serve(self._waiting.pop(session))

    def giveBack(self, plan: SessionPlan) -> None:
        """
        Leave the session as it was before: nothing of the request was sent.
        """
        if plan.seenBefore is not None and plan.session.isBusy:
            plan.session.seen = plan.seenBefore
        self.release(plan.session, plan.kind is SessionKind.CONTINUED)

    @property
    def idle(self) -> int:
        """
        The number of sessions that a request may go on with.
        """
        return len(self._idle)

    @property
    def waiting(self) -> int:
        """
        The number of requests that wait for a session.
        """
        return sum(map(len, self._waiting.values()))

    def stop(self) -> None:
        """
        Turn away everybody who waits, and whoever would have to later.
        """
        self._isStopped = True
        waiters = [waiter for waiting in self._waiting.values() for waiter in waiting]
        # Nobody may be given what another one leaves.
        self._waiting.clear()
        for waiter in waiters:
            waiter.turnAway(shuttingDown())
        self._patience.stop()

    # What outlasts the process.

    async def load(self, portions: Portions) -> None:
        """
        Remember what earlier processes have left, the latest first, as much as
        there is place for. What others share is looked for when it is asked for.

        @param portions: in which that is done.
        """
        if self._lasting is None or self._lasting.isShared or not self._settings.continuation:
            return
        limit = self._settings.sessions
        for key in reversed(await self._lasting.hints(limit)):
            self._named.historyShown(key)
            if (rest := portions.rest()) is not None:
                await rest
        sessions = list(await self._lasting.sessions(limit))
        while sessions:
            self.bring(sessions.pop())
            if (rest := portions.rest()) is not None:
                await rest

    def found(self, session: Session) -> None:
        """
        Note a session of an earlier process, which somebody uses now.
        """
        self._named.use(session, HintKeys(session.name, session.user))
        self._promptSize += len(session.systemPrompt or "")
        self._answered.add(session)

    def whenWritten(self, plan: SessionPlan) -> Deferred[bool] | None:
        """
        Return what fires when the next process would know that the session of
        this plan is used: its prompt must not go out before. None where there
        is nothing to wait for.
        """
        if self._lasting is None or self._lasting.isShared or plan.kind is not SessionKind.CONTINUED:
            return None
        return self._lasting.whenWritten()

    # What other processes may use too.

    def wanted(self, claim: Claim) -> Wanted | None:
        """
        Return what is looked for in the store for a request; None where
        nothing is.
        """
        return None if claim.isIsolated or not self._settings.continuation else self._wantedFrom(claim)

    def known(self, wanted: Wanted) -> Session | None:
        """
        Return the session that the request would go on in, busy or not.
        """
        isLone = wanted.claim.transcript.isLone
        return self._selection.forLone(wanted) if isLone else self._selection.forTranscript(wanted)[0]

    def mayBeNamed(self, wanted: Wanted) -> bool:
        """
        Whether a hint may name the session of a lone message.
        """
        keys = wanted.keys
        return keys.session is not None or (keys.user is not None and self._selection.namesTalk(keys.user))

    def historyShown(self, user: bytes) -> None:
        """
        Remember that the client behind this hint keeps its transcripts itself.
        """
        self._named.historyShown(user)

    def bring(self, saved: SavedSession) -> None:
        """
        Remember a session that is in the store, as the latest.
        """
        with suppress(MsgspecError):
            session = sessionFrom(saved)
            session.isSaved = True
            self.found(session)
            self.release(session, mayGoOn=True)

    def lost(self, session: Session) -> None:
        """
        Forget a session that was claimed: another process has it, or may.
        """
        session.isSaved = False
        self.release(session, mayGoOn=False)

    # Which session.

    def _find(self, wanted: Wanted) -> SessionPlan | Session:
        """
        Return what a request does, or the session that it has to wait for.
        """
        if wanted.claim.isIsolated or not self._settings.continuation:
            fresh = Session(wanted.claim.account, wanted.claim.context, Chain())
            fresh.isIsolated = wanted.claim.isIsolated
            return SessionPlan(SessionKind.NEW, fresh)
        transcript = wanted.claim.transcript
        session: Session | None
        if transcript.isLone:
            session, start = self._selection.forLone(wanted), transcript.leading
            if session is not None and session.isBusy and self._selection.mayWait(wanted):
                return session
        else:
            session, start = self._selection.forTranscript(wanted)
        if session is None or session.isBusy or not self.canGoOn(session):
            return self._fresh(wanted)
        return self._continued(wanted, session, start)

    def _continued(self, wanted: Wanted, session: Session, start: int) -> SessionPlan:
        claim = wanted.claim
        self._idle.remove(session)
        session.isBusy = True
        if self._lasting is not None:
            self._lasting.taken(session)
        before = session.seen.copy()
        self._named.use(session, wanted.keys)
        session.told(claim.transcript.entries[start:])
        isSilent = claim.context.system != session.context.system
        prompt = session.systemPrompt if isSilent else None
        return SessionPlan(SessionKind.CONTINUED, session, start, before, prompt)

    def _fresh(self, wanted: Wanted) -> SessionPlan:
        claim = wanted.claim
        why = self._selection.whyForked(wanted)
        session = Session(claim.account, claim.context, claim.transcript.whole.copy())
        self._named.use(session, wanted.keys)
        prompt = claim.systemPrompt
        if prompt and (session.name or session.user) and self._promptSize + len(prompt) <= MAX_PROMPTS:
            session.systemPrompt = prompt
            self._promptSize += len(prompt)
        return SessionPlan(SessionKind.NEW if why is None else SessionKind.FORKED, session, why=why)

    def _forget(self, session: Session) -> None:
        if self._lasting is not None:
            self._lasting.taken(session)
        self._letGo(session)

    def _letGo(self, session: Session) -> None:
        session.isForgotten = True
        self._named.withdraw(session)
        self._promptSize -= len(session.systemPrompt or "")
        # What was answered may be remembered for long.
        session.systemPrompt = None

    # Waiting for a busy session.

    def _wait(self, session: Session, wanted: Wanted) -> Deferred[SessionPlan]:
        if self._isStopped:
            raise shuttingDown()
        if len(self._waiting.get(session, ())) >= MAX_WAITING:
            raise _busy()
        waiter: _Wait = Waiter(wanted.claim.account, wanted, self._leave)
        waiter.limit(self._patience, _busy)
        self._waiting.setdefault(session, []).append(waiter)
        return waiter.deferred

    def _leave(self, waiter: _Wait) -> None:
        for session, waiting in self._waiting.items():
            if waiter in waiting:
                waiting.remove(waiter)
                if not waiting:
                    del self._waiting[session]
                return

    def _serve(self, waiting: Iterable[_Wait]) -> None:
        # All are placed before the first is told: what it does at once must
        # not overtake the others.
        served: list[tuple[_Wait, SessionPlan]] = []
        for waiter in waiting:
            found = self._find(waiter.wanted)
            if isinstance(found, SessionPlan):
                served.append((waiter, found))
            else:
                self._waiting.setdefault(found, []).append(waiter)
        for waiter, plan in served:
            if not waiter.give(plan):
                self.release(plan.session, mayGoOn=False)


def _busy() -> APIError:
    return APIError("session_busy", "This session is busy with another request.", retryAfter=RETRY_AFTER)
