# -*- test-case-name: tests.api.responses.test_records -*-
"""
How answers are kept: requests may go on from them, and they can be asked for
again.

What is kept is one record an answer, bytes that only its dialect reads.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol

import msgspec

from openai_server.api.inquiry import Inquiry
from openai_server.api.output import Output
from openai_server.api.renderer import Renderer


class Seal(Protocol):
    """
    Seals texts that an account keeps for this server.
    """

    def seal(self, text: str) -> str:
        """
        Return a token that only this server can read, and only for this
        account.
        """

    def open(self, token: str) -> str | None:
        """
        Return the text in a token, None if there is none for this account.
        """


class RecordNames(msgspec.Struct, frozen=True, kw_only=True):
    """
    What a request needs of what is kept.

    @ivar previous: the id of the record that it goes on from.
    @ivar conversation: the id of the conversation that it goes on.
    @ivar others: ids of records that have something which it refers to.
    @ivar items: items that it may refer to, each by the id of its conversation
        and its own.
    """

    previous: str | None = None
    conversation: str | None = None
    others: frozenset[str] = frozenset()
    items: frozenset[tuple[str, str]] = frozenset()


class RecordsFound(msgspec.Struct, frozen=True, kw_only=True):
    """
    What there is of that.

    @ivar chain: the record that the request goes on from with all that that
        one goes on from, the oldest first; none where one of them is gone.
    @ivar conversation: the record of the conversation that it goes on.
    @ivar said: the items of that conversation, in order.
    @ivar others: those of the other records that there are.
    @ivar items: those of the single items that there are.
    @ivar seal: of whose request it is.
    """

    chain: Sequence[bytes] = ()
    conversation: bytes | None = None
    said: Sequence[bytes] = ()
    others: Sequence[bytes] = ()
    items: Sequence[bytes] = ()
    seal: Seal | None = None


class RecordsWanted(RecordNames, frozen=True, kw_only=True):
    """
    A request that cannot be read without records, or without what opens the
    texts that its client keeps.

    @ivar read: returns what the request asks. It raises
        L{APIError<openai_server.errors.APIError>}, as parsing does, or since
        something is not there.
    """

    read: Callable[[RecordsFound], Inquiry]


class ItemsWanted(RecordNames, frozen=True, kw_only=True):
    """
    Items that are to be added to a conversation.

    @ivar read: returns each with its id, and names of what is ignored in them,
        fit for a header. It raises as that of L{RecordsWanted} does.
    """

    read: Callable[[RecordsFound], tuple[Sequence[tuple[str, bytes]], Sequence[str]]]


class Keeping(msgspec.Struct, frozen=True):
    """
    How the answer to one request is kept.

    @ivar id: of its record.
    @ivar previous: the id of the record that it goes on from.
    @ivar body: returns an answer whole. It takes all of the answer, whose last
        event is no C{Finished} or C{Failed} when it goes on; None for one that
        waits to be asked.
    @ivar record: returns its record, of the same; empty for an answer that
        cannot be kept.
    @ivar renderer: returns what writes the answer once more.
    @ivar kind: of the record: those of one kind are not there where others are
        looked for. See L{openai_server.web.kept.placeOf}.
    @ivar items: what is kept with it, each under its id.
    """

    id: str
    previous: str | None
    body: Callable[[Sequence[Output] | None], bytes]
    record: Callable[[Sequence[Output] | None], bytes]
    renderer: Callable[[], Renderer]
    kind: str = ""
    items: Sequence[tuple[str, bytes]] = ()


class ConversationReader(Protocol):
    """
    A dialect in which there are conversations. Each has one record, and items.
    """

    def newConversation(self, body: bytes) -> tuple[str, bytes, ItemsWanted | None]:
        """
        Return id and record of the conversation that a request makes, and the
        items that it begins with; None for none.

        @raise APIError: 400, with C{param} where one field is at fault.
        """

    def changed(self, record: bytes, body: bytes) -> bytes:
        """
        Return a record as a request changes it.

        @raise APIError: 400.
        """

    def newItems(self, id: str, body: bytes) -> ItemsWanted:
        """
        Return the items that a request adds to a conversation.

        @raise APIError: 400.
        """

    def itemsOf(self, inquiry: Inquiry, events: Sequence[Output]) -> Sequence[tuple[str, bytes]]:
        """
        Return what an answer adds to its conversation: the items of the
        question, then its own.

        @param events: all of the answer; none for the question's items alone.
        """

    def withLoss(self, record: bytes) -> bytes:
        """
        Return the record of a conversation that lacks an answer, in which
        nothing can be asked any more.
        """

    def bodyOf(self, id: str, record: bytes) -> bytes:
        """
        Return a conversation as its client sees it.
        """

    def deletedBody(self, id: str) -> bytes:
        """
        Return what is said of a conversation that was deleted.
        """


class RecordReader(Protocol):
    """
    A dialect whose records can be asked for.
    """

    def answerOf(self, record: bytes) -> bytes:
        """
        Return the whole answer that a record is of.
        """

    def inputOf(self, records: Sequence[bytes]) -> Sequence[Mapping[str, Any]]:
        """
        Return the items that led to the answer of the last record of a chain,
        in order, each with its C{id}.
        """

    def replay(self, record: bytes) -> tuple[Renderer, Sequence[Output]]:
        """
        Return what an answer that has ended was made of, and a renderer that
        writes its stream from that.
        """

    def resumed(self, renderer: Renderer, after: int) -> Renderer:
        """
        Return what writes only the rest of a stream.

        @param renderer: a new one, which would write all of it.
        @param after: the number of the last event that is not wanted; the
            first one's is 0.
        """

    def deletedBody(self, id: str) -> bytes:
        """
        Return the answer to whoever has had a record forgotten.
        """


class CompletionReader(Protocol):
    """
    A dialect whose records can be listed and changed, and are given as they
    are.
    """

    def isDescribedBy(self, record: bytes, model: str | None, metadata: Mapping[str, str]) -> bool:
        """
        Return whether a record is of an answer by this model, if one is given,
        with all of this metadata.
        """

    def changed(self, record: bytes, body: bytes) -> bytes:
        """
        Return a record as a request's body has it changed.

        @raise APIError: 400, with C{param} where one field is at fault.
        """

    def deletedBody(self, id: str) -> bytes:
        """
        Return the answer to whoever has had a record forgotten.
        """
