# -*- test-case-name: tests.sessions.test_index -*-
"""
Where sessions are found: by the hints under which they were used, and by what
they have seen; and which transcripts are known.
"""

from __future__ import annotations

from collections import Counter, OrderedDict
from collections.abc import Mapping, Sequence
from typing import Final, TypeAlias

from openai_server.sessions.chains import Transcript
from openai_server.sessions.contexts import Context
from openai_server.sessions.hints import HintKeys
from openai_server.sessions.plans import Session

#: Sessions that are remembered under one hint.
MAX_NAMED: Final = 16

#: An account or the key of a hint, and a context.
_Scope: TypeAlias = tuple[str | bytes, Context]


class _Named:
    """
    What is known of one hint.
    """

    __slots__ = ("sessions", "showsHistory")

    def __init__(self) -> None:
        self.sessions: list[Session] = []
        self.showsHistory = False


class NamedSessions:
    """
    The sessions that were used under each hint.

    @ivar _limit: hints that are remembered.
    """

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._byKey: OrderedDict[bytes, _Named] = OrderedDict()

    def __len__(self) -> int:
        """
        Return how many hints are remembered.
        """
        return len(self._byKey)

    def of(self, key: bytes) -> Sequence[Session]:
        """
        Return the sessions used under this hint, the latest first.
        """
        named = self._byKey.get(key)
        return named.sessions[::-1] if named else ()

    def showsHistory(self, key: bytes) -> bool:
        """
        Whether L{historyShown} was said of this hint.
        """
        named = self._byKey.get(key)
        return named is not None and named.showsHistory

    def historyShown(self, key: bytes) -> None:
        """
        Note that the client behind this hint keeps its transcripts itself.
        """
        self._named(key).showsHistory = True

    def use(self, session: Session, keys: HintKeys) -> None:
        """
        Note that a request with these hints uses the session.
        """
        if keys.session is not None:
            self._withdrawFrom(session.name, session)
            session.name = keys.session
            self._add(keys.session, session)
        if keys.user is not None:
            self._withdrawFrom(session.user, session)
            session.user = keys.user
            self._add(keys.user, session)

    def withdraw(self, session: Session) -> None:
        """
        Forget the session under all hints.
        """
        self._withdrawFrom(session.name, session)
        self._withdrawFrom(session.user, session)

    def _add(self, key: bytes, session: Session) -> None:
        sessions = self._named(key).sessions
        sessions.append(session)
        del sessions[:-MAX_NAMED]

    def _named(self, key: bytes) -> _Named:
        named = self._byKey.get(key)
        if named is None:
            named = self._byKey[key] = _Named()
            if len(self._byKey) > self._limit:
                self._byKey.popitem(last=False)
        else:
            self._byKey.move_to_end(key)
        return named

    def _withdrawFrom(self, key: bytes | None, session: Session) -> None:
        named = None if key is None else self._byKey.get(key)
        if key is None or named is None:
            return
        if session in named.sessions:
            named.sessions.remove(session)
        if not named.sessions and not named.showsHistory:
            del self._byKey[key]


class IdleSessions:
    """
    The sessions that nobody uses, by what they have seen.

    @ivar _limit: how many are remembered.
    @ivar _places: under which scopes each can be found, and the digest of what
        it has seen; the one that was used longest ago first.
    @ivar _at: sessions by scope and by that digest.
    """

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._places: OrderedDict[Session, tuple[list[_Scope], bytes]] = OrderedDict()
        self._at: dict[_Scope, dict[bytes, list[Session]]] = {}

    def __len__(self) -> int:
        """
        Return how many sessions are idle.
        """
        return len(self._places)

    def __contains__(self, session: Session) -> bool:
        """
        Whether the session is idle and remembered.
        """
        return session in self._places

    def add(self, session: Session) -> Session | None:
        """
        Note that nobody uses the session any more.

        @return: another one that had to make place for it.
        """
        context, seen, places = session.context, session.seen.digest, self._at
        scopes: list[_Scope] = [(session.account, context)]
        if session.name is not None:
            scopes.append((session.name, context))
        if session.user is not None:
            scopes.append((session.user, context))
        self._places[session] = scopes, seen
        for scope in scopes:
            here = places.get(scope)
            if here is None:
                places[scope] = {seen: [session]}
            elif seen in here:
                here[seen].append(session)
            else:
                here[seen] = [session]
        if len(self._places) <= self._limit:
            return None
        oldest = next(iter(self._places))
        self.remove(oldest)
        return oldest

    def remove(self, session: Session) -> None:
        """
        Note that somebody uses the session now.
        """
        scopes, seen = self._places.pop(session)
        for scope in scopes:
            here = self._at[scope]
            here[seen].remove(session)
            if not here[seen]:
                del here[seen]
                if not here:
                    del self._at[scope]

    def under(self, scope: str | bytes, context: Context) -> Mapping[bytes, Sequence[Session]]:
        """
        Return the sessions of this account or hint by the digest of what they
        have seen, the latest last.
        """
        return self._at.get((scope, context), {})


class AnsweredTranscripts:
    """
    Transcripts that were answered.

    @ivar _limit: how many are remembered.
    @ivar _sessions: in which each was answered last, by account and digest,
        the oldest first.
    """

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._sessions: OrderedDict[tuple[str, bytes], Session] = OrderedDict()
        self._perAccount: Counter[str] = Counter()

    def add(self, session: Session) -> None:
        """
        Note that this session's account was answered, and will show what it
        has seen.
        """
        key = account, _ = session.account, session.seen.digest
        if key not in self._sessions:
            self._perAccount[account] += 1
        self._sessions[key] = session
        if len(self._sessions) > self._limit:
            (oldest, _), _ = self._sessions.popitem(last=False)
            self._perAccount[oldest] -= 1
            if not self._perAccount[oldest]:
                del self._perAccount[oldest]

    def of(self, account: str, transcript: Transcript) -> tuple[Session, int] | None:
        """
        Return the session that gave the last answer of this server's that the
        account shows, and the index of the next message.
        """
        if account not in self._perAccount:
            return None
        for at, seen in reversed(transcript.answered.items()):
            session = self._sessions.get((account, seen))
            if session is not None:
                return session, at
        return None
