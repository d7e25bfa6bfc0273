# -*- test-case-name: tests.api.chat.test_records -*-
"""
What is kept of a chat completion: its object with the request's metadata, and
apart from it the request's messages, each as one item.

Both are as OpenAI's reference shows them: a message's id is that of the
completion with a number, and C{content_parts} has its content where that was
parts.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

import msgspec

from openai_server.api.body import objectFromBody
from openai_server.api.chat.messages import TEXTUAL
from openai_server.api.chat.render import callObject
from openai_server.api.chat.structs import AddressBody, MessageBody, PartBody
from openai_server.api.inquiry import Message
from openai_server.api.rules import checkMetadata, missing, unknown
from openai_server.api.unread import safeName
from openai_server.errors import APIError

#: What the id of every completion begins with.
PREFIX: Final = "chatcmpl-"

_encode = msgspec.json.Encoder().encode


class ChatHead(msgspec.Struct, frozen=True):
    """
    What is known from the beginning of a completion that is to be kept.

    @ivar created: seconds since 1970.
    @ivar messages: those of the request, as they are kept: each with its id.
    """

    id: str
    created: int
    metadata: dict[str, str]
    messages: Sequence[tuple[str, bytes]]

    @property
    def names(self) -> tuple[str, int]:
        """
        See L{openai_server.api.inquiry.NamedAnswer}.
        """
        return self.id, self.created

    def named(self, token: str, createdAt: int) -> ChatHead:
        """
        See L{openai_server.api.inquiry.NamedAnswer}.
        """
        return msgspec.structs.replace(self, id=token, created=createdAt)


class Described(msgspec.Struct):
    """
    What completions are told apart by.
    """

    model: str
    metadata: dict[str, str]


_describe = msgspec.json.Decoder(Described).decode
_members = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode


def recordFrom(body: bytes, metadata: Mapping[str, str]) -> bytes:
    """
    Return the record of a completion.

    @param body: the completion's object.
    """
    return b'%b,"metadata":%b}' % (body.removesuffix(b"}"), _encode(metadata))


def isDescribedBy(record: bytes, model: str | None, metadata: Mapping[str, str]) -> bool:
    """
    Return whether a record is of a completion by this model, if one is given,
    with all of this metadata.
    """
    if model is None and not metadata:
        return True
    found = _describe(record)
    return model in (None, found.model) and metadata.items() <= found.metadata.items()


def changedRecord(record: bytes, body: bytes, strict: bool) -> bytes:
    """
    Return a record with other metadata.

    @param body: of the request that asks for it.
    @param strict: refuse fields that OpenAI does not know.
    @raise APIError: 400, with C{param} where one field is at fault.
    """
    given = objectFromBody(body)
    if "metadata" not in given:
        raise missing("metadata")
    if strict and (more := given.keys() - {"metadata"}):
        raise unknown(safeName(min(more)))
    try:
        metadata = msgspec.convert(given["metadata"], dict[str, str] | None) or {}
    except msgspec.ValidationError:
        said = "Metadata has strings as its values, and is an object or null."
        raise APIError("invalid_type", said, param="metadata") from None
    checkMetadata(metadata)
    return _encode({**_members(record), "metadata": metadata})


# Messages.


def storedMessages(
    id: str, found: Sequence[MessageBody], messages: Sequence[Message]
) -> Sequence[tuple[str, bytes]]:
    """
    Return the messages of a request as they are kept.

    @param id: the completion's.
    @param found: the messages as they were sent.
    @param messages: the same as they were understood.
    """
    stored = []
    for index, each in enumerate(zip(found, messages, strict=True)):
        own = f"{id}-{index}"
        stored.append((own, _encode(_stored(own, *each))))
    return stored


def _stored(id: str, found: MessageBody, message: Message) -> dict[str, Any]:
    content = found.content
    parts = [_partObject(part) for part in content] if isinstance(content, tuple) else None
    shown: dict[str, Any] = {
        "id": id,
        "role": found.role,
        "content": content if parts is None else None,
        "refusal": found.refusal,
        "content_parts": parts,
    }
    if found.name is not None:
        shown["name"] = found.name
    if found.tool_call_id is not None:
        shown["tool_call_id"] = found.tool_call_id
    calls = [callObject(call) for call in message.calls]
    if found.function_call is not None:
        # It is the last one.
        shown["function_call"] = calls.pop()["function"]
    if calls:
        shown["tool_calls"] = calls
    return shown


def _partObject(part: PartBody) -> Any:
    if part.type in TEXTUAL:
        return {"type": "text", "text": part.text}
    address = part.image_url
    if isinstance(address, str):
        return _sent(PartBody("image_url", image_url=AddressBody(address)))
    return _sent(part)


def _sent(value: Any) -> Any:
    if not isinstance(value, msgspec.Struct):
        return value
    members = ((name, getattr(value, name)) for name in value.__struct_fields__)
    return {name: _sent(member) for name, member in members if member is not None}
