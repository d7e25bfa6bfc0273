# -*- test-case-name: tests.web.test_incoming -*-
"""
A request as it came over HTTP, with all that is worked out of it once.
"""

from __future__ import annotations

from collections.abc import Callable, Container, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import msgspec

from openai_server.api.dialect import Dialect
from openai_server.api.inquiry import Inquiry, Message
from openai_server.config import Configuration
from openai_server.sessions.chains import Transcript
from openai_server.sessions.contexts import Catalogue, catalogueFrom, contextFrom
from openai_server.sessions.hiding import checkNames, roomBeside
from openai_server.sessions.hints import Hint, hintsFrom
from openai_server.sessions.plans import Asked
from openai_server.sessions.retries import fingerprint
from openai_server.translate.prompt import formatInstruction, ownSystemText
from openai_server.translate.schema import checkSchema
from openai_server.translate.tools import Offer, offerFrom


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
    dialect: Dialect
    inquiry: Inquiry
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
    def schema(self) -> dict[str, Any] | None:
        """
        The JSON Schema that the answer is to follow.
        """
        return self.inquiry.format.schema

    @property
    def asked(self) -> Asked:
        """
        What decides about its session.
        """
        own = ownSystemText(self.inquiry)
        wishes = (self.offer.systemText, self.offer.instruction, formatInstruction(self.inquiry.format))
        context = contextFrom(self.inquiry.model, own, self.catalogue, *wishes)
        return Asked(self.account, self.hints, context, self.transcript, own)

    def followedBy(self, *messages: Message) -> Incoming:
        """
        The same request with a longer transcript.
        """
        inquiry = self.inquiry.withMessages((*self.inquiry.messages, *messages))
        return replace(self, inquiry=inquiry, transcript=Transcript.fromMessages(inquiry.messages))

    def naming(self, tools: Mapping[int, str]) -> Incoming:
        """
        The same request, in which results say of which tool they are.

        @param tools: names by the index of the result's message.
        """
        messages = [
            msgspec.structs.replace(message, name=tools[at]) if at in tools else message
            for at, message in enumerate(self.inquiry.messages)
        ]
        return replace(self, inquiry=self.inquiry.withMessages(tuple(messages)))


class Reader:
    """
    Reads requests as the settings want it.
    """

    def __init__(
        self,
        configuration: Configuration,
        takenNames: Callable[[], Container[str]],
    ) -> None:
        """
        @param takenNames: names of tools that other bees list.
        """
        self._configuration = configuration
        self._takenNames = takenNames
        self._room = roomBeside(configuration.disallowedTools)

    def read(self, dialect: Dialect, account: str, headers: Mapping[str, str], body: bytes) -> Incoming:
        """
        A request from its headers and its body.

        @param headers: names in lower case.
        @raise APIError: 400.
        """
        inquiry = dialect.parse(body)
        hints = hintsFrom(headers, metadata=inquiry.metadata, user=inquiry.user)
        wanted = inquiry.format
        if wanted.schema is not None:
            checkSchema(wanted.schema, wanted.param)
        taken = self._takenNames()
        offer = offerFrom(inquiry, taken)
        catalogue = catalogueFrom(offer.definitions)
        if catalogue is not None:
            checkNames(catalogue.names, self._room, inquiry.toolsParam)
        idempotencyKey = headers.get("idempotency-key") or None
        mayBeRetried = "x-stainless-retry-count" in headers or idempotencyKey is not None
        return Incoming(
            account=account,
            dialect=dialect,
            inquiry=inquiry,
            hints=hints,
            transcript=Transcript.fromMessages(inquiry.messages),
            offer=offer,
            takenNames=taken,
            catalogue=catalogue,
            fingerprint=fingerprint(body, hints),
            retryCount=_count(headers.get("x-stainless-retry-count", "")),
            idempotencyKey=idempotencyKey,
            grace=self._configuration.retryGrace if mayBeRetried else 0,
        )


def _count(said: str) -> int:
    return int(said) if said.isascii() and said.isdigit() and len(said) < 6 else 0
