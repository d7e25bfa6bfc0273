# -*- test-case-name: tests.api.test_tools -*-
"""
The tools of a chat request, in whichever of OpenAI's three shapes they came:
C{tools} with functions or custom tools, and the deprecated C{functions}.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final, Literal, TypeAlias

import msgspec

from openai_server.api.body import converted
from openai_server.errors import APIError

MAX_TOOLS: Final = 512
#: Characters of a tool's name. OpenAI allows 64; MCP's names are longer.
MAX_NAME: Final = 256

Kind: TypeAlias = Literal["function", "custom"]


class Tool(msgspec.Struct, frozen=True, kw_only=True):
    """
    One tool that the client answers for.

    @ivar parameters: the JSON Schema of a function's arguments, as sent.
    @ivar format: what a custom tool's input must look like, as sent.
    @ivar param: where it stands in the request.
    """

    kind: Kind
    name: str
    description: str = ""
    parameters: dict[str, Any] | None = None
    format: dict[str, Any] | None = None
    param: str = "tools"


class ToolChoice(msgspec.Struct, frozen=True):
    """
    Which tools the model may or must call.

    @ivar name: the one tool that must be called; C{mode} is C{required} then.
    @ivar allowed: the names that may be called, None for all.
    """

    mode: Literal["none", "auto", "required"] = "auto"
    name: str | None = None
    allowed: tuple[str, ...] | None = None


class _Function(msgspec.Struct):
    name: str
    description: str | None = None
    parameters: dict[str, Any] | None = None


class _Custom(msgspec.Struct):
    name: str
    description: str | None = None
    format: dict[str, Any] | None = None


class _Tool(msgspec.Struct):
    type: str
    function: _Function | None = None
    custom: _Custom | None = None


class _Name(msgspec.Struct):
    name: str


class _Named(msgspec.Struct):
    type: str
    function: _Name | None = None
    custom: _Name | None = None


class _Allowed(msgspec.Struct):
    mode: Literal["auto", "required"]
    tools: tuple[_Named, ...]


class _Choice(_Named):
    allowed_tools: _Allowed | None = None


def toolsFromObject(value: Any) -> tuple[Tool, ...]:
    """
    The request's C{tools}, checked: names there and each once.

    @raise APIError: 400 with C{param}.
    """
    found = converted(_bounded(value, "tools"), tuple[_Tool, ...], "tools")
    return _distinct([_tool(tool, f"tools[{index}]") for index, tool in enumerate(found)])


def functionsFromObject(value: Any) -> tuple[Tool, ...]:
    """
    The deprecated C{functions}, as tools.

    @raise APIError: 400 with C{param}.
    """
    found = converted(_bounded(value, "functions"), tuple[_Function, ...], "functions")
    return _distinct([_function(each, f"functions[{index}]") for index, each in enumerate(found)])


def _bounded(value: Any, param: str) -> Any:
    if isinstance(value, list) and len(value) > MAX_TOOLS:
        raise APIError("invalid_value", f"More than {MAX_TOOLS} tools.", param=param)
    return value


def _tool(tool: _Tool, where: str) -> Tool:
    if tool.type == "function":
        return _function(_there(tool.function, f"{where}.function"), f"{where}.function")
    if tool.type == "custom":
        custom = _there(tool.custom, f"{where}.custom")
        return Tool(
            kind="custom",
            name=custom.name,
            description=custom.description or "",
            format=custom.format,
            param=f"{where}.custom",
        )
    raise APIError("invalid_value", "Tools are of type 'function' or 'custom'.", param=f"{where}.type")


def _function(function: _Function, where: str) -> Tool:
    return Tool(
        kind="function",
        name=function.name,
        description=function.description or "",
        parameters=function.parameters,
        param=where,
    )


def _there(value: Any, param: str) -> Any:
    if value is None:
        raise APIError("missing_required_parameter", f"Missing required parameter: '{param}'.", param=param)
    return value


def _distinct(tools: Sequence[Tool]) -> tuple[Tool, ...]:
    seen: set[str] = set()
    for tool in tools:
        if not 1 <= len(tool.name) <= MAX_NAME:
            raise APIError(
                "invalid_value",
                f"A tool's name has 1 to {MAX_NAME} characters.",
                param=f"{tool.param}.name",
            )
        if tool.name in seen:
            raise APIError("invalid_value", "Two tools have this name.", param=f"{tool.param}.name")
        seen.add(tool.name)
    return tuple(tools)


def choiceFromObject(value: Any, tools: Sequence[Tool]) -> ToolChoice:
    """
    The request's C{tool_choice}, which names only tools that are there.

    @raise APIError: 400 with C{param}.
    """
    if isinstance(value, str):
        return _plainChoice(value, "tool_choice", ("none", "auto", "required"))
    choice = converted(value, _Choice, "tool_choice")
    if choice.type == "allowed_tools":
        allowed = _there(choice.allowed_tools, "tool_choice.allowed_tools")
        return ToolChoice(
            allowed.mode,
            None,
            tuple(
                _namedTool(named, tools, f"tool_choice.allowed_tools.tools[{index}]")
                for index, named in enumerate(allowed.tools)
            ),
        )
    return ToolChoice("required", _namedTool(choice, tools, "tool_choice"))


def legacyChoiceFromObject(value: Any, tools: Sequence[Tool]) -> ToolChoice:
    """
    The deprecated C{function_call} of a request, as a tool choice.

    @raise APIError: 400 with C{param}.
    """
    if isinstance(value, str):
        return _plainChoice(value, "function_call", ("none", "auto"))
    name = converted(value, _Name, "function_call").name
    return ToolChoice("required", _offered(name, "function", tools, "function_call.name"))


def _plainChoice(value: str, param: str, known: Sequence[str]) -> ToolChoice:
    if value not in known:
        raise APIError("invalid_value", f"Must be one of {', '.join(known)}, or an object.", param=param)
    return converted({"mode": value}, ToolChoice)


def _namedTool(named: _Named, tools: Sequence[Tool], where: str) -> str:
    if named.type == "function":
        return _offered(
            _there(named.function, f"{where}.function").name, "function", tools, f"{where}.function.name"
        )
    if named.type == "custom":
        return _offered(_there(named.custom, f"{where}.custom").name, "custom", tools, f"{where}.custom.name")
    raise APIError("invalid_value", "Unknown type of tool choice.", param=f"{where}.type")


def _offered(name: str, kind: Kind, tools: Sequence[Tool], param: str) -> str:
    if not any(tool.name == name and tool.kind == kind for tool in tools):
        raise APIError("invalid_value", f"No {kind} of this name is among the tools.", param=param)
    return name
