# -*- test-case-name: tests.api.chat.test_request -*-
"""
The body of a chat request, as far as types can say what is allowed in it:
names and types as OpenAI's reference has them, and what other clients are
known to send.

Null and absent mean the same everywhere. What is only named, of any type, is
known to come and to have no effect.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

import msgspec

_Penalty = Annotated[float, msgspec.Meta(ge=-2, le=2)]
_Tokens = Annotated[int, msgspec.Meta(ge=1, le=2**63 - 1)]
_Short = Annotated[str, msgspec.Meta(max_length=512)]


class AudioBody(msgspec.Struct, forbid_unknown_fields=True, gc=False):
    """
    Sound in a content part: base64 and C{wav} or C{mp3}.
    """

    data: str
    format: str


class FileBody(msgspec.Struct, forbid_unknown_fields=True, gc=False):
    """
    A file in a content part. C{file_data} is a data: URL or bare base64.
    """

    filename: str | None = None
    file_data: str | None = None
    file_id: str | None = None


class AddressBody(msgspec.Struct, forbid_unknown_fields=True, gc=False):
    """
    The address of an image or a video in a content part.
    """

    url: str
    detail: str | None = None


class PartBody(msgspec.Struct, forbid_unknown_fields=True, gc=False):
    """
    One part of a message's content. Which member counts is said by C{type}.
    """

    type: str
    text: str | None = None
    refusal: str | None = None
    image_url: str | AddressBody | None = None
    video_url: str | AddressBody | None = None
    input_audio: AudioBody | None = None
    file: FileBody | None = None


class FunctionCallBody(msgspec.Struct, forbid_unknown_fields=True, gc=False):
    """
    A call as the assistant made it; C{arguments} should be a JSON string, and
    an object or nothing is met as well.
    """

    name: str
    arguments: Any = None


class CustomCallBody(msgspec.Struct, forbid_unknown_fields=True, gc=False):
    """
    A call of a custom tool, with its one free text.
    """

    name: str
    input: str | None = None


class CallBody(msgspec.Struct, forbid_unknown_fields=True, gc=False):
    """
    One call of an assistant's message, with C{function} or C{custom}.
    """

    id: str | None = None
    type: str | None = None
    function: FunctionCallBody | None = None
    custom: CustomCallBody | None = None
    index: Any = None


class MessageBody(msgspec.Struct, forbid_unknown_fields=True, gc=False):
    """
    One message. Reasoning that a client echoes back is not read, nor what else
    it found in an answer.
    """

    role: str
    content: str | tuple[PartBody, ...] | None = None
    name: str | None = None
    refusal: str | None = None
    tool_calls: tuple[CallBody, ...] | None = None
    tool_call_id: str | None = None
    function_call: FunctionCallBody | None = None
    annotations: Any = None
    audio: Any = None
    reasoning: Any = None
    reasoning_content: Any = None
    reasoning_details: Any = None


class FunctionBody(msgspec.Struct, forbid_unknown_fields=True, gc=False):
    """
    A function that the client offers.
    """

    name: str
    description: str | None = None
    parameters: dict[str, Any] | None = None
    strict: Any = None


class CustomBody(msgspec.Struct, forbid_unknown_fields=True, gc=False):
    """
    A custom tool that the client offers.
    """

    name: str
    description: str | None = None
    format: dict[str, Any] | None = None


class ToolBody(msgspec.Struct, forbid_unknown_fields=True, gc=False):
    """
    A tool, with C{function} or C{custom}.
    """

    type: str
    function: FunctionBody | None = None
    custom: CustomBody | None = None


class NameBody(msgspec.Struct, forbid_unknown_fields=True, gc=False):
    """
    The name of a tool that must be called.
    """

    name: str


class NamedBody(msgspec.Struct, forbid_unknown_fields=True, gc=False):
    """
    A tool by its name, with C{function} or C{custom}.
    """

    type: str
    function: NameBody | None = None
    custom: NameBody | None = None


class AllowedBody(msgspec.Struct, forbid_unknown_fields=True, gc=False):
    """
    The tools that may be called.
    """

    mode: Literal["auto", "required"]
    tools: tuple[NamedBody, ...]


class ChoiceBody(NamedBody, forbid_unknown_fields=True, gc=False):
    """
    A choice among the tools that is no plain word.
    """

    allowed_tools: AllowedBody | None = None


class SchemaBody(msgspec.Struct, forbid_unknown_fields=True, gc=False):
    """
    The schema that the answer is to follow.
    """

    name: str
    schema: dict[str, Any] | None = None
    strict: bool | None = None
    description: str | None = None


class FormatBody(msgspec.Struct, forbid_unknown_fields=True, gc=False):
    """
    What shape the answer is to have.
    """

    type: Literal["text", "json_object", "json_schema"]
    json_schema: SchemaBody | None = None
    schema: dict[str, Any] | None = None


class StreamOptionsBody(msgspec.Struct, forbid_unknown_fields=True, gc=False):
    """
    What a stream is to hold.
    """

    include_usage: bool | None = None
    include_obfuscation: Any = None


class ReasoningBody(msgspec.Struct, forbid_unknown_fields=True, gc=False):
    """
    OpenRouter's spelling of the effort.
    """

    effort: str | None = None


class ChatBody(msgspec.Struct, forbid_unknown_fields=True, gc=False):
    """
    The whole body. A field that is not in here is not honoured.
    """

    model: str | None = None
    messages: tuple[MessageBody, ...] | None = None
    stream: bool | None = None
    store: bool | None = None
    stream_options: StreamOptionsBody | None = None
    max_completion_tokens: _Tokens | None = None
    max_tokens: _Tokens | None = None
    temperature: Annotated[float, msgspec.Meta(ge=0, le=2)] | None = None
    top_p: Annotated[float, msgspec.Meta(ge=0, le=1)] | None = None
    frequency_penalty: _Penalty | None = None
    presence_penalty: _Penalty | None = None
    stop: str | tuple[str, ...] | None = None
    n: int | None = None
    logprobs: bool | None = None
    top_logprobs: int | None = None
    seed: Annotated[int, msgspec.Meta(ge=-(2**63), le=2**63 - 1)] | None = None
    response_format: FormatBody | None = None
    parallel_tool_calls: bool | None = None
    reasoning_effort: _Short | None = None
    reasoning: ReasoningBody | None = None
    verbosity: _Short | None = None
    modalities: tuple[Literal["text", "audio"], ...] | None = None
    metadata: dict[str, str] | None = None
    user: str | None = None
    tools: tuple[ToolBody, ...] | None = None
    tool_choice: str | ChoiceBody | None = None
    functions: tuple[FunctionBody, ...] | None = None
    function_call: str | NameBody | None = None
