"""
Tests for L{openai_server.web.incoming}: what is worked out of a request.
"""

from __future__ import annotations

import json
from typing import Any

from openai_server.api.chat.dialect import ChatDialect
from openai_server.api.inquiry import Message
from openai_server.config import Configuration
from openai_server.errors import APIError
from openai_server.web.incoming import Incoming, Reader
from tests.support import SyncCase

TOOL = {"type": "function", "function": {"name": "look", "parameters": {"type": "object"}}}


class ReaderTests(SyncCase):
    """
    Requests as values.
    """

    def read(self, headers: dict[str, str] | None = None, **fields: Any) -> Incoming:
        """
        A request with these fields.
        """
        reader = Reader(Configuration(retryGrace=2), lambda: {"taken"})
        dialect = ChatDialect(defaultModel=lambda: "default")
        body = {"messages": [{"role": "user", "content": "hi"}], **fields}
        return reader.read(dialect, "account", headers or {}, json.dumps(body).encode())

    def test_defaultModel(self) -> None:
        """
        A request without a model asks for the default one.
        """
        self.assertEqual(self.read().inquiry.model, "default")
        self.assertEqual(self.read(model="other").inquiry.model, "other")

    def test_retryCountAndGrace(self) -> None:
        """
        Only clients that may ask again are waited for; nonsense counts as 0.
        """
        cases = [
            ({}, 0, 0),
            ({"x-stainless-retry-count": "0"}, 0, 2),
            ({"x-stainless-retry-count": "2"}, 2, 2),
            ({"x-stainless-retry-count": "-1"}, 0, 2),
            ({"x-stainless-retry-count": "9" * 5000}, 0, 2),
            ({"x-stainless-retry-count": "\u0662"}, 0, 2),
            ({"idempotency-key": "k"}, 0, 2),
            ({"idempotency-key": ""}, 0, 0),
        ]
        for headers, count, grace in cases:
            incoming = self.read(headers)
            self.assertEqual((incoming.retryCount, incoming.grace), (count, grace), headers)

    def test_contextChangesWithEverythingAWarmWorkerIgnores(self) -> None:
        """
        Model, system prompt, tools, wishes about calls and format (U33).
        """
        system = {"role": "system", "content": "be brief"}
        user = {"role": "user", "content": "hi"}
        contexts = [
            self.read(**fields).asked.context
            for fields in (
                {},
                {"model": "other"},
                {"messages": [system, user]},
                {"tools": [TOOL]},
                {"tools": [TOOL], "tool_choice": "required"},
                {"response_format": {"type": "json_object"}},
            )
        ]
        self.assertEqual(len(set(contexts)), len(contexts))
        self.assertEqual(self.read(temperature=1, stream=True).asked.context, contexts[0])

    def test_takenNameIsTranslated(self) -> None:
        """
        A name that another bee lists does not go out as it is.
        """
        tool = {"type": "function", "function": {"name": "taken"}}
        [definition] = self.read(tools=[tool, TOOL]).offer.definitions[:1]
        self.assertNotEqual(definition.name, "taken")

    def test_schemaThatIsNoneIsRefused(self) -> None:
        """
        Before anything is asked.
        """
        wrong = {"type": "json_schema", "json_schema": {"name": "x", "schema": {"type": "no type"}}}
        error = self.assertRaises(APIError, self.read, response_format=wrong)
        self.assertEqual(error.param, "response_format.json_schema.schema")

    def test_longerTranscriptKeepsTheRest(self) -> None:
        """
        A repair asks the same with two messages more.
        """
        incoming = self.read(model="m", user="u")
        longer = incoming.followedBy(Message("assistant", "{"), Message("user", "again"))
        self.assertEqual(len(longer.transcript.entries), 3)
        self.assertEqual((longer.inquiry.model, longer.hints), ("m", incoming.hints))
        self.assertEqual(longer.asked.context, incoming.asked.context)

    def test_namesThatCannotBeHidden(self) -> None:
        """
        What the settings disallow and the names of a request's tools go into
        one argument of bounded length.
        """
        reader = Reader(Configuration(disallowedTools=("x" * 99_900,)), frozenset)
        chat = ChatDialect(defaultModel=lambda: "m")
        functions = [{"name": f"{number}".zfill(40)} for number in range(2)]
        tools = [{"type": "function", "function": function} for function in functions]
        for field, given in (("tools", tools), ("functions", functions)):
            body: dict[str, Any] = {"messages": [{"role": "user", "content": "hi"}], field: given[:1]}
            self.assertIsNotNone(reader.read(chat, "a", {}, json.dumps(body).encode()).catalogue)
            body[field] = given
            failure = self.assertRaises(APIError, reader.read, chat, "a", {}, json.dumps(body).encode())
            self.assertEqual((failure.kind.status, failure.param), (400, field))
