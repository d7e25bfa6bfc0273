# -*- test-case-name: tests.api.test_chat -*-
"""
A chat request: every field of OpenAI's reference has its treatment here. It
is honoured, kept for the worker, accepted and named as ignored, or refused.

Null and absent mean the same everywhere, and unknown fields are ignored
unless the server is strict: every SDK sends explicit nulls, and clients send
extras of other servers all the time.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Mapping
from typing import Annotated, Any, Final, Literal

import msgspec

from openai_server.api.body import converted, objectFromBody
from openai_server.api.messages import Message, messagesFromObject
from openai_server.api.tools import (
    Tool,
    ToolChoice,
    choiceFromObject,
    functionsFromObject,
    legacyChoiceFromObject,
    toolsFromObject,
)
from openai_server.errors import APIError

#: Characters of a model's id.
MAX_MODEL: Final = 256
#: Stop strings of a request, and characters of each.
MAX_STOPS: Final = 32
MAX_STOP: Final = 1000
#: Names that C{ChatRequest.ignored} holds at most.
MAX_IGNORED: Final = 32

#: OpenAI's fields that are accepted without effect.
_WITHOUT_EFFECT: Final = frozenset(
    {
        "audio",
        "logit_bias",
        "moderation",
        "prediction",
        "prompt_cache_options",
        "prompt_cache_retention",
        "safety_identifier",
        "seed",
        "service_tier",
        "store",
        "web_search_options",
    }
)
#: Decoded by hand, because a type does not say what is allowed.
_ABOUT_TOOLS: Final = frozenset({"tools", "tool_choice", "functions", "function_call"})
_BY_HAND: Final = _ABOUT_TOOLS | {"messages"}

_unsafe = re.compile(r"[^A-Za-z0-9_.-]")

_Penalty = Annotated[float, msgspec.Meta(ge=-2, le=2)]
_Tokens = Annotated[int, msgspec.Meta(ge=1, le=2**63 - 1)]
_Short = Annotated[str, msgspec.Meta(max_length=512)]


class JSONSchema(msgspec.Struct, frozen=True):
    """
    The schema that an answer is to follow. C{schema} is as sent.
    """

    name: str
    schema: dict[str, Any] | None = None
    strict: bool | None = None
    description: str | None = None


class ResponseFormat(msgspec.Struct, frozen=True):
    """
    What shape the answer is to have.
    """

    type: Literal["text", "json_object", "json_schema"]
    json_schema: JSONSchema | None = None


class _StreamOptions(msgspec.Struct):
    include_usage: bool | None = None


class _Reasoning(msgspec.Struct):
    effort: str | None = None


class _Fields(msgspec.Struct):
    # What a type can say about a request: names and types as on the wire.
    model: str | None = None
    stream: bool | None = None
    stream_options: _StreamOptions | None = None
    max_completion_tokens: _Tokens | None = None
    max_tokens: _Tokens | None = None
    temperature: Annotated[float, msgspec.Meta(ge=0, le=2)] | None = None
    top_p: Annotated[float, msgspec.Meta(ge=0, le=1)] | None = None
    frequency_penalty: _Penalty | None = None
    presence_penalty: _Penalty | None = None
    stop: str | list[str] | None = None
    n: int | None = None
    logprobs: bool | None = None
    top_logprobs: int | None = None
    seed: Annotated[int, msgspec.Meta(ge=-(2**63), le=2**63 - 1)] | None = None
    response_format: ResponseFormat | None = None
    parallel_tool_calls: bool | None = None
    reasoning_effort: _Short | None = None
    reasoning: _Reasoning | None = None
    verbosity: _Short | None = None
    modalities: list[Literal["text", "audio"]] | None = None
    metadata: dict[str, str] | None = None
    user: str | None = None
    prompt_cache_key: str | None = None
    session_id: str | None = None
    chat_id: str | None = None


_HONOURED: Final = frozenset(_Fields.__struct_fields__) - _WITHOUT_EFFECT | _BY_HAND
#: What other servers' clients add, and is read here where it is of this type;
#: OpenAI does not know it.
_VENDORS: Final[dict[str, Any]] = {"reasoning": _Reasoning, "session_id": str, "chat_id": str}


class ChatRequest(msgspec.Struct, frozen=True, kw_only=True):
    """
    A chat request, checked.

    @ivar model: the id that was asked for, or the default.
    @ivar includeUsage: a usage chunk is wanted on the stream.
    @ivar stop: strings at which the answer is cut; none is empty.
    @ivar tools: what the client answers for, in the request's order; the
        deprecated C{functions} too, and C{isLegacy} says so.
    @ivar tool_choice: the deprecated C{function_call} is in here too.
    @ivar ignored: names of fields that were accepted without effect, fit for
        a header.
    """

    model: str
    messages: tuple[Message, ...]
    stream: bool = False
    includeUsage: bool = False
    max_tokens: int | None = None
    temperature: float | None = None
    top_p: float | None = None
    frequency_penalty: float | None = None
    presence_penalty: float | None = None
    seed: int | None = None
    stop: tuple[str, ...] = ()
    response_format: ResponseFormat | None = None
    reasoning_effort: str | None = None
    verbosity: str | None = None
    tools: tuple[Tool, ...] = ()
    tool_choice: ToolChoice = ToolChoice()
    parallel_tool_calls: bool = True
    isLegacy: bool = False
    user: str | None = None
    metadata: dict[str, str] = {}
    prompt_cache_key: str | None = None
    session_id: str | None = None
    chat_id: str | None = None
    ignored: tuple[str, ...] = ()

    @property
    def wantsJSON(self) -> bool:
        """
        Whether the answer is to be JSON.
        """
        return self.response_format is not None and self.response_format.type != "text"

    @property
    def schema(self) -> dict[str, Any] | None:
        """
        The JSON Schema that the answer is to follow.
        """
        wanted = self.response_format
        if wanted is None or wanted.type != "json_schema" or wanted.json_schema is None:
            return None
        return wanted.json_schema.schema


def parse(body: bytes, *, strict: bool = False, defaultModel: str | None = None) -> ChatRequest:
    """
    A request from its body.

    @param body: as it came; its size is bounded by whoever read it.
    @param strict: refuse fields that OpenAI does not know.
    @param defaultModel: what a request without a model asks for.
    @raise APIError: 400, with C{param} where one field is at fault.
    """
    given = {key: value for key, value in objectFromBody(body).items() if value is not None}
    odd = _oddVendors(given)
    ignored = _ignored(given, odd, strict)
    fields = converted(_without(odd, given), _Fields)
    _refuse(fields)
    tools, choice, isLegacy = _tools(given)
    return ChatRequest(
        model=_model(fields.model or defaultModel),
        messages=messagesFromObject(_required(given, "messages")),
        stream=bool(fields.stream),
        includeUsage=bool(fields.stream_options and fields.stream_options.include_usage),
        max_tokens=fields.max_completion_tokens or fields.max_tokens,
        temperature=fields.temperature,
        top_p=fields.top_p,
        frequency_penalty=fields.frequency_penalty,
        presence_penalty=fields.presence_penalty,
        seed=fields.seed,
        stop=_stops(fields.stop),
        response_format=fields.response_format,
        reasoning_effort=_effort(fields),
        verbosity=fields.verbosity,
        tools=tools,
        tool_choice=choice,
        # One call is all that the deprecated shape has room for.
        parallel_tool_calls=fields.parallel_tool_calls is not False and not isLegacy,
        isLegacy=isLegacy,
        user=fields.user,
        metadata=fields.metadata or {},
        prompt_cache_key=fields.prompt_cache_key,
        session_id=fields.session_id,
        chat_id=fields.chat_id,
        ignored=ignored,
    )


def _oddVendors(given: Mapping[str, Any]) -> Collection[str]:
    # Their fields have no rules that a client could break.
    return [name for name in _VENDORS if name in given and not _fits(given[name], _VENDORS[name])]


def _fits(value: Any, kind: Any) -> bool:
    try:
        msgspec.convert(value, kind)
    except msgspec.ValidationError:
        return False
    return True


def _without(odd: Collection[str], given: Mapping[str, Any]) -> Mapping[str, Any]:
    return {name: value for name, value in given.items() if name not in odd} if odd else given


def _ignored(given: Mapping[str, Any], odd: Collection[str], strict: bool) -> tuple[str, ...]:
    if strict:
        for name in given:
            if name in _VENDORS or name not in _HONOURED | _WITHOUT_EFFECT:
                name = _headerSafe(name)
                raise APIError("unknown_parameter", f"Unknown parameter: '{name}'.", param=name)
    # An empty or false value asks for nothing, so nothing was ignored.
    known = _HONOURED.difference(odd) if odd else _HONOURED
    asked = (name for name, value in given.items() if name not in known and value not in (False, {}, []))
    return tuple(_firstFew(asked))


def _firstFew(names: Iterator[str]) -> Iterator[str]:
    seen: set[str] = set()
    for name in map(_headerSafe, names):
        if name not in seen:
            seen.add(name)
            yield name
        if len(seen) == MAX_IGNORED:
            return


def _headerSafe(name: str) -> str:
    return _unsafe.sub("_", name[:64])


def _required(given: Mapping[str, Any], name: str) -> Any:
    if name not in given:
        raise APIError("missing_required_parameter", f"Missing required parameter: '{name}'.", param=name)
    return given[name]


def _model(model: str | None) -> str:
    if not model:
        raise APIError("missing_required_parameter", "Missing required parameter: 'model'.", param="model")
    if len(model) > MAX_MODEL:
        raise APIError("invalid_value", f"A model id has at most {MAX_MODEL} characters.", param="model")
    return model


def _refuse(fields: _Fields) -> None:
    if fields.n is not None and fields.n != 1:
        name = "unsupported_value" if fields.n > 1 else "invalid_value"
        raise APIError(name, "Only one choice can be made: 'n' must be 1.", param="n")
    if fields.logprobs or fields.top_logprobs:
        param = "logprobs" if fields.logprobs else "top_logprobs"
        raise APIError("unsupported_parameter", "Log probabilities are not available.", param=param)
    if fields.modalities and "audio" in fields.modalities:
        raise APIError("unsupported_value", "Answers are text only.", param="modalities")
    wanted = fields.response_format
    if wanted is not None and wanted.type == "json_schema" and wanted.json_schema is None:
        param = "response_format.json_schema"
        raise APIError("missing_required_parameter", f"Missing required parameter: '{param}'.", param=param)
    _checkMetadata(fields.metadata or {})


def _checkMetadata(metadata: Mapping[str, str]) -> None:
    if len(metadata) > 16:
        raise APIError("invalid_value", "At most 16 pairs of metadata.", param="metadata")
    if any(len(key) > 64 or len(value) > 512 for key, value in metadata.items()):
        said = "Metadata has keys of up to 64 and values of up to 512 characters."
        raise APIError("invalid_value", said, param="metadata")


def _effort(fields: _Fields) -> str | None:
    if fields.reasoning_effort is None and fields.reasoning is not None:
        return fields.reasoning.effort
    return fields.reasoning_effort


def _stops(stop: str | list[str] | None) -> tuple[str, ...]:
    stops = tuple(each for each in ([stop] if isinstance(stop, str) else stop or ()) if each)
    if len(stops) > MAX_STOPS or any(len(each) > MAX_STOP for each in stops):
        said = f"At most {MAX_STOPS} stop strings of up to {MAX_STOP} characters."
        raise APIError("invalid_value", said, param="stop")
    return stops


def _tools(given: Mapping[str, Any]) -> tuple[tuple[Tool, ...], ToolChoice, bool]:
    if given.keys().isdisjoint(_ABOUT_TOOLS):
        return (), ToolChoice(), False
    tools = toolsFromObject(given.get("tools", []))
    if tools or "functions" not in given:
        choice = given.get("tool_choice", "auto")
        return tools, choiceFromObject(choice, tools), False
    tools = functionsFromObject(given["functions"])
    choice = given.get("function_call", "auto")
    return tools, legacyChoiceFromObject(choice, tools), bool(tools)
