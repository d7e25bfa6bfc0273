# -*- test-case-name: tests.api.chat.test_tools -*-
"""
The tools of a chat request, in whichever of OpenAI's three shapes they came:
C{tools} with functions or custom tools, and the deprecated C{functions}.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final, cast

from openai_server.api.chat.structs import ChoiceBody, FunctionBody, NameBody, NamedBody, ToolBody
from openai_server.api.inquiry import Tool, ToolChoice, ToolKind
from openai_server.errors import APIError

MAX_TOOLS: Final = 512
#: Characters of a tool's name. OpenAI allows 64; MCP's names are longer.
MAX_NAME: Final = 256


def toolsFromBody(found: Sequence[ToolBody]) -> tuple[Tool, ...]:
    """
    Return the request's C{tools}, checked: names there and each once.

    @raise APIError: 400 with C{param}.
    """
    checkCount(found, "tools")
    return _distinct([_tool(tool, f"tools[{index}]") for index, tool in enumerate(found)])


def functionsFromBody(found: Sequence[FunctionBody]) -> tuple[Tool, ...]:
    """
    Return the deprecated C{functions}, as tools.

    @raise APIError: 400 with C{param}.
    """
    checkCount(found, "functions")
    return _distinct([_function(each, f"functions[{index}]") for index, each in enumerate(found)])


def checkCount(found: Sequence[object], param: str) -> None:
    """
    Check that there are at most L{MAX_TOOLS} of them.

    @raise APIError: 400.
    """
    if len(found) > MAX_TOOLS:
        raise APIError("invalid_value", f"More than {MAX_TOOLS} tools.", param=param)


def _tool(tool: ToolBody, where: str) -> Tool:
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


def _function(function: FunctionBody, where: str) -> Tool:
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


def choiceFromBody(choice: str | ChoiceBody, tools: Sequence[Tool]) -> ToolChoice:
    """
    Return the request's C{tool_choice}, which names only tools that are there.

    @raise APIError: 400 with C{param}.
    """
    if isinstance(choice, str):
        return _plainChoice(choice, "tool_choice", ("none", "auto", "required"))
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


def legacyChoiceFromBody(choice: str | NameBody, tools: Sequence[Tool]) -> ToolChoice:
    """
    Return the deprecated C{function_call} of a request, as a tool choice.

    @raise APIError: 400 with C{param}.
    """
    if isinstance(choice, str):
        return _plainChoice(choice, "function_call", ("none", "auto"))
    return ToolChoice("required", _offered(choice.name, "function", tools, "function_call"))


def _plainChoice(value: str, param: str, known: Sequence[str]) -> ToolChoice:
    if value not in known:
        raise APIError("invalid_value", f"Must be one of {', '.join(known)}, or an object.", param=param)
    return ToolChoice(cast("Any", value))


def _namedTool(named: NamedBody, tools: Sequence[Tool], where: str) -> str:
    if named.type == "function":
        return _offered(_there(named.function, f"{where}.function").name, "function", tools, "tool_choice")
    if named.type == "custom":
        return _offered(_there(named.custom, f"{where}.custom").name, "custom", tools, "tool_choice")
    raise APIError("invalid_value", "Unknown type of tool choice.", param=f"{where}.type")


def _offered(name: str, kind: ToolKind, tools: Sequence[Tool], param: str) -> str:
    if not any(tool.name == name and tool.kind == kind for tool in tools):
        said = f"No {kind} of this name is among the tools: '{name[:MAX_NAME]}'."
        raise APIError("invalid_value", said, param=param)
    return name
