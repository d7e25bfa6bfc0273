# -*- test-case-name: tests.api.responses.test_input -*-
"""
The input of a request for a response, as messages.

What the model said in one answer comes back as several items: reasoning, text,
calls. Together they are one message of the assistant's here, as they were one
answer.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Final, TypeVar

import msgspec

from openai_server.api.arguments import argumentsText
from openai_server.api.body import converted
from openai_server.api.inquiry import Call, Media, Message, Role
from openai_server.api.responses.records import NO_HISTORY, History
from openai_server.api.responses.structs import (
    InputAddressBody,
    InputCallBody,
    InputCompactionBody,
    InputMessageBody,
    InputPartBody,
    InputResultBody,
)
from openai_server.api.rules import MAX_MESSAGES, missing, present
from openai_server.api.unread import UnreadNames, safeName
from openai_server.errors import APIError

_Body = TypeVar("_Body", bound=msgspec.Struct)

_ROLES: Final[dict[str, Role]] = {
    "developer": "system",
    "system": "system",
    "user": "user",
    "assistant": "assistant",
}
#: Kinds of content parts that hold text.
_TEXTUAL: Final = frozenset({"input_text", "output_text", "text"})
_PARTS: Final = _TEXTUAL | {"refusal", "input_image", "input_file", "input_audio"}
#: Kinds of an assistant's parts that are no answer.
_REASONING: Final = frozenset({"reasoning_text", "summary_text", "thinking", "reasoning"})
#: Items that say nothing to a model, and are missed by nobody: the worker knows
#: what it did itself.
_SILENT: Final = frozenset({"reasoning", "mcp_call", "mcp_list_tools"})


def messagesFromInput(
    found: str | Sequence[Any], unread: UnreadNames, history: History = NO_HISTORY, name: str = "input"
) -> tuple[Message, ...]:
    """
    Return what an input says. Items of kinds that are not known here are kept
    as calls and results where they are such, and else left out.

    @param unread: is told of what is left out.
    @param history: what was said before, and what opens compactions.
    @param name: the name of the input's field.
    @raise APIError: 400 with a C{param} like C{input[2].content[0].type}.
    """
    if isinstance(found, str):
        found = [{"role": "user", "content": found}] if found else []
    if len(found) + len(history.items) > MAX_MESSAGES:
        raise APIError("invalid_value", f"More than {MAX_MESSAGES} items.", param=name)
    reader = _Reader(unread, name, history.opened)
    for item in history.items:
        reader.read(item, history.source)
    for index, item in enumerate(found):
        reader.read(item, f"{name}[{index}]")
    return reader.finish()


class _Reader:
    """
    Reads items one after the other.

    @ivar _parts: what the assistant said since anybody else did.
    @ivar _calls: what it called.
    @ivar _isAnswer: whether there was any of that.
    """

    def __init__(self, unread: UnreadNames, name: str, opened: Callable[[str], str | None]) -> None:
        self._unread = unread
        self._name = name
        self._opened = opened
        self._messages: list[Message] = []
        self._parts: list[str | Media] = []
        self._calls: list[Call] = []
        self._isAnswer = False

    def finish(self) -> tuple[Message, ...]:
        self._endAnswer()
        return tuple(self._messages)

    def read(self, item: Any, where: str) -> None:
        if not isinstance(item, dict):
            raise APIError("invalid_type", "An item of the input is an object.", param=where)
        kind = item.get("type")
        if kind is None:
            kind = "message" if "role" in item else "item_reference"
        if not isinstance(kind, str):
            raise APIError("invalid_type", "An item's type is a string.", param=f"{where}.type")
        read = _READERS.get(kind)
        if read is not None:
            read(self, {name: value for name, value in item.items() if value is not None}, where)
        elif kind not in _SILENT:
            self._foreign(kind, item)

    # Kinds of items.

    def _message(self, item: dict[str, Any], where: str) -> None:
        found = self._as(InputMessageBody, item, where)
        role = _ROLES.get(found.role)
        if role is None:
            said = f"Unknown role; known are {', '.join(_ROLES)}."
            raise APIError("invalid_value", said, param=f"{where}.role")
        if role == "assistant":
            self._isAnswer = True
            if found.content is not None:
                self._parts += _answerParts(found.content, f"{where}.content")
            return
        content = present(found.content, f"{where}.content")
        if not isinstance(content, str):
            hasMedia = role == "user"
            content = tuple(_parts(content, f"{where}.content", hasMedia))
        self._say(Message(role, content, found.name))

    def _call(self, item: dict[str, Any], where: str) -> None:
        found = self._as(InputCallBody, item, where)
        self._called(Call(found.call_id or "", found.name, argumentsText(found.arguments)))

    def _customCall(self, item: dict[str, Any], where: str) -> None:
        found = self._as(InputCallBody, item, where)
        self._called(Call(found.call_id or "", found.name, found.input or "", "custom"))

    def _result(self, item: dict[str, Any], where: str) -> None:
        found = self._as(InputResultBody, item, where)
        output: str | tuple[str | Media, ...] = ""
        if isinstance(found.output, str):
            output = found.output
        elif found.output is not None:
            output = tuple(_parts(found.output, f"{where}.output", True))
        self._say(Message("tool", output, callId=found.call_id))

    def _compaction(self, item: dict[str, Any], where: str) -> None:
        found = self._as(InputCompactionBody, item, where)
        text = self._opened(found.encrypted_content)
        if text is None:
            said = "This compaction was made elsewhere, with another key or before a restart."
            raise APIError("invalid_value", said, param=f"{where}.encrypted_content")
        self._say(Message("user", text))

    def _reference(self, item: dict[str, Any], where: str) -> None:
        # Those that are kept stand in the places of their references already.
        said = f"Item with id '{safeName(str(item.get('id')))}' not found: send it whole."
        raise APIError("invalid_value", said, param=f"{where}.id")

    def _foreign(self, kind: str, item: dict[str, Any]) -> None:
        callId = item.get("call_id")
        if not isinstance(callId, str):
            self._unread.add(safeName(kind), True, self._name)
        elif kind.endswith("_output"):
            self._say(Message("tool", argumentsText(item.get("output")), callId=callId))
        else:
            told = {name: item[name] for name in item.keys() - {"type", "id", "call_id", "status"}}
            self._called(Call(callId, kind.removesuffix("_call"), argumentsText(told)))

    # What they come to.

    def _as(self, kind: type[_Body], item: dict[str, Any], where: str) -> _Body:
        fields = frozenset(kind.__struct_fields__)
        for name in item.keys() - fields:
            self._unread.add(name, item[name], where)
        return converted({name: item[name] for name in item.keys() & fields}, kind, where)

    def _called(self, call: Call) -> None:
        self._isAnswer = True
        self._calls.append(call)

    def _say(self, message: Message) -> None:
        self._endAnswer()
        self._messages.append(message)

    def _endAnswer(self) -> None:
        if not self._isAnswer:
            return
        parts = self._parts
        isPlain = len(parts) == 1 and isinstance(parts[0], str)
        content: Any = parts[0] if isPlain else tuple(parts)
        self._messages.append(Message("assistant", content, calls=tuple(self._calls)))
        self._parts, self._calls, self._isAnswer = [], [], False


_READERS: Final[dict[str, Callable[[_Reader, dict[str, Any], str], None]]] = {
    "message": _Reader._message,
    "function_call": _Reader._call,
    "custom_tool_call": _Reader._customCall,
    "function_call_output": _Reader._result,
    "custom_tool_call_output": _Reader._result,
    "compaction": _Reader._compaction,
    "item_reference": _Reader._reference,
}


def _answerParts(content: str | Sequence[InputPartBody], where: str) -> list[str | Media]:
    if isinstance(content, str):
        return [content] if content else []
    parts: list[str | Media] = []
    for index, part in enumerate(content):
        if part.type in _PARTS:
            parts.append(_part(part, f"{where}[{index}]", True))
        elif part.text and part.type not in _REASONING:
            # Clients echo what they know from other servers.
            parts.append(part.text)
    return parts


def _parts(content: Sequence[InputPartBody], where: str, hasMedia: bool) -> list[str | Media]:
    return [_part(part, f"{where}[{index}]", hasMedia) for index, part in enumerate(content)]


def _part(part: InputPartBody, where: str, hasMedia: bool) -> str | Media:
    if part.type in _TEXTUAL:
        text: str = present(part.text, f"{where}.text")
        return text
    if part.type == "refusal":
        refusal: str = present(part.refusal, f"{where}.refusal")
        return refusal
    if hasMedia and part.type in _PARTS:
        if part.file_id is not None:
            said = "Files cannot be uploaded to this server: send their data."
            raise APIError("unsupported_value", said, param=f"{where}.file_id")
        return _media(part, where)
    raise APIError("invalid_value", "Content of this type is not supported here.", param=f"{where}.type")


def _media(part: InputPartBody, where: str) -> Media:
    if part.type == "input_image":
        address = part.image_url
        if isinstance(address, InputAddressBody):
            return Media("image", address.url, f"{where}.image_url.url")
        return Media("image", present(address, f"{where}.image_url"), f"{where}.image_url")
    if part.type == "input_audio":
        audio = part.input_audio
        if audio is None:
            raise missing(f"{where}.input_audio")
        if audio.format not in ("wav", "mp3"):
            said = "Audio is wav or mp3."
            raise APIError("unsupported_value", said, param=f"{where}.input_audio.format")
        return Media("audio", audio.data, f"{where}.input_audio.data", format=audio.format)
    name = "file_url" if part.file_data is None and part.file_url is not None else "file_data"
    source = part.file_url if name == "file_url" else part.file_data
    return Media("file", present(source, f"{where}.{name}"), f"{where}.{name}", name=part.filename)
