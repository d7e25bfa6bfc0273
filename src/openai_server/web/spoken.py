# -*- test-case-name: tests.test_world -*-
"""
The dialects of OpenAI's that are spoken, and at which paths.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from openai_server.api.chat.dialect import ChatDialect
from openai_server.api.completions.dialect import CompletionDialect
from openai_server.api.dialect import Dialect
from openai_server.api.responses.compaction import CompactionDialect
from openai_server.api.responses.dialect import ResponsesDialect
from openai_server.config import Configuration


class SpokenDialects:
    """
    Each dialect, as the settings want it.

    @ivar byPath: all of them, by the paths at which questions are asked.
    """

    def __init__(
        self,
        configuration: Configuration,
        defaultModel: Callable[[], str | None],
        now: Callable[[], float],
        others: Mapping[str, Dialect],
    ) -> None:
        """
        @param defaultModel: gives the model of requests that name none.
        @param now: the wall clock, in seconds since 1970.
        @param others: what else is spoken at which path.
        """
        strict, keeps = configuration.strict, configuration.keptResponses > 0
        keepAlive, showsWorkerTools = configuration.keepAlive, configuration.workerTools
        self.chat = ChatDialect(
            strict=strict,
            defaultModel=defaultModel,
            reasoningField=configuration.reasoningField,
            showsWorkerTools=showsWorkerTools,
            keepAlive=keepAlive,
            keeps=keeps,
            now=now,
        )
        self.responses = ResponsesDialect(
            strict=strict,
            defaultModel=defaultModel,
            showsReasoning=configuration.reasoningField != "none",
            showsWorkerTools=showsWorkerTools,
            keepAlive=keepAlive,
            keeps=keeps,
            now=now,
        )
        self.byPath: Mapping[str, Dialect] = {
            "/v1/chat/completions": self.chat,
            "/v1/completions": CompletionDialect(
                strict=strict, defaultModel=defaultModel, keepAlive=keepAlive, now=now
            ),
            "/v1/responses": self.responses,
            "/v1/responses/compact": CompactionDialect(strict=strict, now=now),
            **others,
        }
