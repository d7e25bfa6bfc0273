# -*- test-case-name: tests.flow.test_restart -*-
"""
Sessions and hints that outlast the process.

A session is kept while nobody uses it, and forgotten when somebody does: one
that is in use when the process dies may have been told anything, and is never
used again. So its prompt must not go out before L{LastingSessions.whenWritten}.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Final

import msgspec
from twisted.internet.defer import Deferred

from openai_server.sessions.chains import Chain
from openai_server.sessions.contexts import Context
from openai_server.sessions.digests import digestOf
from openai_server.sessions.plans import Session
from openai_server.store.interfaces import StateStore
from openai_server.store.saved import SavedHint, SavedSession

#: Seconds for which sessions and hints are kept after their last use.
KEPT: Final = 14 * 86_400.0


class SessionDetails(msgspec.Struct, frozen=True, array_like=True):
    """
    What the store need not look into.

    @ivar names: what tools were called on the wire: see
        L{openai_server.sessions.catalogue.wirenames.WireNames}.
    """

    context: Context
    names: Mapping[str, Sequence[str]] | None


_encode = msgspec.msgpack.Encoder().encode
_details = msgspec.msgpack.Decoder(SessionDetails)


class LastingSessions:
    """
    Saves sessions and hints, and makes sessions of what was saved.

    @ivar isStopped: whether what happens from now on is the end of this
        process, and nothing that the next one need know.
    """

    def __init__(self, state: StateStore, now: Callable[[], float]) -> None:
        """
        @param now: the wall clock, in seconds since 1970.
        """
        self.isStopped = False
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
            self._state.forget(SavedSession, session.sid)

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

    # One session.

    def savedFrom(self, session: Session) -> SavedSession:
        """
        Return what it takes to go on with a session.
        """
        context, now = session.context, self._now()
        return SavedSession(
            sid=session.sid,
            account=session.account,
            context=digestOf([_encode(context)]),
            seen=session.seen.digest,
            name=session.name,
            user=session.user,
            systemPrompt=session.systemPrompt,
            size=session.size,
            details=_encode(SessionDetails(context, session.wireNames.had)),
            usedAt=now,
            expiresAt=now + KEPT,
        )


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
    return session
