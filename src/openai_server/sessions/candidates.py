# -*- test-case-name: tests.sessions.test_memory -*-
"""
Which of the sessions that there are a request may go on in.

With hints, those that were used under one of the same hints, unless a stronger
hint says otherwise (behind C{prompt_cache_key}, which says nothing of a
person, another C{user} does too); without any hint, all of the account's.

I{Lone messages}: a client may leave the history to the server and send only
the newest message. Under a session hint, the strongest one, it goes on in the
session used last under that hint; under C{user} alone according to
L{UserHint}. When that session is busy, a lone message under a session hint
waits for it, as one under C{user} does where that always names the
conversation; else it gets a fresh one.
"""

from __future__ import annotations

from dataclasses import dataclass

from openai_server.sessions.hints import Weight
from openai_server.sessions.nominations import (
    Idle,
    KeyedHints,
    Known,
    Nominations,
    isContradicted,
    scopesOf,
)
from openai_server.sessions.plans import Asked, Session, UserHint


@dataclass(frozen=True)
class Wanted:
    """
    What is asked of the memory, with its hints' keys.
    """

    asked: Asked
    hints: KeyedHints


class Candidates:
    """
    See the module's docstring.
    """

    def __init__(self, nominations: Nominations, idle: Idle, known: Known, userHint: UserHint) -> None:
        self._nominations = nominations
        self._idle = idle
        self._known = known
        self._userHint = userHint

    def forLone(self, wanted: Wanted) -> Session | None:
        """
        The session, busy or not, that a lone message goes on in.
        """
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

    def toWaitFor(self, wanted: Wanted) -> Session | None:
        """
        The session for a lone message that may wait for it, if it is one.
        """
        if not wanted.asked.transcript.isLone:
            return None
        at = self._deciding(wanted)
        if at is None or not self._mayWait(wanted.hints[at][0].weight):
            return None
        return self.forLone(wanted)

    def forTranscript(self, wanted: Wanted) -> tuple[Session | None, int]:
        """
        The idle session whose transcript this request extends the furthest,
        and the index of the first message that it has not seen.
        """
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

    def isKnown(self, wanted: Wanted) -> bool:
        """
        A hint or the transcript points to some session, be it there or not.
        """
        asked = wanted.asked
        if any(self._nominations.of(key) for _, key in wanted.hints):
            return True
        return self._known.has(asked.account, asked.transcript)

    def _deciding(self, wanted: Wanted) -> int | None:
        # The index of the hint under which a lone message goes on.
        for at, (hint, key) in enumerate(wanted.hints):
            if hint.weight is Weight.SESSION or (hint.weight is Weight.USER and self._namesTalk(key)):
                return at
        return None

    def _namesTalk(self, user: bytes) -> bool:
        if self._userHint is UserHint.AUTO:
            return not self._nominations.showsHistory(user)
        return self._userHint is UserHint.ALWAYS

    def _mayWait(self, weight: Weight) -> bool:
        return weight is Weight.SESSION or self._userHint is UserHint.ALWAYS
