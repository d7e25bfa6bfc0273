# -*- test-case-name: tests.sessions.test_chains -*-
"""
Digests of transcripts: one for each place in it, that stands for everything up
to there.

Two transcripts have the same digest after some message exactly if all their
messages up to there are the same, as L{openai_server.sessions.entries} means
it. The system and developer messages at the head are left out: they are the
system prompt and belong to the L{Context}.

Each digest is made of the one before and of the message behind it: whoever has
kept one can go on from it. A transcript may have ten thousand messages, so each
is hashed only where its digest is needed, and those before are not hashed again.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from hashlib import sha256
from typing import Final

import msgspec

from openai_server.api.inquiry import Message
from openai_server.sessions.entries import Entry, entriesFrom

_encode = msgspec.msgpack.Encoder().encode

#: Bytes of a digest.
_SIZE: Final = 16


class Chain:
    """
    A transcript as far as it has come: it can be gone on with, also by
    somebody who has nothing of it but its digest.

    @ivar digest: 16 bytes, made of those before the last message and of that
        message.
    """

    __slots__ = ("digest",)

    def __init__(self, entries: Iterable[Entry] = (), digest: bytes = bytes(_SIZE)) -> None:
        """
        @param digest: of what was said before these messages; that of nothing
            unless it is given.
        """
        self.digest = digest
        if entries:
            self.extend(entries)

    def copy(self) -> Chain:
        """
        The same transcript, that goes its own way.
        """
        return Chain((), self.digest)

    def extend(self, entries: Iterable[Entry]) -> None:
        """
        Go on with these messages.
        """
        digest = self.digest
        for entry in entries:
            digest = sha256(digest + _encode(entry)).digest()[:_SIZE]
        self.digest = digest

    def extendNoting(self, entries: Iterable[Entry], role: str) -> Iterator[tuple[int, bytes]]:
        """
        Go on with these messages.

        @return: the number of messages up to each one of this role, and the
            digest there.
        """
        digest = self.digest
        for count, entry in enumerate(entries, 1):
            digest = sha256(digest + _encode(entry)).digest()[:_SIZE]
            if entry.role == role:
                yield count, digest
        self.digest = digest


class Transcript:
    """
    The messages of one request.

    @ivar entries: one for each message.
    @ivar leading: how many system messages stand at the head.
    @ivar showsHistory: whether there is an assistant's message: whoever sends
        it keeps transcripts.
    @ivar isLone: whether there is exactly one user's message, beside system
        messages at most: it may come from a client that leaves the history to
        the server.
    """

    __slots__ = ("_answered", "_whole", "entries", "isLone", "leading", "showsHistory")

    def __init__(self, entries: Sequence[Entry]) -> None:
        self.entries = entries
        roles = [entry.role for entry in entries]
        leading = 0
        while leading < len(roles) and roles[leading] == "system":
            leading += 1
        self.leading = leading
        self.showsHistory = "assistant" in roles
        self.isLone = roles.count("user") == 1 and roles.count("system") == len(roles) - 1
        self._whole: Chain | None = None
        self._answered: dict[int, bytes] | None = None

    @classmethod
    def fromMessages(cls, messages: Iterable[Message]) -> Transcript:
        """
        The transcript of a request's messages.
        """
        return cls(entriesFrom(messages))

    @property
    def told(self) -> Sequence[Entry]:
        """
        The entries without the system prompt.
        """
        return self.entries[self.leading :]

    @property
    def whole(self) -> Chain:
        """
        All of L{told}. Not to be gone on with: see L{Chain.copy}.
        """
        if self._whole is None:
            self._whole = Chain(self.told)
        return self._whole

    @property
    def answered(self) -> dict[int, bytes]:
        """
        The digest behind each message of the assistant's, by the index of the
        next message, in order.
        """
        if self._answered is None:
            # What is hashed on the way need not be hashed again.
            self._whole = chain = Chain()
            noted = chain.extendNoting(self.told, "assistant")
            self._answered = {self.leading + count: digest for count, digest in noted}
        return self._answered

    def digestBefore(self, at: int) -> bytes:
        """
        The digest of everything before the entry with this index, which is not
        one of the system prompt's.
        """
        if at == len(self.entries):
            return self.whole.digest
        return Chain(self.entries[self.leading : at]).digest
