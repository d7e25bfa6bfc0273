# -*- test-case-name: tests.sessions.test_hints -*-
"""
What in a request may name a session, strongest first.

A hint only nominates: the transcript decides. Clients choose hints freely and
two clients may choose the same, so a hint is never used as it came: only under
a L{key<SessionKeys.key>} that holds the account and the kind of hint as well.
"""

from __future__ import annotations

import secrets
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from enum import Enum
from typing import Final

from openai_server.sessions.digests import digestOf

#: Headers that name a session, strongest first; those of clients in the wild
#: behind our own.
HEADERS: Final = (
    "x-hum-session",
    "x-session-affinity",
    "x-session-id",
    "session-id",
    "session_id",
    "thread-id",
    "x-conversation-id",
    "x-litellm-session-id",
    "x-openclaw-session-key",
    "x-openwebui-chat-id",
)


class Weight(Enum):
    """
    What a hint says.
    """

    #: This is the conversation: a lone message goes on there.
    SESSION = "session"
    #: Requests that may share a cache: the transcript alone decides.
    CACHE = "cache"
    #: An end user: one conversation in some clients, all of them in others.
    USER = "user"


@dataclass(frozen=True)
class Hint:
    """
    One hint.

    @ivar kind: where it stood; equal values of two kinds have nothing to do
        with each other.
    """

    kind: str
    value: str
    weight: Weight

    def yieldsTo(self, weaker: Hint) -> bool:
        """
        Behind this hint, a weaker one that differs still means another
        session.
        """
        return self.weight is Weight.CACHE and weaker.weight is Weight.USER


def hintsFrom(
    headers: Mapping[str, str],
    *,
    metadata: Mapping[str, str] | None = None,
    sessionId: str | None = None,
    chatId: str | None = None,
    promptCacheKey: str | None = None,
    user: str | None = None,
) -> tuple[Hint, ...]:
    """
    The hints of a request, strongest first. Empty ones are none.

    @param headers: of the request, names in lower case.
    """
    said = metadata or {}
    found: list[tuple[str, str | None, Weight]] = [
        *_fromHeaders(headers),
        ("metadata.session_id", said.get("session_id"), Weight.SESSION),
        ("metadata.chat_id", said.get("chat_id"), Weight.SESSION),
        ("body.session_id", sessionId, Weight.SESSION),
        ("body.chat_id", chatId, Weight.SESSION),
        ("prompt_cache_key", promptCacheKey, Weight.CACHE),
        ("user", user, Weight.USER),
    ]
    return tuple(Hint(kind, value, weight) for kind, value, weight in found if value and not value.isspace())


def _fromHeaders(headers: Mapping[str, str]) -> Iterator[tuple[str, str | None, Weight]]:
    if headers.keys().isdisjoint(HEADERS):
        return
    for name in HEADERS:
        yield f"header.{name}", headers.get(name), Weight.SESSION


class SessionKeys:
    """
    Makes keys of hints.

    @ivar _secret: 16 to 64 random bytes; other bytes, other keys.
    """

    def __init__(self, secret: bytes | None = None) -> None:
        self._secret = secret or secrets.token_bytes(32)

    def key(self, account: str, kind: str, value: str) -> bytes:
        """
        The key of a hint: 16 bytes that say nothing about it, equal only for
        equal account, kind and value. The value may be of any length.
        """
        return digestOf([account, kind, value], self._secret)
