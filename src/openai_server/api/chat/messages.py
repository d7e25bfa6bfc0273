# -*- test-case-name: tests.api.chat.test_messages -*-
"""
The messages of a chat request, and the rules about them that a type alone does
not say.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, Final, Literal

from openai_server.api.arguments import argumentsText
from openai_server.api.chat.structs import (
    AddressBody,
    AudioBody,
    CallBody,
    FileBody,
    FunctionCallBody,
    MessageBody,
    PartBody,
)
from openai_server.api.inquiry import Call, Media, Message, Role
from openai_server.api.rules import MAX_MESSAGES, missing
from openai_server.errors import APIError

_ROLES: Final[dict[str, Role]] = {
    "developer": "system",
    "system": "system",
    "user": "user",
    "assistant": "assistant",
    "tool": "tool",
    "function": "tool",
}
ROLES: Final = tuple(_ROLES)
#: Roles whose messages may be no more than a plain text, and must say it.
_PLAIN: Final = {"user", "system", "developer"}
#: Kinds of content parts that hold text.
TEXTUAL: Final = ("text", "input_text", "output_text")
_PARTS: Final = {*TEXTUAL, "refusal", "image_url", "video_url", "input_audio", "file"}
#: Kinds of an assistant's parts that are no answer.
_REASONING: Final = {"thinking", "redacted_thinking", "reasoning", "reasoning_text", "summary_text"}


def messagesFromBody(found: Sequence[MessageBody]) -> tuple[Message, ...]:
    """
    Return the request's messages, checked.

    @raise APIError: 400 with a C{param} like C{messages[2].content[0].type}.
    """
    if len(found) > MAX_MESSAGES:
        raise tooManyMessages()
    if not found:
        raise APIError("invalid_value", "'messages' must hold at least one message.", param="messages")
    # Most are plain text: no call for each of them.
    return tuple(
        [
            Message(_ROLES[each.role], each.content, each.name)
            if type(each.content) is str and each.role in _PLAIN and each.refusal is None
            else _message(each, index)
            for index, each in enumerate(found)
        ]
    )


def tooManyMessages() -> APIError:
    """
    Return the error of a request with more than L{MAX_MESSAGES} messages.
    """
    return APIError("invalid_value", f"More than {MAX_MESSAGES} messages.", param="messages")


def withoutForeignParts(messages: list[Any]) -> list[Any]:
    """
    Return the messages of a body with nothing but the text in parts of the
    assistant's that are of no type known here: clients echo what they know
    from other servers.
    """
    return [
        {**message, "content": [_withoutForeign(part) for part in message["content"]]}
        if isinstance(message, dict)
        and message.get("role") == "assistant"
        and isinstance(message.get("content"), list)
        else message
        for message in messages
    ]


def _withoutForeign(part: Any) -> Any:
    kind = part.get("type") if isinstance(part, dict) else None
    if not isinstance(kind, str) or kind in _PARTS:
        return part
    text = part.get("text")
    return {"type": kind, "text": text if isinstance(text, str) else None}


def _message(found: MessageBody, index: int) -> Message:
    where = f"messages[{index}]"
    role = _ROLES.get(found.role)
    if role is None:
        raise APIError(
            "invalid_value", f"Unknown role; known are {', '.join(ROLES)}.", param=f"{where}.role"
        )
    if found.content is None and found.role in _PLAIN:
        raise missing(f"{where}.content")
    if found.role == "tool" and not found.tool_call_id:
        raise missing(f"{where}.tool_call_id")
    if found.role == "function" and not found.name:
        raise missing(f"{where}.name")
    callId = (found.tool_call_id or "") if found.role == "tool" else ""
    return Message(role, _content(found, where), found.name, _calls(found, where), callId)


def _content(found: MessageBody, where: str) -> str | tuple[str | Media, ...]:
    content = found.content
    if content is None or type(content) is str:
        if not content or not found.refusal:
            return content or found.refusal or ""
        return content, found.refusal
    assert not isinstance(content, str)
    parts: list[str | Media] = []
    for number, part in enumerate(content):
        if part.type == "text" and part.text is not None:
            parts.append(part.text)
        elif found.role == "assistant" and part.type not in _PARTS:
            # Reasoning is not repeated to the model.
            if part.text and part.type not in _REASONING:
                parts.append(part.text)
        else:
            parts.append(_part(part, found.role, f"{where}.content[{number}]"))
    if found.refusal:
        parts.append(found.refusal)
    return tuple(parts)


def _part(part: PartBody, role: str, where: str) -> str | Media:
    if part.type in TEXTUAL:
        return _given(part.text, f"{where}.text")
    if part.type == "refusal":
        return _given(part.refusal, f"{where}.refusal")
    if role not in ("system", "developer"):
        if part.type == "image_url":
            return _addressed("image", part.image_url, f"{where}.image_url")
        if part.type == "video_url":
            return _addressed("video", part.video_url, f"{where}.video_url")
        if part.type == "input_audio":
            return _audio(part.input_audio, f"{where}.input_audio")
        if part.type == "file":
            return _file(part.file, f"{where}.file")
    raise APIError(
        "invalid_value",
        f"Content of this type is not supported in a message of role '{role}'.",
        param=f"{where}.type",
    )


def _given(text: str | None, where: str) -> str:
    if text is None:
        raise missing(where)
    return text


def _addressed(kind: Literal["image", "video"], found: str | AddressBody | None, where: str) -> Media:
    if found is None:
        raise missing(where)
    if isinstance(found, str):
        return Media(kind, found, where)
    return Media(kind, found.url, f"{where}.url")


def _audio(audio: AudioBody | None, where: str) -> Media:
    if audio is None:
        raise missing(where)
    if audio.format not in ("wav", "mp3"):
        raise APIError("unsupported_value", "Audio is wav or mp3.", param=f"{where}.format")
    return Media("audio", audio.data, f"{where}.data", format=audio.format)


def _file(file: FileBody | None, where: str) -> Media:
    if file is None:
        raise missing(where)
    if file.file_id is not None:
        said = "Files cannot be uploaded to this server: send file_data."
        raise APIError("unsupported_value", said, param=f"{where}.file_id")
    where = f"{where}.file_data"
    return Media("file", _given(file.file_data, where), where, name=file.filename)


def _calls(found: MessageBody, where: str) -> tuple[Call, ...]:
    if not found.tool_calls and found.function_call is None:
        return ()
    return tuple(_eachCall(found, where))


def _eachCall(found: MessageBody, where: str) -> Iterator[Call]:
    for index, call in enumerate(found.tool_calls or ()):
        yield _call(call, f"{where}.tool_calls[{index}]")
    # The deprecated call comes last.
    if found.function_call is not None:
        yield _functionCall("", found.function_call)


def _call(call: CallBody, where: str) -> Call:
    callId = call.id or ""
    if call.function is not None:
        return _functionCall(callId, call.function)
    if call.custom is not None:
        return Call(callId, call.custom.name, call.custom.input or "", "custom")
    raise missing(f"{where}.{call.type or 'function'}")


def _functionCall(callId: str, called: FunctionCallBody) -> Call:
    return Call(callId, called.name, argumentsText(called.arguments))
