# -*- test-case-name: tests.api.responses.test_dialect -*-
"""
The Responses API as a dialect.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import msgspec

from openai_server.api.ids import newToken
from openai_server.api.inquiry import Inquiry
from openai_server.api.keeping import Keeping, RecordsFound, RecordsWanted
from openai_server.api.listing import deletedBody
from openai_server.api.output import Failed, Output, cutRowJSON, rowFromJSON
from openai_server.api.renderer import Renderer
from openai_server.api.responses.answer import ResponseHead, headFrom
from openai_server.api.responses.records import Record, historyFrom, readRecord
from openai_server.api.responses.render import ResponsesRenderer
from openai_server.api.responses.request import inquiryFromBody
from openai_server.api.responses.resume import ResumedRenderer
from openai_server.api.sse import keepAliveFrom
from openai_server.errors import APIError


class ResponsesDialect:
    """
    OpenAI's Responses API.
    """

    name = "responses"

    def __init__(
        self,
        *,
        strict: bool = False,
        defaultModel: Callable[[], str | None] = lambda: None,
        showsReasoning: bool = True,
        showsWorkerTools: bool = False,
        keepAlive: str = "chunk",
        keeps: bool = False,
        now: Callable[[], float] = time.time,
        newToken: Callable[[], str] = newToken,
    ) -> None:
        """
        @param strict: refuse fields that OpenAI does not know.
        @param defaultModel: tells what a request without a model asks for.
        @param showsReasoning: whether reasoning is shown where a request asks
            for a summary of it.
        @param showsWorkerTools: whether the tools that the worker runs by
            itself are shown, as C{mcp_call} items.
        @param keepAlive: what a silent stream says: C{chunk} for an event, or
            C{comment}; anything else is nothing.
        @param keeps: whether responses are kept where a request does not say
            otherwise.
        @param now: the wall clock, in seconds since 1970.
        @param newToken: makes what the ids of a response and its items have in
            common.
        """
        self._strict = strict
        self._defaultModel = defaultModel
        self._showsReasoning = showsReasoning
        self._showsTools = showsWorkerTools
        self._keepAlive = keepAliveFrom(keepAlive)
        self._keeps = keeps
        self._now = now
        self._newToken = newToken

    def parse(self, body: bytes, model: str | None = None) -> Inquiry | RecordsWanted:
        """
        Return what a request asks, or the records without which it cannot be
        read.

        @param model: what its path asks for, if it does.
        @raise APIError: 400, with C{param} where one field is at fault.
        """
        return inquiryFromBody(
            body,
            self._newToken(),
            int(self._now()),
            strict=self._strict,
            model=model,
            defaultModel=self._defaultModel,
            keeps=self._keeps,
        )

    def renderer(self, inquiry: Inquiry) -> ResponsesRenderer:
        """
        Return what writes the answer.
        """
        return self._renderer(_headOf(inquiry))

    def _renderer(self, head: ResponseHead) -> ResponsesRenderer:
        return ResponsesRenderer(
            head,
            now=self._now,
            showsReasoning=self._showsReasoning,
            showsTools=self._showsTools,
            keepAlive=self._keepAlive,
        )

    # Records.

    def keeping(self, inquiry: Inquiry) -> Keeping | None:
        """
        Return how the response is kept, if it is to be.
        """
        head = _headOf(inquiry)
        if not head.isKept:
            return None
        return Keeping(
            head.id,
            head.previous,
            partial(self._body, head),
            partial(self._record, head),
            partial(self._renderer, head),
        )

    def _body(self, head: ResponseHead, events: Sequence[Output] | None) -> bytes:
        renderer = self._renderer(head)
        return renderer.queuedBody() if events is None else renderer.body(events)

    def _record(self, head: ResponseHead, events: Sequence[Output] | None) -> bytes:
        return msgspec.json.encode(
            Record(
                head.input or [],
                msgspec.Raw(self._body(head, events)),
                msgspec.Raw(cutRowJSON(events or ())),
                self._showsReasoning and head.showsReasoning,
                self._showsTools,
            )
        )

    def answerOf(self, record: bytes) -> bytes:
        """
        Return the response object of a record.
        """
        return bytes(readRecord(record).response)

    def inputOf(self, records: Sequence[bytes]) -> Sequence[Mapping[str, Any]]:
        """
        Return the items that led to the response of the last record.
        """
        last = readRecord(records[-1])
        return [*historyFrom(RecordsFound(chain=records[:-1])).items, *last.input]

    def replay(self, record: bytes) -> tuple[ResponsesRenderer, list[Output]]:
        """
        Return what a response was made of, and what writes its stream.
        """
        found = readRecord(record)
        head, completedAt = headFrom(found.response)
        # It is shown as it was then, whatever the settings are now.
        renderer = ResponsesRenderer(
            head,
            now=lambda: completedAt,
            showsReasoning=found.showsReasoning,
            showsTools=found.showsTools,
        )
        return renderer, rowFromJSON(found.output, found.answer.text)

    def interrupted(self, record: bytes) -> bytes:
        """
        Return the record of a response that nobody makes any more.

        @param record: the one from while it was made.
        """
        found = readRecord(record)
        head, _ = headFrom(found.response)
        said = "The server process that made this response is gone."
        head = msgspec.structs.replace(head, input=found.input)
        return self._record(head, [Failed(APIError("worker_lost", said, mayRetry=False))])

    def resumed(self, renderer: Renderer, after: int) -> ResumedRenderer:
        """
        Return what writes the rest of a stream.

        @param after: the number of the last event that is not wanted.
        """
        return ResumedRenderer(renderer, after)

    def deletedBody(self, id: str) -> bytes:
        """
        Return what is said of a response that was deleted.
        """
        return deletedBody(id, "response")


def _headOf(inquiry: Inquiry) -> ResponseHead:
    assert isinstance(inquiry.own, ResponseHead)
    return inquiry.own
