# -*- test-case-name: tests.sessions.test_chains -*-
"""
Transcripts as chains of digests: after each message one digest that stands
for everything up to there.

Two transcripts have the same digest after some message exactly if all their
messages up to there are the same, as L{openai_server.sessions.entries} means
it. The system and developer messages at the head are left out: they are the
system prompt and belong to the L{Context}.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import cached_property
from hashlib import blake2b
from typing import Final

import msgspec

from openai_server.api.messages import Message
from openai_server.sessions.entries import Entry, entriesFrom

#: The digest of a transcript without any message.
START: Final = bytes(16)

_encode = msgspec.msgpack.Encoder().encode


def extended(digest: bytes, entry: Entry) -> bytes:
    """
    The digest of the same transcript with one more message.
    """
    return blake2b(digest + _encode(entry), digest_size=16).digest()


class Transcript:
    """
    The messages of one request, compared once and hashed at most once.

    @ivar entries: one for each message.
    @ivar leading: how many system messages stand at the head.
    """

    def __init__(self, entries: Sequence[Entry]) -> None:
        self.entries = entries
        self.leading = next((at for at, entry in enumerate(entries) if entry.role != "system"), len(entries))

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

    @cached_property
    def digests(self) -> Sequence[bytes]:
        """
        The digest before the first entry of L{told}, then one after each.
        """
        digest = START
        found = [digest]
        for entry in self.told:
            digest = extended(digest, entry)
            found.append(digest)
        return found

    def digestBefore(self, at: int) -> bytes:
        """
        The digest of everything before the entry with this index, which is not
        one of the system prompt's.
        """
        return self.digests[at - self.leading]

    @cached_property
    def showsHistory(self) -> bool:
        """
        There is an assistant's message: whoever sends it keeps transcripts.
        """
        return any(entry.role == "assistant" for entry in self.entries)

    @cached_property
    def isLone(self) -> bool:
        """
        Exactly one user's message, beside system messages at most: it may come
        from a client that leaves the history to the server.
        """
        roles = [entry.role for entry in self.told]
        return roles.count("user") == 1 and all(role in ("user", "system") for role in roles)
