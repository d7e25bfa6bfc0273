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

from msgspec.structs import replace

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
from openai_server.api.keeping import RecordsWanted
from openai_server.api.responses.answer import ResponseHead
from openai_server.api.responses.input import messagesFromInput
from openai_server.api.responses.records import (
    NO_HISTORY,
    History,
    checkResults,
    historyFrom,
    isSealed,
    keptItems,
    namedBy,
    resolved,
    tokenIn,
)
from openai_server.api.responses.structs import ResponsesBody
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
    @raise APIError: 400, with C{param} where one field is at fault.
    """
    asked = _Asked(body, token, createdAt, strict, model, defaultModel, keeps)
    return asked.wanted() or asked.inquiry(NO_HISTORY)


class _Asked:
    """
    A body that is read, as far as that goes without its history.
    """

    __slots__ = (
        "_conversation",
        "_createdAt",
        "_defaultModel",
        "_found",
        "_isKept",
        "_model",
        "_strict",
        "_token",
        "_unread",
    )

    def __init__(
        self,
        body: bytes,
        token: str,
        createdAt: int,
        strict: bool,
        model: str | None,
        defaultModel: Callable[[], str | None],
        keeps: bool,
    ) -> None:
        containersOf(body)
        self._unread = UnreadNames()
        self._found = found = _read(body, self._unread, strict)
        _refuse(found)
        self._conversation = conversation = _conversationOf(found)
        self._token = token if conversation is None else tokenIn(conversation, token)
        self._createdAt = createdAt
        self._strict = strict
        self._model = model
        self._defaultModel = defaultModel
        self._isKept = keeps and found.store is not False
        if found.background and not self._isKept:
            said = "A response in the background must be kept: leave 'store' out, or let it be true."
            raise APIError("invalid_value", said, param="background")

    def wanted(self) -> RecordsWanted | None:
        """
        Return the records that are the rest of it; None when there is no more.
        """
        found = self._found
        others, items = namedBy(found.input)
        goesOn = found.previous_response_id is not None or self._conversation is not None
        if not (goesOn or others or any(map(isSealed, found.input or ()))):
            return None
        return RecordsWanted(
            previous=found.previous_response_id,
            conversation=self._conversation,
            others=others,
            items=items,
            read=lambda records: self.inquiry(historyFrom(records)),
        )

    def inquiry(self, history: History) -> Inquiry:
        """
        Return what is asked, with what it goes on from.
        """
        found, unread = self._withHistory(history), self._unread
        tools, shownTools = toolsFromBody(found.tools or (), unread)
        choice = NO_CHOICE if found.tool_choice is None else choiceFromBody(found.tool_choice, tools)
        messages = _messages(found, unread, history)
        if self._strict and (nested := next((name for name in unread.all if _isUnknown(name)), None)):
            raise unknown(nested)
        model = checkedModel(self._model or found.model or history.model or self._defaultModel())
        return Inquiry(
            model=model,
            messages=messages,
            messagesParam="input",
            isStreamed=found.stream is True,
            sampling=_sampling(found),
            format=_format(found),
            tools=tools,
            toolChoice=choice,
            isParallel=found.parallel_tool_calls is not False,
            user=found.user,
            metadata=found.metadata or {},
            isBackground=found.background is True,
            ignored=unread.all,
            own=self._head(found, model, shownTools, history),
        )

    def _withHistory(self, history: History) -> ResponsesBody:
        """
        Return the body with the items that its input only names.
        """
        found, previous = self._found, self._found.previous_response_id
        if previous is not None and history.model is None:
            raise _previousNotFound(previous)
        if not isinstance(found.input, tuple):
            return found
        items = resolved(found.input, history.known) if history.known else found.input
        if history.model is not None:
            checkResults(items, history.items)
        return found if items is found.input else replace(found, input=items)

    def _head(
        self, found: ResponsesBody, model: str, tools: list[dict[str, Any]], history: History
    ) -> ResponseHead:
        wish, conversation = found.reasoning, self._conversation
        input = None
        if self._isKept or conversation is not None:
            input = _inputOf(found, self._token, history, conversation)
        return ResponseHead(
            self._token,
            self._createdAt,
            _repeated(found, model, tools, self._isKept, conversation),
            wish is not None and (wish.summary or wish.generate_summary) is not None,
            found.previous_response_id,
            input,
            self._isKept,
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


def _format(found: ResponsesBody) -> Format:
    wanted = None if found.text is None else found.text.format
    if wanted is None or wanted.type == "text":
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
