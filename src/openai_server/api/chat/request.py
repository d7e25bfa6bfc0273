# -*- test-case-name: tests.api.chat.test_request -*-
"""
A chat request: every field of OpenAI's reference has its treatment here. It
is honoured, kept for the worker, accepted and named as ignored, or refused.

Null and absent mean the same everywhere, and unknown fields are ignored
unless the server is strict: every SDK sends explicit nulls, and clients send
extras of other servers all the time.

A body in which nothing is wrong and nothing is ignored is decoded straight to
its struct. Any other is decoded without types first, because only then the
names of what is ignored, and what is wrong, can be told.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Final

import msgspec

from openai_server.api.body import (
    MAX_DEPTH,
    checkDepth,
    containersOf,
    converted,
    objectFromBody,
    structFromBody,
)
from openai_server.api.chat.messages import (
    messagesFromBody,
    tooManyMessages,
    withoutForeignParts,
)
from openai_server.api.chat.structs import ChatBody, FormatBody, ReasoningBody
from openai_server.api.chat.tools import (
    choiceFromBody,
    functionsFromBody,
    legacyChoiceFromBody,
    toolsFromBody,
)
from openai_server.api.inquiry import (
    NO_CHOICE,
    NO_SAMPLING,
    PLAIN_TEXT,
    Format,
    Inquiry,
    Message,
    Sampling,
    Tool,
    ToolChoice,
)
from openai_server.api.rules import (
    MAX_MESSAGES,
    checkCount,
    checkedModel,
    checkedStops,
    checkMetadata,
    missing,
    unknown,
)
from openai_server.api.unread import UnreadNames, safeName, shapeOf
from openai_server.errors import APIError

#: OpenAI's fields that are accepted without effect. C{seed} goes to workers
#: that honour it; none is known.
_WITHOUT_EFFECT: Final = frozenset(
    {
        "audio",
        "logit_bias",
        "moderation",
        "prediction",
        "prompt_cache_key",
        "prompt_cache_options",
        "prompt_cache_retention",
        "safety_identifier",
        "seed",
        "service_tier",
        "web_search_options",
    }
)
_READ: Final = frozenset(ChatBody.__struct_fields__)
#: What clients of other servers add, and is read here where it is of the right
#: type; OpenAI does not know it.
_VENDORS: Final[dict[str, Any]] = {"reasoning": ReasoningBody}
#: What OpenAI knows.
_KNOWN: Final = (_READ | _WITHOUT_EFFECT) - _VENDORS.keys()

_SHAPE: Final = shapeOf(ChatBody)

_decode = msgspec.json.Decoder(ChatBody).decode


def inquiryFromBody(
    body: bytes,
    *,
    strict: bool = False,
    model: str | None = None,
    defaultModel: Callable[[], str | None] = lambda: None,
    keep: Callable[[ChatBody, Sequence[Message]], object] | None = None,
) -> Inquiry:
    """
    Return what a request asks.

    @param body: as it came; its size is bounded by whoever read it.
    @param strict: refuse fields that OpenAI does not know.
    @param model: what the request's path asks for, whatever the body says.
    @param defaultModel: tells what a request without a model asks for.
    @param keep: makes the C{own} of a request whose answer is to be kept; None
        where no answers are.
    @raise APIError: 400, with C{param} where one field is at fault.
    """
    containers = containersOf(body)
    found = structFromBody(body, _decode)
    ignored: tuple[str, ...] = ()
    if found is None or found.seed is not None or (strict and found.reasoning is not None):
        found, ignored = _readSlowly(body, strict)
    elif containers > MAX_DEPTH:
        _checkDepth(found)
    _refuse(found)
    if found.messages is None:
        raise missing("messages")
    tools, choice, isLegacy = _tools(found)
    messages = messagesFromBody(found.messages)
    if found.store and keep is None:
        ignored = (*ignored, "store")
    return Inquiry(
        model=checkedModel(model or found.model or defaultModel()),
        messages=messages,
        isStreamed=found.stream is True,
        wantsUsage=found.stream_options is not None and found.stream_options.include_usage is True,
        sampling=_sampling(found),
        stop=checkedStops(found.stop) if found.stop else (),
        format=PLAIN_TEXT if found.response_format is None else _format(found.response_format),
        tools=tools,
        toolChoice=choice,
        toolsParam="functions" if isLegacy else "tools",
        # One call is all that the deprecated shape has room for.
        isParallel=found.parallel_tool_calls is not False and not isLegacy,
        showsCallIds=not isLegacy,
        user=found.user,
        metadata=found.metadata or {},
        ignored=ignored,
        own=keep(found, messages) if keep is not None and found.store else None,
    )


def _readSlowly(body: bytes, strict: bool) -> tuple[ChatBody, tuple[str, ...]]:
    given = {key: value for key, value in objectFromBody(body).items() if value is not None}
    # Their number is checked before they are looked at.
    if isinstance(given.get("messages"), list) and len(given["messages"]) > MAX_MESSAGES:
        raise tooManyMessages()
    for name in ("tools", "functions"):
        if isinstance(given.get(name), list):
            checkCount(given[name], name)
    read: dict[str, Any] = {}
    unread = UnreadNames()
    for name, value in given.items():
        if strict and name not in _KNOWN:
            raise unknown(safeName(name))
        isRead = name in _READ and (name not in _VENDORS or _fits(value, name))
        if not isRead or name in _WITHOUT_EFFECT:
            unread.add(name, value)
        if isRead:
            # Some clients write every number as a float.
            isWhole = type(value) is float and value.is_integer()
            read[name] = int(value) if isWhole else unread.removeFrom(value, _SHAPE[name], name)
    ignored = unread.all
    if strict and (nested := next((name for name in ignored if name not in given), None)):
        raise unknown(nested)
    if isinstance(read.get("messages"), list):
        read["messages"] = withoutForeignParts(read["messages"])
    return converted(read, ChatBody), ignored


def _fits(value: Any, name: str) -> bool:
    # Other servers' fields have no rules that a client could break.
    try:
        msgspec.convert(UnreadNames().removeFrom(value, _SHAPE[name], name), _VENDORS[name])
    except msgspec.ValidationError:
        return False
    return True


def _checkDepth(found: ChatBody) -> None:
    # All that a client can nest at will, at its level in the body.
    nested: list[Any] = [tool.function.parameters for tool in found.tools or () if tool.function is not None]
    nested += [tool.custom.format for tool in found.tools or () if tool.custom is not None]
    nested += [function.parameters for function in found.functions or ()]
    if found.response_format is not None:
        nested.append(found.response_format.schema)
        if found.response_format.json_schema is not None:
            nested.append(found.response_format.json_schema.schema)
    for message in found.messages or ():
        if message.tool_calls:
            nested += [call.function.arguments for call in message.tool_calls if call.function is not None]
    checkDepth([each for each in nested if type(each) is dict or type(each) is list], 5)


def _refuse(found: ChatBody) -> None:
    if found.n is not None and found.n != 1:
        name = "unsupported_value" if found.n > 1 else "invalid_value"
        raise APIError(name, "Only one choice can be made: 'n' must be 1.", param="n")
    if found.logprobs or found.top_logprobs:
        param = "logprobs" if found.logprobs else "top_logprobs"
        raise APIError("unsupported_parameter", "Log probabilities are not available.", param=param)
    if found.modalities and "audio" in found.modalities:
        raise APIError("unsupported_value", "Answers are text only.", param="modalities")
    if found.metadata:
        checkMetadata(found.metadata)


def _sampling(found: ChatBody) -> Sampling:
    effort = found.reasoning_effort
    if effort is None and found.reasoning is not None:
        effort = found.reasoning.effort
    sampling = Sampling(
        found.max_completion_tokens or found.max_tokens,
        found.temperature,
        found.top_p,
        found.frequency_penalty,
        found.presence_penalty,
        found.seed,
        effort,
        found.verbosity,
    )
    # The one that everybody shares is known by its identity.
    return NO_SAMPLING if sampling == NO_SAMPLING else sampling


def _format(wanted: FormatBody) -> Format:
    if wanted.type == "text":
        return PLAIN_TEXT
    if wanted.type == "json_object":
        if not wanted.schema:
            return Format("json")
        # As llama.cpp and Together spell it.
        return Format("schema", "answer", wanted.schema, param="response_format.schema")
    wish = wanted.json_schema
    if wish is None:
        raise missing("response_format.json_schema")
    where = "response_format.json_schema.schema"
    return Format("schema", wish.name, wish.schema, wish.description, wish.strict, where)


def _tools(found: ChatBody) -> tuple[tuple[Tool, ...], ToolChoice, bool]:
    tools = toolsFromBody(found.tools) if found.tools else ()
    if not tools and found.functions is not None:
        tools = functionsFromBody(found.functions)
        legacy = found.function_call
        return tools, NO_CHOICE if legacy is None else legacyChoiceFromBody(legacy, tools), bool(tools)
    choice = found.tool_choice
    return tools, NO_CHOICE if choice is None else choiceFromBody(choice, tools), False
