# -*- test-case-name: tests.flow.test_restart -*-
"""
Sessions and hints that outlast the process.

A session is kept while nobody uses it, and forgotten when somebody does: one
that is in use when the process dies may have been told anything, and is never
used again. So its prompt must not go out before L{LastingSessions.whenWritten}.

Where several processes share the store, whoever goes on with a session takes
it first, with what he believes that it has seen: see L{LastingSessions.take}.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache
from typing import Final

import msgspec
from twisted.internet.defer import Deferred

from openai_server.sessions.chains import Chain
from openai_server.sessions.contexts import Context
from openai_server.sessions.digests import digestOf
from openai_server.sessions.hints import HintKeys
from openai_server.sessions.plans import Session
from openai_server.store.interfaces import StateStore
from openai_server.store.saved import SavedHint, SavedSession

#: Seconds for which sessions and hints are kept after their last use.
KEPT: Final = 14 * 86_400.0
#: Sessions that are looked at for one request.
_MOST_FOUND: Final = 16


class SessionDetails(msgspec.Struct, frozen=True, array_like=True):
    """
    What the store need not look into.

    @ivar names: what tools were called on the wire: see
        L{openai_server.sessions.catalogue.wirenames.WireNames}.
    @ivar upstream: the name of its daemon.
    """

    context: Context
    names: Mapping[str, Sequence[str]] | None
    upstream: str = ""


_encode = msgspec.msgpack.Encoder().encode
_details = msgspec.msgpack.Decoder(SessionDetails)


class LastingSessions:
    """
    Saves sessions and hints, and makes sessions of what was saved.

    @ivar isShared: whether other processes may use what is saved.
    @ivar isStopped: whether what happens from now on is the end of this
        process, and nothing that the next one need know.
    """

    def __init__(self, state: StateStore, now: Callable[[], float]) -> None:
        """
        @param now: the wall clock, in seconds since 1970.
        """
        self.isStopped = False
        self.isShared = state.isShared
        self._state = state
        self._now = now

    def released(self, session: Session) -> None:
        """
        Note that the session may be gone on with.
        """
        if not self.isStopped:
            session.isSaved = True
            self._state.save(self.savedFrom(session))

    def taken(self, session: Session) -> None:
        """
        Note that the session is used, or will not be any more.
        """
        if session.isSaved and not self.isStopped:
            session.isSaved = False
            if not self.isShared:
                # What others share, somebody takes.
                self._state.forget(SavedSession, session.sid)

    def take(self, session: Session, seen: bytes) -> Deferred[bool]:
        """
        Take a session for this process alone.

        @param seen: the digest of what it has seen, as this process knows it.
        @return: fires with whether it is this process's, and has seen just that.
        """
        return self._state.takeAll(SavedSession, [session.sid], seen=seen)

    def whenWritten(self) -> Deferred[bool]:
        """
        Fires when all that was noted outlasts this process, or that cannot be
        had for now.
        """
        return self._state.durable()

    def historyShown(self, key: bytes) -> None:
        """
        Note that the client behind this hint keeps its transcripts itself.
        """
        self._state.save(SavedHint(key, True, self._now() + KEPT))

    async def hints(self, limit: int) -> Sequence[bytes]:
        """
        Return the keys of hints whose clients keep their transcripts, those
        that were noted last first.
        """
        found = await self._state.find(SavedHint, limit=limit)
        return [hint.key for hint in found if hint.showsHistory]

    async def sessions(self, limit: int) -> Sequence[SavedSession]:
        """
        Return what was saved of sessions, the latest first.
        """
        return await self._state.find(SavedSession, limit=limit)

    async def showsHistory(self, key: bytes) -> bool:
        """
        Whether L{historyShown} was ever said of this hint.
        """
        hint = await self._state.get(SavedHint, key)
        return hint is not None and hint.showsHistory

    async def having(self, account: str, context: Context, seen: bytes) -> Sequence[SavedSession]:
        """
        Return the sessions that have seen just this, the latest first.
        """
        return await self._state.find(
            SavedSession, limit=_MOST_FOUND, account=account, context=_digestOf(context), seen=seen
        )

    async def named(self, keys: HintKeys) -> Sequence[SavedSession]:
        """
        Return the sessions under a name, or under a user where there is none,
        the latest first.
        """
        if keys.session is not None:
            return await self._state.find(SavedSession, limit=_MOST_FOUND, name=keys.session)
        return await self._state.find(SavedSession, limit=_MOST_FOUND, user=keys.user)

    # One session.

    def savedFrom(self, session: Session) -> SavedSession:
        """
        Return what it takes to go on with a session.
        """
        now, names = self._now(), session.wireNames.had
        digest, details = _partsOf(session.context, session.upstream)
        if names is not None:
            details = _encode(SessionDetails(session.context, names, session.upstream))
        return SavedSession(
            sid=session.sid,
            account=session.account,
            context=digest,
            seen=session.seen.digest,
            name=session.name,
            user=session.user,
            systemPrompt=session.systemPrompt,
            size=session.size,
            details=details,
            usedAt=now,
            expiresAt=now + KEPT,
        )


@lru_cache(maxsize=256)
def _digestOf(context: Context) -> bytes:
    return digestOf([_encode(context)])


@lru_cache(maxsize=256)
def _partsOf(context: Context, upstream: str) -> tuple[bytes, bytes]:
    """
    Return the digest of a context, and the details of a session that has it
    and no names.
    """
    return _digestOf(context), _encode(SessionDetails(context, None, upstream))


def upstreamOf(saved: SavedSession) -> str:
    """
    Return the name of the daemon that has a saved session.

    @raise msgspec.MsgspecError: another version has saved it.
    """
    return _details.decode(saved.details).upstream


def sessionFrom(saved: SavedSession) -> Session:
    """
    Return a saved session, which somebody uses.

    @raise msgspec.MsgspecError: another version has saved it.
    """
    details = _details.decode(saved.details)
    session = Session(saved.account, details.context, Chain((), saved.seen), saved.sid)
    session.name = saved.name
    session.user = saved.user
    session.systemPrompt = saved.systemPrompt
    session.size = saved.size
    session.wireNames.had = details.names
    session.upstream = details.upstream
    return session
