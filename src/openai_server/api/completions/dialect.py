# -*- test-case-name: tests.api.completions.test_dialect -*-
"""
Legacy completions as a dialect.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import cast

from openai_server.api.completions.render import CompletionRenderer
from openai_server.api.completions.request import inquiryFromBody
from openai_server.api.ids import newIds
from openai_server.api.inquiry import Inquiry
from openai_server.api.sse import keepAliveFrom


class CompletionDialect:
    """
    OpenAI's legacy completions: texts that are gone on with.
    """

    name = "completions"

    def __init__(
        self,
        *,
        strict: bool = False,
        defaultModel: Callable[[], str | None] = lambda: None,
        keepAlive: str = "chunk",
        now: Callable[[], float] = time.time,
        newId: Callable[[], str] | None = None,
    ) -> None:
        """
        @param strict: refuse fields that OpenAI does not know.
        @param defaultModel: tells what a request without a model asks for.
        @param keepAlive: what a silent stream says: C{chunk} or C{comment};
            anything else is nothing.
        @param now: the wall clock, in seconds since 1970.
        @param newId: makes the id of an answer.
        """
        self._strict = strict
        self._defaultModel = defaultModel
        self._keepAlive = keepAliveFrom(keepAlive)
        self._now = now
        self._newId = newId or newIds("cmpl-").__next__

    def parse(self, body: bytes, model: str | None = None) -> Inquiry:
        """
        Return what a request asks.

        @param model: what its path asks for, if it does.
        @raise APIError: 400, with C{param} where one field is at fault.
        """
        return inquiryFromBody(body, strict=self._strict, model=model, defaultModel=self._defaultModel)

    def renderer(self, inquiry: Inquiry) -> CompletionRenderer:
        """
        Return what writes the answer, under an id of its own.
        """
        return CompletionRenderer(
            self._newId(),
            int(self._now()),
            inquiry.model,
            cast("Sequence[str]", inquiry.own),
            wantsUsage=inquiry.wantsUsage,
            keepAlive=self._keepAlive,
        )

    def keeping(self, inquiry: Inquiry) -> None:
        """
        Keep no answer.
        """
