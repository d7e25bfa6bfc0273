# -*- test-case-name: tests.api.responses.test_request -*-
"""
A request for a response: every field of OpenAI's reference has its treatment
here. It is honoured, kept for the worker, accepted and named as ignored, or
refused.

Null and absent mean the same everywhere, and unknown fields are ignored
unless the server is strict.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from openai_server.api.body import containersOf, converted, objectFromBody
from openai_server.api.inquiry import (
    NO_CHOICE,
    NO_SAMPLING,
    PLAIN_TEXT,
    Format,
    Inquiry,
    Message,
    Sampling,
)
from openai_server.api.keeping import RecordsFound, RecordsWanted
from openai_server.api.responses.answer import ResponseHead
from openai_server.api.responses.input import messagesFromInput
from openai_server.api.responses.records import (
    NO_HISTORY,
    History,
    historyFrom,
    isSealed,
    keptItems,
    namedBy,
    resolved,
    tokenIn,
)
from openai_server.api.responses.structs import ResponsesBody, TextFormatBody
from openai_server.api.responses.tools import choiceFromBody, shownChoice, toolsFromBody
from openai_server.api.rules import checkedModel, checkMetadata, missing, unknown
from openai_server.api.unread import UnreadNames, safeName, shapeOf
from openai_server.errors import APIError

#: OpenAI's fields, and those of Codex, that are accepted without effect, though
#: some are repeated in the response.
_WITHOUT_EFFECT: Final = frozenset(
    {
        "client_metadata",
        "context_management",
        "max_tool_calls",
        "moderation",
        "prompt_cache_key",
        "prompt_cache_options",
        "prompt_cache_retention",
        "safety_identifier",
        "service_tier",
    }
)
#: What has one value that means nothing, and is missed otherwise.
_PLAIN_VALUES: Final = {"service_tier": ("auto", "default"), "truncation": ("disabled",)}
_READ: Final = frozenset(ResponsesBody.__struct_fields__)
_KNOWN: Final = _READ | _WITHOUT_EFFECT
#: Members whose own members are judged where they are read.
_JUDGED_LATER: Final = frozenset({"input", "tools"})
_SHAPE: Final = shapeOf(ResponsesBody)
#: The one thing among those that can be included that is missed.
_LOGPROBS: Final = "message.output_text.logprobs"


def inquiryFromBody(
    body: bytes,
    token: str,
    createdAt: int,
    *,
    strict: bool = False,
    model: str | None = None,
    defaultModel: Callable[[], str | None] = lambda: None,
    keeps: bool = False,
    history: History | None = None,
) -> Inquiry | RecordsWanted:
    """
    Return what a request asks, its C{own} is the response's L{ResponseHead}; or
    the records without which it cannot be read.

    @param body: as it came; its size is bounded by whoever read it.
    @param token: of the response that answers it.
    @param createdAt: seconds since 1970.
    @param strict: refuse fields that OpenAI does not know.
    @param model: what the request's path asks for, whatever the body says.
    @param defaultModel: tells what a request without a model asks for that
        does not go on from a response.
    @param keeps: whether responses are kept at all.
    @param history: what is known of what was wanted.
    @raise APIError: 400, with C{param} where one field is at fault.
    """
    containersOf(body)
    unread = UnreadNames()
    found = _read(body, unread, strict)
    _refuse(found)
    previous, conversation = found.previous_response_id, _conversationOf(found)
    if conversation is not None:
        token = tokenIn(conversation, token)
    if found.background and not (keeps and found.store is not False):
        said = "A response in the background must be kept: leave 'store' out, or let it be true."
        raise APIError("invalid_value", said, param="background")
    if history is None:
        others, items = namedBy(found.input)
        goesOn = previous is not None or conversation is not None
        if goesOn or others or any(map(isSealed, found.input or ())):

            def read(records: RecordsFound) -> Inquiry:
                inquiry = inquiryFromBody(
                    body,
                    token,
                    createdAt,
                    strict=strict,
                    model=model,
                    defaultModel=defaultModel,
                    keeps=keeps,
                    history=historyFrom(records),
                )
                assert isinstance(inquiry, Inquiry)
                return inquiry

            return RecordsWanted(
                previous=previous, conversation=conversation, others=others, items=items, read=read
            )
        history = NO_HISTORY
    elif previous is not None and history.model is None:
        raise _previousNotFound(previous)
    if history.known and isinstance(found.input, tuple):
        found.input = resolved(found.input, history.known)
    tools, shownTools = toolsFromBody(found.tools or (), unread)
    choice = NO_CHOICE if found.tool_choice is None else choiceFromBody(found.tool_choice, tools)
    messages = _messages(found, unread, history)
    if strict and (nested := next((name for name in unread.all if _isUnknown(name)), None)):
        raise unknown(nested)
    model = checkedModel(model or found.model or history.model or defaultModel())
    wish = found.reasoning
    isKept = keeps and found.store is not False
    return Inquiry(
        model=model,
        messages=messages,
        messagesParam="input",
        isStreamed=found.stream is True,
        sampling=_sampling(found),
        format=PLAIN_TEXT if found.text is None or found.text.format is None else _format(found.text.format),
        tools=tools,
        toolChoice=choice,
        isParallel=found.parallel_tool_calls is not False,
        user=found.user,
        metadata=found.metadata or {},
        isBackground=found.background is True,
        ignored=unread.all,
        own=ResponseHead(
            token,
            createdAt,
            _repeated(found, model, shownTools, isKept, conversation),
            wish is not None and (wish.summary or wish.generate_summary) is not None,
            previous,
            _inputOf(found, token, history, conversation) if isKept or conversation is not None else None,
            isKept,
        ),
    )


def _read(body: bytes, unread: UnreadNames, strict: bool) -> ResponsesBody:
    read: dict[str, Any] = {}
    for name, value in objectFromBody(body).items():
        if value is None:
            continue
        if strict and name not in _KNOWN:
            raise unknown(safeName(name))
        if (name not in _READ or name in _WITHOUT_EFFECT) and value not in _PLAIN_VALUES.get(name, ()):
            unread.add(name, value)
        if name not in _READ:
            continue
        if name in _JUDGED_LATER:
            read[name] = value
        else:
            # Some clients write every number as a float.
            isWhole = type(value) is float and value.is_integer()
            read[name] = int(value) if isWhole else unread.removeFrom(value, _SHAPE[name], name)
    found = converted(read, ResponsesBody)
    if found.truncation == "auto":
        unread.add("truncation", True)
    if _LOGPROBS in (found.include or ()):
        unread.add("include", True)
    return found


def _isUnknown(name: str) -> bool:
    # Kinds of tools and items are no members.
    return "." in name and not name.startswith(("tools.", "input."))


def _refuse(found: ResponsesBody) -> None:
    if found.top_logprobs:
        said = "Log probabilities are not available."
        raise APIError("unsupported_parameter", said, param="top_logprobs")
    if found.prompt is not None:
        said = "Prompts are not kept by this server: send 'instructions' and 'input'."
        raise APIError("unsupported_parameter", said, param="prompt")
    if found.metadata:
        checkMetadata(found.metadata)


def _conversationOf(found: ResponsesBody) -> str | None:
    conversation = found.conversation
    if isinstance(conversation, dict):
        conversation = conversation.get("id")
        if not isinstance(conversation, str):
            raise missing("conversation.id")
    if conversation is not None and found.previous_response_id is not None:
        said = "A request goes on from a response or goes on a conversation: send 'conversation' alone."
        raise APIError("invalid_value", said, param="previous_response_id")
    return conversation


def _inputOf(
    found: ResponsesBody, token: str, history: History, conversation: str | None
) -> list[dict[str, Any]]:
    # What is said in a conversation has one place in it.
    taken = () if conversation is None else [item["id"] for item in history.items]
    return keptItems(found.input or (), token, taken)


def _previousNotFound(previous: str) -> APIError:
    said = f"Previous response with id '{safeName(previous)}' not found: send the whole input."
    return APIError("previous_response_not_found", said, param="previous_response_id")


def _messages(found: ResponsesBody, unread: UnreadNames, history: History) -> tuple[Message, ...]:
    said = messagesFromInput(found.input or (), unread, history)
    if not said and found.max_output_tokens == 1 and found.input is not None:
        # Codex's question whether anybody is there.
        return ()
    if found.instructions:
        return (Message("system", found.instructions), *said)
    if not said:
        raise missing("input")
    return said


def _sampling(found: ResponsesBody) -> Sampling:
    sampling = Sampling(
        found.max_output_tokens,
        found.temperature,
        found.top_p,
        found.frequency_penalty,
        found.presence_penalty,
        None,
        None if found.reasoning is None else found.reasoning.effort,
        None if found.text is None else found.text.verbosity,
    )
    # The one that everybody shares is known by its identity.
    return NO_SAMPLING if sampling == NO_SAMPLING else sampling


def _format(wanted: TextFormatBody) -> Format:
    if wanted.type == "text":
        return PLAIN_TEXT
    if wanted.type == "json_object":
        return Format("json")
    if not wanted.name:
        raise missing("text.format.name")
    where = "text.format.schema"
    return Format("schema", wanted.name, wanted.schema, wanted.description, wanted.strict, where)


def _repeated(
    found: ResponsesBody, model: str, tools: list[dict[str, Any]], isKept: bool, conversation: str | None
) -> dict[str, Any]:
    wish, user = found.reasoning, {} if found.user is None else {"user": found.user}
    shared = {} if conversation is None else {"conversation": {"id": conversation}}
    return {
        "instructions": found.instructions,
        "metadata": found.metadata or {},
        "model": model,
        "parallel_tool_calls": found.parallel_tool_calls is not False,
        "tool_choice": shownChoice(found.tool_choice),
        "tools": tools,
        "temperature": 1.0 if found.temperature is None else found.temperature,
        "top_p": 1.0 if found.top_p is None else found.top_p,
        "presence_penalty": found.presence_penalty or 0,
        "frequency_penalty": found.frequency_penalty or 0,
        "top_logprobs": 0,
        "truncation": found.truncation or "disabled",
        "text": _repeatedText(found),
        "reasoning": {
            "effort": None if wish is None else wish.effort,
            "summary": None if wish is None else wish.summary or wish.generate_summary,
        },
        "previous_response_id": found.previous_response_id,
        "max_output_tokens": found.max_output_tokens,
        "max_tool_calls": found.max_tool_calls,
        "store": isKept,
        "background": found.background is True,
        "service_tier": "default",
        "safety_identifier": found.safety_identifier,
        "prompt_cache_key": found.prompt_cache_key,
        **user,
        **shared,
    }


def _repeatedText(found: ResponsesBody) -> dict[str, Any]:
    text = found.text
    shown: dict[str, Any] = {"format": {"type": "text"}}
    if text is not None and text.verbosity is not None:
        shown["verbosity"] = text.verbosity
    wanted = None if text is None else text.format
    if wanted is not None and wanted.type == "json_schema":
        shown["format"] = {
            "type": "json_schema",
            "name": wanted.name,
            "schema": wanted.schema or {},
            "strict": wanted.strict is True,
            "description": wanted.description,
        }
    elif wanted is not None:
        shown["format"] = {"type": wanted.type}
    return shown
