# -*- test-case-name: tests.sessions.test_memory -*-
"""
What is asked of the memory of sessions, and what it answers.
"""

from __future__ import annotations

from collections.abc import Iterable
from enum import Enum

import msgspec

from openai_server.sessions.catalogue.wirenames import WireNames
from openai_server.sessions.chains import Chain, Transcript
from openai_server.sessions.contexts import Context
from openai_server.sessions.entries import Entry
from openai_server.sessions.hints import Hints
from openai_server.wire.ids import newSessionId


class SessionKind(Enum):
    """
    What a request's session is to its client.
    """

    NEW = "new"
    CONTINUED = "continued"
    #: Fresh, although a hint or the transcript points to another one.
    FORKED = "forked"


class UserHint(Enum):
    """
    Whether C{user} names a conversation, for lone messages.
    """

    #: Unless the account has ever shown history under it: that client resends
    #: its transcripts, and a lone message is a new chat or a side prompt.
    AUTO = "auto"
    ALWAYS = "always"
    NEVER = "never"


class Claim(msgspec.Struct, frozen=True):
    """
    What of a request decides about its session.

    @ivar systemPrompt: the words that C{context.system} stands for.
    """

    account: str
    hints: Hints
    context: Context
    transcript: Transcript
    systemPrompt: str


class Session:
    """
    One sid, and what its worker has been told and has said.

    @ivar isBusy: whether somebody uses it.
    @ivar isForgotten: whether it will never be used again.
    @ivar seen: the transcript as the session has seen it.
    @ivar name: the key of the hint that named it last.
    @ivar user: the key of the C{user} for whom it was used last.
    @ivar systemPrompt: the one it was begun with, where it is kept.
    @ivar wireNames: what its tools are called on the wire.
    """

    __slots__ = (
        "account",
        "context",
        "isBusy",
        "isForgotten",
        "name",
        "seen",
        "sid",
        "systemPrompt",
        "user",
        "wireNames",
    )

    def __init__(self, account: str, context: Context, seen: Chain) -> None:
        self.sid = newSessionId()
        self.account = account
        self.context = context
        self.isBusy = True
        self.isForgotten = False
        self.seen = seen
        self.name: bytes | None = None
        self.user: bytes | None = None
        self.systemPrompt: str | None = None
        self.wireNames = WireNames()

    def told(self, entries: Iterable[Entry]) -> None:
        """
        Note that these messages go to the worker now.
        """
        self.seen.extend(entries)

    def suits(self, context: Context) -> bool:
        """
        Whether a lone message of this context can go on here: with everything
        equal, or without a word of a system prompt. Whether files came before,
        for which the worker needs a tool of its own, it cannot show.
        """
        own = self.context
        isSilent = not context.system and self.systemPrompt is not None
        isOther = context.rest != own.rest or context.hasOwnTools != own.hasOwnTools
        return not isOther and (isSilent or context.system == own.system)


class SessionPlan(msgspec.Struct, frozen=True):
    """
    What a request does. Its session is busy from now on.

    @ivar start: the index of the first message to send.
    @ivar seenBefore: what the session had seen before this request; None for
        a fresh one.
    @ivar systemPrompt: what is to be said as such although the request says
        nothing; None otherwise.
    """

    kind: SessionKind
    session: Session
    start: int = 0
    seenBefore: Chain | None = None
    systemPrompt: str | None = None

    @property
    def sid(self) -> str:
        """
        The sid to ask on.
        """
        return self.session.sid
