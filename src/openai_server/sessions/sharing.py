# -*- test-case-name: tests.flow.test_processes -*-
"""
Sessions that several processes share.

What this process remembers of a session is a guess: another one may have gone
on with it meanwhile. So a session is taken in the store before it is used, with
what it is believed to have seen, by one process alone; and one that is not
remembered here is looked for in the store. One that is in use anywhere is not
there, and whoever asks for it then gets a fresh session.
"""

from __future__ import annotations

from contextlib import suppress
from itertools import count
from typing import Final

from msgspec import MsgspecError

from openai_server.sessions.hints import HintKeys
from openai_server.sessions.lasting import LastingSessions, sessionFrom
from openai_server.sessions.memory import SessionMemory
from openai_server.sessions.plans import Claim, Session, SessionKind, SessionPlan
from openai_server.sessions.selection import Wanted
from openai_server.store.saved import SavedSession

#: How often the store is looked at for one request, when others are quicker.
_LOOKS: Final = 3
#: Answers of a transcript, the latest first, whose sessions are looked for.
_ANSWERS: Final = 2


class SharedSessions:
    """
    Claims sessions for this process.
    """

    def __init__(self, memory: SessionMemory, lasting: LastingSessions) -> None:
        self._memory = memory
        self._lasting = lasting

    async def claim(self, claim: Claim) -> SessionPlan:
        """
        Find the session for a request: see L{SessionMemory.claim}.

        @raise APIError: C{session_busy}, C{shutting_down}.
        """
        for look in count():
            wanted = self._memory.wanted(claim)
            if wanted is not None and look < _LOOKS:
                await self._look(wanted)
            claimed = self._memory.claim(claim)
            plan = claimed if isinstance(claimed, SessionPlan) else await claimed
            # Each one that is lost is forgotten, until none is left.
            if await self._isOurs(plan):
                return plan
        raise AssertionError("it is counted without end")

    async def goOn(self, session: Session, claim: Claim) -> SessionPlan | None:
        """
        Go on in a session that was released: see L{SessionMemory.goOn}.
        """
        plan = self._memory.goOn(session, claim)
        return plan if plan is not None and await self._isOurs(plan) else None

    async def _isOurs(self, plan: SessionPlan) -> bool:
        if plan.kind is not SessionKind.CONTINUED:
            return True
        assert plan.seenBefore is not None
        isOurs = False
        try:
            isOurs = await self._lasting.take(plan.session, plan.seenBefore.digest)
        finally:
            if not isOurs:
                # Also when nobody waits any more: nobody knows whose it is then.
                self._memory.lost(plan.session)
        return isOurs

    # What is in the store.

    async def _look(self, wanted: Wanted) -> None:
        known = self._memory.known(wanted)
        if not wanted.claim.transcript.isLone:
            found = None if known is not None else await self._forTranscript(wanted)
        elif known is not None and known.isBusy:
            return
        else:
            found = await self._forLone(wanted)
        if found is not None and not (known is not None and _isSame(known, found)):
            self._memory.bring(found)

    async def _forTranscript(self, wanted: Wanted) -> SavedSession | None:
        claim, keys = wanted.claim, wanted.keys
        last = len(claim.transcript.entries)
        answers = [seen for at, seen in reversed(claim.transcript.answered.items()) if at < last]
        for seen in answers[:_ANSWERS]:
            saved = await self._lasting.having(claim.account, claim.context, seen)
            found = next((each for each in saved if _isUnder(each, keys) and self._canGoOn(each)), None)
            if found is not None:
                return found
        return None

    def _canGoOn(self, saved: SavedSession) -> bool:
        session = _read(saved)
        return session is not None and self._memory.canGoOn(session)

    async def _forLone(self, wanted: Wanted) -> SavedSession | None:
        keys, context = wanted.keys, wanted.claim.context
        if not self._memory.mayBeNamed(wanted):
            return None
        if keys.session is None and keys.user is not None and await self._lasting.showsHistory(keys.user):
            self._memory.historyShown(keys.user)
            if not self._memory.mayBeNamed(wanted):
                return None
        saved = await self._lasting.named(keys)
        sessions = [(each, session) for each in saved if (session := _read(each)) is not None]
        same = next((each for each, session in sessions if session.context == context), None)
        return same or next((each for each, session in sessions if session.suits(context)), None)


def _isUnder(saved: SavedSession, keys: HintKeys) -> bool:
    """
    Whether a request with these hints may go on in a session: see
    L{openai_server.sessions.selection}.
    """
    if keys.session is None and keys.user is None:
        return True
    if keys.session is not None and saved.name is not None:
        return saved.name == keys.session
    return keys.user is not None and saved.user == keys.user


def _isSame(known: Session, saved: SavedSession) -> bool:
    return known.sid == saved.sid and known.seen.digest == saved.seen


def _read(saved: SavedSession) -> Session | None:
    with suppress(MsgspecError):
        return sessionFrom(saved)
    return None
