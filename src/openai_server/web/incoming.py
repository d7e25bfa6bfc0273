# -*- test-case-name: tests.web.test_incoming -*-
"""
A chat request as it came over HTTP, with all that is worked out of it once.
"""

from __future__ import annotations

from collections.abc import Callable, Container, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import msgspec

from openai_server.api.chat import ChatRequest, parse
from openai_server.api.messages import Message
from openai_server.config import Configuration
from openai_server.sessions.chains import Transcript
from openai_server.sessions.contexts import Catalogue, catalogueFrom, contextFrom
from openai_server.sessions.hiding import checkNames, roomBeside
from openai_server.sessions.hints import Hint, hintsFrom
from openai_server.sessions.plans import Asked
from openai_server.sessions.retries import fingerprint
from openai_server.translate.prompt import formatInstruction, ownSystemText
from openai_server.translate.schema import checkSchema
from openai_server.translate.tools import Offer, offerFromRequest


@dataclass(frozen=True)
class Incoming:
    """
    One request.

    @ivar takenNames: names of tools that other bees list.
    @ivar catalogue: the tools that its prompt offers, None for none.
    @ivar fingerprint: equal for a request and its retry.
    @ivar retryCount: how often its SDK has sent it before.
    @ivar grace: seconds that its answer waits for a retry when the client is
        lost before anything was sent.
    """

    account: str
    chat: ChatRequest
    hints: Sequence[Hint]
    transcript: Transcript
    offer: Offer
    takenNames: Container[str]
    catalogue: Catalogue | None
    fingerprint: bytes
    retryCount: int
    idempotencyKey: str | None
    grace: float

    @property
    def isLegacy(self) -> bool:
        """
        It is answered in the shape of the deprecated C{functions}.
        """
        return self.chat.isLegacy

    @property
    def wantsJSON(self) -> bool:
        """
        The answer is to be JSON.
        """
        wanted = self.chat.response_format
        return wanted is not None and wanted.type != "text"

    @property
    def schema(self) -> dict[str, Any] | None:
        """
        The JSON Schema that the answer is to follow.
        """
        return _schemaOf(self.chat)

    @property
    def asked(self) -> Asked:
        """
        What decides about its session.
        """
        own = ownSystemText(self.chat)
        wishes = (self.offer.systemText, self.offer.instruction, formatInstruction(self.chat.response_format))
        context = contextFrom(self.chat.model, own, self.catalogue, *wishes)
        return Asked(self.account, self.hints, context, self.transcript, own)

    def followedBy(self, *messages: Message) -> Incoming:
        """
        The same request with a longer transcript.
        """
        chat = msgspec.structs.replace(self.chat, messages=(*self.chat.messages, *messages))
        return replace(self, chat=chat, transcript=Transcript.fromMessages(chat.messages))

    def naming(self, tools: Mapping[int, str]) -> Incoming:
        """
        The same request, in which results say of which tool they are.

        @param tools: names by the index of the result's message.
        """
        messages = [
            msgspec.structs.replace(message, name=tools[at]) if at in tools else message
            for at, message in enumerate(self.chat.messages)
        ]
        return replace(self, chat=msgspec.structs.replace(self.chat, messages=tuple(messages)))


class Reader:
    """
    Reads requests as the settings want it.
    """

    def __init__(
        self,
        configuration: Configuration,
        defaultModel: Callable[[], str | None],
        takenNames: Callable[[], Container[str]],
    ) -> None:
        """
        @param defaultModel: what a request without a model asks for.
        @param takenNames: names of tools that other bees list.
        """
        self._configuration = configuration
        self._defaultModel = defaultModel
        self._takenNames = takenNames
        self._room = roomBeside(configuration.disallowedTools)

    def read(self, account: str, headers: Mapping[str, str], body: bytes) -> Incoming:
        """
        A request from its headers and its body.

        @param headers: names in lower case.
        @raise APIError: 400.
        """
        chat = parse(body, strict=self._configuration.strict, defaultModel=self._defaultModel())
        hints = hintsFrom(
            headers,
            metadata=chat.metadata,
            sessionId=chat.session_id,
            chatId=chat.chat_id,
            promptCacheKey=chat.prompt_cache_key,
            user=chat.user,
        )
        schema = _schemaOf(chat)
        if schema is not None:
            checkSchema(schema, "response_format.json_schema.schema")
        taken = self._takenNames()
        offer = offerFromRequest(chat, taken)
        catalogue = catalogueFrom(offer.definitions)
        if catalogue is not None:
            checkNames(catalogue.names, self._room, "functions" if chat.isLegacy else "tools")
        idempotencyKey = headers.get("idempotency-key") or None
        mayBeRetried = "x-stainless-retry-count" in headers or idempotencyKey is not None
        return Incoming(
            account=account,
            chat=chat,
            hints=hints,
            transcript=Transcript.fromMessages(chat.messages),
            offer=offer,
            takenNames=taken,
            catalogue=catalogue,
            fingerprint=fingerprint(body, hints),
            retryCount=_count(headers.get("x-stainless-retry-count", "")),
            idempotencyKey=idempotencyKey,
            grace=self._configuration.retryGrace if mayBeRetried else 0,
        )


def _schemaOf(chat: ChatRequest) -> dict[str, Any] | None:
    wanted = chat.response_format
    if wanted is None or wanted.type != "json_schema" or wanted.json_schema is None:
        return None
    return wanted.json_schema.schema


def _count(said: str) -> int:
    return int(said) if said.isascii() and said.isdigit() and len(said) < 6 else 0
