# -*- test-case-name: tests.api.responses.test_dialect -*-
"""
The Responses API as a dialect.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from secrets import token_hex
from typing import Any

import msgspec

from openai_server.api.inquiry import Inquiry
from openai_server.api.keeping import RecordsWanted
from openai_server.api.output import Output
from openai_server.api.responses.answer import ResponseHead
from openai_server.api.responses.records import History, Record, historyFrom, readRecord
from openai_server.api.responses.render import ResponsesRenderer
from openai_server.api.responses.request import inquiryFromBody
from openai_server.api.sse import keepAliveFrom


def _newToken() -> str:
    return token_hex(16)


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
        newToken: Callable[[], str] = _newToken,
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

    def parse(self, body: bytes, model: str | None = None) -> Inquiry:
        """
        Return what a request asks.

        @param model: what its path asks for, if it does.
        @raise APIError: 400, with C{param} where one field is at fault.
        """
        return self._parse(body, model, None)

    def _parse(self, body: bytes, model: str | None, history: History | None) -> Inquiry:
        return inquiryFromBody(
            body,
            self._newToken(),
            int(self._now()),
            strict=self._strict,
            model=model,
            defaultModel=self._defaultModel,
            keeps=self._keeps,
            history=history,
        )

    def renderer(self, inquiry: Inquiry) -> ResponsesRenderer:
        """
        Return what writes the answer.
        """
        return ResponsesRenderer(
            _headOf(inquiry),
            now=self._now,
            showsReasoning=self._showsReasoning,
            showsTools=self._showsTools,
            keepAlive=self._keepAlive,
        )

    # Records.

    def wanted(self, inquiry: Inquiry) -> RecordsWanted | None:
        """
        Return what is needed to read the request of an inquiry.
        """
        return inquiry.own if isinstance(inquiry.own, RecordsWanted) else None

    def resolved(
        self, body: bytes, model: str | None, chain: Sequence[bytes], others: Mapping[str, bytes]
    ) -> Inquiry:
        """
        Return what a request asks that goes on from kept responses.
        """
        return self._parse(body, model, historyFrom(chain, others))

    def recordId(self, inquiry: Inquiry) -> str | None:
        """
        Return the id of the response, if it is kept.
        """
        head = _headOf(inquiry)
        return None if head.input is None else head.id

    def previousOf(self, inquiry: Inquiry) -> str | None:
        """
        Return the id of the response that an inquiry goes on from.
        """
        return _headOf(inquiry).previous

    def record(self, inquiry: Inquiry, events: Sequence[Output], isCancelled: bool) -> bytes:
        """
        Return the record of a response.
        """
        renderer = self.renderer(inquiry)
        body = renderer.cancelledBody(events) if isCancelled else renderer.body(events)
        return msgspec.json.encode(Record(_headOf(inquiry).input or [], msgspec.Raw(body)))

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
        return [*historyFrom(records[:-1], {}).items, *last.input]


def _headOf(inquiry: Inquiry) -> ResponseHead:
    assert isinstance(inquiry.own, ResponseHead)
    return inquiry.own
