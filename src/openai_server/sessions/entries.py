# -*- test-case-name: tests.sessions.test_entries -*-
"""
Messages as sessions compare them: what it takes for a message that a client
sends again to be the same message.

Clients do not send back the bytes that they sent or were given. What they are
known to change does not count here:

  - content as a string, or as one part of text, or as several that join to it;
  - null, absent and empty content;
  - white space around a text;
  - C{developer} and C{system};
  - reasoning that is echoed back, the C{name} that frameworks write on
    assistants and on tool results;
  - the arguments under a call id of this server's: frameworks parse them and
    write them anew, and such an id cannot be guessed and is never given twice.
    The arguments of a call with a foreign id, or of the deprecated
    C{function_call} without any, do count.

Everything else does: roles, order, text, images and files, call ids and
results, the names of users.
"""

from __future__ import annotations

from collections.abc import Iterable
from hashlib import blake2b

import msgspec

from openai_server.api.messages import Message, Part, ToolCall, callsOf
from openai_server.sessions.ids import isPublicCallId

_encode = msgspec.json.Encoder(order="deterministic").encode


class Entry(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """
    One message, reduced to what is compared.

    @ivar role: C{system}, C{user}, C{assistant}, C{tool} or C{function}.
    @ivar calls: what names each call of an assistant's message.
    @ivar resultFor: the call id that a tool's message answers.
    @ivar name: of a user's or system's message, and of a function's result.
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
    @param calls: what names each call: its public id, or for the deprecated
        C{function_call} the L{callWithoutId}.
    """
    return Entry("assistant", text.strip(), tuple(calls))


def callWithoutId(name: str, arguments: object) -> str:
    """
    What names a call that has no id of ours.
    """
    return f"{name}\0{_words(arguments)}"


def _entry(message: Message) -> Entry:
    text = _text(message)
    match message.role:
        case "user":
            return Entry("user", text, (), None, message.name)
        case "assistant":
            return Entry("assistant", text, tuple(map(_call, callsOf(message))))
        case "tool":
            return Entry("tool", text, (), message.tool_call_id)
        case "function":
            return Entry("function", text, (), None, message.name)
        case _:
            return Entry("system", text, (), None, message.name)


def _text(message: Message) -> str:
    content = message.content
    if not content:
        return (message.refusal or "").strip()
    if isinstance(content, str):
        return content.strip()
    return "".join(map(_fromPart, content)).strip()


def _fromPart(part: Part) -> str:
    words = part.words
    return _digested(part) if words is None else words


def _digested(part: Part) -> str:
    # An image of megabytes is not kept, and its address may be an object or a
    # plain string.
    image = part.image_url
    source = image if image is None or isinstance(image, str) else image.url
    return "\0" + blake2b(_encode((source, part.input_audio, part.file)), digest_size=16).hexdigest()


def _call(call: ToolCall) -> str:
    if call.id is not None and isPublicCallId(call.id):
        return call.id
    made = callWithoutId(call.custom.name, call.custom.input) if call.custom is not None else ""
    if call.function is not None:
        made = callWithoutId(call.function.name, call.function.arguments)
    return made if call.id is None else f"{call.id}\0{made}"


def _words(value: object) -> str:
    return value if isinstance(value, str) else _encode(value).decode()
