# -*- test-case-name: tests.api.responses.test_request -*-
"""
The body of a request for a response, as far as types can say what is allowed
in it: names and types as OpenAI's reference has them.

Null and absent mean the same everywhere. What is only named, of any type, is
known to come and to have no effect. Items of the input are read one by one,
since their type says what they hold.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

import msgspec

_Penalty = Annotated[float, msgspec.Meta(ge=-2, le=2)]
_Tokens = Annotated[int, msgspec.Meta(ge=1, le=2**63 - 1)]
_Short = Annotated[str, msgspec.Meta(max_length=512)]


class TextFormatBody(msgspec.Struct):
    """
    What shape the answer is to have.
    """

    type: Literal["text", "json_object", "json_schema"]
    name: str | None = None
    schema: dict[str, Any] | None = None
    strict: bool | None = None
    description: str | None = None


class TextBody(msgspec.Struct):
    """
    What the text of the answer is to be like.
    """

    format: TextFormatBody | None = None
    verbosity: _Short | None = None


class ReasoningWishBody(msgspec.Struct):
    """
    How the model is to reason, and whether that is shown.
    """

    effort: _Short | None = None
    summary: _Short | None = None
    generate_summary: _Short | None = None


class ResponsesBody(msgspec.Struct):
    """
    The whole body. A field that is not in here is not honoured.
    """

    model: str | None = None
    input: str | tuple[Any, ...] | None = None
    instructions: str | None = None
    previous_response_id: str | None = None
    conversation: str | dict[str, Any] | None = None
    store: bool | None = None
    background: bool | None = None
    stream: bool | None = None
    stream_options: dict[str, Any] | None = None
    include: tuple[str, ...] | None = None
    tools: tuple[dict[str, Any], ...] | None = None
    tool_choice: str | dict[str, Any] | None = None
    parallel_tool_calls: bool | None = None
    max_tool_calls: Annotated[int, msgspec.Meta(ge=0, le=2**63 - 1)] | None = None
    max_output_tokens: _Tokens | None = None
    temperature: Annotated[float, msgspec.Meta(ge=0, le=2)] | None = None
    top_p: Annotated[float, msgspec.Meta(ge=0, le=1)] | None = None
    presence_penalty: _Penalty | None = None
    frequency_penalty: _Penalty | None = None
    top_logprobs: Annotated[int, msgspec.Meta(ge=0, le=20)] | None = None
    truncation: Literal["auto", "disabled"] | None = None
    metadata: dict[str, str] | None = None
    user: str | None = None
    safety_identifier: str | None = None
    prompt_cache_key: str | None = None
    text: TextBody | None = None
    reasoning: ReasoningWishBody | None = None
    prompt: Any = None


class FlatToolBody(msgspec.Struct):
    """
    A function or a custom tool that the client offers.
    """

    type: str
    name: str
    description: str | None = None
    parameters: dict[str, Any] | None = None
    strict: bool | None = None
    format: dict[str, Any] | None = None


class FlatNameBody(msgspec.Struct):
    """
    A tool by its name.
    """

    type: str
    name: str | None = None


class FlatChoiceBody(msgspec.Struct):
    """
    A choice among the tools that is no plain word.
    """

    type: str
    name: str | None = None
    mode: Literal["auto", "required"] | None = None
    tools: tuple[FlatNameBody, ...] | None = None


class InputAddressBody(msgspec.Struct):
    """
    The address of an image, in an object as chat completions have it.
    """

    url: str


class InputAudioBody(msgspec.Struct):
    """
    Sound: base64 and C{wav} or C{mp3}.
    """

    data: str
    format: str


class InputPartBody(msgspec.Struct):
    """
    One part of a message's content. Which member counts is said by C{type}.
    """

    type: str
    text: str | None = None
    refusal: str | None = None
    image_url: str | InputAddressBody | None = None
    file_data: str | None = None
    file_url: str | None = None
    file_id: str | None = None
    filename: str | None = None
    input_audio: InputAudioBody | None = None


class InputMessageBody(msgspec.Struct):
    """
    A message of any role.
    """

    role: str
    content: str | tuple[InputPartBody, ...] | None = None
    name: str | None = None
    type: Any = None
    id: Any = None
    status: Any = None
    phase: Any = None


class InputCallBody(msgspec.Struct):
    """
    A call that the model made; C{arguments} should be a JSON string, and an
    object or nothing is met as well.
    """

    name: str
    call_id: str | None = None
    arguments: Any = None
    input: str | None = None
    type: Any = None
    id: Any = None
    status: Any = None


class InputResultBody(msgspec.Struct):
    """
    What a call came to.
    """

    call_id: str
    output: str | tuple[InputPartBody, ...] | None = None
    type: Any = None
    id: Any = None
    status: Any = None


class InputCompactionBody(msgspec.Struct):
    """
    What stands for all that was said before.
    """

    encrypted_content: str
    type: Any = None
    id: Any = None
    created_by: Any = None
