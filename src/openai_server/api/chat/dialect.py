# -*- test-case-name: tests.api.chat.test_dialect -*-
"""
Chat completions as a dialect.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial

from openai_server.api.chat.records import (
    PREFIX,
    ChatHead,
    changedRecord,
    isDescribedBy,
    recordFrom,
    storedMessages,
)
from openai_server.api.chat.render import ChatRenderer, FunctionsRenderer
from openai_server.api.chat.request import inquiryFromBody
from openai_server.api.chat.structs import ChatBody
from openai_server.api.ids import newIds
from openai_server.api.inquiry import Inquiry, Message
from openai_server.api.keeping import Keeping
from openai_server.api.listing import deletedBody
from openai_server.api.output import Finished, Output
from openai_server.api.sse import keepAliveFrom


class ChatDialect:
    """
    OpenAI's chat completions, the deprecated C{functions} too.
    """

    name = "chat"

    def __init__(
        self,
        *,
        strict: bool = False,
        defaultModel: Callable[[], str | None] = lambda: None,
        reasoningField: str = "reasoning_content",
        showsWorkerTools: bool = False,
        keepAlive: str = "chunk",
        keeps: bool = False,
        now: Callable[[], float] = time.time,
        newId: Callable[[], str] | None = None,
    ) -> None:
        """
        @param strict: refuse fields that OpenAI does not know.
        @param defaultModel: tells what a request without a model asks for.
        @param reasoningField: under which key reasoning is shown:
            C{reasoning_content}, C{reasoning}, C{both} or C{none}.
        @param showsWorkerTools: whether the tools that the worker runs by
            itself are shown as reasoning.
        @param keepAlive: what a silent stream says: C{chunk} or C{comment};
            anything else is nothing.
        @param keeps: whether completions are kept where a request asks for it.
        @param now: the wall clock, in seconds since 1970.
        @param newId: makes the id of an answer.
        """
        self._strict = strict
        self._defaultModel = defaultModel
        self._reasoningField = reasoningField
        self._showsTools = showsWorkerTools
        self._keepAlive = keepAliveFrom(keepAlive)
        self._keep = self._headFrom if keeps else None
        self._now = now
        self._newId = newId or newIds(PREFIX).__next__

    def parse(self, body: bytes, model: str | None = None) -> Inquiry:
        """
        Return what a request asks.

        @param model: what its path asks for, if it does.
        @raise APIError: 400, with C{param} where one field is at fault.
        """
        return inquiryFromBody(
            body,
            strict=self._strict,
            model=model,
            defaultModel=self._defaultModel,
            keep=self._keep,
        )

    def renderer(self, inquiry: Inquiry) -> ChatRenderer:
        """
        Return what writes the answer, under an id of its own.
        """
        head = inquiry.own
        if isinstance(head, ChatHead):
            return self._renderer(inquiry, head.id, head.created)
        return self._renderer(inquiry, self._newId(), int(self._now()))

    def _renderer(self, inquiry: Inquiry, id: str, created: int) -> ChatRenderer:
        # Calls without ids are the deprecated shape.
        kind = ChatRenderer if inquiry.showsCallIds else FunctionsRenderer
        return kind(
            id,
            created,
            inquiry.model,
            wantsUsage=inquiry.wantsUsage,
            reasoningField=self._reasoningField,
            showsTools=self._showsTools,
            keepAlive=self._keepAlive,
        )

    # Records.

    def _headFrom(self, found: ChatBody, messages: Sequence[Message]) -> ChatHead:
        id = self._newId()
        stored = storedMessages(id, found.messages or (), messages)
        return ChatHead(id, int(self._now()), found.metadata or {}, stored)

    def keeping(self, inquiry: Inquiry) -> Keeping | None:
        """
        Return how the completion is kept, if it is to be.
        """
        head = inquiry.own
        if not isinstance(head, ChatHead):
            return None
        renderer = self.renderer(inquiry)
        record = partial(_record, renderer, head.metadata)
        return Keeping(head.id, None, record, record, lambda: renderer, self.name, head.messages)

    def isDescribedBy(self, record: bytes, model: str | None, metadata: Mapping[str, str]) -> bool:
        """
        Return whether a record is of a completion by this model, if one is
        given, with all of this metadata.
        """
        return isDescribedBy(record, model, metadata)

    def changed(self, record: bytes, body: bytes) -> bytes:
        """
        Return a record with the metadata that a request's body asks for.

        @raise APIError: 400, with C{param} where one field is at fault.
        """
        return changedRecord(record, body, self._strict)

    def deletedBody(self, id: str) -> bytes:
        """
        Return what is said of a completion that was deleted.
        """
        return deletedBody(id, "chat.completion.deleted")


def _record(
    renderer: ChatRenderer, metadata: Mapping[str, str], events: Sequence[Output] | None
) -> bytes:
    # The object has no way to say that it is not complete.
    if not events or not isinstance(events[-1], Finished):
        return b""
    return recordFrom(renderer.body(events), metadata)
