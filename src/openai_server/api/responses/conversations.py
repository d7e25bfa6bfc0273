# -*- test-case-name: tests.api.responses.test_conversations -*-
"""
The conversations of the Responses API: what requests make of them, and how they
are shown.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Final

import msgspec

from openai_server.api.body import converted, objectFromBody
from openai_server.api.inquiry import Inquiry
from openai_server.api.keeping import ItemsWanted, RecordsFound
from openai_server.api.listing import deletedBody
from openai_server.api.output import Output
from openai_server.api.responses.answer import ResponseHead
from openai_server.api.responses.input import messagesFromInput
from openai_server.api.responses.records import (
    CONVERSATION_DIGITS,
    Answer,
    ConversationRecord,
    entriesFrom,
    keptItems,
    knownFrom,
    namedBy,
    readConversation,
    resolved,
    tokenIn,
)
from openai_server.api.responses.render import ResponsesRenderer
from openai_server.api.rules import checkMetadata, missing, unknown
from openai_server.api.unread import UnreadNames, safeName
from openai_server.errors import APIError

#: Items that one request may add, by OpenAI's reference.
MOST_ITEMS: Final = 20


class ConversationBody(msgspec.Struct):
    """
    A request for a conversation, or for items of one; the names are OpenAI's.
    """

    metadata: dict[str, str] | None = None
    items: tuple[Any, ...] | None = None


class Conversations:
    """
    See L{openai_server.api.keeping.ConversationReader}.
    """

    def __init__(
        self,
        renderer: Callable[[Inquiry], ResponsesRenderer],
        *,
        strict: bool,
        now: Callable[[], float],
        newToken: Callable[[], str],
    ) -> None:
        """
        @param renderer: returns what writes the answer to an inquiry.
        @param strict: refuse fields that OpenAI does not know.
        @param now: the wall clock, in seconds since 1970.
        @param newToken: makes what ids have in common that are given together.
        """
        self._renderer = renderer
        self._strict = strict
        self._now = now
        self._newToken = newToken

    def newConversation(self, body: bytes) -> tuple[str, bytes, ItemsWanted | None]:
        """
        Return id and record of a new conversation, and its first items.
        """
        found = self._read(body or b"{}", "items", "metadata")
        id = f"conv_{self._newToken()[-CONVERSATION_DIGITS:]}"
        record = ConversationRecord(int(self._now()), found.metadata or {})
        return id, msgspec.json.encode(record), self._wanted(id, found.items) if found.items else None

    def changed(self, record: bytes, body: bytes) -> bytes:
        """
        Return a record with other metadata.
        """
        found = readConversation(record)
        # None at all is what null stands for.
        if "metadata" not in objectFromBody(body):
            raise missing("metadata")
        found.metadata = self._read(body, "metadata").metadata or {}
        return msgspec.json.encode(found)

    def newItems(self, id: str, body: bytes) -> ItemsWanted:
        """
        Return the items that a request adds to a conversation.
        """
        found = self._read(body, "items")
        if not found.items:
            raise missing("items")
        return self._wanted(id, found.items)

    def _wanted(self, id: str, items: Sequence[Any]) -> ItemsWanted:
        if len(items) > MOST_ITEMS:
            said = f"At most {MOST_ITEMS} items can be added at a time."
            raise APIError("invalid_value", said, param="items")
        token, unread = tokenIn(id, self._newToken()), UnreadNames()

        def read(found: RecordsFound) -> tuple[Sequence[tuple[str, bytes]], Sequence[str]]:
            whole = resolved(items, knownFrom(found))
            messagesFromInput(whole, unread, name="items")
            if self._strict and (nested := next((name for name in unread.all if "]." in name), None)):
                raise unknown(nested)
            return entriesFrom(keptItems(whole, token)), unread.all

        others, single = namedBy(items)
        return ItemsWanted(others=others, items=single, read=read)

    def _read(self, body: bytes, *names: str) -> ConversationBody:
        whole = objectFromBody(body)
        if self._strict and (name := next((each for each in whole if each not in names), None)):
            raise unknown(safeName(name))
        found = converted({name: whole[name] for name in names if name in whole}, ConversationBody)
        if found.metadata:
            checkMetadata(found.metadata)
        return found

    def itemsOf(self, inquiry: Inquiry, events: Sequence[Output]) -> Sequence[tuple[str, bytes]]:
        """
        Return what an answer adds to its conversation.
        """
        assert isinstance(inquiry.own, ResponseHead)
        answer = msgspec.json.decode(self._renderer(inquiry).body(events), type=Answer)
        return entriesFrom([*(inquiry.own.input or ()), *answer.output])

    def withLoss(self, record: bytes) -> bytes:
        """
        Return the record of a conversation that lacks an answer.
        """
        found = readConversation(record)
        found.isWhole = False
        return msgspec.json.encode(found)

    def bodyOf(self, id: str, record: bytes) -> bytes:
        """
        Return a conversation as its client sees it.
        """
        found = readConversation(record)
        return msgspec.json.encode(
            {
                "id": id,
                "object": "conversation",
                "created_at": found.createdAt,
                "metadata": found.metadata,
            }
        )

    def deletedBody(self, id: str) -> bytes:
        """
        Return what is said of a conversation that was deleted.
        """
        return deletedBody(id, "conversation.deleted")
