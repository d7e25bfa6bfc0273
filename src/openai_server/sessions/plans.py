# -*- test-case-name: tests.sessions.test_memory -*-
"""
What is asked of the memory of sessions, and what it answers.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from enum import Enum

import msgspec

from openai_server.sessions.catalogue.wirenames import WireNames
from openai_server.sessions.chains import Chain, Transcript
from openai_server.sessions.contexts import Context
from openai_server.sessions.entries import Entry, answerEntry
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


class Why(Enum):
    """
    Why a request does not go on in the session that it belongs to.
    """

    #: The session was begun with another model, system prompt, set of tools, shape
    #: of the answer, or folder.
    MODEL = "model"
    SYSTEM = "system"
    TOOLS = "tools"
    FORMAT = "format"
    FOLDER = "cwd"
    #: What the request shows is not what the session has seen.
    HISTORY = "history"
    #: Somebody uses it.
    BUSY = "busy"
    #: The hint names another session, or no longer one.
    HINT = "hint"
    #: It is not used any more: its turn was cancelled, failed or was cut,
    #: there were too many others, or its daemon is away.
    GONE = "gone"


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
    @ivar isIsolated: whether it gets a session that nobody else is given.
    """

    account: str
    hints: Hints
    context: Context
    transcript: Transcript
    systemPrompt: str
    isIsolated: bool = False


class Session:
    """
    One sid, and what its worker has been told and has said.

    @ivar isBusy: whether somebody uses it.
    @ivar isForgotten: whether it will never be used again.
    @ivar isIsolated: whether it is used once.
    @ivar isSaved: whether it would be gone on with after a restart.
    @ivar seen: the transcript as the session has seen it.
    @ivar size: bytes of text that it held after its last answer.
    @ivar name: the key of the hint that named it last.
    @ivar user: the key of the C{user} for whom it was used last.
    @ivar systemPrompt: the one it was begun with, where it is kept.
    @ivar upstream: the name of the daemon that has it, once one has.
    @ivar wireNames: what its tools are called on the wire.
    """

    __slots__ = (
        "account",
        "context",
        "isBusy",
        "isForgotten",
        "isIsolated",
        "isSaved",
        "name",
        "seen",
        "sid",
        "size",
        "systemPrompt",
        "upstream",
        "user",
        "wireNames",
    )

    def __init__(self, account: str, context: Context, seen: Chain, sid: str | None = None) -> None:
        """
        @param sid: the one that it has already.
        """
        self.sid = sid or newSessionId()
        self.account = account
        self.context = context
        self.isBusy = True
        self.isForgotten = False
        self.isIsolated = False
        self.isSaved = False
        self.seen = seen
        self.size = 0
        self.name: bytes | None = None
        self.user: bytes | None = None
        self.systemPrompt: str | None = None
        self.upstream = ""
        self.wireNames = WireNames()

    def told(self, entries: Iterable[Entry]) -> None:
        """
        Note that these messages go to the worker now.
        """
        self.seen.extend(entries)

    def toldResults(self, transcript: Transcript, answer: Sequence[int], told: Sequence[int]) -> None:
        """
        Note that these messages, results of calls among them, go to the worker
        now.

        A client may show the answer that made the calls as several messages,
        with results between them. When it shows nothing else, what this
        session has seen is from now on what the client shows.

        @param answer: the indexes of the messages that show the answer.
        @param told: the indexes of those that go out.
        """
        entries = transcript.entries
        if len(answer) > 1 and len(entries) - answer[0] == len(answer) + len(told):
            parts = [entries[at] for at in answer]
            seen = Chain(entries[transcript.leading : answer[0]])
            calls = [name for part in parts for name in part.calls]
            seen.extend((answerEntry("".join(part.text for part in parts), calls),))
            if seen.digest == self.seen.digest:
                self.seen = transcript.whole.copy()
                return
        self.told(entries[at] for at in told)

    def suits(self, context: Context) -> bool:
        """
        Whether a lone message of this context can go on here: with everything
        equal, or without a word of a system prompt. Whether files came before,
        for which the worker needs a tool of its own, it cannot show.
        """
        return self.difference(context, mayBeSilent=True) is None

    def difference(self, context: Context, mayBeSilent: bool = False) -> Why | None:
        """
        Return in what a context is another one than that of this session.

        @param mayBeSilent: whether nothing need be said of the system prompt,
            and of files that came before.
        """
        own = self.context
        isSilent = mayBeSilent and not context.system and self.systemPrompt is not None
        if context.model != own.model:
            return Why.MODEL
        if context.system != own.system and not isSilent:
            return Why.SYSTEM
        hasSame = context.hasOwnTools == own.hasOwnTools if mayBeSilent else context.ownTools == own.ownTools
        if context.tools != own.tools or not hasSame:
            return Why.TOOLS
        if context.format != own.format:
            return Why.FORMAT
        return Why.FOLDER if context.cwd != own.cwd else None


class SessionPlan(msgspec.Struct, frozen=True):
    """
    What a request does. Its session is busy from now on.

    @ivar start: the index of the first message to send.
    @ivar seenBefore: what the session had seen before this request; None for
        a fresh one.
    @ivar systemPrompt: what is to be said as such although the request says
        nothing; None otherwise.
    @ivar why: why it is forked; None otherwise.
    """

    kind: SessionKind
    session: Session
    start: int = 0
    seenBefore: Chain | None = None
    systemPrompt: str | None = None
    why: Why | None = None

    @property
    def label(self) -> str:
        """
        The kind and the reason, in words for the client and the log.
        """
        return self.kind.value if self.why is None else f"{self.kind.value}; why={self.why.value}"

    @property
    def sid(self) -> str:
        """
        The sid to ask on.
        """
        return self.session.sid
