# -*- test-case-name: tests.sessions.test_entries -*-
"""
Messages as sessions compare them: what it takes for a message that a client
sends again to be the same message.

Clients do not send back the bytes that they sent or were given. What they are
known to change does not count here:

  - content as a string, or as one part of text, or as several that join to it;
  - white space around a text;
  - the C{name} that frameworks write on assistants and on tool results;
  - the arguments under a call id of this server's: frameworks parse them and
    write them anew, and such an id cannot be guessed and is never given twice.
    The arguments of a call with a foreign id, or without any, do count.

Everything else does: roles, order, text, images and files, call ids and
results, the names of users.
"""

from __future__ import annotations

from collections.abc import Iterable
from hashlib import blake2b

import msgspec

from openai_server.api.inquiry import Call, Media, Message
from openai_server.sessions.ids import isPublicCallId

_encode = msgspec.json.Encoder().encode


class Entry(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """
    One message, reduced to what is compared.

    @ivar role: C{system}, C{user}, C{assistant} or C{tool}.
    @ivar calls: what names each call of an assistant's message.
    @ivar resultFor: the call id that a tool's message answers.
    @ivar name: of a user's or system's message, and of the tool whose result
        answers no call id.
    """

    role: str
    text: str = ""
    calls: tuple[str, ...] = ()
    resultFor: str | None = None
    name: str | None = None


def entriesFrom(messages: Iterable[Message]) -> list[Entry]:
    """
    One entry for each message, in order.
    """
    return [_entry(message) for message in messages]


def answerEntry(text: str, calls: Iterable[str]) -> Entry:
    """
    An answer of this server's, as the client will send it back.

    @param text: as it was delivered.
    @param calls: what names each call: its public id, or where calls are
        shown without ids the L{callWithoutId}.
    """
    return Entry("assistant", text.strip(), tuple(calls))


def callWithoutId(name: str, arguments: str) -> str:
    """
    What names a call that has no id of ours.
    """
    return f"{name}\0{arguments}"


def _entry(message: Message) -> Entry:
    content = message.content
    text = content.strip() if type(content) is str else "".join(map(_fromPart, content)).strip()
    role = message.role
    if role == "assistant":
        return Entry("assistant", text, tuple(map(_call, message.calls)) if message.calls else ())
    if role == "tool" and message.callId:
        return Entry("tool", text, (), message.callId)
    return Entry(role, text, (), None, message.name)


def _fromPart(part: str | Media) -> str:
    if type(part) is str:
        return part
    # An image of megabytes is not kept.
    assert isinstance(part, Media)
    said = _encode((part.kind, part.source, part.format, part.name))
    return "\0" + blake2b(said, digest_size=16).hexdigest()


def _call(call: Call) -> str:
    if not call.id:
        return callWithoutId(call.name, call.arguments)
    return call.id if isPublicCallId(call.id) else f"{call.id}\0{callWithoutId(call.name, call.arguments)}"
