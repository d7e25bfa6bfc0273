# -*- test-case-name: tests.sessions.test_hints -*-
"""
What in a request may name its session.

The transcript finds the session of every client that shows a history. Two
things help those that show none: a name of the session itself, and C{user},
which is a conversation in some clients and all of them in others. Nothing else
counts: clients send the ids of their chats with title prompts too, and tracers
tag unrelated calls with one id.

A hint only nominates: the transcript decides. Clients choose hints freely and
two clients may choose the same, so a hint is never used as it came: only under
a L{key<SessionKeys.key>} that holds the account and the kind of hint as well.
"""

from __future__ import annotations

import secrets

import msgspec

from openai_server.sessions.digests import digestOf


class SessionName(msgspec.Struct, frozen=True):
    """
    What names one session.

    @ivar kind: where it stood; equal values of two kinds have nothing to do
        with each other. A dialect that names sessions in its own way brings
        its own kind.
    """

    kind: str
    value: str


class Hints(msgspec.Struct, frozen=True):
    """
    The hints of one request.
    """

    session: SessionName | None = None
    user: str | None = None


class HintKeys(msgspec.Struct, frozen=True):
    """
    The hints of one request as sessions are kept under them.
    """

    session: bytes | None = None
    user: bytes | None = None


#: Most requests have none.
NO_HINTS = Hints()
_NO_KEYS = HintKeys()


def hintsFrom(header: str | None, user: str | None) -> Hints:
    """
    Return the hints of a request. Empty and blank ones are none.

    @param header: the value of C{x-hum-session}.
    @param user: the client's name for its end user.
    """
    session = SessionName("header", header) if header and not header.isspace() else None
    if user and not user.isspace():
        return Hints(session, user)
    return NO_HINTS if session is None else Hints(session)


class SessionKeys:
    """
    Makes keys of hints.

    @ivar _secret: 16 to 64 random bytes; other bytes, other keys.
    """

    def __init__(self, secret: bytes | None = None) -> None:
        self._secret = secret or secrets.token_bytes(32)

    def key(self, account: str, kind: str, value: str) -> bytes:
        """
        Return the key of a hint: 16 bytes that say nothing about it, equal only
        for equal account, kind and value. The value may be of any length.
        """
        return digestOf((account, kind, value), self._secret)

    def keysOf(self, account: str, hints: Hints) -> HintKeys:
        """
        Return the keys of a request's hints.
        """
        if hints is NO_HINTS:
            return _NO_KEYS
        name, user = hints.session, hints.user
        return HintKeys(
            None if name is None else self.key(account, name.kind, name.value),
            None if user is None else self.key(account, "user", user),
        )
