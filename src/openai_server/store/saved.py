# -*- test-case-name: tests.store.test_state -*-
"""
What sessions, calls and retries have to be told again after a restart.

Each of these is kept under its key, its first field, until it expires. What
the store need not look into is bytes of those who save it.
"""

from __future__ import annotations

from typing import TypeAlias, TypeVar

import msgspec

#: A field that names one of its kind, or that some of its kind share.
Key: TypeAlias = str | bytes
#: What a field can be asked for, or changed to.
Field: TypeAlias = str | bytes | bool | None


class SavedSession(msgspec.Struct, frozen=True, gc=False):
    """
    A session that may be gone on with.

    @ivar sid: the daemon's name of it.
    @ivar context: the digest of all that must be equal for it to go on.
    @ivar seen: the digest of the transcript as it has seen it.
    @ivar name: the key of the hint that named it last.
    @ivar user: the key of the end user for whom it was used last.
    @ivar systemPrompt: the one it was begun with, where it is needed.
    @ivar size: bytes of text that it held after its last answer.
    @ivar details: whatever else it takes to go on.
    @ivar usedAt: when it was used last, in seconds since 1970.
    @ivar expiresAt: when it is forgotten, in seconds since 1970.
    """

    sid: str
    account: str
    context: bytes
    seen: bytes
    name: bytes | None
    user: bytes | None
    systemPrompt: str | None
    size: int
    details: bytes
    usedAt: float
    expiresAt: float


class SavedHint(msgspec.Struct, frozen=True, gc=False):
    """
    What is known of a hint beside the sessions that were used under it.

    @ivar key: stands for the hint.
    @ivar showsHistory: whether its client keeps its transcripts itself.
    """

    key: bytes
    showsHistory: bool
    expiresAt: float


class SavedCall(msgspec.Struct, frozen=True, gc=False):
    """
    A tool call that was given to a client.

    @ivar publicId: its id for the client.
    @ivar callId: its id for the daemon.
    @ivar wireName: the tool's name at the daemon.
    @ivar clientName: the tool's name at the client.
    @ivar arguments: their digest.
    @ivar asked: the digest of the transcript that is answered, where the
        client is shown no id; None elsewhere.
    @ivar isOpen: whether the model waits for the result; a call that has one,
        or for which it is too late, is remembered for a while.
    @ivar incarnation: which daemon process has the turn.
    @ivar details: whatever else it takes to go on with the turn.
    @ivar createdAt: in seconds since 1970.
    @ivar deadline: when the model waits no longer, in seconds since 1970.
    @ivar owner: the process that has the turn; none of that name is alive
        where nobody has.
    """

    publicId: str
    account: str
    sid: str
    callId: str
    wireName: str
    clientName: str
    arguments: bytes
    asked: bytes | None
    isOpen: bool
    incarnation: str
    details: bytes
    createdAt: float
    deadline: float
    expiresAt: float
    owner: str = ""


class SavedAnswer(msgspec.Struct, frozen=True, gc=False):
    """
    What was asked under an idempotency key, and the answer.

    @ivar key: stands for the account and its key.
    @ivar request: the digest of what was asked.
    @ivar data: the answer; None while there is none.
    """

    key: bytes
    account: str
    request: bytes
    data: bytes | None
    expiresAt: float


class SavedMessage(msgspec.Struct, frozen=True, gc=False):
    """
    What one process has for another that shares the store.

    @ivar key: what it is about.
    """

    key: str
    data: bytes
    expiresAt: float


Saved: TypeAlias = SavedSession | SavedHint | SavedCall | SavedAnswer | SavedMessage
S = TypeVar("S", SavedSession, SavedHint, SavedCall, SavedAnswer, SavedMessage)

#: In the order in which they are written.
KINDS: tuple[type[Saved], ...] = (SavedSession, SavedHint, SavedCall, SavedAnswer, SavedMessage)

#: What may be lost when the process is killed right after it was saved: then
#: somebody is told something once more.
LOSABLE: tuple[type[Saved], ...] = (SavedSession, SavedHint)

#: By which fields each kind is looked for.
LOOKUPS: dict[type[Saved], tuple[tuple[str, ...], ...]] = {
    SavedSession: (("account", "context", "seen"), ("name",), ("user",)),
    SavedHint: (),
    SavedCall: (("sid",), ("account", "asked")),
    SavedAnswer: (),
    SavedMessage: (),
}


def keyOf(saved: Saved) -> Key:
    """
    Return the key under which it is kept.
    """
    key: Key = getattr(saved, saved.__struct_fields__[0])
    return key
