# -*- test-case-name: tests.api.test_messages -*-
"""
The messages of a chat request, as OpenAI's reference has them, and the rules
that a type alone does not say.
"""

from __future__ import annotations

from typing import Any, Final

import msgspec

from openai_server.api.body import converted
from openai_server.errors import APIError

MAX_MESSAGES: Final = 10_000

ROLES: Final = ("developer", "system", "user", "assistant", "tool", "function")
#: Kinds of content parts that hold text, and the member that holds it.
TEXT_MEMBERS: Final = {
    "text": "text",
    "input_text": "text",
    "output_text": "text",
    "refusal": "refusal",
}
#: Kinds of content parts that hold something else, and the member that holds it.
ATTACHED_MEMBERS: Final = {"image_url": "image_url", "input_audio": "input_audio", "file": "file"}


class Audio(msgspec.Struct, frozen=True, gc=False):
    """
    Sound in a content part: base64 and C{wav} or C{mp3}.
    """

    data: str
    format: str


class File(msgspec.Struct, frozen=True, gc=False):
    """
    A file in a content part. C{file_data} is a data: URL or bare base64.
    """

    filename: str | None = None
    file_data: str | None = None
    file_id: str | None = None


class Image(msgspec.Struct, frozen=True, gc=False):
    """
    The address of an image in a content part.
    """

    url: str
    detail: str | None = None


class Part(msgspec.Struct, frozen=True, gc=False):
    """
    One part of a message's content. Which member counts is said by C{type}.
    """

    type: str
    text: str | None = None
    refusal: str | None = None
    image_url: str | Image | None = None
    input_audio: Audio | None = None
    file: File | None = None

    @property
    def words(self) -> str | None:
        """
        What this part says, or None when it is not text.
        """
        return self.refusal if self.type == "refusal" else self.text


class FunctionCall(msgspec.Struct, frozen=True, gc=False):
    """
    A call as the assistant made it; C{arguments} should be a JSON string, and
    an object or nothing is met as well.
    """

    name: str
    arguments: Any = None


class CustomCall(msgspec.Struct, frozen=True, gc=False):
    """
    A call of a custom tool, with its one free text.
    """

    name: str
    input: str | None = None


class ToolCall(msgspec.Struct, frozen=True, gc=False):
    """
    One call of an assistant's message, with C{function} or C{custom}.
    """

    id: str | None = None
    type: str | None = None
    function: FunctionCall | None = None
    custom: CustomCall | None = None


class Message(msgspec.Struct, frozen=True, gc=False):
    """
    One message. Reasoning that a client echoes back is not read.
    """

    role: str
    content: str | tuple[Part, ...] | None = None
    name: str | None = None
    refusal: str | None = None
    tool_calls: tuple[ToolCall, ...] | None = None
    tool_call_id: str | None = None
    function_call: FunctionCall | None = None

    @property
    def parts(self) -> tuple[Part, ...]:
        """
        The content as parts, however it was sent.
        """
        if self.content is None or isinstance(self.content, str):
            return (Part("text", self.content),) if self.content else ()
        return self.content

    @property
    def text(self) -> str:
        """
        The words of the content; parts that are not text are left out.
        """
        if isinstance(self.content, str):
            return self.content
        return "".join(part.words or "" for part in self.parts)


def messagesFromObject(value: Any) -> tuple[Message, ...]:
    """
    The request's C{messages}, checked.

    @raise APIError: 400 with a C{param} like C{messages[2].content[0].type}.
    """
    if isinstance(value, list) and len(value) > MAX_MESSAGES:
        raise APIError("invalid_value", f"More than {MAX_MESSAGES} messages.", param="messages")
    messages = converted(value, tuple[Message, ...], "messages")
    if not messages:
        raise APIError("invalid_value", "'messages' must hold at least one message.", param="messages")
    for index, message in enumerate(messages):
        try:
            _check(message)
        except APIError as error:
            error.param = f"messages[{index}].{error.param}"
            raise
    return messages


def _check(message: Message) -> None:
    role = message.role
    if role not in ROLES:
        known = ", ".join(ROLES)
        raise APIError("invalid_value", f"Unknown role; known are {known}.", param="role")
    if role == "tool" and not message.tool_call_id:
        raise _missing("tool_call_id")
    if role == "function" and not message.name:
        raise _missing("name")
    if type(message.content) is tuple:
        for index, part in enumerate(message.content):
            # Most are plain text: no call for each of them.
            if part.type != "text" or part.text is None:
                _checkPart(part, role, f"content[{index}]")
    for index, call in enumerate(message.tool_calls or ()):
        if call.function is None and call.custom is None:
            raise _missing(f"tool_calls[{index}].{call.type or 'function'}")


def _checkPart(part: Part, role: str, where: str) -> None:
    member = TEXT_MEMBERS.get(part.type)
    if member is None and role not in ("system", "developer"):
        member = ATTACHED_MEMBERS.get(part.type)
    if member is None:
        raise APIError(
            "invalid_value",
            f"Content of this type is not supported in a message of role '{role}'.",
            param=f"{where}.type",
        )
    if getattr(part, member) is None:
        raise _missing(f"{where}.{member}")


def _missing(param: str) -> APIError:
    return APIError("missing_required_parameter", f"Missing required parameter: '{param}'.", param=param)


def callsOf(message: Message) -> tuple[ToolCall, ...]:
    """
    All calls of an assistant's message, the deprecated C{function_call} too.
    """
    calls = message.tool_calls or ()
    if message.function_call is None:
        return calls
    return (*calls, ToolCall(type="function", function=message.function_call))
