# -*- test-case-name: tests.api.chat.test_dialect -*-
"""
Chat completions as a dialect.
"""

from __future__ import annotations

import time
from collections.abc import Callable

from openai_server.api.chat.render import ChatRenderer, FunctionsRenderer
from openai_server.api.chat.request import inquiryFromBody
from openai_server.api.ids import newIds
from openai_server.api.inquiry import Inquiry
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
        @param now: the wall clock, in seconds since 1970.
        @param newId: makes the id of an answer.
        """
        self._strict = strict
        self._defaultModel = defaultModel
        self._reasoningField = reasoningField
        self._showsTools = showsWorkerTools
        self._keepAlive = keepAliveFrom(keepAlive)
        self._now = now
        self._newId = newId or newIds("chatcmpl-").__next__

    def parse(self, body: bytes, model: str | None = None) -> Inquiry:
        """
        Return what a request asks.

        @param model: what its path asks for, if it does.
        @raise APIError: 400, with C{param} where one field is at fault.
        """
        return inquiryFromBody(body, strict=self._strict, model=model, defaultModel=self._defaultModel)

    def renderer(self, inquiry: Inquiry) -> ChatRenderer:
        """
        Return what writes the answer, under an id of its own.
        """
        # Calls without ids are the deprecated shape.
        kind = ChatRenderer if inquiry.showsCallIds else FunctionsRenderer
        return kind(
            self._newId(),
            int(self._now()),
            inquiry.model,
            wantsUsage=inquiry.wantsUsage,
            reasoningField=self._reasoningField,
            showsTools=self._showsTools,
            keepAlive=self._keepAlive,
        )

    def keeping(self, inquiry: Inquiry) -> None:
        """
        Keep no answer.
        """
