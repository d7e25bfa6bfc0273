# -*- test-case-name: tests.api.responses.test_dialect -*-
"""
The Responses API as a dialect.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from secrets import token_hex
from typing import Final

from openai_server.api.inquiry import Inquiry
from openai_server.api.responses.answer import ResponseHead
from openai_server.api.responses.render import ResponsesRenderer
from openai_server.api.responses.request import inquiryFromBody
from openai_server.api.sse import KEEP_ALIVE_COMMENT

#: What a silent stream says, by the setting; None is an event.
_KEEP_ALIVES: Final[dict[str, bytes | None]] = {"chunk": None, "comment": KEEP_ALIVE_COMMENT}


def _newToken() -> str:
    return token_hex(16)


class ResponsesDialect:
    """
    OpenAI's Responses API, as far as it keeps nothing.
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
        @param now: the wall clock, in seconds since 1970.
        @param newToken: makes what the ids of a response and its items have in
            common.
        """
        self._strict = strict
        self._defaultModel = defaultModel
        self._showsReasoning = showsReasoning
        self._showsTools = showsWorkerTools
        self._keepAlive = _KEEP_ALIVES.get(keepAlive, b"")
        self._now = now
        self._newToken = newToken

    def parse(self, body: bytes) -> Inquiry:
        """
        Return what a request asks.

        @raise APIError: 400, with C{param} where one field is at fault.
        """
        return inquiryFromBody(
            body,
            self._newToken(),
            int(self._now()),
            strict=self._strict,
            defaultModel=self._defaultModel(),
        )

    def renderer(self, inquiry: Inquiry) -> ResponsesRenderer:
        """
        Return what writes the answer.
        """
        assert isinstance(inquiry.own, ResponseHead)
        return ResponsesRenderer(
            inquiry.own,
            now=self._now,
            showsReasoning=self._showsReasoning,
            showsTools=self._showsTools,
            keepAlive=self._keepAlive,
        )
