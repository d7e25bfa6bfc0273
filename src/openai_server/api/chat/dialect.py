# -*- test-case-name: tests.api.chat.test_dialect -*-
"""
Chat completions as a dialect.
"""

from __future__ import annotations

import os
import time
from base64 import urlsafe_b64encode
from collections.abc import Callable, Iterator
from typing import Final

from openai_server.api.chat.render import ChatRenderer, FunctionsRenderer
from openai_server.api.chat.request import inquiryFromBody
from openai_server.api.inquiry import Inquiry
from openai_server.api.sse import KEEP_ALIVE_COMMENT

#: Random bytes of an id, a multiple of 3, and ids that are drawn at a time.
_ID_BYTES: Final = 18
_IDS: Final = 256
_ID_LENGTH: Final = _ID_BYTES * 4 // 3

#: What a silent stream says, by the setting; None is an empty chunk.
_KEEP_ALIVES: Final[dict[str, bytes | None]] = {"chunk": None, "comment": KEEP_ALIVE_COMMENT}


def _newIds() -> Iterator[str]:
    while True:
        drawn = urlsafe_b64encode(os.urandom(_ID_BYTES * _IDS)).decode()
        for at in range(0, len(drawn), _ID_LENGTH):
            yield "chatcmpl-" + drawn[at : at + _ID_LENGTH]


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
        self._keepAlive = _KEEP_ALIVES.get(keepAlive, b"")
        self._now = now
        self._newId = newId or _newIds().__next__

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
