# -*- test-case-name: tests.sessions.test_nominations -*-
"""
Where sessions are found: by the hints under which they were used, and by what
they have seen; and which transcripts are known.
"""

from __future__ import annotations

from collections import Counter, OrderedDict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final, TypeAlias

from openai_server.sessions.chains import Transcript
from openai_server.sessions.contexts import Context
from openai_server.sessions.hints import Hint
from openai_server.sessions.plans import Session

#: Sessions that one hint nominates.
MAX_NOMINATED: Final = 16

#: The hints of a request with their keys, strongest first.
KeyedHints: TypeAlias = Sequence[tuple[Hint, bytes]]


#: An account or a hint, and a context.
_Scope: TypeAlias = tuple[str | bytes, Context]


@dataclass
class _Named:
    sessions: list[Session] = field(default_factory=list)
    showsHistory: bool = False


class Nominations:
    """
    The sessions that hints nominate.

    @ivar _limit: hints that are remembered.
    """

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._byKey: OrderedDict[bytes, _Named] = OrderedDict()

    def __len__(self) -> int:
        return len(self._byKey)

    def of(self, key: bytes) -> Sequence[Session]:
        """
        The sessions used under this hint, the latest first.
        """
        named = self._byKey.get(key)
        return named.sessions[::-1] if named else ()

    def showsHistory(self, key: bytes) -> bool:
        """
        L{historyShown} was said of this hint.
        """
        named = self._byKey.get(key)
        return named is not None and named.showsHistory

    def historyShown(self, key: bytes) -> None:
        """
        The client behind this hint keeps its transcripts itself.
        """
        self._named(key).showsHistory = True

    def nominate(self, session: Session, hints: KeyedHints) -> None:
        """
        A request with these hints uses the session.
        """
        for hint, key in hints:
            self._withdrawFrom(session.hints.get(hint.kind), session)
            session.hints[hint.kind] = key
            sessions = self._named(key).sessions
            sessions.append(session)
            del sessions[:-MAX_NOMINATED]

    def withdraw(self, session: Session) -> None:
        """
        No hint nominates this session any more.
        """
        for key in session.hints.values():
            self._withdrawFrom(key, session)

    def _named(self, key: bytes) -> _Named:
        named = self._byKey.setdefault(key, _Named())
        self._byKey.move_to_end(key)
        if len(self._byKey) > self._limit:
            self._byKey.popitem(last=False)
        return named

    def _withdrawFrom(self, key: bytes | None, session: Session) -> None:
        if key is None or key not in self._byKey:
            return
        named = self._byKey[key]
        named.sessions = [other for other in named.sessions if other is not session]
        if not named.sessions and not named.showsHistory:
            del self._byKey[key]


class Idle:
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
        return len(self._places)

    def __contains__(self, session: Session) -> bool:
        return session in self._places

    def add(self, session: Session) -> Session | None:
        """
        Nobody uses the session any more.

        @return: another one that had to make place for it.
        """
        found: list[str | bytes] = [session.account, *session.hints.values()]
        scopes = [(each, session.context) for each in found]
        seen = session.seen.digest
        self._places[session] = scopes, seen
        for scope in scopes:
            self._at.setdefault(scope, {}).setdefault(seen, []).append(session)
        if len(self._places) <= self._limit:
            return None
        oldest = next(iter(self._places))
        self.remove(oldest)
        return oldest

    def remove(self, session: Session) -> None:
        """
        Somebody uses the session now.
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
        Sessions of this account or hint by the digest of what they have seen,
        the latest last.
        """
        return self._at.get((scope, context), {})


class Known:
    """
    Transcripts that were answered.

    @ivar _limit: how many are remembered.
    @ivar _digests: with the account of each, the oldest first.
    """

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._digests: OrderedDict[tuple[str, bytes], None] = OrderedDict()
        self._perAccount: Counter[str] = Counter()

    def add(self, account: str, seen: bytes) -> None:
        """
        This account was answered, and will show this.
        """
        if (account, seen) not in self._digests:
            self._digests[account, seen] = None
            self._perAccount[account] += 1
        if len(self._digests) > self._limit:
            (oldest, _), _ = self._digests.popitem(last=False)
            self._perAccount[oldest] -= 1
            if not self._perAccount[oldest]:
                del self._perAccount[oldest]

    def has(self, account: str, transcript: Transcript) -> bool:
        """
        The account shows an answer of this server's.
        """
        if account not in self._perAccount:
            return False
        return any((account, seen) in self._digests for seen in transcript.answered.values())


def isContradicted(session: Session, hints: KeyedHints, by: int) -> bool:
    """
    Whether a session that is found by one of these hints is another one's
    according to those that are stronger.

    @param by: the index of the hint it is found by, where there are hints.
    """
    if not hints:
        return False
    found = hints[by][0]
    return any(
        session.hints.get(hint.kind, key) != key
        for at, (hint, key) in enumerate(hints)
        if at < by or found.yieldsTo(hint)
    )


def scopesOf(account: str, hints: KeyedHints, known: Nominations) -> Iterable[tuple[str | bytes, int]]:
    """
    Where to look for a request's session: under each of its hints that
    nominates any, with the index of the hint; without hints, under the account.
    """
    if not hints:
        return [(account, 0)]
    return [(key, at) for at, (_, key) in enumerate(hints) if known.of(key)]
