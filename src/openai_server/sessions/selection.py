# -*- test-case-name: tests.sessions.test_memory -*-
"""
Which of the sessions that there are a request may go on in.

With hints, those that were used under one of the same hints, but under C{user}
none that has another name than the request gives; without any hint, all of the
account's.

I{Lone messages}: a client may leave the history to the server and send only
the newest message. Under a session's name it goes on in the session used last
under that name; under C{user} alone according to L{UserHint}. When that session
is busy, a lone message under a session's name waits for it, as one under
C{user} does where that always names the conversation; else it gets a fresh one.
"""

from __future__ import annotations

from collections.abc import Callable

import msgspec

from openai_server.sessions.hints import HintKeys
from openai_server.sessions.index import AnsweredTranscripts, IdleSessions, NamedSessions
from openai_server.sessions.plans import Claim, Session, UserHint, Why


class Wanted(msgspec.Struct, frozen=True):
    """
    What is asked of the memory, with its hints' keys.
    """

    claim: Claim
    keys: HintKeys


class Selection:
    """
    Finds the session of a request.
    """

    def __init__(
        self,
        named: NamedSessions,
        idle: IdleSessions,
        answered: AnsweredTranscripts,
        userHint: UserHint,
        canGoOn: Callable[[Session], bool] = lambda session: True,
    ) -> None:
        """
        @param canGoOn: whether the daemon that has a session can be asked.
        """
        self._named = named
        self._idle = idle
        self._answered = answered
        self._userHint = userHint
        self._canGoOn = canGoOn

    def forLone(self, wanted: Wanted) -> Session | None:
        """
        Return the session, busy or not, that a lone message goes on in.
        """
        keys, context = wanted.keys, wanted.claim.context
        key = keys.session or keys.user
        if key is None or (keys.session is None and not self.namesTalk(key)):
            return None
        suited = None
        for session in self._named.of(key):
            if session.context == context:
                return session
            if suited is None and session.suits(context):
                suited = session
        return suited

    def mayWait(self, wanted: Wanted) -> bool:
        """
        Whether a lone message waits for its session when that is busy.
        """
        return wanted.keys.session is not None or self._userHint is UserHint.ALWAYS

    def forTranscript(self, wanted: Wanted) -> tuple[Session | None, int]:
        """
        Return the idle session whose transcript this request extends the
        furthest, and the index of the first message that it has not seen.
        """
        claim, name, user = wanted.claim, wanted.keys.session, wanted.keys.user
        transcript, context = claim.transcript, claim.context
        scopes = filter(None, (name, user)) if name or user else (claim.account,)
        places = [found for scope in scopes if (found := self._idle.under(scope, context))]
        if not places:
            return None, 0
        last = len(transcript.entries)
        for at, seen in reversed(transcript.answered.items()):
            if at < last:
                for found in places:
                    for session in reversed(found.get(seen, ())):
                        isUnder = name is None or session.name is None or session.name == name
                        if isUnder and self._canGoOn(session):
                            return session, at
        return None, 0

    def whyForked(self, wanted: Wanted) -> Why | None:
        """
        Return why a request that nothing goes on with gets a fresh session
        although its transcript or a hint points to one, be it there or not;
        None where nothing does.
        """
        claim, keys = wanted.claim, wanted.keys
        # A lone message shows no answer.
        answered = None if claim.transcript.isLone else self._answered.of(claim.account, claim.transcript)
        if answered is not None:
            return self._whyNotIn(wanted, *answered)
        for key in (keys.session, keys.user):
            named = self._named.of(key) if key is not None else ()
            if key is not None and named:
                if not claim.transcript.isLone:
                    return Why.HISTORY
                if key == keys.user and (keys.session is not None or not self.namesTalk(key)):
                    return Why.HINT
                return named[0].difference(claim.context, mayBeSilent=True) or self._whyNotNow(named[0])
        return None

    def _whyNotIn(self, wanted: Wanted, session: Session, at: int) -> Why:
        """
        @param at: the index of the message behind the session's answer.
        """
        transcript, difference = wanted.claim.transcript, session.difference(wanted.claim.context)
        if difference is not None:
            return difference
        if session.isForgotten:
            return Why.GONE
        if session.isBusy:
            return Why.BUSY
        if at == len(transcript.entries) or session.seen.digest != transcript.answered[at]:
            return Why.HISTORY
        return Why.HINT if self._canGoOn(session) else Why.GONE

    def _whyNotNow(self, session: Session) -> Why:
        return Why.BUSY if session.isBusy or self._canGoOn(session) else Why.GONE

    def namesTalk(self, user: bytes) -> bool:
        """
        Whether this hint alone names a conversation, for lone messages.
        """
        if self._userHint is UserHint.AUTO:
            return not self._named.showsHistory(user)
        return self._userHint is UserHint.ALWAYS
